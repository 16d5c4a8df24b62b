"""Forbidden names are found through every ordinary disguise, and nowhere else."""

import pytest

from autograder.engine.forbidden import forbidden_uses

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
