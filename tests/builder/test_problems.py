"""Every mistake an author can make is told with its file, its line and the way out."""

import sys
import textwrap

import pytest

from autograder.builder.notebook import build_source
from autograder.builder.problem import BuildError
from autograder.lesson import Lesson

REFERENCE = '''
import torch
from torch import Tensor


def shift(x: Tensor) -> Tensor:
    """Move every value up by one. Shape kept."""
    moved = x + torch.ones_like(x)
    return moved
'''
GRADER = '''
from autograder.spec import Case, Exercise

shift = Exercise("shift")


@shift.test(points=2, cases=[Case("it", lambda impl, x: impl(x), lambda make: dict(x=make.normal(3)))])
def test_shift(submission, case):
    """Shifts"""
    submission.matches_reference(case)
'''
LESSON = """\
---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {name: python3, display_name: Python 3, language: python}
forwardpass:
  title: Shifting
  minutes: 5
---
# Shifting

```{code-cell} ipython3
:tags: [setup]
import torch
from torch import Tensor
from course import checking
```

### Exercise: `shift`

**Difficulty 1/5 · about 2 minutes**

```{code-cell} ipython3
:tags: [exercise]
from solutions.ch98_problems.shifting import shift
```

```{code-cell} ipython3
:tags: [check]
with checking("shift") as check:
    check.close(shift(torch.zeros(2)), torch.ones(2), "zeros shifted")
```
"""


@pytest.fixture
def author(tmp_path, monkeypatch):
    """Write a lesson's three files and build it; gives the problems, or the notebook."""
    import autograder.graders
    import solutions

    for package, folder in ((solutions, "solutions"), (autograder.graders, "autograder/graders")):
        room = tmp_path / folder / "ch98_problems"
        room.mkdir(parents=True)
        (room / "__init__.py").write_text("")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(room.parent)])
    (tmp_path / "course/ch98_problems").mkdir(parents=True)

    def build(lesson=LESSON, reference=REFERENCE, grader=GRADER, before=None):
        for name in [m for m in sys.modules if "ch98_problems" in m]:
            del sys.modules[name]
        if before is not None:
            write(Lesson("ch98_problems", "before", tmp_path), *before)
        it = Lesson("ch98_problems", "shifting", tmp_path)
        write(it, lesson, reference, grader)
        try:
            return build_source(it)
        except BuildError as error:
            return str(error)

    def write(it, lesson, reference, grader):
        it.text.write_text(lesson)
        if reference is not None:
            it.reference_file.write_text(textwrap.dedent(reference))
        if grader is not None:
            it.grader_file.write_text(textwrap.dedent(grader))

    yield build
    for name in [m for m in sys.modules if "ch98_problems" in m]:
        del sys.modules[name]


def test_a_right_lesson_builds(author):
    notebook = author()
    roles = [c["metadata"]["forwardpass"]["role"] for c in notebook["cells"]]
    assert roles == ["prose", "environment", "setup", "prose", "exercise", "check", "tests"]
    assert [c["id"] for c in notebook["cells"]][:2] == ["shifting-00", "shifting-01"]
    assert notebook["cells"][-1]["metadata"]["nbgrader"]["points"] == 2


EARLIER = """```{code-cell} ipython3
:tags: [earlier]
from solutions.ch98_problems.before import shift
```

### Exercise: `lift`"""
BEFORE = (LESSON, REFERENCE, GRADER.replace('("shift")', '("shift", oracle=lambda x: x + 1)'))
AFTER = dict(
    before=BEFORE,
    lesson=LESSON.replace("### Exercise: `shift`", EARLIER).replace("import shift\n```\n\n```{code-cell} ipython3\n:tags: [check]", "import lift\n```\n\n```{code-cell} ipython3\n:tags: [check]"),
    reference=REFERENCE.replace("def shift", "def lift").replace(
        "from torch import Tensor", "from torch import Tensor\nfrom solutions.ch98_problems.before import shift"
    ),
    grader=GRADER.replace("shift", "lift"),
)  # fmt: skip


