"""Data of several parts, networks of several branches and heads, callbacks, and a model that fits.

Training is judged from given parameters, in the order of the examples, so that every figure can be
compared; a random order is judged by what it must keep: every example once, each time in another
order.
"""

# ruff: noqa: ARG001, ARG002 - callbacks, metrics and scenarios are handed more than some of them need

from typing import Any

import torch
from torch import nn

from autograder.spec import (
    Case,
    Exercise,
    Mistake,
    Variant,
    gradients,
    load_parameters,
    raised,
)
from autograder.spec.tables import edits

ONE = (torch.float64,)


def apply(impl, **inputs):
    return impl(**inputs)


def of_examples(n, **shapes):
    return lambda make: {"data": {name: make.normal(n, *shape) for name, shape in shapes.items()}}


# ---------------------------------------------------------------- count_examples


def count_by_shape(data):
    firsts = [t.shape[0] for t in (data.values() if isinstance(data, dict) else (data,))]
    if min(firsts) != max(firsts):
        raise ValueError(firsts)
    return firsts[0]


def miscounted(impl, data):
    first, second = data["first"], data["second"]
    return {
        "two tensors": raised(lambda: impl({"first": first, "second": second[1:]}), ValueError),
        "three tensors": raised(
            lambda: impl({"first": first, "second": second, "third": first[:-1]}), ValueError
        ),
        "the same number": raised(lambda: impl({"first": first, "second": second}), ValueError),
    }


TENSORS, CHECK = "list(data.values()) if isinstance(data, dict) else [data]", "len(counts) != 1"

count_examples = Exercise(
    "count_examples",
    oracle=count_by_shape,
    mistakes=edits([
        ("names counted", TENSORS, "[data]",
         "The length of a dict is its number of names. Look at the tensors that it holds."),
        ("numbers counted", "len(tensor) for", "tensor.numel() for",
         "Count the examples, the first dimension, not all the numbers."),
        ("last dimension", "len(tensor) for", "tensor.shape[-1] for",
         "Examples are counted along the *first* dimension."),
        ("not compared", CHECK, "False",
         "Tensors that belong together have the same number of examples: raise a ValueError where "
         "they do not."),
        ("the first two compared", TENSORS, TENSORS.replace("values())", "values())[:2]"),
         "There may be more than two tensors: compare all of them."),
        ("whole shapes compared", "len(tensor) for tensor in tensors}\n    if len(counts) != 1",
         "len(tensor) for tensor in tensors}\n    if len({t.shape for t in tensors}) != 1",
         "Only the first dimensions have to agree: the others may differ from tensor to tensor."),
        ("another error", "raise ValueError(", "raise AssertionError(",
         "A wrong argument is a ValueError; an assertion raises another error."),
        ("added up", "return counts.pop()", "return counts.pop() * len(tensors)",
         "The tensors of a dict describe the *same* examples: they are not added up."),
        ("none taken for an error", CHECK, "len(counts) != 1 or 0 in counts",
         "No examples at all is a number too: the tensors agree on it, so return 0."),
    ]),
    variants=[
        Variant("checked one by one", """
            def count_examples(data):
                if not isinstance(data, dict):
                    return data.shape[0]
                n = None
                for t in data.values():
                    if n is not None and t.size(0) != n:
                        raise ValueError("tensors of different lengths")
                    n = t.size(0)
                return n
        """),
        Variant("first against all", """
            def count_examples(data):
                if torch.is_tensor(data):
                    return len(data)
                first = len(next(iter(data.values())))
                if not all(len(t) == first for t in data.values()):
                    raise ValueError(first)
                return first
        """),
    ],
)  # fmt: skip


@count_examples.test(
    points=0.5,
    cases=[
        Case("a matrix", apply, lambda make: {"data": make.normal(7, 3)}, dtypes=ONE),
        Case("three tensors", apply, of_examples(5, a=(2,), b=(), c=(3, 4)), dtypes=ONE),
        Case("no examples", apply, of_examples(0, a=(2,), b=()), dtypes=ONE),
        Case("different numbers", miscounted, of_examples(4, first=(2,), second=(3,)), dtypes=ONE),
    ],
)
def test_count_examples_counts_or_complains(submission, case):
    """Counts the examples, and complains where tensors differ"""
    submission.matches_reference(case)


# ---------------------------------------------------------------- select


def select_by_index_select(data, index):
    if isinstance(data, dict):
        return {k: v.index_select(0, index) for k, v in data.items()}
    return data.index_select(0, index)


def selected(impl, data, index):
    found = impl(data, index)
    return {"names": sorted(found) if isinstance(found, dict) else "none", "data": found}


def picks(data, *index):
    return lambda make: {**data(make), "index": torch.tensor(index)}


def one_tensor(*shape):
    return lambda make: {"data": make.normal(*shape)}


PICKS = [
    Case("a matrix", selected, picks(one_tensor(6, 6), 4, 0, 3)),
    Case("labels", selected, lambda make: {"data": make.integers(0, 9, 8),
                                           "index": torch.tensor([7, 2, 2, 5])}),
    Case("several tensors", selected, picks(of_examples(5, a=(5,), b=(), c=(5, 2)), 3, 1, 4, 0)),
    Case("an example more than once", selected, picks(of_examples(4, a=(4,), b=(4,)), 2, 2, 0, 2)),
]  # fmt: skip
EACH, WHOLE = "{name: tensor[index] for name, tensor in data.items()}", "return data[index]"

select = Exercise(
    "select",
    oracle=select_by_index_select,
    mistakes=[Mistake.edits_of(name, changes, hint) for name, changes, hint in [
        ("the first ones", [("tensor[index]", "tensor[: len(index)]"),
                            (WHOLE, "return data[: len(index)]")],
         "`index` says which examples to take: not the first ones, and not in their own order."),
        ("in ascending order", [("tensor[index]", "tensor[index.sort().values]"),
                                (WHOLE, "return data[index.sort().values]")],
         "The examples come in the order of `index`, which need not rise."),
        ("each once", [("tensor[index]", "tensor[torch.unique(index)]"),
                       (WHOLE, "return data[torch.unique(index)]")],
         "An example may be taken more than once, and in any order."),
        ("tensors only", [("if isinstance(data, dict):", "if False:")],
         "The data may be a dict of tensors: take the examples of each of them."),
        ("a list of tensors", [(EACH, "[tensor[index] for tensor in data.values()]")],
         "The names are lost: return a dict with the same ones."),
        ("one tensor of several", [(f"return {EACH}", f"return dict(list({EACH}.items())[:1])")],
         "Every tensor of the dict is needed."),
        ("in place", [(f"return {EACH}", f"data.update({EACH})\n        return data")],
         "The caller's dict is changed, and the other examples are lost: make a new dict."),
        ("along the last dimension", [("tensor[index]", "tensor[..., index]"),
                                      (WHOLE, "return data[..., index]")],
         "Examples are along the *first* dimension."),
        ("back to front", [("tensor[index]", "tensor[index].flip(0)"),
                           (WHOLE, "return data[index].flip(0)")],
         "The examples come in the order of `index`, not the other way round."),
    ]],
    variants=[
        Variant("recursively", """
            def select(data, index):
                if torch.is_tensor(data):
                    return torch.index_select(data, 0, index)
                return {name: select(part, index) for name, part in data.items()}
        """),
        Variant("stacked rows", """
            def select(data, index):
                def rows(t):
                    return torch.stack([t[i] for i in index])
                return {k: rows(t) for k, t in data.items()} if type(data) is dict else rows(data)
        """),
    ],
)  # fmt: skip


@select.test(points=0.75, cases=PICKS)
def test_select_takes_examples(submission, case):
    """Takes the examples that are named, in their order"""
    submission.matches_reference(case)


@select.test(points=0.25, cases=[PICKS[0]])
def test_select_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- join


def join_by_copying(parts):
    if isinstance(parts[0], dict):
        return {name: join_by_copying([part[name] for part in parts]) for name in parts[0]}
    whole = parts[0].new_empty(sum(len(p) for p in parts), *parts[0].shape[1:])
    return whole.copy_(torch.vstack([p.reshape(len(p), -1) for p in parts]).reshape(whole.shape))


def joined(impl, parts):
    found = impl(parts)
    return {"names": sorted(found) if isinstance(found, dict) else "none", "data": found}


