"""A binary arithmetic coder in plain Python: what ``range_coder.h`` does, bit by bit.

Martin, "Range encoding: an algorithm for removing redundancy from a digitised message", 1979; binary as in CABAC
(Marpe, Schwarz & Wiegand 2003, section III-D), with 64 bits of state that move out 32 at a time.
"""
from __future__ import annotations

__all__ = ["RangeDecoder", "RangeEncoder"]

WORD, HALF = 1 << 64, 1 << 32
FLUSHED = 8  # bytes that the end of a stream takes at most


class RangeEncoder:
    """Bits into bytes: each takes ``-log2`` of its probability.

    The interval [low, low + width) of 64 bits after what was written stands for all bits so far.
    """

    def __init__(self) -> None:
        self.low, self.width, self.content = 0, WORD - 1, bytearray()

    def code(self, bit: int, probability: int) -> int:
        """Append ``bit``, which is 1 with ``probability`` of 65536, and return it."""
        bound = (self.width >> 16) * probability
        if bit:
            self.width = bound
        else:
            self.low += bound
            self.width -= bound
            if self.low >= WORD:
                self._carry()
        if self.width < HALF:
            self.content += (self.low >> 32).to_bytes(4, "big")
            self.low = (self.low << 32) % WORD
            self.width <<= 32
        return bit

    def _carry(self) -> None:
        """Add one to what was written."""
        self.low -= WORD
        place = len(self.content) - 1
        while place >= 0 and self.content[place] == 255:
            self.content[place] = 0
            place -= 1
        if place >= 0:
            self.content[place] += 1

    def past_the_end(self) -> bool:
        return False

    def finish(self) -> bytes:
        """All bytes: the fewest more that name a number of the interval, zeros being read after them."""
        top = self.low + self.width - 1
        for count in range(FLUSHED + 1):
            unit = 1 << (64 - 8 * count)
            number = -(-self.low // unit) * unit  # the first multiple in the interval, if it is one
            if number <= top:
                break
        self.low = number
        if self.low >= WORD:
            self._carry()
        self.content += self.low.to_bytes(8, "big")[:count]
        return bytes(self.content)


class RangeDecoder:
    """Bytes into bits. Zeros follow the content."""

    def __init__(self, content: bytes) -> None:
        self.content, self.position, self.width, self.code_word = content, 8, WORD - 1, 0
        self.code_word = int.from_bytes(content[:8].ljust(8, b"\0"), "big")

    def code(self, bit: int, probability: int) -> int:
        """The next bit, which is 1 with ``probability`` of 65536."""
        bound = (self.width >> 16) * probability
        bit = self.code_word < bound
        if bit:
            self.width = bound
        else:
            self.code_word -= bound
            self.width -= bound
        if self.width < HALF:
            following = self.content[self.position:self.position + 4].ljust(4, b"\0")
            self.code_word = (self.code_word << 32 | int.from_bytes(following, "big")) % WORD
            self.position += 4
            self.width <<= 32
        return int(bit)

    def past_the_end(self) -> bool:
        """Whether more was read than an encoder can have left away: the content is damaged."""
        return self.position > len(self.content) + FLUSHED
