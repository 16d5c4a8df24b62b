"""Whole submissions: what earns points, what is said, and that one bad exercise costs only itself."""

import os

import pytest

from autograder.engine.assessor import Job
from autograder.engine.grading import Plan
from autograder.engine.judge import Judge
from autograder.engine.notebook import RunnableCell
from autograder.engine.session import Session
from autograder.engine.verdict import ExerciseResult, Verdict
from autograder.lesson import find_lesson


def result_of(verdict: Verdict, exercise: str) -> ExerciseResult:
    return next(e for e in verdict.exercises if e.name == exercise)


def test_a_right_submission_gets_full_marks(fill, grade):
    verdict = grade(fill())
    assert verdict.score == verdict.max_score > 0
    assert all(e.mistake is None and not e.flags for e in verdict.exercises)
    assert verdict.devices == ["cpu", "fake"]


def test_options_that_somebody_sets_for_their_own_tests_are_not_ours(fill, grade, monkeypatch):
    monkeypatch.setenv("PYTEST_ADDOPTS", "-v --no-such-option")
    verdict = grade(fill())
    assert verdict.score == verdict.max_score
    assert os.environ["PYTEST_ADDOPTS"] == "-v --no-such-option"


def test_the_untouched_release_gets_nothing(losses, fill, grade):
    verdict = grade(fill(**dict.fromkeys(Plan(losses).stubs)))
    assert verdict.score == 0
    assert all("not written yet" in t.message for e in verdict.exercises for t in e.tests)


def test_only_the_wrong_exercise_loses_points(fill, grade):
    wrong = "def hinge_generator_loss(fake_logits):\n    return fake_logits.mean()\n"
    verdict = grade(fill(hinge_generator_loss=wrong))
    assert {e.name for e in verdict.exercises if e.score < e.max_score} == {"hinge_generator_loss"}
    assert result_of(verdict, "hinge_generator_loss").mistake


def test_bad_cells_cost_only_their_own_points(fill, grade):
    bad = {
        "discriminator_loss": "def discriminator_loss(real_logits, fake_logits)\n    return 1",
        "generator_loss": "import module_that_is_not_there\n\ndef generator_loss(x):\n    return x",
        "hinge_generator_loss": "def hinge_generator_loss(fake_logits):\n    import os\n    os._exit(0)",
        "wasserstein_generator_loss": "raise SystemExit('no')",
        "hinge_discriminator_loss": "del hinge_discriminator_loss",
    }
    verdict = grade(fill(**bad))
    lost = {e.name for e in verdict.exercises if e.score < e.max_score}
    assert lost == set(bad)
    assert "SyntaxError" in result_of(verdict, "discriminator_loss").tests[0].message
    assert (
        "No module named 'module_that_is_not_there'" in result_of(verdict, "generator_loss").error
    )
    assert "ended the Python process" in result_of(verdict, "hinge_generator_loss").tests[0].message


def test_a_hanging_cell_is_left_out_and_the_rest_is_judged(fill, grade, monkeypatch):
    monkeypatch.setattr("autograder.engine.judge.CELL_SECONDS", 2.0)
    verdict = grade(fill(wasserstein_critic_loss="while True:\n    pass"))
    assert result_of(verdict, "wasserstein_critic_loss").score == 0
    assert "took longer than 2 s" in result_of(verdict, "wasserstein_critic_loss").tests[0].message
    assert (
        verdict.score == verdict.max_score - result_of(verdict, "wasserstein_critic_loss").max_score
    )


def test_a_deleted_cell_says_so(fill, grade):
    notebook = fill()
    notebook["cells"] = [
        c
        for c in notebook["cells"]
        if c["metadata"].get("nbgrader", {}).get("grade_id") != "generator_loss"
    ]
    result = result_of(grade(notebook), "generator_loss")
    assert result.score == 0
    assert "No cell defines `generator_loss`" in result.tests[0].message


def test_the_students_error_is_cut_to_their_own_lines(fill, grade):
    source = (
        "def generator_loss(fake_logits):\n"
        "    shape = fake_logits.shape\n"
        "    return fake_logits.reshape(10_007, 3).mean()\n"
    )
    result = result_of(grade(fill(generator_loss=source)), "generator_loss")
    assert "generator_loss, line 3, in generator_loss: return fake_logits.reshape" in result.error
    for secret in ("/", "autograder", "scenario", "worker"):
        assert secret not in result.error.replace("10_007", "")


