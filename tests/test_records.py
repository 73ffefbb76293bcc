"""Records carry themselves: a technique whose record is defined here is saved and loaded like the package's own."""
import json

import gluon_compress as gc

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from forging import put_together, taken_apart
from gluon_compress import CheckpointError, RecordError, checkpoint
from gluon_compress.coding import share_weights
from gluon_compress.files.schema import REASONS, Malformed, fields, integer
from gluon_compress.pruning import ChannelPlan, Masks, Sensitivity, prune_channels, prune_magnitude
from gluon_compress.quantization import FoldedNorms, Scales, quantize, quantize_weights
from gluon_compress.records import KINDS, Form, NetworkRecord, Record
from mxnet.gluon import nn
from networks import NormNet, SharedWeights, build, identical, values


class IndicesAndPalette(Form):
    """Each value as the index of one of up to 256 numbers, which lie beside the indices; the first is 0."""

    parts = ("palette",)

    def __init__(self, palette):
        self.palette = palette

    def encode(self, values):
        if not np.isin(values, self.palette).all():
            raise RecordError("values that are not in the palette")
        order = np.argsort(self.palette)
        return order[np.searchsorted(self.palette, values, sorter=order)].astype(np.uint8)

    def decode(self, stored):
        if stored.size and stored.max() >= len(self.palette):
            raise Malformed("an index beyond the palette")
        return self.palette[stored]

    def tensors(self):
        return {"palette": self.palette}

    @classmethod
    def stored_type(cls, dtype):
        return "uint8"

    @classmethod
    def check(cls, name, layout, tensors):
        if tensors["palette"].ndim != 1 or tensors["palette"].dtype != layout["dtype"]:
            raise Malformed(f"the palette of {name}")

    @classmethod
    def read(cls, name, layout, tensors):
        return cls(tensors["palette"])


class Palettes(Record, in_files="palettes", form=IndicesAndPalette):
    """Weights that share few values."""

    header_schema = fields({"left_out": REASONS})

    def __init__(self, palettes, left_out):
        self.palettes, self.left_out = palettes, left_out

    def summary(self):
        return ", ".join(self.palettes)

    def forms(self):
        return {name: IndicesAndPalette(palette) for name, palette in self.palettes.items()}

    def header(self):
        return {"left_out": self.left_out}

    @classmethod
    def from_file(cls, header, forms):
        return cls({name: form.palette for name, form in forms.items()}, header["left_out"])


def few_values(net, most):
    """The technique: the weights of each layer become the nearest of ``most`` of them."""
    palettes = {}
    for name, parameter in gc.network.parameters(net).items():
        if name.endswith("weight"):
            value = parameter.data().asnumpy()
            others = np.setdiff1d(np.quantile(value, np.linspace(0, 1, most)).astype(np.float32), [0])
            palettes[name] = np.append(np.float32(0), others)
            nearest = np.abs(value[..., None] - palettes[name]).argmin(axis=-1)
            parameter.set_data(mx.nd.array(palettes[name][nearest]))
    return Palettes(palettes, {"features.1": "it has no weight"})


class FewerOutputs(Record, in_files="fewer outputs"):
    """The last outputs of a dense layer are gone."""

    schema = fields({"count": integer(1, 1000), "left_out": REASONS})
    resizes = True

    def __init__(self, count, left_out=None):
        self.count, self.left_out = count, left_out or {}

    def summary(self):
        return f"{self.count} outputs"

    def to_dict(self):
        return {"count": self.count, "left_out": self.left_out}

    def new_shapes(self, shapes):
        return {name: (self.count, *shape[1:]) if name.startswith("output") else shape
                for name, shape in shapes.items()}

    def resize(self, net):
        named = gc.network.parameters(net)
        keep = {name: named[name].data().asnumpy()[:self.count] for name in ("output.weight", "output.bias")}
        gc.network.resizing.resize(net, {name: value.shape for name, value in keep.items()}, keep, {})


class Scaled(nn.HybridBlock):
    """A network of a class of its own: another one, times a number."""

    def __init__(self, stored_as, inner):
        super().__init__()
        self.stored_as, self.inner = stored_as, inner

    def forward(self, x):
        return self.inner(x) * self.stored_as.factor


