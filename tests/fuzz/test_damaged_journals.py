"""The journal's reader: a record that was written, or none; whatever lies there instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from effort import effort
from hypothesis import given
from hypothesis import strategies as st
from notebooks import ANYTHING

from autograder.engine.verdict import PASSED, ExerciseResult, Verdict
from autograder.engine.verdict import TestResult as Outcome
from autograder.gradebook.journal import Journal, Record
from autograder.gradebook.timestamp import timestamp_in

RECORD = Record(
    "k", "ann", "ch/it",
    Verdict("ch/it", 1.0, 1.5, ["cpu"], {"in force": [], "missing": {}},
            [ExerciseResult("f", 1.0, 1.5, [Outcome("t", PASSED, 1.0, 1.5, "", "cpu")])]),
)  # fmt: skip


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Journal:
    journal = Journal(tmp_path_factory.mktemp("journal"), "ch")
    journal.write("it", RECORD)
    return journal


def read(journal: Journal, data: bytes) -> Record | None:
    journal.path("ann", "it").write_bytes(data)
    found = journal.read("ann", "it")
    if found is not None:
        assert found.student == "ann"
        assert (found.verdict is None) == bool(found.failure)
        assert found.seal == Record.from_dict(json.loads(json.dumps(found.to_dict()))).seal
        if found.verdict:
            assert -0.01 <= found.verdict.score <= found.verdict.max_score + 0.01
            assert found.asks_for_review in (True, False)
    return found


def test_what_was_written_is_read(journal: Journal) -> None:
    assert read(journal, json.dumps(RECORD.to_dict()).encode()) == RECORD


@given(st.data())
@effort(150)
def test_a_torn_record_is_none(journal: Journal, data: st.DataObject) -> None:
    text = json.dumps(RECORD.to_dict()).encode()
    at = data.draw(st.integers(0, len(text) - 1))
    assert read(journal, text[:at]) is None
    assert read(journal, text + text[: at + 1]) is None
    read(journal, text[:at] + data.draw(st.binary(max_size=9)) + text[at + 1 :])


def _places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if not isinstance(data, dict | list):
        return [path]
    inner = data.items() if isinstance(data, dict) else enumerate(data)
    return [path, *(p for key, value in inner for p in _places(value, (*path, key)))]


@given(st.data())
@effort(250)
def test_a_foreign_record_is_none_or_sound(journal: Journal, data: st.DataObject) -> None:
    found = RECORD.to_dict()
    *path, last = data.draw(st.sampled_from([p for p in _places(found) if p]))
    holder: Any = found
    for key in path:
        holder = holder[key]
    if data.draw(st.booleans()):
        holder[last] = data.draw(ANYTHING)
    else:
        del holder[last]
    read(journal, json.dumps(found).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"student": "bob"},
        {"key": 7},
        {"verdict": None},
        {"failure": "and a verdict"},
        {"verdict": {**RECORD.to_dict()["verdict"], "score": float("nan")}},
        {"verdict": {**RECORD.to_dict()["verdict"], "score": 99.0}},
        {"verdict": {**RECORD.to_dict()["verdict"], "score": "1"}},
        {"verdict": {**RECORD.to_dict()["verdict"], "exercises": [7]}},
    ],
)
def test_records_that_were_met_are_refused(journal: Journal, change: dict[str, Any]) -> None:
    assert read(journal, json.dumps(RECORD.to_dict() | change).encode()) is None


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda t: t.encode("utf-8", "replace")))
@effort(150)
def test_a_timestamp_is_a_time_or_told_of(tmp_path_factory: Any, data: bytes) -> None:
    folder = Path(tmp_path_factory.getbasetemp())
    (folder / "timestamp.txt").write_bytes(data)
    found, wrong = timestamp_in(folder)
    assert (found is None) == bool(wrong)
