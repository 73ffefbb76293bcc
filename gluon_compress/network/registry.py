"""MXNet's registry of operators: their names, the attributes of each, and a Symbol of a single one.

Python's interface to MXNet does not give these; the calls are those of its C library.
"""
from __future__ import annotations

import ctypes
from collections.abc import Sequence

import mxnet as mx
from mxnet.base import _LIB, SymbolHandle, c_str_array, check_call, mx_uint


def all_names() -> list[str]:
    """The names that operators go by, aliases among them."""
    count, names = mx_uint(), ctypes.POINTER(ctypes.c_char_p)()
    check_call(_LIB.MXListAllOpNames(ctypes.byref(count), ctypes.byref(names)))
    return [names[index].decode() for index in range(count.value)]


def description_of(operator: str) -> tuple[str, dict[str, str]]:
    """``(MXNet's own name, {argument: MXNet's description of its kind})``; ``MXNetError`` for an unknown operator."""
    texts = [ctypes.c_char_p() for _ in range(4)]
    lists = [ctypes.POINTER(ctypes.c_char_p)() for _ in range(3)]
    count = mx_uint()
    name, description, variable, result = texts
    references = [ctypes.byref(each) for each in (name, description, count, *lists, variable, result)]
    check_call(_LIB.MXSymbolGetAtomicSymbolInfo(_handle_of(operator), *references))
    names, kinds, _ = lists
    own_name = (name.value or b"").decode()
    return own_name, {names[index].decode(): kinds[index].decode() for index in range(count.value)}


def symbol_of_operator(operator: str, attributes: Sequence[tuple[str, str]]) -> mx.sym.Symbol:
    """A Symbol of an operator alone, which reads as many variables as it can; ``MXNetError`` when it is refused."""
    names, values = [name for name, _ in attributes], [value for _, value in attributes]
    handle = SymbolHandle()
    check_call(_LIB.MXSymbolCreateAtomicSymbol(_handle_of(operator), mx_uint(len(names)), c_str_array(names),
                                               c_str_array(values), ctypes.byref(handle)))
    symbol = mx.sym.Symbol(handle)
    symbol._compose(name="node")
    return symbol


def _handle_of(operator: str) -> ctypes.c_void_p:
    handle = ctypes.c_void_p()
    check_call(_LIB.NNGetOpHandle(operator.encode(), ctypes.byref(handle)))
    return handle
