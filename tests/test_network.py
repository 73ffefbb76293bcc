"""What techniques ask of a network, and the helpers for arguments and tables."""
import subprocess
import sys
import textwrap
from fractions import Fraction

import gluon_compress as gc

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress import network
from gluon_compress.arguments import check_choice, check_integer, check_number, with_article
from gluon_compress.errors import NetworkError
from gluon_compress.models import LeNet
from gluon_compress.network.checks import check_initialized
from gluon_compress.network.layer import CONVOLUTIONS
from gluon_compress.network.values import set_values
from gluon_compress.tables import format_table
from mxnet import gluon
from mxnet.gluon import nn
from networks import Assorted, NormNet, OwnWeight, SharedWeights, build, exported, identical, laid_out_anew, values

LENET = (2, 1, 28, 28)


def test_parameters_have_the_names_that_save_parameters_writes(tmp_path):
    net, _ = build(NormNet)
    net.save_parameters(str(tmp_path / "net.params"))
    assert set(network.parameters(net)) == set(mx.nd.load(str(tmp_path / "net.params")))


def test_a_shared_parameter_is_listed_once_under_its_first_name():
    net, _ = build(SharedWeights)
    assert [name for name in network.parameters(net) if name.endswith("weight")] == [
        "first.weight", "second.weight", "output.weight"]
    assert [layer.name for layer in network.layers(net)] == ["first", "second", "output"]


def test_layers_are_those_with_a_weight():
    net, _ = build(NormNet)
    assert [(layer.name, layer.kind) for layer in network.layers(net)] == [
        ("features.0", "Conv2D"), ("features.4", "Conv2D"), ("features.9", "Dense"), ("output", "Dense")]


def test_parameters_of_a_block_of_yours_are_listed():
    net, _ = build(OwnWeight)
    assert {layer.name: layer.kind for layer in network.layers(net)} == {
        "mix": "OwnWeight", "positions": "OwnWeight", "conv": "Conv2D", "output": "Dense"}


def test_a_layer_itself_is_a_network():
    net, _ = build(nn.Dense, (2, 3), units=4)
    assert [layer.kind for layer in network.layers(net)] == ["Dense"]


def test_a_class_derived_from_a_gluon_layer_is_of_its_kind():
    class Scaled(nn.Conv2DTranspose):
        pass
    net, _ = build(Scaled, (2, 3, 4, 4), channels=5, kernel_size=3)
    assert network.layers(net)[0].kind == "Conv2DTranspose"


def test_symbol_block_has_the_same_kinds(tmp_path):
    net, example = build(NormNet)
    block = exported(net, example, tmp_path)
    assert [layer.kind for layer in network.layers(block)] == [layer.kind for layer in network.layers(net)]
    assert all("weight" not in layer.name for layer in network.layers(block))


@pytest.mark.parametrize("network_class", [nn.Conv1D, nn.Conv3D, nn.Conv1DTranspose, nn.Conv2DTranspose])
def test_symbol_block_tells_convolutions_apart(network_class, tmp_path):
    dimensions = int(network_class.__name__[4])
    net, example = build(network_class, (2, 3, *[5] * dimensions), channels=4, kernel_size=2)
    block = exported(net, example, tmp_path)
    assert [layer.kind for layer in network.layers(block)] == [network_class.__name__]


SELECTIONS = [
    (None, ["conv.0", "conv.2"]),
    (nn.Dense, ["dense.0", "dense.1"]),
    ("dense.1", ["dense.1"]),
    (["dense.1", nn.Conv2D], ["conv.0", "conv.2", "dense.1"]),
    (("conv.2", "conv.2"), ["conv.2"]),
    (lambda layer: layer.weight.shape[0] == 50, ["conv.2"]),
    ("Dense", ["dense.0", "dense.1"]),
    ([lambda layer: layer.weight.shape[0] == 50, "Dense"], ["conv.2", "dense.0", "dense.1"]),
    ((name for name in ("conv.0", "conv.0")), ["conv.0"]),
]


