"""One database engine for a whole run.

nbgrader makes an engine for each of its steps, six to eight times a student, and SQLAlchemy
compiles every statement anew for each: a third of the time that entering grades takes. Closing
the gradebook still closes its connections; what is kept is what the statements were compiled to.
"""

from __future__ import annotations

import functools

import nbgrader.api


def share_engine() -> None:
    """Have nbgrader use one engine for each database from now on, in this process."""
    made = nbgrader.api.create_engine
    if not hasattr(made, "cache_info"):
        nbgrader.api.create_engine = functools.cache(made)
