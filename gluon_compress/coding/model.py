"""What the coder knows about the next weight: the model, in plain Python. ``model.h`` is the same, far faster.

An array is ``filters x channels x positions``, each channel a map whose rows have ``width`` positions, and is coded in
that order. Integers are coded by yes-or-no questions, each with a probability of its own (Marpe, Schwarz & Wiegand,
"Context-based adaptive binary arithmetic coding", 2003): first the size, which is the bit length of the magnitude,
upward or downward from the size that is expected here; then the bits below the first, then the sign.

Six contexts, of signs four, give as many adaptive estimates of each probability, and an online logistic regression
mixes them (Mahoney 2005, see ``tables.py``): weights ``w`` are learned for each question,

    p = squash(sum_i w_i stretch(p_i)),    w_i += rate (bit - p) stretch(p_i)

The first half of the contexts says nearly as much, in three quarters of the time: settings say whether all are asked
or these few.

Everything is an integer, so that all machines make the same bytes. Means of magnitudes are in 1/256.
"""
from __future__ import annotations

from collections.abc import Sequence

from .range_coder import RangeDecoder, RangeEncoder
from .tables import MIXED, RECIPROCAL, SQUASH, STRETCH

__all__ = ["decode", "encode"]

INPUTS, SIGN_INPUTS = (6, 3), (4, 2)  # of all contexts, of few
CELLS, QUESTIONS = 512, 64  # contexts per input, questions per context
LARGEST = 32767  # what the means take larger magnitudes for
HEAVIEST = 1 << 18  # weight of the mixer, of 65536: sums of products fit into 32 bits
MOST_COUNTED = 250  # of a probability: how many bits it is the mean of, at most
# Where the questions are numbered from: which of them a question is, depends on the size that it asks for.
UPWARD, DOWNWARD, GROUP, SIGN, SECOND_BIT = 16, 32, 46, 47, 48
EXPECTED_SIZES = 8  # the largest size to begin with
WHOLE_MAP, GROUP_LENGTH = 25, 8  # a map of so many positions is one group; of how many it is otherwise

Geometry = tuple[int, int, int, int]  # filters, channels, positions, width
Settings = tuple[int, ...]
Coder = RangeEncoder | RangeDecoder
Neighbours = tuple[int, ...]  # left, up, diagonal, behind, before


def encode(values: list[int], geometry: Geometry, settings: Settings) -> bytes:
    """The bytes of a list of integers within -2^31 ... 2^31 - 1.

    Parameters
    ----------
    geometry : (filters, channels, positions, width)
        Positive; their product without the width is the number of values, ``width`` divides ``positions``.
    settings : (mean, rate, grouped, few, eight shares)
        What magnitudes are expected to be, in 1/256; how fast the mixer learns, 0 ... 64; whether groups that are all
        zero have a question of their own; whether few contexts are asked; what each mean counts, in 1/1024.
    """
    coder = RangeEncoder()
    _code(coder, values, geometry, settings)
    return coder.finish()


def decode(content: bytes, geometry: Geometry, settings: Settings) -> list[int] | None:
    """The list of integers, or None when the content is damaged, too short or too long."""
    filters, channels, positions, _ = geometry
    coder, values = RangeDecoder(content), [0] * (filters * channels * positions)
    whole = _code(coder, values, geometry, settings) and coder.position >= len(content)
    return values if whole else None


def level(number: int, bits: int) -> int:
    """The logarithm of ``number`` with ``2^bits`` levels an octave; numbers below ``2^bits`` are their own."""
    if number < 1 << bits:
        return number
    length = number.bit_length()
    return (length - bits << bits) + (number >> length - 1 - bits & (1 << bits) - 1)


def least_of_level(number: int, bits: int) -> int:
    """The least number of which ``number`` is the :func:`level`."""
    if number < 1 << bits:
        return number
    above_first = (number >> bits) - 1  # octaves
    return ((1 << bits) + (number & (1 << bits) - 1)) << above_first


def magnitude_level(mean: int) -> int:
    """A mean of magnitudes as one of 20 contexts, two an octave, the least below 1/20."""
    return min(max(level(mean, 1) - 7, 0), 19)


def clamp(number: int, limit: int) -> int:
    return max(-limit, min(limit, number))


def sign_of(number: int) -> int:
    """0, 1, 2 for negative, zero, positive."""
    return (number > 0) - (number < 0) + 1


class Mixer:
    """Codes bits by the mixed predictions of several contexts.

    A cell is a probability of 22 bits above a count of 10. It begins as the mean of the bits that it saw, and forgets
    slowly once it has seen MOST_COUNTED.
    """

    def __init__(self, coder: Coder, rate: int, few: int) -> None:
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


