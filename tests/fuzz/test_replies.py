"""The reply decoder: a value that is what it says, or ProtocolError, and nothing else."""

from __future__ import annotations

import os
import socket
import struct
import time

import pytest
from effort import effort
from hypothesis import given
from hypothesis import strategies as st
from lies import check_reply
from messages import MESSAGES, bent, message

from autograder.engine import channel
from autograder.engine.codec import decode, encode


@given(MESSAGES)
@effort(300)
def test_headers_of_every_shape(sent: bytes) -> None:
    check_reply(sent)


@given(bent())
@effort(150)
def test_honest_messages_bent(sent: bytes) -> None:
    check_reply(sent)


@given(st.binary(max_size=200))
@effort(50)
def test_noise(sent: bytes) -> None:
    check_reply(sent)


def test_an_honest_message_is_held_to_what_it_says() -> None:
    assert check_reply(encode({"a": [1, 2.5, None, "x"]}))


@pytest.mark.parametrize(
    "header",
    [
        ["tensor", ["float32"], [1], "cpu", 0],
        ["tensor", {"a": 1}, [1], "cpu", 0],
        ["tensor", "float32", [0, -1], "cpu", 0],
        ["tensor", "float32", [0, 2**27], "cpu", 0],
        ["tensor", "float32", [1], "fake", None, None],
        ["tensor", "float32", [0], ["cpu"], 0],
        ["dict", [["a", ["int", 1]], ["a", ["int", 2]]]],
        ["dict", [["k" * 201, ["int", 1]], ["k" * 202, ["int", 2]]]],
        [["none"]],
        "none",
        ["list", "none"],
        ["int", 1.0],
        ["int", True],
        ["float", "0x1p9999"],
        ["bool", 1],
        ["str", 1],
    ],
)
def test_lies_that_were_met_are_refused(header: object) -> None:
    assert not check_reply(message(header, b""))


@pytest.mark.parametrize("size", [0, 4, 7, 9, 16, -8, 8.0, True, None, "8", [8]])
def test_a_tensors_bytes_fit_its_shape(size: object) -> None:
    assert check_reply(message(["tensor", "float32", [2], "cpu", 8], bytes(8)))
    for sent in (8, size if type(size) is int and size > 0 else 8):
        assert not check_reply(message(["tensor", "float32", [2], "cpu", size], bytes(sent)))


def test_more_than_may_be_sent_is_not_even_read() -> None:
    own, theirs = socket.socketpair()
    with own, theirs:
        own.setblocking(False)
        os.write(theirs.fileno(), struct.pack(">Q", 41) + bytes(41))
        with pytest.raises(channel.OversizedMessage):
            channel.receive(own.fileno(), 40, time.monotonic() + 5)


@given(
    st.lists(st.binary(max_size=40), max_size=4),
    st.lists(st.integers(1, 30), min_size=1, max_size=5),
    st.binary(max_size=12),
)
@effort(60)
def test_framing_gives_what_was_sent_however_it_is_cut(
    payloads: list[bytes], cuts: list[int], rest: bytes
) -> None:
    """And a message cut short, or announced too large, is never taken for one."""
    stream = b"".join(struct.pack(">Q", len(payload)) + payload for payload in payloads) + rest
    own, theirs = socket.socketpair()
    with own, theirs:
        own.setblocking(False)
        received = []
        for payload in payloads:
            theirs.sendall(stream[: 8 + len(payload)])
            stream = stream[8 + len(payload) :]
            received.append(bytes(channel.receive(own.fileno(), 40, time.monotonic() + 5)))
        assert received == payloads
        for at in range(0, len(stream), cuts[0]):
            theirs.sendall(stream[at : at + cuts[0]])
        theirs.close()
        if len(rest) >= 8 and (size := struct.unpack(">Q", rest[:8])[0]) <= len(rest) - 8:
            assert channel.receive(own.fileno(), 40, time.monotonic() + 5) == rest[8 : 8 + size]
        else:
            with pytest.raises((channel.ChannelClosed, channel.OversizedMessage)):
                channel.receive(own.fileno(), 40, time.monotonic() + 5)


def test_a_slow_reply_is_not_waited_for() -> None:
    own, theirs = socket.socketpair()
    with own, theirs:
        own.setblocking(False)
        os.write(theirs.fileno(), struct.pack(">Q", 5) + b"abc")
        started = time.monotonic()
        with pytest.raises(channel.DeadlineExceeded):
            channel.receive(own.fileno(), 40, started + 0.2)
        assert time.monotonic() - started < 2


def test_the_largest_header_is_refused_in_time() -> None:
    started = time.monotonic()
    for text in (b"[" * 4_000_000, b"[[],[]," * 500_000, b'["list",[' + b'["none"],' * 400_000):
        with pytest.raises(ValueError):
            decode(struct.pack(">I", len(text)) + text)
    assert time.monotonic() - started < 20
