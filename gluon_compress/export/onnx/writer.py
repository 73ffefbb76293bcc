"""What the functions of the table write with: names, initializers, lengths that follow the batch."""
from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from ...errors import NetworkError
from ...network.nodes import Entry, Node
from .constants import Constants
from .forms import Forms
from .lengths import Graph, Length, Samples, Shape, Tensor
from .table import TABLE, Unsupported, listed

LARGEST_FILE = 2**31 - 1  # bytes that a protocol buffer can have
SMALL = 4096  # bytes of a constant that is worth being looked for among those written before
BATCH = "batch"
PRODUCER = "gluon_compress"


class Writer(Forms):
    """What the functions of the table write with.

    Attributes
    ----------
    opset : int
    obstacles : dict
        {what has no ONNX form: names of such nodes}.
    """

    def __init__(self, graph: Graph, inputs: Mapping[str, tuple[Shape, Any]], values: Mapping[str, np.ndarray],
                 opset: int) -> None:
        self.opset, self._graph, self._inputs = opset, graph, inputs
        self._constants = Constants(graph, values)
        self._nodes: list[onnx.NodeProto] = []
        self._bytes = 0  # of the initializers
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._known: dict[tuple, str] = {}  # constants by what they are
        self._names: dict[Entry, str] = {}
        self._taken = {node.name for node in graph.nodes} | set(inputs)
        self._current: Node | None = None
        self._batch: str | None = None
        self.obstacles: dict[str, list[str]] = {}

    # ---- what a function of the table asks of its node

    def inputs(self, node: Node) -> list[str]:
        """Names of what the node reads."""
        return [self.name(entry) for entry in node.inputs]

    def data(self, node: Node) -> str:
        """Name of the first that the node reads."""
        return self.name(node.inputs[0])

    def like(self, node: Node, value: Any) -> str:
        """Name of a number of the type that the node makes."""
        return self.constant(value, self.made(node).dtype)

    def tensor(self, node: Node, index: int = 0) -> Tensor:
        """Lengths and type of what the node reads at that position."""
        return self._graph.tensor(node.inputs[index])

    def made(self, node: Node, index: int = 0) -> Tensor:
        """Lengths and type of what the node makes."""
        return self._graph.tensor((node, index))

    def value(self, node: Node, index: int) -> np.ndarray | None:
        """What the node reads at that position where that is the same for all data, else None."""
        return self._constants.value(node.inputs[index])

    def known(self, node: Node, index: int) -> np.ndarray:
        """As :meth:`value`, where there must be one."""
        value = self.value(node, index)
        if value is None:
            raise Unsupported(f"of which {node.inputs[index][0].name} is computed from the data")
        return value

    def name(self, entry: Entry) -> str:
        """Name of an entry; parameters are written when they are first asked for."""
        if entry not in self._names:
            value = self._constants.value(entry)
            if value is None:
                if entry[0].operator != "null":
                    node, output = entry
                    raise Unsupported(f"reads output {output} of {node.name}, a {node.operator}, which ONNX does not "
                                      f"give; accepted: its output 0, as in F.{node.operator}(...)[0]")
                self._names[entry] = entry[0].name
            else:
                number = f"_output{entry[1]}" if entry[1] else ""
                name = entry[0].name if not number else self._free(entry[0].name + number)
                self._names[entry] = self._initialize(name, value)
        return self._names[entry]

    # ---- what it writes

    def __call__(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Write an ONNX operator; the name of its output, or a list of them where there are several.

        Attributes that are None are not written.
        """
        assert self._current is not None
        names = [self._free(f"{self._current.name}_{operator.lower()}") for _ in range(outputs)]
        node = helper.make_node(operator, list(inputs), names, name=names[0],
                                **{key: value for key, value in attributes.items() if value is not None})
        self._nodes.append(node)
        return names if outputs > 1 else names[0]

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Name of an initializer with this value."""
        assert self._current is not None
        array = np.asarray(value, dtype)
        key = (array.dtype.name, array.shape, array.tobytes()) if array.nbytes <= SMALL else None
        if key is None or key not in self._known:
            name = self._initialize(self._free(f"{self._current.name}_constant"), array)
            if key is None:
                return name
            self._known[key] = name
        return self._known[key]

    def lengths(self, lengths: Sequence[Length]) -> str:
        """Name of the list of these lengths, which is computed where they follow the batch."""
        if not any(isinstance(length, Samples) for length in lengths):
            return self.integers(*lengths)  # type: ignore[arg-type]
        parts: list[str] = []
        constant: list[int] = []
        for length in lengths:
            if isinstance(length, Samples):
                parts += [self.integers(*constant)] * bool(constant) + [self._samples(length)]
                constant = []
            else:
                constant.append(length)
        parts += [self.integers(*constant)] * bool(constant)
        return self("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]

    def _samples(self, length: Samples) -> str:
        found = self._number_of_samples()
        if length.factor != 1:
            found = self("Mul", found, self.integers(length.factor))
        if length.offset:
            found = self("Add", found, self.integers(length.offset))
        return found

    def _number_of_samples(self) -> str:
        if self._batch is None:
            assert self._graph.axes is not None
            name, axis = next((name, axis) for name, axis in self._graph.axes.items() if axis is not None)
            self._batch = self("Gather", self("Shape", name), self.integers(axis))
        return self._batch

    # ---- how the nodes become a model

    def write(self, node: Node) -> None:
        """Write one node of the graph, unless it does nothing or is the same for all data."""
        if node.operator == "null" or self._constants.has(node):
            return
        self._current, begin = node, len(self._nodes)
        try:
            found = self.name(node.inputs[0]) if node.is_identity else TABLE[node.operator](node, self)
        except Unsupported as obstacle:
            self.obstacles.setdefault(f"{node.operator} {obstacle}", []).append(node.name)
            found = node.name
        names = [found] if isinstance(found, str) else found
        for index, name in enumerate(names):
            wanted = node.name if len(names) == 1 else f"{node.name}_output{index}"
            self._names[node, index] = self._renamed(name, wanted, begin)

    def _renamed(self, name: str, wanted: str, begin: int) -> str:
        """Give what the node's own operators make the node's name; what it passes on keeps its own."""
        if not any(name in node.output for node in self._nodes[begin:]):
            return name
        wanted = wanted if wanted == getattr(self._current, "name", None) else self._free(wanted)
        for node in self._nodes[begin:]:
            for names in (node.input, node.output):
                names[:] = [wanted if each == name else each for each in names]
        return wanted

    def check_all_written(self) -> None:
        """``NetworkError`` with all obstacles, if there were any."""
        if self.obstacles:
            raise NetworkError(f"there is no ONNX form, in opset {self.opset}, of {listed(self.obstacles)}")

    def model(self, metadata: Mapping[str, Any]) -> onnx.ModelProto:
        """The model of all that was written."""
        outputs = self._outputs()
        graph = helper.make_graph(
            self._nodes, "network", [self._info(name, self._graph.tensor_of_input(name)) for name in self._inputs],
            outputs, list(self._initializers.values()))
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name=PRODUCER,
                                  ir_version=helper.find_min_ir_version_for(opsets))
        helper.set_model_props(model, {metadata_name(name): metadata_text(value) for name, value in metadata.items()})
        return model

    def _outputs(self) -> list[onnx.ValueInfoProto]:
        """The outputs, under names of their own where they are inputs, parameters, or put out twice."""
        found: dict[str, onnx.ValueInfoProto] = {}
        for entry in self._graph.outputs:
            self._current = entry[0]
            try:
                name = self.name(entry)
            except Unsupported as obstacle:
                raise NetworkError(f"the network {obstacle}") from None
            if name in self._inputs or name in self._initializers or name in found:
                wanted = entry[0].name
                wanted = self._free(f"{wanted}_output") if wanted == name else wanted
                self._nodes.append(helper.make_node("Identity", [name], [wanted], name=wanted))
                name = wanted
            found[name] = self._info(name, self._graph.tensor(entry))
        return list(found.values())

    def _info(self, name: str, tensor: Tensor) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(tensor.dtype), [
            _symbolic(length) if isinstance(length, Samples) else length for length in tensor.lengths])

    def _initialize(self, name: str, value: np.ndarray) -> str:
        self._bytes += value.nbytes
        if self._bytes > LARGEST_FILE:
            raise NetworkError(f"the weights take {self._bytes:,} bytes and more; an ONNX file holds at most "
                               f"{LARGEST_FILE:,}")
        self._initializers[name] = onnx.numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
        return name

    def _free(self, name: str) -> str:
        free, number = name, 1
        while free in self._taken:
            free, number = f"{name}_{number}", number + 1
        self._taken.add(free)
        return free


def metadata_name(name: str) -> str:
    return f"{PRODUCER}.{name}"


def metadata_text(value: Any) -> str:
    """Plain data as text; text stays as it is."""
    return value if isinstance(value, str) else json.dumps(value)


def _symbolic(length: Samples) -> str:
    factor = BATCH if length.factor == 1 else f"{length.factor}*{BATCH}"
    return f"{factor}{length.offset:+d}" if length.offset else factor
