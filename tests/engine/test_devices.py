"""Device mistakes are caught and named without a GPU, and right answers are not refused."""

import sys
import textwrap

import pytest

from autograder.engine.assessor import Job
from autograder.engine.notebook import RunnableCell
from autograder.engine.session import Session
from autograder.engine.verdict import FAILED, UNJUDGED
from autograder.lesson import Lesson

SETUP = "import numpy as np\nimport torch\nfrom torch import Tensor, nn\n"
ANSWERS = {
    "centre": '''
        def centre(x, keep):
            kept = torch.where(keep, x, torch.zeros_like(x))
            return kept - kept.mean(0)
        ''',
    "Scale": '''
        class Scale(nn.Module):
            def __init__(self, features):
                super().__init__()
                self.register_buffer("factor", torch.arange(1.0, features + 1))

            def forward(self, x):
                return x * self.factor
        ''',
    "drop": '''
        def drop(x, p):
            return x * (torch.rand_like(x) >= p)
        ''',
}  # fmt: skip
GRADER = '''
import torch

from autograder.spec import Case, Exercise


def on(impl, x, keep):
    return impl(x, keep)


def scaled(impl, x):
    return impl(x.shape[1]).to(x)(x)


def dropped(impl, x, p):
    return impl(x, p)


def facts(outcome, inputs):
    return {"what is kept is kept": bool(((outcome == 0) | (outcome == inputs["x"])).all())}


def both(name, case, observed=None):
    exercise = Exercise(name)

    @exercise.test(points=2, cases=[case])
    def test_formula(submission, case):
        """Follows the formula"""
        submission.matches_reference(case)

    @exercise.test(points=1, cases=[case])
    def test_device(submission, case):
        """Follows the device"""
        submission.matches_on_device(case)

    return exercise, test_formula, test_device


def data(make):
    return dict(x=make.away_from_zero(5, 3))


centre, test_centre, test_centre_device = both(
    "centre", Case("rows", on, lambda make: dict(**data(make), keep=make.boolean(5, 3))))
Scale, test_scale, test_scale_device = both("Scale", Case("rows", scaled, data))
drop, test_drop, test_drop_device = both(
    "drop", Case("rows", dropped, lambda make: dict(**data(make), p=0.3), observe=facts))
'''

