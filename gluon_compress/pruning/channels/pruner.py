"""Structured pruning: whole channels removed, so that the network really has smaller layers."""
import sys
import warnings
from dataclasses import dataclass, replace

import mxnet as mx

from ...arguments import check_choice, check_flag, check_integer, check_number
from ...errors import NetworkError
from ...network.data import check_repeatable
from ...network.graph import Graph
from ...network.inputs import example_inputs
from ...network.layer import selected_and_excluded
from ...network.latency import measure_latency
from ...network.resizing import put_back_afterwards, resized_symbol
from ...network.values import parameters
from ...tables import progress_bar
from ..schedules import check_schedule, linear, one_shot
from .chosen_groups import check_leaves_channels, choose_by_ratio, choose_groups
from .criteria import CRITERIA, unit_importance
from .groups import Dependencies
from .plan import ChannelPlan
from .selection import Selection, channel_block

MACS_BISECTIONS = 24  # of the ratio: far below one channel
LATENCY_BISECTIONS = 7
MOST = 0.75  # of the channels: who cuts more for a latency, has mostly mistaken the batch


def prune_channels(net, example, ratio=None, criterion="l1", select=None, exclude=(), *, macs=None, latency=None,
                   scope="layer", over="group", max_ratio=1.0, round_to=None, data=None, loss=None, seed=0,
                   progress=True):
    """Remove the least important output channels of the layers of a network, and all that hangs on them.

    The network's own graph tells what goes together: through additions, products with broadcasting,
    concatenations, splits, reshapes and grouped convolutions; see groups.py. What passes through an operator
    without a rule stays, and the plan names it with the reason, as it does the layers that make the output.
    The smaller network computes what the original does without the contributions of the removed channels; where it
    sums or normalizes over the channels (LayerNorm, ``sum``), it takes the kept ones.
    Just one of ``ratio``, ``macs`` and ``latency`` says how much goes.

    Parameters
    ----------
    net : HybridBlock
        Changed in place; a SymbolBlock too. Its parameters stay the same objects, with new shapes: make a new
        Trainer, and give the outermost block, or hybridize the outer one again, since a hybridized block keeps
        its graph.
    example : NDArray or tuple of NDArray
        A batch of the network's input; only its shape matters, but for ``latency``.
    ratio : float or dict
        Fraction of channels to remove, in [0, 1): from each layer, rounded to whole channels; with
        ``scope="global"`` of all channels together; or {layer name: fraction}, for ``scope="layer"`` only, which
        leaves all others alone.
        Layers whose channels go together need one name.
    criterion : str or callable
        How channels are ranked, see criteria.py: "l1", "l2" (norms of their weights, without bias), "fpgm",
        "bn_scale", "taylor" (needs ``data``), "random", or a function from a weight as a NumPy array, output
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
        Milliseconds, above 0, that a forward pass of the **whole batch** ``example`` shall take at most, as the network
        is now (hybridized or not); found by measuring networks in between. A warning says when that takes more than
        three quarters of the channels.
    scope : "layer" or "global"
        "global" compares the channels of all layers, each layer's importances divided by their mean.
    over : "group" or "first"
        Channels that go together are ranked over all the layers that make them, or by the first.
    max_ratio : float
        No layer loses more than this fraction, in (0, 1].
    round_to : int, optional
        Layers keep a multiple of so many channels. The nearest multiple is taken, which may be fewer than ``ratio``
        leaves. Channels that must stay, which the plan's notes name, come on top. By default what is fast on this
        machine, whose kernels work on 16 channels at a time (AVX-512) or 8: multiples of that for layers of at least
        four times as many channels, of 8 for those of at least 16, and any number for smaller ones. The plan says
        which; 1 gives just the ratio, which may be slower than the whole network.
    data : iterable of (input, label) batches
        For "taylor", ``input`` being a tuple where the network has several; other criteria do not look at it, nor at
        ``loss``.
    loss : callable, optional
        For "taylor": ``loss(output, label)``; by default the cross entropy of logits.
    seed : int
        For "random".
    progress : bool
        Show a progress bar on standard error while networks are measured for ``latency``.

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

    The network is unchanged then.

    Li et al., "Pruning Filters for Efficient ConvNets", 2017, section 3; Fang et al., "DepGraph", 2023.
    """
    return next(prune_channels_in_steps(
        net, example, ratio, steps=1, schedule=one_shot, criterion=criterion, select=select, exclude=exclude,
        macs=macs, latency=latency, scope=scope, over=over, max_ratio=max_ratio, round_to=round_to, data=data,
        loss=loss, seed=seed, progress=progress))