def test_an_earlier_lesson_is_taken_from_the_notebook_beside(author):
    notebook = author(**AFTER)
    (cell,) = [c for c in notebook["cells"] if c["metadata"]["forwardpass"]["role"] == "earlier"]
    assert cell["source"] == (
        'from course import earlier\n\nshift = earlier("ch98_problems/before", "shift")'
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (dict(before=(LESSON, REFERENCE, GRADER)),
         "shifting.md:18: 'shift' is no exercise of ch98_problems/before with an oracle"),
        (dict(reference=AFTER["reference"].replace("from solutions.ch98_problems.before import shift", "")),
         "lesson and reference must take the same names from earlier lessons"),
        (dict(lesson=AFTER["lesson"].replace("ch98_problems.before", "ch97_other.before")),
         "solutions.ch97_other.before is no other lesson of ch98_problems"),
        (dict(lesson=AFTER["lesson"].replace("before import shift", "before import *")),
         "shifting.md:18: an earlier cell holds exactly one"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_earlier_cell_is_told(author, change, told):
    assert told in author(**{**AFTER, **change})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (dict(lesson=LESSON.replace("import shift\n", "import shove\n")),
         "shifting.md:22: 'shove' names nothing in shifting.py"),
        (dict(lesson=LESSON.replace("shifting import", "moving import")),
         "shifting.md:22: solutions.ch98_problems.moving is another lesson's reference"),
        (dict(lesson=LESSON.replace("from solutions.ch98_problems.shifting import shift", "shift = 1")),
         "shifting.md:22: an exercise cell holds exactly one"),
        (dict(lesson=LESSON + LESSON[LESSON.index("### Exercise"):]),
         "shifting.md:36: the exercise 'shift' stands in this lesson twice"),
        (dict(reference=REFERENCE.replace('"""Move every value up by one. Shape kept."""', "")),
         "shifting.py:6: 'shift' has no docstring"),
        (dict(reference=REFERENCE.replace("Shape kept.", "Return x + torch.ones_like(x).")),
         "shifting.py:6: the docstring of 'shift' holds the body's code: 'x + torch.ones_like(x)'"),
        (dict(grader=None), "shifting.md:1: the lesson has no grader: write test_shifting.py"),
        (dict(grader=GRADER.replace('Exercise("shift")', 'Exercise("shove")')),
         "test_shifting.py:4: a grader for no exercise: 'shove'"),
        (dict(grader=GRADER[: GRADER.index("@shift")]), "test_shifting.py:4: 'shift' has no test"),
        (dict(lesson=LESSON.replace("title: Shifting", "title: [Shifting")), "broken front matter"),
        (dict(lesson=LESSON.replace("  minutes: 5\n", "")), "forwardpass: minutes: int needed"),
        (dict(lesson=LESSON.replace("---\n", "", 1)), "shifting.md:1: front matter is missing"),
        (dict(lesson=LESSON.replace("[check]", "[chekc]")), "shifting.md:27: the cell is tagged"),
        (dict(lesson=LESSON.replace("import torch\nfrom torch import Tensor\n", "")),
         "'shift' uses 'Tensor', which the notebook does not have"),
        (dict(lesson=LESSON.replace("**Difficulty 1/5 · about 2 minutes**", "")),
         "shifting.md:22: 'shift' has no difficulty"),
        (dict(lesson=LESSON[: LESSON.index("```{code-cell} ipython3\n:tags: [check]")]),
         "'shift' has no visible check"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(author, change, told):
    assert told in author(**change)


def test_everything_wrong_is_told_at_once(author):
    told = author(
        lesson=LESSON.replace("**Difficulty 1/5 · about 2 minutes**", ""),
        reference=REFERENCE.replace('"""Move every value up by one. Shape kept."""', ""),
    )
    assert "no docstring" in told
    assert "no difficulty" in told
