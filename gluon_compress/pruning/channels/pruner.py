"""Structured pruning: whole channels removed, so that the network really has smaller layers."""
from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from mxnet.gluon import HybridBlock

from ...arguments import check_choice, check_integer, check_number
from ...network.graph import Graph
from ...network.inputs import example_inputs
from ...network.layer import Which, selected_and_excluded
from ..criteria import Criterion, channel_criterion
from ..schedules import check_schedule, linear, one_shot
from .amount import Amount, Costs, check_amount
from .chosen_groups import check_leaves_channels, choose_by_ratio, choose_groups
from .groups import Dependencies, Key
from .plan import ChannelPlan
from .removal import check_shapes, plan_of
from .selection import Selection, channel_block

MOST = 0.75  # of the channels: cutting more than this for a latency usually means a wrong batch


def prune_channels(net: HybridBlock, example: Any, ratio: float | dict[str, float] | None = None,
                   criterion: Any = "l1", select: Which = None, exclude: Which = (), *, macs: float | None = None,
                   latency: float | None = None, scope: str = "layer", max_ratio: float = 1.0,
                   round_to: int | None = None) -> ChannelPlan:
    """Remove the least important output channels of the layers of a network, and everything that depends on them.

    The network's own graph shows which channels depend on each other, through additions, products with broadcasting,
    concatenations, splits, reshapes and grouped convolutions; see groups.py. Channels that pass through an operator
    without a rule stay; the plan names them with the reason, and likewise the layers that make the output.
    Attention loses whole heads, a recurrent layer hidden units: of an LSTM all four gates of one. Numbers in the code
    of a HybridBlock, such as those of the heads, become smaller where an attribute of a block holds them
    (``self.num_heads``); the plan names the channels that a number fixes which is no attribute.
    The smaller network computes what the original does without the contributions of the removed channels; where it
    sums over the channels, it takes the kept ones. A LayerNorm over channels keeps all of them: without one, its mean
    and variance would be others.
    Exactly one of ``ratio``, ``macs`` and ``latency`` says how much is removed.

    Parameters
    ----------
    net : HybridBlock
        Changed in place; a SymbolBlock too. Its parameters stay the same objects, with new shapes: make a new
        Trainer, and give the outermost block, or hybridize the outer one again, since a hybridized block keeps
        its graph.
    example : NDArray or tuple of NDArray
        A batch of the network's input; only its shape matters, except for ``latency``.
    ratio : float or dict
        Fraction of channels to remove, in [0, 1): from each layer, rounded to whole channels; with
        ``scope="global"`` of all channels together; or {layer name: fraction}, for ``scope="layer"`` only, which
        leaves all others alone.
        Layers whose channels go together need one name.
    criterion : str, criterion or callable
        How channels are ranked, see criteria.py: "l1", "l2" (norms of their weights, without bias), "fpgm",
        "bn_scale", "random"; an object, :class:`Taylor(data, loss) <Taylor>`, :class:`Random(seed) <Random>`,
        :class:`BatchNormScale` or :class:`WeightCriterion`; or a function from a weight as a NumPy array, output
        channels first, to one number per channel.
    select, exclude : name, kind, class or function of layers, or several of these
        Which layers lose channels, by default all that can, and which keep theirs; see
        :func:`~gluon_compress.network.select_layers`. What counts is the channels that a layer makes: one that is
        excluded still loses input channels where the layer before it loses the channels. Layers whose channels go
        together lose them when one of them is selected and none excluded. Not ``select`` beside a ``ratio`` for
        each layer.
    macs : float
        Share of the multiply-accumulates to keep at most, in (0, 1): 0.5 for half.
    latency : float
        Milliseconds, above 0, that a forward pass of the **whole batch** ``example`` may take at most, as the network
        is now (hybridized or not); found by measuring networks in between. A warning says when that takes more than
        three quarters of the channels. A terminal shows a progress bar meanwhile.
    scope : "layer" or "global"
        "global" compares the channels of all layers, each layer's importances divided by their mean.
    max_ratio : float
        No layer loses more than this fraction, in (0, 1].
    round_to : int, optional
        Layers keep a multiple of this many channels. The nearest multiple is taken, which may be fewer than ``ratio``
        leaves. Channels that must stay, which the plan's notes name, come on top. By default what is fast on this
        machine, whose kernels work on 16 channels at a time (AVX-512) or 8: multiples of that for layers of at least
        four times as many channels, of 8 for those of at least 16, and any number for smaller ones. The plan says
        which; 1 gives just the ratio, which may be slower than the whole network. With AVX-512, 16 for all layers is
        faster still where many have fewer than 64 channels, in fp32 and on integers: ``benchmarks/int8_channels.py``.

    Returns
    -------
    ChannelPlan

    Raises
    ------
    TypeError, ValueError
        For arguments of another kind, numbers out of range or that would empty a layer, names that match nothing,
        an example that does not fit, a target that cannot be reached, and when nothing in the network can be pruned.
    NetworkError
        When the network cannot be traced, or has weights that are not finite.

    The network is then unchanged.

    Li et al., "Pruning Filters for Efficient ConvNets", 2017, section 3; Fang et al., "DepGraph", 2023.
    """
    return next(prune_channels_in_steps(
        net, example, ratio, steps=1, schedule=one_shot, criterion=criterion, select=select, exclude=exclude,
        macs=macs, latency=latency, scope=scope, max_ratio=max_ratio, round_to=round_to))


