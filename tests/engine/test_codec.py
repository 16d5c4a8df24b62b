"""Values survive the trip; nothing irregular is ever rebuilt."""

import json
import math
import struct

import pytest
import torch

from autograder.engine.codec import (
    Array,
    Opaque,
    ProtocolError,
    decode,
    encode,
    plain,
)


@pytest.mark.parametrize("order", ["\x1b[2J", "\x07", "\x9b1m", "\u202e", "\x00", "\ud800", "\r"])
def test_texts_hold_nothing_that_a_terminal_or_a_file_would_obey(order):
    for sent in (order, [order], {order: 1}):
        told = json.dumps(decode(encode(sent)), ensure_ascii=False)
        assert order not in told
        assert told.encode()
    assert decode(encode("a\tb\nµ → 你好 é")) == "a\tb\nµ → 你好 é"


@pytest.mark.parametrize(
    "alike", [{1: "a", "1": "b"}, {"\x1e": 1, "\x1f": 2}, {"k" * 200 + "a": 1, "k" * 200 + "b": 2}]
)
def test_a_dict_that_would_lose_an_entry_is_named_and_what_is_beside_it_survives(alike):
    told = decode(encode({"out": [torch.ones(2), alike], "n": 3}))
    assert told["out"][1] == Opaque("a dict in which two keys read alike")
    assert told["n"] == 3
    assert told["out"][0].shape == (2,)


class Liar(torch.Tensor):
    shape = property(lambda _self: torch.Size([7]))
    dtype = property(lambda _self: torch.int64)
    device = property(lambda _self: torch.device("cuda"))


def test_a_subclass_cannot_lie_about_its_shape_dtype_or_device():
    back = decode(encode(torch.ones(2, 3).as_subclass(Liar)))
    assert (back.shape, back.dtype, back.device) == ((2, 3), "float32", "cpu")


@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool,
     torch.complex64],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 3)])
def test_tensors_survive(dtype, shape):
    tensor = (torch.randn(shape) * 3).to(dtype)
    back = decode(encode({"x": tensor}))["x"]
    assert isinstance(back, Array)
    assert back.shape == shape
    assert torch.equal(back.data, tensor)


def test_views_strides_and_gradients_do_not_matter():
    base = torch.arange(24.0).reshape(4, 6).requires_grad_()
    for view in (base.T, base[::2, 1:4], base[:, :1].expand(4, 5), -base):
        assert torch.equal(plain(decode(encode(view))), view.detach())


def test_a_single_value_of_a_larger_tensor_survives():
    column = torch.arange(2.0).reshape(1, 2)[:, 0]
    assert column.stride() == (2,)
    assert torch.equal(plain(decode(encode(column))), torch.zeros(1))


def test_what_cannot_be_carried_is_named_and_left_behind():
    back = decode(encode([object(), torch.eye(2).to_sparse(), {1, 2}]))
    assert [type(part) for part in back] == [Opaque, Opaque, Opaque]


def test_nan_and_infinity_are_carried():
    back = decode(encode([math.inf, -math.inf, math.nan]))
    assert back[0] == math.inf
    assert math.isnan(back[2])


def test_self_reference_and_depth_are_refused():
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(ProtocolError):
        encode(loop)
    with pytest.raises(ProtocolError):
        encode([0] * 30_000)


def message(header: object, buffers: bytes = b"") -> bytes:
    raw = json.dumps(header).encode()
    return struct.pack(">I", len(raw)) + raw + buffers


@pytest.mark.parametrize(
    "lie",
    [
        b"",
        b"\x00\x00",
        struct.pack(">I", 1 << 31) + b"[]",
        message(["tensor", "float64", [2], "cpu", 8], b"\0" * 8),
        message(["tensor", "float64", [2], "cpu", 16], b"\0" * 8),
        message(["tensor", "float64", [-1], "cpu", -8]),
        message(["tensor", "float64", [1 << 40, 1 << 40], "cpu", 8], b"\0" * 8),
        message(["tensor", "float64", [1 << 24] * 3 + [0], "cpu", 0]),
        message(["tensor", "object", [1], "cpu", 8], b"\0" * 8),
        message(["tensor", "float64", [1], "mars", 8], b"\0" * 8),
        message(["tensor", "float64", [True], "cpu", 8], b"\0" * 8),
        message(["none"], b"left over"),
        message(["pickle", "gASVDAAAAAAAAACMCGJ1aWx0aW5z"]),
        message(["__init__", []]),
        message(["int", 1.5]),
        message(["int", True]),
        message(["float", "1" * 100 + "x"]),
        message(["dict", [["a"]]]),
        message(["list", {"a": 1}]),
        message({"kind": "list"}),
        message([]),
        message([[["none"]]]),
        struct.pack(">I", 200_000) + b"[" * 200_000,
    ],
)
def test_lies_are_refused(lie):
    with pytest.raises(ProtocolError):
        decode(lie)
