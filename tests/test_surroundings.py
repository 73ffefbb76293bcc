"""NumPy and Python around MXNet: what MXNet and gluoncv read of them is there, and NumPy's numbers are numbers."""
import ast
import configparser
import functools
import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import types
import warnings
from pathlib import Path

import gluon_compress as gc
import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress import pruning, runtime
from gluon_compress.runtime import numpy_names, standard_library

# the modules that Python has removed since 3.10, by PEP 594 and what came before it
REMOVED = {"aifc", "asynchat", "asyncore", "audioop", "cgi", "cgitb", "chunk", "crypt", "distutils", "imghdr", "imp",
           "lib2to3", "mailcap", "msilib", "nis", "nntplib", "ossaudiodev", "pipes", "smtpd", "sndhdr", "spwd", "sunau",
           "telnetlib", "uu", "xdrlib"}
# read where they cannot be met: on Windows, by Python 2, for PyTorch, or beside a check of Python's version
NEVER_MET = {"ctypes.windll", "ctypes.FormatError", "ctypes.GetLastError"}
NEVER_USED = ("gluoncv/torch/", "mxnet/tools/", "autocfg/type_check.py")


@functools.cache
def names_read():
    """[(path of a module, a name it reads of another one)] in MXNet, gluoncv, and what gluoncv alone brings along."""
    return [(path, name) for path, tree in sources("mxnet", "gluoncv", "autocfg") for name in reads(tree)]


def sources(*packages):
    """(path below its package's parent, syntax tree) of every module of the packages that is used."""
    for package in packages:
        folder = Path(importlib.util.find_spec(package).origin).parent
        for path in sorted(folder.rglob("*.py")):
            if path.relative_to(folder.parent).as_posix().startswith(NEVER_USED):
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "\d" in a string that is not raw
                yield path.relative_to(folder.parent).as_posix(), ast.parse(path.read_text())


def reads(tree):
    """What a module reads of others by their full names: "numpy.float", "collections.abc.Mapping", "distutils"."""
    called, nodes = {}, list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            called.update({alias.asname or alias.name: alias.name for alias in node.names})
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (node.module if alias.name == "*" else f"{node.module}.{alias.name}" for alias in node.names)
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in called:
            yield f"{called[node.value.id]}.{node.attr}"


def exists(name):
    first, *rest = name.split(".")
    found, path = importlib.import_module(first), first
    for part in rest:
        path += f".{part}"
        if not hasattr(found, part):
            importlib.import_module(path)
        found = getattr(found, part)
    return True


