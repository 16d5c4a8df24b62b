"""The sandbox holds as root, as an ordinary user, and where there are no namespaces."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autograder.attacks.process import children_of
from autograder.attacks.setting import CANNOT
from autograder.engine.standards import Standards
from autograder.lesson import ROOT, all_lessons

DOORS = (
    r"escape: (TCP|a subprocess|a fork|a user namespace|a mount|killing (the|by|every)|holding|tracing"
    r"|writing (to /tmp|to the checkout|beside)|outliving|changing the gradebook|memory without)"
)
FLOODS = r"resources: (files without|many large|threads (that|without)|ignoring|os._exit|a stack)"
SECRETS = r"reference: reads (the (reference|gradebook|grader's (memory|env))|somebody|inherited)"
FORGERIES = r"channel: (floods|answers (after|with)|says)"
PATTERNS = (DOORS, FLOODS, SECRETS, FORGERIES)


def tried(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "autograder.attacks.setting", *arguments],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=600,
    )  # fmt: skip
    if done.returncode == CANNOT:
        pytest.skip(done.stderr.strip().split("\n")[-1])
    return done


@pytest.mark.parametrize(
    "setting",
    [["--ordinary"], ["--without-namespaces"], ["--ordinary", "--without-namespaces"]],
    ids=["an ordinary user", "without namespaces", "an ordinary user without namespaces"],
)
def test_attacks_are_held_in_every_setting(setting):
    done = tried(*setting, *PATTERNS)
    assert done.stdout, done.stderr
    told = json.loads(done.stdout)
    broken = {a["attack"]: a["broken"] for a in told["attacks"] if not a["held"]}
    assert not broken
    assert len(told["attacks"]) > 30
    assert (told["user"] != 0) == ("--ordinary" in setting or os.getuid() != 0)
    if "--without-namespaces" in setting:
        assert set(told["missing"]) == {"namespaces", "private scratch"}
    for layer in ("no_new_privs", "rlimits", "landlock", "seccomp"):
        assert any(layer in name for name in told["in force"])


def test_a_kernel_without_a_required_layer_refuses_to_grade():
    done = tried("--without-landlock", "escape: TCP")
    assert done.returncode == 1
    assert (
        "required sandbox layers are missing: landlock (this kernel has no Landlock)" in done.stderr
    )
    assert "--without-layer landlock" in done.stderr
    assert not done.stdout


def test_a_worker_inherits_nothing_from_the_zygote_that_others_could_read(zygote):
    inner = children_of_one(zygote)
    worker = zygote.fork(megabytes=64)
    try:
        maps = Path(f"/proc/{inner}/maps").read_text()
        shared = [line for line in maps.split("\n") if line.split()[1:2] and "w" in line.split()[1]
                  and line.split()[1].endswith("s")]  # fmt: skip
        assert not shared, "what one worker writes there, the next one reads"
        held = {str(p.readlink()) for p in Path(f"/proc/{inner}/fd").iterdir()}
        kinds = {name.split(":")[0] for name in held if not name.startswith("/dev/null")}
        assert kinds <= {"socket", "pipe", "/dev/pts/0"} or len(kinds) <= 2, held
    finally:
        worker.end()
    assert not children_of(zygote)


def children_of_one(zygote):
    outer = zygote._process.pid
    below = Path(f"/proc/{outer}/task/{outer}/children")
    children = below.read_text().split() if below.exists() else []
    return children[0] if children else outer


@pytest.mark.parametrize("lesson", all_lessons(), ids=lambda lesson: lesson.key)
def test_what_is_sent_to_workers_holds_no_reference_and_no_mistake(lesson):
    if not lesson.grader_file.exists() or not lesson.reference_file.exists():
        pytest.skip("the lesson has no grader yet")
    standards = Standards(lesson, 5)
    told = lesson.reference_file.read_text(encoding="utf-8").split("\n")
    lines = {
        line.strip().encode() for line in told if len(line.strip()) > 40 and "import" not in line
    }
    for exercise in lesson.exercises.values():
        for case in exercise.cases:
            sent = standards.scenario(case)
            assert b"autograder.spec.rewrite" not in sent
            assert b"solutions." not in sent
            assert not [line for line in lines if line in sent], (exercise.name, case.title)
            for mistake in exercise.mistakes:
                assert mistake.hint.encode() not in sent, (exercise.name, case.title)
