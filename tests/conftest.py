"""What several tests share: a zygote, and notebooks filled in from the release."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from autograder.engine.grading import Plan, grade_notebooks
from autograder.engine.spawner import Zygote
from autograder.engine.verdict import Verdict
from autograder.lesson import Lesson, find_lesson

Fill = Callable[..., dict[str, Any]]
Grade = Callable[[dict[str, Any]], Verdict]

torch.set_num_threads(1)  # every xdist worker has a core: more threads only wait for each other

SET_UP_ONCE = {  # modules in which one long set-up serves every test
    "test_by_hand",
    "test_choices",
    "test_cluster",
    "test_demo",
    "test_devices",
    "test_faults",
    "test_hostile_folders",
    "test_killed",
    "test_nbgrader_cycle",
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of such a module on one worker, and spread all others.

    `xdist_group` would say so, but xdist 3.8 marks the groups in a way that pytest 9.2 ignores.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return file if Path(file).stem in SET_UP_ONCE else nodeid

    return Together(config, log)


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    with Zygote() as running:
        yield running


@pytest.fixture(scope="session")
def losses() -> Lesson:
    """The lesson that most tests of the engine use: small functions, quickly graded."""
    return find_lesson("ch15_gan/losses")


@pytest.fixture
def fill(losses: Lesson) -> Fill:
    """Make a submission of the release: right but for the cells given by exercise."""
    release = json.loads(losses.release.read_text(encoding="utf-8"))
    right = {c.exercise: c.source for c in Plan(losses).cells if c.role == "exercise"}

    def filled(**answers: str | None) -> dict[str, Any]:
        """None leaves the exercise untouched."""
        notebook = copy.deepcopy(release)
        for cell in notebook["cells"]:
            name = cell["metadata"].get("forwardpass", {}).get("exercise")
            if cell["metadata"].get("nbgrader", {}).get("solution") and name:
                chosen = answers.get(name, right[name])
                cell["source"] = cell["source"] if chosen is None else chosen
        return notebook

    return filled


@pytest.fixture
def grade(losses: Lesson, zygote: Zygote) -> Grade:
    """Grade a notebook of the `losses` lesson."""

    def graded(notebook: dict[str, Any]) -> Verdict:
        verdicts: list[Verdict] = []
        grade_notebooks(losses, [("it", notebook)], zygote, lambda _, v: verdicts.append(v), seed=7)
        return verdicts[0]

    return graded
