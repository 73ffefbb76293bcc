"""What cannot be opened is refused in one sentence; damaged and forged files do nothing else, whoever wrote them."""
import functools
import io
import json
import os
import pickle
import random
import tarfile
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import gluon_compress as gc

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress import CheckpointError
from gluon_compress.checkpoint import describe
from gluon_compress.checkpoint.symbol_check import checked_content
from gluon_compress.files.schema import Malformed
from forging import places, put
from modules import detector, lenet, sym, trained
from mxnet.gluon import nn

LONGEST = 700  # characters of a message, without paths


def sentence(error):
    """Whether a message is one line of reasonable length, not MXNet's C++ stack."""
    text = str(error)
    return "\n" not in text and len(text) < LONGEST and "Stack trace" not in text and "src/" not in text


def refused(path, match, **options):
    """Loading fails with a CheckpointError of one sentence, which names what it is about."""
    for call in (gc.load, describe):
        with pytest.raises(CheckpointError, match=match) as raised:
            call(path, **options)
        assert sentence(raised.value), str(raised.value)
    return str(raised.value)


@functools.cache
def checkpoint():
    """``(bytes of the graph, bytes of the parameters)`` of a small network that Module trained."""
    folder = Path(tempfile.mkdtemp())
    data = sym.Activation(sym.BatchNorm(sym.Convolution(sym.var("data"), num_filter=2, kernel=(3, 3), name="conv"),
                                        name="norm"), act_type="relu")
    trained(sym.SoftmaxOutput(sym.FullyConnected(data, num_hidden=3, name="fc"), name="softmax"),
            {"data": (2, 1, 5, 5)}, (2,))[0].save_checkpoint(str(folder / "net"), 0)
    return (folder / "net-symbol.json").read_bytes(), (folder / "net-0000.params").read_bytes()


@pytest.fixture
def files(tmp_path):
    """``files(graph=..., parameters=...)`` writes a checkpoint, with other bytes for one of its files; its prefix."""
    def write(graph=None, parameters=None):
        good = checkpoint()
        (tmp_path / "net-symbol.json").write_bytes(good[0] if graph is None else graph)
        (tmp_path / "net-0000.params").write_bytes(good[1] if parameters is None else parameters)
        return tmp_path / "net"
    return write


def changed(change):
    """The JSON of the graph after ``change(graph)``."""
    graph = json.loads(checkpoint()[0])
    change(graph)
    return json.dumps(graph).encode()


