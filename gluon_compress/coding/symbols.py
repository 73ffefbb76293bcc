"""Integers coded as whole symbols, each by how often it occurred where a magnitude like this one was expected.

The expected magnitude and the contexts of signs are those of ``model.py``, but a magnitude takes one step instead of a
question for each of its bits, and nothing is mixed: two to four times as fast, and as short where integers are large or
come from many, as those of dense networks do. ``symbols.h`` is the same, far faster.

A magnitude is a token, one for each below DIRECT and eight an octave above, and the bits below. A token's frequency is
what its context counted, beginning with a geometric distribution of the expected mean. A sign's is the mean of what two
contexts say. Coding is by an asymmetric numeral system (Duda 2013, see ``byte_counts.py``) with 64 bits of state, which
takes and gives words of 32. It codes the last first, so it begins anew after each FLUSH values.

    content    for each FLUSH values the state, 64 bits, and words of 32 bits, little endian
"""
from __future__ import annotations

import functools
from array import array
from collections.abc import Sequence

from .model import Coding, Geometry, Settings, expected_level, learn, least_of_level

__all__ = ["TOKENS", "decode", "encode", "priors", "token_of"]

CONTEXTS, TOKENS, DIRECT, SLOPES = 64, 240, 16, 128
PRECISION = 15
UNIT = 1 << PRECISION
LEAST_STATE = 1 << 31
FLUSH = 1 << 17  # values
SEEN, MOST_SEEN = 64, 1 << 21  # what one value counts, and the sum from which on all counts are halved
PRIOR = 2048  # the sum that counts begin with
LONGEST_INTERVAL = 4096  # values of a context after which its frequencies are made anew
RARE = 64  # of UNIT: no sign is less probable
FRACTION = 64  # bits after the point

Operation = tuple[int, int, int]  # start, frequency and 0; or bits, 0 and how many


def encode(values: list[int], geometry: Geometry, settings: Settings, tokens: int) -> bytes:
    """The bytes of a list of integers whose tokens are below ``tokens``; the rest is as in ``questions.encode``."""
    coder = _Encoder()
    _BySymbols(coder, values, geometry, settings, tokens).code()
    return bytes(coder.content)


def decode(content: bytes, geometry: Geometry, settings: Settings, tokens: int) -> list[int] | None:
    """The list of integers, or None when the content is damaged, too short or too long."""
    values = [0] * geometry.total
    return values if _BySymbols(_Decoder(content), values, geometry, settings, tokens).code() else None


def token_of(magnitude: int) -> int:
    if magnitude < DIRECT:
        return magnitude
    length = magnitude.bit_length()
    return DIRECT + (length - 5) * 8 + (magnitude >> length - 4 & 7)


@functools.cache
def priors() -> array[int]:
    """What each token (CONTEXTS x TOKENS) counts before it was seen: a geometric distribution of its context's mean."""
    found = array("H")
    for context in range(CONTEXTS):
        above = [*_powers(_mean_of(context)), 0]
        found.extend((above[token] - above[token + 1]) * PRIOR >> FRACTION for token in range(TOKENS))
    return found


def _mean_of(context: int) -> int:
    """The middle of the expected magnitudes of a context, in 1/256."""
    return 9 * least_of_level(context + 6, 2) // 8


