"""A class's notebooks, graded by the workers of a Dask cluster."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from inspect import getsource

from autograder.cluster import connection, unpacking
from autograder.cluster.campaign import Campaign
from autograder.cluster.desk import options_of
from autograder.cluster.shipment import pack
from autograder.gradebook.classwork import Graded, unchanged
from autograder.gradebook.grader import LIMIT_SECONDS
from autograder.gradebook.submission import Submission
from autograder.gradebook.verdicts import Verdicts

JUDGES = ("Python", "torch", "forwardpass")


class Fleet:
    """Grades submissions on a cluster, as `Classwork` does on one machine.

    Args:
        verdicts: finds and keeps them; only here, at home.
        address: of the scheduler, or a scheduler file.
        device: to judge on beside the CPU; for "cuda", on workers that offer the resource GPU.
        without: required sandbox layers that the instructor has agreed to do without.
        seconds: that a notebook may take in all.
        megabytes: that a submission may allocate; None where each exercise says.
        say: told what is waited for.
    """

    def __init__(
        self,
        verdicts: Verdicts,
        address: str,
        device: str,
        without: Sequence[str],
        seconds: float = LIMIT_SECONDS,
        megabytes: int | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self._verdicts = verdicts
        self._address = address
        self._device = device
        self._options = options_of(device, without, seconds, megabytes)
        self._say = say

    def grade(self, submissions: Sequence[Submission]) -> Iterator[Graded]:
        """Grade every submission that needs it, giving each as it is done.

        Raises:
            ClusterTrouble: the cluster cannot be used, or is gone; the rest is not graded.
            GradingRefused: a required sandbox layer is missing on a worker.
            NotKept: a verdict cannot be written to the journal.
        """
        waiting: deque[Submission] = deque()
        yield from unchanged(submissions, self._verdicts, waiting)
        if not waiting:
            return
        with connection.connected(self._address) as client:
            connection.await_workers(client, self._address, self._device, self._say)
            host = connection.shipped_code()
            order = host.Order(
                run=uuid.uuid4().hex,
                program=getsource(unpacking),
                options=self._options,
                archive=pack({submission.lesson for submission in waiting}),
                versions={name: host.version_of(name) for name in JUDGES},
            )
            connection.check_versions(client, order.versions)
            campaign = Campaign(
                client, host, order, self._verdicts, waiting,
                self._address, self._device, self._say,
            )  # fmt: skip
            yield from campaign.results()