def missing(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated is not removed
        try:
            return not exists(name)
        except ImportError:
            return True


def test_everything_that_mxnet_and_gluoncv_read_of_numpy_and_python_is_there():
    checked = sys.stdlib_module_names | REMOVED | {"numpy"}
    names = [(path, name) for path, name in names_read() if name.partition(".")[0] in checked]
    gone = {name for name in {name for _, name in names} if missing(name)} - NEVER_MET
    assert len(names) > 5000
    assert not {(path, name) for path, name in names if name in gone}


def test_only_names_are_put_back_that_mxnet_or_gluoncv_read():
    read = {name.removeprefix("numpy.") for _, name in names_read()}
    read |= set(mx.numpy_dispatch_protocol._NUMPY_ARRAY_FUNCTION_LIST)  # read with getattr
    assert set(numpy_names.REMOVED) <= read


def test_names_that_numpy_has_stay_what_they_are():
    old = types.SimpleNamespace(**dict.fromkeys(numpy_names.REMOVED, "as it was"))
    assert numpy_names.restore_names(old) == ()
    assert set(vars(old).values()) == {"as it was"}


def test_every_name_is_put_back_where_it_is_missing_and_only_once():
    new = types.SimpleNamespace()
    assert numpy_names.restore_names(new) == tuple(sorted(numpy_names.REMOVED)) == tuple(sorted(vars(new)))
    assert numpy_names.restore_names(new) == ()


def test_the_search_for_names_gives_no_warning():
    class OldNumpy(types.ModuleType):
        def __getattr__(self, name):
            warnings.warn(f"numpy.{name} is deprecated", FutureWarning, stacklevel=2)
            return bool
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert numpy_names.restore_names(OldNumpy("numpy")) == ()


@pytest.mark.parametrize("name, by_hand", [
    ("alltrue", lambda a: all(a.flat)), ("sometrue", lambda a: any(a.flat)), ("round_", lambda a: np.rint(a)),
    ("product", lambda a: np.exp(np.log(a).sum())), ("msort", lambda a: np.array([sorted(c) for c in a.T]).T),
    ("trapz", lambda a: (a[:, 1:] + a[:, :-1]).sum(1) / 2),
    ("in1d", lambda a: np.array([value in (1, 2.5) for value in a.flat]))])
def test_functions_do_what_they_did(name, by_hand):
    values = np.array([[3.0, 1.0, 2.5], [0.5, 7.25, 1.0]])
    new = types.SimpleNamespace()
    numpy_names.restore_names(new)
    arguments = (values, (1, 2.5)) if name == "in1d" else (values,)
    np.testing.assert_allclose(getattr(new, name)(*arguments), by_hand(values))


@pytest.mark.parametrize("name", numpy_names.FINANCIAL)
def test_financial_functions_say_where_they_are(name):
    new = types.SimpleNamespace()
    numpy_names.restore_names(new)
    with pytest.raises(RuntimeError, match=f"accepted: numpy_financial.{name}"):
        getattr(new, name)(0.1, 2, 3)


def test_status_lists_what_was_put_back(run_python):
    """In a process of its own, asked before and after the import."""
    before, after, status = run_python("""
import json, warnings, numpy
warnings.simplefilter("ignore")
before = sorted(vars(numpy))
import gluon_compress
print(json.dumps(before))
print(json.dumps(sorted(vars(numpy))))
print(json.dumps(gluon_compress.runtime.status().numpy_names))
""").splitlines()
    assert set(json.loads(status)) <= set(json.loads(after)) - set(json.loads(before))
    assert json.loads(status), "no NumPy of these days has all"


def test_mxnets_own_numpy_interface_reaches_numpy_and_back():
    """Of functions that MXNet does not have NumPy's is called; of MXNet's arrays NumPy's functions call MXNet's."""
    array = mx.np.array([[3.0, 1.0], [2.0, 4.0]])
    assert isinstance(np.sum(array), mx.np.ndarray) and float(np.sum(array)) == 10
    assert isinstance(np.concatenate([array, array]), mx.np.ndarray)
    assert isinstance(np.add(array, array), mx.np.ndarray)
    np.testing.assert_array_equal(mx.np.msort(array).asnumpy(), [[2, 1], [3, 4]])
    np.testing.assert_array_equal(mx.np.pad(array, ((1, 1), (1, 1))).asnumpy(), np.pad(array.asnumpy(), 1))


def test_gluoncvs_detectors_are_made():
    """Their anchors read numpy.float."""
    from gluoncv import model_zoo
    net = model_zoo.get_model("faster_rcnn_resnet50_v1b_voc", pretrained=False, pretrained_base=False)
    assert net.classes


def test_a_missing_mxnet_is_told_with_the_command_that_brings_it(start_python):
    process = start_python("import sys; sys.modules['mxnet'] = None; import gluon_compress")
    error = process.communicate()[1].splitlines()[-1]
    assert "works on MXNet 1.9.1, which is not installed; accepted: pip install --no-deps mxnet==1.9.1" in error


def test_what_an_extra_brings_is_told_with_the_command_that_installs_the_extra():
    settings = configparser.ConfigParser()
    settings.read(Path(gc.__file__).resolve().parents[1] / "setup.cfg")
    extras = {name: re.findall(r"^[\w-]+", packages, re.MULTILINE)
              for name, packages in settings["options.extras_require"].items()}
    told = []
    for _, tree in sources("gluon_compress"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "not_importable":
                _, package, extra, _ = node.args
                assert package.value in extras[extra.value]
                told.append(package.value)
            elif isinstance(node, ast.Raise):  # by no other words than these, but what no extra has
                assert not re.search("pip install (?!.*(mxnet|setuptools))", ast.unparse(node))
    assert set(told) >= {"matplotlib", "onnx", "onnxruntime", "openvino", "gluoncv"}


def test_scipys_statistics_are_imported_when_they_are_used_and_mxnet_finds_them_then(run_python):
    """They take a quarter of an import's time, which every command and worker would wait for."""
    run_python("import gc, sys\n"
               "import gluon_compress, mxnet as mx\n"
               "assert gc.isenabled()\n"
               "assert 'scipy.stats' not in sys.modules\n"
               "assert abs(mx.contrib.quantization.stats.entropy([0.5, 0.5]) - 0.6931) < 1e-3\n"
               "from scipy import stats\n"
               "assert mx.test_utils.ss.norm.ppf(0.5) == stats.norm.ppf(0.5) == 0\n")


# ---- Python

@pytest.mark.parametrize("setuptools_is_there", [False, True])
def test_distutils_without_setuptools_hook_at_pythons_start(setuptools_is_there):
    """A Python without its site-packages (-S), or with them and without their start-up files."""
    code = (f"import runpy; print(runpy.run_path({standard_library.__file__!r})['restore_distutils']()); "
            f"import distutils.version")
    folder = str(Path(importlib.util.find_spec("setuptools").origin).parent.parent) if setuptools_is_there else ""
    result = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True,
                            env={**os.environ, "PYTHONPATH": folder})
    if sys.version_info < (3, 12):
        assert result.stdout == "Python's own\n", result.stderr
    elif setuptools_is_there:
        assert result.stdout == "setuptools' copy\n", result.stderr
    else:
        assert "accepted: pip install setuptools" in result.stderr


def test_status_names_the_distutils_that_is_imported():
    import distutils
    assert ("setuptools" in distutils.__file__) == (runtime.status().distutils == "setuptools' copy")


# ---- numbers of NumPy in what is printed

NUMPYS_OWN = re.compile(r"np\.\w+\(|np\.(True|False)_|array\(")
HALF, TWO = np.float64(0.5), np.int64(2)


def two_layers():
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Conv2D(4, 1, in_channels=3), mx.gluon.nn.Conv2D(4, 1, in_channels=4))
    net.initialize()
    return net


