"""How long to look: a moment in `make test`, as many examples as `make fuzz` asks for."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))


def effort(examples: int) -> settings:
    """Settings of a test.

    Args:
        examples: in `make test`, the same in every run; `make fuzz` draws its own.
    """
    return settings(
        max_examples=EXAMPLES or examples,
        derandomize=not EXAMPLES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
