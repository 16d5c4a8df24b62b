"""Answers other than the reference: mistakes to be caught, variants to be accepted."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass


class RewriteError(ValueError):
    """A rewrite no longer fits the reference that it rewrites."""


@dataclass(frozen=True)
class Rewrite:
    """An answer to one exercise, told as edits of the reference's source or written out whole.

    Attributes:
        name: short, unique within the exercise.
        edits: pairs (in the reference, as rewritten); each must match exactly once.
        source: the whole answer, in place of edits.
    """

    name: str
    edits: Sequence[tuple[str, str]] = ()
    source: str | None = None

    def apply(self, reference: str) -> str:
        """Rewrite the source of one function or class.

        Raises:
            RewriteError: an edit matches nowhere or more than once, or changes nothing.
        """
        if self.source is not None:
            return textwrap.dedent(self.source).strip() + "\n"
        rewritten = reference
        for old, new in self.edits:
            found = rewritten.count(old)
            if found != 1:
                where = "nowhere" if found == 0 else f"{found} times"
                raise RewriteError(
                    f"{type(self).__name__.lower()} {self.name!r}: its edit of {old!r} matches "
                    f"{where} in the reference; it must match exactly once"
                )
            rewritten = rewritten.replace(old, new)
        if rewritten == reference:
            raise RewriteError(f"{type(self).__name__.lower()} {self.name!r} changes nothing")
        return rewritten


class Mistake(Rewrite):
    """A misconception, as a small edit of the reference, and what the student is told of it.

    ``Mistake(name, in_the_reference, as_mistaken, hint)``; for more than one edit,
    ``Mistake.edits_of(name, [(old, new), …], hint)``; for an answer that shares little with
    the reference, ``Mistake.written(name, source, hint)``. The hint names the misconception
    and the way out; it does not hand over the line to type.
    """

    hint: str

    def __init__(
        self,
        name: str,
        in_reference: str,
        as_mistaken: str,
        hint: str,
        *,
        edits: Sequence[tuple[str, str]] | None = None,
        source: str | None = None,
    ) -> None:
        single = [(in_reference, as_mistaken)]
        super().__init__(name, tuple(edits if edits is not None else single), source)
        object.__setattr__(self, "hint", hint)

    @classmethod
    def edits_of(cls, name: str, edits: Sequence[tuple[str, str]], hint: str) -> Mistake:
        return cls(name, "", "", hint, edits=edits)

    @classmethod
    def written(cls, name: str, source: str, hint: str) -> Mistake:
        return cls(name, "", "", hint, source=source)


class Variant(Rewrite):
    """A right answer written differently; it must get full marks.

    ``Variant(name, source)``, or ``Variant.edits_of(name, [(old, new), …])``.
    """

    def __init__(
        self, name: str, source: str | None = None, *, edits: Sequence[tuple[str, str]] = ()
    ) -> None:
        super().__init__(name, tuple(edits), source)

    @classmethod
    def edits_of(cls, name: str, edits: Sequence[tuple[str, str]]) -> Variant:
        return cls(name, edits=edits)
