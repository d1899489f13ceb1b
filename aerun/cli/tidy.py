"""``aerun-tidy SWEEP_OR_RUN...``: free the disk of what runs leave; shows first what it would do."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from aerun.base.arguments import Parser
from aerun.base.files import format_size
from aerun.cli.command import run_command
from aerun.errors import ConfigError
from aerun.sweep.archive_folder import archive_folder, check_archive
from aerun.sweep.tidy import DELETABLE, Plan, Step, carry_out, check_states, make_plan

DONE, NOT_ALL = 0, 1  # exit codes
MAX_LISTED = 20  # runs
EXAMPLES = """\
  %(prog)s outputs/grid                            what it would free: checkpoints that only serve to resume
  %(prog)s outputs/grid --apply                    free it
  %(prog)s outputs/grid --keep last --apply        finished runs can still be made longer
  %(prog)s outputs/grid --delete failed,diverged   delete such runs
  %(prog)s outputs/grid --archive grid.zip --apply move it into a file that aerun-compare and aerun.load read"""


def build_parser() -> Parser:
    """All options."""
    parser = Parser(
        "Free the disk of what runs leave. Without --apply nothing is changed. Runs in progress are never touched.",
        EXAMPLES,
    )
    add = parser.add_argument
    add("paths", nargs="+", type=Path, metavar="SWEEP_OR_RUN", help="folders of sweeps or runs, or of several of them")
    add("--apply", action="store_true", help="do it")
    add(
        "--keep",
        choices=("weights", "last"),
        help="checkpoints that finished runs keep: only the trained weights (default, without --delete and "
        "--archive), or also the one that makes them longer",
    )
    add(
        "--delete",
        action="append",
        default=[],
        metavar="STATE,…",
        help=f"delete runs in these states: {', '.join(DELETABLE)} (by a later run of the same configuration)",
    )
    add("--archive", type=Path, metavar="FILE", help="move one sweep or run into a ZIP file, and remove its folder")
    return parser


def main() -> int:
    """The console command."""
    return run_command(build_parser, execute)


def execute(arguments: argparse.Namespace) -> int:
    """Plan, print, and with ``--apply`` carry out the plan. 1 if something could not be removed."""
    delete = check_states(name.strip() for word in arguments.delete for name in word.split(",") if name.strip())
    keep = arguments.keep or (None if delete or arguments.archive else "weights")
    if arguments.archive is not None:
        if len(arguments.paths) != 1:
            raise ConfigError(f"--archive {arguments.archive}: takes one sweep or run, not {len(arguments.paths)}")
        check_archive(arguments.paths[0], arguments.archive)
    plan = make_plan(arguments.paths, keep, delete)
    print("\n".join(format_plan(plan, keep, arguments)))
    if not arguments.apply:
        return DONE
    failed = _free(plan, keep)
    if arguments.archive is not None:
        size = archive_folder(arguments.paths[0], arguments.archive)
        print(f"archived    {arguments.archive}: {format_size(size)}; aerun-compare {arguments.archive} reads it")
    return NOT_ALL if failed else DONE


def _free(plan: Plan, keep: str | None) -> list[tuple[Step, str]]:
    """Carry out the plan and print how that went; return what could not be done, with the reasons."""
    failed: list[tuple[Step, str]] = []
    freed = 0
    for step, reason in carry_out(plan, keep):
        if reason is None:
            freed += step.size
        else:
            failed.append((step, reason))
    for step, reason in failed:
        print(f"kept        {step.folder}: {reason.removeprefix(f'{step.folder}: ')}")
    if plan.prune or plan.delete:
        print(f"freed       {format_size(freed)}")
    return failed


def format_plan(plan: Plan, keep: str | None, arguments: argparse.Namespace) -> list[str]:
    """What there is, and what would be removed."""
    runs, states = len(plan.states), Counter(plan.states.values())
    counts = ", ".join(f"{count:,} {state}" for state, count in states.most_common())
    lines = [f"{runs:,} run{'s' * (runs != 1)} ({counts}): {format_size(plan.size)} in {plan.count:,} files"]
    if plan.prune:
        after = "can no longer be continued" if keep == "weights" else "have no checkpoint before the last"
        lines.append(f"checkpoints {_amount(plan.prune)} of {_count(plan.prune)}, which then {after}")
    if plan.delete:
        lines.append(f"delete      {_amount(plan.delete)} of {_count(plan.delete)}:")
        lines += [f"  {step.state:<11} {step.folder}" for step in plan.delete[:MAX_LISTED]]
        lines += [f"  and {len(plan.delete) - MAX_LISTED:,} more"] if len(plan.delete) > MAX_LISTED else []
    lines += [f"kept        {folder}: {reason}" for folder, reason in plan.kept]
    freed = sum(step.size for step in (*plan.prune, *plan.delete))
    if arguments.archive is not None:
        rest = format_size(plan.size - freed)
        lines.append(f"archive     {rest} into {arguments.archive}, in place of {arguments.paths[0]}")
    elif not freed:
        return [*lines, "nothing to free"]
    if not arguments.apply:
        lines.append((f"would free  {format_size(freed)}; " if freed else "") + "--apply does it")
    return lines


def _amount(steps: Sequence[Step]) -> str:
    return f"{format_size(sum(step.size for step in steps))} in {sum(step.count for step in steps):,} files"


def _count(steps: Sequence[Step]) -> str:
    return f"{len(steps):,} run{'s' * (len(steps) != 1)}"
