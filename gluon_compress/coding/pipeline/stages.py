"""The stages of a compression: small objects, which :func:`compress` runs one after the other; others may join them."""
from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mxnet.gluon import HybridBlock

from ...arguments import check_choice, check_function, check_integer, check_number, check_text, shown
from ...checkpoint.file import coded_size
from ...network.graph import Graph
from ...network.layer import Which, select_layers
from ...network.values import restore_snapshot, snapshot
from ...pruning.weights.magnitude import PRUNABLE, LayerEmptied, magnitude_masks
from ...pruning.weights.masked_trainer import MaskedTrainer, check_optimizer
from ...pruning.weights.masks import Masks
from ...quantization.integers.inference_graph import simplify
from ...quantization.rate.curvature import OUTPUTS
from ...quantization.rate.network import RateRounding, check_rate, obstacle
from ...quantization.scales import Scales
from ...quantization.weights import quantize_weights
from ...records import Record
from ...tables import progress_bar
from ...training.learning_rates import one_cycle
from ...training.loop import fit
from .searching import largest_that_fits
from .task import ORIGINAL, Made, Task

NAG = {"learning_rate": 0.01, "momentum": 0.9, "wd": 5e-4}
ROUNDABLE = ("Conv2D", "Dense")
HALVINGS = 10  # of the weights that are kept, at most
FIRST_RATE, LOWEST, HIGHEST, STEP = 1e-2, -14.0, 6.0, 2.0  # a rate is FIRST_RATE * 2**value, value in this range


@dataclass(frozen=True)
class Pruning:
    """Weights go, and the others are trained: as many as the accuracy allows.

    Half of the weights, the smallest of all layers together, are set to zero and the rest is trained; then half of
    those that are left, while the accuracy allows; then ``bisections`` steps in between (Han et al., 2015: prune and
    train in turn). Each trial begins with the network of the last one that fitted.

    Parameters
    ----------
    epochs : int
        How often each trial goes through the training data, at least 1.
    share : float
        The share of the allowed drop of accuracy that pruning may take, in [0, 1]; the rest is for the stages after it.
    optimizer, optimizer_params
        Of the :class:`MaskedTrainer` that trains, a name and numbers; the learning rate rises for a fifth of the steps,
        then falls to 0.
    bisections : int
        At least 0.
    select, exclude
        Which layers to prune, by default convolutions and dense layers; see :func:`prune_magnitude`.
    loss : callable, optional
        As for :func:`~gluon_compress.training.fit`.
    """

    epochs: int = 2
    share: float = 0.5
    optimizer: str = "nag"
    optimizer_params: Mapping[str, Any] | None = field(default_factory=lambda: dict(NAG))
    bisections: int = 2
    select: Which = None
    exclude: Which = ()
    loss: Callable[..., Any] | None = None
    name: str = field(default="pruned", init=False)

    def check(self, net: HybridBlock, training_data: Any) -> None:
        check_integer("epochs", self.epochs, minimum=1)
        check_number("share", self.share, minimum=0, maximum=1)
        check_integer("bisections", self.bisections, minimum=0)
        check_text("optimizer", self.optimizer)  # an object has a state, which each trial would begin with
        check_optimizer(self.optimizer, self.optimizer_params)
        for name, value in self._settings.items():
            if not isinstance(value, (numbers.Real, str, type(None))):
                raise TypeError(f"optimizer_params has {name!r}, {shown(value)}; accepted here: numbers and text, as a "
                                f"later call knows them again")
        if self.loss is not None:
            check_function("loss", self.loss, "a loss, or None")
        if training_data is None:
            raise TypeError("training_data is None, and Pruning trains; accepted: batches (input, label), or other "
                            "stages")
        select_layers(net, self.select, self.exclude, PRUNABLE)

    def description(self, net: HybridBlock) -> dict[str, Any]:
        chosen, _ = select_layers(net, self.select, self.exclude, PRUNABLE)
        loss = None if self.loss is None else getattr(self.loss, "__qualname__", type(self.loss).__qualname__)
        return {"epochs": self.epochs, "share": self.share, "optimizer": self.optimizer, "loss": loss,
                "optimizer_params": self._settings, "bisections": self.bisections,
                "layers": [layer.name for layer in chosen]}

    @property
    def _settings(self) -> dict[str, Any]:
        """Of the optimizer, with Python's numbers in place of NumPy's."""
        return {name: value.item() if isinstance(value, np.generic) else value
                for name, value in (self.optimizer_params or {}).items()}

    def run(self, net: HybridBlock, records: tuple[Record, ...], task: Task) -> Made:
        best: tuple[Any, tuple[Record, ...], float] = snapshot(net), records, 0.0
        with progress_bar(show=task.progress, desc="pruning", unit="trial") as bar:
            def fits(halvings: float) -> bool:
                nonlocal best
                if not halvings:
                    return True  # nothing pruned
                name, sparsity = f"{task.stage}-{halvings:.4f}", _sparsity(halvings)
                restore_snapshot(net, best[0])
                bar.update()
                try:
                    masks = magnitude_masks(net, sparsity, scope="global", select=self.select, exclude=self.exclude)
                except LayerEmptied:
                    return False
                row = task.kept(name, net, lambda: (self._trained(net, name, masks, best[1], task),
                                                    {"settings": {"sparsity": sparsity}}), self.share)
                if row["fits"]:
                    kept = task.folder.load(name, net)
                    best = snapshot(net), kept, halvings
                return row["fits"]
            largest_that_fits(fits, 1.0, 1.0, 0.0, HALVINGS, self.bisections)
        restore_snapshot(net, best[0])
        sparsity = _sparsity(best[2])
        return best[1], {"settings": {"sparsity": sparsity}, "note": f"sparsity {sparsity:.4f}"}

    def _trained(self, net: HybridBlock, name: str, masks: Masks, records: tuple[Record, ...],
                 task: Task) -> tuple[Record, ...]:
        trainer = MaskedTrainer(net, masks, self.optimizer, self._settings)
        state = task.folder.path / f"{name}.state"
        assert task.training_data is not None  # check() has seen to it
        fit(net, task.training_data, self.epochs, trainer, one_cycle, self.loss, seed=task.seed, state_path=state,
            progress=task.progress)
        state.unlink(missing_ok=True)
        return (*(record for record in records if not isinstance(record, (Masks, Scales))), masks)