@pytest.mark.parametrize(
    "line",
    [
        "return torch.nn.functional.dropout(x, p, training), None",
        "hidden = getattr(torch.nn.functional, 'drop' + 'out')(x, p, training)",
    ],
    ids=["in the code", "only as it runs"],
)
def test_a_forbidden_call_costs_the_exercise(zygote, line):
    lesson = find_lesson("ch08_training/dropout")
    plan = Plan(lesson)
    right = next(c.source for c in plan.cells if c.exercise == "dropout_forward")
    cells = [
        RunnableCell("setup", next(c.source for c in plan.cells if c.role == "setup")),
        RunnableCell(
            "dropout_forward",
            right.replace("### BEGIN SOLUTION", line).replace("    ### END SOLUTION", ""),
            "dropout_forward",
        ),
    ]
    verdicts = []
    job = Job("it", tuple(cells), frozenset({"dropout_forward"}))
    Session(lesson, zygote, 5).grade([job], lambda _, verdict: verdicts.append(verdict))
    result = result_of(verdicts[0], "dropout_forward")
    assert result.score == 0
    assert (
        "`torch.nn.functional.dropout`, which this exercise asks you to write"
        in result.tests[0].message
    )
    if "getattr" not in line:
        assert any("line" in flag for flag in result.flags)


def test_warnings_prints_and_stderr_on_a_right_answer_cost_nothing(losses, fill, grade):
    right = next(c.source for c in Plan(losses).cells if c.exercise == "generator_loss")
    noisy = right.replace(
        "### BEGIN SOLUTION",
        "import sys, warnings; warnings.warn('careful'); print('x' * 100_000); print(1, file=sys.stderr)",
    )
    verdict = grade(fill(generator_loss=noisy))
    assert verdict.score == verdict.max_score


def test_cheats_gain_nothing(fill, grade):
    cheats = [
        "import torch\ntorch.allclose = lambda *a, **k: True\ntorch.equal = torch.allclose\n"
        "def generator_loss(x):\n    return x.sum() * 0\n",
        "class Yes(float):\n    def __eq__(self, o): return True\n    def __sub__(self, o): return 0.0\n"
        "def generator_loss(x):\n    return Yes(0)\n",
        "import torch\nclass T(torch.Tensor):\n    @classmethod\n"
        "    def __torch_function__(cls, f, t, a=(), k=None): return True\n"
        "def generator_loss(x):\n    return torch.zeros(()).as_subclass(T)\n",
        "def generator_loss(x):\n    return x.new_tensor(float('nan'))\n",
    ]
    for cheat in cheats:
        result = result_of(grade(fill(generator_loss=cheat)), "generator_loss")
        assert result.score == 0, cheat


def test_a_cpu_tensor_made_inside_is_caught_without_a_gpu(fill, grade):
    source = (
        "def generator_loss(fake_logits):\n"
        "    zeros = torch.zeros(fake_logits.shape, dtype=fake_logits.dtype)\n"
        "    return nn.functional.softplus(zeros - fake_logits).mean()\n"
    )
    result = result_of(grade(fill(generator_loss=source)), "generator_loss")
    failed = [t for t in result.tests if t.outcome == "failed"]
    assert {t.device for t in failed} == {"fake"}
    assert "same device" in failed[0].message
    assert failed[0].message.endswith("(with inputs on a GPU)")
    assert result.mistake


def test_code_that_looks_at_values_is_not_judged_and_not_punished(fill, grade):
    source = (
        "def generator_loss(fake_logits):\n"
        "    if bool((fake_logits > 0).all()):\n"
        "        return nn.functional.softplus(-fake_logits).mean()\n"
        "    return nn.functional.softplus(-fake_logits).mean()\n"
    )
    result = result_of(grade(fill(generator_loss=source)), "generator_loss")
    assert result.score == result.max_score
    assert {t.outcome for t in result.tests} == {"passed", "not judged"}


def test_a_later_exercise_is_judged_with_a_correct_earlier_one(zygote):
    lesson = find_lesson("ch07_optimization/adam")
    plan = Plan(lesson)
    wrong = {"adam_step": "def adam_step(param, grad, m, v, t, **_):\n    return param, m, v\n"}
    cells = [RunnableCell("setup", c.source) for c in plan.cells if c.role == "setup"] + [
        RunnableCell(c.exercise, wrong.get(c.exercise, c.source), c.exercise)
        for c in plan.cells
        if c.role == "exercise"
    ]
    verdicts = []
    job = Job("it", tuple(cells), frozenset({"adam_step", "adamw_step"}))
    Session(lesson, zygote, 5).grade([job], lambda _, verdict: verdicts.append(verdict))
    assert result_of(verdicts[0], "adam_step").score < 1
    later = result_of(verdicts[0], "adamw_step")
    assert later.score == later.max_score
    assert later.stood_in == ["adam_step"]
    assert later.note == (
        "Your `adam_step` is not right yet, so this was judged with a correct one in its place."
    )


