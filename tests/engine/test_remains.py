"""A worker's folder goes, however it was filled; and it cannot be filled without a bound."""

import os
from pathlib import Path

import pytest

from autograder.engine.sandbox.quota import QuotaExceeded, check_quota
from autograder.engine.sandbox.remains import remove


def test_folders_nested_deeper_than_python_recurses(tmp_path):
    here = tmp_path / "scratch"
    here.mkdir()
    start = os.open(".", os.O_RDONLY)
    try:
        os.chdir(here)
        for _ in range(3000):
            Path("d").mkdir()
            os.chdir("d")
    finally:
        os.fchdir(start)
        os.close(start)
    remove(here)
    assert not here.exists()


def test_shut_folders_links_and_pipes(tmp_path):
    here, outside = tmp_path / "scratch", tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    here.mkdir()
    (here / "link").symlink_to(outside)
    (here / "loop").symlink_to("loop")
    os.mkfifo(here / "pipe")
    (here / "shut" / "inner").mkdir(parents=True)
    (here / "shut" / "inner" / "file").write_text("x")
    (here / "shut" / "inner").chmod(0)
    (here / "shut").chmod(0)
    remove(here)
    assert not here.exists()
    assert (outside / "kept").read_text() == "kept"


def test_nothing_to_remove(tmp_path):
    remove(tmp_path / "gone" / "gone")
    remove(tmp_path / "gone")


def test_the_quota_counts_files_folders_and_bytes(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(os.urandom(3 << 20))
    (tmp_path / "loop").symlink_to(tmp_path)
    check_quota(tmp_path, megabytes=4, files=4)
    check_quota(tmp_path / "gone", megabytes=4, files=4)
    for megabytes, files in ((2, 4), (4, 3)):
        with pytest.raises(QuotaExceeded, match="more files than it may"):
            check_quota(tmp_path, megabytes, files)
