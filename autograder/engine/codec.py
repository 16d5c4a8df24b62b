"""Values as validated raw bytes: the only thing that ever crosses from a worker to the grader.

A message is a JSON header and the tensors' buffers behind it. The header is a tree of nodes
``[kind, …]``; nothing in it names a class to be built or code to be run. ``encode`` runs on
either side; ``decode`` trusts nothing and raises ProtocolError on everything irregular.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from autograder.engine.steady import PACK, json_of, keep_builtins

keep_builtins(globals())

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64,
        torch.complex128, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
        torch.bool,
    )
}  # fmt: skip
MAX_BYTES = 16 << 20
MAX_HEADER = 2 << 20
MAX_DEPTH = 16
MAX_NODES = 20_000
MAX_BESIDE = 100  # of these, beside a settled part
MAX_DIMENSIONS = 12
MAX_TEXT = 4_000
DEVICES = ("cpu", "cuda")
# The fake device, and what fake tensors claim to be on that have left it. None of them has data.
FAKE_DEVICES = ("fake", "fake cpu", "fake cuda")
# A terminal, a web page or a UTF-8 file would obey these or choke on them: control characters but
# for tab and newline, marks that turn the direction of text, halves of surrogate pairs.
UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
# Bound before a student's code could put something else in its place; and a subclass that lies
# about itself is not asked.
SHAPE, DTYPE, DEVICE, LAYOUT = (
    getattr(Tensor, name).__get__ for name in ("shape", "dtype", "device", "layout")
)
PLAIN = (Tensor, torch.nn.Parameter)
NO_FUNCTION, NO_SUBCLASS = torch._C.DisableTorchFunction, torch._C.DisableTorchFunctionSubclass


class ProtocolError(ValueError):
    """A message is not what the protocol allows."""


@dataclass(frozen=True)
class Array:
    """A tensor as it was described by the other side; ``data`` is None for a fake tensor."""

    dtype: str
    shape: tuple[int, ...]
    device: str
    data: Tensor | None


@dataclass(frozen=True)
class Opaque:
    """A value that the protocol does not carry, by the name of its type."""

    kind: str


@dataclass(frozen=True)
class Settled:
    """A part of a value that has been read already, so that nothing of it is asked again."""

    node: list[Any]
    buffers: list[bytes]


def settle(value: Any) -> Settled:
    """Read a part of what will be sent, now; ``encode`` takes it as it is.

    Raises:
        ProtocolError: as ``encode`` does.
    """
    buffers: list[bytes] = []
    return Settled(_node(value, buffers, [MAX_NODES - MAX_BESIDE], 1), buffers)


def encode(value: Any) -> bytes:
    """Turn a tree of plain values and tensors into a message.

    What cannot be carried becomes Opaque on the other side; what is too deep, too many or too
    large raises ProtocolError.
    """
    buffers: list[bytes] = []
    budget = [MAX_NODES]
    node = _node(value, buffers, budget, 0)
    header = json_of(node)
    size = len(header) + sum(len(b) for b in buffers)
    if len(header) > MAX_HEADER or size > MAX_BYTES:
        raise ProtocolError(f"the value takes {size} bytes, over the limit of {MAX_BYTES}")
    return b"".join([PACK(">I", len(header)), header, *buffers])


def decode(message: bytes | bytearray) -> Any:
    """Rebuild a value from a message, trusting nothing in it.

    Returns:
        None, bool, int, float, str, lists, tuples, dicts with string keys, Array, Opaque.

    Raises:
        ProtocolError: anything irregular.
    """
    if len(message) < 4:
        raise ProtocolError("the message is cut short")
    length = struct.unpack(">I", message[:4])[0]
    if length > MAX_HEADER or 4 + length > len(message):
        raise ProtocolError("the message's header is cut short or too long")
    try:
        node = json.loads(bytes(message[4 : 4 + length]))
    except (ValueError, RecursionError) as error:
        raise ProtocolError("the message's header is not JSON") from error
    reader = _Reader(memoryview(message)[4 + length :])
    value = reader.value(node, 0)
    reader.expect_end()
    return value


def plain(tree: Any) -> Any:
    """The tree with every Array as its tensor, for code that computes with it."""
    if isinstance(tree, Array):
        return tree.data
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(plain(value) for value in tree)
    return tree


def printable(text: str) -> str:
    """A text from a student, without what terminals, pages and files would take for orders."""
    return UNPRINTABLE.sub("\ufffd", text)


def arrays_of(tree: Any) -> list[Array]:
    """Every tensor of a decoded tree, in order."""
    if isinstance(tree, dict):
        return [leaf for value in tree.values() for leaf in arrays_of(value)]
    if isinstance(tree, list | tuple):
        return [leaf for value in tree for leaf in arrays_of(value)]
    return [tree] if isinstance(tree, Array) else []


def _node(value: Any, buffers: list[bytes], budget: list[int], depth: int) -> list[Any]:
    budget[0] -= 1
    if budget[0] < 0 or depth > MAX_DEPTH:
        raise ProtocolError("the value has too many parts or is nested too deeply")
    if value is None:
        return ["none"]
    if isinstance(value, Settled):
        buffers += value.buffers
        return value.node
    if isinstance(value, Array):
        return ["tensor", value.dtype, list(value.shape), value.device, _put(value.data, buffers)]
    if isinstance(value, Tensor):
        return _tensor_node(value, buffers)
    if isinstance(value, Opaque):
        return ["opaque", value.kind[:200]]
    if isinstance(value, bool):
        return ["bool", bool(value)]
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return ["int", int(value)]
    if isinstance(value, float):
        return ["float", float(value).hex()]
    if isinstance(value, str):
        return ["str", str(value)[:MAX_TEXT]]
    if isinstance(value, Mapping):
        return _dict_node(value, buffers, budget, depth)
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return [kind, [_node(v, buffers, budget, depth + 1) for v in value]]
    return _scalar_or_opaque(value)


def _dict_node(
    value: Mapping[Any, Any], buffers: list[bytes], budget: list[int], depth: int
) -> list[Any]:
    """Keys travel as text. A dict that would lose an entry so (1 and "1") is named, not sent."""
    items = [(printable(str(key)[:200]), inner) for key, inner in value.items()]
    if len({key for key, _inner in items}) < len(items):
        return ["opaque", "a dict in which two keys read alike"]
    return ["dict", [[key, _node(inner, buffers, budget, depth + 1)] for key, inner in items]]


def _scalar_or_opaque(value: Any) -> list[Any]:
    """NumPy's scalars count as numbers; everything else is named and left behind."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if kind.startswith("numpy.") and getattr(value, "shape", None) == ():
        item = value.item()
        if isinstance(item, bool):
            return ["bool", item]
        if isinstance(item, int):
            return ["int", item]
        if isinstance(item, float):
            return ["float", item.hex()]
    if isinstance(value, torch.dtype):
        return ["str", str(value)]
    return ["opaque", kind[:200]]


