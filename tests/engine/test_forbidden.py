"""Forbidden names are found through every ordinary disguise, and nowhere else."""

import time

import pytest

from autograder.engine.doors import doors_as_called, match, operators_of
from autograder.engine.forbidden import forbidden_uses
from autograder.engine.suspicion import suspicions

FORBIDS = ("torch.nn.functional.softmax", "torch.softmax", "torch.Tensor.softmax", "torch.optim")
SETUP = "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n"


def used(body, *helpers, setup=SETUP):
    code = "def answer(x):\n" + "\n".join(f"    {line}" for line in body.split("\n"))
    cells = [("setup", setup), *(("helper", h) for h in helpers), ("answer", code)]
    return [use.name for use in forbidden_uses("answer", FORBIDS, cells, ["answer", "other"])]


@pytest.mark.parametrize(
    "body",
    [
        "return F.softmax(x, -1)",
        "return nn.functional.softmax(x, -1)",
        "return torch.nn.functional.softmax(x, -1)",
        "return torch.softmax(x, -1)",
        "return x.softmax(-1)",
        "return (x * 2).softmax(dim=-1)",
        "return getattr(torch, 'softmax')(x, -1)",
        "f = F.softmax\nreturn f(x, -1)",
        "from torch.nn.functional import softmax as s\nreturn s(x, -1)",
        "import torch.optim as o\nreturn o.Adam([x])",
    ],
)
def test_disguises_are_seen_through(body):
    assert used(body)


def test_helpers_are_followed():
    assert used(
        "return helper(x)",
        "def helper(x):\n    return deeper(x)",
        "deeper = lambda x: F.softmax(x, 0)",
    )
    assert used("return s(x)", setup=SETUP + "from torch.optim import Adam as s\n")


@pytest.mark.parametrize(
    "body",
    [
        "return torch.exp(x) / torch.exp(x).sum()",
        '"""Like F.softmax."""\nreturn x  # not F.softmax(x)',
        "softmax = x.exp()\nreturn softmax / softmax.sum()",
        "return F.log_softmax(x, -1).exp()",
        "return other(x)",
    ],
)
def test_what_is_allowed_is_left_alone(body):
    assert not used(
        body,
        "def other(x):\n    return F.softmax(x, 0)",
        "def unused(x):\n    return F.softmax(x, 0)",
    )


def test_the_line_is_told():
    (use,) = forbidden_uses(
        "f",
        ["torch.softmax"],
        [("f", "import torch\ndef f(x):\n    return torch.softmax(x, 0)")],
        ["f"],
    )
    assert (use.cell, use.line, use.text) == ("f", 3, "return torch.softmax(x, 0)")


@pytest.mark.parametrize(
    "body",
    [
        "return torch.ops.aten._softmax.default(x, -1, False)",
        "return torch._C._VariableFunctions.softmax(x, -1)",
        "return nn.Softmax(-1)(x)",
        "return getattr(F, 'soft' + 'max')(x, -1)",
        "return getattr(F, f'soft{\"max\"}')(x, -1)",
        "return getattr(torch, 'xamtfos'[::-1])(x, -1)",
        "return vars(F)['softmax'](x, -1)",
        "return F.__dict__['soft' 'max'](x, -1)",
        "import sys\nreturn sys.modules['torch'].softmax(x, -1)",
        "return __import__('torch').softmax(x, -1)",
        "import importlib\nreturn importlib.import_module('torch.nn.functional').softmax(x, -1)",
        "return eval('torch.soft' + 'max(x, -1)')",
        "t = torch.nn\nf = t.functional\nreturn f.softmax(x, -1)",
        "u = torch.jit.CompilationUnit('def f(x):\\n    return torch.softmax(x, -1)')\nreturn u.f(x)",
        "import torch._refs as r\nreturn r.softmax(x, -1)",
        "with torch._C.DisableTorchFunction():\n    return x",
        "from autograder.engine import watch\nreturn watch",
    ],
)
def test_every_name_of_a_forbidden_function_is_known(body):
    assert used(body)


