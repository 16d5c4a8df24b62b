"""The laws hold for every exercise; and when one is broken, validate says so."""

import json
import os
import subprocess
import sys

import pytest

from autograder.engine.outcomes import Outcomes
from autograder.engine.spawner import Policy, Zygote
from autograder.laws.answers import answers_of
from autograder.laws.numbers import numbers_of
from autograder.laws.table import thin_margins
from autograder.laws.validation import validate_lesson
from autograder.lesson import all_lessons
from autograder.spec import Mistake, Variant

LESSONS = all_lessons()
SEED = 2  # one for all, so that our own answers run once for every law; `make validate` takes more
# A worker for each of thousands of mistakes takes most of an hour (`make validate` takes it). Here
# every answer is rehearsed, and every reference, stub and variant, and one mistake in ten, goes
# the whole way that a student's answer goes.
EVERY = 10
LEAST_MISTAKES, LEAST_VARIANTS = 5, 2


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory):
    """Of our own answers, which several tests want, on whichever of xdist's workers they run."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    descriptor = os.open(base / "outcomes", os.O_CREAT | os.O_RDWR, 0o600)
    yield Outcomes(descriptor)
    os.close(descriptor)


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.key)
def test_every_law_holds_the_way_that_students_are_judged(lesson, zygote, outcomes):
    findings = validate_lesson(lesson, zygote, SEED, every=EVERY, outcomes=outcomes)
    broken = [f"{f.exercise}, {f.kind} {f.name!r}: {f.broken}" for f in findings.found if f.broken]
    assert not broken, "\n".join(broken)
    assert {f.kind for f in findings.found} >= {"reference", "stub", "mistake", "variant"}
    assert findings.devices == ["cpu", "fake"]


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.key)
def test_every_law_holds_for_every_answer(lesson, outcomes):
    findings = validate_lesson(lesson, Zygote(Policy()), SEED, rehearse=True, outcomes=outcomes)
    broken = [f"{f.exercise}, {f.kind} {f.name!r}: {f.broken}" for f in findings.found if f.broken]
    assert not broken, "\n".join(broken)
    assert len(findings.found) >= len(list(answers_of(lesson)))


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.key)
def test_no_margin_is_thin(lesson, outcomes):
    thin = list(thin_margins(list(numbers_of(lesson, SEED, outcomes=outcomes))))
    assert not thin, "\n".join(thin)


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.key)
def test_every_exercise_has_mistakes_variants_and_a_device_test(lesson):
    for exercise in lesson.exercises.values():
        assert len(exercise.mistakes) >= LEAST_MISTAKES, exercise.name
        assert len(exercise.variants) >= LEAST_VARIANTS, exercise.name
        assert len({m.name for m in exercise.mistakes}) == len(exercise.mistakes), exercise.name
        for mistake in exercise.mistakes:
            assert 12 < len(mistake.hint) < 400, f"{exercise.name}, {mistake.name}: {mistake.hint}"
    assert "matches_on_device" in lesson.grader_file.read_text()
    assert len(list(answers_of(lesson))) == len({a.key for a in answers_of(lesson)})


def broken_laws(lesson, zygote, name, rehearse):
    return {
        f.broken.split(":")[0]
        for f in validate_lesson(lesson, zygote, 1, only=name, rehearse=rehearse).found
        if f.broken
    }


@pytest.mark.parametrize("rehearse", [False, True])
def test_broken_laws_are_noticed(rehearse, losses, zygote, monkeypatch):
    name = "wasserstein_generator_loss"
    exercise = losses.exercises[name]
    right = losses.reference_source(name)
    harmless = Mistake.written("harmless", right, "Nothing is wrong with it, and so it must show.")
    variant = Variant("wrong", f"def {name}(fake_logits):\n    return fake_logits.mean()\n")
    monkeypatch.setattr(exercise, "mistakes", [harmless])
    monkeypatch.setattr(exercise, "variants", [variant])
    monkeypatch.setattr(exercise, "oracle", lambda fake_logits: fake_logits.mean() * 7)
    assert broken_laws(losses, zygote, name, rehearse) == {"law 3", "law 4", "law 5"}


def test_a_thin_margin_is_noticed(losses, monkeypatch):
    name = "wasserstein_generator_loss"
    barely = f"def {name}(fake_logits):\n    return -fake_logits.mean() * (1 + 3e-9)\n"
    mistake = Mistake.written("barely wrong", barely, "It is off by less than anyone could see.")
    monkeypatch.setattr(losses.exercises[name], "mistakes", [mistake])
    (told, *_) = thin_margins(list(numbers_of(losses, seed=2, only=name)))
    assert "mistake 'barely wrong': nowhere further than 10 bounds from the truth" in told


def test_a_mistake_that_no_longer_fits_is_noticed(losses):
    from autograder.spec.rewrite import RewriteError

    mistake = Mistake("gone", "not in the reference", "x", "hint")
    with pytest.raises(
        RewriteError, match="'gone': its edit of 'not in the reference' matches nowhere"
    ):
        mistake.apply(losses.reference_source("generator_loss"))


def test_the_command_writes_json_and_a_table(tmp_path):
    out = tmp_path / "laws.json"
    command = [
        sys.executable, "-m", "autograder.command", "validate", "ch15_gan/losses", "--exercise",
        "wasserstein_generator_loss", "--seeds", "1", "--jobs", "1", "--json", str(out),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every law holds" in done.stdout
    data = json.loads(out.read_text())
    assert data["broken"] is False
    assert {f["kind"] for one in data["findings"] for f in one["found"]} >= {"mistake", "oracle"}


def test_an_unknown_lesson_is_wrong_usage():
    command = [sys.executable, "-m", "autograder.command", "validate", "ch99_nothing/gone"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert (
        "no lesson is called 'ch99_nothing/gone'; there are: ch03_gradients/derivatives"
        in done.stderr
    )
