"""Networks as the command line names them: from files, zoos, functions of the user's, and engines' files."""
from __future__ import annotations

import importlib
import json
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..arguments import nearest
from .failures import Refusal, one_line
from .options import parse_pairs, parse_shape
from .recipes import RECIPE_END
from .run import Run

PRODUCER = "gluon_compress"  # as names in ONNX metadata begin
FACTORY = re.compile(r"(?P<module>[A-Za-z_][\w.]*):(?P<function>[A-Za-z_]\w*)")
ENGINES = ("onnxruntime", "openvino")
IMAGENET = (1, 3, 224, 224)
PAIR_END = r"(-symbol\.json|-\d{4}\.params)$"  # of the names that export --format mxnet writes


@dataclass
class Opened:
    """A network, and what is known of it.

    Attributes
    ----------
    text : str
        As the user named it.
    net : Block
        Hybridized. A network of an engine is no HybridBlock.
    kind : str
    files : list of Path
        What it was read from.
    inputs : tuple of str
        The names of its inputs, if known.
    shapes : list of tuple
        The shapes of its inputs, batch first, if its file or its zoo tell.
    found : Found or None
        What ``gc.checkpoint.describe`` says of its file.
    images : dict
        What becomes of images before it gets them, as the recipe beside its file has it: {option of --data: value}.
    recipe : str
        That recipe's name.
    trained_on : dict
        {name of data: digest or ""} of what this package's commands trained it on, as that recipe has it.
    """

    text: str
    net: Any
    kind: str
    files: list[Path] = field(default_factory=list)
    inputs: tuple[str, ...] = ()
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    found: Any = None
    images: dict[str, Any] = field(default_factory=dict)
    recipe: str = ""
    trained_on: dict[str, str] = field(default_factory=dict)

    @property
    def bytes(self) -> int | None:
        """The length of its files; None for a network that comes from none."""
        return sum(file.stat().st_size for file in self.files) or None


def open_network(run: Run, text: str | None = None, to_train: bool = False) -> Opened:
    """Open the network that ``text`` names, by default the command's NETWORK, with its ``--epoch`` and ``--head``.

    With ``to_train`` the head of files that have two, as those of Module, is that of the logits: losses take no
    probabilities.

    Raises
    ------
    Refusal
        When it is no network, with what is accepted.
    Whatever ``gc.load`` and the functions of ``gc.params`` raise.
    """
    from mxnet.gluon import HybridBlock

    from ..records import record_of_network
    text = run.options["network"] if text is None else text
    if to_train:
        run.options["head"] = "logits"
    source, _, rest = text.partition(":")
    if os.path.lexists(text) and not text.endswith(".onnx"):
        opened = _of_file(run, text, to_train)
    elif source == "params" and rest:
        opened = _trained(text, rest)
    elif source == "zoo" and rest:
        opened = _of_zoo(text, rest)
    elif source in ENGINES and rest:
        opened = _of_engine(run, text, source, rest)
    elif text.endswith(".onnx"):
        opened = _of_engine(run, text, ENGINES[0], text)
    elif FACTORY.fullmatch(text.partition("+")[0]):
        opened = _of_factory(run, text)
    elif "+" in text:
        opened = _of_pair(run, text)
    else:
        opened = _of_file(run, text, to_train)
    run.uses(*opened.files)
    read_recipe_beside(run, opened)
    if isinstance(opened.net, HybridBlock) and record_of_network(opened.net) is None:  # integers have their own way
        opened.net.hybridize(static_alloc=True)
    return opened


def example_of(run: Run, opened: Opened, batch: int | None = None, data: Any = None) -> Any:
    """A batch of the network's input: NDArrays of random numbers, always the same, or a tuple of several.

    The shapes are those of ``--shape``, or of the data with a batch of 1, or those that the network's file tells;
    ``Refusal`` where nothing does. ``batch`` replaces their first number.
    """
    import numpy as np

    shapes = _shapes(run, opened, data)
    if batch is not None:
        shapes = [(batch, *shape[1:]) for shape in shapes]
    run.remember(input_shapes=shapes)
    types = list(run.options.get("dtype") or ()) or ["float32"]
    if len(types) not in (1, len(shapes)):
        raise Refusal(f"--dtype is given {len(types)} times, for {len(shapes)} inputs; accepted: once, or for each")
    types = types * len(shapes) if len(types) == 1 else types
    generator = np.random.default_rng(0)
    arrays = tuple(_random(generator, shape, dtype) for shape, dtype in zip(shapes, types))
    example = arrays if len(arrays) > 1 else arrays[0]
    _complete(opened.net, arrays)
    return example


