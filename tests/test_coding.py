"""The coder of integer arrays: exact, near the entropy of known sources, the same in C and Python, safe with damage."""
import hashlib
import math
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from gluon_compress.coding import (
    arrays, byte_counts, choosing, decode, encode, model, native, questions, symbols, tables)
from gluon_compress.coding.arrays import encode_bytes
from gluon_compress.coding.range_coder import RangeDecoder, RangeEncoder
from gluon_compress.errors import CheckpointError
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

ROOT = Path(__file__).parents[1]
TYPES = ("bool", "int8", "uint8", "int16", "uint16", "int32", "int64")
MIXED_KINDS = [*range(2 * choosing.GROUPED), *range(choosing.FEW, choosing.FEW + choosing.GROUPED)]
EXTREMES = np.array([[-2**31, 2**31 - 1, 0], [1, -1, 2**31 - 1]], np.int32)


def integer_arrays(shapes):
    """Arrays of all types, near zero or anywhere in the range of int32."""
    def elements(dtype):
        if dtype == "bool":
            return st.booleans()
        least, most = max(np.iinfo(dtype).min, -2**31), min(np.iinfo(dtype).max, 2**31 - 1)
        return st.one_of(st.integers(max(least, -3), 3), st.integers(least, most))
    return st.sampled_from(TYPES).flatmap(lambda dtype: hnp.arrays(dtype, shapes, elements=elements(dtype)))


def entropy_of(counts):
    """Bits of so many symbols in the best code that knows how often each occurs."""
    counts = np.asarray([count for count in counts if count], float)
    return float(-(counts * np.log2(counts / counts.sum())).sum())


def laplacian(shape, scale, seed=0):
    return np.rint(np.random.default_rng(seed).laplace(0, scale, shape)).astype(np.int32)


@settings(max_examples=150)
@given(integer_arrays(hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=6)))
@example(EXTREMES)
@example(np.zeros((0, 3), np.int8))
@example(np.array(5))
def test_every_array_of_integers_comes_back(array):
    back = decode(encode(array), array.shape, array.dtype)
    assert back.dtype == array.dtype and back.shape == array.shape
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("shape", [(7, 5, 3, 3), (6, 50), (3, 1, 28, 28), (500,), (5, 3, 1, 1), (2, 3, 4, 5, 2)])
@pytest.mark.parametrize("scale", [0.1, 1, 40, 1e5])
def test_weights_of_all_kinds_come_back_also_as_views_in_another_order(shape, scale):
    codes = laplacian(shape, scale)
    np.testing.assert_array_equal(decode(encode(codes), shape, np.int32), codes)
    np.testing.assert_array_equal(decode(encode(codes.T), codes.T.shape, np.int32), codes.T)


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(np.int32, hnp.array_shapes(min_dims=1, max_dims=4, max_side=5),
                  elements=st.one_of(st.integers(-3, 3), st.integers(-2**31, 2**31 - 1))),
       st.sampled_from(MIXED_KINDS), st.integers(0, choosing.MEANS - 1))
@example(EXTREMES, 0, 0)
def test_python_and_c_make_the_same_bytes_and_read_them(array, kind, mean):
    geometry, settings_ = choosing.geometry_of(array.shape, 0), choosing.settings_of(kind, mean)
    content = questions.encode(array.ravel().tolist(), geometry, settings_)
    assert native.encode(array, geometry, settings_) == content
    assert native.decode(content, geometry, settings_).tolist() == array.ravel().tolist()
    assert questions.decode(content, geometry, settings_) == array.ravel().tolist()


@pytest.mark.parametrize("shape", [(30, 4, 3, 3), (12, 98)])
def test_python_and_c_agree_also_when_the_means_are_full_and_the_probabilities_old(shape):
    codes = laplacian((60, *shape[1:]), 0.7)
    content = encode(codes)
    geometry, settings_ = choosing.read_header(content[:choosing.HEADER], codes.shape)
    assert questions.encode(codes.ravel().tolist(), geometry, settings_) == content[choosing.HEADER:]