class ScaledNetwork(NetworkRecord, in_files="scaled"):
    """What :class:`Scaled` is made of."""

    schema = fields({"factor": integer(1, 9), "left_out": REASONS})

    def __init__(self, factor, graph=None, arrays=None):
        self.factor, self.graph, self.arrays, self.left_out = factor, graph, arrays, {}

    def to_dict(self):
        return {"factor": self.factor, "left_out": self.left_out}

    @classmethod
    def of_checked(cls, record):
        return cls(record["factor"])

    def tensors(self):
        return self.arrays

    @classmethod
    def from_tensors(cls, graph, tensors, records):
        return cls(records["scaled"].factor, graph, tensors)

    def network(self, simulate=False):
        arrays = {name: self.arrays[structural] for name, structural in self.graph.parameter_names.items()}
        inner = gc.network.blocks.block_of(self.graph.outputs, list(self.graph.input_shapes), arrays)
        return Scaled(self, inner)


class Shifted(Form):
    """An invention that goes with no mask: zeros are stored as ones."""

    settings = {"shift": integer(1, 1)}

    def encode(self, values):
        return values + 1

    def decode(self, stored):
        return stored - 1

    def layout(self):
        return {"shift": 1}

    @classmethod
    def read(cls, name, layout, tensors):
        return cls()


class Doubled(Shifted):
    settings = {"factor": integer(2, 2)}

    def encode(self, values):
        return values * 2

    def decode(self, stored):
        return stored / 2

    def layout(self):
        return {"factor": 2}


class Shifts(Record, in_files="shifts", form=Shifted):
    left_out = {}

    def forms(self):
        return {"output.weight": type(self).form()}

    def header(self):
        return {}


class Doubles(Shifts, in_files="doubles", form=Doubled):
    pass


def test_records_whose_forms_do_not_commute_may_be_given_in_any_order(tmp_path):
    net, _ = build(NormNet)
    net.output.weight.set_data(mx.nd.round(net.output.weight.data() * 100))
    stored = []
    for records in ((Shifts(), Doubles()), (Doubles(), Shifts())):
        gc.save(tmp_path / "net", net, *records)
        assert identical(values(gc.load(tmp_path / "net", NormNet())), values(net))
        stored.append(taken_apart((tmp_path / "net").read_bytes())[2])
    assert identical(*stored)


def test_a_form_that_makes_something_of_zeros_is_not_saved_with_masks(tmp_path):
    net, _ = build(NormNet)
    with pytest.raises(RecordError, match="pruned weights of output.weight are stored as something other than zero"):
        gc.save(tmp_path / "net", net, Shifts(), prune_magnitude(net, 0.5))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sparsity", [None, 0.7])
def test_a_technique_with_its_own_record_is_saved_and_loaded(tmp_path, sparsity):
    net, example = build(NormNet)
    masks = [] if sparsity is None else [prune_magnitude(net, sparsity)]
    books = few_values(net, 16)
    size = gc.save(tmp_path / "net", net, books, *masks)
    again = gc.load(tmp_path / "net", NormNet())
    assert all(np.array_equal(value, values(again)[name]) for name, value in values(net).items())
    np.testing.assert_allclose(gc.load(tmp_path / "net")(example).asnumpy(), net(example).asnumpy(), rtol=1e-5,
                               atol=1e-5)
    found = checkpoint.records(tmp_path / "net")
    assert found.keys() == {"palettes", *("masks" for _ in masks)}
    assert identical(found["palettes"].palettes, books.palettes)
    assert found["palettes"].left_out == books.left_out
    indices = sum(tensor.nbytes for name, tensor in taken_apart((tmp_path / "net").read_bytes())[2].items()
                  if name.endswith("weight/value"))
    weights = sum(value.size for name, value in values(net).items() if name.endswith("weight"))
    assert indices == (weights if not masks else sum(mask.sum() for mask in masks[0].kept.values())) < size


def test_what_no_longer_fits_such_a_record_is_not_saved(tmp_path):
    net, _ = build(NormNet)
    books = few_values(net, 16)
    net.output.weight.set_data(net.output.weight.data() + 0.01)
    with pytest.raises(RecordError, match="not in the palette"):
        gc.save(tmp_path / "net", net, books)
    for other in ("palettes", FoldedNorms({"norm": "conv"})):  # files do not hold the latter
        with pytest.raises(TypeError, match="is not a record that files hold; accepted: .*Palettes"):
            gc.save(tmp_path / "net", net, other)
    assert not list(tmp_path.iterdir())


