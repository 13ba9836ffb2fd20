"""A first look: is a number perhaps in any of several sorted sets? One bit for each value of a number's upper bits.

With 16 to 32 bits a number at most one in 16 of other numbers passes, so that few are looked up in the sets themselves,
however many sets there are.
"""

from collections.abc import Sequence

import numpy as np

BITS_PER_NUMBER = 16
FEWEST_BITS = 10  # as a power of two
MOST_BITS = 30  # 128 MiB; beyond 2**26 numbers more of them pass


class Sieve:
    """Made of the sets (uint64, sorted), which are read once."""

    def __init__(self, sets: Sequence[np.ndarray]) -> None:
        wanted = BITS_PER_NUMBER * sum(map(len, sets))
        power = min(max(wanted.bit_length(), FEWEST_BITS), MOST_BITS)
        self._shift = np.uint64(64 - power)
        self._bits = np.zeros(2**power // 8, np.uint8)
        for numbers in sets:
            for start in range(0, len(numbers), 2**20):
                place, bit = self._slots(numbers[start : start + 2**20])
                np.bitwise_or.at(self._bits, place, bit)

    def may_hold(self, numbers: np.ndarray) -> np.ndarray:
        """False where a number is in none of the sets; bool, of the shape of ``numbers`` (uint64)."""
        place, bit = self._slots(numbers)
        found: np.ndarray = (self._bits[place] & bit) != 0
        return found

    def _slots(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slots = numbers >> self._shift
        return (slots >> np.uint64(3)).astype(np.int64), np.uint8(1) << (slots & np.uint64(7)).astype(np.uint8)
