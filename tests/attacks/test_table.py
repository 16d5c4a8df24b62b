"""`forwardpass validate --attacks`: a row an attack, JSON, and 1 where one succeeds."""

import json

import pytest

from autograder.attacks.attack import ALL, Attack
from autograder.command import main

HELD = Attack("returns nothing", "points", {"count": "def count(x): pass"}, family="verdict")
LOST = Attack(
    "is [wrong]", "full marks", {"count": "def count(x): pass"}, earns=ALL, family="honest"
)
MORE = Attack("is right", "points", earns={"count": 1}, family="verdict")


@pytest.mark.parametrize(
    ("attacks", "status", "told"),
    [
        ([HELD], 0, "every attack was held"),
        ([HELD, LOST, MORE], 1, "2 succeeded"),
    ],
)
def test_the_table_and_the_exit_status(attacks, status, told, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("autograder.attacks.table.corpus", lambda: attacks)
    monkeypatch.setenv("COLUMNS", "200")
    file = tmp_path / "attacks.json"
    assert main(["validate", "--attacks", "--json", str(file)]) == status
    shown = capsys.readouterr().out
    assert told in " ".join(shown.split())
    assert all(attack.name in shown for attack in attacks)
    data = json.loads(file.read_text())
    assert data["broken"] is bool(status)
    assert [a["held"] for a in data["attacks"]] == [attack is HELD for attack in attacks]
    assert any("landlock" in layer for layer in data["sandbox"]["in force"])
    if status:
        assert "count got 2.5 points instead of 1" in data["attacks"][2]["broken"]
        assert "count lost points" in data["attacks"][1]["broken"][0]
