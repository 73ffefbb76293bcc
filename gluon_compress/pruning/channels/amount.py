"""How much structured pruning removes: a ratio, a share of the multiply-accumulates, or a latency."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mxnet.gluon import HybridBlock

from ...arguments import check_number
from ...network.graph import Graph
from ...network.latency import measure_latency
from ...network.layer import Which
from ...network.resizing import put_back_afterwards
from ...tables import progress_bar
from .groups import Dependencies
from .removal import check_shapes, plan_of
from .selection import Selection

MACS_BISECTIONS = 24  # of the ratio: far below one channel
LATENCY_BISECTIONS = 7


@dataclass(frozen=True)
class Amount:
    """What is to be reached in the end: one of these is not None."""

    ratio: Any  # a number, or {layer name: number}, or by the keys of groups
    macs: float | None  # share to keep
    latency: float | None  # milliseconds

    def latency_of(self, net: HybridBlock, example: Any) -> float:
        """The milliseconds that the network takes, where that is what counts, else 0."""
        return 0.0 if self.latency is None else measure_latency(net, example, repeats=10).median

    def at(self, share: float, start: float) -> Amount:
        """What is to be reached after ``share`` of the way from ``start``, the latency of the whole network."""
        if isinstance(self.ratio, dict):
            return Amount({name: share * value for name, value in self.ratio.items()}, None, None)
        if self.ratio is not None:
            return Amount(share * self.ratio, None, None)
        if self.macs is not None:
            return Amount(None, (1 - share) + share * self.macs, None)
        assert self.latency is not None
        return Amount(None, None, (1 - share) * start + share * self.latency)


@dataclass(frozen=True)
class Costs:
    """What the network costs without some units, to find the ratio at which it costs no more than it may."""

    net: HybridBlock
    example: Any
    graph: Graph
    dependencies: Dependencies
    selection: Selection
    before: float  # MACs of the whole network

    def check_reachable(self, amount: Amount) -> None:
        """Raise ``ValueError`` when the amount is not reached by removing all that may be removed."""
        if amount.ratio is not None:
            return
        cost, target, _ = self._kind_of(amount)
        everything = self.selection.at(1.0)
        if cost([]) <= target or cost(everything) <= target:
            return
        if amount.macs is not None:
            raise ValueError(f"macs is {amount.macs}; accepted: at least {cost(everything) / self.before:.4f}, "
                             f"which is left when every layer that takes part loses as much as it may")
        raise ValueError(f"latency is {amount.latency} ms; that is not reached even when every layer that takes part "
                         f"loses as much as it may ({cost(everything):.3f} ms)")

    def ratio_for(self, amount: Amount) -> Any:
        """The ratio to ask of the selection."""
        if amount.ratio is not None:
            return amount.ratio
        cost, target, bisections = self._kind_of(amount)
        with progress_bar(show=amount.latency is not None, desc="networks measured",
                          total=bisections + 1) as bar:
            def counted(removed: list[int]) -> float:
                bar.update()
                return cost(removed)
            return 0.0 if counted([]) <= target else self.selection.for_target(target, counted, bisections)

    def _kind_of(self, amount: Amount) -> tuple[Callable[[list[int]], float], float, int]:
        if amount.macs is not None:
            return self.dependencies.macs, amount.macs * self.before, MACS_BISECTIONS
        assert amount.latency is not None
        return self._milliseconds, amount.latency, LATENCY_BISECTIONS

    def _milliseconds(self, removed: list[int]) -> float:
        with put_back_afterwards(self.net):
            plan = plan_of(self.dependencies, self.selection.groups, removed)
            check_shapes(self.graph, plan, self.net, self.dependencies.new_numbers(removed))
            plan.apply(self.net)
            return measure_latency(self.net, self.example, repeats=10, warmup=3).median


def check_amount(ratio: Any, macs: float | None, latency: float | None, scope: str, select: Which) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless exactly one of the amounts is given, and it is valid."""
    given = {name: value for name, value in (("ratio", ratio), ("macs", macs), ("latency", latency))
             if value is not None}
    if len(given) != 1:
        raise TypeError(f"{' and '.join(given) or 'nothing'} given; accepted: one of ratio, macs and latency")
    if isinstance(ratio, dict):
        if scope != "layer" or select is not None:
            raise TypeError(f"ratio has a fraction for each layer, beside select={select!r} and scope={scope!r}; "
                            f"accepted: select=None and scope='layer'")
        for name, value in ratio.items():
            check_number(f"ratio of {name}", value, minimum=0, below=1)
    elif ratio is not None:
        check_number("ratio", ratio, minimum=0, below=1)
    if macs is not None:
        check_number("macs", macs, above=0, below=1)
    if latency is not None:
        check_number("latency", latency, above=0)