def parted(*sizes, shape=(3,), names=()):
    def draw(make):
        def part(i, n):
            order = names if i % 2 == 0 else names[::-1]
            return {name: make.normal(n, *shape) for name in order}

        if not names:
            return {"parts": [make.normal(n, *shape) for n in sizes]}
        return {"parts": [part(i, n) for i, n in enumerate(sizes)]}

    return draw


PARTS = [
    Case("three batches", joined, parted(3, 3, 2)),
    Case("batches of numbers", joined, parted(4, 1, shape=())),
    Case("images", joined, parted(2, 2, 2, shape=(2, 2, 2))),
    Case("batches with names", joined, parted(3, 2, shape=(3,), names=("b", "a"))),
    Case("one batch with names", joined, parted(4, shape=(2,), names=("only", "two"))),
]
BY_NAME = "{name: torch.cat([part[name] for part in parts]) for name in parts[0]}"
ALL = "return torch.cat(list(parts))"

join = Exercise(
    "join",
    oracle=join_by_copying,
    mistakes=[Mistake.edits_of(name, changes, hint) for name, changes, hint in [
        ("stacked", [("torch.cat([", "torch.stack(["), (ALL, "return torch.stack(list(parts))")],
         "Stacking makes a new dimension. The batches go one behind the other, along the first."),
        ("side by side", [("part in parts])", "part in parts], dim=-1)"),
                          (ALL, "return torch.cat(list(parts), dim=-1)")],
         "The batches are joined along the first dimension, that of the examples."),
        ("last batch left out", [("for part in parts]", "for part in parts[: len(parts) - 1 or 1]]"
                                  ), (ALL, "return torch.cat(list(parts)[: len(parts) - 1 or 1])")],
         "The last batch is missing."),
        ("last batch alone", [("torch.cat([part[name] for part in parts])", "parts[-1][name]"),
                              (ALL, "return parts[-1]")],
         "All batches are wanted, not only the last one."),
        ("back to front", [("for part in parts]", "for part in reversed(parts)]"),
                           (ALL, "return torch.cat(list(reversed(parts)))")],
         "The batches are joined in the order in which they come."),
        ("tensors only", [("if isinstance(parts[0], dict):", "if False:")],
         "The batches may be dicts of tensors: join those of each name."),
        ("by position", [(BY_NAME, "{name: torch.cat([list(part.values())[i] for part in parts]) "
                          "for i, name in enumerate(parts[0])}")],
         "The names may be in another order in each batch: look tensors up by name."),
        ("a list of batches", [(BY_NAME, BY_NAME.replace("torch.cat(", "list("))],
         "A list of tensors is left under each name: put them together."),
        ("a list of tensors", [(BY_NAME, f"list({BY_NAME}.values())")],
         "The names are lost: return a dict with the same ones."),
    ]],
    variants=[
        Variant("recursively", """
            def join(parts):
                first, *_ = parts
                if isinstance(first, Tensor):
                    return torch.concat(tuple(parts), dim=0)
                return {name: join([p[name] for p in parts]) for name in first.keys()}
        """),
        Variant("pair by pair", """
            def join(parts):
                whole = parts[0]
                for part in parts[1:]:
                    if isinstance(whole, dict):
                        whole = {k: torch.cat((v, part[k])) for k, v in whole.items()}
                    else:
                        whole = torch.cat((whole, part))
                return whole
        """),
    ],
)  # fmt: skip


@join.test(points=0.75, cases=PARTS)
def test_join_puts_batches_together(submission, case):
    """Puts batches one behind the other"""
    submission.matches_reference(case)


@join.test(points=0.25, cases=[PARTS[0]])
def test_join_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- Branches and Heads


class BranchesByHand(nn.Module):
    def __init__(self, branches, head):
        super().__init__()
        self.branches, self.head = nn.ModuleDict(), head
        for name in branches:
            self.branches.add_module(name, branches[name])

    def forward(self, inputs):
        parts = tuple(self.branches[name](inputs[name]) for name in self.branches)
        return self.head(torch.hstack(parts))


class HeadsByHand(nn.Module):
    def __init__(self, trunk, heads):
        super().__init__()
        self.heads = nn.ModuleDict(heads)
        self.trunk = trunk

    def forward(self, x):
        features, outputs = self.trunk(x), {}
        for name in self.heads:
            outputs[name] = self.heads[name](features)
        return outputs


def affine(weight, bias):
    return load_parameters(nn.Linear(*weight.shape[::-1]), {"weight": weight, "bias": bias})


def layer(make, d_in, d_out):
    return make.normal(d_out, d_in), make.normal(d_out)


def watched(module, calls):
    module.register_forward_hook(lambda *_: calls.append(1))
    return module


def report(net, output, x, cotangents):
    """What a network computed, what it is made of, and its gradients."""
    outputs = list(output.values()) if isinstance(output, dict) else [output]
    if [o.shape for o in outputs] != [c.shape for c in cotangents]:
        return {"output": output}
    weighted = sum((o * c).sum() for o, c in zip(outputs, cotangents, strict=True))
    by_name = sorted(net.named_parameters())
    found = gradients(weighted, [*x, *(p for _, p in by_name)])
    return {
        "output": output,
        "names of the outputs": sorted(output) if isinstance(output, dict) else "none",
        "parameters": [f"{name} {tuple(p.shape)}" for name, p in by_name],
        "gradients of the inputs and of every parameter": found,
    }


def branched(impl, inputs, layers, last, cotangent):
    calls: list[int] = []
    net = impl({name: watched(affine(*given), calls) for name, given in layers.items()},
               affine(*last))  # fmt: skip
    x = {name: t.requires_grad_() for name, t in inputs.items()}
    used = [x[name] for name in layers]
    return report(net, net(x), used, [cotangent]) | {"calls of branches": len(calls)}


def branch_inputs(make):
    """Three branches; their order, the inputs' and the alphabetical one all differ."""
    sizes = {"table": 3, "image": 4, "sound": 2}
    widths = {"sound": 2, "image": 4, "unused": 9, "table": 3}
    return {
        "inputs": {name: make.normal(5, n) for name, n in widths.items()},
        "layers": {name: layer(make, n, 4) for name, n in sizes.items()},
        "last": layer(make, 12, 2),
        "cotangent": make.normal(5, 2),
    }


FEATURES = "[branch(inputs[name]) for name, branch in self.branches.items()]"
CAT = "torch.cat(features, dim=1)"
REGISTERED = (
    "A plain dict hides the modules: their parameters are not found, moved or saved. Use "
    "nn.ModuleDict."
)

branches = Exercise(
    "Branches",
    oracle=BranchesByHand,
    mistakes=[Mistake.edits_of(name, changes, hint) for name, changes, hint in [
        ("in the order of the inputs", [(FEATURES, "[self.branches[name](x) for name, x in "
          "inputs.items() if name in self.branches]")],
         "The head expects the features in the order of the *branches*; the inputs may come in any "
         "order."),
        ("in alphabetical order", [("self.branches.items()", "sorted(self.branches.items())")],
         "The features are joined in the order in which the branches were given."),
        ("branches in a plain dict", [("nn.ModuleDict(branches)", "dict(branches)")], REGISTERED),
        ("one behind the other", [(CAT, "torch.cat(features, dim=0)")],
         "The features of an example go side by side: joined along dimension 1."),
        ("added", [(CAT, "sum(features).repeat(1, 3)")],
         "The features are put side by side, not added."),
        ("averaged", [(CAT, "torch.stack(features).mean(dim=0).repeat(1, 3)")],
         "The features are put side by side, not averaged."),
        ("head left out", [(f"self.head({CAT})", CAT)],
         "The head turns the joined features into the output: it is never called."),
        ("activated", [(CAT, f"{CAT}.relu()")],
         "Nothing is applied to the features but the head: an activation is the caller's choice."),
        ("cut off from autograd", [(CAT, f"{CAT}.detach()")],
         "The branches are cut off from the loss: nothing is detached here."),
        ("forward called directly", [("branch(inputs", "branch.forward(inputs")],
         "Call the branches themselves, so that their hooks run."),
        ("one branch for all", [("[branch(inputs[name]) for name, branch in self.branches.items()]",
          "[self.branches[name](inputs[name]) for name in [next(iter(self.branches))] * 3]")],
         "Each input goes through the branch of its own name."),
    ]],
    variants=[
        Variant("a loop over the names", """
            class Branches(nn.Module):
                def __init__(self, branches, head):
                    super().__init__()
                    self.head = head
                    self.branches = nn.ModuleDict({name: branches[name] for name in branches})

                def forward(self, inputs):
                    parts = []
                    for name in self.branches:
                        parts += [self.branches[name](inputs[name])]
                    return self.head(torch.hstack(parts))
        """),
        Variant("concatenated along the last dimension", """
            class Branches(nn.Module):
                def __init__(self, branches, head):
                    super().__init__()
                    self.branches = nn.ModuleDict()
                    self.branches.update(branches)
                    self.head = head

                def forward(self, inputs):
                    return self.head(torch.concat(
                        [b(inputs[n]) for n, b in zip(self.branches.keys(),
                                                      self.branches.values())], -1))
        """),
    ],
)  # fmt: skip