@pytest.mark.parametrize(("select", "expected"), SELECTIONS)
def test_select_layers(select, expected):
    net, _ = build(LeNet, LENET)
    chosen, left_out = network.select_layers(net, select, default=CONVOLUTIONS)
    assert [layer.name for layer in chosen] == expected
    assert set(left_out) == {"conv.0", "conv.2", "dense.0", "dense.1"} - set(expected)
    assert all(left_out.values())


BAD_SELECTIONS = [
    ("conv", r"'conv'.*a block with 2 layers in it, conv.0 and conv.2"),
    ("xyz", r"'xyz'.*accepted: conv.0, conv.2, dense.0, dense.1, Conv2D, Dense"),
    (["conv.0", "dense.7"], r"'dense.7'.*dense.0"),
    ([], "matches no layer"),
    (nn.Embedding, "names 'Embedding', but there is no such layer or kind of layer; accepted: .*Conv2D"),
    ([nn.Dense, "Embedding"], "names 'Embedding', but there is no such"),
    (lambda layer: False, r"matches no layer.*conv.0 \(Conv2D\)"),
]


@pytest.mark.parametrize(("select", "message"), BAD_SELECTIONS)
def test_a_selection_that_matches_nothing_is_an_error_with_a_hint(select, message):
    net, _ = build(LeNet, LENET)
    with pytest.raises(ValueError, match=message):
        network.select_layers(net, select, default=CONVOLUTIONS)


@pytest.mark.parametrize("argument", ["select", "exclude"])
@pytest.mark.parametrize("wanted", [5, [None], [["conv.0"]], "a layer"])
def test_what_is_no_selection(argument, wanted):
    net, _ = build(LeNet, LENET)
    wanted = net.conv[0] if wanted == "a layer" else wanted
    with pytest.raises(TypeError, match=f"{argument} .* accepted: the name of a layer, a kind or class of la"):
        network.select_layers(net, **{argument: wanted})


@pytest.mark.parametrize(("wanted", "names"), SELECTIONS[1:-1])
@pytest.mark.parametrize("select", [None, "Conv2D", ["conv.2", nn.Dense]])
def test_excluded_layers_are_left_out_of_those_selected(select, wanted, names):
    net, _ = build(LeNet, LENET)
    selected = [layer.name for layer in network.select_layers(net, select)[0]]
    rest = [name for name in selected if name not in names]
    if not rest:
        with pytest.raises(ValueError, match="exclude=.* leaves no layer of those selected; the network has conv.0"):
            network.select_layers(net, select, wanted)
        return
    chosen, left_out = network.select_layers(net, select, wanted)
    assert [layer.name for layer in chosen] == rest
    assert {name for name, reason in left_out.items() if reason.endswith(", excluded")} == set(names)
    assert {name for name, reason in left_out.items() if reason.endswith(", not selected")} == {
        "conv.0", "conv.2", "dense.0", "dense.1"} - set(selected) - set(names)


@pytest.mark.parametrize("nothing", [None, (), [], lambda layer: False])
def test_nothing_excluded(nothing):
    net, _ = build(LeNet, LENET)
    assert len(network.select_layers(net, exclude=nothing)[0]) == 4


