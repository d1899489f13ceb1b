"""What is found to be wrong, in one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["sick", "weak"]


@dataclass(frozen=True)
class Verdict:
    """One finding. ``sick``: the model is of no use as it is; ``weak``: it works, and less well than it could.

    ``remedy``: an override to try, or words where no key helps. ``explains``: names of findings that follow from this
    one; those that were found as well are told as its ``consequences``, not by themselves.
    """

    name: str
    severity: Severity
    evidence: str
    remedy: str
    explains: frozenset[str] = frozenset()
    consequences: tuple[str, ...] = ()

    def __str__(self) -> str:
        after = f"; hence {', '.join(self.consequences)}" if self.consequences else ""
        return f"{self.name}: {self.evidence}{after}; try {self.remedy}"