def tells_shapes(run: Run, opened: Opened) -> bool:
    """Whether :func:`example_of` finds the shapes of the inputs, without data."""
    return bool(run.options.get("shape") or opened.shapes)


def _random(generator: Any, shape: tuple[int, ...], dtype: str) -> Any:
    import mxnet as mx
    import numpy as np

    values = generator.uniform(0, 1, shape) if dtype.startswith("float") else np.zeros(shape)
    return mx.nd.array(values, dtype=dtype)


def _shapes(run: Run, opened: Opened, data: Any) -> list[tuple[int, ...]]:
    given = [parse_shape(text) for text in run.options.get("shape") or ()]
    if given:
        return _in_order(given, opened.inputs)
    if data is not None:
        from ..network.data import go_through
        from ..network.inputs import example_inputs
        first = next(go_through(data, "data"))
        inputs = first[0] if isinstance(first, (tuple, list)) else first
        return [(1, *value.shape[1:]) for value in example_inputs(inputs)]
    if not opened.shapes:
        names = f" ({', '.join(opened.inputs)})" if len(opened.inputs) > 1 else ""
        raise Refusal(f"the shape of the input{names} of {opened.text} is not known; give --shape, such as "
                      f"--shape 1,3,224,224{', once for each' if names else ''}")
    return opened.shapes


def _in_order(given: list[tuple[str | None, tuple[int, ...]]], inputs: tuple[str, ...]) -> list[tuple[int, ...]]:
    """The shapes in the order of the network's inputs, where they are given by name."""
    names = [name for name, _ in given if name]
    if not names:
        return [shape for _, shape in given]
    if len(names) < len(given) or len(set(names)) < len(names):
        raise Refusal("--shape is given with names and without, or twice for one name; accepted: a name for each, or "
                      "for none")
    for name in names:
        if inputs and name not in inputs:
            raise Refusal(f"--shape names {name!r}, but there is no such input; {nearest(name, inputs)}")
    return [shape for name, shape in sorted(given, key=lambda pair: inputs.index(pair[0]))] if inputs else \
        [shape for _, shape in given]


