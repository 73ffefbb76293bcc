"""A file from a stranger can only fail to load: nothing runs, hangs, takes all memory, or is half changed."""
import functools
import itertools
import json
import math
import os
import random
import signal
import tracemalloc
import zlib
from contextlib import contextmanager

import gluon_compress as gc

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from forging import (
    KINDS,
    NETWORKS,
    STATES,
    Refused,
    forge,
    kind,
    packers,
    places,
    put,
    put_together,
    taken_apart,
    worker,
)
from gluon_compress import CheckpointError, NetworkError, checkpoint
from gluon_compress.pruning import Masks
from mxnet.gluon import Trainer, nn
from networks import NormNet, build, identical, values

OF_TENSORS = [*NETWORKS, *STATES]
OF_EACH_FORMAT = ("masks and scales", "training, Adam", "logits")
FIXED_BYTES = 150 << 20  # that a file may take beside what it holds
STRANGE = (None, True, -1, 0, 2**31, 10**400, 0.5, math.nan, math.inf, "", "x", "f4,f4", [], {}, [-1], [2**31 - 1] * 2,
           [[]], {"x": 1})


def uses_or_refuses(use, path):
    """Whether what is loaded can be used; only a CheckpointError says that it cannot be loaded."""
    try:
        outcome = use(path)
    except (CheckpointError, Refused):
        return False
    assert outcome in ("loaded", "CheckpointError")
    return outcome == "loaded"


# ---- whatever the header says

def test_a_kind_of_each_format_is_tried():
    """Headers are unpacked and read alike for all kinds of one format."""
    formats = {name: taken_apart(kind(name)[0])[0] for name in OF_TENSORS}
    assert {formats[name] for name in OF_EACH_FORMAT} == set(formats.values())


@pytest.mark.parametrize("name", [*OF_TENSORS, "sensitivity"])
def test_anything_may_stand_at_any_place_of_a_header(tmp_path, name):
    """As the use of each kind says, a network that was given is then as it was."""
    content, use = kind(name)
    header = json.loads(content) if name == "sensitivity" else taken_apart(content)[1]
    chance, found, used = random.Random(name), list(places(header)), []
    for place in found if len(found) < 10 else [(), *chance.sample(found, 10)]:  # benchmarks/fuzz_files.py: for hours
        other = put(header, place, chance.choice(STRANGE))
        if name == "sensitivity":
            (tmp_path / "file").write_text(json.dumps(other))
        else:
            forge(tmp_path / "file", name, lambda header, tensors, other=other: other)
        used.append(uses_or_refuses(use, tmp_path / "file"))
    assert not all(used)


@pytest.mark.parametrize(("name", "header"), [
    *((name, {}) for name in OF_TENSORS),
    *((name, header) for name in OF_EACH_FORMAT for header in ([1], 3, None, "x", {"layout": {}}))])
def test_a_header_that_is_none_is_refused(tmp_path, name, header):
    with pytest.raises(CheckpointError, match="header"):
        kind(name)[1](forge(tmp_path / "file", name, lambda *_: {} if header is None else header))


@pytest.mark.parametrize("name", OF_EACH_FORMAT)
def test_a_header_that_is_no_json_is_refused(tmp_path, name):
    texts = [packed(taken_apart(kind(name)[0])[0], [text]) for text in (b"[" * 100_000, b"\xff")]
    for content in (*itertools.chain(*texts), b"", b"x", b"\xfd7zXZ\0", b"\0", b"\0\1", b"\1", b"\1\xff"):
        with pytest.raises(CheckpointError, match="the header"):
            kind(name)[1](forge(tmp_path / "file", name, packed=content))


@pytest.mark.parametrize("name", OF_TENSORS)
def test_a_tensor_that_is_missing_too_much_or_of_another_kind_is_refused(tmp_path, name):
    _, use = kind(name)
    refused = (lambda value: None, lambda value: value.astype("float32" if value.dtype == "float64" else "float64"),
               lambda value: value.flat[1:],
               lambda value: np.concatenate([value.ravel()] * 2))
    changes = itertools.cycle((*refused, lambda value: value[None, None]))  # the last has the same numbers: may load
    for tensor, change in zip(taken_apart(kind(name)[0])[2], changes):
        def with_other(header, tensors, tensor=tensor, change=change):
            other = change(tensors.pop(tensor))
            tensors.update({} if other is None else {tensor: other})
        used = uses_or_refuses(use, forge(tmp_path / "file", name, with_other))
        if change in refused and name in NETWORKS:  # the records of such a file may still be read alone
            with pytest.raises(CheckpointError):
                gc.load(tmp_path / "file", simulate=name.startswith("int"))
        elif change in refused:
            assert not used, tensor


