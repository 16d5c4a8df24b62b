"""What a student's function returns arrives as it was, or is refused when it was bent."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any

import torch
from effort import effort
from hypothesis import given
from hypothesis import strategies as st

from autograder.engine.codec import ProtocolError, decode, encode, printable

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=9), inner, max_size=4
        ).filter(lambda found: len({printable(key) for key in found}) == len(found))
    ),
    max_leaves=12,
)


@given(VALUES)
@effort(200)
def test_plain_values_survive(value: Any) -> None:
    assert decode(encode(value)) == without_control_characters(value)


@given(st.binary(max_size=200))
@effort(300)
def test_noise_raises_protocol_error_or_nothing(noise: bytes) -> None:
    for candidate in (noise, struct.pack(">I", len(noise)) + noise):
        with suppress(ProtocolError):
            decode(candidate)


@given(VALUES, st.integers(0, 200), st.integers(0, 255))
@effort(100)
def test_flipped_bytes_never_crash(value: Any, place: int, byte: int) -> None:
    broken = bytearray(encode({"v": value, "t": torch.ones(3)}))
    broken[place % len(broken)] = byte
    with suppress(ProtocolError):
        decode(broken)


def without_control_characters(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        clean = without_control_characters
        return {clean(key): clean(inner) for key, inner in value.items()}
    return [without_control_characters(v) for v in value] if isinstance(value, list) else value
