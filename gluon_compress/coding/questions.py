"""Integers coded by yes-or-no questions, each with a probability that the model's contexts are asked for.

First the size, which is the bit length of the magnitude, upward or downward from the size that is expected here; then
the bits below the first, then the sign (after Marpe, Schwarz & Wiegand, "Context-based adaptive binary arithmetic
coding", 2003). ``questions.h`` is the same, hundreds of times as fast.

Six contexts, of signs four, give as many adaptive estimates of each probability, and an online logistic regression
mixes them (Mahoney 2005, see ``tables.py``): weights ``w`` are learned for each question,

    p = squash(sum_i w_i stretch(p_i)),    w_i += rate (bit - p) stretch(p_i)

The first half of the contexts says nearly as much, in three quarters of the time: settings say whether all are asked
or these few.
"""
from __future__ import annotations

from collections.abc import Sequence

from .model import Coding, Geometry, Neighbours, Settings, clamp, expected_level, learn, magnitude_level
from .range_coder import RangeDecoder, RangeEncoder
from .tables import MIXED, SQUASH, STRETCH

__all__ = ["decode", "encode"]

INPUTS, SIGN_INPUTS = (6, 3), (4, 2)  # of all contexts, of few
CELLS, QUESTIONS = 512, 64  # contexts per input, questions per context
HEAVIEST = 1 << 18  # weight of the mixer, of 65536: sums of products fit into 32 bits
# Where the questions are numbered from: which of them a question is, depends on the size that it asks for.
UPWARD, DOWNWARD, GROUP, SIGN, SECOND_BIT = 16, 32, 46, 47, 48
EXPECTED_SIZES = 8  # the largest size to begin with
WHOLE_MAP, GROUP_LENGTH = 25, 8  # a map of so many positions is one group; of how many it is otherwise

Coder = RangeEncoder | RangeDecoder


def encode(values: list[int], geometry: Geometry, settings: Settings) -> bytes:
    """The bytes of a list of ``geometry.total`` integers within -2^31 ... 2^31 - 1."""
    coder = RangeEncoder()
    _ByQuestions(coder, values, geometry, settings).code()
    return coder.finish()


def decode(content: bytes, geometry: Geometry, settings: Settings) -> list[int] | None:
    """The list of integers, or None when the content is damaged, too short or too long."""
    coder, values = RangeDecoder(content), [0] * geometry.total
    whole = _ByQuestions(coder, values, geometry, settings).code() and coder.position >= len(content)
    return values if whole else None