@given(st.integers(0, 200), st.integers(0, 4))
def test_the_least_of_a_level_is_on_it_and_what_is_less_is_below(number, bits):
    least = model.least_of_level(number, bits)
    assert model.level(least, bits) == number and (not least or model.level(least - 1, bits) == number - 1)


@pytest.mark.parametrize("shape", [(30, 4, 3, 3), (9, 98), (3, 1, 28, 28), (5, 7, 1, 1)])
def test_python_and_c_agree_on_groups_of_zeros(shape):
    codes = laplacian(shape, 5) * (np.random.default_rng(1).random(shape) < 0.05)
    codes[1] = 0
    geometry, settings_ = choosing.geometry_of(shape, 0), choosing.settings_of(choosing.GROUPED, 20)
    content = native.encode(codes.astype(np.int32), geometry, settings_)
    assert questions.encode(codes.ravel().tolist(), geometry, settings_) == content
    assert questions.decode(content, geometry, settings_) == codes.ravel().tolist()


@pytest.mark.parametrize(("share", "grouped"), [(0.01, True), (0.5, False)])
def test_groups_of_zeros_are_taken_where_almost_all_are_zero(share, grouped):
    codes = laplacian((128, 32, 3, 3), 5) * (np.random.default_rng(2).random((128, 32, 3, 3)) < share)
    kind, side, mean = choosing.chosen_by_mixing(codes)
    assert (kind >= choosing.GROUPED) == grouped
    content = choosing.encoded(codes, kind, side, mean)
    np.testing.assert_array_equal(decode(content, codes.shape, codes.dtype), codes)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.integers(1, 400), st.sampled_from(MIXED_KINDS))
def test_python_and_c_refuse_the_same_content(content, count, kind):
    geometry, settings_ = model.Geometry(1, 1, count, count), choosing.settings_of(kind, 30)
    expected, found = questions.decode(content, geometry, settings_), native.decode(content, geometry, settings_)
    assert (found is None) == (expected is None)
    assert expected is None or found.tolist() == expected


def tokens_of(array):
    return symbols.token_of(int(np.abs(array.astype(np.int64)).max(initial=0))) + 1


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(np.int32, hnp.array_shapes(min_dims=1, max_dims=4, max_side=5),
                  elements=st.one_of(st.integers(-3, 3), st.integers(-2**31, 2**31 - 1))),
       st.integers(0, len(choosing.SHARES) - 1), st.integers(0, choosing.MEANS - 1))
@example(EXTREMES, 0, 0)
def test_python_and_c_make_the_same_bytes_of_whole_symbols_and_read_them(array, share, mean):
    geometry, settings_ = choosing.geometry_of(array.shape, 0), choosing.settings_of(choosing.SYMBOLS + share, mean)
    content = symbols.encode(array.ravel().tolist(), geometry, settings_, tokens_of(array))
    assert native.encode_symbols(array, geometry, settings_, tokens_of(array)) == content
    for decoded in (native.decode_symbols, symbols.decode):
        np.testing.assert_array_equal(decoded(content, geometry, settings_, tokens_of(array)), array.ravel())


def test_python_and_c_agree_on_whole_symbols_also_where_counts_are_halved_and_the_state_begins_anew():
    codes = laplacian((symbols.FLUSH + 9,), 0.4)
    content = encode(codes)
    assert choosing.of_symbols(content[0]) and np.count_nonzero(codes == 0) * symbols.SEEN > symbols.MOST_SEEN
    geometry, settings_ = choosing.read_header(content[:choosing.HEADER], codes.shape)
    assert symbols.encode(codes.tolist(), geometry, settings_, content[3] + 1) == content[4:]
    np.testing.assert_array_equal(decode(content, codes.shape, np.int8), codes)


