"""Answers that several students gave alike, judged once for all of them.

Much of a class's work is the same: what is untouched, what is one line long, what was written
together. What a shared result says depends on the answer alone. The answer is met twice in
submissions, where all that they hold may have had a say; then it is judged by itself, in a worker
that holds nothing but the cells that it is made of; and only where that agrees with the first time
is it the result of whoever else gives the answer. So nobody can have another's answer judged wrong,
nor have what is wrong judged right.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b

from autograder.engine.notebook import RunnableCell
from autograder.engine.outcomes import Outcomes
from autograder.engine.syntax import names_of, parsed
from autograder.engine.verdict import ExerciseResult

KEY_BYTES = 16
# Larger ones are judged each for itself: telling what they are made of would take long.
MAX_CELLS, MAX_CHARACTERS = 200, 60_000
AMONG, ALONE, UNLIKE = "among others", "alone", "unlike"  # what is kept of an answer
DEFINES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
IMPORTS = (ast.Import, ast.ImportFrom)
ACTS = (ast.Call, ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)


@dataclass(frozen=True)
class Judged:
    """What became of an answer.

    Attributes:
        result: of its exercise.
        settings: (dtype, device) of every run.
    """

    result: ExerciseResult
    settings: frozenset[tuple[str, str]]

    def to_bytes(self) -> bytes:
        return json.dumps([asdict(self.result), sorted(self.settings)]).encode()

    @classmethod
    def from_bytes(cls, sent: bytes) -> Judged:
        """Rebuild what `to_bytes` wrote."""
        result, settings = json.loads(sent)
        return cls(ExerciseResult.from_dict(result), frozenset(map(tuple, settings)))

    @property
    def is_spotless(self) -> bool:
        """Whether there is nothing to tell, and so nothing that names a line."""
        told = self.result
        silent = not (told.flags or told.note or told.hint or told.error)
        return silent and told.score == told.max_score


@dataclass(frozen=True)
class GivenAnswer:
    """One exercise's answer in a submission.

    Attributes:
        exercise: its name.
        cells: the set-up, and what else it is made of, in the notebook's order.
        stand_ins: earlier exercises in place of which it has correct ones.
    """

    exercise: str
    cells: tuple[RunnableCell, ...]
    stand_ins: frozenset[str] = frozenset()

    def with_stand_ins(self, names: frozenset[str]) -> GivenAnswer:
        """The same without the student's own earlier exercises."""
        kept = tuple(cell for cell in self.cells if cell.exercise not in names)
        return GivenAnswer(self.exercise, kept, names)

    @cached_property
    def words(self) -> bytes:
        """The answer to the letter, so that a line's number is the same line's."""
        return self._key([(cell.name, cell.source) for cell in self.cells])

    @cached_property
    def meaning(self) -> bytes:
        """The answer but for its comments and layout."""
        return self._key([(cell.name, _tree_told(cell.source)) for cell in self.cells])

    def _key(self, told: Sequence[tuple[str, str]]) -> bytes:
        whole = json.dumps([self.exercise, sorted(self.stand_ins), *told]).encode()
        return blake2b(whole, digest_size=KEY_BYTES).digest()


