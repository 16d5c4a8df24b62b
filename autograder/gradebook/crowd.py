"""How many grader processes share a GPU: as many as its memory holds, by what one takes there."""

from __future__ import annotations

import json
import subprocess
import sys

from autograder.lesson import ROOT

SECONDS = 300.0
DATA = 1 << 30  # bytes that a submission and its reference may need beside their contexts
CONTEXTS = 2  # of each grader process: its own, for the reference, and its worker's
HOLD = "hold"


class Unmeasured(RuntimeError):
    """The GPU's memory could not be measured; the message says why."""


def jobs_on(cores: int) -> int:
    """How many grader processes to run on this machine's GPU, at most one a core.

    Raises:
        Unmeasured: no context could be made on the GPU.
    """
    command = [sys.executable, "-m", "autograder.gradebook.crowd"]
    try:
        ran = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        told = json.loads(ran.stdout)
        free, context = int(told["free"]), int(told["context"])
    except subprocess.TimeoutExpired:
        raise Unmeasured(f"the GPU did not answer within {SECONDS:g} s") from None
    except (ValueError, KeyError, TypeError):
        why = ran.stderr.strip().rpartition("\n")[2] or f"exit status {ran.returncode}"
        raise Unmeasured(f"the GPU's memory could not be measured: {why}") from None
    return fitting(free, context, cores)


def fitting(free: int, context: int, cores: int) -> int:
    """How many grader processes fit: at least one, at most one a core.

    Args:
        free: bytes of the GPU that nobody uses.
        context: bytes that one process takes before it has any data.
        cores: of the machine.
    """
    return max(1, min(cores, free // (CONTEXTS * max(context, 0) + DATA)))


def _work() -> None:
    """What makes a process take what it takes: a context, and PyTorch's libraries on it."""
    import torch

    x = torch.ones(64, 64, device="cuda")
    torch.nn.functional.conv2d((x @ x)[None, None], x[:3, :3][None, None])
    torch.cuda.synchronize()


def _measure() -> None:
    """Print the free bytes, and how many fewer there are with one more process at work."""
    import torch

    _work()
    free = torch.cuda.mem_get_info()[0]
    command = [sys.executable, "-m", "autograder.gradebook.crowd", HOLD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        if other.stdout.readline().strip() != b"ready":
            raise SystemExit("a second process could not use the GPU")
        context = free - torch.cuda.mem_get_info()[0]
    print(json.dumps({"free": free, "context": context}))


def _hold() -> None:
    """Be at work until standard input ends."""
    _work()
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _hold() if sys.argv[1:] == [HOLD] else _measure()