def damaged(data, content):
    """Bytes cut short, changed, with more behind them, or others."""
    content = bytearray(content)
    kind = data.draw(st.sampled_from(("cut", "flipped", "extended", "foreign")))
    if kind == "cut":
        del content[data.draw(st.integers(0, len(content) - 1)):]
    elif kind == "flipped":
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    elif kind == "extended":
        content += data.draw(st.binary(min_size=1, max_size=30))
    else:
        content = data.draw(st.binary(max_size=200))
    return bytes(content)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_python_and_c_notice_the_same_damage_of_whole_symbols(data):
    codes = laplacian((6, 4, 3, 3), data.draw(st.sampled_from((0.3, 3, 1e6))))
    content = damaged(data, choosing.encoded(codes, choosing.SYMBOLS, 0, 30)[4:])
    given_ = (content, choosing.geometry_of(codes.shape, 0), choosing.settings_of(choosing.SYMBOLS, 30),
              tokens_of(codes))
    expected, found = symbols.decode(*given_), native.decode_symbols(*given_)
    assert (found is None) == (expected is None)
    assert expected is None or found.tolist() == expected


@pytest.mark.parametrize("content", [b"", b"\xf0" + bytes(8), b"\0" + bytes(7), b"\xef"])
def test_whole_symbols_of_no_token_or_without_a_state_are_refused(content):
    with pytest.raises(CheckpointError, match="damaged"):
        decode(bytes((choosing.SYMBOLS, 0, 16)) + content, (10, 10), np.int8)


@pytest.mark.parametrize("content", [b"", encode(np.arange(6))])
@pytest.mark.parametrize("shape", [None, 6, "6", (-2, -3), (-6,), (2.0, 3.0), ("6",), (True, 6)])
def test_a_shape_that_is_none_is_refused(content, shape):
    with pytest.raises((TypeError, ValueError), match=r"shape(\[0\])? is .*; accepted: a.* integer"):
        decode(content, shape, np.int8)


@pytest.mark.parametrize(("zeros", "fast"), [(0, True), (0.9, False)])
def test_large_arrays_are_whole_symbols_unless_mixing_makes_them_clearly_smaller(zeros, fast):
    rng = np.random.default_rng(7)
    scales = np.exp(rng.normal(0, 0.5, (256, 1, 1, 1))) * 30
    there = np.kron(rng.random((256, 32, 1, 1)) < 1 - zeros, np.ones((1, 1, 3, 3), bool))
    codes = np.rint(rng.laplace(0, scales, (256, 32, 3, 3)) * there).astype(np.int32)
    content, mixed = encode(codes), choosing.encoded(codes, *choosing.chosen_by_mixing(codes))
    assert choosing.of_symbols(content[0]) == fast and len(content) < choosing.WORTH_SYMBOLS * len(mixed)
    np.testing.assert_array_equal(decode(content, codes.shape, np.int32), codes)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32])
def test_content_of_every_kind_is_read_as_what_it_is(dtype):
    """Another byte in front would be another coder."""
    codes = np.abs(laplacian((20, 30), 2)).astype(dtype)
    known = []
    for kind in range(256):
        try:
            choosing.read_header(bytes((kind, 0, 20)), codes.shape)
        except CheckpointError:
            continue
        known.append(kind)
        content = choosing.encoded(codes.astype(np.int32), kind, 0, 20)
        assert content[0] == kind
        np.testing.assert_array_equal(decode(content, codes.shape, dtype), codes, str(kind))
    assert known == sorted([*MIXED_KINDS, *range(choosing.SYMBOLS, choosing.FEW)]) and choosing.BYTES not in known
    if dtype is not np.int32:
        np.testing.assert_array_equal(decode(encode_bytes(codes), codes.shape, dtype), codes)


@pytest.mark.parametrize("few", [True, False])
def test_large_arrays_ask_few_contexts_unless_all_make_them_clearly_smaller(few):
    """Where whole maps are zero, the mean of the map so far tells much; only all contexts have it."""
    rng = np.random.default_rng(7)
    there = np.ones((128, 64, 1, 1)) if few else rng.random((128, 64, 1, 1)) < 0.5
    scales = np.exp(rng.normal(-1, 0.5, (128, 1, 1, 1))) if few else 5
    codes = np.rint(rng.laplace(0, scales, (128, 64, 3, 3)) * there).astype(np.int32)
    content = encode(codes)
    kind, side, mean = content[:choosing.HEADER]
    assert not choosing.of_symbols(kind) and (kind >= choosing.FEW) == few
    of_all, of_few = (choosing.encoded(codes, kind % choosing.FEW + more, side, mean) for more in (0, choosing.FEW))
    assert (len(of_few) <= choosing.WORTH_FEW * len(of_all)) == few
    np.testing.assert_array_equal(decode(content, codes.shape, np.int32), codes)


