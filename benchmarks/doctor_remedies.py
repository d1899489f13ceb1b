"""Whether the doctor's remedies help: docs/doctor.md, section "Whether the remedies help".

    python benchmarks/doctor_remedies.py [--outputs FOLDER] [--trained]

Takes the sick runs of ``benchmarks/doctor.py`` (of the seed by which no threshold was chosen, trained if they are
missing), adds the overrides of the first verdict's remedy to each, trains and examines again, and repeats that with the
next verdict until the run is healthy, at most ROUNDS times. Exit code 1 if fewer than GOAL of the runs are healthy or
have another verdict after the first round, or if any remedy was given again after it had no effect.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from aerun.config.compose import compose_words  # noqa: E402
from aerun.config.identity import identity  # noqa: E402
from aerun.doctor.remedies import overrides_of  # noqa: E402
from aerun.runs.diagnose import Diagnosis, diagnose  # noqa: E402
from aerun.runs.folder import read_config, read_status  # noqa: E402
from benchmarks.doctor import HELD_OUT, PAGE, overrides, train  # noqa: E402
from benchmarks.doctor_runs import SICK, Case  # noqa: E402
from benchmarks.machine import processor  # noqa: E402
from benchmarks.page import write_section  # noqa: E402

ROUNDS, GOAL = 3, 0.9
SAME_FIT = 0.01  # a smaller change of the explained variance is no effect


@dataclass
class Course:
    """A sick run, what was tried, and the diagnoses: one more than remedies that were tried."""

    case: Case
    diagnoses: list[Diagnosis | None] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)

    @property
    def next_words(self) -> tuple[str, ...]:
        """The overrides to try next; none for a healthy run, and where the remedy is plain text."""
        last = self.diagnoses[-1]
        return overrides_of(last.verdicts[0].remedy) if last is not None and last.verdicts else ()

    @property
    def has_helped(self) -> bool:
        """Whether the first remedy made the run healthy, or revealed another cause."""
        first, *later = self.diagnoses
        return bool(later) and later[0] is not None and verdict_of(later[0]) != verdict_of(first)

    @property
    def is_repeated(self) -> bool:
        """Whether a remedy that had no effect was given again."""
        pairs = zip(self.diagnoses, self.diagnoses[1:], strict=False)
        return any(
            verdict_of(before) == verdict_of(after) != "healthy"
            and before.verdicts[0].remedy == after.verdicts[0].remedy
            and abs(explained(after) - explained(before)) < SAME_FIT
            for before, after in pairs
            if before is not None and after is not None
        )


def verdict_of(diagnosis: Diagnosis | None) -> str:
    """The first verdict."""
    return "no run" if diagnosis is None else diagnosis.verdicts[0].name if diagnosis.verdicts else "healthy"


def explained(diagnosis: Diagnosis) -> float:
    """The share of the variance that is explained; 0 if it is unknown."""
    return diagnosis.examination.fit.explained if diagnosis.examination.fit is not None else 0.0


def examined(folder: Path, case: Case) -> Diagnosis | None:
    """The diagnosis of the run with the case's configuration; None if there is none. Different words may mean the same
    configuration, which a sweep trains once."""
    wanted = identity(compose_words([*overrides(case), f"seed={HELD_OUT}"])[0])
    for run in sorted(path.parent for path in folder.glob("*/config.yaml")):
        ended = (read_status(run) or {}).get("state") in ("finished", "diverged")
        if ended and identity(read_config(run)) == wanted:
            return diagnose(run, trusted_packages=["benchmarks"])
    return None


def treated(words: list[str], remedy: tuple[str, ...]) -> list[str]:
    """The words with those of the remedy, which replace words for the same keys."""
    keys = {word.partition("=")[0] for word in remedy}
    return [*(word for word in words if word.partition("=")[0] not in keys), *remedy]


def main() -> None:
    """Train, examine, treat, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outputs", type=Path, default=ROOT / "outputs", help="where the run folders go")
    parser.add_argument("--trained", action="store_true", help="train nothing: the page of what is there")
    arguments = parser.parse_args()
    courses = [Course(case) for case in SICK]
    words = {case.name: overrides(case) for case in SICK}
    for number in range(ROUNDS + 1):
        name = "doctor_sick" if number == 0 else f"doctor_treated_{number}"
        pending = [course for course in courses if not number or course.next_words]
        for course in pending if number else ():
            course.tried.append(" ".join(course.next_words))
            words[course.case.name] = treated(words[course.case.name], course.next_words)
        cases = [course.case._replace(overrides=words[course.case.name]) for course in pending]
        if cases and not arguments.trained:
            train(name, cases, arguments.outputs, seeds=(HELD_OUT,))
        for course, case in zip(pending, cases, strict=True):
            course.diagnoses.append(examined(arguments.outputs / name, case))
    write_section("remedies", section(courses), PAGE)
    helped, repeated = sum(course.has_helped for course in courses), [c.case.name for c in courses if c.is_repeated]
    print(f"{PAGE}: the first remedy helps {helped} of {len(courses)}; without effect again: {repeated or 'none'}")
    sys.exit(helped < GOAL * len(courses) or bool(repeated))


def section(courses: list[Course]) -> str:
    """The counts and the table."""
    count = len(courses)
    first = [verdict_of(course.diagnoses[1]) for course in courses if len(course.diagnoses) > 1]
    last = [verdict_of(course.diagnoses[-1]) for course in courses]
    helped = sum(course.has_helped for course in courses)
    replaced = sum("_target_=aerun." in tried for course in courses for tried in course.tried[:1])
    text = [
        f"Written by `python benchmarks/doctor_remedies.py`: the {count} sick runs of seed {HELD_OUT}, {processor()}. "
        f"Each trains again with the remedy of its first verdict, then with that of the next, at most {ROUNDS} times.",
        "",
        f"- After the first remedy, {first.count('healthy')} of {count} runs are healthy, and {helped} are healthy or "
        "have another verdict.",
        f"- After the last one, {last.count('healthy')} are healthy.",
        f"- Given again after it had no effect: {sum(course.is_repeated for course in courses)} remedies.",
        f"- Of {replaced} runs the first remedy is aerun's class in place of the user's, which is where the fault was.",
        "- The remedies were written with seed 0 of these runs at hand; on other data they were not tried.",
        "",
        "| run | verdict, and what was tried |",
        "|---|---|",
    ]
    return "\n".join(text + [row(course) for course in courses])


def row(course: Course) -> str:
    """One run: verdicts, each with the share of the variance that is explained, and overrides in turn."""
    steps = []
    for number, diagnosis in enumerate(course.diagnoses):
        fit = "" if diagnosis is None or diagnosis.examination.fit is None else f" ({explained(diagnosis):.2f})"
        tried = f" → `{course.tried[number]}` → " if number < len(course.tried) else ""
        steps.append(f"{verdict_of(diagnosis)}{fit}{tried}")
    return f"| {course.case.name} | {''.join(steps)} |"


if __name__ == "__main__":
    main()
