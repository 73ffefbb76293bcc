"""Which units of a network go: a ratio per layer or of all layers together, whole multiples, a target."""
from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import gcd, lcm
from pathlib import Path

import numpy as np

from .groups import Group, Key

Ratio = float | dict[Key, float]

SMALL_BLOCK, FEWEST = 8, 16  # channels; layers with fewer than the latter are not rounded


@cache
def channel_block(cpuinfo: Path = Path("/proc/cpuinfo")) -> int:
    """How many float32 channels oneDNN works on at a time here: 16 with AVX-512, otherwise 8."""
    if os.environ.get("DNNL_MAX_CPU_ISA", "").upper() in ("SSE41", "AVX", "AVX2"):
        return 8
    try:
        return 16 if "avx512f" in cpuinfo.read_text().split() else 8
    except OSError:
        return 8


@dataclass(frozen=True)
class Selection:
    """How units are chosen.

    Attributes
    ----------
    groups : list of Group
        Those that take part.
    importance : dict
        {group key: one number per unit}.
    before : dict
        {group key: units at the beginning}, before any step of a pruning in steps; ratios refer to these.
    scope : "layer" or "global"
    max_ratio : float
        No group loses more than this fraction; one unit stays in any case.
    round_to : int or None
        Each layer keeps a multiple of this many channels, or all; those that must stay are not counted. None takes
        what is fast here: multiples of :func:`channel_block` for layers of at least four blocks, of 8 for those of at
        least 16 channels, and any number for smaller ones; halves of these where nothing would go otherwise.
    """

    groups: list[Group]
    importance: dict[Key, np.ndarray]
    before: dict[Key, int]
    scope: str = "layer"
    max_ratio: float = 1.0
    round_to: int | None = None

    def at(self, ratio: Ratio) -> list[int]:
        """The units that go so that ``ratio``, a fraction or {group key: fraction}, is gone in all."""
        wanted, removed = self._wanted(ratio), []
        for group in self.groups:
            least_first = np.argsort(self.importance[group.key], kind="stable")
            removed += group.units[least_first[:self._allowed(group, wanted[group.key])]].tolist()
        return removed

    def for_target(self, target: float, cost: Callable[[list[int]], float], bisections: int) -> float:
        """The smallest ratio found for whose units ``cost(units)`` is at most ``target``; 1.0 when none is."""
        low, high = 0.0, 1.0
        for _ in range(bisections):
            middle = (low + high) / 2
            if cost(self.at(middle)) <= target:
                high = middle
            else:
                low = middle
        return high

    def held_back(self, ratio: Ratio) -> dict[str, str]:
        """{layer name: the limit by which it loses nothing at all, where ``ratio`` alone would take some}."""
        wanted, limits = self._wanted(ratio), {}
        for group in self.groups:
            if wanted[group.key] > 0 and not self._removed(group) and not self._allowed(group, wanted[group.key]):
                limit = f"round_to={self.round_to} rounds to all of them" if self._most(group) > 0 else \
                    f"max_ratio={self.max_ratio} is less than the least that can go"
                limits.update(dict.fromkeys(group.layers, limit))
        return limits

    def _wanted(self, ratio: Ratio) -> dict[Key, int]:
        """{group key: how many more units are to go, by ``ratio`` alone}."""
        if self.scope == "global" and not isinstance(ratio, dict):
            return self._global_counts(ratio)
        return {group.key: self._units_at(ratio, group.key) - self._removed(group) for group in self.groups}

    def _units_at(self, ratio: Ratio, key: Key) -> int:
        return round((ratio[key] if isinstance(ratio, dict) else ratio) * self.before[key])

    def _removed(self, group: Group) -> int:
        return self.before[group.key] - len(group.units)

    def _global_counts(self, ratio: float) -> dict[Key, int]:
        """How many of each group are among the least important of all."""
        owner = np.repeat(np.arange(len(self.groups)), [len(group.units) for group in self.groups])
        values = np.concatenate([self.importance[group.key] for group in self.groups])
        units = sum(self.before[group.key] for group in self.groups)
        count = round(ratio * units) - sum(map(self._removed, self.groups))
        least = np.argsort(values, kind="stable")[:max(count, 0)]
        counts = np.bincount(owner[least], minlength=len(self.groups))
        return {group.key: int(count) for group, count in zip(self.groups, counts)}

    def _most(self, group: Group) -> int:
        """How many units may go, apart from ``round_to``."""
        return min(len(group.units) - 1, int(self.max_ratio * self.before[group.key] + 1e-9) - self._removed(group))

    def _allowed(self, group: Group, count: int) -> int:
        """``count`` within ``max_ratio``, and such that a multiple of ``round_to`` channels stays."""
        count = min(count, self._most(group))
        if count <= 0:
            return 0
        return next(filter(None, (self._rounded(group, count, round_to) for round_to in self._multiples(group))), 0)

    def _multiples(self, group: Group) -> list[int]:
        """The multiples to try, until one lets something go."""
        if self.round_to is not None:
            return [self.round_to]
        channels, block = self.before[group.key] * min(group.channels), channel_block()
        first = block if channels >= 4 * block else SMALL_BLOCK if channels >= FEWEST else 1
        # once something is gone, a step of a pruning in steps may well take nothing
        return [first] if self._removed(group) else [first >> shift for shift in range(first.bit_length())]

    def _rounded(self, group: Group, count: int, round_to: int) -> int:
        """How many units go, so that a multiple of ``round_to`` channels stays."""
        units, most = len(group.units), self._most(group)
        multiple = lcm(*(round_to // gcd(round_to, channels) for channels in group.channels))  # of units
        kept = max(round((units - count) / multiple), 1) * multiple
        while units - kept > most:
            kept += multiple
        return max(units - kept, 0)