@pytest.mark.parametrize(("kind", "digest"), [
    (4, "935f8a7df149124c"), (4 + choosing.GROUPED, "9c9b4ba41d39de62"), (4 + choosing.FEW, "7e7790baca39d903"),
    (choosing.SYMBOLS + 1, "b3bd0b4f90206134"), (arrays.BYTES, "ea00901e45f92f6a")])
def test_content_is_what_it_was_when_files_were_written_with_it(kind, digest):
    """A change of the model would make another array of each file there is: it needs a kind of its own."""
    places = np.arange(600)
    codes = ((places * 7919 % 31 - 15) * (places % 7) // 9).reshape(20, 30).astype(np.int32)
    content = encode_bytes(codes.astype(np.int8)) if kind == arrays.BYTES else choosing.encoded(codes, kind, 0, 20)
    assert hashlib.sha256(content).hexdigest()[:16] == digest
    np.testing.assert_array_equal(decode(content, codes.shape, np.int8), codes)


@pytest.mark.parametrize("shape", [(40_000,), (200, 200), (50, 20, 5, 8)])
def test_the_estimated_size_is_near_the_true_one(shape):
    codes = laplacian(shape, 2)
    assert arrays.estimated_size(codes) == pytest.approx(len(encode(codes)), rel=0.1)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, bool])
def test_no_bytes_are_no_content(dtype):
    content = encode_bytes(np.zeros((0, 3), dtype))
    assert content == b"" and decode(content, (0, 3), dtype).shape == (0, 3)


def some_bytes(count, scale, seed=0):
    """Bytes around 128; of scale 0 all the same."""
    return np.rint(np.random.default_rng(seed).laplace(128, scale, count)).clip(0, 255).astype(np.uint8)


@settings(max_examples=40, deadline=None)
@given(st.one_of(st.integers(1, 300), st.integers(65_500, 65_600)), st.sampled_from((0, 0.1, 3, 40, 1000)))
def test_bytes_by_their_counts_come_back_and_are_the_same_from_python_and_c(count, scale):
    values = some_bytes(count, scale)
    tables_, _ = byte_counts._tables(values)
    states, words = byte_counts._encoded(values, tables_)
    for found, expected in zip(native.encode_bytes(values, tables_), (states, words)):
        np.testing.assert_array_equal(found, expected)
    for decoded in (native.decode_bytes, byte_counts._decoded):
        np.testing.assert_array_equal(decoded(states.copy(), words, tables_, count), values)
    np.testing.assert_array_equal(decode(encode_bytes(values.view(np.int8)), (count,), np.int8), values.view(np.int8))


def test_bytes_by_their_counts_take_their_entropy_and_follow_where_it_changes():
    values = np.concatenate([some_bytes(200_000, scale) for scale in (2, 20)])
    halves = sum(entropy_of(np.bincount(half)) for half in np.split(values, 2))
    assert halves < 8 * len(encode_bytes(values)) < 1.02 * halves < entropy_of(np.bincount(values))


@settings(max_examples=150)
@given(st.data())
def test_python_and_c_notice_the_same_damage_of_bytes_by_their_counts(data):
    values = some_bytes(data.draw(st.sampled_from((5, 500))), data.draw(st.sampled_from((0, 2, 60))))
    content = bytearray(byte_counts.encode(values))
    if data.draw(st.booleans()):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        content = content[:data.draw(st.integers(0, len(content) - 1))] + data.draw(st.binary(max_size=5))
    found = byte_counts.decode(bytes(content), len(values))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "library", lambda: None)
        expected = byte_counts.decode(bytes(content), len(values))
    assert (found is None) == (expected is None)
    assert found is None or found.tolist() == expected.tolist()


