"""Boxes in ONNX Runtime: anchors, decoding, and suppression as MXNet does it, row by row."""
import gluon_compress as gc

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from networks import Function
from test_onnx_operators import assert_same, run

RANDOM = np.random.default_rng(3)


def boxes(samples, count, classes=3, center=False):
    """(class, score, box): classes -1 among them; boxes that overlap."""
    corner = RANDOM.uniform(0, 6, (samples, count, 2))
    size = RANDOM.uniform(1, 4, (samples, count, 2))
    place = np.concatenate([corner, size if center else corner + size], axis=2)
    scores = RANDOM.permutation(samples * count).reshape(samples, count, 1) / (samples * count)
    return np.concatenate([RANDOM.integers(-1, classes, (samples, count, 1)), scores, place], 2).astype(np.float32)


@pytest.mark.parametrize("settings", [
    {}, {"id_index": 0}, {"id_index": 0, "force_suppress": True}, {"id_index": 0, "background_id": 1},
    {"topk": 7, "id_index": 0}, {"valid_thresh": 0.4, "overlap_thresh": 0.2}, {"valid_thresh": 2},
    {"in_format": "center", "out_format": "center"}, {"in_format": "center", "out_format": "corner"},
    {"out_format": "center", "id_index": 0}], ids=str)
@pytest.mark.parametrize("opset", [13, 21])
def test_suppression_of_overlapping_boxes(settings, opset, tmp_path):
    rows = boxes(2, 30, center=settings.get("in_format") == "center")
    assert_same(lambda F, x: F.contrib.box_nms(x, **settings), [rows], tmp_path / "net.onnx", opset, batches=(1, 3))


def test_suppression_within_one_image(tmp_path):
    assert_same(lambda F, x: F.contrib.box_nms(x, coord_start=1, score_index=0, topk=5), [boxes(1, 20)[0, :, 1:]],
                tmp_path / "net.onnx", 21)


@pytest.mark.parametrize("settings", [{}, {"format": "corner", "std0": 0.1, "std3": 0.2}, {"clip": 0.3}], ids=str)
def test_boxes_from_anchors(settings, tmp_path):
    deltas = RANDOM.normal(size=(2, 12, 4)).astype(np.float32)
    anchors = boxes(1, 12)[:, :, 2:]
    net = Function(lambda F, x: F.contrib.box_decode(x, F.slice_axis(x, axis=0, begin=0, end=1) * 0 + 2, **settings))
    assert_same(net.function, [deltas], tmp_path / "net.onnx", 21, batches=(1,))
    assert_same(lambda F, x, y: F.contrib.box_decode(x, y, **settings), [deltas[:1], anchors], tmp_path / "net.onnx",
                21)


@pytest.mark.parametrize("settings", [{}, {"clip": False, "threshold": 0.3}, {"force_suppress": True}], ids=str)
def test_the_head_of_an_ssd(settings, tmp_path):
    """Anchors of an image, classes and boxes from convolutions, one row for each box that is left."""
    def head(F, x):
        anchors = F.contrib.MultiBoxPrior(x, sizes=(0.5, 0.8), ratios=(1, 2), clip=True)
        count = 4 * 5 * 3
        classes = F.softmax(F.reshape(x, (0, 4, count)), axis=1)
        places = F.reshape(F.slice_axis(x, axis=1, begin=0, end=12), (0, -1))
        return F.contrib.MultiBoxDetection(classes, places, anchors, nms_threshold=0.4, **settings)
    image = RANDOM.normal(size=(2, 12, 4, 5)).astype(np.float32)
    net = Function(head)
    path = gc.export.to_onnx(net, tmp_path / "net.onnx", mx.nd.array(image), verify=False)
    found, expected = run(path, [image])[0], net(mx.nd.array(image)).asnumpy()
    assert np.abs(found - expected).max() < 1e-5
    assert (expected[:, :, 0] >= 0).any() and (expected[:, :, 0] < 0).any()