def read_recipe_beside(run: Run, opened: Opened) -> None:
    """What an earlier command found out and kept in the recipe beside the network's file: shapes, kinds of images."""
    import yaml

    for file in opened.files:
        path = Path(f"{file.with_name(re.sub(PAIR_END, '', file.name))}{RECIPE_END}")
        try:
            made = yaml.safe_load(path.read_text(encoding="utf-8"))["run"]
            shapes = [tuple(map(int, shape)) for shape in made["input_shapes"]]
            images = {str(name): value for name, value in made.get("images", {}).items()}
            trained_on = {str(name): str(digest) for name, digest in made.get("trained_on", {}).items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
            continue
        opened.shapes, opened.images, opened.recipe = opened.shapes or shapes, images, path.name
        opened.trained_on = trained_on
        if images:
            run.remember(images=images)
        if trained_on:
            run.remember(trained_on=trained_on)
        return


def is_complete(net: Any) -> bool:
    """Whether it is MXNet's, with sizes that do not depend on its input."""
    from mxnet.gluon import HybridBlock

    from ..network.values import has_values
    return isinstance(net, HybridBlock) and all(map(has_values, net.collect_params().values()))


def _complete(net: Any, arrays: tuple[Any, ...]) -> None:
    """Let a network with sizes that depend on its input see one."""
    from mxnet.gluon import HybridBlock

    from ..network.misfits import called
    from ..network.values import known_shape
    if isinstance(net, HybridBlock) and any(0 in (known_shape(parameter) or (0,))
                                            for parameter in net.collect_params().values()):
        called(net, list(arrays))


# ---- where networks come from

def _of_file(run: Run, text: str, to_train: bool) -> Opened:
    import gluon_compress as gc

    from ..checkpoint.other_formats.opening import is_ours
    options: dict[str, Any] = {"epoch": run.options.get("epoch"), "head": run.options.get("head") or "softmax"}
    if to_train and is_ours(text):  # which has one head alone, and refuses to be asked for another
        del options["head"]
    found = gc.checkpoint.describe(text, **options)
    folder = Path(text) if os.path.isdir(text) else Path(text).parent
    files = [path for name in found.files if (path := folder / name).is_file()] or [Path(text)]
    return Opened(text, gc.load(text, **options), found.kind, files, found.inputs, found=found)


def _trained(text: str, name: str) -> Opened:
    import gluon_compress as gc

    net, entry = gc.params.load(name), gc.params.manifest()[name]
    return Opened(text, net, f"{entry['network']} of this package", [gc.params.path(name)], ("data",),
                  [(1, *entry["input_shape"])])


def _of_zoo(text: str, rest: str) -> Opened:
    import gluon_compress as gc
    import mxnet as mx

    from ..params.zoo import zoo_of
    name, arguments = parse_pairs(rest)
    trained, source = arguments.pop("pretrained", True), arguments.pop("source", None)
    if source is None:
        source = "gluon" if name in zoo_of("gluon")[1] else "gluoncv"
    if trained:
        net = gc.params.pretrained(name, source, **arguments)
    else:
        net = zoo_of(source)[0](name, pretrained=False, **arguments)
        mx.random.seed(0)
        net.initialize(mx.init.Xavier())
    shape = (1, 3, 299, 299) if name.startswith("inception") else IMAGENET
    return Opened(text, net, f"network of {source}", inputs=("data",), shapes=[shape])


def _of_factory(run: Run, text: str) -> Opened:
    from mxnet.gluon import HybridBlock

    import gluon_compress as gc

    from ..network.checks import check_initialized
    text_of_factory, _, parameters = text.partition("+")
    made = call_factory(text_of_factory)
    if not isinstance(made, HybridBlock):
        raise Refusal(f"{text_of_factory} returned a {type(made).__name__}; accepted: a gluon.HybridBlock")
    if parameters:
        gc.load(parameters, made, epoch=run.options.get("epoch"))
    check_initialized(made)
    return Opened(text, made, f"{type(made).__name__} of {text_of_factory}", [Path(parameters)] if parameters else [])


def call_factory(text: str) -> Any:
    """What the function ``package.module:function`` returns, called without arguments; ``Refusal`` with the reason."""
    match = FACTORY.fullmatch(text)
    if match is None:
        raise Refusal(f"{text!r} is no function; accepted: package.module:function")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(match["module"])
    except Exception as error:  # the user's code may raise anything
        raise Refusal(f"{text}: the module {match['module']} cannot be imported: {type(error).__name__}: "
                      f"{one_line(str(error))}") from error
    function = getattr(module, match["function"], None)
    if not callable(function):
        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise Refusal(f"{text}: {match['module']} has no function {match['function']!r}; "
                      f"{nearest(match['function'], names)}")
    try:
        return function()
    except Exception as error:  # the user's code again
        raise Refusal(f"{text} raised {type(error).__name__}: {one_line(str(error))[:300]}") from error


def _of_pair(run: Run, text: str) -> Opened:
    from ..checkpoint.door import load_pair
    graph, parameters = text.split("+", 1)
    net, found = load_pair(graph, parameters, head=run.options.get("head") or "softmax")
    return Opened(text, net, found.kind, [Path(graph), Path(parameters)], found.inputs, found=found)


def _of_engine(run: Run, text: str, runtime: str, path: str) -> Opened:
    from .. import export

    net = export.engine(path, runtime=runtime, threads=run.options.get("threads"))
    shapes = [_known(tensor.shape) for tensor in net.inputs]
    return Opened(text, net, f"ONNX in {net.engine}", [Path(path)], tuple(tensor.name for tensor in net.inputs),
                  [shape for shape in shapes if shape] if all(shapes) else [], recipe=f"the metadata of {path}",
                  trained_on=_trained_on(net.metadata.get(f"{PRODUCER}.trained_on", "{}")))


def _trained_on(text: str) -> dict[str, str]:
    """What ``export`` has written of it in ONNX metadata; {} for any other text."""
    try:
        return {str(name): str(digest) for name, digest in json.loads(text).items()}
    except (ValueError, AttributeError, RecursionError):
        return {}


def _known(shape: tuple[int | str | None, ...] | None) -> tuple[int, ...] | None:
    """A shape with 1 for a batch of any length; None where other lengths are open, too."""
    lengths = [1 if index == 0 and not isinstance(length, int) else length for index, length in enumerate(shape or ())]
    known = tuple(length for length in lengths if isinstance(length, int))
    return known if known and len(known) == len(lengths) else None