def _powers(mean: int) -> list[int]:
    """``(mean / (mean + 256))^m`` in fixed point for the least magnitude m of each token: how probable m or more is."""
    base, powers = (mean << FRACTION) // (mean + 256), [1 << FRACTION]
    while len(powers) < DIRECT:
        powers.append(powers[-1] * base >> FRACTION)
    octave = powers[DIRECT // 2:]
    while len(powers) < TOKENS:
        octave = [power * power >> FRACTION for power in octave]
        powers.extend(octave)
    return powers


# ---- the asymmetric numeral system

class _Encoder:
    def __init__(self) -> None:
        self.content, self.waiting = bytearray(), list[Operation]()

    def token(self, token: int, starts: Sequence[int]) -> int:
        self.waiting.append((starts[token], starts[token + 1] - starts[token], 0))
        return token

    def bits(self, number: int, count: int) -> int:
        self.waiting.append((number, 0, count))
        return number

    def begin(self) -> bool:
        return True

    def end(self) -> bool:
        """Put all that waits onto a new state, the last first, and write it."""
        state, words = LEAST_STATE, list[int]()
        for start, frequency, bits in reversed(self.waiting):
            if state >= (1 << 63 - bits if bits else frequency << 48):
                words.append(state & 0xffffffff)
                state >>= 32
            state = state << bits | start if bits else (state // frequency << PRECISION) + state % frequency + start
        self.content += state.to_bytes(8, "little")
        self.content += b"".join(word.to_bytes(4, "little") for word in reversed(words))
        self.waiting = []
        return True

    def finished(self) -> bool:
        return True


class _Decoder:
    def __init__(self, content: bytes) -> None:
        self.content, self.position, self.state = content, 0, LEAST_STATE

    def token(self, token: int, starts: Sequence[int]) -> int:
        slot, token = self.state & UNIT - 1, 0
        while starts[token + 1] <= slot:
            token += 1
        self.state = (starts[token + 1] - starts[token]) * (self.state >> PRECISION) + slot - starts[token]
        self._refill()
        return token

    def bits(self, number: int, count: int) -> int:
        number = self.state & (1 << count) - 1
        self.state >>= count
        self._refill()
        return number

    def _refill(self) -> None:
        if self.state < LEAST_STATE:
            self.state = self.state << 32 | self._read(4)

    def _read(self, count: int) -> int:
        self.position += count
        return int.from_bytes(self.content[self.position - count:self.position], "little")

    def begin(self) -> bool:
        self.state = self._read(8)
        return True

    def end(self) -> bool:
        return self.state == LEAST_STATE and self.position <= len(self.content)

    def finished(self) -> bool:
        return self.position == len(self.content)


# ---- the model

class _Context:
    """The frequencies of one context."""

    def __init__(self, counts: list[int]) -> None:
        self.counts, self.seen = counts, 0
        self._rebuild()

    def code(self, coder: _Encoder | _Decoder, token: int) -> int:
        token = coder.token(token, self.starts)
        self.counts[token] += SEEN
        self.left -= 1
        if not self.left:
            self._rebuild()
        return token

    def _rebuild(self) -> None:
        if sum(self.counts) > MOST_SEEN:
            self.counts = [count + 1 >> 1 for count in self.counts]
        scale, before, self.starts = (UNIT - len(self.counts) << 32) // sum(self.counts), 0, list[int]()
        for token, count in enumerate(self.counts):
            self.starts.append((before * scale >> 32) + token)
            before += count
        self.starts.append(UNIT)
        self.left = min(4 + (self.seen >> 3), LONGEST_INTERVAL)
        self.seen += self.left


class _BySymbols(Coding):
    """Values coded by whole symbols."""

    def __init__(self, coder: _Encoder | _Decoder, values: list[int], geometry: Geometry, settings: Settings,
                 tokens: int) -> None:
        super().__init__(values, geometry, settings)
        self.coder, table = coder, priors()
        self.contexts = [_Context([count + 1 for count in table[begin:begin + tokens]])
                         for begin in range(0, CONTEXTS * TOKENS, TOKENS)]
        self.signs = [[1 << 31] * SLOPES, [1 << 31] * SLOPES]

    def code(self) -> bool:
        """Code all values; False when the content is damaged."""
        for index in range(self.geometry.total):
            if index % FLUSH == 0:
                if index and not self.coder.end():
                    return False
                self.coder.begin()
            filter, place = divmod(index, self.geometry.size)
            channel, position = divmod(place, self.geometry.positions)
            if not place:
                self.means.begin_filter()
            if not position:
                self.means.begin_map(channel)
            if not self._value(self.values[index], filter, channel, position):
                return False
        return self.coder.end() and self.coder.finished()

    def _value(self, value: int, filter: int, channel: int, position: int) -> bool:
        """One value; False when the content is damaged."""
        near = self.neighbours(filter, channel, position)
        context = self.contexts[expected_level(self.expected(channel, position, near))]
        token = magnitude = context.code(self.coder, token_of(abs(value)))
        if token >= DIRECT:
            bits = (token - DIRECT) // 8 + 1
            magnitude = (8 | token & 7) << bits | self.coder.bits(abs(value) & (1 << bits) - 1, bits)
        negative = magnitude > 0 and self._negative(
            value < 0, self.sign_contexts(channel, position, magnitude, near))
        return self.keep(magnitude, negative, filter, channel, position)

    def _negative(self, negative: bool, contexts: Sequence[int]) -> bool:
        cells = list(zip(self.signs, contexts))
        share = min(max(sum(signs[context] >> 10 for signs, context in cells) >> 8, RARE), UNIT - RARE)
        negative = not self.coder.token(int(not negative), (0, share, UNIT))
        for signs, context in cells:
            learn(signs, context, int(negative))
        return negative
