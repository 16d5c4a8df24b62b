"""Home's end of a Dask cluster: found, of the same versions, and with workers that fit."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from types import ModuleType
from typing import TYPE_CHECKING, Any

from autograder.cluster.trouble import ClusterTrouble, NoDask, VersionMismatch

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS = 15.0
WORKER_SECONDS = 300.0
AGAIN = "what is graded so far is kept, so start it and grade again"


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """A client of the scheduler at an address, or of the one that a scheduler file names.

    Raises:
        NoDask: Dask is not installed.
        ClusterTrouble: no scheduler answers there, or it went while it was used.
    """
    try:
        from distributed import Client
        from distributed.comm.core import CommClosedError
    except ImportError:
        raise NoDask(
            "--dask needs the package `distributed`: pip install 'forwardpass[cluster]', or in the "
            "checkout pip install -e '.[instructor,cluster]'"
        ) from None
    where = {"scheduler_file": address} if Path(address).is_file() else {"address": address}
    try:
        client = Client(**where, timeout=CONNECT_SECONDS, name="forwardpass")
    except Exception as error:  # Dask has none of its own: even an AssertionError comes
        raise ClusterTrouble(
            f"no Dask scheduler answers at {address} ({_first_line(error)}): start one with `dask "
            "scheduler`, and give the address that it prints, such as tcp://10.0.0.5:8786, or its "
            "--scheduler-file; a tls:// address needs Dask's certificates in "
            "DASK_DISTRIBUTED__COMM__TLS__…"
        ) from None
    try:
        yield client
    except (CancelledError, CommClosedError):
        raise gone(address) from None
    finally:
        with suppress(OSError, RuntimeError):
            client.close()


def shipped_code() -> ModuleType:
    """The module that runs inside Dask's workers, under a name that nobody can import.

    So it is pickled by value, here and on its way through the scheduler: no worker need have it.
    """
    from autograder.cluster import host

    assert host.__file__
    name = "forwardpass_host"
    specification = importlib.util.spec_from_file_location(name, host.__file__)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # dataclasses look for it there
    specification.loader.exec_module(module)
    del sys.modules[name]
    return module


def slots(client: Client, device: str) -> int:
    """How many batches the cluster's workers grade at once; 0 where none of them fits."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if device == "cuda":
        return sum(int(worker["resources"].get("GPU", 0)) for worker in workers)
    return sum(worker["nthreads"] for worker in workers)


def await_workers(client: Client, address: str, device: str, say: Callable[[str], None]) -> None:
    """Wait until there is a worker that fits.

    Raises:
        ClusterTrouble: none comes within WORKER_SECONDS.
    """
    wanted = (
        f"worker that offers a GPU at {address} (`dask worker {address} --resources GPU=1`)"
        if device == "cuda"
        else f"worker at {address} (`dask worker {address}`)"
    )
    deadline = time.monotonic() + WORKER_SECONDS
    told = False
    while not slots(client, device):
        if not told:
            say(f"waiting for a {wanted}")
        told = True
        if time.monotonic() > deadline:
            raise ClusterTrouble(f"there has been no {wanted} for {WORKER_SECONDS:g} s: {AGAIN}")
        if client.status != "running":
            raise gone(address)
        time.sleep(0.5)


def gone(address: str) -> ClusterTrouble:
    """What is said when the scheduler no longer answers."""
    return ClusterTrouble(f"the Dask scheduler at {address} has gone: {AGAIN}")


def check_versions(client: Client, versions: dict[str, str]) -> None:
    """Compare every worker's versions with home's.

    Only Python's own functions are sent, which are pickled by their names: what is ours could
    not even be read by another Python.

    Raises:
        VersionMismatch: some differ.
    """
    scheduler = _told("Python", client.run_on_scheduler(python_version))
    if scheduler != versions["Python"]:  # it reads the tasks on their way
        raise mismatch("its scheduler", {"Python": scheduler}, versions)
    found: dict[str, dict[str, str]] = {}
    for name in versions:
        asked: tuple[Any, ...] = (python_version,) if name == "Python" else (version, name)
        replies = client.run(*asked, on_error="return")
        for worker, reply in replies.items():
            told = _told(name, reply)
            if told != versions[name]:
                found.setdefault(worker, {})[name] = told
    for worker, differing in found.items():
        raise mismatch(worker, differing, versions)


def mismatch(where: str, differing: dict[str, str], versions: dict[str, str]) -> VersionMismatch:
    """What is said of a worker whose verdicts could differ from home's.

    Args:
        where: the worker is.
        differing: versions there, by name; empty where it is not installed.
        versions: home's.
    """
    told = ", ".join(
        f"{name} is {there or 'not installed'}, and {versions[name]} here"
        for name, there in differing.items()
    )
    return VersionMismatch(
        f"the Dask cluster does not fit this machine: at {where}, {told}; give both the same "
        "environment, then grade again"
    )


def _told(name: str, reply: object) -> str:
    if isinstance(reply, PackageNotFoundError):
        return ""
    if isinstance(reply, BaseException):
        return f"unknown ({reply})"
    if name == "Python":
        return ".".join(str(reply).split(".")[:2])
    return str(reply).partition("+")[0]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
