"""What these tests share: kernels that start in a moment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from warm_kernels import WarmKernelManager, WarmProcess


@pytest.fixture(scope="session")
def warm_kernels() -> Iterator[type[WarmKernelManager]]:
    """Give nbclient's `kernel_manager_class`."""
    with WarmProcess() as process:
        yield process.kernel_manager()


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of two kernels on two cores would spend their time waiting for each other."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