def learn(cells: list[int], index: int, bit: int) -> None:
    """``p += (bit - p) / (n + 3/2)``"""
    count, probability = cells[index] & 1023, cells[index] >> 10
    target = (1 << 22) - 1 if bit else 0
    probability += (target - probability) * RECIPROCAL[count] + (1 << 15) >> 16
    cells[index] = probability << 10 | min(count + 1, MOST_COUNTED)


class Means:
    """Running means of magnitudes around a weight; those of its channel and place go through all filters so far."""

    def __init__(self, channels: int, positions: int, mean: int) -> None:
        self.mean = self.row = self.local = self.map = mean
        self.channel, self.place = [mean] * channels, [mean] * (channels * positions)
        self.place_sign = [0] * (channels * positions)
        self.begin_filter()

    def begin_filter(self) -> None:
        self.row, self.row_count, self.row_sign, self.groups = self.mean, 5, 0, 0

    def begin_map(self, channel: int) -> None:
        self.map = self.channel[channel]

    def expected(self, share: Sequence[int], channel: int, place: int, left: int, up: int) -> int:
        """The weighted mean that a preset says to expect, ``share`` in 1/1024."""
        return (share[0] * self.row + share[1] * self.channel[channel] + share[2] * self.place[place]
                + share[3] * self.local + share[4] * self.map + 256 * (share[5] * left + share[6] * up)
                + share[7] * self.mean) >> 10

    def update_zeros(self, filter: int, channel: int, begin: int, end: int, positions: int) -> None:
        """What ``update`` does with zeros, but that the local mean falls as if the group were one of them."""
        local = self.local - (self.local >> 2)
        for position in range(begin, end):
            self.update(0, filter, channel, position, positions, channel * positions + position)
        self.local = local

    def update(self, value: int, filter: int, channel: int, position: int, positions: int, place: int) -> None:
        """``mean += (magnitude - mean) rate`` for each of the means."""
        magnitude = min(abs(value), LARGEST) << 8
        self.row += (magnitude - self.row) * RECIPROCAL[self.row_count] >> 16
        self.row_count = min(self.row_count + 1, 205)
        self.local += magnitude - self.local >> 2
        seen = min(filter * positions + position, 200) + 3
        self.channel[channel] += (magnitude - self.channel[channel]) * RECIPROCAL[seen] >> 16
        self.place[place] += (magnitude - self.place[place]) * RECIPROCAL[min(filter, 40) + 2] >> 16
        self.map += (magnitude - self.map) * RECIPROCAL[min(position, 200)] >> 16
        sign = (value > 0) - (value < 0) << 8
        self.row_sign += sign - self.row_sign >> 5
        self.place_sign[place] += sign - self.place_sign[place] >> 3


def neighbours_of(values: list[int], place: int, row_begin: int, size: int, position: int, positions: int,
                width: int) -> Neighbours:
    """Coded weights: left, up and diagonal in the map, at the same position one channel and one filter before."""
    begin, column = row_begin + place, position % width
    left = values[begin - 1] if column else 0
    up = values[begin - width] if position >= width else 0
    diagonal = values[begin - width - 1] if column and position >= width else 0
    behind = values[begin - positions] if place >= positions else 0
    before = values[begin - size] if row_begin else 0
    return tuple(clamp(value, LARGEST) for value in (left, up, diagonal, behind, before))


def _magnitude_contexts(means: Means, place: int, expected: int, neighbours: Neighbours) -> tuple[int, ...]:
    left, up, _, behind, before = (abs(value) for value in neighbours)
    near = ((min(left, 2) * 3 + min(up, 2)) * 3 + min(behind, 2)) * 3 + min(before, 2)
    here = magnitude_level(means.place[place])
    return (min(max(level(expected, 2) - 6, 0), 63), near, here * 20 + magnitude_level(means.row),
            magnitude_level(means.local) * 20 + here,
            magnitude_level(means.map) * 20 + magnitude_level((left + up) * 128), 0)


def sign_contexts(means: Means, place: int, magnitude: int, neighbours: Neighbours) -> tuple[int, ...]:
    left, up, diagonal, behind, before = neighbours
    slope = 2 * left + 2 * up - diagonal + behind
    steps = min(level(abs(slope), 1), 12)
    return ((12 - steps if slope < 0 else 12 + steps) * 4 + min(magnitude, 3),
            ((sign_of(left) * 3 + sign_of(up)) * 3 + sign_of(diagonal)) * 3 + sign_of(behind),
            (clamp(means.row_sign >> 5, 6) + 6) * 13 + clamp(means.place_sign[place] >> 5, 6) + 6,
            (sign_of(before) * 3 + sign_of(behind)) * 3 + sign_of(left + up))


def _code_size(mixer: Mixer, size: int, expected: int, position: int, contexts: Sequence[int], least: int) -> int:
    """The bit length of a magnitude: from the one that is expected upward or downward."""
    asked = min((3 * expected >> 10).bit_length(), EXPECTED_SIZES)
    choice = asked if asked else QUESTIONS + min(position, 31)
    if asked < least or mixer.code(int(size > asked), asked, contexts, choice):
        asked += 1
        while asked < 32 and mixer.code(int(size > asked), UPWARD + min(asked, 15), contexts):
            asked += 1
    else:
        while asked > least and not mixer.code(int(size > asked - 1), DOWNWARD + asked, contexts):
            asked -= 1
    return asked


