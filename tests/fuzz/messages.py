"""Replies that a hostile worker could send: headers of every shape, and whole messages bent."""

from __future__ import annotations

import json
import struct
from typing import Any

from hypothesis import strategies as st

from autograder.engine.codec import DEVICES, DTYPES, MAX_BYTES, encode

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
SIZES = st.integers(-2, 9) | st.sampled_from([MAX_BYTES, MAX_BYTES + 1, 2**31, 2**63, 2**64])
NUMBERS = st.sampled_from(["0x1.8p1", "inf", "-nan", "nan", "1e3", "0x1p9999", " 0x1p0 ", "", "x"])


def _tensor(draw: st.DrawFn) -> list[Any]:
    shape = draw(st.lists(SIZES, max_size=13) | ANYTHING)
    dtype = draw(st.sampled_from([*DTYPES, "object", "float8_e4m3fn"]) | ANYTHING)
    device = draw(st.sampled_from([*DEVICES, "meta", "cuda:0"]) | ANYTHING)
    size = draw(SIZES | ANYTHING)
    if draw(st.booleans()) and isinstance(shape, list) and dtype in list(DTYPES):
        size = DTYPES[dtype].itemsize
        for n in shape:
            size = size * n if type(n) is int else size
    return ["tensor", dtype, shape, device, size]


def _nodes(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    parts = st.lists(inner, max_size=4)
    pairs = st.lists(st.tuples(st.sampled_from("ab") | ANYTHING, inner).map(list), max_size=4)
    return st.tuples(st.sampled_from(["list", "tuple"]), parts | ANYTHING).map(list) | st.tuples(
        st.just("dict"), pairs | ANYTHING
    ).map(list)


LEAVES = (
    st.just(["none"])
    | st.tuples(st.sampled_from(["bool", "int", "str", "opaque", "float"]), ANYTHING).map(list)
    | st.tuples(st.just("float"), NUMBERS).map(list)
    | st.tuples(
        st.sampled_from(["value", "none", "expect_end", "_read", "init__"]) | st.text(max_size=9),
        ANYTHING,
    ).map(list)
    | st.composite(_tensor)()
    | ANYTHING
)
HEADERS = st.recursive(LEAVES, _nodes, max_leaves=8)


def message(header: Any, buffers: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack(">I", len(text)) + text + buffers


MESSAGES = st.builds(message, HEADERS, st.binary(max_size=80) | st.integers(0, 200).map(bytes))


@st.composite
def bent(draw: st.DrawFn) -> bytes:
    """An honest message with some of its bytes changed, cut, doubled or put in."""
    import torch

    value = draw(
        st.sampled_from(
            [
                {"status": "returned", "value": torch.arange(6.0).reshape(2, 3), "called": []},
                [torch.ones(2, dtype=torch.bool), 3, (1.5, None, "x")],
                {"a": {"b": torch.empty(0, 3)}, "c": float("nan")},
            ]
        )
    )
    data = bytearray(encode(value))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        what = draw(st.sampled_from(["set", "cut", "drop", "put", "double"]))
        if what == "set" and data:
            data[at] = draw(st.integers(0, 255))
        elif what == "cut":
            del data[at:]
        elif what == "drop":
            del data[at : at + draw(st.integers(1, 9))]
        elif what == "put":
            data[at:at] = draw(st.binary(max_size=9))
        else:
            data += data[at:]
    return bytes(data)