PLANTED = [
    ("centre", "torch.zeros_like(x)", "torch.zeros(5, 3, dtype=x.dtype)", "tensor made on the CPU"),
    ("centre", "kept.mean(0)", "torch.ones(1, 5, dtype=x.dtype) @ kept / 5", "tensor made on the CPU"),
    ("centre", "keep, x", "keep.cpu(), x", "tensor made on the CPU"),
    ("centre", "return kept - kept.mean(0)",
     "rows = torch.tensor([0, 1, 2, 3, 4])\n    return kept.index_select(0, rows) - kept.mean(0)",
     "tensor made on the CPU"),
    ("centre", "return kept - kept.mean(0)",
     "out = torch.zeros(5, 3, dtype=x.dtype)\n    out += kept - kept.mean(0)\n    return out",
     "tensor made on the CPU"),
    ("centre", "return kept - kept.mean(0)", "return (kept - kept.mean(0)).cpu()",
     "result left on the CPU"),
    ("centre", "kept.mean(0)", "torch.from_numpy(kept.numpy().mean(0))", "NumPy in the middle"),
    ("centre", "kept.mean(0)", "torch.as_tensor(np.mean(np.asarray(kept), 0))", "NumPy in the middle"),
    ("centre", "return kept - kept.mean(0)",
     "a = kept.detach().cpu().numpy()\n    return torch.from_numpy(a - a.mean(0))",
     "result left on the CPU"),
    ("drop", "torch.rand_like(x)", "torch.rand(x.shape)", "tensor made on the CPU"),
    ("drop", "torch.rand_like(x)",
     "torch.rand(x.shape, generator=torch.Generator().manual_seed(0), device=x.device)",
     "random numbers from another device"),
    ("drop", "torch.rand_like(x)",
     "torch.empty_like(x).uniform_(generator=torch.Generator().manual_seed(0))",
     "random numbers from another device"),
    ("Scale", 'self.register_buffer("factor", torch.arange(1.0, features + 1))',
     "self.factor = torch.arange(1.0, features + 1)", "tensor made on the CPU"),
    ("Scale", 'self.register_buffer("factor", torch.arange(1.0, features + 1))',
     "self.factors = [torch.tensor([k + 1.0]) for k in range(features)]\n"
     "        self.factor = torch.cat(self.factors)", "tensor made on the CPU"),
]  # fmt: skip
HARD_CODED = [
    ("centre", "torch.zeros_like(x)", "torch.zeros(5, 3, dtype=x.dtype, device='cuda')"),
    ("centre", "torch.where(keep, x,", "torch.where(keep, x.cuda(),"),
    ("drop", "torch.rand_like(x)", "torch.rand(x.shape, device='cuda:0')"),
    ("Scale", "return x * self.factor", "return x * self.factor.to('cuda')"),
]
DTYPES = [
    ("centre", "kept.mean(0)", "torch.ones(1, 5) @ kept.float() / 5"),
    ("centre", "torch.zeros_like(x)", "torch.zeros(5, 3, dtype=torch.float64)"),
]
RIGHT = [
    ("centre", "torch.zeros_like(x)", "torch.tensor(0.0, dtype=x.dtype)"),
    ("centre", "torch.zeros_like(x)", "torch.zeros(5, 3, dtype=x.dtype).to(x.device)"),
    ("centre", "kept.mean(0)", "torch.full((1, 5), 0.2, dtype=x.dtype, device=x.device) @ kept"),
    ("centre", "return kept - kept.mean(0)", "return (kept.cpu() - kept.cpu().mean(0)).to(x)"),
    ("centre", "kept.mean(0)", "torch.from_numpy(kept.cpu().numpy().mean(0)).to(x.device)"),
    ("centre", "kept.mean(0)", "sum(kept[i] for i in range(len(kept))) / len(kept)"),
    ("drop", "torch.rand_like(x)", "torch.rand(x.shape).to(x.device)"),
    ("drop", "torch.rand_like(x)",
     "torch.rand(x.shape, generator=torch.Generator(device=x.device).manual_seed(0), device=x.device)"),
    ("Scale", 'self.register_buffer("factor", torch.arange(1.0, features + 1))',
     "self.factor = nn.Parameter(torch.arange(1.0, features + 1), requires_grad=False)"),
    ("Scale", "return x * self.factor",
     "return x * torch.arange(1, x.shape[1] + 1, device=x.device, dtype=x.dtype)"),
]  # fmt: skip


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    import autograder.graders
    import solutions

    root = tmp_path_factory.mktemp("devices")
    it = Lesson("ch97_devices", "moving", root)
    reference = SETUP + "\n\n".join(textwrap.dedent(answer) for answer in ANSWERS.values())
    files = {it.reference_file: reference, it.grader_file: GRADER}
    with pytest.MonkeyPatch.context() as patch:
        for (file, text), package in zip(
            files.items(), (solutions, autograder.graders), strict=True
        ):
            file.parent.mkdir(parents=True)
            file.write_text(text)
            # pytest finds the module's dotted name by these, and so the module that we know.
            for folder in list(file.parents)[: list(file.parents).index(root)]:
                (folder / "__init__.py").write_text("")
            patch.setattr(package, "__path__", [*package.__path__, str(file.parent.parent)])
        yield it
    for name in [name for name in sys.modules if "ch97_devices" in name]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def judged(lesson, zygote):
    """Every answer of this file, judged in one session: results by (exercise, old, new)."""
    edits = [*(planted[:3] for planted in PLANTED), *HARD_CODED, *DTYPES, *RIGHT]
    jobs = {}
    for name, old, new in edits:
        source = textwrap.dedent(ANSWERS[name])
        assert source.count(old) == 1, old
        cells = (RunnableCell("setup", SETUP), RunnableCell(name, source.replace(old, new), name))
        jobs[name, old, new] = Job(f"{name} {new}", cells, frozenset({name}))
    results = {}
    session = Session(lesson, zygote, seed=5)
    session.grade(jobs.values(), lambda job, v: results.update({job.key: v.exercises[0]}))
    return lambda name, new: results[f"{name} {new}"]


@pytest.mark.parametrize(("name", "new", "slip"), [(n, new, slip) for n, _, new, slip in PLANTED])
def test_a_device_mistake_costs_the_device_test_and_is_named(name, new, slip, judged):
    result = judged(name, new)
    assert result.mistake == slip, result
    assert result.score == 2, "the formula is right, and keeps its points"
    assert [t.outcome for t in result.tests if t.device == "fake"] == [FAILED]


@pytest.mark.parametrize(("name", "new"), [(name, new) for name, _, new in HARD_CODED])
def test_a_hard_coded_device_runs_nowhere_else(name, new, judged):
    result = judged(name, new)
    assert result.score == 0, "it does not even run on a machine without a GPU"
    assert result.mistake == "device hard-coded", result


@pytest.mark.parametrize(("name", "new"), [(name, new) for name, _, new in DTYPES])
def test_a_dtype_of_its_own_is_caught_on_the_cpu(name, new, judged):
    assert judged(name, new).score < 3


@pytest.mark.parametrize(("name", "new"), [(name, new) for name, _, new in RIGHT])
def test_a_right_answer_keeps_its_points(name, new, judged):
    result = judged(name, new)
    assert result.score == result.max_score, result
    assert all(t.outcome != UNJUDGED or t.device == "fake" for t in result.tests)
