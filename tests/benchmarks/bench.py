"""``make bench``: how fast a class is graded, against stock nbgrader and against no isolation.

Every figure is of this machine and this run; only ratios between them mean anything elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from classroom import (
    HANGING,
    RIGHT,
    UNFINISHED,
    WRONG,
    Pupil,
    course_folder,
    pupils,
    scores_in,
    share_alike,
)
from floor import InProcess
from goals import COMMAND, show
from memory import Watch
from rich.console import Console
from rich.table import Table
from stages import stages_of
from stock import autograde

from autograder.engine.assessor import Job
from autograder.engine.grading import Plan
from autograder.engine.notebook import parse_notebook
from autograder.engine.session import Session
from autograder.engine.spawner import Policy, Zygote
from autograder.lesson import Lesson, find_lesson

CALM = {RIGHT: 0.5, WRONG: 0.4, UNFINISHED: 0.1}  # whom a grader without isolation survives
THOUSAND = 1000


def floor(lesson: Lesson, members: list[Pupil]) -> tuple[float, dict[str, float]]:
    """Seconds a submission in one process without isolation, and everybody's score."""
    torch.set_num_threads(1)
    jobs = jobs_of(lesson, members)
    times, scores = [time.perf_counter()], {}

    def deliver(job: Job, verdict: Any) -> None:
        times.append(time.perf_counter())
        scores[job.key] = verdict.score

    Session(lesson, Zygote(Policy()), 1, InProcess).grade(jobs, deliver)
    return (times[-1] - times[1]) / (len(jobs) - 1), scores


def graded(folder: Path, lesson: Lesson, jobs: int, *more: str) -> tuple[float, dict[str, Any]]:
    """Seconds that ``forwardpass grade`` takes, start to end, and what it says of memory."""
    report = folder / "report.json"
    command = [sys.executable, "-m", "autograder.command", "grade", lesson.chapter]
    command += ["--course", str(folder), "--jobs", str(jobs), "--json", str(report), *more]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    with Watch(process.pid) as memory:
        status = process.wait()
    seconds = time.perf_counter() - started
    if status not in (0, 1, 3):
        raise RuntimeError(f"{' '.join(command)} ended with {status}")
    return seconds, {"peak": memory.peak, "samples": memory.samples, "scores": scores_in(report)}