EXAMPLE = mx.nd.ones((2, 3, 4, 4))
REFUSED = {
    "a number too large": lambda: pruning.prune_magnitude(two_layers(), sparsity=np.float32(1.5)),
    "a fraction twice": lambda: pruning.measure_sensitivity(two_layers(), lambda net: 1.0, fractions=[HALF, HALF]),
    "ratio beside exclude": lambda: pruning.prune_channels(two_layers(), EXAMPLE, ratio={"0": HALF}, exclude="0"),
    "weights of teachers": lambda: gc.distillation.DistillationLoss(teacher_weights={0: HALF}),
    "means": lambda: gc.datasets.ImageDataset(np.zeros((1, 4, 4, 3)), [0], mean=(HALF, HALF), std=(1, 1, 1)),
    "bits": lambda: gc.quantization.quantize_weights(two_layers(), bits=np.int64(1)),
    "a list for a number": lambda: gc.quantization.quantize_weights(two_layers(), bits=[TWO]),
    "a flag for text": lambda: pruning.prune_magnitude(two_layers(), sparsity=HALF, scope=np.bool_(True))}


@pytest.mark.parametrize("name", REFUSED)
def test_messages_show_numbers_of_numpy_as_numbers(name):
    with pytest.raises((TypeError, ValueError)) as refused:
        REFUSED[name]()
    assert not NUMPYS_OWN.search(str(refused.value)), refused.value


def test_records_made_with_numbers_of_numpy_are_those_made_with_pythons():
    def records(half, two):
        mx.random.seed(0)
        net = two_layers()
        yield pruning.prune_channels(net, EXAMPLE, ratio=half, round_to=two)
        yield pruning.measure_sensitivity(net, lambda net: half, fractions=[half], progress=False)
        yield pruning.prune_magnitude(net, sparsity={"0": half, "1": half})
        yield gc.report(net, EXAMPLE)
        yield gc.quantization.quantize_weights(net, bits=two)
        batch = [(EXAMPLE, mx.nd.zeros(2))]
        yield gc.quantization.quantize(net, batch, bits=two, batches=two, simulate=True, progress=False).record
        yield gc.quantization.prepare_qat(net, batch, bits=two, batches=two, progress=False).convert(True).record
    for with_numpys, with_pythons in zip(records(HALF, TWO), records(0.5, 2)):
        assert str(with_numpys) == str(with_pythons) and repr(with_numpys) == repr(with_pythons)
        assert not NUMPYS_OWN.search(str(with_numpys))
        assert json.dumps(with_numpys.to_dict()) == json.dumps(with_pythons.to_dict())
