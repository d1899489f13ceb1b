"""What is worth a message about pictures: undecodable, nearly black and blank ones."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

MAX_NAMED_FILES = 20  # undecodable pictures listed by name
MAX_NAMED_BLANK = 5  # blank images listed by name
WHITE_16_BITS = 65535
DARK_SHARE = 1 / 4  # 16-bit pictures whose brightest value is below this share of white are reported
log = logging.getLogger(__name__)


@dataclass
class PictureNotes:
    """What was noticed while pictures were decoded, by their index.

    ``bad``: reasons why pictures could not be decoded; ``blank``: pictures whose pixels all have one color; ``deep``:
    the brightest value of each gray picture of more than 8 bits, where white is 65535.
    """

    bad: dict[int, str] = field(default_factory=dict)
    blank: list[int] = field(default_factory=list)
    deep: dict[int, int] = field(default_factory=dict)

    def as_metadata(self) -> dict[str, Any]:
        """Plain values for a JSON file; ``from_metadata`` reads them."""
        return {name: list(value.items()) if isinstance(value, dict) else value for name, value in asdict(self).items()}

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any]) -> PictureNotes:
        """The notes of ``as_metadata``."""
        return cls(dict(metadata["bad"]), list(metadata["blank"]), dict(metadata["deep"]))

    def named_failures(self) -> list[tuple[int, str]]:
        """At most 20 of the bad pictures with their reasons, chosen so that no reason uses up the list."""
        seen, rank = Counter[str](), dict[int, int]()
        for index, reason in self.bad.items():
            kind = re.sub(r"\d", "", reason)
            rank[index] = seen[kind] = seen[kind] + 1
        chosen = sorted(self.bad, key=lambda index: rank[index])[:MAX_NAMED_FILES]
        return [(index, self.bad[index]) for index in sorted(chosen)]

    def warn_if_dark(self, paths: list[Path]) -> None:
        """Warn if all 16-bit pictures are nearly black, as those of a 12-bit camera are."""
        if not self.deep:
            return
        index = max(self.deep, key=lambda index: self.deep[index])
        brightest = self.deep[index]
        if brightest < DARK_SHARE * WHITE_16_BITS:
            log.warning(
                "%s: %s gray pictures have more than 8 bits, and the brightest value is %s of %s, so they are nearly "
                "black; dataset.white_value=%d makes that value white",
                *(paths[index], f"{len(self.deep):,}", f"{brightest:,}", f"{WHITE_16_BITS:,}", _full_scale(brightest)),
            )


def _full_scale(value: int) -> int:
    """The largest value of the fewest bits that hold ``value``: 4095 for 3000."""
    return (1 << max(1, value.bit_length())) - 1


def is_blank(images: np.ndarray) -> np.ndarray:
    """images[N,C,H,W] -> bool [N]: whether all pixels of an image have one color."""
    found: np.ndarray = (images == images[:, :, :1, :1]).all((1, 2, 3))
    return found


def warn_if_blank(names: Sequence[str], total: int, background: str | None = None) -> None:
    """Warn that the images of these ``names``, among ``total``, are blank.

    ``background``: the color that is shown through transparent pixels, if images may have had any.
    """
    if not names:
        return
    count = f"all {total:,}" if len(names) == total else f"{len(names):,} of {total:,}"
    more = len(names) - MAX_NAMED_BLANK
    shown = ", ".join(names[:MAX_NAMED_BLANK]) + (f" and {more:,} more" if more > 0 else "")
    hint = "" if background is None else f"; transparent pixels become {background} (dataset.background)"
    log.warning("%s images are blank, every pixel of one color%s: %s", count, hint, shown)