@pytest.mark.parametrize("dtype", [np.int32, bool])
def test_bytes_by_their_counts_are_refused_as_other_types(dtype):
    with pytest.raises(CheckpointError):
        decode(encode_bytes(some_bytes(600, 3)), (600,), dtype)


@pytest.fixture
def without_a_compiler(monkeypatch):
    monkeypatch.setattr(native, "library", lambda: None)


def test_without_a_compiler_the_same_content_is_written_and_read(without_a_compiler, monkeypatch):
    codes = laplacian((4, 3, 3, 3), 1)
    content = encode(codes)
    np.testing.assert_array_equal(decode(content, codes.shape, np.int8), codes)
    monkeypatch.undo()
    assert native.library() is not None and encode(codes) == content


@pytest.fixture
def source(monkeypatch, tmp_path):
    """A copy of ``coder.c`` and its headers in a folder of its own, of which nothing is built yet."""
    for header in native.SOURCE.parent.glob("*.h"):
        shutil.copy(header, tmp_path)
    copied = Path(shutil.copy(native.SOURCE, tmp_path))
    monkeypatch.setattr(native, "SOURCE", copied)
    monkeypatch.setattr(native, "FLAGS", ("-O0", *native.FLAGS[1:]))  # compiled in a tenth of the time
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for function in (native.library, native._digest):
        function.cache_clear()
    yield copied
    monkeypatch.undo()
    for function in (native.library, native._digest):
        function.cache_clear()


def test_that_no_compiler_is_there_is_told_once_from_the_line_that_wanted_it(source, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.warns(RuntimeWarning, match="neither cc nor gcc nor clang is here") as warned:
        content = encode(np.arange(9))
        assert decode(content, (9,), int).tolist() == list(range(9))
    assert [warning.filename for warning in warned] == [__file__]


@pytest.fixture
def compiler(source, monkeypatch, tmp_path):
    """Writes the script of a compiler, the only one that is found; ``$CC`` is the real one, ``$out`` what it makes."""
    begin = [f"#!{shutil.which('sh')}", f"CC={next(filter(None, map(shutil.which, ('cc', 'gcc', 'clang'))))}",
             f"PATH={os.environ['PATH']}", 'for each; do [ "$before" = -o ] && out=$each; before=$each; done', ""]

    def make(script):
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "cc").write_text("\n".join(begin) + script)
        (tmp_path / "bin" / "cc").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return make


@pytest.mark.parametrize(("script", "message"), [
    ("echo junk > $out", "file too short|invalid ELF header"),
    ('echo "int nothing;" | $CC -shared -o $out -xc -', "source_digest"),
    ("echo In file: >&2; echo coder.c: fatal error: no stdio.h >&2; echo compilation terminated >&2; exit 7",
     "ends with 7: coder.c: fatal error: no stdio.h"),
    ("exit 1", "ends with 1: it gives no reason")])
def test_that_a_compiler_makes_nothing_that_runs_is_told_with_its_reason(compiler, script, message):
    compiler(script)
    with pytest.warns(RuntimeWarning, match=f"no C compiler makes the coder .*({message})"):
        assert native.library() is None


def test_where_the_cache_runs_no_programs_the_coder_is_in_a_folder_of_this_process(compiler, tmp_path):
    compiler(f'case $out in {tmp_path}/*) echo junk > $out;; *) exec $CC "$@";; esac')
    assert not native.library()._name.startswith(str(tmp_path))


def test_a_user_without_a_home_directory_has_the_coder(source, monkeypatch):
    """As in a container, under a number that is no user's."""
    def unknown(number):
        raise KeyError(number)
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert native.library()


def test_what_was_built_of_another_source_is_built_anew(source):
    assert native.library()
    built = source.with_name("_coder.cpython.so")
    native._cached_path().rename(built)
    native.library.cache_clear()
    assert native.library()._name == str(built)
    header = source.with_name("model.h")
    header.write_text(header.read_text() + "/* changed */")
    for function in (native.library, native._digest):
        function.cache_clear()
    assert native.library()._name == str(native._cached_path()) != str(built)