def prune_channels_in_steps(net: HybridBlock, example: Any, ratio: float | dict[str, float] | None = None,
                            steps: int = 5, schedule: Callable[[float], float] = linear, criterion: Any = "l1",
                            select: Which = None, exclude: Which = (), *, macs: float | None = None,
                            latency: float | None = None, scope: str = "layer", max_ratio: float = 1.0,
                            round_to: int | None = None) -> Iterator[ChannelPlan]:
    """Remove channels bit by bit, to fine-tune in between: a generator of the plans so far.

    >>> for plan in prune_channels_in_steps(net, example, ratio=0.5, steps=5):
    ...     fine_tune(net)              # with a new Trainer each time: the shapes have changed
    >>> gc.save("small.gcz", net, plan)

    Parameters
    ----------
    steps : int
        At least 1.
    schedule : callable
        Maps the share of the steps done to the share of the removal done, both in [0, 1]; see schedules.py.

    The others are those of :func:`prune_channels`, and refer to the network as it is at the beginning. Channels are
    ranked anew at each step. Each plan fits the original network, not the one of the step before. Raises
    ``RecordError`` when channels were removed in any other way between two steps.
    """
    criterion = channel_criterion(criterion)
    check_choice("scope", scope, ("layer", "global"))
    check_number("max_ratio", max_ratio, above=0, maximum=1)
    if round_to is not None:
        check_integer("round_to", round_to, minimum=1)
    check_amount(ratio, macs, latency, scope, select)
    check_integer("steps", steps, minimum=1)
    check_schedule(schedule)
    if steps > 1:
        criterion.check_repeatable()
    options = _Options(criterion, *selected_and_excluded(net, select, exclude), scope, max_ratio, round_to)
    shares = [schedule(step / steps) for step in range(1, steps + 1)]
    return _steps(net, example, Amount(ratio, macs, latency), shares, options)


@dataclass(frozen=True)
class _Options:
    criterion: Criterion
    selected: set[str]  # names of layers
    excluded: set[str]
    scope: str
    max_ratio: float
    round_to: int | None


def _steps(net: HybridBlock, example: Any, amount: Amount, shares: list[float],
           options: _Options) -> Iterator[ChannelPlan]:
    plan: ChannelPlan | None = None
    start = amount.latency_of(net, example)
    for share in shares:
        if plan is not None:
            plan.check(net)
        graph = Graph(net, example)
        if plan is None:
            dependencies = Dependencies(graph, net)
            before = {group.key: len(group.units) for group in dependencies.groups}
            macs = dependencies.macs()
        selection, final, left_out = _prepare(net, dependencies, amount, options, before)
        costs = Costs(net, example, graph, dependencies, selection, macs)
        if plan is None:
            costs.check_reachable(final)  # now, not at the last step
        ratio = costs.ratio_for(final.at(share, start))
        removed = selection.at(ratio)
        if amount.latency is not None and len(removed) > MOST * sum(len(group.units) for group in selection.groups):
            _warn_of_little_left(amount, start, example, removed, selection)
        step = plan_of(dependencies, selection.groups, removed, left_out, selection.held_back(ratio))
        if options.round_to is None:
            smaller = " or 8" if channel_block() > 8 else ""
            step.rounding = (f"layers of at least 16 channels keep multiples of {channel_block()}{smaller}, which is "
                             f"fast here, or of less where nothing would go otherwise, and lose more or less than was "
                             f"asked; round_to=1 keeps the ratio exactly")
        check_shapes(graph, step, net, dependencies.new_numbers(removed))
        step.apply(net)
        plan = step if plan is None else plan | step
        yield plan
        dependencies = dependencies.without(removed)


def _warn_of_little_left(amount: Amount, start: float, example: Any, removed: list[int], selection: Selection) -> None:
    units, samples = sum(len(group.units) for group in selection.groups), len(example_inputs(example)[0])
    warnings.warn(f"latency={amount.latency:g} ms leaves {units - len(removed)} of {units} channels: it is meant for "
                  f"the whole example, a batch of {samples}, which took {start:.3g} ms before; give the batch that you "
                  f"will run, or a latency nearer to that",
                  stacklevel=3 + (sys._getframe(2).f_code is prune_channels.__code__))


def _prepare(net: HybridBlock, dependencies: Dependencies, amount: Amount, options: _Options,
             before: dict[Key, int]) -> tuple[Selection, Amount, dict[str, str]]:
    """(the Selection, the amount with ratios by group, {layer name: why it stays}), all checked."""
    if not dependencies.groups:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in dependencies.left_out.items())
        raise ValueError(f"no layer of this network can lose channels: {reasons or 'it has none'}")
    importance, unranked = options.criterion.of_channels(net, dependencies)
    left_out = dict(dependencies.left_out)
    for group in dependencies.groups:
        if group.key in unranked:
            left_out.update(dict.fromkeys(group.layers, unranked[group.key]))
    groups = [group for group in dependencies.groups if group.key not in unranked]
    if not groups:
        raise ValueError(f"criterion={options.criterion} ranks no layer of this network: "
                         f"{'; '.join(f'{key[0]}: {reason}' for key, reason in unranked.items())}")
    ratio = amount.ratio
    if isinstance(ratio, dict):
        groups, ratio = choose_by_ratio(groups, ratio, options.excluded, left_out)
    else:
        groups = choose_groups(groups, options.selected, options.excluded, left_out)
    selection = Selection(groups, importance, before, options.scope, options.max_ratio, options.round_to)
    if ratio is not None:
        check_leaves_channels(selection, ratio)
    return selection, replace(amount, ratio=ratio), left_out
