"""Masks: which weights are gone, and how they stay gone while the others train."""
import base64
import hashlib

import mxnet as mx
import numpy as np
from mxnet.gluon import Trainer

from ..errors import RecordError
from ..network import check_ready, parameters
from ..tables import format_table


class Masks:
    """Which weights of a network are pruned: plain data, apart from the network.

    Attributes
    ----------
    kept : dict
        {structural parameter name: bool NumPy array of the parameter's shape}; False where pruned.
    left_out : dict
        {layer name: why it was not pruned}.

    >>> masks = prune_magnitude(net, sparsity=0.9)
    >>> masks.sparsity
    0.9
    >>> masks.apply(fresh_net)          # prunes the same weights there
    """

    def __init__(self, kept, left_out=None):
        self.kept = {name: np.asarray(mask, dtype=bool) for name, mask in kept.items()}
        self.left_out = dict(left_out or {})

    @property
    def sparsity(self):
        """Fraction of pruned weights, over all masked parameters together."""
        weights = sum(mask.size for mask in self.kept.values())
        return sum(int((~mask).sum()) for mask in self.kept.values()) / weights if weights else 0.0

    def apply(self, net):
        """Set the pruned weights of ``net`` to zero and return ``net``.

        Raises ``RecordError`` naming the parameter when the masks do not fit; ``net`` is then unchanged.
        """
        for parameter, mask in self._fitted(net):
            value = parameter.list_data()[0].asnumpy()
            parameter.set_data(mx.nd.array(np.where(mask, value, 0), dtype=value.dtype))
        return net

    def freeze(self, net):
        """Exclude the masked parameters, whole, from training (``grad_req='null'``) and return ``net``.

        This is what the article's line does. It stops the surviving weights too, so the network cannot
        recover by fine-tuning them; :class:`MaskedTrainer` holds only the pruned ones.
        """
        for parameter, _ in self._fitted(net):
            parameter.grad_req = "null"
        return net

    def fitted_masks(self, net):
        """``kept``, once it is sure that ``net`` has zeros wherever it is False; ``RecordError`` otherwise."""
        for (name, mask), (parameter, _) in zip(self.kept.items(), self._fitted(net)):
            regrown = np.count_nonzero(parameter.list_data()[0].asnumpy()[~mask])
            if regrown:
                raise RecordError(f"{regrown} pruned weights of {name} are no longer zero: train with "
                                  f"MaskedTrainer, or call masks.apply(net)")
        return self.kept

    def summary(self):
        """A table with a row per masked parameter and one per layer left out."""
        rows = [(name, f"{mask.size:,}", f"{mask.size - mask.sum():,}", f"{1 - mask.mean():.4f}", "")
                for name, mask in self.kept.items()]
        size = sum(mask.size for mask in self.kept.values())
        rows.append(("all masked", f"{size:,}", f"{round(self.sparsity * size):,}", f"{self.sparsity:.4f}", ""))
        rows += [(name, "", "", "", f"untouched: {reason}") for name, reason in self.left_out.items()]
        return format_table(("parameter", "weights", "zeros", "sparsity", "note"), rows)

    __str__ = __repr__ = summary

    def __or__(self, other):
        """The masks that prune what either prunes."""
        if not isinstance(other, Masks):
            return NotImplemented
        kept = {name: mask & other.kept.get(name, True) for name, mask in {**other.kept, **self.kept}.items()}
        left_out = {name: reason for name, reason in self.left_out.items() if name in other.left_out}
        return Masks(kept, left_out)

    def to_dict(self):
        """JSON-serializable: masks as packed bits in base64."""
        return {"kept": {name: {"shape": list(mask.shape),
                                "bits": base64.b64encode(np.packbits(mask)).decode("ascii")}
                         for name, mask in self.kept.items()},
                "left_out": self.left_out}

    @classmethod
    def from_dict(cls, record):
        """The inverse of :meth:`to_dict`."""
        kept = {}
        for name, mask in record["kept"].items():
            bits = np.frombuffer(base64.b64decode(mask["bits"]), np.uint8)
            kept[name] = np.unpackbits(bits, count=int(np.prod(mask["shape"]))).reshape(mask["shape"])
        return cls(kept, record["left_out"])

    def _fitted(self, net):
        """[(Parameter, mask)], or ``RecordError`` when the masks are not of this network."""
        check_ready(net)
        named = parameters(net)
        for name, mask in self.kept.items():
            if name not in named:
                raise RecordError(f"the masks are of another network: there is no parameter {name} here")
            shape = named[name].list_data()[0].shape
            if shape != mask.shape:
                raise RecordError(f"the masks are of another network: {name} has shape {shape}, "
                                  f"its mask {mask.shape}")
        return [(named[name], mask) for name, mask in self.kept.items()]


class MaskedTrainer(Trainer):
    """A ``gluon.Trainer`` under which pruned weights stay exactly zero.

    Masking the gradients would not be enough: momentum, or Adam's moments, from before the pruning move a
    weight whose gradient is zero. So the masks are applied again after each update.

    Parameters
    ----------
    net : HybridBlock
    masks : Masks
    optimizer, optimizer_params, **trainer_arguments
        As for ``gluon.Trainer``.

    >>> trainer = MaskedTrainer(net, masks, "adam", {"learning_rate": 1e-3})
    """

    def __init__(self, net, masks, optimizer, optimizer_params=None, **trainer_arguments):
        if not isinstance(masks, Masks):
            raise TypeError(f"masks is {masks!r}; accepted: the Masks of a pruning function, several as first | second")
        self._masks = masks
        self._masked = [(parameter, [mx.nd.array(mask, context, parameter.dtype) for context in parameter.list_ctx()])
                        for parameter, mask in masks._fitted(net)]
        super().__init__(net.collect_params(), optimizer, optimizer_params, **trainer_arguments)

    @property
    def masks_digest(self):
        """SHA-256 of the masks, by which a saved training state knows them again."""
        digest = hashlib.sha256()
        for name, mask in sorted(self._masks.kept.items()):
            digest.update(name.encode() + np.packbits(mask).tobytes())
        return digest.hexdigest()

    def step(self, batch_size, ignore_stale_grad=False):
        super().step(batch_size, ignore_stale_grad)
        self._apply_masks()

    def update(self, batch_size, ignore_stale_grad=False):
        super().update(batch_size, ignore_stale_grad)
        self._apply_masks()

    def _apply_masks(self):
        for parameter, masks in self._masked:
            for weight, mask in zip(parameter.list_data(), masks):
                # not weight *= mask: Adamax divides 0 by 0 where a gradient is zero, and NaN * 0 is NaN
                mx.nd.where(mask, weight, mx.nd.zeros_like(weight), out=weight)