def test_helpers_under_if_and_for_are_followed():
    assert used("return h(x)", "if True:\n    def h(x): return F.softmax(x, 0)")
    assert used("return h(x)", "try:\n    pass\nexcept E:\n    h = F.softmax")
    assert used("return h(x)", "for h in [F.softmax]: pass")
    assert used("return softmax(x)", "from torch.nn.functional import *")


@pytest.mark.parametrize(
    "body",
    ["return x" + ".a" * 20_000, "return 1" + "+x" * 2_000, "return " + "f(" * 80 + ")" * 80],
)
def test_code_made_to_slow_us_down_is_read_in_time(body):
    started = time.monotonic()
    assert not used(body)
    assert time.monotonic() - started < 5


def flags(source):
    return [use.name for use in suspicions([("mine", SETUP + source)])]


@pytest.mark.parametrize(
    "source",
    [
        "import sys\ndef f(x): return sys._getframe(1).f_locals",
        "def f(x): return getattr(torch, ''.join(map(chr, [101])))(x)",
        "import gc",
        "torch.relu = F.gelu",
        "setattr(F, 'relu', None)",
        "exec(code)",
        "f = (lambda: 0).__globals__",
        "from autograder.engine import watch",
        "import ctypes",
    ],
)
def test_what_can_only_be_suspected_is_flagged(source):
    assert flags(source)


@pytest.mark.parametrize(
    "source",
    [
        "class M(nn.Module):\n    def f(self, i): return getattr(self, f'layer{i}')",
        "x = getattr(torch, 'ones')(3)",
        "x = torch.ones(3)\nx.requires_grad = True\nx.grad = None",
        "import math, random, functools, dataclasses, typing",
        "m = nn.Linear(2, 3)\nm.bias.data = torch.zeros(3)",
    ],
)
def test_ordinary_code_is_not_flagged(source):
    assert not flags(source)


def test_a_flag_is_printable_and_short():
    (use,) = suspicions([("mine", "import gc  # \x1b[2J" + "x" * 500)])
    assert "\x1b" not in use.text
    assert len(use.text) == 200
    assert (use.name, use.cell, use.line) == ("gc", "mine", 1)


def test_a_method_that_is_only_called_the_same_is_another_function():
    forbids = ("torch.nn.functional.unfold",)
    assert "torch.Tensor.unfold" not in doors_as_called(forbids)
    assert operators_of(forbids).keys() >= {"im2col"}
    assert "unfold" not in operators_of(forbids)
    assert match("torch.nn.Unfold", doors_as_called(forbids)) == forbids[0]
    assert "torch.Tensor.softmax" in doors_as_called(("torch.nn.functional.softmax",))


STAIRS = "\n".join(" " * i + "if 1:" for i in range(90))
SLOW = {
    "stairs of blocks": f"{STAIRS}\n{' ' * 90}" + "answer=a.b;" * 8_000,
    "a chain of names": "import torch as a0\n"
    + "".join(f"a{i}=a{i - 1}.b\n" for i in range(1, 6000)),
    "stars for every helper": "".join(f"from a{i} import *\n" for i in range(2000))
    + "def answer():0\n" * 2000,
    "a name without end": "import " + "a." * 100_000 + "a",
    "many names in one statement": ",".join(f"a{i}" for i in range(12_000)) + "=answer",
}


@pytest.mark.parametrize("name", SLOW)
def test_no_code_keeps_the_grader_busy(name: str) -> None:
    cells = [("own", SLOW[name]), ("answer", "def answer(x): return a1(x)")]
    begun = time.process_time()
    forbidden_uses("answer", ["torch.nn.functional.softmax"], cells, ["answer"])
    suspicions(cells)
    assert time.process_time() - begun < 4


@pytest.mark.parametrize(
    "line",
    ["torch.sys._getframe()", "torch.ctypes.CDLL(None)", "np.ctypeslib.ctypes.CDLL(None)",
     "torch.nn.torch.overrides.handle_torch_function()"],
)  # fmt: skip
def test_what_undoes_the_checks_is_known_by_way_of_other_modules(line: str) -> None:
    cells = [("answer", f"import numpy as np, torch\ndef answer(x):\n    return {line}\n")]
    assert forbidden_uses("answer", ["torch.relu"], cells, ["answer"])
