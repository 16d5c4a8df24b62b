"""A Dask scheduler and two workers on this machine, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from distributed import Client
from processes import Process, survivors, tree_of

DESK = "/proc/self/fd/"  # in the command line of what a worker starts
ENVIRONMENT = {
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
    "DASK_DISTRIBUTED__ADMIN__LOG_FORMAT": "%(message)s",
    "DASK_LOGGING__DISTRIBUTED": "error",
    "OMP_NUM_THREADS": "1",
}


@dataclass
class Cluster:
    """A running cluster."""

    address: str
    nanny: subprocess.Popen[bytes]

    def desks(self) -> list[Process]:
        """What grades for the workers now."""
        return [one for one in tree_of(self.nanny.pid) if DESK in one.command]

    def grading(self) -> list[Process]:
        """A worker that has a grader at its desk, and all that came of it."""
        for desk in self.desks():
            tree = tree_of(desk.parent)
            if len(tree) >= 4:  # a worker, a desk, a grader and a zygote
                return tree
        return []


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """Start a cluster, and end it with all that came of it."""
    file = folder / "scheduler.json"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | ENVIRONMENT
    started = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", *arguments, "--scheduler-file", str(file)]
        process = subprocess.Popen(
            [*command, "--no-dashboard"], cwd=folder, env=environment, stdout=subprocess.DEVNULL
        )
        started.append(process)
        return process

    try:
        start("scheduler", "--host", "127.0.0.1", "--port", "0")
        nanny = start("worker", "--nworkers", "2", "--nthreads", "1", "--memory-limit", "0")
        deadline = time.monotonic() + 60
        while not file.exists() or not file.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        with Client(address) as client:
            client.wait_for_workers(2, timeout=60)
        yield Cluster(address, nanny)
    finally:
        trees = [tree_of(process.pid) for process in started]
        for process in reversed(started):
            process.terminate()
            process.wait(timeout=60)
        for one in survivors([one for tree in trees for one in tree], 20):
            one.kill()
