#!/usr/bin/env bash
# A real Slurm on this Debian machine (12 or later), to try the slurm launcher and runs on several nodes on:
#
#   sudo scripts/slurm_here.sh start [NODES] | stop | status
#
# Several nodes are as many slurmd, each with a host name of its own, and all with all of this machine's cores.
# Needs root, but neither systemd nor cgroups that can be written to. There is no accounting database: sacct fails, and
# how a job ended is known to squeue -t all and to scontrol for MinJobAge only. Slurm runs as root and listens on
# 127.0.0.1 alone: for tests, not for a machine of many users.
set -euo pipefail

export SLURM_CONF=/etc/slurm/slurm.conf
marker="# written by slurm_here.sh; without this line it will not be touched"
run=/run/slurm_here         # pid files: stop ends what start began and nothing else
state=/var/lib/slurm_here   # jobs and their numbers survive a stop
log=/var/log/slurm_here

say() { echo "slurm_here: $*"; }
die() { say "$@" >&2; exit 1; }

# The daemons, by their pid files: slurmd is there once for each node.
nodes() { find "$run" -name 'slurmd.*.pid' -printf '%f\n' 2>/dev/null | sort | sed 's/\.pid$//'; }

# The process that a pid file names, if it is that program still: a file may outlive its process.
pid_of() { # slurmctld, slurmd.NODE or munged
    local pid && pid=$(cat "$run/$1.pid") && grep -qa "${1%%.*}" "/proc/$pid/cmdline" && echo "$pid"
} 2>/dev/null
wait_for() { # SECONDS COMMAND...
    local end=$((SECONDS + $1))
    until "${@:2}" >/dev/null 2>&1; do
        sleep 0.2
        [ "$SECONDS" -lt "$end" ] || return 1
    done
}

munge_works() { munge -n | unmunge; }
no_jobs() { local jobs && jobs=$(squeue -h) && [ -z "$jobs" ]; }
nodes_are_up() {
    local states && states=$(sinfo -h -N -o %T) && [ -n "$states" ] &&
        ! grep -Evqx 'idle|mixed|allocated|completing' <<<"$states"
}
running() { pid_of "$1" >/dev/null; }
gone() { ! running "$1"; }
all_run() {
    local each && running slurmctld && [ -n "$(nodes)" ] && for each in $(nodes); do running "$each" || return 1; done
}

install_packages() {
    type slurmctld slurmd srun munged >/dev/null 2>&1 && return
    command -v apt-get >/dev/null || die "Slurm and munge are not installed, and there is no apt-get"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
        -o DPkg::Lock::Timeout=300 slurm-wlm slurm-client munge; } >"$log/apt.log" 2>&1 ||
        die "apt-get failed, see $log/apt.log"
}