@branches.test(
    points=1.5, cases=[Case("three branches, inputs in another order", branched, branch_inputs)]
)
def test_branches_join_their_features(submission, case):
    """Sends each input through its branch and joins the features"""
    submission.matches_reference(case)


@branches.test(points=0.5, cases=[Case("three branches", branched, branch_inputs)])
def test_branches_follow_the_device(submission, case):
    """Works on whichever device it was moved to"""
    submission.matches_on_device(case)


def headed(impl, x, trunk, digit, loop, cotangents):
    calls: list[int] = []
    net = impl(watched(affine(*trunk), calls), {"loop": affine(*loop), "digit": affine(*digit)})
    x = x.requires_grad_()
    output = net(x)
    if not isinstance(output, dict):
        return {"output": output}
    ordered = {name: output[name] for name in ("loop", "digit") if name in output}
    found = report(net, ordered, [x], cotangents[: len(ordered)])
    return found | {"names of the outputs": sorted(output), "calls of the trunk": len(calls)}


def head_inputs(make):
    return {"x": make.normal(6, 4), "trunk": layer(make, 4, 4), "digit": layer(make, 4, 4),
            "loop": layer(make, 4, 4),
            "cotangents": [make.normal(6, 4), make.normal(6, 4)]}  # fmt: skip


TRUNK, OUTPUTS = "features = self.trunk(x)", "{name: head(features) for name, head in "

heads = Exercise(
    "Heads",
    oracle=HeadsByHand,
    mistakes=[Mistake.edits_of(name, changes, hint) for name, changes, hint in [
        ("trunk called for every head", [(OUTPUTS, "{name: head(self.trunk(x)) for name, head in "),
                                         (TRUNK, "features = x")],
         "The trunk's work is done once for every head: compute the features a single time. (With "
         "dropout in the trunk, the heads would see different features.)"),
        ("heads on the input", [(TRUNK, "features = x")],
         "The heads work on the trunk's features, not on the input itself."),
        ("heads in a plain dict", [("nn.ModuleDict(heads)", "dict(heads)")], REGISTERED),
        ("one head behind the other", [("return {name: head(features) for name, head in "
          "self.heads.items()}", "outputs = {}\n        for name, head in self.heads.items():\n"
          "            features = head(features)\n            outputs[name] = features\n"
          "        return outputs")],
         "Every head is given the same features, not what another head returned."),
        ("a list of outputs", [(OUTPUTS, "[head(features) for name, head in "),
                               ("self.heads.items()}", "self.heads.items()]")],
         "The outputs are returned under the heads' names, in a dict."),
        ("features returned as well", [("return {name", "return {'features': features} | {name")],
         "Only the heads' outputs are returned."),
        ("first head only", [("self.heads.items()}", "list(self.heads.items())[:1]}")],
         "Every head has an output."),
        ("trunk cut off", [(TRUNK, TRUNK + ".detach()")],
         "The trunk learns from all heads: detached features teach it nothing."),
        ("softmax", [("head(features)", "head(features).softmax(dim=1)")],
         "Each head's output is returned as it is."),
        ("activated", [(TRUNK, TRUNK + ".relu()")],
         "Nothing is applied between trunk and heads: an activation is the caller's choice."),
        ("forward called directly", [("self.trunk(x)", "self.trunk.forward(x)")],
         "Call the trunk itself, so that its hooks run."),
        ("outputs under swapped names", [("self.heads.items()}",
          "zip(list(self.heads), reversed(self.heads.values()))}")],
         "Each output belongs under the name of its own head."),
        ("trunk called again for every head",
         [(OUTPUTS, OUTPUTS.replace("features", "self.trunk(x)"))],
         "The trunk's work is done anew for every head: compute the features a single time. (With "
         "dropout in the trunk, the heads would see different features.)"),
    ]],
    variants=[
        Variant("a loop", """
            class Heads(nn.Module):
                def __init__(self, trunk, heads):
                    super().__init__()
                    self.trunk = trunk
                    self.heads = nn.ModuleDict()
                    for name, head in heads.items():
                        self.heads[name] = head

                def forward(self, x):
                    x = self.trunk(x)
                    out = {}
                    for name in self.heads.keys():
                        out[name] = self.heads[name](x)
                    return out
        """),
        Variant("dict and zip", """
            class Heads(nn.Module):
                def __init__(self, trunk, heads):
                    super().__init__()
                    self.heads, self.trunk = nn.ModuleDict(dict(heads)), trunk

                def forward(self, x):
                    shared = self.trunk(x)
                    return dict(zip(self.heads, [h(shared) for h in self.heads.values()]))
        """),
    ],
)  # fmt: skip


@heads.test(points=1.5, cases=[Case("two heads", headed, head_inputs)])
def test_heads_share_a_trunk(submission, case):
    """Computes the features once and every output from them"""
    submission.matches_reference(case)