def _code_magnitude(mixer: Mixer, magnitude: int, expected: int, position: int, contexts: Sequence[int],
                    least: int) -> int:
    size = _code_size(mixer, magnitude.bit_length(), expected, position, contexts, least)
    if size < 2:
        return size
    coded = 2 | mixer.code(magnitude >> size - 2 & 1, SECOND_BIT + min(size, 15), contexts)
    if size > 2:
        coded = coded * 2 | mixer.code_plainly(magnitude >> size - 3 & 1, min(size, 15) * 2 + (coded & 1))
    for place in range(size - 4, -1, -1):
        coded = coded * 2 | mixer.coder.code(magnitude >> place & 1, 1 << 15)
    return coded


def _code(coder: Coder, values: list[int], geometry: Geometry, settings: Settings) -> bool:
    """Code all ``values``, a list, in place: a decoder fills it in. False when the content is damaged."""
    filters, channels, positions, _ = geometry
    mean, rate, grouped, few, *share = settings
    mixer, means = Mixer(coder, rate, few), Means(channels, positions, mean)
    length = GROUP_LENGTH if grouped and positions > WHOLE_MAP else positions
    for filter in range(filters):
        means.begin_filter()
        for channel in range(channels):
            means.begin_map(channel)
            for begin in range(0, positions, length):
                group = range(begin, min(begin + length, positions))
                if not _code_group(mixer, means, values, geometry, grouped, share, filter, channel, group, length):
                    return False
    return True


def _code_group(mixer: Mixer, means: Means, values: list[int], geometry: Geometry, grouped: int,
                share: Sequence[int], filter: int, channel: int, group: range, length: int) -> bool:
    """Values that follow each other; False when the content is damaged."""
    _, channels, positions, _ = geometry
    start = (filter * channels + channel) * positions
    some = not grouped
    if grouped and not _code_presence(mixer, means, values, geometry, share, filter, channel, group, length):
        means.update_zeros(filter, channel, group.start, group.stop, positions)
        return not mixer.coder.past_the_end()
    for position in group:
        least = int(not some and position == group.stop - 1)  # the last of a group that is not all zero
        if not _code_value(mixer, means, values, geometry, share, filter, channel, position, least):
            return False
        some = some or values[start + position] != 0
    return True


def _code_presence(mixer: Mixer, means: Means, values: list[int], geometry: Geometry, share: Sequence[int],
                   filter: int, channel: int, group: range, length: int) -> int:
    """Whether a group holds anything but zeros."""
    _, channels, positions, _ = geometry
    place, size, count = channel * positions + group.start, channels * positions, len(group)
    start = filter * size + place

    def nonzeros(begin: int) -> int:
        return sum(value != 0 for value in values[begin:begin + count])

    here = magnitude_level(sum(means.place[place:place + count]) // count)
    before = min(nonzeros(start - size), 7) if filter else 0
    behind = min(nonzeros(start - length), 7) if place >= length else 0
    expected = max(means.expected(share, channel, place + count // 2, 0, 0), 0)
    contexts = (min(max(level(expected, 2) - 6, 0), 63), before * 8 + behind, here * 20 + magnitude_level(means.row),
                magnitude_level(means.local) * 20 + here,
                magnitude_level(means.map) * 20 + means.groups + 2 * min(behind, 5), 0)
    present = mixer.code(int(nonzeros(start) > 0), GROUP, contexts)
    means.groups = (means.groups * 2 + present) & 7
    return present


def _code_value(mixer: Mixer, means: Means, values: list[int], geometry: Geometry, share: Sequence[int], filter: int,
                channel: int, position: int, least: int) -> bool:
    """One value, whose magnitude is known to be at least 0 or 1; False when the content is damaged."""
    _, channels, positions, width = geometry
    place, size = channel * positions + position, channels * positions
    value = values[filter * size + place]
    neighbours = neighbours_of(values, place, filter * size, size, position, positions, width)
    expected = max(means.expected(share, channel, place, abs(neighbours[0]), abs(neighbours[1])), 0)
    contexts = _magnitude_contexts(means, place, expected, neighbours)
    magnitude = _code_magnitude(mixer, abs(value), expected, position, contexts, least)
    negative = magnitude and mixer.code(int(value < 0), SIGN, sign_contexts(means, place, magnitude, neighbours))
    if magnitude > (1 << 31) - (not negative):
        return False
    values[filter * size + place] = -magnitude if negative else magnitude
    means.update(values[filter * size + place], filter, channel, position, positions, place)
    return not mixer.coder.past_the_end()