def prune_channels_in_steps(net, example, ratio=None, steps=5, schedule=linear, criterion="l1", select=None,
                            exclude=(), *, macs=None, latency=None, scope="layer", over="group", max_ratio=1.0,
                            round_to=None, data=None, loss=None, seed=0, progress=True):
    """Remove channels bit by bit, to fine-tune in between: a generator of the plans so far.

    >>> for plan in prune_channels_in_steps(net, example, ratio=0.5, steps=5):
    ...     fine_tune(net)              # with a new Trainer each time: the shapes have changed
    >>> gc.save("small.gcz", net, plan)

    Parameters
    ----------
    steps : int
        At least 1.
    schedule : callable
        Which share of the whole way is gone after which share of the steps, both in [0, 1]; see schedules.py.

    The others are those of :func:`prune_channels`, and refer to the network as it is in the beginning. Each step
    goes through ``data`` again, so that it cannot be a generator. Each plan fits the original network, not the one of
    the step before. Raises ``RecordError`` when channels were removed otherwise between two steps.
    """
    _check_arguments(criterion, scope, over, max_ratio, round_to, data, loss, seed)
    _check_amount(ratio, macs, latency, scope, select)
    check_flag("progress", progress)
    check_integer("steps", steps, minimum=1)
    check_schedule(schedule)
    if criterion == "taylor" and steps > 1:
        check_repeatable(data, "data")
    options = _Options(criterion, *selected_and_excluded(net, select, exclude), scope, over, max_ratio, round_to,
                       data, loss, seed, progress)
    amount = _Amount(ratio, macs, latency)
    return _steps(net, example, amount, [schedule(step / steps) for step in range(1, steps + 1)], options)


@dataclass(frozen=True)
class _Options:
    criterion: object
    selected: set  # names of layers
    excluded: set
    scope: str
    over: str
    max_ratio: float
    round_to: object
    data: object
    loss: object
    seed: int
    progress: bool


@dataclass(frozen=True)
class _Amount:
    """What is to be reached in the end: one of these is not None."""

    ratio: object  # a number, or {layer name: number}, or by the keys of groups
    macs: float
    latency: float

    def at(self, share, start):
        """What is to be reached after ``share`` of the way from ``start``, the latency of the whole network."""
        if isinstance(self.ratio, dict):
            return _Amount({name: share * value for name, value in self.ratio.items()}, None, None)
        if self.ratio is not None:
            return _Amount(share * self.ratio, None, None)
        if self.macs is not None:
            return _Amount(None, (1 - share) + share * self.macs, None)
        return _Amount(None, None, (1 - share) * start + share * self.latency)


def _steps(net, example, amount, shares, options):
    plan = None
    start = measure_latency(net, example, repeats=10).median if amount.latency is not None else None
    for share in shares:
        if plan is not None:
            plan.check(net)
        graph = Graph(net, example)
        if plan is None:
            dependencies = Dependencies(graph, net)
            before = {group.key: len(group.units) for group in dependencies.groups}
            macs = dependencies.macs()
        selection, final, untouched = _prepare(net, dependencies, amount, options, before)
        costs = _Costs(net, example, graph, dependencies, selection, macs, options.progress)
        if plan is None:
            costs.check_reachable(final)  # now, not at the last step
        ratio = costs.ratio_for(final.at(share, start))
        removed = selection.at(ratio)
        if amount.latency is not None and len(removed) > MOST * sum(len(group.units) for group in selection.groups):
            _warn_of_little_left(amount, start, example, removed, selection)
        step = _plan(dependencies, selection.groups, removed, untouched, selection.held_back(ratio))
        if options.round_to is None:
            smaller = ", or of 8" if channel_block() > 8 else ""
            step.rounding = (f"layers of at least 16 channels keep multiples of {channel_block()}{smaller}, which is "
                             f"fast here, and lose more or less than was asked; round_to=1 keeps the ratio exactly")
        _check_shapes(graph, step, net)
        step.apply(net)
        plan = step if plan is None else plan | step
        yield plan
        dependencies = dependencies.without(removed)


def _warn_of_little_left(amount, start, example, removed, selection):
    units, samples = sum(len(group.units) for group in selection.groups), len(example_inputs(example)[0])
    warnings.warn(f"latency={amount.latency:g} ms leaves {units - len(removed)} of {units} channels: it is meant for "
                  f"the whole example, a batch of {samples}, which took {start:.3g} ms before; give the batch that you "
                  f"will run, or a latency nearer to that",
                  stacklevel=3 + (sys._getframe(2).f_code is prune_channels.__code__))


def _prepare(net, dependencies, amount, options, before):
    """(the Selection, the amount with ratios by group, {layer name: why it stays}), all checked."""
    if not dependencies.groups:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in dependencies.untouched.items())
        raise ValueError(f"no layer of this network can lose channels: {reasons or 'it has none'}")
    importance, unranked = unit_importance(net, dependencies, options.criterion, options.over, options.data,
                                           options.loss, options.seed)
    untouched = dict(dependencies.untouched)
    for group in dependencies.groups:
        if group.key in unranked:
            untouched.update(dict.fromkeys(group.layers, unranked[group.key]))
    groups = [group for group in dependencies.groups if group.key not in unranked]
    if not groups:
        raise ValueError(f"criterion={options.criterion!r} ranks no layer of this network: "
                         f"{'; '.join(f'{key[0]}: {reason}' for key, reason in unranked.items())}")
    ratio = amount.ratio
    if isinstance(ratio, dict):
        groups, ratio = choose_by_ratio(groups, ratio, options.excluded, untouched)
    else:
        groups = choose_groups(groups, options.selected, options.excluded, untouched)
    selection = Selection(groups, importance, before, options.scope, options.max_ratio, options.round_to)
    if ratio is not None:
        check_leaves_channels(selection, ratio)
    return selection, replace(amount, ratio=ratio), untouched


