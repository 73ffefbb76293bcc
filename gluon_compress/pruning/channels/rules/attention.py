"""Attention: products of queries, keys and values in one operator, in which the heads lie interleaved."""
from __future__ import annotations

import numpy as np

from ....network.nodes import Node
from ..tracking import Labels, Tracker
from .table import Inputs, Outputs, only_on, rule, stop

@rule("_contrib_interleaved_matmul_selfatt_qk", "_contrib_interleaved_matmul_selfatt_valatt",
      "_contrib_interleaved_matmul_encdec_qk", "_contrib_interleaved_matmul_encdec_valatt")
def _interleaved(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    """Whole heads are removed: (T, N, heads * parts * C) and weights of attention (N * heads, T, T).

    A head's channels lie together, those of its query before its key and its value.
    """
    heads, batch, roles = node.get("heads"), node.input_shape(0)[1], node.meaning.inputs
    read = [only_on(0 if role == "attention" else 2, node, labels, tracker) for labels, role in zip(inputs, roles)]
    if not tracker.can_count(node, "heads"):
        return stop(node, inputs, tracker, "its number of heads is no attribute of a block")
    if None in read:
        return stop(node, inputs, tracker, "multiplied by what has no such channels")
    each = [labels.ids.reshape(-1, heads).T if role == "attention" else labels.ids.reshape(heads, -1)
            for labels, role in zip(read, roles) if labels is not None]
    ids = each[0][:, 0]
    for rows in each:
        for column in rows.T:
            tracker.same(ids, column, f"in one head of {node.operator} ({node.name}) with channels that stay")
    tracker.count(node, "heads", None, ids)
    if node.operator.endswith("_qk"):
        return [Labels(0, np.tile(ids, batch))]
    return [Labels(2, np.repeat(ids, node.shapes[0][2] // heads))]