class KnownAnswers:
    """What is known of a run's answers.

    Args:
        outcomes: shared with the run's other processes.
        run: says what beside the answer a result depends on.
    """

    def __init__(self, outcomes: Outcomes, run: str) -> None:
        self._outcomes = outcomes
        self._run = run

    def known(self, answer: GivenAnswer) -> Judged | None:
        """The result that all have who gave this answer, if it is known."""
        for key in (answer.meaning, answer.words):
            sent = self._outcomes.known(self._name(ALONE, key))
            if sent is not None:
                return Judged.from_bytes(sent)
        return None

    def was_met(self, answer: GivenAnswer) -> bool:
        """Whether it should be judged by itself now."""
        names = [self._name(AMONG, key) for key in (answer.meaning, answer.words)]
        unlike = self._outcomes.known(self._name(UNLIKE, answer.words))
        return unlike is None and any(self._outcomes.known(name) for name in names)

    def meet(self, answer: GivenAnswer, judged: Judged) -> None:
        """Keep what became of an answer among the others of a submission."""
        self._outcomes.add(self._name(AMONG, self._key(answer, judged)), _digest(judged))

    def share(self, answer: GivenAnswer, alone: Judged | None) -> Judged | None:
        """Let others have what became of an answer by itself.

        Returns:
            The same; None where it is unlike what became of the answer among others, or uncertain.
            Then nobody has it, ever.
        """
        key = self._key(answer, alone) if alone else b""
        if alone is None or self._outcomes.known(self._name(AMONG, key)) != _digest(alone):
            self._outcomes.add(self._name(UNLIKE, answer.words), b"")
            return None
        self._outcomes.add(self._name(ALONE, key), alone.to_bytes())
        return alone

    def _key(self, answer: GivenAnswer, judged: Judged) -> bytes:
        return answer.meaning if judged.is_spotless else answer.words

    def _name(self, what: str, key: bytes) -> str:
        return f"{self._run}\n{what} {key.hex()}"


def given_answers(
    exercises: Iterable[str], cells: Sequence[RunnableCell]
) -> dict[str, GivenAnswer]:
    """Each exercise's answer, where all of a submission's cells do no more than define.

    Where a cell acts, nobody can say without running it what it changes: none is given then, nor
    where there are very many cells or very much code.
    """
    own = {i: cell for i, cell in enumerate(cells) if not cell.is_setup}
    length = sum(len(cell.source) for cell in own.values())
    if len(own) > MAX_CELLS or length > MAX_CHARACTERS:
        return {}
    if any(_acts(cell.source) for cell in own.values()):
        return {}
    places: dict[str, list[int]] = {}
    for i, cell in own.items():
        for defined in _defined(cell.source) | ({cell.exercise} if cell.exercise else set()):
            places.setdefault(defined, []).append(i)
    answered = {cell.exercise for cell in own.values()}
    found = {}
    for name in exercises:
        if name not in answered:
            continue
        made_of = _made_of(name, cells, places)
        kept = [cell for i, cell in enumerate(cells) if i not in own or i in made_of]
        found[name] = GivenAnswer(name, tuple(kept))
    return found


def _made_of(
    exercise: str, cells: Sequence[RunnableCell], places: Mapping[str, Sequence[int]]
) -> set[int]:
    """The places of the cells that define the exercise, what these name, and so on."""
    found: set[int] = set()
    wanted, waiting = {exercise}, [exercise]
    while waiting:
        for i in places.get(waiting.pop(), ()):
            if i not in found:
                found.add(i)
                news = names_of(cells[i].source) - wanted
                wanted |= news
                waiting += news
    return found


@lru_cache(maxsize=1024)
def _acts(source: str) -> bool:
    """Whether a cell does more than define; one that is not Python does nothing."""
    tree = parsed(source)
    return tree is not None and not all(map(_is_definition, tree.body))


def _is_definition(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.ImportFrom):
        return all(alias.name != "*" for alias in statement.names)
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        names = all(isinstance(target, ast.Name) for target in _targets(statement))
        return names and not any(isinstance(node, ACTS) for node in ast.walk(statement))
    return isinstance(statement, (*DEFINES, ast.Import, ast.Pass))


@lru_cache(maxsize=1024)
def _defined(source: str) -> frozenset[str]:
    """The names that a cell of definitions gives a meaning."""
    found: set[str] = set()
    for statement in (parsed(source) or ast.Module([], [])).body:
        if isinstance(statement, DEFINES):
            found.add(statement.name)
        elif isinstance(statement, IMPORTS):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            found |= {t.id for t in _targets(statement) if isinstance(t, ast.Name)}
    return frozenset(found)


def _targets(statement: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return statement.targets if isinstance(statement, ast.Assign) else [statement.target]


@lru_cache(maxsize=1024)
def _tree_told(source: str) -> str:
    tree = parsed(source)
    try:
        return source if tree is None else ast.dump(tree)
    except RecursionError:
        return source


def _digest(judged: Judged) -> bytes:
    return blake2b(judged.to_bytes(), digest_size=KEY_BYTES).digest()
