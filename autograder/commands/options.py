"""Options and choices that several subcommands share."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autograder.command import CommandError
from autograder.engine.sandbox import REQUIRED
from autograder.lesson import Lesson, UnknownLesson, all_lessons, find_lesson

if TYPE_CHECKING:
    from autograder.engine.spawner import Policy


class UsageError(CommandError):
    """The command line asks for something that does not exist."""

    usage = True


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="judge on CUDA beside the CPU; without it, device mistakes are caught on the fake "
        "device (default: %(default)s)",
    )


def add_layers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--without-layer",
        action="append",
        choices=REQUIRED,
        default=[],
        metavar="LAYER",
        help="grade although this required sandbox layer is missing: only where you trust every "
        f"submission (one of {', '.join(REQUIRED)}; may be repeated)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")


def device_of(options: argparse.Namespace) -> str:
    """The device to judge on, from the command line.

    Raises:
        UsageError: CUDA is asked for where there is none.

    """
    device = str(getattr(options, "device", "cpu"))
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UsageError(
                "--device cuda: PyTorch sees no CUDA device here; leave the option out, and "
                "device mistakes are still caught on the fake device"
            )
    return device


def policy_of(options: argparse.Namespace) -> Policy:
    """How workers are confined, from the command line.

    Raises:
        UsageError: CUDA is asked for where there is none.

    """
    # Here, not above: it brings in torch, which commands that grade elsewhere do without.
    from autograder.engine.spawner import Policy

    return Policy(device=device_of(options), without=tuple(getattr(options, "without_layer", ())))


def lessons_of(names: list[str]) -> list[Lesson]:
    """The lessons named on the command line, or all; a folder or a chapter names its lessons.

    Raises:
        UsageError: a name fits no lesson.
    """
    if not names:
        return [lesson for lesson in all_lessons() if lesson.grader_file.exists()]
    chosen: list[Lesson] = []
    for name in names:
        chapter = Path(name).name
        of_chapter = [lesson for lesson in all_lessons() if lesson.chapter == chapter]
        try:
            chosen += of_chapter or [find_lesson(name)]
        except UnknownLesson as error:
            raise UsageError(str(error)) from None
    return chosen


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write_json(path: Path, data: Any) -> None:
    """Write a file whole or not at all.

    Raises:
        CommandError: it cannot be written.
    """
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(text.encode("utf-8", "replace"))  # a student may send lone surrogates
        temporary.replace(path)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from None
