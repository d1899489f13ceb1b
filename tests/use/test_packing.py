"""Codes in fewer bytes, compared with loops in double precision."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aerun.cli import embed as command
from aerun.errors import DataError
from aerun.use.collection.packing import FORMS, pack, pack_bits, unpack_bits

RANDOM = np.random.default_rng(0)
DENSE = RANDOM.normal(2, 3, (60, 17)).astype(np.float32)


def top(count: int, size: int, k: int) -> np.ndarray:
    """Codes with exactly k nonzeros per row."""
    codes = RANDOM.normal(1, 0.3, (count, size)).astype(np.float32)
    order = np.argsort(RANDOM.random((count, size)), axis=1)
    np.put_along_axis(codes, order[:, k:], 0, axis=1)
    return codes


@pytest.mark.parametrize("bits", [1, 3, 6, 7, 8, 11])
def test_numbers_survive_packing(bits: int) -> None:
    numbers = RANDOM.integers(0, 2**bits, 101)
    packed = pack_bits(numbers, bits)
    text = "".join(f"{number:0{bits}b}" for number in numbers)
    text += "0" * (-len(text) % 8)
    assert packed.tobytes() == int(text, 2).to_bytes(len(text) // 8, "big")
    assert unpack_bits(packed, bits, 101).tolist() == numbers.tolist()


def test_float_formats() -> None:
    assert np.array_equal(pack(DENSE, "float32").unpack(), DENSE)
    half = pack(DENSE, "float16")
    assert half.bytes_per_image == 34 and half.shared_bytes == 0
    for code, back in zip(DENSE.reshape(-1).tolist(), half.unpack().reshape(-1).tolist(), strict=True):
        assert abs(code - back) <= 2**-11 * max(abs(code), 2**-14)  # half a step of ten bits


def test_int8_errors_are_at_most_half_a_step() -> None:
    codes = DENSE.copy()
    codes[:, 3], codes[:, 4] = 1.7, 0
    packed = pack(codes, "int8")
    assert packed.bytes_per_image == 17 and packed.shared_bytes == 17 * 8
    back = packed.unpack()
    for unit in range(codes.shape[1]):
        column = codes[:, unit].astype(np.float64)
        step = (column.max() - column.min()) / 255
        for value, other in zip(column, back[:, unit].astype(np.float64), strict=True):
            assert abs(value - other) <= step / 2 + 1e-6
    assert np.array_equal(back[:, 3:5], codes[:, 3:5])


@pytest.mark.parametrize("value_bits", [1, 4, 8])
@pytest.mark.parametrize(("size", "k", "layout"), [(64, 8, "numbers"), (64, 20, "mask"), (13, 4, "mask")])
def test_active_units_and_their_values_survive_packing(size: int, k: int, layout: str, value_bits: int) -> None:
    codes = top(50, size, k)
    packed = pack(codes, "bits", value_bits)
    assert packed.layout == layout
    units = math.ceil(size / 8) if layout == "mask" else math.ceil(50 * k * math.ceil(math.log2(size)) / 8) / 50
    values = math.ceil(50 * k * value_bits / 8) / 50
    once = 4 / 50 if layout == "numbers" else 0  # the number of active units, once for all images
    assert packed.bytes_per_image == pytest.approx(units + values + once)
    back = packed.unpack()
    assert np.array_equal(back != 0, codes != 0)
    for unit in range(size):
        active = codes[:, unit][codes[:, unit] != 0].astype(np.float64)
        if len(active):
            step = (active.max() - active.min()) / (2**value_bits - 1)
            assert np.abs(active - back[:, unit][codes[:, unit] != 0]).max() <= step / 2 + 1e-6


def test_varying_numbers_of_active_units_without_values() -> None:
    codes = np.where(RANDOM.random((80, 200)) < 0.03, RANDOM.random((80, 200)) + 1, 0).astype(np.float32)
    packed = pack(codes, "bits", 0)
    assert packed.layout == "numbers" and "values" not in packed.images
    back = packed.unpack()
    assert np.array_equal(back != 0, codes != 0)
    unit = int(np.argmax((codes != 0).sum(0)))
    active = codes[:, unit] != 0
    assert np.allclose(back[active, unit], codes[active, unit].mean(), rtol=1e-6)


def test_empty_codes_and_codes_of_one_unit() -> None:
    for codes in (np.zeros((5, 9), np.float32), np.ones((5, 1), np.float32), np.zeros((0, 4), np.float32)):
        for form in FORMS:
            assert np.array_equal(pack(codes, form).unpack(), codes), form


def test_codes_that_a_format_cannot_hold_are_rejected() -> None:
    with pytest.raises(DataError, match="float16 holds values up to 65504, these codes reach 1e\\+05"):
        pack(np.full((2, 3), 1e5, np.float32), "float16")
    with pytest.raises(DataError, match="not finite"):
        pack(np.full((2, 3), np.nan, np.float32), "int8")


def test_the_command_offers_all_formats() -> None:
    assert command.FORMS == FORMS
