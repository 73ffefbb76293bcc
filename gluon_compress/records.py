"""The one idea in code: what a technique did to a network is a record, plain data apart from the network.

A record prints as a table, goes to JSON and back, combines with others of its class, and names the layers that were
left out with the reason. A class with a name ``in_files`` is kept in compressed files too:

    class Codebooks(Record, in_files="codebooks", form=IndicesAndCodebook):
        ...

``form`` says how a file stores a parameter that the record is about, where that differs from the plain values. The
package ``checkpoint`` writes and reads whatever is registered here, and knows no technique by name.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .errors import RecordError
from .files.schema import anything
from .network.values import value_of

if TYPE_CHECKING:
    from mxnet.gluon import HybridBlock, Parameter

    from .network.graph import Graph

Check = Callable[[Any, str], None]  # of files/schema.py
OWN_SETTINGS = ("shape", "dtype", "bits", "fill", "infinite")  # what a file says of any parameter, where it applies
KINDS: dict[str, type[Record]] = {}  # {what a file calls them: class} of the records that files may hold
FORMS: list[type[Form]] = []  # their forms, in the order in which these encode


class Form:
    """How a file stores one parameter that a record is about.

    A parameter may have the forms of several records. They encode its values one after the other, by ``stage``, and
    decode them in reverse. The file holds the result; integer codes of fewer than 8 bits lie in it without gaps.

    Attributes
    ----------
    parts : tuple of str
        Names of the tensors stored beside the values.
    settings : dict
        {name: check of :mod:`.files.schema`} of what the file's header says besides shape and type.
    stage : int
        Forms encode in the order of their stages. One that changes the array's shape needs a higher stage than those
        that change only its values.
    keeps_shape : bool
        Whether what is stored has the parameter's shape; if not, only values that are zero may be missing.
    stores_codes : bool
        Whether it encodes to int8 codes of ``bits`` bits each: in [-q_max, q_max] with q_max = 2**(bits - 1) - 1, for
        8 bits in [-128, 127].
    bits : int
        How many bits a code has.
    """

    parts: ClassVar[tuple[str, ...]] = ()
    settings: ClassVar[dict[str, Check]] = {}
    stage: ClassVar[int] = 0
    keeps_shape: ClassVar[bool] = True
    stores_codes: ClassVar[bool] = False
    bits: int = 8

    def encode(self, values: np.ndarray) -> np.ndarray:
        """What is stored for these values; zero for zero. ``RecordError`` where the record does not fit them."""
        raise NotImplementedError

    def decode(self, stored: np.ndarray) -> np.ndarray:
        """The values from what was stored; :class:`~.files.schema.Malformed` where that is impossible."""
        raise NotImplementedError

    def tensors(self) -> dict[str, np.ndarray]:
        """{part: array}."""
        return {}

    def layout(self) -> dict[str, Any]:
        """{setting: value}."""
        return {}

    def stored_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of what is stored for values of this shape."""
        return shape

    @classmethod
    def stored_type(cls, dtype: str) -> str:
        """The type of what is stored for values of this type."""
        return "int8" if cls.stores_codes else dtype

    @classmethod
    def part_shapes(cls, layout: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """{part: shape} of the parts that are float32 and whose shapes follow from the layout."""
        return {}

    @classmethod
    def check(cls, name: str, layout: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
        """Raise ``Malformed`` unless a file can hold these ``tensors``, {part: array}, beside parameter ``name``."""

    @classmethod
    def read(cls, name: str, layout: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Form:
        """The form that a file has of parameter ``name``; called after :meth:`check`."""
        raise NotImplementedError


class Record:
    """What a technique did to a network.

    Attributes
    ----------
    left_out : dict
        {layer name: why the technique left it alone}.
    in_files : str or None
        What a file calls a record of this class; None where files do not hold it.
    form : class derived from Form, or None
    title : str
        What error messages call it: "record of masks".
    schema, header_schema : check of :mod:`.files.schema`
        For the JSON of :meth:`to_dict`, and for that of :meth:`header` where :meth:`from_file` does not check it.
    resizes : bool
        Whether :meth:`resize` does anything.
    renamed : dict
        {name in the JSON of an earlier version: name today}.
    """

    left_out: dict[str, str]
    in_files: ClassVar[str | None] = None
    form: ClassVar[type[Form] | None] = None
    title: ClassVar[str] = "record"
    schema: ClassVar[Check] = anything
    header_schema: ClassVar[Check] = anything
    resizes: ClassVar[bool] = False
    renamed: ClassVar[dict[str, str]] = {"untouched": "left_out"}

    def __init_subclass__(cls, in_files: str | None = None, form: type[Form] | None = None, **further: Any) -> None:
        super().__init_subclass__(**further)
        if in_files is not None:
            _register(cls, in_files, form)

    def summary(self) -> str:
        """A table."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.summary()

    def __or__(self, other: Any) -> Any:
        """This record and then ``other``, as one record of both."""
        return self.combined(other) if isinstance(other, type(self)) else NotImplemented

    def combined(self, other: Any) -> Any:
        """What ``self | other`` is; NotImplemented where records of this class do not combine."""
        return NotImplemented

    def to_dict(self) -> dict[str, Any]:
        """JSON-serializable."""
        raise NotImplementedError

    @classmethod
    def from_dict(cls, record: Any) -> Any:
        """The inverse of :meth:`to_dict`, also for what earlier versions wrote; ``RecordError`` for anything else."""
        record = cls.with_names_of_today(record)
        try:
            cls.schema(record, "the record")
            return cls.of_checked(record)
        except (TypeError, ValueError) as error:
            raise RecordError(f"this is not a {cls.title}: {error}") from error

    @classmethod
    def of_checked(cls, record: dict[str, Any]) -> Any:
        """The record made from JSON that ``schema`` has accepted; ``ValueError`` where that is still impossible."""
        return cls(**record)

    @classmethod
    def with_names_of_today(cls, record: Any) -> Any:
        """The JSON of a record, with the names that an earlier version used replaced by today's."""
        if not isinstance(record, dict):
            return record
        return {name if cls.renamed.get(name, name) in record else cls.renamed[name]: value
                for name, value in record.items()}

    # ---- in compressed files

    def check(self, net: HybridBlock) -> None:
        """Raise ``RecordError`` unless the record fits ``net`` as it is now."""

    def forms(self) -> dict[str, Form]:
        """{structural parameter name: form} of the parameters that a file does not store as plain values."""
        return {}

    def header(self) -> dict[str, Any]:
        """What a file keeps of the record besides its forms: JSON."""
        return self.to_dict()

    @classmethod
    def from_file(cls, header: dict[str, Any], forms: Mapping[str, Form]) -> Any:
        """The record made from a file's header and forms, when it is needed; ``RecordError`` for another header."""
        return cls.from_dict(header)

    def new_shapes(self, shapes: Mapping[str, Any]) -> dict[str, Any]:
        """What :meth:`resize` makes of ``shapes``, {structural parameter name: shape} of the network."""
        return dict(shapes)

    def resize(self, net: HybridBlock) -> None:
        """Give a fresh copy of the original network the shapes that this record's technique left."""


def codes_of(forms: Mapping[str, Form], named: Mapping[str, Parameter]) -> dict[str, np.ndarray]:
    """{structural parameter name: what its form stores} of the values that the parameters ``named`` have now."""
    return {name: form.encode(value_of(named[name])) for name, form in forms.items()}


class NetworkRecord(Record):
    """A record that describes a whole network; the network has a class of its own and the record as ``net.stored_as``.

    Attributes
    ----------
    graph : Graph
        Of the original network.
    """

    graph: Graph

    def beside(self) -> tuple[Record, ...]:
        """The other records that a file of such a network holds."""
        return ()

    def tensors(self) -> dict[str, np.ndarray]:
        """{structural name: array} of all parameters; codes for those whose form stores codes."""
        raise NotImplementedError

    @classmethod
    def from_tensors(cls, graph: Graph, tensors: dict[str, np.ndarray], records: Mapping[str, Any]) -> NetworkRecord:
        """The inverse of :meth:`tensors`, with ``records``, {kind: record}; ``RecordError`` where these do not fit."""
        raise NotImplementedError

    def network(self, simulate: bool = False) -> HybridBlock:
        """The network; with ``simulate`` it computes the same on any machine."""
        raise NotImplementedError


def record_of_network(net: Any) -> NetworkRecord | None:
    """The record that describes all of ``net``, if its class has such a record; else None."""
    record = getattr(net, "stored_as", None)
    return record if isinstance(record, NetworkRecord) else None


def _register(cls: type[Record], name: str, form: type[Form] | None) -> None:
    if name in KINDS:
        raise TypeError(f"{cls.__name__} is called {name!r} in files, as {KINDS[name].__name__} is; accepted: another "
                        f"name")
    if form is not None and not (form.parts or form.settings):
        raise TypeError(f"the form of {cls.__name__} has neither parts nor settings; accepted: one at least, by which "
                        f"a file tells what has the form")
    taken = {*OWN_SETTINGS, "value", *(part for other in FORMS for part in (*other.parts, *other.settings))}
    for part in (*form.parts, *form.settings) if form else ():
        if part in taken:
            raise TypeError(f"the form of {cls.__name__} has {part!r}; accepted: a name other than "
                            f"{', '.join(sorted(taken))}")
    cls.in_files, cls.form, KINDS[name] = name, form, cls
    if form is not None:
        FORMS.append(form)
        FORMS.sort(key=lambda each: (each.stage, each.__name__))  # not in the order of imports