@heads.test(points=0.5, cases=[Case("two heads on a trunk", headed, head_inputs)])
def test_heads_follow_the_device(submission, case):
    """Works on whichever device it was moved to"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- total_loss


def lopsided(output, target):
    """A loss that knows which of its arguments is which."""
    return ((output - target).square() * (1 + target.square())).mean()


def absolute(output, target):
    return (output - 2 * target).abs().mean()


def weighed(impl, outputs, targets, weights=None):
    leaves = {name: t.requires_grad_() for name, t in outputs.items()}
    losses = {"b": lopsided, "a": absolute}
    found = impl(leaves, targets, losses) if weights is None else (
        impl(leaves, targets, losses, weights))  # fmt: skip
    if "loss" not in found:
        return {"names": sorted(found)}
    gradient = gradients(found["loss"], [leaves["a"], leaves["b"]])
    return {"names": sorted(found), "losses": found, "gradients of the outputs": gradient}


def loss_inputs(**weights):
    def draw(make):
        outputs = {"a": make.normal(5, 3), "idle": make.normal(4), "b": make.normal(6)}
        targets = {"b": make.normal(6), "a": make.normal(5, 3)}
        given = {name: make.number(*bounds) for name, bounds in weights.items()}
        return {"outputs": outputs, "targets": targets} | ({"weights": given} if weights else {})

    return draw


def loss_by_loop(outputs, targets, losses, weights=None):
    found = {"loss": 0.0}
    for name in losses:
        found[name] = losses[name](outputs[name], targets[name])
        factor = 1.0 if weights is None or name not in weights else weights[name]
        found["loss"] = found["loss"] + factor * found[name]
    return found


FACTOR, LOSSES = "factors.get(name, 1.0) * value", '{"loss": total, **each}'
EACH_LOSS = "loss(outputs[name], targets[name]) for name, loss in losses.items()"

multi_loss = Exercise(
    "total_loss",
    oracle=loss_by_loop,
    mistakes=edits([
        ("weights ignored", FACTOR, "value", "The weights have no effect."),
        ("nothing without a weight", FACTOR, FACTOR.replace("1.0", "0.0"),
         "A loss for which no weight is given counts with the factor 1."),
        ("averaged", "]).sum()", "]).mean()", "The weighted losses are added up, not averaged."),
        ("divided by the weights", "]).sum()",
         "]).sum() / sum(factors.get(name, 1.0) for name in each)",
         "The weights are plain factors: the sum is not divided by them."),
        ("weighted beside the total", LOSSES,
         '{"loss": total, **{k: factors.get(k, 1.0) * v for k, v in each.items()}}',
         "Beside the total, each loss is reported *without* its weight."),
        ("target before output", EACH_LOSS,
         "loss(targets[name], outputs[name]) for name, loss in losses.items()",
         "A loss function takes the output first and the target second."),
        ("the total alone", LOSSES, '{"loss": total}',
         "Each head's own loss is reported beside the total."),
        ("total not reported", LOSSES, '{"total": total, **each}',
         "The weighted sum is returned under the name \"loss\"."),
        ("heads without a loss", EACH_LOSS,
         "losses[name](output, targets[name]) for name, output in outputs.items()",
         "A head may have no loss: go through the losses, not through the outputs."),
        ("weights required", "weights or {}", "{name: weights[name] for name in losses}",
         "The weights may be None, or given for some of the losses only."),
        ("plain numbers", LOSSES, '{name: t.item() for name, t in {"loss": total, **each}.items()}',
         "The losses are tensors: a Python number cannot be trained on."),
        ("no gradient", "torch.stack([", "torch.tensor([",
         "torch.tensor copies the numbers and cuts them off from autograd. Add the tensors."),
        ("weights squared", FACTOR, "factors.get(name, 1.0) ** 2 * value",
         "Each weight is a factor once."),
        ("a weight of zero taken for none", FACTOR, "(factors.get(name) or 1.0) * value",
         "A weight of 0 is a weight too, and `or` takes it for a missing one: such a loss is "
         "reported "
         "and has no part in the sum."),
        ("numbers reported", LOSSES, '{"loss": total, **{n: v.item() for n, v in each.items()}}',
         "The heads' losses are tensors of shape (), as the total is, not Python numbers."),
    ]),
    variants=[
        Variant("a running sum", """
            def total_loss(outputs, targets, losses, weights=None):
                total, each = 0.0, {}
                for name, function in losses.items():
                    each[name] = function(outputs[name], targets[name])
                    weight = 1.0
                    if weights is not None and name in weights:
                        weight = weights[name]
                    total = total + weight * each[name]
                each["loss"] = total
                return each
        """),
        Variant("defaults merged first", """
            def total_loss(outputs, targets, losses, weights=None):
                factors = {name: 1.0 for name in losses} | dict(weights or {})
                result = {n: f(outputs[n], targets[n]) for n, f in losses.items()}
                return {"loss": sum(result[n] * factors[n] for n in losses)} | result
        """),
    ],
)  # fmt: skip

WEIGHED = [
    Case("no weights", weighed, loss_inputs()),
    Case("two weights", weighed, loss_inputs(a=(0.2, 0.6), b=(1.5, 3.0))),
    Case("a weight for one of two", weighed, loss_inputs(b=(0.3, 0.7))),
    Case("a weight of zero", weighed, loss_inputs(a=(0.0, 0.0), b=(0.3, 0.7))),
]


@multi_loss.test(points=1.25, cases=WEIGHED)
def test_total_loss_weighs_and_adds(submission, case):
    """Weighs and adds up, and reports each loss"""
    submission.matches_reference(case)


@multi_loss.test(points=0.25, cases=WEIGHED[1:2])
def test_total_loss_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- History


def written(impl, reports, second=()):
    """Two histories take turns; what a report holds changes after it was written down."""
    history, other = impl(), impl()
    other.on_train_begin(None)
    other.on_epoch_end(None, 7, {"loss": 3.0})
    for training in (reports, second) if second else (reports,):
        history.on_train_begin(None)
        for epoch, report in enumerate(training):
            logs = dict(report)
            history.on_epoch_end(None, epoch, logs)
            logs.clear()
        history.on_train_end(None)
    values = [value for column in history.history.values() for value in column]
    return {
        "epoch": list(history.epoch),
        "history": {name: list(column) for name, column in history.history.items()},
        "names": sorted(history.history),
        "all values are Python floats": all(type(value) is float for value in values),
        "epochs of another history": list(other.epoch),
        "another history": {name: list(column) for name, column in other.history.items()},
    }


def reports(*trainings, of_tensors=False):
    def draw(make):
        def report():
            figures = {"loss": make.number(0.1, 2.0), "val_loss": make.number(0.1, 2.0)}
            return {k: torch.tensor(v).double() for k, v in figures.items()} if of_tensors else (
                figures)  # fmt: skip

        drawn = [[report() for _ in range(n)] for n in trainings]
        return dict(zip(("reports", "second"), drawn))  # noqa: B905

    return draw


class HistoryByRows:
    def __init__(self):
        self.rows = []

    def on_train_begin(self, model):
        self.rows = []

    def on_epoch_end(self, model, epoch, logs):
        self.rows.append((epoch, {name: float(value) for name, value in logs.items()}))

    def on_train_end(self, model):
        pass

    @property
    def epoch(self):
        return [epoch for epoch, _ in self.rows]

    @property
    def history(self):
        names = [name for _, row in self.rows for name in row]
        return {name: [row[name] for _, row in self.rows if name in row] for name in names}


ADDED = "self.history.setdefault(name, []).append(float(value))"
FORGET = """earlier training wrote.\"\"\"
        self.epoch = []
        self.history = {}
"""
FORGOTTEN = 'earlier training wrote."""\n        return\n'

history = Exercise(
    "History",
    oracle=HistoryByRows,
    mistakes=[Mistake.edits_of(name, changes, hint) for name, changes, hint in [
        ("not begun anew", [(FORGET, FORGOTTEN)],
         "A second training should start with an empty history."),
        ("epochs not begun anew", [(FORGET, FORGET.replace("        self.epoch = []\n", ""))],
         "The epochs of an earlier training are still there: empty both records."),
        ("last value alone", [(ADDED, "self.history[name] = float(value)"),
                              ("dict[str, list[float]] = {}", "dict = {}")],
         "Each name has a *list* of values, one for every epoch."),
        ("last value in a list", [(ADDED, "self.history[name] = [float(value)]")],
         "Every epoch starts the list anew, so that only the last one is left: append to it."),
        ("values as they come", [("append(float(value))", "append(value)")],
         "A tensor in the record keeps memory alive and prints badly: store Python floats."),
        ("epochs counted from one", [("append(epoch)", "append(epoch + 1)")],
         "Epochs are counted from 0, as they are handed in."),
        ("epochs not written down", [("self.epoch.append(epoch)", "pass")],
         "The numbers of the epochs are to be recorded as well."),
        ("the loss alone", [("in logs.items():", "in list(logs.items())[:1]:")],
         "Every name of the report gets a record, whatever it is called."),
        ("emptied at the end", [("stays.\"\"\"\n        return", "stays.\"\"\"\n        "
                                 "self.epoch, self.history = [], {}")],
         "What was written stays when training ends."),
        ("shared by all histories", [(
            "    def __init__(self) -> None:\n        self.epoch: list[int] = []\n"
            "        self.history: dict[str, list[float]] = {}\n",
            "    epoch: list = []\n    history: dict = {}\n"),
            (FORGET, 'earlier training wrote."""\n        self.epoch.clear()\n'
             "        self.history.clear()\n")],
         "A list made in the class's body is shared by all its objects: make it in __init__."),
        ("epochs counted by itself",
         [("self.epoch.append(epoch)", "self.epoch.append(len(self.epoch))")],
         "The loop says which epoch it was: write down the number that it hands over."),
    ]],
    variants=[
        Variant("a defaultdict", """
            class History:
                def __init__(self):
                    self.on_train_begin(None)

                def on_train_begin(self, model):
                    from collections import defaultdict
                    self.epoch, self.history = [], defaultdict(list)

                def on_epoch_end(self, model, epoch, logs):
                    self.epoch += [epoch]
                    for name in logs:
                        self.history[name].append(float(logs[name]))

                def on_train_end(self, model):
                    pass
        """),
        Variant("item where it is a tensor", """
            class History:
                def __init__(self):
                    self.epoch = []
                    self.history = dict()

                def on_train_begin(self, model):
                    self.__init__()

                def on_epoch_end(self, model, epoch, logs):
                    self.epoch.append(epoch)
                    for name, value in logs.items():
                        if isinstance(value, Tensor):
                            value = value.item()
                        if name not in self.history:
                            self.history[name] = []
                        self.history[name].append(float(value))

                def on_train_end(self, model):
                    return None
        """),
    ],
)  # fmt: skip