@pytest.mark.parametrize("compiler", ["cc", "false"])
def test_an_editable_install_has_the_coder_where_there_is_a_compiler(tmp_path, compiler):
    tree = tmp_path / "tree"
    shutil.copytree(native.SOURCE.parent, tree / "gluon_compress" / "coding", ignore=shutil.ignore_patterns("*.so"))
    for name in ("setup.py", "setup.cfg", "README.md"):
        shutil.copy(ROOT / name, tree)
    build = "import sys, setuptools.build_meta as backend; backend.build_editable(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, tmp_path], cwd=tree, check=True, capture_output=True,
                   env={**os.environ, "CC": compiler})
    assert list(tmp_path.glob("*editable*.whl"))
    built = [native._loaded(path) for path in tree.glob("gluon_compress/coding/_coder*.so")]
    assert [bool(library) for library in built] == [True] * (compiler == "cc")


@pytest.mark.parametrize(("share", "checksum"), [(1, 3988480795), (0.05, 369282747)])
def test_bytes_written_today_are_read_for_ever(share, checksum):
    codes = (np.arange(360) ** 3 % 13 - np.arange(360) % 7).reshape(10, 4, 3, 3)
    codes = np.where(np.arange(360).reshape(codes.shape) % 97 < 97 * share, codes, 0)
    content = encode(codes)
    assert (content[0] >= choosing.GROUPED) == (share < 1)
    assert zlib.crc32(content) == checksum


def test_tables_are_the_logistic_function_and_its_inverse():
    x = np.arange(-tables.MIXED, tables.MIXED) / tables.UNIT
    logistic = np.clip(65536 / (1 + np.exp(-x)), tables.LEAST, 65536 - tables.LEAST)
    np.testing.assert_allclose(tables.SQUASH, logistic, atol=1)
    p = (np.arange(4096) + 0.5) / 4096
    np.testing.assert_allclose(tables.STRETCH, tables.UNIT * np.log(p / (1 - p)), atol=1)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(4, 65532)), max_size=200))
def test_the_arithmetic_coder_returns_all_bits_and_takes_what_their_probabilities_say(questions):
    encoder = RangeEncoder()
    for bit, probability in questions:
        encoder.code(bit, probability)
    content = encoder.finish()
    decoder = RangeDecoder(content)
    assert [decoder.code(0, probability) for _, probability in questions] == [bit for bit, _ in questions]
    bits = -sum(math.log2((probability if bit else 65536 - probability) / 65536) for bit, probability in questions)
    assert 8 * len(content) <= 1.001 * bits + 16


@pytest.mark.parametrize("zeros", [0.3, 0.7, 0.95])
def test_a_source_without_memory_costs_its_entropy(zeros):
    # magnitudes are geometric, P(m) = (1 - q) q^m, signs a coin: nothing but these counts can be known
    rng = np.random.default_rng(3)
    magnitudes = rng.geometric(zeros, 300_000) - 1
    codes = (magnitudes * rng.choice((-1, 1), magnitudes.size)).astype(np.int32).reshape(300, 1000)
    bits = 8 * len(encode(codes))
    assert bits < 1.01 * entropy_of(np.unique(codes, return_counts=True)[1])


@pytest.mark.parametrize("axis", [0, 1])
def test_rows_and_columns_of_different_scales_cost_what_knowing_the_scales_would(axis):
    rng = np.random.default_rng(4)
    scales = np.exp(rng.normal(0, 1, 400))
    scales = scales[:, None] if axis == 0 else scales[None]
    codes = np.rint(rng.laplace(0, 1, (400, 400)) * scales).astype(np.int32)
    known = sum(entropy_of(np.unique(line, return_counts=True)[1])
                for line in (codes if axis == 0 else codes.T))  # counts of each line, given away for nothing
    apart = entropy_of(np.unique(codes, return_counts=True)[1])
    assert 8 * len(encode(codes)) < known * 1.12 < apart


