"""Whatever holds a network can be opened: files that MXNet itself wrote compute what MXNet computes of them."""
import json
import logging

import gluon_compress as gc

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress import CheckpointError
from gluon_compress.checkpoint import describe
from modules import IMAGES, face_network, lenet, predicted, trained, two_inputs

NEAR = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """``saved(make, ...)``: ``(prefix, inputs, outputs)`` of a checkpoint of epoch 3 that Module wrote; made once."""
    made = {}

    def save(make, *arguments, **options):
        key = make.__name__, repr(arguments), repr(options)
        if key not in made:
            prefix = str(tmp_path_factory.mktemp("checkpoint") / "net")
            module, inputs = trained(make(*arguments), **options)
            module.save_checkpoint(prefix, 3)
            labels = options.get("labels", ("softmax_label",))
            made[key] = prefix, inputs, predicted(prefix, 3, options.get("shapes", IMAGES), inputs, labels)
        return made[key]
    return save


def outputs(net, inputs):
    given = net(*inputs)
    return [output.asnumpy() for output in (given if isinstance(given, (list, tuple)) else [given])]


def all_close(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, **NEAR)


# ---- checkpoints of Module

@pytest.mark.parametrize("make", [lenet, face_network])
def test_a_checkpoint_computes_what_module_predicts(saved, make):
    prefix, inputs, expected = saved(make)
    for path in (prefix, f"{prefix}-symbol.json", f"{prefix}-0003.params"):
        all_close(outputs(gc.load(path), inputs), expected)


def test_a_checkpoint_of_two_inputs_takes_both_in_the_order_of_the_graph(saved):
    prefix, inputs, expected = saved(two_inputs, shapes={"image": (8, 3, 8, 8), "vector": (8, 4)}, label_shape=(8, 2),
                                     labels=("lro_label",))
    all_close(outputs(gc.load(prefix), inputs), expected)
    assert describe(prefix).inputs == ("image", "vector")
    turned = gc.load(prefix, inputs=["vector", "image"])
    all_close(outputs(turned, inputs[::-1]), expected)


def test_the_last_epoch_is_opened_unless_another_is_asked_for(tmp_path):
    module, inputs = trained(lenet())
    prefix, expected = str(tmp_path / "net"), {}
    for epoch in (1, 2, 11):
        module.set_params({name: value * 0.5 for name, value in module.get_params()[0].items()}, {})
        module.save_checkpoint(prefix, epoch)
        expected[epoch] = predicted(prefix, epoch, IMAGES, inputs)
    for epoch in (1, 2, 11, None):
        all_close(outputs(gc.load(prefix, epoch=epoch), inputs), expected[epoch or 11])
    assert describe(prefix).epochs == (1, 2, 11)
    with pytest.raises(CheckpointError, match="epoch 5; accepted: 1, 2, 11"):
        gc.load(prefix, epoch=5)


def test_logits_are_what_softmax_is_taken_of(saved):
    prefix, inputs, expected = saved(lenet)
    logits = gc.load(prefix, head="logits")(*inputs)
    np.testing.assert_allclose(mx.nd.softmax(logits).asnumpy(), expected[0], **NEAR)
    assert np.abs(logits.asnumpy().sum(axis=1) - 1).min() > 1e-3
    np.testing.assert_array_equal(gc.load(prefix, outputs=["fc2_output"])(*inputs).asnumpy(), logits.asnumpy())


def test_an_inner_output_is_that_of_mxnet(saved):
    prefix, inputs, _ = saved(face_network)
    symbol, *parameters = mx.model.load_checkpoint(prefix, 3)
    inner = mx.mod.Module(symbol.get_internals()["fc1_output"], label_names=None)
    inner.bind([("data", inputs[0].shape)], for_training=False)
    inner.set_params(*parameters, allow_extra=True)
    inner.forward(mx.io.DataBatch(inputs))
    net = gc.load(prefix, outputs=["fc1"])
    all_close(outputs(net, inputs), [inner.get_outputs()[0].asnumpy()])


def test_what_was_found_is_logged_and_shown(saved, caplog):
    prefix, _, _ = saved(face_network)
    with caplog.at_level(logging.INFO, "gluon_compress"):
        net = gc.load(prefix)
    assert caplog.messages == [f"{prefix}: {describe(prefix).line()}"]
    for text in (repr(net), net.found.summary()):
        assert all(word in text for word in ("checkpoint of MXNet", "net-0003.params", "epoch", "softmax_output"))
    assert json.loads(json.dumps(net.found.to_dict()))["replaced"] == {"softmax": "softmax instead of SoftmaxOutput"}
    count = sum(np.prod(value.shape) for value in mx.nd.load(f"{prefix}-0003.params").values())
    assert net.found.parameters == count
