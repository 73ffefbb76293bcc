"""The ends of networks: softmax and regression with their losses, anchors, boxes and regions."""
from __future__ import annotations

from ....network.nodes import Node
from ..tracking import Tracker
from .table import Inputs, Outputs, axis_of, beside, only_on, rule, stop


@rule("softmax", "log_softmax", "softmin")
def _softmax(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    if inputs[0] is not None and inputs[0].axis == axis_of(node, -1):
        return stop(node, inputs, tracker, "it normalizes over the channels")
    data = inputs[0]
    if len(inputs) > 1:  # for each row, how much of it counts
        beside(data, data.axis - (data.axis > axis_of(node, -1)) if data else 0, node, 1, inputs, tracker)
    return [data]


@rule("SoftmaxActivation")
def _softmax_over_classes(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    """Over axis 1, or over all axes of a sample together."""
    if inputs[0] is not None and inputs[0].axis and (node.get("mode") != "channel" or inputs[0].axis == 1):
        return stop(node, inputs, tracker, "it normalizes over the channels")
    return [inputs[0]]


@rule("SoftmaxOutput", "LinearRegressionOutput", "LogisticRegressionOutput", "MAERegressionOutput")
def _loss(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    return stop(node, inputs, tracker, "a loss has a label for each channel")


@rule("_contrib_MultiBoxPrior")
def _anchors(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    """It reads the height and width of an image, whatever its channels are."""
    only_on(1, node, inputs[0], tracker)
    return [None]


@rule("_contrib_MultiBoxTarget", "_contrib_MultiBoxDetection", "_contrib_Proposal", "_contrib_MultiProposal",
      "_contrib_box_nms", "_contrib_box_decode")
def _boxes(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    return stop(node, inputs, tracker, "it reads scores and coordinates of boxes")


@rule("ROIPooling", "_contrib_ROIAlign")
def _regions(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    if node.get("position_sensitive", False):
        return stop(node, inputs, tracker, "each part of a region reads other channels")
    for labels in inputs[1:]:
        tracker.pin(labels, f"read by {node.operator} ({node.name}) as regions")
    return [only_on(1, node, inputs[0], tracker)]