# ---- what a small file may take

def packed(what, pieces):
    """The header of a file of this kind, made of pieces, as it is packed in all the ways there are."""
    found = []
    for begin, packer in packers(what):
        found.append(b"".join([begin, *map(packer.compress, pieces), packer.flush()]))
    return found


@functools.cache
def bombs(what):
    """Headers of more bytes than a file may take, packed into a few thousand."""
    return packed(what, [b" " * (1 << 20)] * (2 * FIXED_BYTES >> 20))


@contextmanager
def within(size):
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()


def huge_shape(header, tensors):
    header["layout"]["7.bias"].update(shape=[1 << 20, 1 << 10], fill=0.0)
    tensors.pop("7.bias/value", None)


def huge_mask(header, tensors):
    packer = zlib.compressobj(1)
    pieces = [packer.compress(bytes(1 << 20)) for _ in range(2 * FIXED_BYTES >> 20)]
    tensors["0.weight/mask"] = np.frombuffer(b"".join([*pieces, packer.flush()]), np.uint8)


def huge_parameter(header, tensors):
    header["layout"]["x"] = {"shape": [1 << 30], "dtype": "float32", "fill": 1.0}


def huge_behind_codes(header, tensors):
    """What a tensor of zeros decodes to justifies nothing: it takes no bytes."""
    tensors["1.weight/value"] = np.zeros(8 << 20, np.int8)
    header["layout"]["x"] = {"shape": [1 << 28], "dtype": "float32", "fill": 1.0}


@pytest.mark.parametrize("change", [huge_shape, huge_mask, huge_parameter, huge_behind_codes])
def test_small_files_take_no_gigabytes(tmp_path, change):
    path = forge(tmp_path / "file", "masks and scales", change)
    for call in (lambda: gc.load(path), lambda: checkpoint.records(path), lambda: kind("masks and scales")[1](path)):
        with within(FIXED_BYTES), pytest.raises(CheckpointError):
            call()


@pytest.mark.parametrize("name", OF_EACH_FORMAT)
def test_headers_are_unpacked_within_bounds(tmp_path, name):
    for content in bombs(taken_apart(kind(name)[0])[0]):
        path = forge(tmp_path / "file", name, packed=content)
        with within(FIXED_BYTES), pytest.raises(CheckpointError, match="unpacks to more than"):
            kind(name)[1](path)


# ---- what is no such file

def readers(path):
    """{name: a call that reads ``path``} of all that reads files."""
    net, example = build(NormNet)
    data = [(example, mx.nd.zeros(len(example)))]
    trainer = Trainer(net.collect_params(), "sgd")
    return {"load": lambda: gc.load(path), "load into": lambda: gc.load(path, net),
            "records": lambda: checkpoint.records(path),
            "fit": lambda: gc.training.fit(net, data, 1, trainer, state_path=path, progress=False),
            "cache_logits": lambda: gc.distillation.cache_logits(net, data, path, progress=False),
            "sensitivity": lambda: gc.pruning.measure_sensitivity(net, lambda net: 0.5, example, fractions=(0.5,),
                                                          state_path=path, progress=False)}


