"""Fingerprints: the codes of a collection, with names, labels, and the weights that made them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aerun.errors import ConfigError, DataError
from aerun.use.collection.looks import Looks
from aerun.use.collection.packing import Form, Packed, pack, pack_indices
from aerun.use.collection.quantized_codes import QuantizedCodes

if TYPE_CHECKING:
    from aerun.use.opened_run import OpenedRun


@dataclass(frozen=True)
class Fingerprints:
    """The codes of N images.

    ``names`` [N]: paths relative to the folder ``root``, or ``SPLIT/NUMBER`` for a split of the run's own data.
    ``codes``: float32 [N,D], or [N,V,D] for several views of each image, the whole image first. ``labels`` [N]: numbers
    of ``classes``, -1 for none. ``weights``: the fingerprint of the run's weights; ``run``: its folder, as given;
    ``file``: where the codes were loaded from. ``blank``: the rows of images of a single color. ``quantized``: the same
    codes [N*V] as indices, if they are those of a quantized latent. ``looks``: thumbnails, colors
    and textures of image files. ``form`` and ``value_bits``: the format of the codes in ``file``.
    """

    names: list[str]
    codes: np.ndarray
    weights: str
    run: str = ""
    root: str = ""
    split: str = ""
    labels: np.ndarray | None = None
    classes: list[str] = field(default_factory=list)
    code_shape: tuple[int, ...] = ()
    file: str = ""
    blank: list[int] = field(default_factory=list)
    quantized: QuantizedCodes | None = field(default=None, repr=False)
    looks: Looks | None = field(default=None, repr=False)
    form: Form = field(default="float32", repr=False, compare=False)
    value_bits: int = field(default=8, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def views(self) -> int:
        """Number of codes per image."""
        return 1 if self.codes.ndim == 2 else self.codes.shape[1]

    @property
    def whole_codes(self) -> np.ndarray:
        """The codes of the whole images, float32 [N,D]."""
        return self.codes if self.codes.ndim == 2 else np.ascontiguousarray(self.codes[:, 0])

    @property
    def title(self) -> str:
        """The file, for messages."""
        return self.file or "these codes"

    def label(self, row: int) -> str:
        """The name of an image's class; empty if it has none."""
        if self.labels is None or self.labels[row] < 0:
            return ""
        number = int(self.labels[row])
        return self.classes[number] if number < len(self.classes) else str(number)

    def statistics(self) -> dict[str, np.ndarray]:
        """Over the collection, for each unit [D]: ``mean``, ``deviation`` and ``zeros``, the share of zeros."""
        codes = self.whole_codes.astype(np.float64)
        moments = {"mean": codes.mean(0), "deviation": codes.std(0), "zeros": (codes == 0).mean(0)}
        return {name: values.astype(np.float32) for name, values in moments.items()}

    def missing(self) -> list[str]:
        """The names of images that are no longer in the folder ``root``."""
        return [name for name in self.names if not os.path.exists(os.path.join(self.root, name))]  # noqa: PTH110, PTH118

    def describe_missing(self, missing: Sequence[str]) -> str:
        """How many images are gone, the first of them, and what to do if they were moved."""
        return (
            f"{self.root}: {len(missing)} of {len(self)} images are gone, the first is {missing[0]}; if the folder was "
            "moved, name the new one: --folder FOLDER"
        )

    def moved_to(self, folder: Path) -> Fingerprints:
        """The same codes, of images that are in another folder now. DataError if none of them is there."""
        if not self.root:
            raise DataError(f"{self.title}: its images are no files, so they are in no other folder")
        moved = dataclasses.replace(self, root=str(folder.expanduser().resolve()))
        if len(moved.missing()) == len(self):
            raise DataError(
                f"{folder}: contains none of the {len(self)} images of {self.title}, such as {self.names[0]}"
            )
        return moved

    def require_same_run(self, run: OpenedRun) -> None:
        """DataError if these codes were made with other weights than those of ``run``."""
        if self.weights != run.fingerprint:
            raise DataError(
                f"{self.title}: made by another run ({self.run or 'unnamed'}, weights {self.weights}) than "
                f"{run.folder} (weights {run.fingerprint}); make a new file with aerun-embed"
            )

    def require_looks(self) -> Looks:
        """ConfigError for fingerprints without looks."""
        if self.looks is None:
            raise ConfigError(
                f"{self.title}: has no thumbnails and colors, which are stored for image files since this version; "
                "make it again with aerun-embed, of a folder"
            )
        return self.looks

    def pack(self, form: Form = "float32", value_bits: int = 8) -> Packed:
        """The codes [N*V,D] in a smaller format. ConfigError for indices of codes that have none."""
        if form == "indices":
            if self.quantized is None:
                raise ConfigError("form indices: these codes have none, their latent is not quantized; use float32")
            return pack_indices(self.quantized)
        return pack(self.codes.reshape(-1, self.codes.shape[-1]), form, value_bits)