def test_signs_that_follow_their_neighbours_cost_less_than_a_bit():
    rng = np.random.default_rng(5)
    signs = np.cumprod(rng.choice((1, -1), (200, 1000), p=(0.95, 0.05)), axis=1).astype(np.int8)
    changes = 200_000 * -(0.05 * math.log2(0.05) + 0.95 * math.log2(0.95))
    assert 8 * len(encode(signs)) < 1.05 * changes


def test_maps_in_the_rows_of_a_matrix_are_found():
    rng = np.random.default_rng(6)
    blocks = rng.random((64, 1, 7, 7)) < 0.5  # dead and live regions of images of 28 x 28
    maps = np.kron(blocks, np.ones((4, 4))) * rng.laplace(0, 2, (64, 1, 28, 28))
    matrix = np.rint(maps).astype(np.int8).reshape(64, 784)
    content = encode(matrix)
    assert choosing.possible_sides(matrix.shape)[1:] == [4, 7, 14, 28] and content[1] == 28
    assert len(content) < 0.97 * len(encode(matrix[:, rng.permutation(784)]))


def test_zeros_take_next_to_nothing():
    mostly = np.zeros((1000, 1000), np.int8)
    assert encode(mostly) == b""
    mostly[500, 300] = 1
    assert len(encode(mostly)) < 60


@pytest.mark.parametrize("content", [b"\x09", b"\x00\x00", b"\x63\x00\x10abc", b"\x00\x05\x10abc", b"\x00\x00\xffabc"])
def test_a_header_that_says_nothing_is_refused(content):
    with pytest.raises(CheckpointError, match="shape"):
        decode(content, (10, 10), np.int8)


@pytest.mark.parametrize("content", [encode(laplacian((20, 20), 100)), encode(laplacian((200, 100), 100)),
                                     encode_bytes(np.arange(256, dtype=np.uint8))])
def test_shapes_that_the_content_cannot_be_of_are_refused(content):
    for shape in ((1 << 20, 1 << 20), (0, 3), (20, 0)):
        with pytest.raises(CheckpointError, match="shape"):
            decode(content, shape, np.int8)


def test_types_that_the_content_cannot_be_of_are_refused():
    content = encode(laplacian((20, 20), 100))
    for dtype in (np.int8, np.uint16, bool):
        with pytest.raises(CheckpointError, match="type"):
            decode(content, (20, 20), dtype)


@settings(max_examples=200)
@given(st.data())
def test_damage_gives_another_array_or_an_error(data):
    codes = laplacian((6, 4, 3, 3), data.draw(st.sampled_from((0.3, 3, 1e6))))
    content = damaged(data, encode(codes))
    try:
        found = decode(content, codes.shape, np.int32)
    except CheckpointError:
        return
    assert found.shape == codes.shape and found.dtype == np.int32


def test_much_that_is_missing_or_too_much_is_noticed():
    content = encode(laplacian((50, 50), 5))
    for damaged in (content[:-20], content + bytes(20), content[:10]):
        with pytest.raises(CheckpointError, match="damaged"):
            decode(damaged, (50, 50), np.int32)


@pytest.mark.parametrize(("array", "error", "message"), [
    ([1, 2], TypeError, "a list; accepted: an array of integers or bool"),
    (np.ones(3, np.float32), TypeError, "an array of float32; accepted"),
    (np.array([1 << 31]), ValueError, "2147483648; accepted: -2147483648 to 2147483647"),
    (np.array([2**63], np.uint64), ValueError, "accepted"),
])
def test_other_arrays_are_refused(array, error, message):
    with pytest.raises(error, match=message):
        encode(array)


@pytest.mark.parametrize("content", [5, "text", None, [1, 2]])
def test_only_bytes_are_decoded(content):
    with pytest.raises(TypeError, match="content is .*; accepted: bytes"):
        decode(content, (5,), np.int8)
    for kind in (bytearray, memoryview):
        assert decode(kind(encode(np.arange(9))), (9,), int).tolist() == list(range(9))


@pytest.mark.parametrize("content", [b"", b"\0\0\0abc"])
def test_only_integers_and_bool_are_decoded(content):
    with pytest.raises(TypeError, match="dtype is float32; accepted: one of integers or bool"):
        decode(content, (2,), "float32")
