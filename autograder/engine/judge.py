"""One submission before the hidden tests: its workers, its deadlines, its answers."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autograder.engine.ahead import Ahead, Run
from autograder.engine.forbidden import ForbiddenUse, forbidden_uses
from autograder.engine.hold import Worker, WorkerDied
from autograder.engine.notebook import RunnableCell
from autograder.engine.observation import Observation, Setting
from autograder.engine.recognition import Record
from autograder.engine.spawner import Zygote
from autograder.engine.standards import Standards
from autograder.engine.verdict import Postponed
from autograder.spec import Case, Exercise

CELL_SECONDS = 20.0  # for one cell
CELLS_SECONDS = 60.0  # for all of a notebook's cells, each time that they run
MAX_DEATHS = 3
MAX_CELL_DEATHS = 5
REPLY_BYTES = 1 << 20  # beside what the reference's own reply would take
CLOSE_LOOKS = 5  # one case in so many, beside the first
MAX_KIND, MAX_TOLD, MAX_FRAMES, MAX_FRAME = 100, 600, 8, 300


@dataclass
class CellFailure:
    """A cell that raised, hung or ended the process."""

    cell: RunnableCell
    message: str
    unwritten: bool = False


@dataclass
class Judge:
    """Runs one submission's cells and answers for its exercises.

    A worker that dies takes only the request at hand with it: the next request gets a new one,
    without the cell that killed it. After MAX_DEATHS deaths an exercise is given up. Where somebody
    else may have killed it, as hosts short of memory do, the same is tried once more.

    Attributes:
        zygote: workers are forked from it.
        standards: the trusted side.
        cells: what of the submission runs.
        stand_ins: exercises replaced by their oracles.
        foreseen: by exercise, the runs that its tests will ask for where the answer is right.
        patience: seconds after which a cell or a run that is still allowed to go on has the
            submission postponed.
        failures: by its number, a cell that did not run to its end.
        records: by exercise, every run so far.
        oddities: by exercise, what a person should look at.
        hung: exercises that took longer than one run may.
        troubled: whether anything died or took too long, which another time it might not.
    """

    zygote: Zygote
    standards: Standards
    cells: Sequence[RunnableCell]
    stand_ins: frozenset[str] = frozenset()
    foreseen: Mapping[str, Sequence[Run]] = field(default_factory=dict)
    patience: float = math.inf
    failures: dict[int, CellFailure] = field(default_factory=dict)
    records: dict[str, list[Record]] = field(default_factory=dict)
    oddities: dict[str, list[str]] = field(default_factory=dict)
    hung: set[str] = field(default_factory=set)
    troubled: bool = False
    _worker: Worker | None = None
    _megabytes: int = 0
    _deaths: dict[str, int] = field(default_factory=dict)
    _cell_deaths: int = 0
    _spent: dict[str, float] = field(default_factory=dict)
    _uses: dict[str, list[ForbiddenUse]] = field(default_factory=dict)
    _looked_at: set[str] = field(default_factory=set)
    _pardoned: set[str | int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._ahead = Ahead(self._request, self._reply_bytes, self.foreseen)

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_worker()

    def with_stand_ins(self, names: frozenset[str]) -> Judge:
        """The same submission with correct earlier exercises in place."""
        return type(self)(
            self.zygote, self.standards, self.cells, names, self.foreseen, self.patience
        )

    def uses(self, exercise: Exercise) -> list[ForbiddenUse]:
        """Forbidden names in the exercise's code."""
        if exercise.name not in self._uses:
            sources = [(cell.name, cell.source) for cell in self.cells]
            names = self.standards.lesson.exercises
            self._uses[exercise.name] = forbidden_uses(
                exercise.name, exercise.forbids, sources, names
            )
        return self._uses[exercise.name]

    def run(self, exercise: Exercise, case: Case, setting: Setting) -> Observation:
        """Run a case on the student's answer, within its time.

        Raises:
            Postponed: it takes longer than we have patience for.
        """
        name = exercise.name
        if self._deaths.get(name, 0) >= MAX_DEATHS:
            return Observation("died", error={"message": "was given up after several attempts"})
        left = exercise.seconds - self._spent.get(name, 0.0)
        if left <= 0:
            self.troubled = True
            told = f"took longer than {exercise.seconds:g} s over all its tests"
            return Observation("died", error={"message": told})
        allowed = min(case.seconds, left)
        begun = time.monotonic()
        self._ready_worker(exercise.megabytes)
        # The first start is everybody's; those after its own deaths are the exercise's own time.
        started = begun if self._deaths.get(name) else time.monotonic()
        unasked = self._ahead.unasked_seconds
        pardoned = False
        try:
            reply = self._ahead.reply(
                Run(exercise, case, setting),
                min(allowed, self.patience),
                lambda: self._ready_worker(exercise.megabytes),
            )
        except WorkerDied as death:
            self._mind(death, allowed)
            pardoned = self._pardon(death, name)
            if not pardoned:
                if death.timed_out:
                    self.hung.add(name)
                # A hanging answer hangs on the next case too: one timeout is enough.
                deaths = MAX_DEATHS if death.timed_out else 1
                self._deaths[name] = self._deaths.get(name, 0) + deaths
                cause = {"message": str(death), "timed out": death.timed_out}
                return Observation("died", error=cause)
        finally:
            spent = time.monotonic() - started - (self._ahead.unasked_seconds - unasked)
            self._spent[name] = self._spent.get(name, 0.0) + spent
        if pardoned:
            self._looked_at.discard(name)  # or a first run that ends itself would be the last look
            return self.run(exercise, case, setting)
        seen = self.standards.look(exercise, case, setting, reply)
        if exercise.forbids and seen.status == "returned":
            seen.blinded = reply.get("watched") is not True
        return seen

    def _mind(self, death: WorkerDied, allowed: float) -> None:
        """Note a death, and postpone what was ended before its time was up."""
        self.troubled = True
        if death.timed_out and self.patience < allowed:
            raise Postponed from None

    def _pardon(self, death: WorkerDied, of: str | int) -> bool:
        """Forgive what may be none of the submission's doing, once for each exercise and cell."""
        if not death.killed or of in self._pardoned:
            return False
        self._pardoned.add(of)
        return True

    def _looks_closely(self, exercise: Exercise, case: Case) -> bool:
        """Whether operators are watched: at an answer's first run, and where nobody can foresee."""
        first = exercise.name not in self._looked_at
        self._looked_at.add(exercise.name)
        return first or self.standards.seed_of(exercise, case) % CLOSE_LOOKS == 0

    def run_cells(self, megabytes: int) -> None:
        """Run the notebook's cells, if only to learn which of them fail."""
        self._ready_worker(megabytes)

    def failure_of(self, exercise: str) -> CellFailure | None:
        """What went wrong when the exercise's own cell ran."""
        found = [f for f in self.failures.values() if f.cell.exercise == exercise]
        return found[-1] if found else None

    def _ready_worker(self, megabytes: int) -> Worker:
        if self._worker is not None and self._worker.alive and self._megabytes == megabytes:
            return self._worker
        self._end_worker()
        self._megabytes = megabytes
        while True:
            worker = self._start(megabytes)
            if worker is not None:
                self._worker = worker
                return worker

    def _start(self, megabytes: int) -> Worker | None:
        """Fork a worker and run the cells in it; None where a cell killed it, to be left out."""
        forbidden = {n for e in self.standards.lesson.exercises.values() for n in e.forbids}
        worker = self.zygote.fork(megabytes=megabytes, forbidden=sorted(forbidden))
        last = {cell.exercise: i for i, cell in enumerate(self.cells) if cell.exercise}
        deadline = time.monotonic() + CELLS_SECONDS
        for name in self.standards.lesson.earlier:
            self._replace(worker, name)
        for i, cell in enumerate(self.cells):
            try:
                self._run_cell(worker, i, deadline)
                if cell.exercise in self.stand_ins and last[cell.exercise] == i:
                    self._replace(worker, cell.exercise or "")
            except WorkerDied as death:
                self._mind(death, CELL_SECONDS)
                if self._pardon(death, i):
                    return None
                self.failures[i] = CellFailure(cell, f"the cell {death}")
                self._cell_deaths += 1
                return None
        try:
            for name in self.stand_ins - set(last):
                self._replace(worker, name)
        except WorkerDied:
            self.troubled = True
            self._cell_deaths += 1
            return None
        return worker

    def _run_cell(self, worker: Worker, i: int, deadline: float) -> None:
        cell, known = self.cells[i], self.failures.get(i)
        if known is not None and not known.message.startswith("stopped"):
            return
        if self._may_run(i, cell, deadline):
            reply = worker.ask(
                "cell", min(CELL_SECONDS, self.patience), name=cell.name, source=cell.source
            )
            if reply.get("status") == "raised":
                self.failures[i] = _cell_failure(cell, reply)

    def _may_run(self, i: int, cell: RunnableCell, deadline: float) -> bool:
        """Whether the notebook's cells have time left, and have not killed too many workers."""
        reason = ""
        if time.monotonic() > deadline:
            reason = f"the notebook's cells take longer than {CELLS_SECONDS:g} s"
        elif self._cell_deaths >= MAX_CELL_DEATHS:
            reason = f"cells before it ended the Python process {self._cell_deaths} times"
        if reason:
            self.troubled = True
            self.failures[i] = CellFailure(cell, f"was left out: {reason}")
        return not reason

    def _request(self, run: Run) -> dict[str, Any]:
        exercise, case = run.exercise, run.case
        return {
            "exercise": exercise.name,
            "scenario": self.standards.scenario(case),
            "inputs": self.standards.message(exercise, case, run.setting.dtype),
            "device": run.setting.device,
            "seed": self.standards.seed_of(exercise, case),
            "forbidden": list(exercise.forbids),
            "closely": self._looks_closely(exercise, case),
        }

    def _reply_bytes(self, run: Run) -> int | None:
        """How much a right or wrong answer may plausibly send; None where it cannot be judged."""
        reference = self.standards.reference(run.exercise, run.case, run.setting)
        return None if reference.status == "unjudged" else REPLY_BYTES + 4 * reference.bytes

    def _replace(self, worker: Worker, name: str) -> None:
        implementation = self.standards.stand_in(name)
        worker.ask("replace", CELL_SECONDS, name=name, implementation=implementation)

    def _end_worker(self) -> None:
        if self._worker is not None:
            self._worker.end()
            self._worker = None


def _cell_failure(cell: RunnableCell, reply: dict[str, Any]) -> CellFailure:
    error = reply.get("error")
    told = error if isinstance(error, dict) else {}
    return CellFailure(
        cell, "stopped with " + tell_error(told), told.get("type") == "NotImplementedError"
    )


def tell_error(error: dict[str, Any]) -> str:
    """A student's own error in a few lines, as the worker described it."""
    kind = str(error.get("type", "an error"))[:MAX_KIND]
    message = str(error.get("message", ""))[:MAX_TOLD]
    frames = error.get("frames")
    told = frames[-MAX_FRAMES:] if isinstance(frames, list) else []
    lines = [frame[:MAX_FRAME] for frame in told if isinstance(frame, str)]
    head = f"{kind}: {message}" if message else kind
    return "\n".join([head, *(f"  in cell {line}" for line in lines)])
