"""Whole numbers as few bytes, and a reader that never reads past the end."""

from __future__ import annotations

from aerun.errors import DataError

CUT_OFF = "it is cut off"


def as_unsigned(value: int) -> bytes:
    """A number from 0 as groups of 7 bits, the lowest first; the highest bit says that another group follows."""
    groups = bytearray()
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def as_signed(value: int) -> bytes:
    """A number of either sign: 0, -1, 1, -2, ... as 0, 1, 2, 3, ..."""
    return as_unsigned(2 * value if value >= 0 else -2 * value - 1)


def as_bytes(content: bytes) -> bytes:
    """Bytes after their number."""
    return as_unsigned(len(content)) + content


class Reader:
    """Reads what the functions above wrote. DataError past the end."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def take(self, count: int) -> bytes:
        """The next bytes."""
        end = self._at + count
        if end > len(self._content):
            raise DataError(CUT_OFF)
        part, self._at = self._content[self._at : end], end
        return part

    @property
    def at_end(self) -> bool:
        """Whether all was read."""
        return self._at == len(self._content)

    def rest(self) -> bytes:
        """All that was not read."""
        return self.take(len(self._content) - self._at)

    def unsigned(self, most: int) -> int:
        """A number from 0 to ``most``."""
        value = shift = 0
        while True:
            [group] = self.take(1)
            value |= (group & 127) << shift
            if value > most:
                raise DataError(f"it names a number above {most}")
            if group < 128:
                return value
            shift += 7

    def signed(self, most: int) -> int:
        """A number from -``most`` to ``most``."""
        value = self.unsigned(2 * most)
        return value // 2 if value % 2 == 0 else -(value + 1) // 2

    def bytes(self) -> bytes:
        """Bytes after their number."""
        return self.take(self.unsigned(len(self._content)))

    def bounds(self, most: int) -> tuple[int, int]:
        """A number, and a larger one: its difference is stored."""
        low = self.signed(most)
        return low, low + max(1, self.unsigned(2 * most))