def _tensor_node(value: Tensor, buffers: list[bytes]) -> list[Any]:
    from torch._subclasses.fake_tensor import FakeTensor

    if isinstance(value, FakeTensor):
        claimed = value.fake_device.type
        device = "fake" if claimed == "meta" else f"fake {claimed}"
        name = str(value.dtype).removeprefix("torch.")
        return ["tensor", name, [int(n) for n in value.shape], device, None]
    # Nobody else has a say in a plain tensor, and nobody need watch it being read.
    plainly = NO_FUNCTION if type(value) in PLAIN else NO_SUBCLASS
    with plainly():
        name = str(DTYPE(value)).removeprefix("torch.")
        shape = tuple(int(n) for n in SHAPE(value))
        device, layout = DEVICE(value).type, LAYOUT(value)
        if device == "meta" and name in DTYPES:
            return ["tensor", name, list(shape), "fake", None]
        if layout != torch.strided or name not in DTYPES or device == "meta":
            return ["opaque", f"a tensor with layout {layout} and dtype {name}"]
        flat = value.detach().as_subclass(Tensor).resolve_conj().resolve_neg()
        if flat.numel() * flat.element_size() > MAX_BYTES:
            raise ProtocolError(f"a tensor of shape {shape} is too large to return")
        data = flat.cpu().contiguous()
        return ["tensor", name, list(shape), device, _put(data, buffers)]


def _put(data: Tensor | None, buffers: list[bytes]) -> int | None:
    if data is None:
        return None
    flat = data.contiguous().reshape(-1)
    if flat.stride() != (1,):  # one element of a larger tensor counts as contiguous as it is
        flat = flat.clone(memory_format=torch.contiguous_format)
    raw = flat.view(torch.uint8).numpy().tobytes()
    buffers.append(raw)
    return len(raw)