def _no_palette(header, tensors):
    del tensors["output.weight/palette"]


def _other_palette(header, tensors):
    tensors["output.weight/palette"] = tensors["output.weight/palette"].astype(np.float64)


def _short_palette(header, tensors):
    tensors["output.weight/palette"] = tensors["output.weight/palette"][:3]


def _two_forms(header, tensors):
    tensors["output.weight/scale"] = np.ones(5, np.float32)
    header["layout"]["output.weight"].update(bits=8, axis=0)


def _other_values(header, tensors):
    tensors["output.weight/value"] = tensors["output.weight/value"].astype(np.float32)


def _other_header(header, tensors):
    header["records"]["palettes"] = {"left_out": 3}


def _other_record(header, tensors):
    header["records"]["what nobody knows"] = {"left_out": {}}


@pytest.mark.parametrize("change", [_no_palette, _other_palette, _short_palette, _two_forms, _other_values,
                                    _other_header, _other_record])
def test_a_stranger_s_file_with_such_a_record_is_checked(tmp_path, change):
    net, _ = build(NormNet)
    gc.save(tmp_path / "net", net, few_values(net, 16))
    what, header, tensors = taken_apart((tmp_path / "net").read_bytes())
    change(header, tensors)
    (tmp_path / "net").write_bytes(put_together(what, header, tensors))
    other, _ = build(NormNet, seed=1)
    before = values(other)
    for target in (None, other):
        with pytest.raises(CheckpointError):
            gc.load(tmp_path / "net", target)
    assert identical(before, values(other))


def test_a_record_may_resize_the_network_that_a_file_is_loaded_into(tmp_path):
    net, example = build(NormNet)
    expected = net(example).asnumpy()[:, :2]
    record = FewerOutputs(2)
    record.resize(net)
    gc.save(tmp_path / "net", net, record)
    other = gc.load(tmp_path / "net", build(NormNet, seed=1)[0])
    np.testing.assert_allclose(other(example).asnumpy(), expected, rtol=1e-5, atol=1e-6)
    assert checkpoint.records(tmp_path / "net")["fewer outputs"].count == 2


def test_a_network_of_a_class_of_its_own_is_saved_and_loaded_as_such(tmp_path):
    net, example = build(NormNet)
    record = ScaledNetwork(3, gc.network.graph.Graph(net, example), values(net))
    scaled = record.network()
    gc.save(tmp_path / "net", scaled)
    again = gc.load(tmp_path / "net")
    assert isinstance(again, Scaled)
    np.testing.assert_allclose(again(example).asnumpy(), 3 * net(example).asnumpy(), rtol=1e-5, atol=1e-5)
    assert not isinstance(gc.load(tmp_path / "net", precision="fp32"), Scaled)
    with pytest.raises(TypeError, match="none, as an? Scaled has its own"):
        gc.save(tmp_path / "net", scaled, prune_magnitude(net, 0.5))
    with pytest.raises(TypeError, match="net is an? Scaled"):
        gc.load(tmp_path / "net", scaled)


# ---- what all records have in common

def all_records():
    """One of each class that goes to JSON."""
    net, example = build(NormNet)
    masks, scales = prune_magnitude(net, 0.5, select=nn.Conv2D), quantize_weights(net, 4, select=nn.Dense)
    curves = Sensitivity("weights", "l1", [0.5], {"output": ["output"]}, {"features.0": "not selected"}, 0.9,
                         {"output": {0.5: 0.8}})
    int8 = quantize(build(NormNet)[0], [example], exclude=["output"], simulate=True, progress=False)
    return [masks, scales, prune_channels(build(NormNet)[0], example, 0.5, round_to=1), curves, int8.record,
            FoldedNorms({"norm": "conv"}, {"norm2": "it reads the variable data"}),
            share_weights(build(NormNet)[0], 4, exclude="Dense")]


