"""The house: the public names, the folders, and which of them may know which."""
import ast
import functools
import importlib
import inspect
import re
import pkgutil
from pathlib import Path

import gluon_compress as gc
import pytest

ROOT = Path(gc.__file__).parent
CODER = f"{gc.__name__}.coding._coder"  # a library in C, which Python cannot import
MODULES = [gc.__name__, *(module.name for module in pkgutil.walk_packages([str(ROOT)], f"{gc.__name__}.")
                          if module.name != CODER)]
FOLDERS = [name for name in MODULES if hasattr(importlib.import_module(name), "__path__")]

# Every public name, and no other: what has no underscore in these rooms is meant to be called by users.
PUBLIC = {
    "gluon_compress": """
        CheckpointError DataError DownloadError GluonCompressError NetworkError RecordError WorkerError checkpoint
        coding datasets distillation export load measure_latency measuring models network params pruning quantization
        report runtime save training workers""",
    "checkpoint": "coded_size coded_sizes describe load records save",
    "coding": """
        CentroidTrainer Codebooks Compression Pruning RateTrainer Rounding SizeGoal compress decode encode
        share_weights""",
    "datasets": """
        Batches ImageDataset Shard array_file cifar10 compose cutout fashion_mnist image_folder mnist random_crop
        random_flip record_file""",
    "distillation": "CachedLogits DistillationLoss FeatureLoss FeatureMatcher cache_logits distill",
    "export": "engine to_onnx write_checkpoint",
    "measuring": """
        Kernel KernelReport Report Timing kernels_of measure_islands measure_latency operator_times plots report""",
    "models": "AlexNet LeNet LeNet300100 LeNet5Caffe ResNet SimpleCNN SmallConvNet",
    "network": "Layer layer_name layers parameters restore_snapshot select_layers snapshot",
    "params": "load manifest names path pretrained",
    "pruning": """
        BatchNormScale ChannelPenalty ChannelPlan GradualPruner MaskedTrainer Masks Random Sensitivity Taylor
        WeightCriterion cubic linear measure_sensitivity one_shot prune_channels prune_channels_in_steps prune_custom
        prune_magnitude prune_n_m prune_random prune_threshold reestimate_batch_norm""",
    "quantization": """
        FoldedNorms IntegerNetwork QatNetwork QuantizationRecord RangeObserver RateRounding Scales dequantize_array
        fold_batch_norm prepare_qat quantize quantize_array quantize_weights""",
    "runtime": "RuntimeStatus status usable_cores",
    "training": "History constant cosine evaluate fit one_cycle",
    "workers": "Alone Workers connect in_cluster of_trainer",
}

# Each room knows the ones above it only. A room may also know the modules at the root that stand before it.
# Folders in coding/ are rooms of their own: files need the coder, and its techniques need records and other techniques.
FLOORS = [
    {"runtime", "errors", "starting"}, {"arguments", "tables"}, {"files"}, {"coding", "network"}, {"models", "records"},
    {"checkpoint", "datasets", "pruning", "quantization", "workers"},  # files know records, no technique
    {"coding/sharing", "coding/training", "export", "params", "training"},
    {"coding/pipeline", "distillation", "measuring"}, {"cli"}, {"__main__"}]


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text())


def imported(path):
    """The rooms and root modules of ours that a module imports, wherever in it, but for type checkers alone."""
    package = [gc.__name__, *path.relative_to(ROOT).with_suffix("").parts[:-1]]
    tree = tree_of(path)
    for_types = {node for block in ast.walk(tree) if isinstance(block, ast.If)
                 and ast.unparse(block.test) == "TYPE_CHECKING" for node in ast.walk(block)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level and node not in for_types:
            base = package[:len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            found |= {(*base, alias.name)[1] for alias in node.names}
    return found


def sources():
    return [path for path in ROOT.rglob("*.py") if path.parent != ROOT or path.name != "__init__.py"]


@pytest.mark.parametrize("room", PUBLIC)
def test_the_public_names_are_these(room):
    module = gc if room == gc.__name__ else importlib.import_module(f"{gc.__name__}.{room}")
    assert sorted(module.__all__) == sorted(PUBLIC[room].split())
    assert all(hasattr(module, name) for name in module.__all__)


def test_all_rooms_that_the_package_shows_are_listed():
    rooms = {name for name in gc.__all__ if inspect.ismodule(getattr(gc, name))}
    assert rooms == PUBLIC.keys() - {gc.__name__}


@pytest.mark.parametrize("name", MODULES)
def test_importing_a_module_gives_a_module(name):
    value = gc
    for part in name.split(".")[1:]:  # what `import name as x` does; a function of the same name would hide it
        value = getattr(importlib.import_module(value.__name__), part) if hasattr(value, part) else \
            importlib.import_module(f"{value.__name__}.{part}")
        assert inspect.ismodule(value), f"{name}: {part} is a {type(value).__name__}"
    assert value is importlib.import_module(name)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_holds_more_than_one_module(name):
    assert len([other for other in MODULES if other.rpartition(".")[0] == name]) > 1


def test_no_module_outgrows_four_hundred_lines():
    assert {str(path): lines for path in sources() if (lines := path.read_text().count("\n")) > 400} == {}


def test_imports_point_one_way():
    floor = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
    wrong = []
    for path in sources():
        parts = path.relative_to(ROOT).with_suffix("").parts
        room = "/".join(parts[:2]) if parts[0] == "coding" and len(parts) > 2 else parts[0]
        wrong += [f"{path.relative_to(ROOT)} knows {other}" for other in imported(path)
                  if other != room and floor[other] >= floor[room]]
    assert wrong == [], wrong


def test_only_one_module_knows_the_modes_of_mxnet():
    """Whether ``npx.set_np()`` was called is asked, and arrays become ``mx.np`` ones, in network/interface.py alone."""
    modes = re.compile(r"(mx|mxnet|util|npx)\.(util\.)?(np|(is|set|reset|use)_np|np_(array|shape))|as_n[dp]_ndarray")
    wrong = [f"{path.relative_to(ROOT)}: {ast.unparse(node)}" for path in sources()
             if path.relative_to(ROOT).as_posix() != "network/interface.py"
             for node in ast.walk(tree_of(path))
             if isinstance(node, (ast.Attribute, ast.ImportFrom)) and modes.search(ast.unparse(node))]
    assert wrong == [], wrong


def test_only_the_network_room_reaches_into_gluon():
    """Private attributes of objects that are not the module's own are read in network/ alone (and runtime/)."""
    wrong = []
    for path in sources():
        if path.relative_to(ROOT).parts[0] in ("network", "runtime"):
            continue
        tree = tree_of(path)
        own = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        of_self = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)
                   and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")]
        own |= {node.attr for node in of_self}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__") \
                    and node.attr not in own and ast.unparse(node.value) not in ("os", "sys"):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)}")
    assert wrong == [], "\n".join(wrong)
