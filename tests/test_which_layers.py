"""One vocabulary: every technique understands ``select`` and ``exclude`` alike, and names what it left out."""
import gluon_compress  # noqa: F401

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress import coding, pruning, quantization
from gluon_compress.network import layers
from mxnet.gluon import nn
from networks import NormNet, build, exported, values

QUIET = {"progress": False}
SHAPE = (2, 4, 8, 8)
LAYERS = {"features.0": "Conv2D", "features.4": "Conv2D", "features.9": "Dense", "output": "Dense"}


def gradual(net, example, **which):
    return pruning.GradualPruner(net, 0.9, steps=1, initial_sparsity=0.5, **which).masks


def sensitivity(kind):
    def measure(net, example, **which):
        return pruning.measure_sensitivity(net, lambda net: 1.0, example, kind, [0.5], **which, **QUIET)
    return measure


def penalty(net, example, **which):
    term = pruning.ChannelPenalty(net, example, 1.0, "group_lasso", **which)
    before = {name: parameter.grad() * 1 for name, parameter in net._collect_params_with_prefix().items()
              if parameter.grad_req != "null"}
    term.add_gradients(1)
    for name, gradient in before.items():  # the pull becomes a change, for the tests below
        parameter = net._collect_params_with_prefix()[name]
        parameter.set_data(parameter.data() + parameter.grad() - gradient)
    return term


def rated(net, example, **which):
    return coding.RateTrainer(net, 1.0, "sgd", vectors=False, **which).scales


# name: (the call, how the tests see what it took)
TECHNIQUES = {
    "prune_threshold": lambda net, example, **which: pruning.prune_threshold(net, 0.1, **which),
    "prune_magnitude": lambda net, example, **which: pruning.prune_magnitude(net, 0.5, **which),
    "prune_random": lambda net, example, **which: pruning.prune_random(net, 0.5, **which),
    "prune_n_m": lambda net, example, **which: pruning.prune_n_m(net, 1, 2, **which),
    "GradualPruner": gradual,
    "prune_channels": lambda net, example, **which: pruning.prune_channels(net, example, 0.5, round_to=1, **which),
    "prune_channels_in_steps": lambda net, example, **which: list(pruning.prune_channels_in_steps(
        net, example, 0.5, steps=2, round_to=1, **which))[-1],
    "ChannelPenalty": penalty,
    "measure_sensitivity of weights": sensitivity("weights"),
    "measure_sensitivity of channels": sensitivity("channels"),
    "quantize_weights": lambda net, example, **which: quantization.quantize_weights(net, **which),
    "quantize_weights by rate": lambda net, example, **which: quantization.quantize_weights(
        net, rate=1e-2, calibration_data=[example], **which, **QUIET),
    "quantize": lambda net, example, **which: quantization.quantize(
        net, [example], simulate=True, **which, **QUIET).record,
    "prepare_qat": lambda net, example, **which: quantization.prepare_qat(net, [example], **which, **QUIET).record,
    "share_weights": lambda net, example, **which: coding.share_weights(net, bits=2, **which),
    "RateTrainer": rated,
    "fold_batch_norm": lambda net, example, **which: quantization.fold_batch_norm(net, example, **which),
}
WITHOUT_OUTPUT = {"prune_channels", "prune_channels_in_steps", "ChannelPenalty", "measure_sensitivity of channels"}


def network():
    net, example = build(NormNet, SHAPE)
    with mx.autograd.record():
        loss = net(example).sum()
    loss.backward()
    return net, example


def taken(name, record):
    """The layers that a record says the technique took."""
    if name == "ChannelPenalty":
        return set(LAYERS) - set(record.left_out)
    if name == "fold_batch_norm":
        return set(record.folded.values())
    layers = getattr(record, "kept", None) or getattr(record, "centroids", None) or record.layers
    return {layer.removesuffix(".weight") for layer in layers}


def own_channels(name, net, before, layer):
    """Whether the layer's weight is as it was; for techniques of channels, whether it makes as many."""
    now = values(net)[f"{layer}.weight"]
    if name.startswith("prune_channels"):
        return len(now) == len(before[f"{layer}.weight"])
    return np.array_equal(now, before[f"{layer}.weight"])


CHOICES = [({"exclude": "features.4"}, {"features.0", "features.9", "output"}, {"features.4"}),
           ({"exclude": ["features.4", nn.Dense]}, {"features.0"}, {"features.4", "features.9", "output"}),
           ({"select": "Conv2D"}, {"features.0", "features.4"}, set()),
           ({"select": nn.Conv2D, "exclude": lambda layer: layer.name == "features.0"}, {"features.4"}, {"features.0"}),
           ({"select": ["features.0", lambda layer: layer.kind == "Dense"], "exclude": ("output",)},
            {"features.0", "features.9"}, {"output"})]


