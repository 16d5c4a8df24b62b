"""The engine and the graders run where only torch, numpy, pytest and nbformat are installed."""

import subprocess
import sys

import pytest

from autograder.lesson import ROOT, all_lessons

# What the other parts of the course need; not to be found by any of these programs.
ELSEWHERE = (
    "cloudpickle", "IPython", "jinja2", "jupyter_core", "jupytext", "matplotlib", "nbclient",
    "nbconvert", "nbgrader", "rich", "scipy", "sklearn", "sqlalchemy", "torchvision", "traitlets",
    "yaml",
)  # fmt: skip
WITHOUT = f"""
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in {ELSEWHERE!r}:
            return self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Without, sys.meta_path)
sys.path.insert(0, {str(ROOT)!r})
"""
IMPORTS = """
import autograder.attacks.ground
import autograder.engine.session
import autograder.engine.spawner
import autograder.laws.numbers
"""
REHEARSES = """
from autograder.engine.spawner import Policy, Zygote
from autograder.laws.validation import validate_lesson
from autograder.lesson import find_lesson

lesson = find_lesson("ch15_gan/losses")
findings = validate_lesson(
    lesson, Zygote(Policy()), 1, only="hinge_generator_loss", rehearse=True
)
assert len(findings.found) > 5 and not any(f.broken for f in findings.found)
"""
WARMS = """
from autograder.engine import zygote

zygote._import_once()
assert "autograder.engine.worker" in sys.modules
"""


def run(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + program], capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("program", [IMPORTS, REHEARSES, WARMS], ids=["imports", "judges", "forks"])
def test_needs_nothing_of_the_notebooks_world(program):
    run(program)


def test_every_lesson_and_grader_can_be_read():
    keys = [lesson.key for lesson in all_lessons()]
    run(
        "from autograder.lesson import find_lesson\n"
        f"for key in {keys!r}:\n"
        "    lesson = find_lesson(key)\n"
        "    assert lesson.exercises and all(map(lesson.reference_source, lesson.exercises))\n"
    )


def test_what_is_elsewhere_is_really_out_of_reach():
    with pytest.raises(AssertionError, match="No module named 'matplotlib"):
        run("import matplotlib")
