"""A class on a Dask cluster: graded as at home, whatever becomes of the workers."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import standin
from cluster import Cluster, running
from coursefolder import CourseFolder
from distributed import Client
from distributed.comm.core import CommClosedError
from kill_storm import FORWARDPASS, hand_in_class
from processes import survivors

from autograder.cluster import connection, unpacking
from autograder.cluster.campaign import Campaign
from autograder.cluster.fleet import Fleet
from autograder.cluster.shipment import pack
from autograder.cluster.trouble import ClusterTrouble, NoDask, VersionMismatch
from autograder.engine.grading import grade_notebooks
from autograder.engine.spawner import Zygote
from autograder.engine.verdict import Verdict
from autograder.gradebook.classwork import Graded
from autograder.gradebook.grader import GradingRefused
from autograder.gradebook.journal import Journal
from autograder.gradebook.submission import Submission
from autograder.gradebook.verdicts import Verdicts

COPIES = 6  # of four notebooks: enough for some to wait still when the first have their verdicts


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture(scope="module")
def course(make_course: Callable[[], CourseFolder]) -> CourseFolder:
    made = make_course()
    hand_in_class(made, copies=COPIES)
    made.run("nbgrader", "generate_assignment", made.assignment, stand_in=True)
    return made


def test_with_a_worker_killed_every_grade_is_the_undisturbed_ones(
    course: CourseFolder, cluster: Cluster, zygote: Zygote
) -> None:
    undisturbed: dict[str, Verdict | None] = dict.fromkeys(course.students())
    texts = {student: course.submitted(student).read_text() for student in undisturbed}
    whole = [(s, json.loads(text)) for s, text in texts.items() if not s.startswith("dan")]
    grade_notebooks(course.lesson, whole, zygote, undisturbed.__setitem__)

    process = subprocess.Popen(
        course.command(*FORWARDPASS, course.assignment, "--dask", cluster.address, stand_in=False),
        cwd=course.root, env=course.environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline = time.monotonic() + 150
    while len(course.records()) < 3 or not (killed := cluster.grading()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    killed[0].kill()
    said, told = process.communicate(timeout=150)
    assert process.returncode == 1, told  # dan's, as at home
    assert " notebooks graded" in said, told
    assert not survivors(killed, 20)
    assert not survivors(cluster.desks(), 20)
    found = {student: record.verdict for student, record in course.records().items()}
    assert {s: scores(v) for s, v in found.items()} == {
        s: scores(v) for s, v in undisturbed.items()
    }
    assert not course.disagreements()


def scores(verdict: Verdict | None) -> dict[str, float]:
    return {e.name: e.score for e in verdict.exercises} if verdict else {}


Grade = Callable[..., list[Graded]]


@pytest.fixture
def grade(course: CourseFolder, cluster: Cluster, tmp_path: Path) -> Grade:
    """Grade texts, by student, with something else than desks in the workers."""

    def graded(in_worker: Callable[..., Any], **texts: str) -> list[Graded]:
        submissions = []
        for student, text in texts.items():
            path = tmp_path / student / "losses.ipynb"
            path.parent.mkdir()
            path.write_text(text)
            submissions.append(Submission(student, "losses", path, course.lesson.key))
        fleet = Fleet(Verdicts(Journal(tmp_path, "it")), cluster.address, "cpu", ())
        shipped = connection.shipped_code()
        in_worker.__module__ = "nowhere"  # so that it travels as the module's own does
        shipped.grade = in_worker
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(connection, "shipped_code", lambda: shipped)
            return list(fleet.grade(submissions))

    return graded


VERDICT = standin.verdict("ch15_gan/losses", "")


def as_told(_order: Any, batch: Any, verdict: Any = VERDICT) -> Any:
    """What a notebook's text says becomes of the worker; all others get a verdict."""
    import os
    import signal
    import time
    from types import SimpleNamespace

    texts = [request["text"] for request in batch.requests]
    if "kill" in texts:
        os.kill(os.getpid(), signal.SIGKILL)
    if "wait" in texts:
        time.sleep(3)
    if "raise" in texts:
        raise MemoryError("there is none")
    replies = {"refuse": {"refused": "there is no Landlock"}, "vanish": None}
    return SimpleNamespace(
        host="there",
        differing={"torch": "1.0"} if "differ" in texts else {},
        replies=[replies.get(text, {"verdict": verdict}) for text in texts],
    )


@pytest.mark.parametrize("status", ["lost", "pending", "cancelled"])
def test_what_was_lost_with_its_worker_is_waited_for_again(status: str) -> None:
    """Between a batch's end and its fetching, the worker that has the result may die."""
    nothing: Any = None
    campaign = Campaign(nothing, nothing, nothing, nothing, deque(), "tcp://here")
    future: Any = Mock(status=status)
    campaign._flying[future] = []
    if status == "cancelled":
        with pytest.raises(ClusterTrouble, match="tcp://here has gone"):
            list(campaign._received(future, alone=False))
    else:
        assert list(campaign._received(future, alone=False)) == []
        assert list(campaign._flying) == [future]