def with_arrays(change):
    """The bytes of the parameters after ``change({name: NDArray})``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.params"
        path.write_bytes(checkpoint()[1])
        arrays = mx.nd.load(str(path))
        change(arrays)
        mx.nd.save(str(path), arrays)
        return path.read_bytes()


# ---- a graph and parameters that do not belong together

def test_parameters_that_are_missing_are_all_named(files):
    def remove(arrays):
        del arrays["arg:conv_weight"], arrays["aux:norm_moving_var"], arrays["arg:fc_bias"]
    said = refused(files(parameters=with_arrays(remove)), "the graph reads .*which the parameters do not have")
    assert all(name in said for name in ("conv_weight", "norm_moving_var", "fc_bias", "inputs are data"))


@pytest.mark.parametrize(("name", "shape", "match"), [
    ("conv_weight", (5, 1, 3, 3), "'conv' of num_filter 2"),
    ("conv_weight", (2, 1, 5, 5), r"'conv' of kernel \(3, 3\)"),
    ("conv_bias", (3,), "'conv' of 2 units"), ("fc_weight", (4, 18), "'fc' of num_hidden 3"),
    ("conv_weight", (2, 9), "'conv' of 4 dimensions"), ("norm_gamma", (7,), "norm has scale, shift and statistics")])
def test_parameters_of_another_shape_are_named(files, name, shape, match):
    """Before anything is computed, though the shape of the input is not known."""
    refused(files(parameters=with_arrays(lambda arrays: arrays.update({f"arg:{name}": mx.nd.ones(shape)}))), match)


def test_a_layer_that_does_not_fit_the_one_before_is_named_in_the_first_call(files):
    prefix = files(parameters=with_arrays(lambda arrays: arrays.update({"arg:fc_weight": mx.nd.ones((3, 7))})))
    with pytest.raises(ValueError, match="do not fit the network: .*fc") as raised:
        gc.load(prefix)(mx.nd.ones((2, 1, 5, 5)))
    assert sentence(raised.value)


def test_parameters_of_another_network_are_refused(files, tmp_path):
    trained(lenet())[0].save_params(str(tmp_path / "other.params"))
    refused(files(parameters=(tmp_path / "other.params").read_bytes()), "which the parameters do not have")


def test_parameters_that_nothing_reads_are_named_in_a_warning_from_the_callers_line(files):
    prefix = files(parameters=with_arrays(lambda arrays: arrays.update({"arg:fc9_weight": mx.nd.ones((2, 2))})))
    with pytest.warns(UserWarning, match="nothing in the graph reads the parameters fc9_weight") as caught:
        gc.load(prefix)
    assert caught[0].filename == __file__
    assert describe(prefix).left_out == {"fc9_weight": "nothing in the graph reads it"}


def test_names_of_inputs_and_outputs_that_are_not_there_are_refused(files):
    refused(files(), "inputs has 'date', which the network does not read; accepted: names among data", inputs=["date"])
    refused(files(), "outputs has 'fc_outptu', which the graph does not compute; did you mean .*fc_output",
            outputs=["fc_outptu"])
    refused(files(), "the graph reads data, which the parameters do not have .inputs are fc_weight",
            inputs=["fc_weight"])


def test_a_network_whose_inputs_are_of_unknown_number_is_refused(tmp_path):
    """Which of its variables are inputs cannot be told from a graph without parameters."""
    symbol = sym.FullyConnected(sym.var("data"), sym.var("w"), sym.var("b"), num_hidden=2, name="fc")
    mx.model.save_checkpoint(str(tmp_path / "net"), 0, symbol, {}, {})
    refused(tmp_path / "net", "the graph reads w, b, which the parameters do not have .inputs are data; inputs= says")
    constant = sym.broadcast_add(sym.var("x", shape=(1,)), sym.ones((2,)))
    mx.model.save_checkpoint(str(tmp_path / "all"), 0, constant, {"x": mx.nd.ones(1)}, {})
    refused(tmp_path / "all", "the graph reads parameters only")


def test_a_graph_that_puts_out_losses_alone_is_refused(tmp_path):
    out = sym.FullyConnected(sym.var("data"), num_hidden=2, name="fc")
    loss = sym.MakeLoss(sym.mean(sym.square(out - sym.var("label"))), name="loss")
    values = {"fc_weight": mx.nd.ones((2, 3)), "fc_bias": mx.nd.ones(2)}
    mx.model.save_checkpoint(str(tmp_path / "net"), 0, loss, values, {})
    refused(tmp_path / "net", r"every output of the graph \(loss_output\) is a loss .* label \(label\); accepted: out")
    assert gc.load(tmp_path / "net", outputs=["fc"])(mx.nd.ones((1, 3))).shape == (1, 2)
    assert describe(tmp_path / "net", inputs=["data", "label"]).inputs == ("data", "label")


def test_a_detector_whose_graph_does_not_detect_is_refused(tmp_path):
    symbol = detector()
    symbol = sym.Group([symbol[0], symbol[1], symbol[2]])
    shapes = dict(zip(symbol.list_arguments(), symbol.infer_shape(data=(1, 3, 16, 16), label=(1, 2, 5))[0]))
    values = {name: mx.nd.ones(shape) for name, shape in shapes.items() if name not in ("data", "label")}
    mx.model.save_checkpoint(str(tmp_path / "net"), 0, symbol, values, {})
    refused(tmp_path / "net", "trains a detector .MultiBoxTarget. and has no MultiBoxDetection")


@pytest.mark.parametrize(("operator", "attributes"), [
    ("Custom", {"op_type": "mine"}), ("_Native", {"info": "0x1234", "need_top_grad": "False"}), ("_cvimread", {}),
    ("TensorRT", {}), ("no_such_operator", {})])
def test_unknown_operators_are_named(files, operator, attributes):
    def put(graph):
        node = next(node for node in graph["nodes"] if node["op"] == "Activation")
        node["op"], node["attrs"] = operator, attributes
    refused(files(changed(put)), f"{operator} 'activation.*no file may use this operator")


def test_loops_are_named_as_what_they_are(files):
    def put(graph):
        node = next(node for node in graph["nodes"] if node["op"] == "Activation")
        node.update(op="_foreach", subgraphs=[{"nodes": []}])
    refused(files(changed(put)), "is a _foreach, which has a graph of its own: no file may use loops")


def test_an_epoch_that_is_not_there_is_named_with_those_that_are(files):
    refused(files(), "no parameters of epoch 3; accepted: 0", epoch=3)
    refused(f"{files()}-0000.params", "is of epoch 0; accepted: 0", epoch=3)
    with pytest.raises(CheckpointError, match="is of epoch 0; accepted: 0"):
        gc.load(f"{files()}-0000.params", nn.Dense(2), epoch=3)
    with pytest.raises(FileNotFoundError, match="checkpoints there: net"):
        gc.load(files().with_name("nett"))


# ---- parameters that are not what the format says

def sparse(arrays):
    arrays["arg:fc_weight"] = arrays["arg:fc_weight"].tostype("row_sparse")


def not_a_number(arrays):
    arrays["arg:fc_bias"][:] = np.nan


def twice(arrays):
    arrays["aux:fc_bias"] = arrays["arg:fc_bias"]


@pytest.mark.parametrize(("change", "match"), [
    (sparse, "is row_sparse; accepted: dense"), (not_a_number, "arg:fc_bias holds NaN"),
    (twice, "'fc_bias' twice, as arg:fc_bias and as aux:fc_bias")])
def test_arrays_that_are_not_taken_are_named(files, change, match):
    refused(files(parameters=with_arrays(change)), match)


def test_arrays_without_names_are_refused(files, tmp_path):
    mx.nd.save(str(tmp_path / "list.params"), [mx.nd.ones(3)])
    refused(files(parameters=(tmp_path / "list.params").read_bytes()), "1 arrays and 0 names")


def test_parameters_alone_need_their_network(tmp_path):
    net = nn.Dense(2, in_units=3)
    net.initialize()
    net.save_parameters(str(tmp_path / "net.params"))
    refused(tmp_path / "net.params", "no graph beside it; give load the network")
    refused(tmp_path, "holds parameters .net.params. and no graph; give load the network")


def outcome(path, options=None):
    """"loaded", when a file loads and its network computes or says why not; "refused", for one sentence."""
    try:
        net = gc.load(path, **(options or {}))
    except (CheckpointError, FileNotFoundError) as error:
        assert sentence(error), str(error)
        return "refused"
    try:
        net(mx.nd.ones((2, 1, 5, 5)))
        mx.nd.waitall()
    except (ValueError, mx.MXNetError) as error:
        assert str(error)
    return "loaded"


@pytest.mark.filterwarnings("ignore:.*nothing in the graph reads")
@pytest.mark.parametrize("which", ["graph", "parameters"])
def test_files_that_end_early_are_refused_at_every_length(files, which):
    content = checkpoint()[which == "parameters"]
    lengths = range(len(content)) if which == "parameters" else range(0, len(content), 7)
    assert {outcome(files(**{which: content[:length]})) for length in lengths} == {"refused"}
    assert outcome(files(**{which: content + b"\0"})) == "refused"


@pytest.mark.filterwarnings("ignore:.*nothing in the graph reads")
@pytest.mark.parametrize("which", ["graph", "parameters"])
def test_any_byte_may_be_another(files, which):
    """Each byte that is not a value, and some of the values: what loads computes, all else is refused."""
    content, chance = checkpoint()[which == "parameters"], random.Random(which)
    outcomes = []
    for place in range(0, len(content), 3 if which == "graph" else 1):
        other = bytearray(content)
        other[place] = chance.choice([other[place] ^ (1 << chance.randrange(8)), chance.randrange(256), 0, 255])
        outcomes.append(outcome(files(**{which: bytes(other)})))
    assert outcomes.count("refused") > len(outcomes) / 4


NUMBERS = (0, 1, 2, 33, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)


@pytest.mark.parametrize("width", [4, 8])
def test_any_number_of_the_parameters_may_be_another(files, width):
    """Lengths, dimensions and types that would take all memory, or read beyond the end."""
    content = checkpoint()[1]
    tracemalloc.start()
    for place in range(0, 24 + 60, 4):
        for number in NUMBERS:
            other = content[:place] + (number % 2 ** (8 * width)).to_bytes(width, "little") + content[place + width:]
            outcome(files(parameters=other))
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()


STRANGE = (None, True, -1, 2**31, 10**30, 0.5, "", "x", "(1,", [], {}, [[0, 0, 0]], [-1, 0, 0], {"x": 1}, "null",
           "data")


@pytest.mark.filterwarnings("ignore:.*nothing in the graph reads")
def test_anything_may_stand_at_any_place_of_a_graph(files):
    graph, chance = json.loads(checkpoint()[0]), random.Random(0)
    outcomes = [outcome(files(json.dumps(put(graph, place, chance.choice(STRANGE))).encode()))
                for place in places(graph)]
    assert outcomes.count("refused") > len(outcomes) / 2


def test_graphs_that_would_take_hours_to_walk_are_opened_or_refused_soon(files):
    """A chain of softmaxes whose every link is an output; arrays without end."""
    nodes = [{"op": "null", "name": "data", "inputs": []}, {"op": "null", "name": "label", "inputs": []}]
    nodes += [{"op": "SoftmaxOutput", "name": f"s{number}", "inputs": [[max(number - 1, 2) - (number == 2) * 2, 0, 0],
                                                                       [1, 0, 0]]} for number in range(2, 3000)]
    graph = {"nodes": nodes, "heads": [[number, 0, 0] for number in range(2, 3000)], "arg_nodes": [0, 1],
             "attrs": {"mxnet_version": ["int", 10901]}}
    assert outcome(files(json.dumps(graph).encode())) in ("loaded", "refused")
    for node in nodes[2:]:
        node["op"] = "MakeLoss"
    graph["nodes"][2]["inputs"][0] = [1, 0, 0]
    assert outcome(files(json.dumps(graph).encode())) == "refused"
    graph["heads"] = [[2, 0, 0]] * 20_000
    refused(files(json.dumps(graph).encode()), "the graph has 20000 outputs; accepted: 1 to 10000")
    many = np.array([0x112, 0, 200_000], np.uint64).tobytes() + bytes(4 * 200_000)
    refused(files(parameters=many), "200000 arrays; accepted: at most 100000")


def test_names_from_a_file_cannot_drive_a_terminal(files):
    prefix = files(checkpoint()[0].replace(b'"softmax"', '"\u202esoftmax\\nFAKE"'.encode()))
    found = gc.load(prefix).found
    assert "\u202e" in found.outputs[0] and "\n" in found.outputs[0]
    assert "\u202e" not in found.line() + found.summary() and "\n" not in found.line()
    refused(files(checkpoint()[0].replace(b'"softmax"', b'"\\u001b[2J"')), "MXNet cannot read the graph")


# ---- archives

def tar_of(path, *members, packed="w:gz"):
    """An archive of ``(TarInfo or name, content)``."""
    with tarfile.open(path, packed) as archive:
        for member, content in members:
            member = tarfile.TarInfo(member) if isinstance(member, str) else member
            member.size = len(content) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(content))
    return path


def zip_of(path, *members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members:
            archive.writestr(member, content)
    return path


def member(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def good_members():
    return [("net-symbol.json", checkpoint()[0]), ("net-0000.params", checkpoint()[1])]


@pytest.fixture
def own_temporary_folder(tmp_path, monkeypatch):
    """Where archives are unpacked; empty afterwards."""
    checkpoint()  # has a folder of its own
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not list(folder.iterdir())


NAMES = ["../evil", "/evil", "a/../../evil", "..", "a/b/../../../evil", "x\\..\\evil", "a\0b"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_members_stay_in_the_folder(tmp_path, own_temporary_folder, name, pack):
    path = pack(tmp_path / "model.archive", *good_members(), (name, b"evil"))
    try:
        gc.load(path)  # zipfile itself cuts names at NUL, tarfile too
    except CheckpointError as error:
        assert sentence(error) and "accepted: files within it" in str(error)
    else:
        assert "\0" in name
    assert not list(tmp_path.rglob("*evil*"))


KINDS = {"a symbolic link": member("x", tarfile.SYMTYPE, "/etc/passwd"), "a hard link": member("x", tarfile.LNKTYPE,
                                                                                         "net-symbol.json"),
         "a device": member("x", tarfile.CHRTYPE), "a pipe": member("x", tarfile.FIFOTYPE)}


@pytest.mark.parametrize("kind", KINDS)
def test_links_and_devices_are_refused(tmp_path, own_temporary_folder, kind):
    refused(tar_of(tmp_path / "model.tar.gz", *good_members(), (KINDS[kind], b"")), "holds 'x', a link or a device")


def test_a_link_in_a_zip_is_refused(tmp_path, own_temporary_folder):
    link = zipfile.ZipInfo("x")
    link.external_attr = 0o120777 << 16
    refused(zip_of(tmp_path / "model.zip", *good_members(), (link, "/etc/passwd")), "a link or a device")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_a_name_twice_and_a_file_that_is_a_folder_are_refused(tmp_path, own_temporary_folder, pack):
    refused(pack(tmp_path / "twice", *good_members(), good_members()[0]), "'net-symbol.json' twice")
    refused(pack(tmp_path / "both", *good_members(), ("net-symbol.json/x", b"")), "'net-symbol.json/x' in a file")


@pytest.mark.parametrize("pack", [tar_of, zip_of])
@pytest.mark.parametrize("name", ["a" * 256, "ü" * 128, f"folder/{'a' * 300}"])
def test_names_that_no_file_can_have_are_refused(tmp_path, own_temporary_folder, pack, name):
    refused(pack(tmp_path / "model.archive", *good_members(), (name, b"")), "accepted: files within it")


@pytest.mark.parametrize("pack", [tar_of, zip_of])
@pytest.mark.parametrize("prefix", ["net", "prediction_net"])
def test_what_an_archive_lacks_is_named_with_the_path_of_the_archive(tmp_path, own_temporary_folder, pack, prefix):
    (_, graph), (_, parameters) = good_members()
    path = pack(tmp_path / "model.archive", (f"{prefix}-0000.params", parameters))
    assert str(path) in refused(path, "symbol.json is not there|holds parameters")
    path = pack(tmp_path / "model.archive", (f"{prefix}-symbol.json", graph))
    assert str(path) in refused(path, "has no parameters beside it")


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_archives_unpack_within_bounds(tmp_path, own_temporary_folder, pack):
    big = bytes(70 << 20)
    refused(pack(tmp_path / "large", ("x", big)), "unpacks to more than 67,108,864 bytes")
    refused(pack(tmp_path / "many", *((f"{number}", b"") for number in range(1001))), "at most 1000")
    refused(pack(tmp_path / "deep", ("a/" * 9 + "x", b"")), "in 8 folders")


def test_headers_of_a_tar_stay_within_bounds(tmp_path, own_temporary_folder):
    """An extra header is read whole by tarfile, however long it says that it is."""
    info = tarfile.TarInfo("x")
    info.pax_headers = {"comment": "a" * (40 << 20)}
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO())
    tracemalloc.start()
    refused(tmp_path / "model.tar.gz", "too large")
    assert tracemalloc.get_traced_memory()[1] < 60 << 20
    tracemalloc.stop()


@pytest.mark.filterwarnings("ignore:.*nothing in the graph reads")
@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_archives_that_end_early_or_are_damaged_are_refused(tmp_path, own_temporary_folder, pack):
    content = pack(tmp_path / "good", *good_members()).read_bytes()
    path, chance = tmp_path / "model.archive", random.Random(0)
    for length in range(0, len(content), max(1, len(content) // 150)):
        path.write_bytes(content[:length])
        assert outcome(path) == "refused", length
    for _ in range(300):
        other = bytearray(content)
        other[chance.randrange(len(other))] ^= 1 << chance.randrange(8)
        path.write_bytes(other)
        outcome(path)


def test_a_zip_with_a_password_is_refused(tmp_path, own_temporary_folder):
    content = bytearray(zip_of(tmp_path / "model.zip", *good_members()).read_bytes())
    for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = content.find(mark)
        content[at + place] |= 1
    (tmp_path / "model.zip").write_bytes(content)
    refused(tmp_path / "model.zip", "is encrypted")


def test_errors_inside_an_archive_name_the_archive(tmp_path, own_temporary_folder):
    said = refused(tar_of(tmp_path / "model.tar.gz", good_members()[0], ("net-0000.params", b"x" * 40)),
                   r"model.tar.gz/net-0000.params")
    assert str(own_temporary_folder) not in said


def test_archives_in_archives_end_somewhere(tmp_path, own_temporary_folder):
    content = tar_of(tmp_path / "0", *good_members()).read_bytes()
    for number in range(1, 8):
        path = tar_of(tmp_path / f"{number}", ("inner", content))
        content = path.read_bytes()
    refused(path, "holds no network of MXNet")
    assert outcome(tmp_path / "1") == "loaded"


# ---- what is no network of MXNet

class Trap:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_other_frameworks_files_are_named_as_what_they_are(tmp_path):
    def file(name, content):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name
    pickled = pickle.dumps(Trap(tmp_path / "ran"))
    for path, match in (
            (file("model.pkl", pickled), "is a pickle"), (file("xgboost-model", pickled), "is a pickle"),
            (file("net.onnx", b"\x08\x07\x12\x07pytorch"), "is an ONNX file"),
            (file("net.h5", b"\x89HDF\r\n\x1a\n" + bytes(100)), "HDF5"),
            (zip_of(tmp_path / "net.pt", ("archive/data.pkl", pickled), ("archive/data/0", b"")), "of PyTorch"),
            (zip_of(tmp_path / "net.keras", ("config.json", "{}"), ("model.weights.h5", b"")), "of Keras"),
            (file("train.rec", b"\x0a\x23\xd7\xce" + bytes(100)), "RecordIO"), (file("empty", b""), "an empty file"),
            (file("net-0001.states", pickled), "is a pickle"), (file("cat.png", b"\x89PNG\r\n\x1a\n"), "a picture"),
            (file("net.tar.xz", b"\xfd7zXZ\0"), "an .xz archive"),
            (file("noise", bytes(range(200, 256)) * 9), "damaged"),
            (file("settings.json", b"{}"), "damaged"), (file("notes.txt", b"hello"), "damaged")):
        refused(path, match)
        (path).unlink()
    assert not (tmp_path / "ran").exists()


def test_folders_without_a_network_are_refused(tmp_path):
    refused(tmp_path, "holds no network of MXNet .it is empty")
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    refused(tmp_path, "model.pkl is a pickle")
    for name in ("a", "b"):
        for end, content in zip(("-symbol.json", "-0000.params"), checkpoint()):
            (tmp_path / f"{name}{end}").write_bytes(content)
    refused(tmp_path, "holds several graphs .a-symbol.json, b-symbol.json.; accepted: the path of one")
    assert not (tmp_path / "ran").exists()


def test_arguments_that_a_file_has_no_use_for_are_refused(files, tmp_path):
    with pytest.raises(ValueError, match="precision is 'fp32', which a network that this package did not save"):
        gc.load(files(), precision="fp32")
    with pytest.raises(ValueError, match="simulate is True"):
        gc.load(files(), simulate=True)
    gc.save(tmp_path / "net.gcz", gc.load(files()), example=mx.nd.ones((2, 1, 5, 5)))
    with pytest.raises(ValueError, match="head is 'logits', which a compressed file has no use for"):
        gc.load(tmp_path / "net.gcz", head="logits")

    class Wants(nn.HybridBlock):
        def __init__(self, units):
            super().__init__()
    with pytest.raises(TypeError, match="net is the class Wants, which cannot be called without arguments"):
        gc.load(files(), Wants)


# ---- drawing random numbers

def sampler():
    """Gamma variates of what is put in, as networks for forecasting draw them."""
    alpha = sym.identity(sym.var("data"), name="alpha")
    return sym.sample_gamma(alpha, sym.broadcast_mul(sym.ones_like(alpha), sym.var("scale", shape=(1, 1))), shape=(5,),
                            name="drawn")


def test_gamma_variates_are_drawn_of_any_parameter(tmp_path):
    """MXNet itself draws for ever where the parameter is negative, infinite or NaN."""
    mx.model.save_checkpoint(str(tmp_path / "net"), 0, sampler(), {"scale": mx.nd.ones((1, 1))}, {})
    net, data = gc.load(tmp_path / "net", inputs=["data"]), mx.nd.array([[0.5, 2.0, 1e3, 0.01]])
    draws = {}
    for which, block in (("ours", net), ("MXNet's", mx.gluon.SymbolBlock(sampler(), mx.sym.var("data")))):
        block.collect_params().initialize(mx.init.One(), force_reinit=True)
        mx.random.seed(7)
        draws[which] = block(data).asnumpy()
    np.testing.assert_array_equal(draws["ours"], draws["MXNet's"])
    strange = mx.nd.array([[np.nan, np.inf, -np.inf, -1, 0, 1e38, -0.0]])
    assert np.isfinite(net(strange).asnumpy()).all()
    gc.save(tmp_path / "net.gcz", net)
    assert np.isfinite(gc.load(tmp_path / "net.gcz")(strange).asnumpy()).all()


@pytest.mark.parametrize("change", [
    lambda nodes: nodes["drawn"].update(inputs=[[0, 0, 0], nodes["drawn"]["inputs"][1]]),
    lambda nodes: nodes["drawn_guard"].update(op="broadcast_add", inputs=nodes["drawn_guard"]["inputs"][:2]),
    lambda nodes: nodes["drawn_guard_above"]["attrs"].update(scalar="-1.0"),
    lambda nodes: nodes["drawn_guard_above"]["attrs"].update(scalar="nan"),
    lambda nodes: nodes["drawn_guard_below"]["attrs"].update(scalar="inf"),
    lambda nodes: nodes["drawn_guard_below"].update(op="_greater_scalar"),
    lambda nodes: nodes["drawn_guard_below"].update(inputs=nodes["drawn"]["inputs"][1:]),
    lambda nodes: nodes["drawn_guard_one"].update(op="negative")])
def test_a_forged_graph_draws_with_the_guard_or_not_at_all(tmp_path, change):
    """Also where the file is one of ours."""
    mx.model.save_checkpoint(str(tmp_path / "net"), 0, sampler(), {"scale": mx.nd.ones((1, 1))}, {})
    graph = json.loads(gc.load(tmp_path / "net")(mx.sym.var("data")).tojson())
    checked_content(json.dumps(graph))
    change({node["name"]: node for node in graph["nodes"]})
    with pytest.raises(Malformed):
        checked_content(json.dumps(graph))
