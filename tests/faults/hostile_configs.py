"""Folders of configurations that an attacker made: an option that is chosen runs no code, and a variable of the
environment comes into no file.

Every option of every group of aerun's and of Hydra's, chosen by itself, by an experiment, and in a sweep.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from aerun.base.conf import conf_dir
from aerun.config.settings import GROUPS, SEVERAL
from tests.faults.forked import Findings, changes, console, found_canaries, import_commands, run_forked, tree, wrong_end
from tests.faults.hostile_folders import calls

VARIABLE, SECRET = "AERUN_FAULTS_SECRET", "s3cr3t-7b1f"
INTERPOLATIONS = {
    "variable": f"${{oc.env:{VARIABLE}}}",
    "default": f"${{oc.env:{VARIABLE},other}}",
    "decoded": f"${{oc.decode:${{oc.env:{VARIABLE}}}}}",
    "in a text": f"a ${{oc.env:{VARIABLE}}} b",
    "by another resolver": f"${{oc.select:nothing,${{oc.env:{VARIABLE}}}}}",
    "as a time": f"${{now:${{oc.env:{VARIABLE}}}}}",
    "as a folder": f"${{run_folder:null,${{oc.env:{VARIABLE}}}}}",
    "by the name of a variable": f"${{oc.env:${{oc.env:{VARIABLE}_NAME}}}}",
    "by Hydra": f"${{hydra:job.env_set.{VARIABLE}}}",
    "of a created node": f"${{oc.create:{{a: ${{oc.env:{VARIABLE}}}}}}}",
}
# An option of each group with a key that takes a text, or any value.
KEYS = {
    "dataset": ("fashion_mnist_mini", "normalize"),
    "noise": ("gaussian", "variance"),
    "model": ("fc", "activation"),
    "latent": ("gaussian", "beta"),
    "sparsity": ("topk", "k"),
    "regularizer": ("contractive", "weight"),
    "schedule": ("linear", "epochs"),
    "loss": ("mse", "reduction"),
    "optimizer": ("adam", "lr"),
    "scheduler": ("cosine", "warmup_epochs"),
    "trainer": ("joint", "precision"),
    "callback": ("ema", "decay"),
    "protocol": ("knn", "metric"),
    "tracker": ("tensorboard", "histograms"),
}
# Hydra's groups, with a key of each.
HYDRA_GROUPS = {
    "launcher": "n_jobs",
    "sweeper": "params",
    "job_logging": "version",
    "hydra_logging": "version",
    "callbacks": "evil",
    "help": "template",
    "hydra_help": "template",
    "env": "evil",
    "output": "evil",
}
WORDS = (
    *("dataset.train_limit=64", "dataset.validation=20", "model=fc", "trainer.epochs=1", "trainer.batch_size=16"),
    *("trainer.device=cpu", "trainer.threads=1", "trainer.pictures=0"),
)
SWEEP = ("-m", "seed=3", "hydra/launcher=basic", "sweep.name=swept")


@dataclass(frozen=True)
class Attack:
    """Files of a folder of configurations, and the words that choose one of them."""

    label: str
    files: dict[str, str]
    words: tuple[str, ...]


def logged(canary: Path) -> dict[str, Any]:
    """A configuration of logging that calls a function."""
    handler = {"()": "os.system", "command": f"touch {canary}"}
    return {"version": 1, "handlers": {"evil": handler}, "root": {"handlers": ["evil"]}}


def attacks(canary: Path, outside: Path) -> Iterator[Attack]:
    called: dict[str, Any] = calls(canary)
    for group in (*GROUPS, *SEVERAL):
        for target, node in called.items():
            yield from _chosen(group, f"{group} is {target}", node)
        option, key = KEYS[group]
        content = yaml.safe_load((conf_dir() / group / f"{option}.yaml").read_text())
        for kind, text in INTERPOLATIONS.items():
            yield from _chosen(group, f"{group}.{key}: {kind}", {**content, key: text})
        yield from _chosen(group, f"{group}._target_: variable", {**content, "_target_": INTERPOLATIONS["variable"]})
    for group, key in HYDRA_GROUPS.items():
        for target, node in list(called.items())[:3]:
            yield from _chosen(f"hydra/{group}", f"hydra/{group} is {target}", node)
            yield from _chosen(f"hydra/{group}", f"hydra/{group}.evil is {target}", {"evil": node})
        yield from _chosen(f"hydra/{group}", f"hydra/{group} is a configuration of logging", logged(canary))
        for kind, text in INTERPOLATIONS.items():
            yield from _chosen(f"hydra/{group}", f"hydra/{group}.{key}: {kind}", {key: text})
    yield from _experiments(canary, outside)


def _chosen(group: str, label: str, content: Any) -> Iterator[Attack]:
    """An option that is chosen by itself, in a sweep, and by an experiment that also trusts what it names."""
    head = f"# @package {group}.evil\n" if group in SEVERAL else ""
    files = {f"{group}/evil": head + yaml.safe_dump(content)}
    yield Attack(f"{label}, chosen", files, (f"{group}=evil",))
    yield Attack(f"{label}, in a sweep", files, (f"{group}=evil", *SWEEP))
    if "/" not in group:
        yield Attack(f"{label}, swept", files, (f"{group}=evil,{KEYS[group][0]}", *SWEEP))
    trusting = {
        "defaults": [{f"override /{group}": "evil"}],
        "trusted_packages": ["os", "subprocess", "builtins", "aerun"],
    }
    files = {**files, "experiment/evil": _global(trusting)}
    yield Attack(f"{label}, by an experiment", files, ("experiment=evil",))
    yield Attack(f"{label}, by an experiment in a sweep", files, ("experiment=evil", *SWEEP))


def _global(content: dict[str, Any]) -> str:
    return "# @package _global_\n" + yaml.safe_dump(content)


def _experiments(canary: Path, outside: Path) -> Iterator[Attack]:
    """Experiments that set keys of Hydra and of the run as a whole."""
    node = calls(canary)["subprocess.Popen"]
    nodes: dict[str, Any] = {
        "callbacks": {"evil": node},
        "launcher": node,
        "sweeper": node,
        "job_logging": logged(canary),
        "hydra_logging": logged(canary),
        "job.env_set": {"LD_PRELOAD": "evil.so", "PYTHONSTARTUP": "evil.py"},
        "job.env_copy": [VARIABLE],
        "launcher.setup": [f"touch {canary}"],
        "sweeper.params": {"trusted_packages": "[subprocess]", "loss._target_": "subprocess.Popen"},
        "searchpath": [f"file://{outside}", "pkg://os"],
        "output_subdir": ".hydra",
        "job.chdir": True,
        "mode": "MULTIRUN",
        "verbose": True,
        "overrides.task": ["trusted_packages=[subprocess]"],
        "job.name": f"${{oc.env:{VARIABLE}}}",
        "run.dir": f"out/${{oc.env:{VARIABLE}}}",
        "sweep.dir": f"out/${{oc.env:{VARIABLE}}}",
        "sweep.subdir": f"${{oc.env:{VARIABLE}}}",
        "help.template": f"${{oc.env:{VARIABLE}}}",
    }
    for key, value in nodes.items():
        content = value
        for name in reversed(("hydra", *key.split("."))):
            content = {name: content}
        files = {"experiment/evil": _global(content)}
        yield Attack(f"experiment: hydra.{key}", files, ("experiment=evil",))
        yield Attack(f"experiment: hydra.{key} in a sweep", files, ("experiment=evil", *SWEEP))
        yield Attack(
            f"experiment: hydra.{key}, Hydra's sweeper", files, ("experiment=evil", *SWEEP[:2], "hydra/sweeper=basic")
        )
        yield Attack(f"experiment: hydra.{key}, shown", files, ("experiment=evil", "--cfg", "all"))
        yield Attack(f"experiment: hydra.{key}, help", files, ("experiment=evil", "--help"))
    for key in ("init_from", "resume", "seed", "evil", "freeze", "sweep.name", "trainer.epochs"):
        for kind, text in INTERPOLATIONS.items():
            content = text
            for name in reversed(key.split(".")):
                content = {name: content}
            files = {"experiment/evil": _global(content)}
            yield Attack(f"experiment: {key}: {kind}", files, ("experiment=evil",))
            yield Attack(f"experiment: {key}: {kind} in a sweep", files, ("experiment=evil", *SWEEP))


def with_secret(folder: Path) -> list[str]:
    """The files below a folder that have the secret in them or in their names."""
    found = []
    for place, folders, files in os.walk(folder):
        found += [f"the secret names {name}" for name in (*folders, *files) if SECRET in name]
        for path in (Path(place, name) for name in files):
            if not path.is_symlink() and path.is_file() and SECRET.encode() in path.read_bytes():
                found.append(f"the secret is in {path.relative_to(folder)}")
    return found


def campaign(folder: Path, share: float = 1.0, seed: int = 0, only: str = "") -> Findings:
    """Train with every attack, or with a random share of them. ``only``: in the attack's label."""
    place, canaries, outside = folder / "place", folder / "canaries", folder / "outside"
    for path in (canaries, outside / "loss"):
        path.mkdir(parents=True)
    (outside / "loss" / "elsewhere.yaml").write_text(yaml.safe_dump(calls(canaries / "called")["subprocess.Popen"]))
    import_commands()
    draw, found = random.Random(seed), Findings()
    environment = {VARIABLE: SECRET, f"{VARIABLE}_NAME": VARIABLE, "AERUN_DATA": str(folder / "cache")}
    mine = [place, canaries, folder / "cache"]
    for attack in attacks(canaries / "called", outside):
        if only not in attack.label or draw.random() >= share:
            continue
        found.attacks += 1
        shutil.rmtree(place, ignore_errors=True)
        for name, content in attack.files.items():
            path = place / "evil" / f"{name}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        typed = {word.partition("=")[0] for word in attack.words}
        words = [word for word in WORDS if word.partition("=")[0].partition(".")[0] not in typed]
        before = tree(folder, mine)
        ended = run_forked(console("train", "--config-dir", "evil", *words, *attack.words), place, **environment)
        changed = [f"changed {path.removeprefix(str(folder))}" for path in changes(before, tree(folder, mine))]
        leaked = with_secret(place)
        found.add(ended, attack.label, [*changed, *leaked, *found_canaries(canaries), *wrong_end(ended)])
    time.sleep(1)
    found.wrong += found_canaries(canaries)
    return found