def compare(lesson: Lesson, size: int, console: Console) -> dict[str, Any]:
    """The same class by nbgrader, by the floor, and by us with one job and with all."""
    members = pupils(lesson, size, shares=CALM, apart=True)
    few = members[: max(3, size // 5)]
    cores = len(os.sched_getaffinity(0))
    found: dict[str, Any] = {"size": size, "cores": cores}
    with tempfile.TemporaryDirectory(prefix="forwardpass-bench-") as folder:
        found["nbgrader, s each"] = autograde(Path(folder), lesson, few) / len(few)
    found["floor, s each"], scores = floor(lesson, members)
    for jobs in sorted({1, cores}):
        with tempfile.TemporaryDirectory(prefix="forwardpass-bench-") as folder:
            course = made(Path(folder), lesson, members)
            cold, told = graded(course, lesson, jobs)
            wrong = {
                s: (told["scores"][s], scores[s]) for s in scores if told["scores"][s] != scores[s]
            }
            warm, _ = graded(course, lesson, jobs, "--force")
            unchanged, _ = graded(course, lesson, jobs)
        found[f"{jobs} jobs"] = {
            "cold, s each": cold / size,
            "warm, s each": warm / size,
            "unchanged, s in all": unchanged,
            "scores that differ from the floor's": wrong,
        }
    best = found[f"{cores} jobs"]["cold, s each"]
    found["times nbgrader"] = found["nbgrader, s each"] / best
    found["engine alone, s each"] = engine_alone(lesson, members)
    found["times the floor"] = found["engine alone, s each"] / found["floor, s each"]
    table = Table(
        "", "s a submission", "submissions a minute", title=f"{lesson.key}, {size} submissions"
    )
    for name, seconds in rows(found, cores):
        table.add_row(name, f"{seconds:.3f}", f"{60 / seconds:.0f}")
    console.print(table)
    console.print(
        f"{found['times nbgrader']:.0f} times nbgrader's throughput with {cores} jobs, all told; "
        f"isolation takes {found['times the floor']:.2f} times the floor, in one process each"
    )
    return found


def rows(found: dict[str, Any], cores: int) -> list[tuple[str, float]]:
    told = [
        ("nbgrader autograde, tests in the notebook", found["nbgrader, s each"]),
        ("no isolation, one process (the floor)", found["floor, s each"]),
        ("our engine, one process, warm", found["engine alone, s each"]),
    ]
    for jobs in sorted({1, cores}):
        told.append(
            (
                f"forwardpass grade --jobs {jobs}, cold, gradebook and all",
                found[f"{jobs} jobs"]["cold, s each"],
            )
        )
    return told


def engine_alone(lesson: Lesson, members: list[Pupil]) -> float:
    """Seconds a submission in one grader process, after the first."""
    times: list[float] = []
    jobs = jobs_of(lesson, members)
    with Zygote() as zygote:
        Session(lesson, zygote, 1).grade(jobs, lambda *_: times.append(time.perf_counter()))
    return (times[-1] - times[0]) / (len(jobs) - 1)


def jobs_of(lesson: Lesson, members: list[Pupil]) -> list[Job]:
    plan = Plan(lesson)
    return [plan.job(p.student, parse_notebook(p.file.decode(), p.student)) for p in members]


def thousand(lesson: Lesson, size: int, console: Console) -> dict[str, Any]:
    """A whole class with its broken and hanging notebooks; memory, growth, and what hangs."""
    return whole_class(lesson, pupils(lesson, size), console)


def apart(lesson: Lesson, size: int, console: Console) -> dict[str, Any]:
    """The same where no two give the same answer: there, nothing is judged once for several."""
    return whole_class(lesson, pupils(lesson, size, apart=True), console)


def whole_class(lesson: Lesson, members: list[Pupil], console: Console) -> dict[str, Any]:
    """A class from nothing, and again unchanged."""
    size = len(members)
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="forwardpass-bench-") as folder:
        course = made(Path(folder), lesson, members)
        seconds, told = graded(course, lesson, cores)
        second, last = quarters(course, lesson, members)
        again, _ = graded(course, lesson, cores)
    quarter = max(1, len(told["samples"]) // 4)
    found = {
        "size": size,
        "hanging": sum(p.kind == HANGING for p in members),
        "answers that somebody gave before": share_alike(members),
        "seconds": seconds,
        "s a submission": seconds / size,
        "s a submission in the second quarter": second,
        "s a submission in the last quarter": last,
        "unchanged, s in all": again,
        "peak, MiB": told["peak"],
        "peak of the second quarter, MiB": max(told["samples"][quarter : 2 * quarter], default=0),
        "peak of the last quarter, MiB": max(told["samples"][-quarter:], default=0),
    }
    table = Table("", "", title=f"{lesson.key}, {size} submissions, {cores} jobs")
    for name, value in found.items():
        table.add_row(name, f"{value:.2f}" if isinstance(value, float) else str(value))
    console.print(table)
    return found


def quarters(course: Path, lesson: Lesson, members: list[Pupil]) -> tuple[float, float]:
    """Seconds a submission in the second and in the last quarter of a run, from its journal.

    Who hangs comes last, and takes as long in a class of any size.
    """
    journal = course / "journal" / lesson.chapter
    ending = [pupil.student for pupil in members if pupil.kind != HANGING]
    records = [journal / student / f"{lesson.name}.json" for student in ending]
    times = sorted(record.stat().st_mtime for record in records)
    quarter = max(1, len(times) // 4)
    ends = times[quarter - 1], times[2 * quarter - 1], times[-quarter - 1], times[-1]
    return (ends[1] - ends[0]) / quarter, (ends[3] - ends[2]) / quarter


def stages(lesson: Lesson, size: int, console: Console) -> dict[str, Any]:
    """Milliseconds a submission by stage, in one process; the gradebook's from a course folder."""
    members = pupils(lesson, size, shares=CALM, apart=True)
    clock = {stage: 1000 * s / size for stage, s in stages_of(lesson, members).items()}
    with tempfile.TemporaryDirectory(prefix="forwardpass-bench-") as folder:
        course = made(Path(folder), lesson, members)
        whole, _ = graded(course, lesson, 1)
        started = time.perf_counter()
        command = [sys.executable, "-m", "nbgrader", "generate_feedback", lesson.chapter]
        subprocess.run(command, cwd=course, check=True, capture_output=True)
        clock["feedback pages (nbgrader)"] = 1000 * (time.perf_counter() - started) / size
    engine = sum(
        ms for s, ms in clock.items() if s not in ("first submission", "feedback pages (nbgrader)")
    )
    clock[COMMAND] = 1000 * whole / size - engine
    table = Table(
        "stage", "ms a submission", title=f"{lesson.key}, {size} submissions, one process"
    )
    for stage, ms in sorted(clock.items(), key=lambda row: -row[1]):
        table.add_row(stage, f"{ms:.1f}")
    console.print(table)
    return clock


def made(folder: Path, lesson: Lesson, members: list[Pupil]) -> Path:
    """A course folder that nbgrader knows the assignment of."""
    course_folder(folder, lesson, members)
    command = [sys.executable, "-m", "nbgrader", "generate_assignment", lesson.chapter]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


PARTS: dict[str, Callable[[Lesson, int, Console], dict[str, Any]]] = {
    "compare": compare,
    "stages": stages,
    "thousand": thousand,
    "apart": apart,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="(default: all)")
    parser.add_argument("--lesson", default="ch07_optimization/adam")
    parser.add_argument("--size", type=int, default=40, help="of the class that is compared")
    parser.add_argument("--thousand", type=int, default=THOUSAND, metavar="N")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"))
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    # nbgrader starts alembic by its name: it is beside this Python, activated or not.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    lesson, console, told = find_lesson(options.lesson), Console(), {}
    for name in options.parts or PARTS:
        size = options.thousand if name in ("thousand", "apart") else options.size
        told[name] = PARTS[name](lesson, size, console)
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(told, indent=1), encoding="utf-8")
    show(told, console)
    console.print(f"written to {options.json}")


if __name__ == "__main__":
    main()