class Mixer:
    """Codes bits by the mixed predictions of several contexts.

    A cell is a probability of 22 bits above a count of 10. It begins as the mean of the bits that it saw, and forgets
    slowly once it has seen MOST_COUNTED.
    """

    def __init__(self, coder: Coder, rate: int, few: bool) -> None:
        self.coder, self.rate = coder, rate
        inputs, sign_inputs = INPUTS[few], SIGN_INPUTS[few]
        self.cells = [[1 << 31] * (CELLS * QUESTIONS) for _ in range(inputs)]
        self.plain = [1 << 31] * QUESTIONS
        self.weights = [[78642 // inputs] * inputs for _ in range(QUESTIONS + 32)]  # of 65536: 1.2 in sum
        self.weights[SIGN] = [65536 // sign_inputs] * sign_inputs
        self.coded = [0] * (QUESTIONS + 32)

    def code(self, bit: int, question: int, contexts: Sequence[int], choice: int | None = None) -> int:
        """Code one bit, and learn from it; ``choice`` of the weights, those of the question unless given."""
        choice = question if choice is None else choice
        weights, total, seen = self.weights[choice], 1 << 15, list[int]()
        contexts = contexts[:len(weights)]
        for index, context in enumerate(contexts):
            stretched = STRETCH[self.cells[index][context * QUESTIONS + question] >> 20]
            seen.append(stretched)
            total += weights[index] * stretched
        probability = SQUASH[min(max(total >> 16, -MIXED), MIXED - 1) + MIXED]
        bit = self.coder.code(bit, probability)
        # w_i += rate (bit - p) stretch(p_i); the rate falls over the first 4096 bits
        step = ((bit << 16) - probability) * (self.rate + (4096 - self.coded[choice] >> 8)) >> 4
        self.coded[choice] = min(self.coded[choice] + 1, 4096)
        for index, context in enumerate(contexts):
            weights[index] = clamp(weights[index] + (seen[index] * step + (1 << 13) >> 14), HEAVIEST)
            learn(self.cells[index], context * QUESTIONS + question, bit)
        return bit

    def code_plainly(self, bit: int, context: int) -> int:
        """Code a bit by one probability."""
        bit = self.coder.code(bit, min(max(self.plain[context] >> 16, 32), 65504))
        learn(self.plain, context, bit)
        return bit


class _ByQuestions(Coding):
    """Values coded by questions, whose answers are mixed."""

    def __init__(self, coder: Coder, values: list[int], geometry: Geometry, settings: Settings) -> None:
        super().__init__(values, geometry, settings)
        self.mixer = Mixer(coder, settings.rate, settings.few)
        shortened = settings.grouped and geometry.positions > WHOLE_MAP
        self.length = GROUP_LENGTH if shortened else geometry.positions

    def code(self) -> bool:
        """Code all values; False when the content is damaged."""
        filters, channels, positions, _ = self.geometry
        for filter in range(filters):
            self.means.begin_filter()
            for channel in range(channels):
                self.means.begin_map(channel)
                for begin in range(0, positions, self.length):
                    if not self._group(filter, channel, range(begin, min(begin + self.length, positions))):
                        return False
        return True

    def _group(self, filter: int, channel: int, group: range) -> bool:
        """Values that follow each other; False when the content is damaged."""
        start = filter * self.geometry.size + channel * self.geometry.positions
        some = not self.settings.grouped
        if not some and not self._presence(filter, channel, group):
            self.means.update_zeros(filter, channel, group)
            return not self.mixer.coder.past_the_end()
        for position in group:
            least = int(not some and position == group.stop - 1)  # the last of a group that is not all zero
            if not self._value(filter, channel, position, least):
                return False
            some = some or self.values[start + position] != 0
        return True

    def _presence(self, filter: int, channel: int, group: range) -> int:
        """Whether a group holds anything but zeros."""
        means, size, count = self.means, self.geometry.size, len(group)
        place = channel * self.geometry.positions + group.start
        start = filter * size + place

        def nonzeros(begin: int) -> int:
            return sum(value != 0 for value in self.values[begin:begin + count])

        here = magnitude_level(sum(means.place[place:place + count]) // count)
        before = min(nonzeros(start - size), 7) if filter else 0
        behind = min(nonzeros(start - self.length), 7) if place >= self.length else 0
        expected = means.expected(self.settings.shares, channel, place + count // 2, 0, 0)
        contexts = (expected_level(expected), before * 8 + behind, here * 20 + magnitude_level(means.row),
                    magnitude_level(means.local) * 20 + here,
                    magnitude_level(means.map) * 20 + means.groups + 2 * min(behind, 5), 0)
        present = self.mixer.code(int(nonzeros(start) > 0), GROUP, contexts)
        means.groups = (means.groups * 2 + present) & 7
        return present

    def _value(self, filter: int, channel: int, position: int, least: int) -> bool:
        """One value, whose magnitude is known to be at least 0 or 1; False when the content is damaged."""
        value = self.values[filter * self.geometry.size + channel * self.geometry.positions + position]
        near = self.neighbours(filter, channel, position)
        expected = self.expected(channel, position, near)
        contexts = self._magnitude_contexts(channel, position, expected, near)
        magnitude = self._magnitude(abs(value), expected, position, contexts, least)
        negative = magnitude > 0 and self.mixer.code(
            int(value < 0), SIGN, self.sign_contexts(channel, position, magnitude, near)) > 0
        return self.keep(magnitude, negative, filter, channel, position) and not self.mixer.coder.past_the_end()

    def _magnitude_contexts(self, channel: int, position: int, expected: int, near: Neighbours) -> tuple[int, ...]:
        left, up, _, behind, before = map(abs, near)
        means = self.means
        around = ((min(left, 2) * 3 + min(up, 2)) * 3 + min(behind, 2)) * 3 + min(before, 2)
        here = magnitude_level(means.place[channel * self.geometry.positions + position])
        return (expected_level(expected), around, here * 20 + magnitude_level(means.row),
                magnitude_level(means.local) * 20 + here,
                magnitude_level(means.map) * 20 + magnitude_level((left + up) * 128), 0)

    def _magnitude(self, magnitude: int, expected: int, position: int, contexts: Sequence[int], least: int) -> int:
        size = self._size(magnitude.bit_length(), expected, position, contexts, least)
        if size < 2:
            return size
        coded = 2 | self.mixer.code(magnitude >> size - 2 & 1, SECOND_BIT + min(size, 15), contexts)
        if size > 2:
            coded = coded * 2 | self.mixer.code_plainly(magnitude >> size - 3 & 1, min(size, 15) * 2 + (coded & 1))
        for place in range(size - 4, -1, -1):
            coded = coded * 2 | self.mixer.coder.code(magnitude >> place & 1, 1 << 15)
        return coded

    def _size(self, size: int, expected: int, position: int, contexts: Sequence[int], least: int) -> int:
        """The bit length of a magnitude: from the one that is expected upward or downward."""
        mixer, asked = self.mixer, min((3 * expected >> 10).bit_length(), EXPECTED_SIZES)
        choice = asked if asked else QUESTIONS + min(position, 31)
        if asked < least or mixer.code(int(size > asked), asked, contexts, choice):
            asked += 1
            while asked < 32 and mixer.code(int(size > asked), UPWARD + min(asked, 15), contexts):
                asked += 1
        else:
            while asked > least and not mixer.code(int(size > asked - 1), DOWNWARD + asked, contexts):
                asked -= 1
        return asked
