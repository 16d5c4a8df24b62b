"""``make gpu``: all that is claimed of CUDA, tried on a real GPU, and a dated record of it.

It needs torch, numpy, pytest and nbformat, this checkout, and an NVIDIA GPU. The record goes to
``tests/gpu/``; where something is broken the exit status is 1 and the record says what.
``--device cpu`` tries the script itself where there is no GPU, and keeps no record.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parents[1]))

import torch  # noqa: E402 - the checkout comes first

from autograder.attacks.corpus import corpus  # noqa: E402
from autograder.attacks.ground import ground  # noqa: E402
from autograder.engine.assessor import Job  # noqa: E402
from autograder.engine.session import Session  # noqa: E402
from autograder.engine.spawner import Policy, Zygote  # noqa: E402
from autograder.engine.verdict import Verdict  # noqa: E402
from autograder.laws.answers import MISTAKE, answers_of, job_of  # noqa: E402
from autograder.laws.validation import Findings, validate_lesson  # noqa: E402
from autograder.lesson import all_lessons, find_lesson  # noqa: E402

CROWDS = (1, 2, 4, 8, 16)
CROWD_NOTEBOOKS = 24  # each process's, of the lesson below
LESSON = "ch07_optimization/adam"
PATTERN = 0x5EC2E7
FILLS = f"""
import torch
left = torch.cuda.mem_get_info()[0] // 2
secret = torch.full((left // 4,), {PATTERN}, dtype=torch.int32, device="cuda")
torch.cuda.synchronize()
"""
READS = f"""
import torch
found, kept = 0, []
while torch.cuda.mem_get_info()[0] > 2 << 30:
    kept.append(torch.empty(1 << 28, dtype=torch.int32, device="cuda"))
    found += int((kept[-1] == {PATTERN}).sum())
raise RuntimeError(f"found {{found}} in {{len(kept)}} GiB")
"""


def machine() -> dict[str, Any]:
    """What it runs on."""
    told: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "kernel": platform.release(),
    }
    if torch.cuda.is_available():
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv"]
        told["gpu"] = torch.cuda.get_device_name()
        told["capability"] = torch.cuda.get_device_capability()
        told["cuda"] = torch.version.cuda
        told["driver"] = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    return told


def laws(device: str, seeds: int, jobs: int, keys: list[str]) -> dict[str, Any]:
    """Every answer of every lesson as a submission, on the device; and rehearsed on the CPU."""
    tasks = [(key, seed, device) for seed in range(1, seeds + 1) for key in keys]
    context = multiprocessing.get_context("spawn")
    broken, verdicts, differences = [], 0, []
    with ProcessPoolExecutor(jobs, context) as pool:
        for there, here in pool.map(_laws_of, tasks):
            verdicts += len(there.found)
            broken += [
                f"{f.lesson} {f.exercise}, {f.kind} {f.name!r}, seed {f.seed}: {f.broken}"
                for f in there.found
                if f.broken
            ]
            differences += list(_differences(here, there))
            say(f"{there.lesson}, seed {there.seed}: {len(there.found)} verdicts")
    return {"verdicts": verdicts, "broken": broken, "cpu against device": differences}


def _laws_of(task: tuple[str, int, str]) -> tuple[Findings, Findings]:
    key, seed, device = task
    torch.set_num_threads(1)
    lesson = find_lesson(key)
    with Zygote(Policy(device=device)) as zygote:
        there = validate_lesson(lesson, zygote, seed)
    return there, validate_lesson(lesson, Zygote(Policy()), seed, rehearse=True)


def _differences(here: Findings, there: Findings) -> Iterator[str]:
    """Answers whose points depend on the device; of mistakes only where they lose none there."""
    scores = {(f.exercise, f.kind, f.name): f.score for f in here.found}
    for f in there.found:
        score = scores.get((f.exercise, f.kind, f.name))
        right_somewhere = f.kind != MISTAKE or f.max_score in (f.score, score)
        if score is not None and score != f.score and right_somewhere:
            told = f"{score:g} on the CPU, {f.score:g} on the device"
            yield f"{f.lesson} {f.exercise}, {f.kind} {f.name!r}: {told}"


def attacks(device: str) -> dict[str, Any]:
    """The corpus's part that is about GPUs; and that honest oddities keep their points there."""
    found = corpus(FOLDER / "attacks") if device == "cuda" else []
    honest = [attack for attack in corpus() if attack.family == "honest"]
    broken = []
    with ground(Policy(device=device)) as arena:
        for attack in [*found, *honest]:
            outcome = arena.attempt(attack)
            broken += [f"{attack.key}: {what}" for what in outcome.broken]
            say(f"{attack.key}: {'held' if outcome.held else outcome.broken}")
    return {"tried": len(found) + len(honest), "broken": broken}


def memory() -> dict[str, Any]:
    """A worker's memory is given back, and nothing of it is readable by the next."""
    before = torch.cuda.mem_get_info()[0]
    told = []
    with Zygote(Policy(device="cuda")) as zygote:
        for source in (FILLS, READS):
            worker = zygote.fork(megabytes=2048)
            reply = worker.ask("cell", 120.0, name="memory", source=source)
            told.append(str(reply.get("error", {}).get("message", "")))
            worker.end()
    time.sleep(1.0)
    lost = before - torch.cuda.mem_get_info()[0]
    broken = [f"filling it failed: {told[0]}"] if told[0] else []
    broken += [] if told[1].startswith("found 0 in") else [f"reading it: {told[1]}"]
    broken += [f"{lost >> 20} MiB are not given back"] if lost > 64 << 20 else []
    return {"read": told[1], "not given back, MiB": lost >> 20, "broken": broken}


def rates(device: str) -> list[dict[str, float]]:
    """Submissions a second, and GPU memory, by how many processes grade at once."""
    context = multiprocessing.get_context("spawn")
    rows = []
    for crowd in CROWDS:
        free = torch.cuda.mem_get_info()[0] if device == "cuda" else 0
        with ProcessPoolExecutor(crowd, context) as pool:
            found = list(pool.map(_crowd, [device] * crowd))
        rate = sum((CROWD_NOTEBOOKS - 1) / seconds for seconds, _ in found)
        taken = free - min(least for _, least in found) if free else 0
        row = {
            "processes": crowd,
            "submissions a second": round(rate, 2),
            "GPU memory a process, MiB": round(taken / crowd / 2**20),
        }
        say(str(row))
        rows.append(row)
    return rows


def _crowd(device: str) -> tuple[float, int]:
    """Grade right submissions: seconds from the first verdict to the last, least memory free."""
    torch.set_num_threads(1)
    lesson = find_lesson(LESSON)
    right = job_of(lesson, next(iter(answers_of(lesson))))
    jobs = [Job(f"{i}", right.cells) for i in range(CROWD_NOTEBOOKS)]
    times: list[float] = []
    least = sys.maxsize

    def deliver(_job: Job, verdict: Verdict) -> None:
        nonlocal least
        times.append(time.monotonic())
        if verdict.score < verdict.max_score:
            raise RuntimeError(f"a right submission got {verdict.score:g}")
        if device == "cuda":
            least = min(least, torch.cuda.mem_get_info()[0])

    with Zygote(Policy(device=device)) as zygote:
        Session(lesson, zygote, 1).grade(jobs, deliver)
    return times[-1] - times[0], least


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--only", nargs="+", choices=("laws", "attacks", "memory", "rates"))
    parser.add_argument("--lessons", nargs="+", help="(default: all)")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        say("PyTorch sees no CUDA device here: nothing was run, and no record is written.")
        return 2
    keys = options.lessons or [lesson.key for lesson in all_lessons()]
    parts: dict[str, Callable[[], Any]] = {
        "attacks": lambda: attacks(options.device),
        "laws": lambda: laws(options.device, options.seeds, options.jobs, keys),
        "rates": lambda: rates(options.device),
    }
    if options.device == "cuda":
        parts = {"memory": memory, **parts}
    record: dict[str, Any] = {"machine": machine(), "device": options.device}
    broken = False
    for name, part in parts.items():
        if options.only and name not in options.only:
            continue
        say(f"== {name}")
        started = time.monotonic()
        try:
            record[name] = part()
        except Exception as error:  # the other parts are worth their time all the same
            record[name] = {"broken": [f"it stopped: {type(error).__name__}: {error}"]}
        record[f"{name}, seconds"] = round(time.monotonic() - started, 1)
        broken |= isinstance(record[name], dict) and bool(record[name]["broken"])
    text = json.dumps(record, indent=1, ensure_ascii=False)
    print(text)
    if options.device == "cuda":
        path = FOLDER / f"{record['machine']['date'][:10]}.json"
        path.write_text(text + "\n", encoding="utf-8")
        say(f"kept as {path.relative_to(FOLDER.parents[1])}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
