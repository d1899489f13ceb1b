"""``aerun-tidy SWEEP_OR_RUN...``: free the disk of what runs leave; shows first what it would do."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aerun.base.arguments import Parser
from aerun.base.files import format_size
from aerun.cli.command import run_command
from aerun.errors import ConfigError
from aerun.sweep.archive_folder import archive_folder, check_archive
from aerun.sweep.tidy import DELETABLE, Plan, Step, carry_out, check_states, make_plan

DONE, NOT_ALL = 0, 1  # exit codes
Outcome = tuple[Step, str | None]  # what was removed; or the reason why it was not
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
    add("--json", action="store_true", help="print everything as JSON")
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
    if not arguments.json:
        print("\n".join(format_plan(plan, keep, arguments)))
    done = list(carry_out(plan, keep)) if arguments.apply else []
    if not arguments.json:
        print_done(done)
    size = None
    if arguments.apply and arguments.archive is not None:
        size = archive_folder(arguments.paths[0], arguments.archive)
    if arguments.json:
        print(json.dumps(as_json(plan, done, arguments, size), indent=2))
    elif size is not None:
        print(f"archived    {arguments.archive}: {format_size(size)}; aerun-compare {arguments.archive} reads it")
    return NOT_ALL if any(reason is not None for _, reason in done) else DONE


def print_done(done: Sequence[Outcome]) -> None:
    """Print what could not be removed, and what was freed."""
    for step, reason in done:
        if reason is not None:
            print(f"kept        {step.folder}: {reason.removeprefix(f'{step.folder}: ')}")
    if done:
        print(f"freed       {format_size(sum(step.size for step, reason in done if reason is None))}")


def as_json(plan: Plan, done: Sequence[Outcome], arguments: argparse.Namespace, size: int | None) -> dict[str, Any]:
    """Plain values. ``kept`` are runs that are not touched, before or after trying, each with the reason."""

    def steps(chosen: Sequence[Step]) -> list[dict[str, Any]]:
        return [
            {"folder": str(step.folder), "state": step.state, "files": step.count, "bytes": step.size}
            for step in chosen
        ]

    kept = [*plan.kept, *((step.folder, reason) for step, reason in done if reason is not None)]
    return {
        "runs": len(plan.states),
        "states": dict(Counter(plan.states.values())),
        "files": plan.count,
        "bytes": plan.size,
        "checkpoints": steps(plan.prune),
        "delete": steps(plan.delete),
        "kept": [{"folder": str(folder), "reason": reason} for folder, reason in kept],
        "applied": arguments.apply,
        "freed_bytes": sum(step.size for step, reason in done if reason is None),
        "archive": None if arguments.archive is None else {"file": str(arguments.archive), "bytes": size},
    }


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
