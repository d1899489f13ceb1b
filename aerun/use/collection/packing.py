"""Codes in fewer bytes.

``float32``  4 D bytes per image of D units.
``float16``  2 D bytes.
``int8``     D bytes: value = offset + scale * q, with q from 0 to 255 and an offset and a scale for each unit; the
             error is at most scale / 2.
``bits``     the active units, and their values in ``value_bits`` bits each (0 to 8) by the same rule, with offset and
             scale over the unit's nonzero values; with 0 bits every active value is the unit's mean. Active units are
             given by a mask of D bits or by indices of ceil(log2 D) bits, whichever is shorter in total.
``indices``  of a quantized latent only, see ``quantized_codes``: ceil(log2 K) bits for each of its indices.

Offsets and scales are the same for all images and are counted separately.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from aerun.errors import DataError
from aerun.use.collection.quantized_codes import QuantizedCodes, bits_per_index

Form = Literal["float32", "float16", "int8", "bits", "indices"]
FORMS: tuple[Form, ...] = get_args(Form)[:4]  # of any codes


@dataclass(frozen=True)
class Packed:
    """Codes [N,D] in one format: arrays of the images, and arrays that all images share, by name."""

    form: Form
    shape: tuple[int, int]
    images: dict[str, np.ndarray]
    shared: dict[str, np.ndarray] = field(default_factory=dict)
    layout: Literal["", "mask", "numbers"] = ""
    value_bits: int = 8

    @property
    def bytes_per_image(self) -> float:
        """Bytes of the codes alone, without names and shared arrays."""
        return sum(array.nbytes for array in self.images.values()) / max(1, self.shape[0])

    @property
    def shared_bytes(self) -> int:
        """Bytes of the shared arrays."""
        return sum(array.nbytes for array in self.shared.values())

    def unpack(self) -> np.ndarray:
        """Codes, float32 [N,D]. DataError if the arrays do not fit together."""
        try:
            codes = UNPACKERS[self.form](self)
        except (KeyError, ValueError, IndexError) as error:
            raise DataError(f"the codes are damaged ({type(error).__name__}: {error})") from error
        if codes.shape != self.shape:
            raise DataError(f"the codes are damaged (shape {codes.shape} instead of {self.shape})")
        return np.ascontiguousarray(codes, np.float32)


def pack(codes: np.ndarray, form: Form = "float32", value_bits: int = 8) -> Packed:
    """codes[N,D], float32 -> the same codes in ``form``. DataError if the format cannot hold them."""
    if not np.isfinite(codes).all():
        raise DataError("some codes are not finite: the model has diverged")
    if form == "float32":
        return Packed(form, codes.shape, {"codes": codes.astype(np.float32)})
    if form == "float16":
        largest = float(np.abs(codes).max(initial=0))
        if largest > float(np.finfo(np.float16).max):
            raise DataError(f"float16 holds values up to 65504, these codes reach {largest:.5g}; use int8 or float32")
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
    """The active units, as a mask or as indices, whichever is shorter."""
    count, size = active.shape
    mask = np.packbits(active, axis=1)
    counts = active.sum(1)
    indices = {"units": pack_bits(np.nonzero(active)[1], _bits_per_index(size))}
    if count and (counts != counts[0]).any():
        indices["counts"] = counts.astype(np.uint8 if counts.max() < 256 else np.uint32)
    else:
        indices["counts"] = counts[:1].astype(np.uint32)  # one number for all images
    if sum(array.nbytes for array in indices.values()) < mask.nbytes:
        return indices, "numbers"
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
        if counts.max(initial=0) > size:
            raise ValueError(f"{counts.max()} active units of {size}")
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


def pack_indices(codes: QuantizedCodes) -> Packed:
    """Indices in ``codes.bits`` bits each; the codebooks are shared."""
    codebooks = codes.codebooks
    stages, groups, _, dimension = codebooks.shape
    if (codebooks == codebooks[:, :1]).all():  # a grid, which is the same for all
        codebooks = codebooks[:, :1]
    count, each = codes.indices.shape
    images = {"indices": pack_bits(codes.indices.reshape(-1), codes.bits)}
    shared = {"codebooks": codebooks, "groups": np.array([groups, codes.positions])}
    return Packed("indices", (count, each // stages * dimension), images, shared)


def unpack_indices(packed: Packed) -> QuantizedCodes:
    """The inverse of ``pack_indices``. ValueError or KeyError for arrays that do not fit together."""
    codebooks, layout = packed.shared["codebooks"], packed.shared["groups"]
    if codebooks.ndim != 4 or codebooks.dtype != np.float32 or layout.shape != (2,) or layout.min() < 1:
        raise ValueError("codebooks of another shape")
    groups, positions = layout.tolist()
    stages, _, entries, dimension = codebooks.shape
    count, size = packed.shape
    if not entries or not dimension or size % (groups * dimension) or size % (positions * dimension):
        raise ValueError(f"codebooks of shape {list(codebooks.shape)} for codes of {size} values")
    codebooks = np.broadcast_to(codebooks, (stages, groups, entries, dimension))
    each, bits = size // dimension * stages, bits_per_index(entries)
    if packed.images["indices"].nbytes != math.ceil(count * each * bits / 8):
        raise ValueError(f"{packed.images['indices'].nbytes} bytes for {count * each} indices of {bits} bits")
    numbers = unpack_bits(packed.images["indices"], bits, count * each)
    return QuantizedCodes(numbers.reshape(count, each).astype(np.int32), codebooks, positions)


def _unpack_indices(packed: Packed) -> np.ndarray:
    return unpack_indices(packed).codes()


UNPACKERS: dict[Form, Callable[[Packed], np.ndarray]] = {
    "float32": lambda packed: packed.images["codes"],
    "float16": lambda packed: packed.images["codes"],
    "int8": _unpack_int8,
    "bits": _unpack_sparse,
    "indices": _unpack_indices,
}


def _offset_and_scale(codes: np.ndarray, counted: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Offset and scale [D] of each unit over its ``counted`` codes; with 0 bits their mean, and a scale of 0."""
    is_used = counted.any(0)
    if bits == 0:
        total = np.where(counted, codes, 0).sum(0, dtype=np.float64)
        return (total / counted.sum(0).clip(1)).astype(np.float32), np.zeros(codes.shape[1], np.float32)
    low = np.where(is_used, np.where(counted, codes, np.inf).min(0, initial=np.inf), 0)
    high = np.where(is_used, np.where(counted, codes, -np.inf).max(0, initial=-np.inf), 0)
    return low.astype(np.float32), ((high - low) / (2**bits - 1)).astype(np.float32)


def _quantize(codes: np.ndarray, offset: np.ndarray, scale: np.ndarray, bits: int) -> np.ndarray:
    divisor = np.where(scale > 0, scale, 1)
    return ((codes - offset) / divisor).round().clip(0, 2**bits - 1).astype(np.uint8)


def _bits_per_index(size: int) -> int:
    """Bits of the index of a unit."""
    return max(1, math.ceil(math.log2(size)))


def pack_bits(numbers: np.ndarray, bits: int) -> np.ndarray:
    """Whole numbers [n] below 2**bits -> bytes: ``bits`` bits per number, highest bit first."""
    shifts = np.arange(bits - 1, -1, -1)
    return np.packbits((numbers[:, None] >> shifts & 1).astype(np.uint8).reshape(-1))


def unpack_bits(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The inverse of ``pack_bits``: ``count`` whole numbers."""
    digits = np.unpackbits(packed, count=bits * count).reshape(count, bits)
    return digits @ (1 << np.arange(bits - 1, -1, -1))
