"""Whatever lies in a submission's folder: the class is graded, and nothing outside is touched."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from coursefolder import CourseFolder

SECRET = "the-answers-of-everyone"


def fifo(folder: Path, _secret: Path) -> None:
    (folder / "losses.ipynb").unlink()
    os.mkfifo(folder / "losses.ipynb")


def fifo_of_a_timestamp(folder: Path, _secret: Path) -> None:
    (folder / "timestamp.txt").unlink()
    os.mkfifo(folder / "timestamp.txt")


def no_time(folder: Path, _secret: Path) -> None:
    (folder / "timestamp.txt").write_text("2030-01-01 12:00:00 /etc/localtime\n")


def linked_timestamp(folder: Path, secret: Path) -> None:
    (folder / "timestamp.txt").unlink()
    (folder / "timestamp.txt").symlink_to(secret)


def links(folder: Path, secret: Path) -> None:
    (folder / "notes.txt").symlink_to(secret)
    (folder / "all").symlink_to(secret.parent)
    (folder / "gone").symlink_to("nowhere")
    (folder / "round").symlink_to(".")


def hard_link(folder: Path, secret: Path) -> None:
    os.link(secret, folder / "notes.txt")


def linked_folder(folder: Path, secret: Path) -> None:
    elsewhere = secret.parent / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)


def pipes_and_sockets(folder: Path, _secret: Path) -> None:
    os.mkfifo(folder / "pipe.txt")
    (folder / "losses_files").mkdir()
    os.mkfifo(folder / "losses_files" / "pipe.png")
    end = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(folder)  # a socket's path may be 100 characters long
    end.bind("socket")
    os.chdir(here)
    end.close()


def device(folder: Path, _secret: Path) -> None:
    (folder / "losses.ipynb").unlink()
    try:
        os.mknod(folder / "losses.ipynb", 0o600 | 0o020000, os.makedev(1, 5))  # as /dev/zero
    except PermissionError:
        os.mkfifo(folder / "losses.ipynb")  # an ordinary user can make none


def many_links(folder: Path, secret: Path) -> None:
    for number in range(300):
        (folder / f"link-{number}").symlink_to(secret)


def many_files(folder: Path, _secret: Path) -> None:
    for number in range(5_100):
        (folder / f"{number}.txt").touch()


def deep(folder: Path, _secret: Path) -> None:
    path = folder
    for _ in range(60):
        path = path / "d"
        path.mkdir()
    (path / "bottom.txt").write_text("x")


def too_large(folder: Path, _secret: Path) -> None:
    with (folder / "data.bin").open("wb") as file:
        file.truncate(200_000_000)


def huge_notebook(folder: Path, _secret: Path) -> None:
    with (folder / "losses.ipynb").open("wb") as file:
        file.truncate(40 << 20)


def of_another_encoding(folder: Path, _secret: Path) -> None:
    path = folder / "losses.ipynb"
    path.write_bytes(path.read_text(encoding="utf-8").encode("utf-16"))


def with_a_mark(folder: Path, _secret: Path) -> None:
    path = folder / "losses.ipynb"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def odd_names(folder: Path, _secret: Path) -> None:
    (folder / "\x1b[2Jcleared.ipynb").write_text("{}")
    (folder / "a\nb.txt").write_text("x")
    (folder / "[*]?.txt").write_text("x")
    (folder / ".ipynb").write_text("{}")
    (folder / "..ipynb").write_text("{}")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.ipynb")).write_text("{}")


def unreadable_extra(folder: Path, _secret: Path) -> None:
    (folder / "closed.txt").write_text("x")
    (folder / "closed.txt").chmod(0)


READ = (
    fifo_of_a_timestamp, no_time, linked_timestamp, links, hard_link, pipes_and_sockets,
    many_links, many_files, deep, too_large, with_a_mark, odd_names, unreadable_extra,
)  # fmt: skip
UNREAD = {
    fifo: "losses.ipynb is not a file: hand in the notebook itself",
    device: "losses.ipynb is not a file: hand in the notebook itself",
    linked_folder: "links are not followed: hand in the folder itself",
    huge_notebook: "holds more than 32 MiB: clear its outputs",
    of_another_encoding: "it is not UTF-8 text",
}
TOLD = {
    fifo_of_a_timestamp: "timestamp.txt cannot be used, for it is not an ordinary file",
    no_time: "timestamp.txt cannot be used, for it holds no time",
    linked_timestamp: "timestamp.txt cannot be used, for it is not an ordinary file",
    links: "is not an ordinary file; it is left out",
    hard_link: "is a second name of a file that may lie elsewhere; it is left out",
    many_links: "297 more such files",
    many_files: "holds more than 5000 files; it is left out",
    deep: "lies too deep; it is left out",
    too_large: "makes it more than 100 MB; it is left out",
}


@pytest.fixture(scope="module")
def course(make_course: Callable[[], CourseFolder]) -> CourseFolder:
    course = make_course()
    course.run("nbgrader", "generate_assignment", course.assignment, stand_in=True)
    (course.root / "outside").mkdir()
    for hostile in (*READ, *UNREAD):
        student = hostile.__name__
        course.hand_in(student, course.answered())
        secret = course.root / "outside" / student
        secret.mkdir()
        (secret / "secret.txt").write_text(SECRET)
        hostile(course.submitted(student).parent, secret / "secret.txt")
    course.hand_in("[a-z]*?", course.answered())
    course.hand_in("zoe \u202e\x1b[31m", course.answered())
    nameless = Path(os.fsdecode(os.fsencode(course.root) + b"/submitted/\xff\xfe"))
    (nameless / course.assignment).mkdir(parents=True)
    return course


def test_the_class_is_graded_and_each_is_told(course: CourseFolder) -> None:
    before = _everything(course.root / "outside")
    done = course.run("forwardpass", "grade", course.assignment, status=1, stand_in=True)
    lines = done.stdout.splitlines()
    records = course.records()
    for hostile in READ:
        record = records[hostile.__name__]
        assert record.verdict is not None, record.failure
        assert course.grades(hostile.__name__), hostile.__name__
    for hostile, why in UNREAD.items():
        record = records[hostile.__name__]
        assert why in record.failure
        assert set(course.grades(hostile.__name__).values()) == {(0.0, True)}
    for hostile, why in (UNREAD | TOLD).items():
        assert any(line.startswith(f"{hostile.__name__}: ") and why in line for line in lines), why
    assert "rename it in UTF-8 text" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert "\u202e" not in done.stdout + done.stderr
    assert course.grades("[a-z]*?")
    assert course.grades("zoe \u202e\x1b[31m")
    assert not course.disagreements()
    assert _everything(course.root / "outside") == before
    _nothing_leaked(course)
    again = course.run("forwardpass", "grade", course.assignment, status=1, stand_in=True)
    assert ": 0 notebooks graded" in again.stdout
    assert "grades of 0 students entered" in again.stdout


def test_nbgraders_own_command_goes_on_too(course: CourseFolder) -> None:
    course.run("nbgrader", "autograde", course.assignment, "--force", status=None, stand_in=True)
    for hostile in (*READ, *UNREAD):
        assert course.grades(hostile.__name__), hostile.__name__
    assert not course.disagreements()
    _nothing_leaked(course)


def _everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _nothing_leaked(course: CourseFolder) -> None:
    for step in ("autograded", "journal"):
        for path in (course.root / step).rglob("*"):
            assert not path.is_symlink()
            assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path


def test_collect_takes_what_can_be_graded(course: CourseFolder, tmp_path: Path) -> None:
    """Through the exchange, too: no link is followed, and one student's flood stops nobody."""
    inbound = course.root / "exchange" / "forwardpass" / "inbound"
    (course.root / "exchange" / "forwardpass" / "outbound").mkdir(parents=True)
    for hostile in (links, hard_link, pipes_and_sockets, many_files, too_large, linked_folder):
        stamp = "2030-01-01 12:00:00 UTC"
        folder = inbound / f"{hostile.__name__}-in+{course.assignment}+{stamp}+abc"
        folder.mkdir(parents=True)
        (folder / "losses.ipynb").write_text(json.dumps(course.answered()), encoding="utf-8")
        (folder / "timestamp.txt").write_text(stamp)
        secret = tmp_path / hostile.__name__ / "secret.txt"
        secret.parent.mkdir()
        secret.write_text(SECRET)
        hostile(folder, secret)
    course.run("nbgrader", "collect", course.assignment, stand_in=True)
    for student in ("links", "hard_link", "pipes_and_sockets", "many_files", "too_large"):
        folder = course.submitted(f"{student}-in").parent
        assert (folder / "losses.ipynb").is_file(), student
        for path in folder.rglob("*"):
            assert not path.is_symlink()
            assert SECRET.encode() not in path.read_bytes()
    assert not list(course.submitted("linked_folder-in").parent.glob("*.ipynb"))
    assert not list(course.root.glob("submitted/*/.*.part"))
