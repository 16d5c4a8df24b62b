"""Which processes a zygote has, as the host sees them."""

from __future__ import annotations

from pathlib import Path

from autograder.engine.spawner import Zygote


def children_of(zygote: Zygote) -> list[int]:
    """Workers, alive or not yet collected, and whatever they may have started."""
    parents = _parents()
    assert zygote._process is not None  # none that a nursery has forked
    outer = zygote._process.pid
    inner = [pid for pid, parent in parents.items() if parent == outer]
    if zygote.layers and any("namespaces" in layer for layer in zygote.layers):
        return _descendants(inner, parents)
    return _descendants([outer], parents)


def _descendants(roots: list[int], parents: dict[int, int]) -> list[int]:
    found: list[int] = []
    waiting = list(roots)
    while waiting:
        parent = waiting.pop()
        below = [pid for pid, of in parents.items() if of == parent]
        found += below
        waiting += below
    return found


def _parents() -> dict[int, int]:
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                told = (folder / "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:  # it ended meanwhile
                continue
            parents[int(folder.name)] = int(told.rpartition(")")[2].split()[1])
    return parents