class _Reader:
    def __init__(self, buffers: memoryview) -> None:
        self._buffers = buffers
        self._offset = 0
        self._nodes = 0

    def expect_end(self) -> None:
        if self._offset != len(self._buffers):
            raise ProtocolError("the message has bytes left over")

    def value(self, node: Any, depth: int) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            raise ProtocolError("the message has too many parts or is nested too deeply")
        if not isinstance(node, list) or not node or not isinstance(node[0], str):
            raise ProtocolError("a node of the message is malformed")
        read = getattr(self, f"_read_{node[0]}", None) if node[0].isidentifier() else None
        if read is None:
            raise ProtocolError("a node of the message is of no known kind")
        return read(node, depth)

    def _read_none(self, node: list[Any], _depth: int) -> None:
        _fields(node, 0)

    def _read_bool(self, node: list[Any], _depth: int) -> bool:
        return bool(_typed(_fields(node, 1)[0], bool))

    def _read_int(self, node: list[Any], _depth: int) -> int:
        number = _fields(node, 1)[0]
        if type(number) is not int or not -(2**63) <= number < 2**63:
            raise ProtocolError("an integer of the message is malformed")
        return number

    def _read_float(self, node: list[Any], _depth: int) -> float:
        text = _typed(_fields(node, 1)[0], str)
        if len(text) > 64:
            raise ProtocolError("a number of the message is malformed")
        try:
            return float.fromhex(text)
        except (ValueError, OverflowError) as error:
            raise ProtocolError("a number of the message is malformed") from error

    def _read_str(self, node: list[Any], _depth: int) -> str:
        text: str = _typed(_fields(node, 1)[0], str)
        if len(text) > MAX_TEXT:
            raise ProtocolError("a text of the message is too long")
        return printable(text)

    def _read_opaque(self, node: list[Any], _depth: int) -> Opaque:
        return Opaque(printable(_typed(_fields(node, 1)[0], str)[:200]))

    def _read_list(self, node: list[Any], depth: int) -> list[Any]:
        return [self.value(part, depth + 1) for part in _typed(_fields(node, 1)[0], list)]

    def _read_tuple(self, node: list[Any], depth: int) -> tuple[Any, ...]:
        return tuple(self._read_list(node, depth))

    def _read_dict(self, node: list[Any], depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for pair in _typed(_fields(node, 1)[0], list):
            if not isinstance(pair, list) or len(pair) != 2:
                raise ProtocolError("an entry of the message is malformed")
            key = printable(_typed(pair[0], str)[:200])
            if key in found:
                raise ProtocolError("a dict of the message has a key twice")
            found[key] = self.value(pair[1], depth + 1)
        return found

    def _read_tensor(self, node: list[Any], _depth: int) -> Array:
        name, shape, device, size = _fields(node, 4)
        fake = isinstance(device, str) and device in FAKE_DEVICES
        known = isinstance(name, str) and isinstance(device, str)
        if not known or name not in DTYPES or not (fake or device in DEVICES):
            raise ProtocolError("a tensor of the message has an unknown dtype or device")
        if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS:
            raise ProtocolError("a tensor of the message has a malformed shape")
        if any(type(n) is not int or not 0 <= n <= MAX_BYTES for n in shape):
            raise ProtocolError("a tensor of the message has a malformed shape")
        if fake:
            if size is not None:
                raise ProtocolError("a fake tensor of the message has data")
            return Array(name, tuple(shape), device, None)
        dtype = DTYPES[name]
        if math.prod(max(n, 1) for n in shape) > MAX_BYTES:  # a tensor of none, with vast strides
            raise ProtocolError("a tensor of the message has a malformed shape")
        expected = math.prod(shape) * dtype.itemsize
        if type(size) is not int or size != expected:
            raise ProtocolError("a tensor's bytes do not fit its shape")
        if self._offset + size > len(self._buffers):
            raise ProtocolError("a tensor's bytes are cut short")
        raw = bytearray(self._buffers[self._offset : self._offset + size])
        self._offset += size
        if dtype is torch.bool:
            data = torch.frombuffer(raw, dtype=torch.uint8).ne(0) if size else torch.empty(0)
        else:
            data = torch.frombuffer(raw, dtype=dtype) if size else torch.empty(0)
        return Array(name, tuple(shape), device, data.to(dtype).reshape(shape))


def _fields(node: list[Any], count: int) -> list[Any]:
    if len(node) != count + 1:
        raise ProtocolError("a node of the message has the wrong number of fields")
    return node[1:]


def _typed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ProtocolError("a field of the message has the wrong type")
    return value
