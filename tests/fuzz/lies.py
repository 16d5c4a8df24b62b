"""What every decoded reply must hold to; shared with the coverage-guided fuzzer."""

from __future__ import annotations

import math
from typing import Any

import torch

from autograder.engine.codec import DEVICES, DTYPES, Array, Opaque, ProtocolError, decode, encode


def check_reply(message: bytes) -> bool:
    """Decode a message and, where it decodes, hold it to what it says.

    Returns:
        Whether it decoded.

    Raises:
        AssertionError: a lie was accepted.
    """
    try:
        value = decode(message)
    except ProtocolError:
        return False
    _check(value)
    assert _same(decode(encode(value)), value), value
    return True


def _check(value: Any) -> None:
    if isinstance(value, Array):
        assert value.dtype in DTYPES
        assert value.device in DEVICES
        if value.data is None:
            assert value.device == "fake"
            return
        assert type(value.data) is torch.Tensor
        assert value.data.device.type == "cpu"
        assert value.data.dtype == DTYPES[value.dtype]
        assert tuple(value.data.shape) == value.shape
        assert value.data.is_contiguous()
        assert value.data.numel() == math.prod(value.shape)
    elif isinstance(value, dict):
        for key, part in value.items():
            assert type(key) is str
            _check(part)
    elif isinstance(value, list | tuple):
        for part in value:
            _check(part)
    else:
        assert value is None or type(value) in (bool, int, float, str, Opaque), value


def _same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, Array):
        if (a.dtype, a.shape, a.device) != (b.dtype, b.shape, b.device):
            return False
        return (a.data is None) == (b.data is None) and (a.data is None or _bytes(a) == _bytes(b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, float):
        return a.hex() == b.hex()
    return bool(a == b)


def _bytes(array: Array) -> bytes:
    assert array.data is not None
    return array.data.reshape(-1).view(torch.uint8).numpy().tobytes() if array.data.numel() else b""