def test_networks_that_are_not_ready():
    with pytest.raises(TypeError, match="NoneType"):
        network.layers(None)
    with pytest.raises(TypeError, match="Sequential; accepted: a gluon.HybridBlock"):
        network.layers(nn.Sequential())
    net = LeNet()
    with pytest.raises(NetworkError, match=r"conv.0.weight is not initialized: call net.initialize"):
        network.layers(net)
    net.initialize()
    check_initialized(net)
    with pytest.raises(NetworkError, match=r"conv.0.weight has no data yet.*net\(example\)"):
        network.layers(net)
    net(mx.nd.zeros(LENET))
    assert len(network.layers(net)) == 4


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("technique", [
    lambda net, example: gc.pruning.prune_threshold(net, 0.1, select=[nn.Conv2D, nn.Dense]),
    lambda net, example: gc.pruning.prune_magnitude(net, 0.5),
    lambda net, example: gc.pruning.prune_magnitude(net, 0.5, scope="global"),
    lambda net, example: gc.pruning.prune_channels(net, example, 0.5, round_to=1),
    lambda net, example: gc.quantization.quantize_weights(net),
])
def test_weights_that_are_not_finite_are_refused_by_name_with_nothing_changed(technique, bad):
    net, example = build(LeNet, LENET)
    weight = net.dense[0].weight.data()
    weight[3, 4] = bad
    before = values(net)
    with pytest.raises(NetworkError, match=r"dense.0"):
        technique(net, example)
    assert identical(before, values(net))


def test_snapshot_is_a_copy_that_can_be_put_back():
    net, example = build(NormNet)
    before, taken = values(net), network.snapshot(net)
    net.initialize(mx.init.One(), force_reinit=True)
    net(example)
    assert not identical(before, values(net))
    network.restore_snapshot(net, taken)
    assert identical(before, values(net))


@pytest.mark.parametrize("dimensions", [1, 3])
def test_a_snapshot_is_put_back_where_onednn_laid_weights_out_anew(dimensions):
    net, example = laid_out_anew(dimensions)
    before, taken, arrays = values(net), network.snapshot(net), [p.data() for p in net.collect_params().values()]
    network.restore_snapshot(net, {name: value + 1 for name, value in taken.items()})
    net(example).wait_to_read()
    assert identical({name: value + 1 for name, value in before.items()}, values(net))
    network.restore_snapshot(net, taken)
    assert identical(before, values(net))
    assert all(p.data() is array for p, array in zip(net.collect_params().values(), arrays))


def test_values_can_be_set_and_sizes_changed_after_a_trainer_could_not_be_made():
    """Gluon has told the parameters of it by then, and it lacks what a trainer has."""
    net, example = build(NormNet)
    taken = network.snapshot(net)
    with pytest.raises(TypeError, match="param_dict"):
        mx.gluon.Trainer(net.collect_params(), "sgd", {"param_dict": {}})
    network.restore_snapshot(net, {name: value + 1 for name, value in taken.items()})
    assert identical({name: value + 1 for name, value in taken.items()}, values(net))
    gc.pruning.prune_channels(net, example, 0.5, round_to=1)


def test_values_keep_their_type_and_wait_for_a_shape():
    net = nn.Dense(2)
    net.initialize()
    set_values(net.weight, np.full((2, 3), 0.5, np.float32))
    net(mx.nd.ones((1, 3)))
    assert (net.weight.data().asnumpy() == 0.5).all()
    net.cast("float16")
    set_values(net.weight, np.full((2, 3), 0.25))
    assert net.weight.data().dtype == np.float16 and (net.weight.data().asnumpy() == 0.25).all()


def test_a_snapshot_leaves_out_what_has_no_data_yet():
    net = LeNet()
    net.initialize()
    assert "conv.0.weight" not in network.snapshot(net)


def test_assorted_layers_have_gluons_kinds():
    net, _ = build(Assorted)
    assert [layer.kind for layer in network.layers(net)] == ["Embedding", "Conv2DTranspose", "Conv2D", "Dense"]


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.5), np.int64(1), Fraction(1, 2)])
def test_check_number_takes_real_numbers(value):
    assert check_number("x", value, minimum=0, maximum=1) is None


@pytest.mark.parametrize("value", [True, "1", None, 1j, [1], np.bool_(True)])
def test_check_number_refuses_other_types(value):
    with pytest.raises(TypeError, match="x is .*; accepted: a number"):
        check_number("x", value)


