"""What can be said of the proof without a GPU: it keeps no record, and its attacks can be read."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from autograder.attacks.corpus import corpus

FOLDER = Path(__file__).parent


def test_its_attacks_are_declared():
    attacks = corpus(FOLDER / "attacks")
    assert len(attacks) >= 5
    assert {attack.family for attack in attacks} == {"gpu"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: run `make gpu`")
def test_without_a_gpu_nothing_is_claimed():
    before = sorted(FOLDER.glob("*.json"))
    done = subprocess.run(
        [sys.executable, str(FOLDER / "prove.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no record is written" in done.stderr
    assert sorted(FOLDER.glob("*.json")) == before