def test_what_kills_every_worker_has_an_error_of_its_own_at_the_end(
    grade: Grade, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autograder.cluster.campaign.BATCHES_A_SLOT", 1)
    found = grade(as_told, ann="", bob="kill", cyd="", dan="raise", eve="vanish", fay="", gil="")
    failures = {one.submission.student: one.failure for one in found}
    assert len(found) == 7
    assert "it ended 2 Dask workers, the last at tcp://127.0.0.1" in failures.pop("bob")
    assert "grading it on the Dask cluster failed: MemoryError" in failures.pop("dan")
    assert failures.pop("eve") == "the process that graded it on there ended"
    assert set(failures.values()) == {""}
    assert all(one.record for one in found if one.submission.student in failures)


def test_interrupted_it_leaves_nothing_waiting_on_the_cluster(
    grade: Grade, cluster: Cluster
) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(1.5, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            grade(as_told, **{f"student-{number}": "wait" for number in range(8)})
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)
    with Client(cluster.address) as client:
        assert not any(client.processing().values())
        assert not client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks))


def test_a_scheduler_that_goes_away_is_told(cluster: Cluster) -> None:
    for error in (CancelledError(), CommClosedError()):
        with (
            pytest.raises(
                ClusterTrouble, match=r"has gone: what is graded so far is kept, so start"
            ),
            connection.connected(cluster.address),
        ):
            raise error


def test_a_missing_layer_stops_grading_and_says_where(grade: Grade) -> None:
    with pytest.raises(GradingRefused, match="on there, there is no Landlock"):
        grade(as_told, ann="refuse")


def test_a_worker_that_comes_later_with_other_versions_is_told_apart(grade: Grade) -> None:
    with pytest.raises(
        VersionMismatch, match=r"at there, torch is 1\.0, and [\d.]+ here; give both"
    ):
        grade(as_told, ann="differ")


def test_what_judges_is_compared_before_anything_is_sent(cluster: Cluster) -> None:
    here = connection.shipped_code().version_of
    versions = {name: here(name) for name in ("Python", "torch", "forwardpass")}
    with connection.connected(cluster.address) as client:
        connection.check_versions(client, versions)
        for name, told in (("Python", "at its scheduler, Python is 3"), ("torch", "torch is 2")):
            with pytest.raises(
                VersionMismatch, match=f"{told}.*, and 1.2 here; give both the same"
            ):
                connection.check_versions(client, versions | {name: "1.2"})
        with pytest.raises(VersionMismatch, match="absent is not installed, and 1 here"):
            connection.check_versions(client, versions | {"absent": "1"})


def test_without_a_worker_that_has_a_gpu_it_says_what_to_start(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "WORKER_SECONDS", 0.1)
    said: list[str] = []
    told = "no worker that offers a GPU at .*--resources GPU=1.* what is graded so far is kept"
    with connection.connected(cluster.address) as client:
        connection.await_workers(client, cluster.address, "cpu", said.append)
        assert not said
        with pytest.raises(ClusterTrouble, match=told):
            connection.await_workers(client, cluster.address, "cuda", said.append)
    assert said[0].startswith("waiting for a worker that offers a GPU")


def test_where_there_is_no_scheduler_it_says_how_to_start_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 0.2)
    (tmp_path / "scheduler.json").write_text("{}")
    for address in ("tcp://127.0.0.1:1", "nonsense://x", "", str(tmp_path / "scheduler.json")):
        with (
            pytest.raises(ClusterTrouble, match=r"no Dask scheduler answers at .* start one with"),
            connection.connected(address),
        ):
            pass


def test_without_dask_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(NoDask, match=r"pip install 'forwardpass\[cluster\]'"),
        connection.connected("x"),
    ):
        pass


def test_only_the_chapter_at_hand_travels() -> None:
    with zipfile.ZipFile(io.BytesIO(pack(["ch15_gan/losses"]))) as archive:
        names = archive.namelist()
    assert {name.split("/")[1] for name in names if name.startswith("solutions/ch")} == {"ch15_gan"}
    assert not [name for name in names if "ch07" in name or "attacks" in name]
    for name in ("autograder/engine/zygote.py", "autograder/graders/ch15_gan/test_losses.py",
                 "source/ch15_gan/losses.ipynb", "course/ch15_gan/losses.md", "course/checks.py"):  # fmt: skip
        assert name in names


PRINT_WHERE = """
import pathlib, sys
def main(options, private):
    print(pathlib.Path(__file__).parents[2], private, *options, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("private", [True, False])
def test_what_was_shipped_goes_with_the_process_that_unpacked_it(private: bool) -> None:
    program = Path(unpacking.__file__).read_text(encoding="utf-8")
    if not private:
        program = program.replace("private = _hide()", "private = False")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("autograder/__init__.py", "")
        archive.writestr("autograder/cluster/__init__.py", "")
        archive.writestr("autograder/cluster/desk.py", PRINT_WHERE)
    data = buffer.getvalue()
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", program, str(len(data)), "--option"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(data)
        process.stdin.flush()
        where, hidden, option = process.stdout.readline().decode().split()
        folder = Path(where)
        assert (folder.parent, option) == (Path("/dev/shm"), "--option")
        if hidden == "True":
            assert not folder.exists()  # to anybody else
        elif private:
            pytest.skip("this machine allows no mounts")
        else:
            assert folder.stat().st_mode & 0o777 == 0o700
        process.kill()
    deadline = time.monotonic() + 10
    while folder.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