@pytest.mark.parametrize("record", all_records(), ids=lambda record: type(record).__name__)
def test_every_record_prints_its_table_goes_through_json_and_names_what_was_left_out(record):
    assert str(record) == repr(record) == record.summary()
    assert record.left_out and all(reason in str(record) for reason in record.left_out.values())
    stored = json.loads(json.dumps(record.to_dict()))
    again = type(record).from_dict(stored)
    assert str(again) == str(record) and again.left_out == record.left_out
    assert json.loads(json.dumps(again.to_dict())) == stored
    for damaged in ({**stored, "further": 1}, {}, [], None, {**stored, "left_out": 3}):
        with pytest.raises(RecordError, match="this is not a record of"):
            type(record).from_dict(damaged)
    with pytest.raises(TypeError):
        record | 3


@pytest.mark.parametrize("record", all_records(), ids=lambda record: type(record).__name__)
def test_records_that_the_first_version_wrote_are_read(record):
    """It said ``untouched`` in two of them, and ``layers`` in scales, whose keys were parameters."""
    stored = record.to_dict()
    old = {"left_out": "untouched", **({"weights": "layers"} if isinstance(record, Scales) else {})}
    again = type(record).from_dict({old.get(name, name): value for name, value in stored.items()})
    assert str(again) == str(record)
    with pytest.raises(RecordError):
        type(record).from_dict({**stored, "untouched": {}})


def test_scales_have_the_names_of_layers_and_of_parameters():
    net, _ = build(SharedWeights)
    scales = quantize_weights(net)
    assert len(scales.layers) == len(scales.weights) > 0
    for (layer, entry), (name, weight) in zip(scales.layers.items(), scales.weights.items()):
        assert entry is weight and gc.network.layer_name(name) == layer
    both = {name: {"bits": 8, "axis": None, "scale": 1.0} for name in ("mix_weight", "mix.weight", "other.weight")}
    assert list(Scales(both).layers) == ["mix_weight", "mix.weight", "other"]  # none is lost


def test_two_records_cannot_have_one_name_in_files():
    assert {cls.in_files for cls in (Masks, Scales, ChannelPlan)} < KINDS.keys()
    with pytest.raises(TypeError, match="as Masks is"):
        class Other(Record, in_files="masks"):
            pass

    class Taken(Form):
        parts = ("scale",)
    with pytest.raises(TypeError, match="'scale'; accepted: a name other"):
        class Third(Record, in_files="third", form=Taken):
            pass
    with pytest.raises(TypeError, match="neither parts nor settings"):
        class Fourth(Record, in_files="third", form=Form):
            pass
    assert "third" not in KINDS  # nothing was registered


def test_a_sensitivity_without_baseline_prints_and_has_no_ratios():
    curves = Sensitivity("weights", "l1", [0.5], {"output": ["output"]}, {}, None, {"output": {0.5: 0.8}})
    assert "0.8000" in str(Sensitivity.from_dict(json.loads(json.dumps(curves.to_dict()))))
    with pytest.raises(RecordError, match="no baseline"):
        curves.ratios(0.1)
    with pytest.raises(RecordError, match="does not say of which layers"):
        Sensitivity.from_dict({**curves.to_dict(), "layers": {}})


def test_a_weight_of_the_lowest_code_has_no_codes_of_fewer_than_8_bits(tmp_path):
    """They go from -7 to 7 with 4 bits, and a file has no place for -8."""
    net = nn.Dense(1, in_units=2, use_bias=False)
    net.initialize()
    net.weight.set_data(mx.nd.array([[-8, 3]]))
    scales = {bits: Scales({"weight": {"bits": bits, "axis": None, "scale": 1.0}}) for bits in (4, 5)}
    with pytest.raises(RecordError, match="not multiples"):
        gc.save(tmp_path / "net", net, scales[4])
    gc.save(tmp_path / "net", net, scales[5])
    assert np.array_equal(values(gc.load(tmp_path / "net", nn.Dense(1, in_units=2, use_bias=False)))["weight"],
                          [[-8, 3]])


@pytest.mark.parametrize(("axis", "scale"), [(None, 0), (None, -1.5), (None, np.nan), (None, [1, 2]), (0, 3.0),
                                              (0, [1, np.inf])])
def test_scales_that_no_file_could_hold_are_refused_at_once(axis, scale):
    with pytest.raises(ValueError, match="the scale of weight is .*; accepted: a positive number"):
        Scales({"weight": {"bits": 8, "axis": axis, "scale": scale}})