@pytest.mark.parametrize(("value", "bounds", "message"), [
    (-0.1, {"minimum": 0}, "x is -0.1; accepted: a finite number at least 0"),
    (1, {"minimum": 0, "below": 1}, "x is 1; accepted: a finite number at least 0 and less than 1"),
    (0, {"above": 0}, "x is 0; accepted: a finite number more than 0"),
    (2, {"maximum": 1}, "x is 2; accepted: a finite number at most 1"),
    (float("nan"), {}, "x is nan; accepted: a finite number"),
    (float("inf"), {"minimum": 0}, "x is inf; accepted: a finite number at least 0"),
])
def test_check_number_names_value_and_bounds(value, bounds, message):
    with pytest.raises(ValueError) as error:
        check_number("x", value, **bounds)
    assert str(error.value) == message


def test_check_integer():
    assert check_integer("bits", np.int32(8), 2, 8) is None
    for value in (8.0, True, "8", None):
        with pytest.raises(TypeError, match="bits is .*; accepted: an integer"):
            check_integer("bits", value, 2, 8)
    for value in (1, 9, 10 ** 400):
        with pytest.raises(ValueError, match="bits is .*at least 2 and at most 8"):
            check_integer("bits", value, 2, 8)


def test_check_choice():
    assert check_choice("norm", 2, (1, 2)) is None
    for value in (3, "1", True, None, [1]):
        with pytest.raises(ValueError, match="norm is .*; accepted: 1, 2"):
            check_choice("norm", value, (1, 2))


def test_tables_align_numbers_right_and_text_left():
    assert format_table(("layer", "size"), [("a", 1), ("long name", "1,234")]) == (
        "layer       size\n"
        "---------  -----\n"
        "a              1\n"
        "long name  1,234")
    assert format_table(("layer", "size"), []) == "layer  size\n-----  ----"


def test_tables_take_scientific_notation_for_a_number():
    lines = format_table(("scale",), [("1e-05",), ("0.25",)]).splitlines()
    assert lines[-1] == " 0.25"


def test_collect_params_of_gluon_agrees():
    net, _ = build(NormNet)
    assert {id(p) for p in network.parameters(net).values()} == {id(p) for p in net.collect_params().values()}
    assert isinstance(net, gluon.HybridBlock)


class InterruptedAfterOne(dict):
    """Values of which the second pass ends after the first of them, as by Ctrl-C."""

    passes = 0

    def items(self):
        self.passes += 1
        for number, item in enumerate(super().items()):
            if self.passes == 2 and number == 1:
                raise KeyboardInterrupt
            yield item


def test_an_interrupted_restoring_leaves_all_values_as_they_were():
    net, _ = build(NormNet, (2, 3, 12, 12))
    before = values(net)
    with pytest.raises(KeyboardInterrupt):
        network.restore_snapshot(net, InterruptedAfterOne({name: value + 1 for name, value in before.items()}))
    assert identical(before, values(net))


@pytest.mark.parametrize("name, said", [
    ("NDArray", "an NDArray"), ("ndarray", "an ndarray"), ("ImageDataset", "an ImageDataset"), ("int", "an int"),
    ("uint8 array", "a uint8 array"), ("float32 array", "a float32 array"), ("list", "a list")])
def test_messages_name_types_with_their_article(name, said):
    assert with_article(name) == said


def test_values_are_read_while_a_pass_lays_the_weights_out_anew():
    """``parameter.data().asnumpy()`` in place of ``snapshot`` ends within twenty rounds in a segmentation fault."""
    subprocess.run([sys.executable, "-c", textwrap.dedent("""
        import gluon_compress as gc
        import mxnet as mx
        import numpy as np
        net = mx.gluon.nn.HybridSequential()
        for _ in range(12):
            net.add(mx.gluon.nn.Conv2D(32, 3, padding=1, in_channels=32))
        net.initialize()
        example = mx.nd.random.uniform(shape=(8, 32, 8, 8))
        before = gc.network.snapshot(net)
        for _ in range(100):
            net(example).wait_to_read()
            with mx.autograd.record():
                outputs = net(example)
            for name, value in gc.network.snapshot(net).items():
                assert np.array_equal(value, before[name]), name
        """)], check=True)