@history.test(
    points=1,
    cases=[
        Case("three epochs", written, reports(3), dtypes=ONE),
        Case("figures that are tensors", written, reports(2, of_tensors=True), dtypes=ONE),
        Case("a second training", written, reports(3, 2), dtypes=ONE),
    ],
)
def test_history_writes_down_every_epoch(submission, case):
    """Writes down every epoch of a training"""
    submission.matches_reference(case)


# ---------------------------------------------------------------- BestWeights


def net_of(value, like):
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).to(like)
    return painted(net, value)


def painted(net, value):
    """Change everything in place, as training does."""
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.fill_(value)
    return net


def kept(impl, like, figures, monitor=None, mode=None, again=()):
    options = {"monitor": monitor, "mode": mode}
    callback = impl(**{name: value for name, value in options.items() if value is not None})
    net, during, found = net_of(0, like), [], {}
    for training in (figures, again) if again else (figures,):
        callback.on_train_begin(net)
        for epoch, figure in enumerate(training):
            painted(net, epoch + 1)
            logs = {"val_loss": -float(epoch), "other": 0.5 * epoch, monitor or "val_loss": figure}
            callback.on_epoch_end(net, epoch, logs)
            during.append(net[0].weight.detach().clone())
        found = {"best": callback.best, "best_epoch": callback.best_epoch}
        callback.on_train_end(net)
    twin = net_of(-9, like)
    callback.on_train_end(twin)
    states = [
        {name: tensor.double() for name, tensor in model.state_dict().items()}
        for model in (net, twin)
    ]
    return {"during training": during, "states afterwards": states} | found


def figures_at(*ranks, **options):
    """Figures in a given order of size; None stands for NaN."""

    def draw(make):
        low, step = make.number(0.1, 0.2), make.number(0.1, 0.3)
        told = {
            name: [float("nan") if r is None else low + step * r for r in given]
            for name, given in {"figures": ranks, "again": options.get("again", ())}.items()
        }
        rest = {k: v for k, v in options.items() if k != "again"}
        return {"like": make.normal(1), **told, **rest}

    return draw


def mode_errors(impl, like):
    return {
        "another mode": raised(lambda: impl("loss", "lowest"), ValueError),
        "min": raised(lambda: impl("loss", "min"), ValueError),
        "max": raised(lambda: impl("loss", mode="max"), ValueError),
    }


class BestByDeepCopy:
    def __init__(self, monitor="val_loss", mode="min"):
        if mode != "min" and mode != "max":
            raise ValueError(mode)
        self.monitor, self.sign = monitor, {"min": 1.0, "max": -1.0}[mode]
        self.on_train_begin(None)

    def on_train_begin(self, model):
        self.best = self.best_epoch = self.kept = None

    def on_epoch_end(self, model, epoch, logs):
        value = float(logs[self.monitor])
        bar = float("inf") if self.best is None else self.sign * self.best
        if self.sign * value < bar:
            self.best, self.best_epoch = value, epoch
            self.kept = [tensor.detach().clone() for tensor in model.state_dict().values()]

    def on_train_end(self, model):
        if self.kept is not None:
            with torch.no_grad():
                for tensor, kept in zip(model.state_dict().values(), self.kept, strict=True):
                    tensor.copy_(kept)


COPIED = "{k: v.detach().clone() for k, v in model.state_dict().items()}"
BETTER = "self.best is None or (value < self.best if lower else value > self.best)"
LOADED = "            model.load_state_dict(self.weights)"
NOT_NAN = "        if math.isnan(value):\n            return\n"

best_weights = Exercise(
    "BestWeights",
    oracle=BestByDeepCopy,
    mistakes=[Mistake.edits_of(name, changes, hint) for name, changes, hint in [
        ("state not copied", [(COPIED, "model.state_dict()")],
         "A state dict holds the model's own tensors, which training goes on changing. Copy them."),
        ("parameters alone", [(COPIED, "model.state_dict() | {k: v.detach().clone() for k, v in "
                               "model.named_parameters()}")],
         "Buffers, such as batch norm's running statistics, belong to the state too."),
        ("mode ignored", [("value < self.best if lower else value > self.best",
                           "value < self.best")],
         "In mode \"max\" a higher figure is better."),
        ("modes swapped", [('lower = self.mode == "min"', 'lower = self.mode == "max"')],
         "\"min\" means that lower is better."),
        ("monitor ignored", [("logs[self.monitor]", 'logs["val_loss"]')],
         "The name of the figure is written into the code: use `monitor`."),
        ("the last of equals", [("value < self.best if lower else value > self.best",
                                 "value <= self.best if lower else value >= self.best")],
         "An equal figure is not better: the first of them stays."),
        ("NaN first", [(NOT_NAN, "")],
         "Nothing is lower than NaN: once it is taken for the best, it stays so. Leave it out."),
        ("never put back", [(LOADED, "            pass")],
         "When training ends, the best weights go back into the model."),
        ("put back at once", [("    def on_train_end", "        if self.weights is not None:\n"
          "            model.load_state_dict(self.weights)\n\n    def on_train_end")],
         "The weights are put back at the *end*; training itself goes on from where it is."),
        ("an earlier training remembered",
         [("self.best, self.best_epoch, self.weights = None, None, None", "pass")],
         "The best of an earlier training should be forgotten when a new one begins."),
        ("epoch counted from one", [("= value, epoch\n", "= value, epoch + 1\n")],
         "Epochs are counted from 0, as they are handed in."),
        ("best not updated", [("self.best, self.best_epoch = value, epoch",
          "self.best = value if self.best is None else self.best\n"
          "            self.best_epoch = epoch")],
         "Every figure is compared with the first one: remember the new best."),
        ("mode not checked", [('if mode not in ("min", "max"):', "if not mode:")],
         "Another mode than \"min\" and \"max\" should raise a ValueError."),
        ("parameters alone, loaded as they come",
         [("model.state_dict().items()", "model.named_parameters()"),
          ("load_state_dict(self.weights)", "load_state_dict(self.weights, strict=False)")],
         "Buffers, such as batch norm's running statistics, belong to the state too."),
        ("old weights not forgotten",
         [("self.best, self.best_epoch, self.weights = None, None, None",
           "self.best, self.best_epoch = None, None")],
         "A new training forgets the old best, its weights too: where it finds none, nothing is "
         "put "
         "back."),
        ("a figure of zero taken for none", [("self.best is None or", "not self.best or")],
         "A best figure of 0 is a figure, and `not` takes it for a missing one: ask for None."),
        ("the first epoch taken for none",
         [("if self.weights is not None:", "if self.best_epoch:")],
         "Epochs are counted from 0, and 0 counts as false: the best epoch may be the first."),
    ]],
    variants=[
        Variant("deepcopy and a sign", """
            class BestWeights:
                def __init__(self, monitor="val_loss", mode="min"):
                    if mode not in {"min", "max"}:
                        raise ValueError("mode")
                    self.monitor, self.mode = monitor, mode
                    self.best = self.best_epoch = self.state = None

                def on_train_begin(self, model):
                    self.best = self.best_epoch = self.state = None

                def on_epoch_end(self, model, epoch, logs):
                    from copy import deepcopy
                    sign = -1 if self.mode == "max" else 1
                    now = logs[self.monitor]
                    if now == now and (self.state is None or sign * now < sign * self.best):
                        self.best, self.best_epoch = now, epoch
                        self.state = deepcopy(model.state_dict())

                def on_train_end(self, model):
                    if self.state:
                        model.load_state_dict(self.state)
        """),
        Variant("infinity to begin with", """
            class BestWeights:
                def __init__(self, monitor="val_loss", mode="min"):
                    if mode != "min" and mode != "max":
                        raise ValueError(mode)
                    self.monitor, self.mode = monitor, mode
                    self.on_train_begin(None)

                def on_train_begin(self, model):
                    self.best, self.best_epoch, self.saved = None, None, {}

                def on_epoch_end(self, model, epoch, logs):
                    value = float(logs[self.monitor])
                    bar = self.best
                    if bar is None:
                        bar = math.inf if self.mode == "min" else -math.inf
                    improved = value < bar if self.mode == "min" else value > bar
                    if improved:
                        self.best, self.best_epoch = value, epoch
                        self.saved = {n: t.clone() for n, t in model.state_dict().items()}

                def on_train_end(self, model):
                    if self.best_epoch is not None:
                        with torch.no_grad():
                            for n, t in model.state_dict().items():
                                t.copy_(self.saved[n])
        """),
    ],
)  # fmt: skip


