"""A killed run's folders go with the next run; a living one's stay."""

import os
import tempfile

import pytest

from autograder.engine.scratch import LOCK, claim_scratch_root


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_what_a_killed_run_left_is_removed():
    left, lock = claim_scratch_root()
    (left / "worker").mkdir()
    os.close(lock)  # as the kernel does for a killed process
    mine, lock = claim_scratch_root()
    assert not left.exists()
    assert mine.is_dir()
    os.close(lock)


def test_a_living_run_keeps_its_folder():
    living, first = claim_scratch_root()
    _, second = claim_scratch_root()
    assert (living / LOCK).exists()
    os.close(first)
    os.close(second)


def test_a_folder_without_our_lock_is_left_alone(tmp_path):
    foreign = tmp_path / "forwardpass-foreign"
    foreign.mkdir()
    (foreign / LOCK).symlink_to(tmp_path / "elsewhere")
    _, lock = claim_scratch_root()
    assert foreign.exists()
    os.close(lock)
