"""One run on a cluster: batches out, verdicts back, and what kills workers singled out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count, zip_longest
from types import ModuleType
from typing import TYPE_CHECKING, Any

from autograder.cluster import connection
from autograder.engine.notebook import UnreadableNotebook
from autograder.engine.verdict import Verdict
from autograder.gradebook.classwork import Graded
from autograder.gradebook.grader import GradingRefused
from autograder.gradebook.key import Key
from autograder.gradebook.submission import Submission, text_of
from autograder.gradebook.verdicts import Verdicts

if TYPE_CHECKING:
    from distributed import Client, Future

MOST_IN_A_BATCH = 16
BATCHES_A_SLOT = 4  # so that nobody waits long for the last one
AHEAD = 2  # batches a slot, so that no worker waits for home
LOOK_SECONDS = 5.0
RETRIES = 2  # of a batch that raises; where its worker dies, Dask has a count of its own


@dataclass(frozen=True)
class Sent:
    """A notebook as it was when it was sent.

    Attributes:
        submission: whose it is.
        key: of a verdict on these very bytes.
        request: for a desk.
    """

    submission: Submission
    key: Key
    request: dict[str, Any]


@dataclass
class Campaign:
    """Grades what waits.

    Dask does a batch again whose worker died, on another one. A batch that goes on killing
    workers is broken up: its notebooks are graded at the very end, one at a time, so that only
    the one that does it is blamed.

    Attributes:
        client: of the scheduler.
        host: the module that runs in workers.
        order: what each batch brings along.
        verdicts: keeps them.
        waiting: the notebooks, those of a lesson together.
        address: of the scheduler, for messages.
        device: "cuda" takes a worker's resource GPU.
        say: told what is waited for.
    """

    client: Client
    host: ModuleType
    order: Any
    verdicts: Verdicts
    waiting: deque[Submission]
    address: str
    device: str = "cpu"
    say: Callable[[str], None] = print
    _flying: dict[Future[Any], list[Sent]] = field(default_factory=dict)
    _suspects: deque[Sent] = field(default_factory=deque)
    _numbers: Iterator[int] = field(default_factory=count)
    _unreadable: list[Graded] = field(default_factory=list)

    def results(self) -> Iterator[Graded]:
        """What becomes of each notebook, as it is known.

        Raises:
            ClusterTrouble, GradingRefused, NotKept: as `Fleet.grade` does.
        """
        slots = connection.slots(self.client, self.device)
        size = len(self.waiting) // (BATCHES_A_SLOT * max(1, slots))
        size = max(1, min(MOST_IN_A_BATCH, size))
        try:
            while self.waiting or self._flying or self._suspects:
                alone = not self.waiting and not self._flying
                if alone and self._suspects:
                    self._send([self._suspects.popleft()])
                while self.waiting and len(self._flying) < AHEAD * slots:
                    self._send(self._next_batch(size))
                yield from self._unreadable
                self._unreadable.clear()
                for future in self._landed():
                    yield from self._received(future, alone)
                slots = max(1, connection.slots(self.client, self.device))
        finally:
            self._end()

    def _next_batch(self, size: int) -> list[Sent]:
        lesson = self.waiting[0].lesson
        batch: list[Sent] = []
        while self.waiting and self.waiting[0].lesson == lesson and len(batch) < size:
            submission = self.waiting.popleft()
            name, data = submission.path.name, None
            try:
                data = submission.read()
                request = {"lesson": lesson, "name": name, "text": text_of(data, name)}
            except UnreadableNotebook as error:
                key = self.verdicts.key(submission, data)
                record = self.verdicts.keep(submission, key, None, str(error))
                self._unreadable.append(Graded(submission, record))
            else:
                batch.append(Sent(submission, self.verdicts.key(submission, data), request))
        return batch

    def _send(self, batch: list[Sent]) -> None:
        if not batch:
            return
        future = self.client.submit(
            self.host.grade,
            self.order,
            self.host.Batch([sent.request for sent in batch]),
            key=f"forwardpass-{self.order.run}-{next(self._numbers)}",
            retries=RETRIES,
            resources={"GPU": 1} if self.device == "cuda" else None,
        )
        self._flying[future] = batch

    def _landed(self) -> list[Future[Any]]:
        """Batches that are done; none yet where the cluster was looked after meanwhile."""
        from distributed import wait

        if not self._flying:
            return []
        try:
            return list(wait([*self._flying], LOOK_SECONDS, "FIRST_COMPLETED").done)
        except TimeoutError:
            if self.client.status != "running":
                raise connection.gone(self.address) from None
            connection.await_workers(self.client, self.address, self.device, self.say)
            return []

    def _received(self, future: Future[Any], alone: bool) -> Iterator[Graded]:
        batch = self._flying.pop(future)
        if future.status == "error":
            error = future.exception()
            from distributed import KilledWorker

            if isinstance(error, KilledWorker):
                last = error.last_worker.address
                why = f"it ended {error.allowed_failures + 1} Dask workers, the last at {last}"
            else:
                connection.check_versions(self.client, self.order.versions)
                why = f"grading it on the Dask cluster failed: {error!r}"
            yield from self._again(batch, alone, why)
            return
        if future.status == "cancelled":
            raise connection.gone(self.address)
        if future.status != "finished":  # its worker died with the result: Dask does it again
            self._flying[future] = batch
            return
        report = future.result()
        future.release()
        if report.differing:
            raise connection.mismatch(report.host, report.differing, self.order.versions)
        for sent, reply in zip_longest(batch, report.replies):
            if reply is None:
                why = f"the process that graded it on {report.host} ended"
                yield from self._again([sent], alone, why)
            elif "refused" in reply:
                raise GradingRefused(f"on {report.host}, {reply['refused']}")
            elif "failure" in reply:
                yield Graded(sent.submission, None, reply["failure"])
            else:
                verdict = Verdict.from_dict(reply["verdict"]) if "verdict" in reply else None
                told = reply.get("unreadable", "")
                record = self.verdicts.keep(sent.submission, sent.key, verdict, told)
                yield Graded(sent.submission, record)

    def _again(self, batch: list[Sent], alone: bool, why: str) -> Iterator[Graded]:
        """Grade notebooks again by themselves; one that was by itself has failed."""
        if alone:
            yield from (Graded(sent.submission, None, why) for sent in batch)
        else:
            self._suspects += batch

    def _end(self) -> None:
        """Leave nothing waiting or running on the cluster, and nothing of what was shipped."""
        with suppress(Exception):  # it may be gone; then what was shipped is gone, or ends soon
            self.client.cancel(list(self._flying), force=True)
            self.client.run(self.host.end, self.order.run, on_error="ignore")
