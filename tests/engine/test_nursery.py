"""Zygotes of one nursery: as closed in as one by itself, and none depends on another."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autograder.engine.hold import Worker
from autograder.engine.nursery import Nursery
from autograder.engine.spawner import Zygote, ZygoteEnded

CELL = {"name": "a", "source": "import torch\nassert torch.ones(2).sum() == 2"}


@pytest.fixture(scope="module")
def shared() -> Iterator[Nursery]:
    nursery = Nursery()
    nursery.start()
    yield nursery
    nursery.close()


def namespaces(worker: Worker) -> dict[str, str]:
    folder = Path(f"/proc/{host_pid(worker)}/ns")
    return {name: str((folder / name).readlink()) for name in ("user", "pid", "net", "mnt")}


def host_pid(worker: Worker) -> int:
    """A worker's number outside of its namespaces, by its handle."""
    lines = Path(f"/proc/self/fdinfo/{worker._handle}").read_text(encoding="utf-8").split("\n")
    return int(next(line.split()[1] for line in lines if line.startswith("Pid:")))


def is_gone(pid: int) -> bool:
    """Whether a process ends within ten seconds."""
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.1)
    return False


def works(worker: Worker) -> bool:
    return worker.ask("cell", 60.0, **CELL)["status"] == "returned"


def test_each_zygote_has_namespaces_of_its_own(shared: Nursery, zygote: Zygote) -> None:
    with Zygote(nursery=shared.start()) as one, Zygote(nursery=shared.start()) as other:
        assert one._process is other._process is None  # neither has imported for itself
        assert one.layers == other.layers == zygote.layers
        workers = [each.fork(megabytes=256) for each in (one, other, zygote)]
        assert all(map(works, workers))
        if any("namespaces" in layer for layer in zygote.layers):
            spaces = [namespaces(worker) for worker in workers]
            assert len({told["pid"] for told in spaces}) == 3
            assert len({told["net"] for told in spaces}) == 3
            assert str(Path("/proc/self/ns/pid").readlink()) not in {told["pid"] for told in spaces}
        for worker in workers:
            worker.end()


def test_one_ends_with_its_workers_and_the_others_go_on(shared: Nursery) -> None:
    with Zygote(nursery=shared.start()) as other:
        theirs = other.fork(megabytes=256)
        with Zygote(nursery=shared.start()) as one:
            mine = one.fork(megabytes=256)
            pid = host_pid(mine)
            assert Path(f"/proc/{pid}").exists()
        with pytest.raises(ZygoteEnded):
            mine.end()
        assert is_gone(pid)
        assert works(theirs)
        theirs.end()


def test_a_zygote_ends_with_a_grader_that_is_killed(shared: Nursery) -> None:
    program = (
        "import os, signal, sys\n"
        "from autograder.engine.spawner import Zygote\n"
        f"zygote = Zygote(nursery={shared.start()}).__enter__(); worker = zygote.fork(megabytes=64)\n"
        "lines = open(f'/proc/self/fdinfo/{worker._handle}').read().split('\\n')\n"
        "print(next(line.split()[1] for line in lines if line.startswith('Pid:')), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        pass_fds=[shared.start()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert is_gone(int(done.stdout))


def test_where_the_nursery_is_gone_zygotes_go_on_and_new_ones_import_for_themselves() -> None:
    nursery = Nursery()
    door = nursery.start()
    with Zygote(nursery=door) as old:
        assert nursery._process is not None
        nursery._process.kill()
        nursery._process.wait()
        worker = old.fork(megabytes=256)
        assert works(worker)
        worker.end()
        with Zygote(nursery=door) as new:
            assert new._process is not None
            worker = new.fork(megabytes=256)
            assert works(worker)
            worker.end()
    assert nursery.start()  # and whoever needs one has another
    assert nursery._process is not None
    assert nursery._process.poll() is None
    nursery.close()


def test_it_holds_neither_our_modules_nor_what_it_was_started_with(shared: Nursery) -> None:
    with Zygote(nursery=shared.start()) as zygote:
        worker = zygote.fork(megabytes=256)
        source = "import sys\nfound = [n for n in sys.modules if n.startswith('autograder')]\n"
        source += "assert not found, found\nassert not [p for p in sys.path if 'forward' in p]"
        told = worker.ask("cell", 60.0, name="b", source=source)
        assert told["status"] == "returned", told
        folder = Path(f"/proc/{host_pid(worker)}/fd")
        kept = [str(entry.readlink()) for entry in folder.iterdir()]
        assert sum("socket" in target for target in kept) == 1, kept  # its own channel
        worker.end()