@pytest.fixture
def no_waiting():
    """Ends the process with a trace when a test waits for ever."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits"))
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.mark.parametrize("what", ["pipe", "device", "folder", "link to a pipe"])
@pytest.mark.parametrize("reader", readers(""))
def test_what_is_no_plain_file_is_refused_at_once(tmp_path, no_waiting, what, reader):
    path = tmp_path / "file"
    if what == "pipe":
        os.mkfifo(path)
    elif what == "device":
        path = "/dev/zero"
    elif what == "folder":
        path.mkdir()
        (path / "notes").write_text("no network")
    else:
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to("pipe")
    with pytest.raises((CheckpointError, OSError, ValueError), match=str(path)):
        readers(path)[reader]()


def test_files_of_gluon_are_named_with_what_reads_them(tmp_path):
    """Where records are read, which only compressed files have; ``load`` opens them (tests/test_any_file.py)."""
    net, example = build(NormNet)
    net.hybridize()
    net(example)
    net.export(str(tmp_path / "net"))
    net.save_parameters(str(tmp_path / "plain.params"))
    np.savez(tmp_path / "arrays.npz", a=np.ones(3))
    for path, message in (("net-0000.params", r"net.load_parameters\('.*net-0000.params'\) reads"),
                          ("plain.params", r"net.load_parameters\('.*plain.params'\) reads"),
                          ("net-symbol.json", "SymbolBlock.imports"), ("arrays.npz", "damaged or not a safetensors")):
        with pytest.raises(CheckpointError, match=message):
            checkpoint.records(tmp_path / path)


# ---- values

def layer(weight):
    net = nn.Dense(weight.shape[0], in_units=weight.shape[1])
    net.initialize()
    net.weight.set_data(mx.nd.array(weight))
    return net


def test_a_masked_parameter_whose_kept_values_are_all_equal_makes_the_round_trip(tmp_path):
    weight = np.where(np.random.RandomState(1).rand(20, 30) < 0.5, 0.25, 0).astype(np.float32)
    net = layer(weight)
    gc.save(tmp_path / "file", net, Masks({"weight": weight != 0}))
    _, header, tensors = taken_apart((tmp_path / "file").read_bytes())
    assert header["layout"]["weight"]["fill"] == 0.25 and "weight/value" not in tensors and "weight/mask" in tensors
    np.testing.assert_array_equal(gc.load(tmp_path / "file", nn.Dense(20, in_units=30)).weight.data().asnumpy(), weight)
    assert np.array_equal(checkpoint.records(tmp_path / "file")["masks"].kept["weight"], weight != 0)
    example = mx.nd.ones((2, 30))
    np.testing.assert_allclose(gc.load(tmp_path / "file")(example).asnumpy(), net(example).asnumpy(), rtol=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["masks and scales", "branches", "int8", "training, Adam", "logits"])
def test_values_that_are_not_finite_do_not_load(tmp_path, name, value):
    """Weights and scales, parameters and those of the best epoch, logits: wherever there is a number of float32."""
    content, use = kind(name)
    path, calls = tmp_path / "file", [lambda: use(path)]
    if name in NETWORKS:
        calls = [lambda: gc.load(path), lambda: gc.load(path, precision="fp32")]
    tensors = [tensor for tensor, array in taken_apart(content)[2].items()
               if array.dtype == np.float32 and array.size and not tensor.startswith("optimizer/")]
    assert tensors
    for tensor, call in itertools.product(tensors, calls):
        def with_value(header, tensors, tensor=tensor):
            tensors[tensor] = tensors[tensor].copy()
            tensors[tensor].flat[-1] = value
        forge(path, name, with_value)
        with pytest.raises(CheckpointError):
            call()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300])
def test_fills_that_are_not_finite_do_not_load(tmp_path, value):
    def with_fill(header, tensors):
        name = next(name for name, layout in header["layout"].items() if "fill" in layout)
        header["layout"][name]["fill"] = value
    path = forge(tmp_path / "file", "masks and scales", with_fill)
    net, _ = build(NormNet)
    before = values(net)
    for call in (lambda: gc.load(path), lambda: gc.load(path, net)):
        with pytest.raises(CheckpointError):
            call()
    assert identical(before, values(net))


def test_nan_is_not_saved_and_infinity_is_said_in_the_file(tmp_path):
    weight = np.ones((3, 4), np.float32)
    weight[1, 2] = math.nan
    with pytest.raises(NetworkError, match="parameter weight holds NaN"):
        gc.save(tmp_path / "file", layer(weight))
    assert not list(tmp_path.iterdir())
    weight[1, 2] = -math.inf  # as in a mask of attention
    gc.save(tmp_path / "file", layer(weight))
    found = gc.load(tmp_path / "file", nn.Dense(3, in_units=4))
    np.testing.assert_array_equal(found.weight.data().asnumpy(), weight)
    what, header, tensors = taken_apart((tmp_path / "file").read_bytes())
    del header["layout"]["weight"]["infinite"]
    (tmp_path / "file").write_bytes(put_together(what, header, tensors))
    with pytest.raises(CheckpointError, match="parameter weight holds -inf"):
        gc.load(tmp_path / "file")


# ---- all of it at random, as benchmarks/fuzz_files.py does for hours

def test_mutated_files_of_all_kinds_only_fail_or_load():
    process = worker.Worker()
    try:
        for number in range(4):
            for name in KINDS:
                for what in ("unforged", "forged", "foreign"):
                    job = what, name, 10**9 + number
                    outcome = process.outcome(job)
                    assert outcome.what in worker.ACCEPTED, (job, outcome)
                    assert outcome.bytes < 2 * FIXED_BYTES, (job, outcome)
    finally:
        process.stop()