@best_weights.test(
    points=1.75,
    cases=[
        Case("the best in the middle", kept, figures_at(4, 1, 3, 2), dtypes=ONE),
        Case("higher is better", kept,
             figures_at(1, 2, 5, 3, monitor="accuracy", mode="max"), dtypes=ONE),
        Case("two equals", kept, figures_at(3, 1, 2, 1, 4, monitor="loss"), dtypes=ONE),
        Case("NaN in the first epoch", kept, figures_at(None, 3, 2, None, 4), dtypes=ONE),
        Case("nothing but NaN", kept, figures_at(None, None), dtypes=ONE),
        Case("a second training", kept, figures_at(2, 1, 3, again=(5, 4, 6)), dtypes=ONE),
        Case("a second training, of NaN alone", kept, figures_at(2, 1, again=(None, None)),
             dtypes=ONE),
        Case("a first figure of zero", kept, lambda make: {
            "like": make.normal(1), "figures": [0.0, make.number(0.2, 0.4), make.number(0.1, 0.2)]
        }, dtypes=ONE),
        Case("modes", mode_errors, lambda make: {"like": make.normal(1)}, dtypes=ONE),
    ],
)  # fmt: skip
def test_best_weights_are_kept_and_put_back(submission, case):
    """Keeps the best epoch's weights and puts them back"""
    submission.matches_reference(case)


@best_weights.test(points=0.25, cases=[Case("three epochs", kept, figures_at(3, 1, 2))])
def test_best_weights_follow_the_device(submission, case):
    """Works on whichever device the model is on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- Model


class Recorder(nn.Module):
    """Passes its input on; writes down the mode and the first column of what it is given."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def forward(self, x):
        gradients = "with" if torch.is_grad_enabled() else "without"
        mode = f"{'training' if self.training else 'evaluation'}, {gradients} gradients"
        self.seen.append((mode, x[:, 0].detach().clone()))
        return x


class OfParts(nn.Module):
    """A network that takes a dict and returns one."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, inputs):
        y = self.body(torch.cat([inputs["left"], inputs["right"]], dim=1))
        return {"sum": y.sum(dim=1), "all": y}


def model_of(impl, weights, seen, parts=False):
    (W1, b1), (W2, b2) = weights
    norm = nn.BatchNorm1d(len(b1)).to(W1)
    body = nn.Sequential(Recorder(seen), affine(W1, b1), norm, nn.Tanh(), affine(W2, b2))
    return impl(OfParts(body) if parts else body)


def lopsided_parts(outputs, targets):
    return lopsided(outputs["all"], targets["all"]) + absolute(outputs["sum"], targets["sum"])


def ready(impl, weights, seen, parts=False, metrics=True):
    model = model_of(impl, weights, seen, parts)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    loss = lopsided_parts if parts else lopsided
    if not metrics:
        model.compile(optimizer, loss)
        return model
    error = (lambda o, t: absolute(o["sum"], t["sum"])) if parts else absolute
    model.compile(optimizer, loss, metrics={"error": error})
    return model


def modes_of(seen):
    return sorted({mode for mode, _ in seen})


def data_of(make, n, parts=False):
    if not parts:
        return make.normal(n, 3), make.normal(n, 2)
    x = {"right": make.normal(n, 1), "left": make.normal(n, 2)}
    return x, {"all": make.normal(n, 2), "sum": make.normal(n)}


def setting(n, held_out=0, parts=False, **more):
    def draw(make):
        weights = [layer(make, 3, 5), layer(make, 5, 2)]
        given = {"weights": weights, "train": data_of(make, n, parts)}
        if held_out:
            given["validation"] = data_of(make, held_out, parts)
        return given | ({"parts": True} if parts else {}) | more

    return draw


def fitted(impl, weights, train, batch_size, validation=None, parts=False, metrics=True):
    seen: list[Any] = []
    model = ready(impl, weights, seen, parts, metrics)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)  # left over from before
    model.eval()
    history = model.fit(*train, epochs=3, batch_size=batch_size, validation_data=validation,
                        shuffle=False)  # fmt: skip
    return {
        "names in the history": sorted(history.history),
        "history": history.history,
        "epochs": history.epoch,
        "parameters": [p.detach() for p in model.parameters()],
        "modes": modes_of(seen),
    }


class Reporter:
    def __init__(self, name, events, stop_at=None):
        self.name, self.events, self.stop_at = name, events, stop_at

    def on_train_begin(self, model):
        self.events.append(f"{self.name}: begin")

    def on_epoch_end(self, model, epoch, logs):
        floats = all(type(value) is float for value in logs.values())
        self.events.append(f"{self.name}: epoch {epoch}, {sorted(logs)}, floats {floats}")
        if epoch == self.stop_at:
            model.stop_training = True

    def on_train_end(self, model):
        self.events.append(f"{self.name}: end")


def called_back(impl, weights, train, validation):
    seen: list[Any] = []
    events: list[str] = []
    model = ready(impl, weights, seen)
    callbacks = [Reporter("first", events, stop_at=1), Reporter("second", events)]
    options = dict(epochs=4, batch_size=4, shuffle=False)
    first = model.fit(*train, validation_data=validation, callbacks=callbacks, **options)
    second = model.fit(*train, callbacks=callbacks[1:], **options)
    return {
        "what the callbacks were told": events,
        "epochs of the first training": first.epoch,
        "epochs of the second training": second.epoch,
        "names in the second history": sorted(second.history),
    }


class Sleeper(Reporter):
    """Leaves the model in evaluation mode, as whoever looks at its outputs may do."""

    def on_epoch_end(self, model, epoch, logs):
        super().on_epoch_end(model, epoch, logs)
        model.eval()


def left_in_evaluation(impl, weights, train):
    seen: list[Any] = []
    events: list[str] = []
    model = ready(impl, weights, seen)
    model.fit(*train, epochs=3, batch_size=4, shuffle=False, callbacks=[Sleeper("one", events)])
    return {"modes": modes_of(seen), "what the callback was told": events}


def compiled_anew(impl, weights, train):
    model = ready(impl, weights, [])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    model.compile(optimizer, absolute, {"other": lopsided})
    second = model.evaluate(*train)
    model.compile(optimizer, lopsided)
    third = model.evaluate(*train)
    return {"figures": [second, third], "their names": [sorted(second), sorted(third)]}


def orders(impl, weights, train, seed):
    x = train[0].clone()
    x[:, 0] = torch.arange(len(x)).to(x)

    def met(generator, targets=None):
        seen: list[Any] = []
        model = ready(impl, weights, seen)
        y = train[1] if targets is None else targets
        history = model.fit(x, y, epochs=2, batch_size=8, generator=generator)
        return torch.cat([column for _, column in seen]), [len(c) for _, c in seen], history.history

    first, sizes, _ = met(torch.Generator().manual_seed(seed))
    again, _, _ = met(torch.Generator().manual_seed(seed))
    other, _, _ = met(torch.Generator().manual_seed(seed + 1))
    torch.manual_seed(seed)
    free, _, _ = met(None)
    torch.manual_seed(seed)
    same, _, _ = met(None)
    return {"first": first, "again": again, "other": other, "free": free, "same": same,
            "sizes of the batches": sizes}  # fmt: skip


def facts_of_orders(outcome, inputs):
    n = len(inputs["train"][0])
    one, two = outcome["first"][:n], outcome["first"][n:]
    natural = torch.arange(n).to(one)
    return {
        "sizes of the batches": outcome["sizes of the batches"],
        "every example is met once in every epoch": bool(
            (one.sort().values == natural).all() and two.sort().values.equal(natural)
        ),
        "the order is random": not one.equal(natural),
        "every epoch has an order of its own": not one.equal(two),
        "a generator with the same seed repeats the orders": outcome["first"].equal(
            outcome["again"]
        ),
        "another seed gives other orders": not outcome["first"].equal(outcome["other"]),
        "without a generator, torch.manual_seed repeats the orders": outcome["free"].equal(
            outcome["same"]
        ),
    }


def paired(impl, weights, seed, n):
    """Every target is its input's first number."""
    seen, targets = [], []
    model = model_of(impl, weights, seen)

    def note(outputs, target):
        targets.append(target[:, 0].clone())
        return 0.0

    x = torch.arange(3.0 * n).reshape(n, 3).to(weights[0][0]) / n
    model.compile(torch.optim.SGD(model.parameters(), lr=1e-3), lopsided, {"note": note})
    model.fit(x, x[:, :2], epochs=1, batch_size=4, generator=torch.Generator().manual_seed(seed))
    met = torch.cat([column for _, column in seen])
    return {"inputs and targets belong together": met.equal(torch.cat(targets))}


