"""Chapters' opening pages: what they tell, and what is said when one cannot be built."""

import pytest

from autograder.builder.chapter import Chapter
from autograder.builder.problem import BuildError

LESSON = """---
jupytext:
  text_representation: {{extension: .md, format_name: myst}}
kernelspec: {{name: python3, display_name: Python 3, language: python}}
forwardpass:
  title: {title}
  minutes: {minutes}
---
# {title}

```{{code-cell}} ipython3
:tags: [exercise]
from solutions.ch99_trial.{name} import {exercise}
```
"""
PAGE = "---\ntitle: Trials\norder: [second, first]\n---\n# Trials\n\nWhy.\n\n{{lessons}}\n\nMore.\n"


@pytest.fixture
def chapter(tmp_path):
    folder = tmp_path / "course" / "ch99_trial"
    folder.mkdir(parents=True)
    for name, exercise, minutes in (("first", "sort_it", 50), ("second", "add_it", 45)):
        text = LESSON.format(title=name.title(), minutes=minutes, name=name, exercise=exercise)
        (folder / f"{name}.md").write_text(text)
    (folder / "index.md").write_text(PAGE)
    (folder.parent / "glossary.md").write_text("---\ntitle: Glossary\n---\n# Glossary\n")
    return Chapter("ch99_trial", tmp_path)


def test_it_lists_the_lessons_in_reading_order_with_their_exercises_and_time(chapter):
    pages = {
        path.relative_to(chapter.root).as_posix(): data for path, data in chapter.pages().items()
    }
    assert set(pages) == {
        f"{room}/ch99_trial/{name}"
        for room in ("source", "release")
        for name in ("README.md", "glossary.md")
    }
    page = pages["release/ch99_trial/README.md"].decode()
    assert page.startswith("# Trials\n\nWhy.\n")
    rows = [line for line in page.split("\n") if line.startswith("| ")]
    assert rows[1:] == [
        "| 1. [Second](second.ipynb) | `add_it` | 45 |",
        "| 2. [First](first.ipynb) | `sort_it` | 50 |",
        "| all of it | | 95, which is about 1½ hours |",
    ]
    assert "solutions" not in page
    assert pages["release/ch99_trial/glossary.md"] == b"# Glossary\n"


@pytest.mark.parametrize(
    ("page", "told"),
    [
        (None, "no such page"),
        (PAGE.replace("---\n", "", 1), "front matter"),
        (PAGE.replace("title", "name"), "front matter"),
        (PAGE.replace("[second, first]", "[second, first"), "front matter"),
        (PAGE.replace("second, ", ""), "each lesson of the chapter once: first, second"),
        (PAGE.replace("second", "third"), "each lesson of the chapter once: first, second"),
        (PAGE.replace("first", "second"), "each lesson of the chapter once: first, second"),
        (PAGE.replace("{{lessons}}", ""), "the lessons' table goes there"),
    ],
)
def test_what_is_wrong_is_named(chapter, page, told):
    chapter.text.unlink()
    if page is not None:
        chapter.text.write_text(page)
    with pytest.raises(BuildError, match=told):
        chapter.pages()
