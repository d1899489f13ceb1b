"""Codes in fewer bytes: halves, bytes, and the active units of a sparse code bit by bit.

``float32``  as they are: 4 D bytes an image of D units.
``float16``  2 D bytes.
``int8``     D bytes: the unit's value is offset + scale * q, q = 0 … 255, with an offset and a scale for each unit, so
             the error is at most scale / 2.
``bits``     which units are not zero, and their values in ``value_bits`` bits (0 to 8) each by that same rule, offset
             and scale over what is not zero of the unit; with 0 bits a unit is zero or its mean. Units are told by a
             mask of D bits or by their numbers, ceil(log2 D) bits each, whichever is less in all.

What is the same for all images (offsets and scales) is counted apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from aerun.errors import DataError

Form = Literal["float32", "float16", "int8", "bits"]
FORMS: tuple[Form, ...] = get_args(Form)


@dataclass(frozen=True)
class Packed:
    """Codes [N,D] in a form: arrays by name, those of the images and those that all images share."""

    form: Form
    shape: tuple[int, int]
    images: dict[str, np.ndarray]
    shared: dict[str, np.ndarray] = field(default_factory=dict)
    layout: Literal["", "mask", "numbers"] = ""
    value_bits: int = 8

    @property
    def bytes_per_image(self) -> float:
        """Of the codes alone, without names and without what is shared."""
        return sum(array.nbytes for array in self.images.values()) / max(1, self.shape[0])

    @property
    def shared_bytes(self) -> int:
        """Of what all images share."""
        return sum(array.nbytes for array in self.shared.values())

    def unpack(self) -> np.ndarray:
        """float32 [N,D]. DataError if the arrays do not fit each other."""
        try:
            codes = UNPACKERS[self.form](self)
        except (KeyError, ValueError, IndexError) as error:
            raise DataError(f"the codes are damaged ({type(error).__name__}: {error})") from error
        if codes.shape != self.shape:
            raise DataError(f"the codes are damaged (shape {codes.shape}, and it should be {self.shape})")
        return np.ascontiguousarray(codes, np.float32)


def pack(codes: np.ndarray, form: Form = "float32", value_bits: int = 8) -> Packed:
    """codes[N,D], float32 -> the same in ``form``. DataError for what the form cannot hold."""
    if not np.isfinite(codes).all():
        raise DataError("some codes are not finite numbers: this model has diverged")
    if form == "float32":
        return Packed(form, codes.shape, {"codes": codes.astype(np.float32)})
    if form == "float16":
        largest = float(np.abs(codes).max(initial=0))
        if largest > float(np.finfo(np.float16).max):
            raise DataError(f"float16 ends at 65504, and these codes reach {largest:.5g}; use int8 or float32")
        return Packed(form, codes.shape, {"codes": codes.astype(np.float16)})
    if form == "int8":
        offset, scale = _offset_and_scale(codes, np.ones(codes.shape, bool), 8)
        return Packed(
            form, codes.shape, {"codes": _quantize(codes, offset, scale, 8)}, {"offset": offset, "scale": scale}
        )
    return _pack_sparse(codes, value_bits)


def _pack_sparse(codes: np.ndarray, value_bits: int) -> Packed:
    active = codes != 0
    images, layout = _pack_active_units(active)
    rows, units = np.nonzero(active)
    offset, scale = _offset_and_scale(codes, active, value_bits)
    if value_bits:
        steps = _quantize(codes[rows, units], offset[units], scale[units], value_bits)
        images["values"] = pack_bits(steps, value_bits)
    return Packed("bits", codes.shape, images, {"offset": offset, "scale": scale}, layout, value_bits)


def _pack_active_units(active: np.ndarray) -> tuple[dict[str, np.ndarray], Literal["mask", "numbers"]]:
    """Which units are not zero, in the shorter of both ways."""
    count, size = active.shape
    mask = np.packbits(active, axis=1)
    counts = active.sum(1)
    numbers = {"units": pack_bits(np.nonzero(active)[1], _bits_per_index(size))}
    if count and (counts != counts[0]).any():
        numbers["counts"] = counts.astype(np.uint8 if counts.max() < 256 else np.uint32)
    else:
        numbers["counts"] = counts[:1].astype(np.uint32)  # the same for all
    if sum(array.nbytes for array in numbers.values()) < mask.nbytes:
        return numbers, "numbers"
    return {"units": mask}, "mask"


def _unpack_sparse(packed: Packed) -> np.ndarray:
    count, size = packed.shape
    units = packed.images["units"]
    if packed.layout == "mask":
        active = np.unpackbits(units, axis=1, count=size).astype(bool)
        rows, columns = np.nonzero(active)
    else:
        counts = packed.images["counts"].astype(np.int64)
        counts = counts if len(counts) == count else np.repeat(counts, count)
        rows = np.repeat(np.arange(count), counts)
        columns = unpack_bits(units, _bits_per_index(size), int(counts.sum()))
    offset, scale = packed.shared["offset"], packed.shared["scale"]
    values = offset[columns]
    if packed.value_bits:
        values = values + scale[columns] * unpack_bits(packed.images["values"], packed.value_bits, len(columns))
    codes = np.zeros(packed.shape, np.float32)
    codes[rows, columns] = values
    return codes


def _unpack_int8(packed: Packed) -> np.ndarray:
    return packed.shared["offset"] + packed.shared["scale"] * packed.images["codes"].astype(np.float32)


UNPACKERS: dict[Form, Callable[[Packed], np.ndarray]] = {
    "float32": lambda packed: packed.images["codes"],
    "float16": lambda packed: packed.images["codes"],
    "int8": _unpack_int8,
    "bits": _unpack_sparse,
}


def _offset_and_scale(codes: np.ndarray, counted: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Offset and scale [D] of each unit over the codes that are ``counted``; with 0 bits their mean, and nothing."""
    some = counted.any(0)
    if bits == 0:
        total = np.where(counted, codes, 0).sum(0, dtype=np.float64)
        return (total / counted.sum(0).clip(1)).astype(np.float32), np.zeros(codes.shape[1], np.float32)
    low = np.where(some, np.where(counted, codes, np.inf).min(0, initial=np.inf), 0)
    high = np.where(some, np.where(counted, codes, -np.inf).max(0, initial=-np.inf), 0)
    return low.astype(np.float32), ((high - low) / (2**bits - 1)).astype(np.float32)


def _quantize(codes: np.ndarray, offset: np.ndarray, scale: np.ndarray, bits: int) -> np.ndarray:
    divisor = np.where(scale > 0, scale, 1)
    return ((codes - offset) / divisor).round().clip(0, 2**bits - 1).astype(np.uint8)


def _bits_per_index(size: int) -> int:
    """How many the number of a unit takes."""
    return max(1, math.ceil(math.log2(size)))


def pack_bits(numbers: np.ndarray, bits: int) -> np.ndarray:
    """Whole numbers [n] below 2**bits, one after the other, highest bit first, as bytes."""
    shifts = np.arange(bits - 1, -1, -1)
    return np.packbits((numbers[:, None] >> shifts & 1).astype(np.uint8).reshape(-1))


def unpack_bits(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The ``count`` whole numbers that ``to_bits`` packed."""
    digits = np.unpackbits(packed, count=bits * count).reshape(count, bits)
    return digits @ (1 << np.arange(bits - 1, -1, -1))
