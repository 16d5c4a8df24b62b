"""The built notebooks are fresh, the same every time, and leak nothing."""

import copy
import json
import subprocess
import sys
import tarfile
import zipfile

import pytest

from autograder.builder.notebook import build_source, to_bytes
from autograder.builder.release import Leak, build_release, leaks_of
from autograder.builder.rooms import build, graders_without_lesson, stale, surplus, write
from autograder.builder.solution import clear_solution
from autograder.lesson import ROOT, all_lessons

LESSONS = all_lessons()


@pytest.fixture(scope="module")
def files():
    return build(LESSONS)


def test_source_and_release_are_fresh(files):
    old = stale(files)
    write({path: files[path] for path in old})
    names = [str(path.relative_to(ROOT)) for path in old]
    assert not old, f"were stale and have been written afresh; commit them: {names}"
    assert not surplus(files)
    assert not graders_without_lesson()


def test_building_again_gives_the_same_bytes(files):
    lesson = LESSONS[0]
    assert to_bytes(build_source(lesson)) == files[lesson.source]
    assert to_bytes(build_release(build_source(lesson))) == files[lesson.release]


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.key)
def test_no_line_of_a_solution_reaches_the_release(lesson):
    source = json.loads(lesson.source.read_text())
    release = json.loads(lesson.release.read_text())
    assert leaks_of(source, release) == []
    everything = lesson.release.read_text()
    assert "solutions." not in everything
    assert "autograder" not in everything
    for cell in release["cells"]:
        assert not cell.get("outputs")


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.key)
def test_the_engines_stub_is_nbgraders_stub(lesson):
    source = json.loads(lesson.source.read_text())
    released = {c["id"]: c["source"] for c in json.loads(lesson.release.read_text())["cells"]}
    for cell in source["cells"]:
        if cell["metadata"]["forwardpass"]["role"] == "exercise":
            assert clear_solution(cell["source"]) == released[cell["id"]]


def solution_lines(lesson):
    """Every line of the lesson's solutions that is long enough to be told from other code."""
    for cell in json.loads(lesson.source.read_text())["cells"]:
        for body in cell["source"].split("### BEGIN SOLUTION\n")[1:]:
            lines = body.split("### END SOLUTION")[0].split("\n")
            yield from (line for line in lines if len(line.strip()) > 40)


def longest_exercise(source):
    """The place of the cell with the longest solution."""
    return max(
        range(len(source["cells"])),
        key=lambda i: (
            ("### BEGIN SOLUTION" in source["cells"][i]["source"])
            * len(source["cells"][i]["source"])
        ),
    )


def test_a_leak_is_noticed():
    source = json.loads(LESSONS[0].source.read_text())
    release = json.loads(LESSONS[0].release.read_text())
    at = longest_exercise(source)
    whole = copy.deepcopy(release)
    whole["cells"][at]["source"] = source["cells"][at]["source"]
    assert leaks_of(source, whole)
    prose = copy.deepcopy(release)
    body = source["cells"][at]["source"].split("### BEGIN SOLUTION\n")[1].split("    ### END")[0]
    prose["cells"][0]["source"] += body
    assert leaks_of(source, prose)
    outputs = copy.deepcopy(release)
    outputs["cells"][at]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "42"}]
    assert leaks_of(source, outputs)


def test_a_release_that_would_leak_is_not_built():
    source = json.loads(LESSONS[0].source.read_text())
    cell = source["cells"][longest_exercise(source)]
    body = cell["source"].split("### BEGIN SOLUTION\n")[1].split("    ### END")[0]
    source["cells"][0]["source"] += "\n" + body
    with pytest.raises(Leak, match="its whole solution"):
        build_release(source)


def test_the_students_wheel_holds_course_and_nothing_else(tmp_path):
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--sdist",
        "--outdir",
        str(tmp_path),
        str(ROOT),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        text = "\n".join(archive.read(n).decode("utf-8", "replace") for n in names)
    folders = {name.split("/")[0] for name in names}
    assert {f for f in folders if not f.endswith(".dist-info")} == {"course"}
    assert not [n for n in names if n.endswith((".pyc", ".md", ".ipynb"))]
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        inside = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert inside <= {"course", "README.md", "LICENSE", "pyproject.toml", "PKG-INFO", ".gitignore"}
    for lesson in LESSONS:
        for line in solution_lines(lesson):
            assert line not in text, line