def evaluated(impl, weights, train, batch_size, training, parts=False):
    seen: list[Any] = []
    model = ready(impl, weights, seen, parts)
    model.train(training)
    found = model.evaluate(*train, batch_size=batch_size)
    return {
        "figures": found,
        "names": sorted(found),
        "modes while measuring": modes_of(seen),
        "in training mode afterwards": model.training,
        "gradients enabled afterwards": torch.is_grad_enabled(),
    }


def predicted(impl, weights, train, batch_size, training, parts=False):
    seen: list[Any] = []
    model = model_of(impl, weights, seen, parts).train(training)
    found = model.predict(train[0], batch_size=batch_size)
    return {
        "output": found,
        "modes while predicting": modes_of(seen),
        "in training mode afterwards": model.training,
        "gradients enabled afterwards": torch.is_grad_enabled(),
    }


def uncompiled(impl, weights, train):
    model = model_of(impl, weights, [])
    return {
        "fit": raised(lambda: model.fit(*train, epochs=1), RuntimeError),
        "evaluate": raised(lambda: model.evaluate(*train), RuntimeError),
        "predict": raised(lambda: model.predict(train[0]), RuntimeError),
        "output of a call": model.eval()(train[0]),
    }


CLEAR = "                self.optimizer.zero_grad()\n"
STEP = "                self.optimizer.step()\n"
ORDER = "order = torch.randperm(n, generator=generator) if shuffle else torch.arange(n)"
EPOCH = "        for epoch in range(epochs):\n"
BATCH = "            for start in range(0, n, batch_size):\n                index = order"
IN_FIT = "outputs, targets = self(select(x, index)), select(y, index)\n                loss ="
ADD_LOSS = 'totals["loss"] += len(index) * loss.item()'
ADD_METRIC = "totals[name] += len(index) * float(metric(outputs, targets))"
MEASURE = "totals[name] += len(index) * float(measure(outputs, targets))"
CHECKED = "self.evaluate(*validation_data, batch_size)"
REPORT = """            for callback in everyone:
                callback.on_epoch_end(self, epoch, logs)
"""
STOP = "            if self.stop_training:\n                break\n"
COMPILED = """            raise RuntimeError("compile the model before training it")"""
PREDICT = "parts.append(self(select(x, torch.arange(start, min(start + batch_size, n)))))"
EVALUATE_MODE = "self.eval()\n        with torch.no_grad():\n            for start in range(0, n, "
AFTER = "self.train(training)\n        return "
AVERAGES = AFTER + "{name: total / n"