def test_what_leans_on_what_hangs_does_not_wait_for_it_again(losses, zygote, fill, monkeypatch):
    hangs = "def hinge_generator_loss(fake_logits):\n    while True:\n        pass\n"
    leans = "def wasserstein_generator_loss(fake_scores):\n    return hinge_generator_loss(fake_scores)\n"
    notebook = fill(hinge_generator_loss=hangs, wasserstein_generator_loss=leans)
    names = frozenset({"hinge_generator_loss", "wasserstein_generator_loss"})
    without = []
    run = Judge.run

    def noted(self, exercise, *given):
        if not self.stand_ins:
            without.append(exercise.name)
        return run(self, exercise, *given)

    monkeypatch.setattr(Judge, "run", noted)
    verdicts = []
    job = Job("it", Plan(losses).job("it", notebook).cells, names)
    Session(losses, zygote, 5).grade([job], lambda _, verdict: verdicts.append(verdict))
    assert {*without} == {"hinge_generator_loss"}
    assert result_of(verdicts[0], "hinge_generator_loss").score == 0.0
    later = result_of(verdicts[0], "wasserstein_generator_loss")
    assert later.score == later.max_score
    assert later.stood_in == ["hinge_generator_loss"]
    assert verdicts[0].dtypes["cpu"] == ["float32", "float64"]


@pytest.mark.parametrize("elsewhere", ["", "def adamw_step(*a, **k): return adam_step(*a, **k)"])
def test_what_is_not_written_is_not_judged_again(elsewhere, zygote, monkeypatch):
    lesson = find_lesson("ch07_optimization/adam")
    plan = Plan(lesson)
    cells = [RunnableCell("setup", c.source) for c in plan.cells if c.role == "setup"]
    cells += [RunnableCell(name, plan.stubs[name], name) for name in ("adam_step", "adamw_step")]
    cells.append(RunnableCell("own", elsewhere))
    again = []
    judge = Judge.with_stand_ins
    monkeypatch.setattr(
        Judge, "with_stand_ins", lambda self, names: again.append(names) or judge(self, names)
    )
    job = Job("it", tuple(cells), frozenset({"adam_step", "adamw_step"}))
    Session(lesson, zygote, 5).grade([job], lambda *_: None)
    assert again == ([{"adam_step"}] if elsewhere else [])


def test_the_reference_never_stands_in(zygote):
    """The stand-in is the oracle, so that no reference's source enters a student's process."""
    lesson = find_lesson("ch07_optimization/adam")
    standards = Session(lesson, zygote, 5).standards
    told = standards.stand_in("adam_step")
    assert b"torch.optim" in told or b"optim" in told
    for line in lesson.reference_source("adam_step").split("\n")[-6:]:
        assert not line.strip() or line.strip().encode() not in told


@pytest.mark.parametrize(
    ("body", "name"),
    [("loss = fake_logits.mean()", "nothing returned"), ("return None.mean()", None)],
)
def test_a_none_of_ones_own_is_no_missing_return(fill, grade, body, name):
    source = (
        f"def wasserstein_generator_loss(fake_scores):\n    fake_logits = fake_scores\n    {body}\n"
    )
    result = result_of(grade(fill(wasserstein_generator_loss=source)), "wasserstein_generator_loss")
    assert result.score == 0
    assert result.mistake == name


RELU_BACKWARD = {
    "a class of one's own": (
        "class Relu:\n    def __init__(self, x):\n        self.x = x\n"
        "    def backward(self, g):\n        return g * (self.x > 0)\n"
        "def relu_backward(grad_y, x):\n    return Relu(x).backward(grad_y)\n",
        True,
    ),
    "tensors copied, pickled and read from NumPy": (
        "import copy, pickle\nimport numpy as np\n"
        "def relu_backward(grad_y, x):\n    g = copy.deepcopy(grad_y)\n    pickle.dumps(x)\n"
        "    torch.from_numpy(np.zeros(3))\n    return g * (x > 0)\n",
        True,
    ),
    "autograd behind a class of one's own": (
        "class Relu:\n    def backward(self):\n        pass\n"
        "def relu_backward(grad_y, x):\n    y = x.detach().clone().requires_grad_(True)\n"
        "    y.relu().backward(grad_y)\n    return y.grad\n",
        False,
    ),
}


@pytest.mark.parametrize("how", RELU_BACKWARD)
def test_whose_backward_it_is_the_run_tells(zygote, how):
    source, is_honest = RELU_BACKWARD[how]
    lesson = find_lesson("ch06_mlp/backprop")
    setup = next(c.source for c in Plan(lesson).cells if c.role == "setup")
    cells = RunnableCell("setup", setup), RunnableCell("relu_backward", source, "relu_backward")
    verdicts = []
    job = Job("it", cells, frozenset({"relu_backward"}))
    Session(lesson, zygote, 5).grade([job], lambda _, verdict: verdicts.append(verdict))
    result = result_of(verdicts[0], "relu_backward")
    if is_honest:
        assert result.score == result.max_score > 0
    else:
        assert result.score == 0
        assert "`torch.Tensor.backward`" in result.tests[0].message