@dataclass(frozen=True)
class _Costs:
    """What the network costs without some units, to find the ratio at which it costs no more than it may."""

    net: object
    example: object
    graph: Graph
    dependencies: Dependencies
    selection: Selection
    before: float  # MACs of the whole network
    progress: bool

    def check_reachable(self, amount):
        """Raise ``ValueError`` when the amount is not reached by removing all that may be removed."""
        if amount.ratio is not None:
            return
        cost, target, _ = self._kind_of(amount)
        everything = self.selection.at(1.0)
        if cost([]) <= target or cost(everything) <= target:
            return
        if amount.macs is not None:
            raise ValueError(f"macs is {amount.macs}; accepted here: at least {cost(everything) / self.before:.4f}, "
                             f"which is left when every layer that takes part loses all it may")
        raise ValueError(f"latency is {amount.latency} ms; that is not reached even when every layer that takes part "
                         f"loses all it may ({cost(everything):.3f} ms)")

    def ratio_for(self, amount):
        """The ratio to ask of the selection."""
        if amount.ratio is not None:
            return amount.ratio
        cost, target, bisections = self._kind_of(amount)
        with progress_bar(show=self.progress and amount.latency is not None, desc="networks measured",
                          total=bisections + 1) as bar:
            def counted(removed):
                bar.update()
                return cost(removed)
            return 0.0 if counted([]) <= target else self.selection.for_target(target, counted, bisections)

    def _kind_of(self, amount):
        if amount.macs is not None:
            return self.dependencies.macs, amount.macs * self.before, MACS_BISECTIONS
        return self._milliseconds, amount.latency, LATENCY_BISECTIONS

    def _milliseconds(self, removed):
        with put_back_afterwards(self.net):
            plan = _plan(self.dependencies, self.selection.groups, removed)
            _check_shapes(self.graph, plan, self.net)
            plan.apply(self.net)
            return measure_latency(self.net, self.example, repeats=10, warmup=3).median


def _plan(dependencies, groups, removed, untouched=(), held_back=()):
    gone = set(removed)
    layers = {}
    for group in groups:
        for name in group.layers:
            units = dependencies.channels[name].tolist()
            layers[name] = {"before": len(units), "kept": [i for i, unit in enumerate(units) if unit not in gone]}
    notes = dict(untouched)
    for reasons in (dependencies.partly, dict(held_back)):
        for name in layers.keys() & reasons.keys():
            notes[name] = f"{notes[name]}; {reasons[name]}" if name in notes else reasons[name]
    return ChannelPlan(layers, dependencies.slices(removed), notes, dependencies.group_counts(removed),
                       dependencies.new_positions(removed))


def _check_shapes(graph, plan, net):
    """Infer the shapes of the smaller network before anything is changed."""
    named = parameters(net)
    in_graph = {structural: name for name, structural in graph.parameter_names.items()}
    shapes = {in_graph[name]: shape for name, shape in plan.shapes(named).items()}
    groups = {in_graph[name]: count for name, count in plan.groups.items()}
    known = {name: named[structural].list_data()[0].shape for name, structural in graph.parameter_names.items()}
    symbol = resized_symbol(graph.symbol, shapes, groups)
    expected = [node.shapes[output] for node, output in graph.outputs]
    try:
        _, outputs, _ = symbol.infer_shape_partial(**{**known, **graph.input_shapes, **shapes})
    except mx.MXNetError as error:
        outputs = str(error)
    if outputs != expected:
        raise NetworkError(f"this network cannot be pruned like that, and stays as it was: its outputs "
                           f"would be {outputs} instead of {expected}; please report it with the network's code")


def _check_arguments(criterion, scope, over, max_ratio, round_to, data, loss, seed):
    if not callable(criterion):
        check_choice("criterion", criterion, CRITERIA)
    check_choice("scope", scope, ("layer", "global"))
    check_choice("over", over, ("group", "first"))
    check_number("max_ratio", max_ratio, above=0, maximum=1)
    if round_to is not None:
        check_integer("round_to", round_to, minimum=1)
    check_integer("seed", seed, minimum=0)
    if criterion == "taylor" and data is None:
        raise ValueError("criterion is 'taylor' and data is missing; accepted: an iterable of (input, label) batches")
    if loss is not None and not callable(loss):
        raise TypeError(f"loss is {loss!r}; accepted: a function loss(output, label), or None")


def _check_amount(ratio, macs, latency, scope, select):
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
