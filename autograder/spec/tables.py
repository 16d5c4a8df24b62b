"""Mistakes and variants in rows or in blocks of text, for graders that have many of them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from autograder.spec.rewrite import Mistake, Variant


def edits(rows: Iterable[tuple[str, str, str, str]]) -> list[Mistake]:
    """Mistakes of one edit each: ``(name, in the reference, as mistaken, hint)``."""
    return [Mistake(*row) for row in rows]


def edits_of(old: str, *rows: tuple[str, str, str]) -> list[Mistake]:
    """Mistakes that all rewrite the same piece of the reference: ``(name, new, hint)``."""
    return [Mistake(name, old, new, hint) for name, new, hint in rows]


def slips(line: str, text: str) -> list[Mistake]:
    """Mistakes that all rewrite the same piece of the reference, as blocks of text (`blocks`)."""
    return edits_of(line, *blocks(text))


def written(text: str) -> list[Mistake]:
    """Mistakes written out whole, as blocks of text (`blocks`)."""
    return [Mistake.written(name, code, hint) for name, code, hint in blocks(text)]


def variants(text: str) -> list[Variant]:
    """Right answers written differently, as blocks of text (`blocks`) without a hint."""
    return [Variant(name, code) for name, code, _ in blocks(text)]


def blocks(text: str) -> Iterator[tuple[str, str, str]]:
    """Blocks of a name, indented code and a hint, with blank lines between them."""
    for block in textwrap.dedent(text).strip().split("\n\n"):
        name, *rest = block.split("\n")
        code = textwrap.dedent("\n".join(row for row in rest if row.startswith("    ")))
        yield name, code, " ".join(row for row in rest if not row.startswith("    "))