model = Exercise(
    "Model",
    seconds=120.0,
    mistakes=[Mistake.edits_of(name, changes, hint) for name, changes, hint in [
        ("gradients never cleared", [(CLEAR, "")],
         "backward() *adds* to what .grad holds: clear the gradients for every batch."),
        ("cleared after the step", [(CLEAR, ""), (STEP, STEP + CLEAR)],
         "The first batch still meets gradients from before fit: clear them before backward()."),
        ("trained in whatever mode", [("            self.train()\n", "")],
         "The model may come in evaluation mode: put it into training mode in fit."),
        ("last batch dropped", [(BATCH, BATCH.replace("(0, n,", "(0, n - batch_size + 1,"))],
         "The last batch may be smaller than the others; it is used all the same."),
        ("losses of batches averaged", [(ADD_LOSS, 'totals["loss"] += n / -(-n // batch_size) * '
                                         "loss.item()")],
         "A smaller last batch counts as much as a full one. Weigh each loss by the batch's size."),
        ("metrics of the last batch", [(ADD_METRIC, ADD_METRIC.replace("+=", "="))],
         "The metric of the last batch alone is reported: add up over the batches."),
        ("a tensor in the report", [("loss.item()", "loss.detach()")],
         "The report holds Python floats: a tensor keeps its memory, and spreads into every list."),
        ("validated on the training data", [(CHECKED, "self.evaluate(x, y, batch_size)")],
         "The validation figures come from the training examples. Use the held-out ones."),
        ("val_ left out", [('f"val_{name}": value', "name: value")],
         "The held-out figures overwrite those of training: put \"val_\" before their names."),
        ("never shuffled", [(ORDER, "order = torch.arange(n)")],
         "`shuffle` has no effect: the examples come as they stand in every epoch."),
        ("always shuffled", [(ORDER, "order = torch.randperm(n, generator=generator)")],
         "With shuffle=False the examples are taken as they stand."),
        ("one order for all epochs", [(f"{EPOCH}            {ORDER}\n",
                                       f"        {ORDER}\n{EPOCH}")],
         "The order is drawn once. Every epoch has a new one."),
        ("generator ignored", [("torch.randperm(n, generator=generator)", "torch.randperm(n)")],
         "`generator` is not used, so that a seeded run cannot be repeated."),
        ("inputs and targets shuffled apart", [(IN_FIT, IN_FIT.replace("select(y, index)",
          "select(y, torch.randperm(n)[: len(index)] if shuffle else index)"))],
         "Each target belongs to an input: take both with the same indices."),
        ("callbacks before validation", [(REPORT, ""), ("            if validation_data is not None"
          ":\n", REPORT + "            if validation_data is not None:\n")],
         "The callbacks are told before the held-out figures are there: make the report first."),
        ("stop ignored", [(STOP, "")],
         "A callback may set stop_training: then no further epoch is begun."),
        ("stop remembered", [("        self.stop_training = False\n        for callback", "        "
                              "for callback")],
         "stop_training is still set from the last training: begin with False."),
        ("end not told after a stop", [(STOP, STOP.replace("break", "return history"))],
         "on_train_end is called at the end of training, however it ended."),
        ("begin not told", [("            callback.on_train_begin(self)", "            pass")],
         "on_train_begin is to be called before the first epoch."),
        ("epochs counted from one", [("callback.on_epoch_end(self, epoch, logs)",
                                      "callback.on_epoch_end(self, epoch + 1, logs)")],
         "Epochs are counted from 0."),
        ("evaluated in training mode", [(EVALUATE_MODE + "batch_size):\n                index",
          EVALUATE_MODE.removeprefix("self.eval()\n        ") +
          "batch_size):\n                index")],
         "Measuring takes evaluation mode, or batch norm spoils the figures."),
        ("left in evaluation mode", [(AVERAGES, AVERAGES.removeprefix("self.train(training)\n"
                                                                      "        "))],
         "The model stays in evaluation mode after evaluate: put the old mode back."),
        ("batches of evaluate averaged", [(MEASURE, "totals[name] += n / -(-n // batch_size) * "
                                           "float(measure(outputs, targets))")],
         "In evaluate, a smaller last batch counts as much as a full one: weigh by its size."),
        ("not compiled, not noticed", [(COMPILED, "            return History()")],
         "Without an optimizer and a loss, fit raises a RuntimeError."),
        ("predicted in training mode", [("        self.eval()\n        with torch.no_grad():\n"
          "            for start in range(0, n, batch_size):\n                parts",
          "        with torch.no_grad():\n            for start in range(0, n, batch_size):\n"
          "                parts")],
         "Predicting takes evaluation mode, or the outputs depend on who else is in the batch."),
        ("prediction with a graph", [("        with torch.no_grad():\n            for start in "
          "range(0, n, batch_size):\n                parts", "        if True:\n            for "
          "start in range(0, n, batch_size):\n                parts")],
         "Nobody asks for a gradient of predictions: build no graph."),
        ("last batch of predictions alone", [("return join(parts)", "return parts[-1]")],
         "These are the outputs of the last batch: join all of them."),
        ("batches of predictions in a list", [("return join(parts)", "return parts")],
         "The batches are to be joined, so that it makes no difference how they were cut."),
        ("a new mode after predicting", [(AFTER + "join", "self.train()\n        return join")],
         "The model may have been in evaluation mode before: put back the mode that it had."),
        ("training mode set once",
         [("            self.train()\n", ""), (EPOCH, "        self.train()\n" + EPOCH)],
         "A callback may have put the model into evaluation mode: set training mode in every "
         "epoch."),
        ("loss's arguments swapped",
         [("self.loss(outputs, targets)", "self.loss(targets, outputs)")],
         "The loss is given its two arguments the other way round: the outputs come first."),
        ("metrics of a second call",
         [(ADD_METRIC, ADD_METRIC.replace("outputs", "self(select(x, index))"))],
         "The metrics are those of the outputs that were trained on: the network is not called "
         "again."),
        ("validated at the end alone",
         [("if validation_data is not None:",
           "if validation_data is not None and epoch == epochs - 1:")],
         "Every epoch's report holds the validation figures, not only the last one's."),
        ("stopped between callbacks", [(REPORT, REPORT + "                if self.stop_training:\n"
                                        "                    break\n")],
         "Every callback hears of the epoch, also where one before it asked to stop."),
        ("one history for all trainings",
         [("n, history = count_examples(x), History()",
           "n = count_examples(x)\n        kept = self.__dict__.setdefault('_kept', History())\n"
           "        history = kept")],
         "Every call of fit returns a history of its own: an earlier one is still the caller's."),
        ("another error", [(COMPILED, COMPILED.replace("RuntimeError", "ValueError"))],
         "An error is raised, but of another class: the docstring asks for a RuntimeError."),
        ("evaluated without being compiled",
         [('            raise RuntimeError("compile the model before evaluating it")',
           "            self.optimizer = None")],
         "evaluate needs a loss too: complain with a RuntimeError where the model was not "
         "compiled."),
        ("prediction asks for compile",
         [("        parts = []\n", "        if self.optimizer is None:\n"
           "            raise RuntimeError('compile the model first')\n        parts = []\n")],
         "Predicting needs neither loss nor optimizer: it works without compile."),
        ("left in evaluation mode by predict", [(AFTER + "join", "return join")],
         "The model stays in evaluation mode after predicting: put back the mode that it had."),
        ("earlier metrics kept",
         [("dict(metrics or {})", "{**getattr(self, 'metrics', {}), **(metrics or "
                                   "{})}")],
         "compile says anew what is reported: the metrics of an earlier call are gone."),
    ]],
    variants=[
        Variant.edits_of("weights of batches from the targets, no helper", [
            (ORDER, "order = list(range(n))\n            if shuffle:\n"
             "                order = torch.randperm(n, generator=generator).tolist()"),
            ("index = order[start : start + batch_size]",
             "index = torch.tensor(order[start : start + batch_size])"),
        ]),
        Variant.edits_of("history told first, gradients cleared through the model", [
            ("everyone = [*callbacks, history]", "everyone = [history, *callbacks]"),
            ("self.optimizer.zero_grad()", "self.zero_grad(set_to_none=True)"),
            ("self.stop_training = False\n        for", "self.stop_training = 0 > 1\n        for"),
        ]),
        Variant("written otherwise", """
            class Model(nn.Module):
                def __init__(self, network):
                    super().__init__()
                    self.network, self.stop_training, self.ready = network, False, False

                def forward(self, x):
                    return self.network(x)

                def compile(self, optimizer, loss, metrics=None):
                    self.optimizer, self.ready = optimizer, True
                    self.measures = {"loss": loss, **(metrics or {})}

                def fit(self, x, y, *, epochs, batch_size=32, validation_data=None, callbacks=(),
                        shuffle=True, generator=None):
                    if not self.ready:
                        raise RuntimeError("not compiled")
                    self.stop_training = False
                    record = History()
                    record.on_train_begin(self)
                    [c.on_train_begin(self) for c in callbacks]
                    n = count_examples(y)
                    for epoch in range(epochs):
                        self.train(True)
                        order = torch.arange(n)
                        if shuffle:
                            order = torch.randperm(n, generator=generator)
                        sums = {k: 0.0 for k in self.measures}
                        for index in torch.split(order, batch_size):
                            self.optimizer.zero_grad()
                            out, y_batch = self.network(select(x, index)), select(y, index)
                            values = {k: f(out, y_batch) for k, f in self.measures.items()}
                            values["loss"].backward()
                            self.optimizer.step()
                            for k, v in values.items():
                                sums[k] += float(v) * len(index)
                        logs = {k: v / n for k, v in sums.items()}
                        if validation_data:
                            x_val, y_val = validation_data
                            for k, v in self.evaluate(x_val, y_val).items():
                                logs["val_" + k] = v
                        record.on_epoch_end(self, epoch, logs)
                        for c in callbacks:
                            c.on_epoch_end(self, epoch, logs)
                        if self.stop_training:
                            break
                    [c.on_train_end(self) for c in callbacks]
                    return record

                @torch.no_grad()
                def evaluate(self, x, y, batch_size=32):
                    if not self.ready:
                        raise RuntimeError("not compiled")
                    out = self.predict(x, batch_size)
                    return {k: float(f(out, y)) for k, f in self.measures.items()}

                @torch.no_grad()
                def predict(self, x, batch_size=32):
                    was = self.training
                    try:
                        self.eval()
                        n = count_examples(x)
                        index = torch.arange(n).split(batch_size)
                        return join([self(select(x, i)) for i in index])
                    finally:
                        self.train(was)
        """),
    ],
)  # fmt: skip


@model.test(
    points=2.5,
    cases=[
        Case("a smaller last batch, with metrics and validation", fitted,
             setting(10, 7, batch_size=4), dtypes=ONE),
        Case("one batch, no metrics, no validation", fitted, setting(6, batch_size=8,
                                                                     metrics=False),
             dtypes=ONE),
        Case("several inputs and outputs", fitted, setting(8, 5, parts=True, batch_size=3),
             dtypes=ONE),
    ],
)  # fmt: skip
def test_model_fits(submission, case):
    """Trains batch by batch and reports every epoch"""
    submission.matches_reference(case)


@model.test(
    points=1,
    cases=[
        Case("random orders", orders, lambda make: setting(20)(make) | {"seed": make.seed()},
             observe=facts_of_orders, dtypes=ONE),
        Case("inputs with their targets", paired, lambda make: {"seed": make.seed(), "n": 22,
             "weights": [layer(make, 3, 5), layer(make, 5, 2)]}, dtypes=ONE),
    ],
)  # fmt: skip
def test_model_shuffles(submission, case):
    """Meets every example once an epoch, in a new order"""
    submission.matches_reference(case)


@model.test(
    points=1.25,
    cases=[
        Case("two callbacks, one of which stops", called_back, setting(10, 6), dtypes=ONE),
        Case("a callback that changes the mode", left_in_evaluation, setting(6), dtypes=ONE),
    ],
)
def test_model_calls_back(submission, case):
    """Tells the callbacks, and stops where they say so"""
    submission.matches_reference(case)


@model.test(
    points=1.25,
    cases=[
        Case("a model in training", evaluated, setting(11, batch_size=4, training=True)),
        Case("a model in evaluation", evaluated, setting(7, batch_size=9, training=False),
             dtypes=ONE),
        Case("several inputs and outputs", evaluated,
             setting(8, parts=True, batch_size=3, training=True), dtypes=ONE),
        Case("not compiled", uncompiled, setting(5), dtypes=ONE),
        Case("compiled anew", compiled_anew, setting(5), dtypes=ONE),
    ],
)  # fmt: skip
def test_model_evaluates(submission, case):
    """Measures on held-out examples"""
    submission.matches_reference(case)


@model.test(
    points=0.75,
    cases=[
        Case("a model in training", predicted, setting(10, batch_size=3, training=True)),
        Case("a model in evaluation", predicted, setting(6, batch_size=6, training=False),
             dtypes=ONE),
        Case("several inputs and outputs", predicted,
             setting(7, parts=True, batch_size=4, training=True), dtypes=ONE),
    ],
)  # fmt: skip
def test_model_predicts(submission, case):
    """Predicts for all examples, whatever the batches"""
    submission.matches_reference(case)


@model.test(
    points=0.25, cases=[Case("predictions", predicted, setting(7, batch_size=3, training=True))]
)
def test_model_follows_the_device(submission, case):
    """Predicts on whichever device its inputs are on"""
    submission.matches_on_device(case)