def _sparsity(halvings: float) -> float:
    """The share of the weights that go when so many times half of those left do."""
    return 1 - 2 ** -halvings


@dataclass(frozen=True)
class Rounding:
    """Weights are rounded to what costs least in the error of the outputs and in bits; nothing is trained.

    The larger the ``rate``, the smaller the file; see :class:`~gluon_compress.quantization.RateRounding`, which does
    it. Without a rate the largest is searched that the accuracy allows: up or down by factors of four, then by
    bisection of its logarithm. Of all rates tried that fit, the one with the smallest file is taken. Where none fits,
    or no layer can be rounded so, as with groups alone, the weights are rounded to 8 bits with a scale per channel;
    where even that loses too much, they stay as they are.

    After :class:`Pruning` the original is rounded, too, and the smaller file is kept, with a note of the other: as
    rounding sets weights to zero by itself where that costs little, pruning may gain nothing.

    Parameters
    ----------
    rate : float, optional
        Above 0: this one, whatever the accuracy.
    bisections : int
        At least 0.
    select, exclude
        Which layers to round, by default convolutions and dense layers.
    outputs : "logits" or "values"
        What the network puts out; see :class:`~gluon_compress.quantization.RateRounding`.
    """

    rate: float | None = None
    bisections: int = 3
    select: Which = None
    exclude: Which = ()
    outputs: str = "logits"
    name: str = field(default="rounded", init=False)

    def check(self, net: HybridBlock, training_data: Any) -> None:
        if self.rate is not None:
            check_rate(self.rate)
        check_integer("bisections", self.bisections, minimum=0)
        check_choice("outputs", self.outputs, OUTPUTS)
        self._layers(net)

    def description(self, net: HybridBlock) -> dict[str, Any]:
        return {"rate": self.rate, "bisections": self.bisections, "layers": self._layers(net),
                **({"outputs": self.outputs} if self.outputs != "logits" else {})}  # older work folders have none

    def _layers(self, net: HybridBlock) -> list[str]:
        chosen, _ = select_layers(net, self.select, self.exclude, ROUNDABLE)
        return [layer.name for layer in chosen]

    def run(self, net: HybridBlock, records: tuple[Record, ...], task: Task) -> Made:
        made = self._rounded(net, records, task, task.stage)
        if self.rate is not None or not records or not all(isinstance(record, Masks) for record in records):
            return made
        pruned, before = self._row(net, made, task), snapshot(net)
        task.folder.load(ORIGINAL, net)
        other = self._rounded(net, (), task, f"{task.stage}-unpruned")
        row = self._row(net, other, task)
        if (not row["fits"], row["bytes"]) <= (not pruned["fits"], pruned["bytes"]):
            note = f"{other[1]['note']}, of the original: pruned {pruned['bytes']:,} bytes"
            return other[0], {**other[1], "note": note}
        restore_snapshot(net, before)
        return made[0], {**made[1], "note": f"{made[1]['note']}, unpruned {row['bytes']:,} bytes"}

    def _row(self, net: HybridBlock, made: Made, task: Task) -> dict[str, Any]:
        return {"bytes": coded_size(net, *made[0], example=task.example), **task.judge.row(net)}

    def _rounded(self, net: HybridBlock, records: tuple[Record, ...], task: Task, name: str) -> Made:
        """The network as it is, rounded as coarsely as the accuracy allows; trials are kept under this name."""
        before, why = snapshot(net), self._obstacles(net, task)
        if why:
            return self._without_rate(net, before, records, task, f"no layer can be rounded by rate ({why})")
        rounding = RateRounding(net, task.calibration_data, self.select, self.exclude, task.seed, task.progress,
                                self.outputs)

        def by_rate(rate: float) -> Made:
            scales = rounding.round(rate)
            return _with_scales(records, scales), {"note": f"rate {rate:.2g}", "settings": {"rate": rate}}
        rate = self._best(by_rate, net, task, name) if self.rate is None else self.rate
        if rate is not None:
            return by_rate(rate)
        restore_snapshot(net, before)
        return self._without_rate(net, before, records, task, "no rate keeps the accuracy")

    def _obstacles(self, net: HybridBlock, task: Task) -> str:
        """Why none of the layers can be rounded by rate; empty where one can."""
        chosen, _ = select_layers(net, self.select, self.exclude, ROUNDABLE)
        inference = simplify(Graph(net, task.example))
        found = [obstacle(inference, layer.parameter_name) for layer in chosen]
        return "; ".join(sorted(set(map(str, found)))) if all(found) else ""

    def _best(self, by_rate: Callable[[float], Made], net: HybridBlock, task: Task, name: str) -> float | None:
        """Of all rates tried that fit, the one with the smallest file; None where there is none."""
        rows: dict[float, dict[str, Any]] = {}
        with progress_bar(show=task.progress, desc="rounding", unit="trial") as bar:
            def fits(value: float) -> bool:
                rate = FIRST_RATE * 2 ** value
                rows[rate] = task.measured(f"{name}-{rate:.6g}", net, lambda: by_rate(rate))
                bar.update()
                return rows[rate]["fits"]
            largest_that_fits(fits, 0.0, STEP, LOWEST, HIGHEST, self.bisections)
        fitting = [rate for rate, row in rows.items() if row["fits"]]
        return min(fitting, key=lambda rate: rows[rate]["bytes"], default=None)

    def _without_rate(self, net: HybridBlock, before: Any, records: tuple[Record, ...], task: Task, why: str) -> Made:
        scales = quantize_weights(net, 8, select=self._layers(net))
        if task.judge.row(net)["fits"]:
            return _with_scales(records, scales), {"note": f"8 bits: {why}", "settings": {"bits": 8}}
        restore_snapshot(net, before)
        return records, {"note": f"in fp32: {why}, and 8 bits lose too much", "settings": {}}


def _with_scales(records: tuple[Record, ...], scales: Scales) -> tuple[Record, ...]:
    """Masks go where there are codes: a zero is a code, which takes less than a mask beside it."""
    kept: list[Record] = []
    for record in records:
        if isinstance(record, Masks):
            rest = {name: mask for name, mask in record.kept.items() if name not in scales.weights}
            kept += [Masks(rest, record.left_out)] if rest else []
        elif not isinstance(record, Scales):
            kept.append(record)
    return (*kept, scales)