@pytest.mark.parametrize(("which", "wanted", "excluded"), CHOICES)
@pytest.mark.parametrize("name", TECHNIQUES)
def test_a_technique_takes_what_is_selected_and_not_excluded_and_names_the_others(name, which, wanted, excluded):
    net, example = network()
    able = taken(name, TECHNIQUES[name](*network()))
    if name == "prune_threshold":
        able |= {"features.9", "output"}  # which it leaves alone by default
    before = values(net)
    record = TECHNIQUES[name](net, example, **which)
    expected = wanted & able
    if name == "prune_threshold" and "select" not in which:
        expected -= {"features.9", "output"}  # its default are the convolutions
    assert taken(name, record) == expected
    if name == "fold_batch_norm":
        told = " ".join(record.left_out.values())
        assert all(layer in told for layer in able - expected)
    else:
        reasons = record.left_out
        assert set(reasons) == LAYERS.keys() - expected
        assert {layer for layer, reason in reasons.items() if reason.endswith("excluded")} == excluded & (
            able if name in WITHOUT_OUTPUT else LAYERS.keys())
    if name not in ("ChannelPenalty", "quantize", "prepare_qat") and not name.startswith("measure"):
        for layer in LAYERS.keys() - expected:
            assert own_channels(name, net, before, layer)
        for layer in expected:
            assert not own_channels(name, net, before, layer)


@pytest.mark.parametrize("argument", ["select", "exclude"])
@pytest.mark.parametrize("name", TECHNIQUES)
def test_every_technique_refuses_an_unknown_layer_in_the_same_words(name, argument):
    net, example = network()
    before = values(net)
    with pytest.raises(ValueError, match=f"^{argument} names 'features.44', but there is no such layer or kind of "
                                         f"layer; did you mean features.4"):
        TECHNIQUES[name](net, example, **{argument: ["features.44"]})
    assert all(np.array_equal(before[parameter], value) for parameter, value in values(net).items())


HINTS = {"features.0.weight": "that is a parameter; accepted: 'features.0', its layer",
         "features.9.bias": "that is a parameter; accepted: 'features.9', its layer",
         "features": "that is a block with 3 layers in it, features.0 to features.9; accepted: their names, or lambda",
         "features.1": "'features.1' is a BatchNorm, which has no weight of two axes or more",
         "features.3": "'features.3' is a MaxPool2D, which has no weight"}


@pytest.mark.parametrize("name", TECHNIQUES)
def test_every_technique_says_what_a_name_is_that_is_no_layers(name):
    net, example = network()
    for which, hint in HINTS.items():
        with pytest.raises(ValueError, match=f"^select names '{which}', but there is no such layer or kind of layer; "
                                             f"{hint}"):
            TECHNIQUES[name](net, example, select=which)


def test_layers_of_a_symbol_have_the_same_hints(tmp_path):
    net, example = build(NormNet, SHAPE)
    block = exported(net, example, tmp_path)
    name = layers(block)[0].name
    with pytest.raises(ValueError, match=f"that is a parameter; accepted: '{name}', its layer"):
        pruning.prune_magnitude(block, 0.5, select=f"{name}_weight")
    with pytest.raises(ValueError, match=f"sparsity names '{name}_bias', .* accepted: '{name}', its layer"):
        pruning.prune_magnitude(block, {f"{name}_bias": 0.5})


@pytest.mark.parametrize("argument", ["select", "exclude"])
@pytest.mark.parametrize("name", TECHNIQUES)
@pytest.mark.parametrize(("which", "message"), [
    ({"features.0": 0.5}, "is {'features.0': 0.5}; accepted"),  # of which only the keys would count
    (lambda layer: layer.name, "is a function that gives 'features.0' for layer features.0; accepted: True or False"),
    (lambda layer: layer.name.startswith, "is a function that gives a .*; accepted: True or False")])
def test_every_technique_refuses_a_selection_that_says_nothing(name, argument, which, message):
    net, example = network()
    before = values(net)
    with pytest.raises(TypeError, match=f"^{argument} {message}"):
        TECHNIQUES[name](net, example, **{argument: which})
    assert all(np.array_equal(before[parameter], value) for parameter, value in values(net).items())


def test_an_excluded_layer_keeps_its_channels_but_not_those_that_it_reads():
    net, example = build(NormNet)
    before = values(net)
    pruning.prune_channels(net, example, 0.5, exclude="features.4", round_to=1)
    after = values(net)
    assert after["features.4.weight"].shape[0] == before["features.4.weight"].shape[0]
    assert after["features.4.weight"].shape[1] == before["features.4.weight"].shape[1] // 2


def test_steps_go_by_the_layers_as_they_were_in_the_beginning():
    net, example = build(NormNet)
    small = min(len(values(net)[f"{name}.weight"]) for name in ("features.0", "features.4"))
    plans = list(pruning.prune_channels_in_steps(net, example, 0.5, steps=3, round_to=1,
                                                 exclude=lambda layer: layer.weight.shape[0] < small))
    kept = [len(plan.layers["features.0"]["kept"]) for plan in plans]
    assert "features.4" in plans[-1].layers and kept == sorted(set(kept), reverse=True)  # fewer from step to step