write_configuration() { # NODE...
    local node name memory each port=16818 # node: NodeName=vm CPUs=2 ... RealMemory=24105
    node=$(slurmd -C | grep -o '^NodeName=.*RealMemory=[0-9]*') || die "slurmd -C does not describe this machine"
    name=${node#NodeName=} name=${name%% *} memory=${node##*RealMemory=}
    node=${node#NodeName=* } node=${node%RealMemory=*}
    # A node with less memory than promised is drained, so promise a little less than there is. linuxproc finds a job's
    # processes by their parents, without cgroups; task/affinity binds a job to its cores by sched_setaffinity.
    # cred_expire is also how long a requeued job waits (120 s by default); KillWait lies between SIGTERM and SIGKILL.
    cat >"$SLURM_CONF" <<END
$marker
ClusterName=here
SlurmctldHost=$name(127.0.0.1)
$(for each in "$@"; do
    echo "NodeName=$each ${node}NodeAddr=127.0.0.1 Port=$((port++)) RealMemory=$((memory * 95 / 100 / $#)) State=UNKNOWN"
done)
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=60 State=UP
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthInfo=cred_expire=10
SlurmUser=root
SlurmctldPidFile=$run/slurmctld.pid
SlurmdPidFile=$run/slurmd.%n.pid
StateSaveLocation=$state/slurmctld
SlurmdSpoolDir=$state/slurmd.%n
SlurmctldLogFile=$log/slurmctld.log
SlurmdLogFile=$log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
JobAcctGatherType=jobacct_gather/linux
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1024
ReturnToService=2
KillWait=10
MinJobAge=${SLURM_HERE_MIN_JOB_AGE:-60}
END
}

start() { # [NODES]
    local each count=${1:-1} names=() # vm, or vm-1 vm-2 ...
    for each in $(seq "$count"); do names+=("$(hostname -s)$([ "$count" = 1 ] || echo "-$each")"); done
    [ ! -e "$SLURM_CONF" ] || grep -qxF "$marker" "$SLURM_CONF" || die "$SLURM_CONF is not by this script: move it away"
    mkdir -p "$run" "$log" "$state/slurmctld"
    install_packages
    if ! munge_works >/dev/null 2>&1; then # systemd may have started it
        install -d -o munge -g munge /run/munge /var/log/munge /var/lib/munge
        runuser -u munge -- munged || die "munged does not start, see /var/log/munge"
        cp /run/munge/munged.pid "$run"
        wait_for 10 munge_works || die "munged runs, but munge -n | unmunge fails"
    fi
    if all_run; then
        [ "$(nodes | wc -l)" = "${1:-$(nodes | wc -l)}" ] || die "$(nodes | wc -l) nodes run; stop them first"
    else
        stop_daemons
        start_daemons "${names[@]}"
    fi
    wait_for 30 nodes_are_up || die "a node is not up: $(sinfo -h -o '%T %E'), see $log"
    # One more job behind jobs that fill the node would only wait.
    if no_jobs; then timeout 30 srun -Q -n1 -t1 hostname >/dev/null || die "srun -n1 hostname fails, see $log"; fi
    status
}

start_daemons() { # NODE...
    local each
    write_configuration "$@"
    slurmctld || die "slurmctld does not start, see $log/slurmctld.log"
    wait_for 20 scontrol ping || die "slurmctld does not answer, see $log/slurmctld.log"
    { cat /etc/hosts && echo "127.0.0.1 $*"; } >"$run/hosts" # a slurmd listens at the address of its host's name
    for each in "$@"; do
        mkdir -p "$state/slurmd.$each"
        unshare --uts --mount sh -c 'hostname "$0" && mount --bind "$1" /etc/hosts && exec slurmd -N "$0"' \
            "$each" "$run/hosts" || die "slurmd does not start, see $log"
    done
}

stop() {
    if running slurmctld; then # or its jobs would outlive it
        squeue -h -r -o %i | xargs -r scancel || true
        wait_for 30 no_jobs || die "some jobs do not end: squeue"
    fi
    stop_daemons
    if kill "$(pid_of munged)" 2>/dev/null; then wait_for 20 gone munged || die "munged does not end"; fi
    say "stopped"
}

stop_daemons() {
    local daemon
    for daemon in $(nodes) slurmctld; do
        if kill "$(pid_of "$daemon")" 2>/dev/null; then wait_for 20 gone "$daemon" || die "$daemon does not end"; fi
        rm -f "$run/$daemon.pid"
    done
}

status() {
    all_run || die "not running"
    wait_for 5 nodes_are_up || die "a node is not up: $(sinfo -h -o '%T %E' 2>&1)"
    say "running: $(sinfo -h -N -o 'node %N, %T, %c cores, %m MB'), $(squeue -h -r | wc -l) jobs"
}

[ "$(id -u)" = 0 ] || die "needs root"
[[ "$*" =~ ^(start( [1-9])?|stop|status)$ ]] || die "usage: $0 start [NODES] | stop | status"
"$@"
