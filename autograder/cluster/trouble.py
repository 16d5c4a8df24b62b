"""What stops grading on a cluster; each message says what is wrong, where, and what to do."""

from __future__ import annotations


class ClusterTrouble(RuntimeError):
    """The cluster cannot be reached, has no workers or is gone; what was graded is kept."""


class NoDask(ClusterTrouble):
    """Dask is not installed here."""


class VersionMismatch(ClusterTrouble):
    """A worker would judge by other versions than home."""
