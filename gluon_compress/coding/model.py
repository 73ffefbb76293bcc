"""What the coder knows about the next value of an array: its neighbours, and running means of magnitudes around it.

An array is ``filters x channels x positions``, each channel a map whose rows have ``width`` positions, and is coded in
that order, by yes-or-no questions (``questions.py``) or as whole symbols (``symbols.py``). ``model.h`` is the same, far
faster.

Everything is an integer, so that all machines make the same bytes. Means of magnitudes are in 1/256.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .tables import RECIPROCAL

__all__ = ["Coding", "Geometry", "Settings"]

LARGEST = 32767  # what the means take larger magnitudes for
MOST_COUNTED = 250  # of a probability: how many bits it is the mean of, at most


class Geometry(NamedTuple):
    """How an array is seen; all are positive, and ``width`` divides ``positions``."""

    filters: int
    channels: int
    positions: int
    width: int

    @property
    def size(self) -> int:
        """Values of a filter."""
        return self.channels * self.positions

    @property
    def total(self) -> int:
        """Values of all filters."""
        return self.filters * self.size


class Settings(NamedTuple):
    """What the coder is told before the first value.

    Attributes
    ----------
    mean : int
        What magnitudes are expected to be, in 1/256.
    rate : int
        How fast the mixer learns, 0 ... 64.
    grouped, few : bool
        Whether groups that are all zero have a question of their own; whether few contexts are asked.
    shares : eight integers
        What each mean counts, in 1/1024.
    """

    mean: int
    rate: int
    grouped: bool
    few: bool
    shares: tuple[int, ...]


class Neighbours(NamedTuple):
    """Coded weights: left, up and diagonal in the map, at the same position one channel and one filter before."""

    left: int
    up: int
    diagonal: int
    behind: int
    before: int


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


def expected_level(expected: int) -> int:
    """An expected magnitude as one of 64 contexts, four an octave."""
    return min(max(level(expected, 2) - 6, 0), 63)


def clamp(number: int, limit: int) -> int:
    return max(-limit, min(limit, number))


def sign_of(number: int) -> int:
    """0, 1, 2 for negative, zero, positive."""
    return (number > 0) - (number < 0) + 1


def learn(cells: list[int], index: int, bit: int) -> None:
    """``p += (bit - p) / (n + 3/2)``"""
    count, probability = cells[index] & 1023, cells[index] >> 10
    target = (1 << 22) - 1 if bit else 0
    probability += (target - probability) * RECIPROCAL[count] + (1 << 15) >> 16
    cells[index] = probability << 10 | min(count + 1, MOST_COUNTED)


class Means:
    """Running means of magnitudes around a weight; those of its channel and place go through all filters so far."""

    def __init__(self, geometry: Geometry, mean: int) -> None:
        self.geometry = geometry
        self.mean = self.row = self.local = self.map = mean
        self.channel, self.place = [mean] * geometry.channels, [mean] * geometry.size
        self.place_sign = [0] * geometry.size
        self.begin_filter()

    def begin_filter(self) -> None:
        self.row, self.row_count, self.row_sign, self.groups = self.mean, 5, 0, 0

    def begin_map(self, channel: int) -> None:
        self.map = self.channel[channel]

    def expected(self, shares: Sequence[int], channel: int, place: int, left: int, up: int) -> int:
        """The weighted mean that settings say to expect, at least 0; ``left`` and ``up`` are magnitudes."""
        row, of_channel, of_place, local, of_map, of_left, of_up, of_all = shares
        total = (row * self.row + of_channel * self.channel[channel] + of_place * self.place[place]
                 + local * self.local + of_map * self.map + 256 * (of_left * left + of_up * up) + of_all * self.mean)
        return max(total >> 10, 0)

    def update_zeros(self, filter: int, channel: int, group: range) -> None:
        """What ``update`` does with zeros, but that the local mean falls as if the group were one of them."""
        local = self.local - (self.local >> 2)
        for position in group:
            self.update(0, filter, channel, position)
        self.local = local

    def update(self, value: int, filter: int, channel: int, position: int) -> None:
        """``mean += (magnitude - mean) rate`` for each of the means."""
        positions = self.geometry.positions
        magnitude, place = min(abs(value), LARGEST) << 8, channel * positions + position
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


class Coding:
    """An array as far as it is coded, and what that says of the next value. A decoder fills ``values`` in."""

    def __init__(self, values: list[int], geometry: Geometry, settings: Settings) -> None:
        self.values, self.geometry, self.settings = values, geometry, settings
        self.means = Means(geometry, settings.mean)

    def neighbours(self, filter: int, channel: int, position: int) -> Neighbours:
        _, _, positions, width = self.geometry
        values, column = self.values, position % width
        here = filter * self.geometry.size + channel * positions + position
        return Neighbours(*(clamp(value, LARGEST) for value in (
            values[here - 1] if column else 0,
            values[here - width] if position >= width else 0,
            values[here - width - 1] if column and position >= width else 0,
            values[here - positions] if channel else 0,
            values[here - self.geometry.size] if filter else 0)))

    def expected(self, channel: int, position: int, near: Neighbours) -> int:
        """The magnitude to expect, in 1/256."""
        place = channel * self.geometry.positions + position
        return self.means.expected(self.settings.shares, channel, place, abs(near.left), abs(near.up))

    def sign_contexts(self, channel: int, position: int, magnitude: int, near: Neighbours) -> tuple[int, ...]:
        left, up, diagonal, behind, before = near
        slope = 2 * left + 2 * up - diagonal + behind
        steps = min(level(abs(slope), 1), 12)
        of_place = self.means.place_sign[channel * self.geometry.positions + position]
        return ((12 - steps if slope < 0 else 12 + steps) * 4 + min(magnitude, 3),
                ((sign_of(left) * 3 + sign_of(up)) * 3 + sign_of(diagonal)) * 3 + sign_of(behind),
                (clamp(self.means.row_sign >> 5, 6) + 6) * 13 + clamp(of_place >> 5, 6) + 6,
                (sign_of(before) * 3 + sign_of(behind)) * 3 + sign_of(left + up))

    def keep(self, magnitude: int, negative: bool, filter: int, channel: int, position: int) -> bool:
        """Keep a value; False for one beyond 32 bits, which damaged content has."""
        if magnitude > (1 << 31) - (not negative):
            return False
        value = -magnitude if negative else magnitude
        self.values[filter * self.geometry.size + channel * self.geometry.positions + position] = value
        self.means.update(value, filter, channel, position)
        return True
