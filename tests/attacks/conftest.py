"""One ground for all attacks of a test process."""

import pytest

from autograder.attacks.ground import ground


@pytest.fixture(scope="session")
def arena():
    with ground() as here:
        yield here
