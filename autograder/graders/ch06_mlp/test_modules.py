"""Layers that own their parameters, chains and networks of them, counting and freezing.

The oracles are written otherwise: einsum, nn.ModuleList, closed forms. Parameters are put in from
a case's inputs, so that nothing depends on a draw; the draw itself is judged by rounded facts.
"""

import math
from itertools import pairwise

import torch
from torch import nn

from autograder.spec import Case, Exercise, Mistake, Variant, gradients, load_parameters

# ---------------------------------------------------------------- oracles


class Linear(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        shapes = {"weight": (out_features, in_features), "bias": (out_features,) if bias else None}
        for name, shape in shapes.items():
            drawn = None if shape is None else (2 * torch.rand(shape) - 1) / in_features**0.5
            self.register_parameter(name, None if drawn is None else nn.Parameter(drawn))

    def forward(self, x):
        y = torch.einsum("...i,oi->...o", x, self.weight)
        return y if self.bias is None else y.add(self.bias)


class Sequential(nn.Module):
    def __init__(self, *modules):
        super().__init__()
        self.places = len(modules)
        for i, module in enumerate(modules):
            setattr(self, str(i), module)

    def __len__(self):
        return self.places

    def forward(self, x):
        for i in range(self.places):
            x = getattr(self, str(i))(x)
        return x


class MLP(nn.Module):
    def __init__(self, sizes, activation=torch.relu):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.activation = activation

    def forward(self, x):
        first, *rest = self.layers
        x = first(x)
        for layer in rest:
            x = layer(self.activation(x))
        return x


def count_by_traversal(model, trainable_only=False):
    seen = {id(p): p for m in model.modules() for p in m._parameters.values() if p is not None}
    return sum(math.prod(p.shape) for p in seen.values() if not trainable_only or p.requires_grad)


def count_by_closed_form(sizes, bias=True):
    products = sum(sizes[i] * sizes[i + 1] for i in range(len(sizes) - 1))
    return products + bias * (sum(sizes) - sizes[0])


def widest_by_quadratic_formula(d_in, d_out, hidden_layers, budget):
    a, b = hidden_layers - 1, d_in + d_out + hidden_layers  # a w² + b w + d_out <= budget
    room = budget - d_out
    if room < a + b:
        return 0
    width = room // b if a == 0 else int((math.sqrt(b * b + 4 * a * room) - b) / (2 * a))
    while a * width**2 + b * width > room:
        width -= 1
    while a * (width + 1) ** 2 + b * (width + 1) <= room:
        width += 1
    return width


def freeze_by_lookup(model, *names):
    found = []
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        if {".".join(parts[: i + 1]) for i in range(len(parts))} & set(names):
            parameter.requires_grad = False
            parameter.grad = None
            found.append(name)
    return found


# ---------------------------------------------------------------- Linear


def linear_inputs(*x_shape, d_out, bias=True):
    def draw(make):
        given = {"x": make.normal(*x_shape), "weight": make.normal(d_out, x_shape[-1])}
        return given | ({"bias": make.normal(d_out)} if bias else {})

    return draw


def loaded(impl, weight, bias):
    named = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    d_out, d_in = weight.shape
    layer = impl(d_in, d_out) if bias is not None else impl(d_in, d_out, bias=False)
    return load_parameters(layer, named)


def linear_output(impl, x, weight, bias=None):
    return loaded(impl, weight, bias)(x)


def linear_gradients(impl, x, weight, bias, cotangent):
    layer, x = loaded(impl, weight, bias), x.requires_grad_()
    found = gradients(layer(x), [x, layer.weight, layer.bias], cotangent)
    return dict(zip(("gradient of x", "gradient of weight", "gradient of bias"), found))  # noqa: B905


def parameters_of(module):
    return sorted(f"{name} {tuple(p.shape)}" for name, p in module.named_parameters())


def linear_anatomy(impl, d_in, d_out):
    layer, bare = impl(d_in, d_out), impl(d_in, d_out, bias=False)
    return {
        "it is an nn.Module": isinstance(layer, nn.Module),
        "parameters": parameters_of(layer),
        "all parameters require a gradient": all(p.requires_grad for p in layer.parameters()),
        "parameters without a bias": parameters_of(bare),
        "the attribute bias is None without one": getattr(bare, "bias", "missing") is None,
    }


def linear_draw(impl, d_in, d_out):
    layer, other = impl(d_in, d_out), impl(d_in, d_out)
    tensors = {"weight": layer.weight, "bias": layer.bias, "of another layer": other.weight}
    return {name: t.detach() for name, t in tensors.items()}


def facts_of_draw(outcome, inputs):
    same = outcome["weight"].equal(outcome["of another layer"])
    facts: dict[str, bool | str] = {"two layers draw different weights": not same}
    for name in ("weight", "bias"):
        drawn = outcome[name].double() * inputs["d_in"] ** 0.5  # in units of the bound
        facts |= {
            f"{name}: within the bound": bool((drawn.abs() <= 1.0001).all()),
            f"{name}: not all zero": bool((drawn != 0).any()),
            f"{name}: standard deviation over the bound, about": f"{round(float(drawn.std()) * 5)}",
            f"{name}: mean over the bound, about": f"{round(float(drawn.mean()) * 3)}",
        }
    return facts


WEIGHT = "nn.Parameter(torch.empty(out_features, in_features).uniform_(-bound, bound))"
BIAS = "nn.Parameter(torch.empty(out_features).uniform_(-bound, bound)) if bias else None"
AFFINE = "y = x @ self.weight.T  # (…, out_features)"
PLUS = "return y if self.bias is None else y + self.bias"
UNREGISTERED = (
    "A plain tensor is no parameter: model.parameters(), .to() and state_dict() pass it by. Wrap "
    "it in nn.Parameter."
)

linear = Exercise(
    "Linear",
    oracle=Linear,
    forbids=["torch.nn.Linear", "torch.nn.LazyLinear", "torch.nn.functional.linear",
             "torch._C._nn.linear", "torch.ops.aten.linear", "torch.nn.Bilinear"],
    mistakes=[Mistake.edits_of(name, edits, hint) for name, edits, hint in [
        ("weight the other way round",
         [(WEIGHT, WEIGHT.replace("out_features, in_features", "in_features, out_features")),
          ("self.weight.T", "self.weight")],
         "It computes the same, but PyTorch keeps its weights as (out_features, in_features), and "
         "so does the docstring."),
        ("weight a plain tensor", [(WEIGHT, WEIGHT.replace("nn.Parameter", "", 1)[1:-1])],
         UNREGISTERED),
        ("bias a plain tensor", [(BIAS, BIAS.replace("nn.Parameter", ""))], UNREGISTERED),
        ("always a bias", [(BIAS, BIAS.removesuffix(" if bias else None"))],
         "The argument `bias` has no effect: with False there is none, and the attribute is None."),
        ("bias left out", [(PLUS, "return y")], "The bias is there, but forward never adds it."),
        ("bias subtracted", [(PLUS, PLUS.replace("y +", "y -"))], "The bias is added."),
        ("all zeros", [(WEIGHT, "nn.Parameter(torch.zeros(out_features, in_features))")],
         "Weights that start at zero make all hidden units the same for ever: draw them at "
         "random."),
        ("standard normal weights",
         [(WEIGHT, "nn.Parameter(torch.randn(out_features, in_features))")],
         "The entries are drawn uniformly within the bound, not from a standard normal."),
        ("Xavier's bound", [(WEIGHT, "nn.Parameter(nn.init.xavier_uniform_(torch.empty("
                             "out_features, in_features)))")],
         "Xavier's bound is made of inputs *and* outputs. Here it is the inputs alone that count."),
        ("Kaiming's bound", [(WEIGHT, "nn.Parameter(nn.init.kaiming_uniform_(torch.empty("
                              "out_features, in_features)))")],
         "By default, kaiming_uniform_ draws from a range that is √6 times as wide: see its a."),
        ("bound without its root", [("1 / math.sqrt(in_features)", "1 / in_features")],
         "The bound is one over the square *root* of in_features."),
        ("bound from the outputs", [("math.sqrt(in_features)", "math.sqrt(out_features)")],
         "The bound is made of the number of inputs: so many terms are added up in an output."),
        ("positive only", [(WEIGHT, WEIGHT.replace("-bound, bound", "0, bound"))],
         "The entries lie between *minus* and plus the bound."),
        ("bias of zeros", [(BIAS, "nn.Parameter(torch.zeros(out_features)) if bias else None")],
         "The docstring has the bias drawn like the weight, as nn.Linear does."),
        ("matrices only", [(AFFINE, "y = torch.mm(x, self.weight.T)")],
         "x may have any number of leading dimensions, not just one: use a product that "
         "broadcasts over them."),
        ("frozen weight", [(WEIGHT, WEIGHT[:-1] + ", requires_grad=False)")],
         "The weight requires no gradient, so it would never be trained."),
        ("super().__init__ left out", [("        super().__init__()\n", "")],
         "A module sets itself up in super().__init__(): call it before anything is assigned."),
        ("weight cut off from its gradient", [("x @ self.weight.T", "x @ self.weight.data.T")],
         ".data has no history, so that the weight gets no gradient: calculate with the parameter "
         "itself."),
        ("no attribute where there is no bias",
         [(f"        self.bias = (\n            {BIAS}\n        )",
           f"        if bias:\n            self.bias = {BIAS.removesuffix(' if bias else None')}"),
          (PLUS, "return y + self.bias if hasattr(self, 'bias') else y")],
         "Without a bias the attribute is None; it is not missing."),
        ("bias bounded by the outputs",
         [(BIAS, BIAS.replace("-bound, bound", "-(out_features**-0.5), out_features**-0.5"))],
         "The bias has the same bound as the weight: it follows the inputs, not the outputs."),
        ("bias as a row of a matrix", [(BIAS, BIAS.replace("(out_features)", "(1, out_features)"))],
         "The bias has the shape (out_features,): broadcasting puts the other dimension in front."),
        ("same draw each time",
         [("        bound = ", "        torch.manual_seed(0)\n        bound = ")],
         "Every layer draws the same numbers: a constructor sets no seed."),
        ("normal draw", [(WEIGHT, WEIGHT.replace("uniform_(-bound, bound)", "normal_(0, bound)"))],
         "The entries are drawn uniformly within the bound, not from a normal distribution."),
    ]],
    variants=[
        Variant("addmm on flattened rows, kaiming initialisation", """
            class Linear(nn.Module):
                def __init__(self, in_features, out_features, bias=True):
                    super().__init__()
                    self.in_features, self.out_features = in_features, out_features
                    self.weight = nn.Parameter(torch.empty(out_features, in_features))
                    nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
                    if bias:
                        self.bias = nn.Parameter(torch.rand(out_features))
                        with torch.no_grad():
                            self.bias.mul_(2).sub_(1).div_(in_features ** 0.5)
                    else:
                        self.register_parameter("bias", None)

                def forward(self, x):
                    rows = x.reshape(-1, self.in_features).mm(self.weight.t())
                    if self.bias is not None:
                        rows = rows + self.bias
                    return rows.view(*x.shape[:-1], self.out_features)
        """),
        Variant("einsum, uniform by rand", """
            class Linear(nn.Module):
                def __init__(self, in_features, out_features, bias=True):
                    super().__init__()
                    k = in_features ** -0.5
                    self.bias = None
                    if bias:
                        self.bias = nn.Parameter(k * (2 * torch.rand(out_features) - 1))
                    self.weight = nn.Parameter(k * (1 - 2 * torch.rand(out_features, in_features)))

                def forward(self, x):
                    out = torch.einsum("...i,oi->...o", x, self.weight)
                    if self.bias is not None:
                        out += self.bias
                    return out
        """),
        Variant("matmul, parameters set by a method", """
            class Linear(nn.Module):
                def __init__(self, in_features, out_features, bias=True):
                    super().__init__()
                    self.weight = nn.Parameter(torch.zeros(out_features, in_features))
                    self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
                    self.reset(1.0 / in_features ** 0.5)

                def reset(self, bound):
                    for p in self.parameters():
                        nn.init.uniform_(p, -bound, bound)

                def forward(self, x):
                    y = torch.matmul(x, self.weight.transpose(0, 1))
                    return y + (self.bias if self.bias is not None else 0)
        """),
    ],
)  # fmt: skip


@linear.test(
    points=1,
    cases=[
        Case("a batch", linear_output, linear_inputs(5, 3, d_out=4)),
        Case("a batch of sequences", linear_output, linear_inputs(2, 4, 5, d_out=3)),
        Case("one example, not in a batch", linear_output, linear_inputs(6, d_out=2)),
        Case("no bias", linear_output, linear_inputs(4, 7, d_out=2, bias=False)),
    ],
)
def test_linear_maps_each_example(submission, case):
    """Maps each example affinely"""
    submission.matches_reference(case)


@linear.test(
    points=1,
    cases=[
        Case("names and shapes", linear_anatomy, lambda _: {"d_in": 5, "d_out": 3}),
        Case("gradients", linear_gradients, lambda make: linear_inputs(6, 4, d_out=3)(make)
             | {"cotangent": make.normal(6, 3)}),
    ],
)  # fmt: skip
def test_linear_owns_its_parameters(submission, case):
    """Owns a weight and a bias that can be trained"""
    submission.matches_reference(case)


@linear.test(points=1, cases=[
    Case("a wide layer", linear_draw, lambda _: {"d_in": 40, "d_out": 900},
         observe=facts_of_draw, dtypes=(torch.float64,)),
])  # fmt: skip
def test_linear_is_drawn_within_the_bound(submission, case):
    """Draws its parameters uniformly within the bound"""
    submission.matches_reference(case)


@linear.test(points=0.5, cases=[Case("a batch", linear_output, linear_inputs(4, 5, d_out=3))])
def test_linear_follows_the_device(submission, case):
    """Works on whichever device it was moved to"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- Sequential


def affine(weight, bias):
    return load_parameters(nn.Linear(*weight.shape[::-1]), {"weight": weight, "bias": bias})


def chain_inputs(make, sizes=(4, 6, 3), batch=5):
    shapes = list(pairwise(sizes))
    return {
        "x": make.normal(batch, sizes[0]),
        "weights": [make.normal(o, i) for i, o in shapes],
        "biases": [make.normal(o) for _, o in shapes],
    }


def chain_of(impl, weights, biases):
    first, second = (affine(w, b) for w, b in zip(weights, biases))  # noqa: B905
    return impl(first, nn.Tanh(), second)


def chain_output(impl, x, weights, biases):
    return chain_of(impl, weights, biases)(x)


def chain_gradients(impl, x, weights, biases, cotangent):
    chain, x = chain_of(impl, weights, biases), x.requires_grad_()
    wrt = [x, *(p for _, p in sorted(chain.named_parameters()))]
    return {"gradients of x and of every parameter": gradients(chain(x), wrt, cotangent)}


def chain_twice(impl, x, weights, biases):
    layer = affine(weights[0], biases[0])
    chain = impl(layer, nn.Tanh(), layer, nn.Softplus(), layer)
    return {"output": chain(x), "length": len(chain)}


def chain_hooked(impl, x, weights, biases):
    calls, first = [], affine(weights[0], biases[0])
    first.register_forward_hook(lambda *_: calls.append(1))
    first.register_forward_hook(lambda *called: 2 * called[2])
    output = impl(first, nn.Tanh(), affine(weights[1], biases[1]))(x)
    return {"times that a hook of the first module ran": len(calls), "output": output}


def chain_anatomy(impl, sizes):
    parts = [nn.Linear(sizes[0], sizes[1]), nn.Dropout(0.5), nn.Linear(sizes[1], sizes[2])]
    chain = impl(impl(*parts[:2]), parts[2])
    modes = [part.training for part in (chain.eval() and parts)]
    return {
        "it is an nn.Module": isinstance(chain, nn.Module),
        "parameters": parameters_of(chain),
        "state": sorted(chain.state_dict()),
        "the modules given are used themselves": all(
            any(m is part for m in chain.modules()) for part in parts
        ),
        "modes of the modules after eval()": modes,
        "length": len(chain),
        "length of the inner chain": len(next(iter(chain.children()), ())),
    }


def chain_empty(impl, x):
    chain = impl()
    return {"output": chain(x), "length": len(chain)}


ADD = "self.add_module(str(index), module)"
STEP = "x = self.get_submodule(str(index))(x)"

sequential = Exercise(
    "Sequential",
    oracle=Sequential,
    forbids=["torch.nn.Sequential", "torch.nn.modules.container.Sequential"],
    mistakes=[Mistake.edits_of(name, edits, hint) for name, edits, hint in [
        ("modules in a plain list",
         [(ADD, "self.__dict__.setdefault('parts', []).append(module)"),
          ("self.get_submodule(str(index))", "self.parts[index]")],
         "A plain list hides the modules: their parameters are not found, moved or saved. Register "
         "them as children."),
        ("children, of which each counts once",
         [("for index in range(self.length):", "for module in self.children():"),
          (STEP, "x = module(x)")],
         "children() names each module once, so one that stands in the chain twice is called only "
         "the first time. Go through the places instead."),
        ("every module on the same input",
         [(STEP, "y = self.get_submodule(str(index))(x)"), ("        return x\n", "        return "
          "y if self.length else x\n")],
         "Each module is given what the one before it returned, not the first input."),
        ("last module left out", [("in range(self.length)", "in range(self.length - 1)")],
         "The last module is never called."),
        ("first module left out", [("in range(self.length)", "in range(1, self.length)")],
         "The first module is never called: places are counted from 0."),
        ("back to front", [("in range(self.length)", "in reversed(range(self.length))")],
         "The modules are called in the order in which they were given."),
        ("names from 1",
         [("add_module(str(index)", "add_module(str(index + 1)"),
          ("get_submodule(str(index)", "get_submodule(str(index + 1)")],
         "The first child is called \"0\", as in nn.Sequential."),
        ("names with a prefix",
         [('add_module(str(index)', 'add_module(f"layer{index}"'),
          ("get_submodule(str(index))", 'get_submodule(f"layer{index}")')],
         "The children are called \"0\", \"1\", … with nothing before the number."),
        ("a ModuleList in between",
         [("enumerate(modules):\n            " + ADD, "[]:\n            pass\n"
           "        self.layers = nn.ModuleList(modules)"),
          ("self.get_submodule(str(index))", "self.layers[index]")],
         "The modules are found, but under names like \"layers.0.weight\": they should be children "
         "themselves."),
        ("forward called directly", [("(str(index))(x)", "(str(index)).forward(x)")],
         "Calling forward goes past the module's hooks. Call the module itself."),
        ("copies", [("str(index), module)", "str(index), __import__('copy').deepcopy(module))")],
         "The chain trains copies, while the caller keeps modules that never learn. Use the "
         "modules that were given."),
        ("cut off from autograd", [("(str(index))(x)", "(str(index))(x.detach())")],
         "No gradient gets past the last module: nothing is detached in a chain."),
        ("length of what differs", [("return self.length", "return len(list(self.children()))")],
         "One module in two places counts twice: children() names it once."),
        ("nothing from an empty chain",
         [("        return x\n", "        return x if self.length else None\n")],
         "A chain of no modules returns its input as it is."),
        ("names in the order of the alphabet",
         [("for index in range(self.length):",
           "for index in sorted(map(str, range(self.length))):")],
         "As text, \"10\" comes before \"2\": send the input through in the order of the numbers."),
        ("each given the first input",
         [(STEP, STEP.replace("x =", "y =")), ("        return x", "        return y")],
         "Each module is given what the one before it returned; yours are all given the input."),
    ]],
    variants=[
        Variant("through the dict of children", """
            class Sequential(nn.Module):
                def __init__(self, *modules):
                    super().__init__()
                    for i, module in enumerate(modules):
                        self._modules[str(i)] = module

                def forward(self, x):
                    for module in self._modules.values():
                        x = module(x)
                    return x

                def __len__(self):
                    return len(self._modules)
        """),
        Variant("setattr and getattr", """
            class Sequential(nn.Module):
                def __init__(self, *modules):
                    nn.Module.__init__(self)
                    self.n = 0
                    for module in modules:
                        setattr(self, str(self.n), module)
                        self.n += 1

                def forward(self, x):
                    i = 0
                    while i < len(self):
                        x = getattr(self, f"{i}")(x)
                        i += 1
                    return x

                def __len__(self):
                    return self.n
        """),
        Variant("a tuple of references beside the children", """
            class Sequential(nn.Module):
                def __init__(self, *modules):
                    super().__init__()
                    self.order = modules
                    for name, module in zip(map(str, range(len(modules))), modules):
                        self.register_module(name, module)

                def forward(self, x):
                    from functools import reduce
                    return reduce(lambda y, module: module(y), self.order, x)

                def __len__(self):
                    return len(self.order)
        """),
    ],
)  # fmt: skip

CHAIN = Case("three modules", chain_output, chain_inputs)


def long_chain(impl, x, weights, biases):
    chain = impl(*(affine(w, b) for w, b in zip(weights, biases)))  # noqa: B905
    return {"output": chain(x), "length": len(chain)}


@sequential.test(
    points=1.25,
    cases=[
        CHAIN,
        Case("one module in three places", chain_twice, lambda make: chain_inputs(make, (4, 4), 3)),
        Case("a module with hooks", chain_hooked, lambda make: chain_inputs(make, (3, 5, 2), 4)),
        Case("gradients", chain_gradients, lambda make: chain_inputs(make, (5, 4, 2), 6)
             | {"cotangent": make.normal(6, 2)}),
        Case("twelve modules", long_chain, lambda make: chain_inputs(make, [2] * 13, 3), loosen=30),
        Case("no module at all", chain_empty, lambda make: {"x": make.normal(3, 4)}),
    ],
)  # fmt: skip
def test_sequential_calls_one_after_the_other(submission, case):
    """Calls the modules one after the other"""
    submission.matches_reference(case)


@sequential.test(points=1, cases=[
    Case("names, modes and length", chain_anatomy, lambda _: {"sizes": [4, 6, 3]})
])  # fmt: skip
def test_sequential_registers_its_modules(submission, case):
    """Has the modules for children, under their numbers"""
    submission.matches_reference(case)


@sequential.test(points=0.25, cases=[CHAIN])
def test_sequential_follows_the_device(submission, case):
    """Works on whichever device it was moved to"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- MLP


def net_inputs(sizes, *leading):
    def draw(make):
        shapes = list(pairwise(sizes))
        return {
            "sizes": list(sizes),
            "x": make.normal(*leading, sizes[0]),
            "weights": [make.normal(o, i) for i, o in shapes],
            "biases": [make.normal(o) for _, o in shapes],
        }

    return draw


def net_of(impl, sizes, weights, biases, *activation):
    net = impl(sizes, *activation).to(weights[0])
    for layer, weight, bias in zip(net.layers, weights, biases, strict=True):
        load_parameters(layer, {"weight": weight, "bias": bias})
    return net


def net_output(impl, x, **given):
    return net_of(impl, **given)(x)


def net_gradients(impl, x, sizes, weights, biases, cotangent):
    net, x = net_of(impl, sizes, weights, biases, torch.tanh), x.requires_grad_()
    wrt = [x, *(p for _, p in sorted(net.named_parameters()))]
    return {"gradients of x and of every parameter": gradients(net(x), wrt, cotangent)}


def net_recorded(impl, x, sizes, weights, biases):
    widths = []

    def activation(t):
        widths.append(t.shape[-1])
        return t.sin()

    output = net_of(impl, sizes, weights, biases, activation)(x)
    return {"output": output, "widths that the activation was called on": widths}


def net_with_module(impl, x, sizes, weights, biases, slope):
    activation = load_parameters(nn.PReLU(), {"weight": slope})
    net = net_of(impl, sizes, weights, biases, activation)
    return {
        "output": net(x),
        "the module is part of the network": any(m is activation for m in net.modules()),
        "number of parameter tensors": len(list(net.parameters())),
    }


def net_anatomy(impl, sizes):
    net = impl(sizes)
    return {
        "it is an nn.Module": isinstance(net, nn.Module),
        "layers is an nn.ModuleList": isinstance(net.layers, nn.ModuleList),
        "parameters": parameters_of(net),
    }


BUILD = "nn.ModuleList([Linear(d_in, d_out) for d_in, d_out in pairwise(sizes)])"
HIDDEN = """        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
"""
LAST = "logits: Tensor = self.layers[-1](x)"

mlp = Exercise(
    "MLP",
    oracle=MLP,
    mistakes=[Mistake.edits_of(name, edits, hint) for name, edits, hint in [
        ("activated at the end", [(LAST, "logits = self.activation(self.layers[-1](x))")],
         "The last layer returns logits: no activation after it, or a ReLU would cut off every "
         "negative one."),
        ("no activation", [("self.activation(layer(x))", "layer(x)")],
         "Without an activation in between, all layers together are a single linear one."),
        ("activated before the layer", [("self.activation(layer(x))", "layer(self.activation(x))"),
                                        (LAST, LAST.replace("(x)", "(self.activation(x))"))],
         "The activation stands before every layer, so the input is bent before anything has "
         "looked at it. It goes between two layers."),
        ("activated once", [(HIDDEN, "        for i, layer in enumerate(self.layers[:-1]):\n"
          "            x = self.activation(layer(x)) if i == 0 else layer(x)\n")],
         "The activation is used after the first layer only: it goes after every hidden layer."),
        ("always ReLU", [("self.activation(layer(x))", "torch.relu(layer(x))")],
         "The argument `activation` has no effect."),
        ("layers in a plain list", [(BUILD, BUILD[14:-1])],
         "A plain list hides the layers: their parameters are not found, moved or saved. Use "
         "nn.ModuleList."),
        ("a Sequential for the list",
         [(BUILD, BUILD.replace("nn.ModuleList([", "nn.Sequential(*["))],
         "The docstring asks for an nn.ModuleList: here the activations stand between the layers, "
         "so there is nothing to call in one go."),
        ("no biases", [("Linear(d_in, d_out)", "Linear(d_in, d_out, bias=False)")],
         "All linear layers have a bias."),
        ("layers from the middle", [("pairwise(sizes)", "pairwise(sizes[1:])")],
         "The first layer leads from sizes[0] to sizes[1]: it is missing."),
        ("turned round", [("Linear(d_in, d_out)", "Linear(d_out, d_in)")],
         "Each layer leads from one size to the *next*: the two are swapped."),
        ("softmax at the end", [(LAST, LAST + ".softmax(dim=-1)")],
         "The network returns logits. The loss takes the softmax, in a stable way."),
        ("activation hidden from the network",
         [("self.activation = activation", "self.given = [activation]"),
          ("self.activation(layer(x))", "self.given[0](layer(x))")],
         "In a plain list, an activation with parameters of its own is not found. Make it an "
         "attribute of the module."),
        ("a copy of the activation for every layer",
         [("self.activation = activation", "from copy import deepcopy\n"
           "        copies = [deepcopy(activation) for _ in sizes[2:]]\n"
           "        if isinstance(activation, nn.Module):\n"
           "            self.copies = nn.ModuleList(copies)\n"
           "        else:\n            self.copies = copies"),
          (HIDDEN, HIDDEN.replace("layer in self.layers[:-1]", "layer, act in zip(self.layers[:-1],"
                                  " self.copies)").replace("self.activation", "act"))],
         "One and the same activation serves every hidden layer: copies have parameters of their "
         "own."),
        ("images flattened", [(HIDDEN, "        x = x.flatten(1)\n" + HIDDEN)],
         "x may have several leading dimensions, which stay as they are: only the last one holds "
         "features."),
        ("first dimension averaged away", [(LAST, LAST + ".squeeze()")],
         "Dimensions of size 1 belong to the output's shape too: nothing is squeezed."),
        ("a copy of the activation for each layer",
         [("self.activation = activation", "self.activation = activation\n"
           "        copies = [__import__('copy').deepcopy(activation) for _ in sizes[2:]]\n"
           "        self.copies = copies if not isinstance(activation, nn.Module) else "
           "nn.ModuleList(copies)"),
          ("for layer in self.layers[:-1]:", "for act, layer in zip(self.copies, self.layers):"),
          ("self.activation(layer(x))", "act(layer(x))")],
         "One and the same activation serves all hidden layers: its parameters are there once."),
        ("layers of one shape shared", [(BUILD, "nn.ModuleList()\n        made = {}\n"
          "        for pair in pairwise(sizes):\n            made.setdefault(pair, Linear(*pair))\n"
          "            self.layers.append(made[pair])")],
         "Two hidden layers of the same sizes are two layers, with weights of their own."),
        ("leading dimensions joined",
         [("        for layer in", "        x = x.reshape(-1, x.shape[-1])\n"
                                        "        for layer in")],
         "The leading dimensions stay as they came: yours are joined into one."),
    ]],
    variants=[
        Variant("a loop with an index", """
            class MLP(nn.Module):
                def __init__(self, sizes, activation=torch.relu):
                    super().__init__()
                    self.layers = nn.ModuleList()
                    for i in range(1, len(sizes)):
                        self.layers.append(Linear(sizes[i - 1], sizes[i]))
                    self.activation = activation

                def forward(self, x):
                    for i, layer in enumerate(self.layers):
                        x = layer(x)
                        if i < len(self.layers) - 1:
                            x = self.activation(x)
                    return x
        """),
        Variant("PyTorch's own layers, popped", """
            class MLP(nn.Module):
                def __init__(self, sizes, activation=torch.relu):
                    super().__init__()
                    pairs = zip(sizes[:-1], sizes[1:])
                    self.layers = torch.nn.ModuleList([nn.Linear(*pair) for pair in pairs])
                    self.act = activation

                def forward(self, x):
                    *hidden, last = self.layers
                    for layer in hidden:
                        x = self.act(layer(x))
                    return last(x)
        """),
        Variant("recursively", """
            class MLP(nn.Module):
                def __init__(self, sizes, activation=torch.relu):
                    super().__init__()
                    self.activation = activation
                    self.layers = nn.ModuleList(Linear(a, b) for a, b in zip(sizes, sizes[1:]))

                def forward(self, x, start=0):
                    y = self.layers[start](x)
                    if start + 1 == len(self.layers):
                        return y
                    return self.forward(self.activation(y), start + 1)
        """),
    ],
)  # fmt: skip


@mlp.test(
    points=1.5,
    cases=[
        Case("two hidden layers", net_output, net_inputs((5, 7, 4, 3), 6)),
        Case("no hidden layer", net_output, net_inputs((4, 3), 5)),
        Case("four hidden layers, sequences", net_output, net_inputs((3, 6, 5, 4, 7, 2), 2, 4)),
        Case("one example in the batch", net_output, net_inputs((4, 6, 3), 1)),
        Case("hidden layers of one width", net_output, net_inputs((4, 5, 5, 5, 3), 6)),
    ],
)
def test_mlp_computes_logits(submission, case):
    """Computes the logits at any depth"""
    submission.matches_reference(case)


@mlp.test(
    points=1,
    cases=[
        Case("an activation that counts", net_recorded, net_inputs((4, 6, 5, 3, 2), 5)),
        Case("an activation with a parameter", net_with_module,
             lambda make: net_inputs((4, 6, 5, 3), 5)(make) | {"slope": make.uniform(1) + 0.2}),
    ],
)  # fmt: skip
def test_mlp_uses_the_activation(submission, case):
    """Uses the given activation between every two layers"""
    submission.matches_reference(case)


@mlp.test(
    points=1,
    cases=[
        Case("names and shapes", net_anatomy, lambda _: {"sizes": [5, 8, 6, 3]}),
        Case("gradients", net_gradients, lambda make: net_inputs((4, 6, 5, 3), 7)(make)
             | {"cotangent": make.normal(7, 3)}),
    ],
)  # fmt: skip
def test_mlp_registers_its_layers(submission, case):
    """Registers its layers, so that they can be trained"""
    submission.matches_reference(case)


@mlp.test(points=0.5, cases=[Case("two hidden layers", net_output, net_inputs((3, 6, 4, 2), 5))])
def test_mlp_follows_the_device(submission, case):
    """Works on whichever device it was moved to"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- count_parameters


def normalised(a, b, c):
    return nn.Sequential(nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU(), nn.Linear(b, c))


def tied(a, b, c):
    encoder, decoder, head = nn.Linear(a, b), nn.Linear(b, a), nn.Linear(b, c)
    unused = nn.Linear(a, b)
    unused.weight = encoder.weight  # shared
    return nn.ModuleDict({"e": encoder, "d": decoder, "h": nn.ModuleList([unused, head])})


def own(a, b, c):
    model = nn.Module()
    model.scale = nn.Parameter(torch.ones(()))
    model.table = nn.Parameter(torch.ones(a, b, c), requires_grad=False)
    model.inner = nn.Sequential(nn.Sequential(nn.Linear(b, c, bias=False)))
    return model


def half_frozen(a, b, c):
    model = normalised(a, b, c)
    model[0].weight.requires_grad_(False)
    model[3].bias.requires_grad_(False)
    return model


MODELS = {"normalised": normalised, "tied": tied, "own": own, "half frozen": half_frozen}


def counts(impl, build, sizes):
    model = MODELS[build](*sizes)
    found = {"all": impl(model), "trainable": impl(model, trainable_only=True)}
    return found | {"they are ints": all(isinstance(n, int) for n in found.values())}


def model_case(title, build):
    def draw(make):
        low = make.integers(3, 6, 1).item()
        return {"build": build, "sizes": [low, low + 3, 2 * low + 5]}

    return Case(title, counts, draw, dtypes=(torch.float64,))


COUNT = "return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable_only)"
SHARED = "A parameter that two submodules share is one parameter, and counts once."

count_parameters = Exercise(
    "count_parameters",
    oracle=count_by_traversal,
    mistakes=[Mistake(name, COUNT, f"return {mistaken}", hint) for name, mistaken, hint in [
        ("argument ignored", "sum(p.numel() for p in model.parameters())",
         "`trainable_only` has no effect."),
        ("always the trainable ones", "sum(p.numel() for p in model.parameters() if "
         "p.requires_grad)", "Frozen parameters count too, unless `trainable_only` is set."),
        ("the frozen ones", "sum(p.numel() for p in model.parameters() if not (trainable_only and "
         "p.requires_grad))", "With `trainable_only` the frozen ones are left out, not kept."),
        ("upside down", "sum(p.numel() for p in model.parameters() if p.requires_grad or "
         "trainable_only)", "The argument works the wrong way round."),
        ("tensors counted", "sum(1 for p in model.parameters() if p.requires_grad or not "
         "trainable_only)", "These are the tensors. Count the numbers that they hold."),
        ("first dimension alone", "sum(p.shape[0] if p.ndim else 1 for p in model.parameters() if "
         "p.requires_grad or not trainable_only)",
         "A tensor holds the product of all its dimensions, not the first of them."),
        ("buffers included", "sum(p.numel() for p in [*model.parameters(), *model.buffers()] if "
         "p.requires_grad or not trainable_only)",
         "Buffers are not parameters: no optimizer changes them."),
        ("the state dict", "sum(t.numel() for t in model.state_dict(keep_vars=True).values() if "
         "t.requires_grad or not trainable_only)",
         "The state dict holds buffers as well, and shared parameters twice."),
        ("shared ones twice", "sum(p.numel() for m in model.modules() for p in "
         "m.parameters(recurse=False) if p.requires_grad or not trainable_only)", SHARED),
        ("top level alone", "sum(p.numel() for p in model.parameters(recurse=False) if "
         "p.requires_grad or not trainable_only)",
         "The parameters sit in submodules: look into them too."),
        ("children alone", "sum(p.numel() for p in {p for c in model.children() for p in "
         "c.parameters()} if p.requires_grad or not trainable_only)",
         "A model may hold parameters of its own, beside those of its children."),
        ("weights alone", "sum(p.numel() for p in model.parameters() if p.ndim > 1 and "
         "(p.requires_grad or not trainable_only))", "Biases and scalars are parameters too."),
        ("bytes", "sum(p.numel() * p.element_size() for p in model.parameters() if "
         "p.requires_grad or not trainable_only)", "These are bytes: count the numbers."),
        ("whatever is saved", "sum(t.numel() for t in model.state_dict().values())",
         "What is saved holds the buffers too, and shared parameters twice: count parameters."),
        ("a tensor", COUNT.removeprefix("return ").replace("p.numel()", "torch.tensor(p.numel())"),
         "The number is right, but it is a tensor: an int is asked for."),
        ("a float", f"float({COUNT.removeprefix('return ')})",
         "The number is right, but it is a float: an int is asked for."),
    ]],
    variants=[
        Variant("a loop", """
            def count_parameters(model, trainable_only=False):
                total = 0
                for _, p in model.named_parameters():
                    if trainable_only and not p.requires_grad:
                        continue
                    total += p.nelement()
                return total
        """),
        Variant("products of shapes, as a set", """
            def count_parameters(model, trainable_only=False):
                unique = {id(p): p for m in model.modules() for p in m.parameters()}
                kept = [p for p in unique.values() if not trainable_only or p.requires_grad]
                return sum(math.prod(p.shape) for p in kept)
        """),
        Variant("a filter", """
            def count_parameters(model, trainable_only=False):
                params = model.parameters()
                if trainable_only:
                    params = filter(lambda p: p.requires_grad, params)
                return sum(map(torch.numel, params))
        """),
    ],
)  # fmt: skip


@count_parameters.test(
    points=1.5,
    cases=[
        model_case("batch norm, with its buffers", "normalised"),
        model_case("a shared weight", "tied"),
        model_case("parameters at several depths", "own"),
        model_case("some frozen", "half frozen"),
    ],
)
def test_count_parameters_counts_numbers(submission, case):
    """Counts all numbers, and the trainable ones"""
    submission.matches_reference(case)


# ---------------------------------------------------------------- mlp_parameter_count


def count_of(impl, sizes):
    found = {"with biases": impl(sizes), "without": impl(sizes, bias=False)}
    return found | {"of a tuple": impl(tuple(sizes))}


def sized(title, n):
    def draw(make):
        sizes = [3 * i + 2 for i in make.permutation(n + 3)[:n].tolist()]
        return {"sizes": sizes}

    return Case(title, count_of, draw, dtypes=(torch.float64,))


EACH = "d_in * d_out + (d_out if bias else 0)"

mlp_parameter_count = Exercise(
    "mlp_parameter_count",
    oracle=count_by_closed_form,
    mistakes=[Mistake(name, *edit, hint) for name, edit, hint in [
        ("no biases", (EACH, "d_in * d_out"), "Each layer has a bias beside its weights."),
        ("biases always", (EACH, "d_in * d_out + d_out"), "`bias` has no effect."),
        ("as many biases as inputs", (EACH, "d_in * d_out + (d_in if bias else 0)"),
         "A bias is added to the outputs: there are as many biases as outputs."),
        ("one bias a layer", (EACH, "d_in * d_out + (1 if bias else 0)"),
         "Each output of a layer has a bias of its own."),
        ("biases at both ends", (EACH, "d_in * d_out + (d_in + d_out if bias else 0)"),
         "A layer has biases for its outputs alone."),
        ("biases multiplied", (EACH, "d_in * d_out * (d_out if bias else 1)"),
         "The biases are added to the weights, not multiplied."),
        ("a bias for every size", (f"sum({EACH} for d_in, d_out in pairwise(sizes))",
         "sum(a * b for a, b in pairwise(sizes)) + (sum(sizes) if bias else 0)"),
         "The input has no bias: it is not a layer."),
        ("last layer without a bias", (f"sum({EACH} for d_in, d_out in pairwise(sizes))",
         "sum(a * b for a, b in pairwise(sizes)) + (sum(sizes[1:-1]) if bias else 0)"),
         "The last layer has a bias too."),
        ("sums for products", (EACH, "d_in + d_out + (d_out if bias else 0)"),
         "Every input is connected to every output: multiply."),
        ("last layer left out", ("pairwise(sizes)", "pairwise(sizes[:-1])"),
         "The last layer is missing."),
        ("first layer left out", ("pairwise(sizes)", "pairwise(sizes[1:])"),
         "The first layer is missing."),
        ("product of all", (f"sum({EACH} for d_in, d_out in pairwise(sizes))",
         "math.prod(sizes) + (sum(sizes[1:]) if bias else 0)"),
         "Only neighbouring layers are connected: one product for each pair, then the sum."),
        ("units counted", (f"sum({EACH} for d_in, d_out in pairwise(sizes))", "sum(sizes)"),
         "These are the units. The parameters are the connections between them, and the biases."),
        ("sizes used up", ("return sum(", "sizes.append(sizes.pop(0))\n    return sum("),
         "The caller's list of sizes is changed on the way: read it without changing it."),
        ("lists alone", ("pairwise(sizes)", "pairwise(sizes + [])"),
         "The sizes may come as a tuple too, to which no list can be added."),
    ]],
    variants=[
        Variant("a loop", """
            def mlp_parameter_count(sizes, bias=True):
                total = 0
                for i in range(len(sizes) - 1):
                    total += (sizes[i] + int(bias)) * sizes[i + 1]
                return total
        """),
        Variant("zip, then the biases", """
            def mlp_parameter_count(sizes, bias=True):
                weights = sum(a * b for a, b in zip(sizes[:-1], sizes[1:]))
                return weights + sum(sizes[1:]) if bias else weights
        """),
        Variant("shapes of tensors on no device", """
            def mlp_parameter_count(sizes, bias=True):
                shapes = [(b, a) for a, b in zip(sizes, sizes[1:])]
                shapes += [(b,) for b in sizes[1:]] if bias else []
                return sum(torch.empty(s, device="meta").numel() for s in shapes)
        """),
    ],
)  # fmt: skip


@mlp_parameter_count.test(
    points=1,
    cases=[sized("one hidden layer", 3), sized("no hidden layer", 2), sized("four layers", 5)],
)
def test_mlp_parameter_count_needs_no_network(submission, case):
    """Works out the number of parameters"""
    submission.matches_reference(case)


# ---------------------------------------------------------------- widest_hidden


def within(title, hidden_layers, low, high, over=None):
    """A budget that a width reaches exactly and then some; over=None draws the surplus."""

    def draw(make):
        d_in, d_out = make.integers(5, 9, 1).item(), make.integers(2, 5, 1).item()
        width = make.integers(low, high, 1).item()
        exact = count_by_closed_form([d_in, *[width] * hidden_layers, d_out])
        surplus = make.integers(2, 5, 1).item() if over is None else over
        return dict(d_in=d_in, d_out=d_out, hidden_layers=hidden_layers, budget=exact + surplus)

    return Case(title, width_of, draw, dtypes=(torch.float64,))


def width_of(impl, budget, **given):
    return {"width": impl(budget=budget, **given), "one more": impl(budget=budget + 1, **given)}


GROW = "while mlp_parameter_count([d_in, *[width + 1] * hidden_layers, d_out]) <= budget:"

widest_hidden = Exercise(
    "widest_hidden",
    oracle=widest_by_quadratic_formula,
    mistakes=[Mistake.edits_of(name, edits, hint) for name, edits, hint in [
        ("budget not to be reached", [("<= budget", "< budget")],
         "A network that uses up the budget exactly is allowed."),
        ("one too wide", [("return width", "return width + 1")],
         "This is the first width that does *not* fit: return the one before."),
        ("one too narrow", [("return width", "return max(width - 1, 0)")],
         "One wider still fits: check where the search stops."),
        ("biases forgotten", [("d_out])", "d_out], bias=False)")],
         "The biases count as well."),
        ("always one hidden layer", [("[width + 1] * hidden_layers", "[width + 1]")],
         "`hidden_layers` has no effect."),
        ("one hidden layer too many", [("* hidden_layers", "* (hidden_layers + 1)")],
         "There is one hidden layer too many in the count."),
        ("at least one", [("return width", "return max(width, 1)")],
         "Where not even width 1 fits, the answer is 0."),
        ("the search ends at 1024", [("    return width", "    return min(width, 1024)")],
         "The search stops at a fixed width. It has to go on as far as the budget allows."),
        ("the nearest", [("    return width", """    above, below = (
        mlp_parameter_count([d_in, *[w] * hidden_layers, d_out]) - budget
        for w in (width + 1, width)
    )
    return width + (above <= -below)""")],
         "The nearest number of parameters may lie above the budget: it must not be exceeded."),
        ("output layer left out", [("* hidden_layers, d_out]", "* hidden_layers]")],
         "The layer that leads to the output has parameters too."),
        ("input layer left out", [("[d_in, *[width + 1]", "[*[width + 1]")],
         "The layer that leads from the input has parameters too."),
        ("parameters for each layer",
         [("<= budget", "<= budget * (hidden_layers + 1)")],
         "The budget is for the whole network, not for each of its layers."),
        ("one hidden layer too few", [("* hidden_layers", "* max(hidden_layers - 1, 1)")],
         "With several hidden layers, one of them is missing in the count."),
        ("negative where nothing fits",
         [("    return width", "    return width or min(0, budget - d_out)")],
         "Where not even one unit fits, the answer is 0: a width is never negative."),
    ]],
    variants=[
        Variant("bisection", """
            def widest_hidden(d_in, d_out, hidden_layers, budget):
                low, high = 0, budget + 1
                while high - low > 1:
                    middle = (low + high) // 2
                    sizes = [d_in] + [middle] * hidden_layers + [d_out]
                    if mlp_parameter_count(sizes) <= budget:
                        low = middle
                    else:
                        high = middle
                return low
        """),
        Variant("counted in the head", """
            def widest_hidden(d_in, d_out, hidden_layers, budget):
                w = 1
                inner = hidden_layers - 1
                while (d_in + 1) * w + inner * (w + 1) * w + (w + 1) * d_out <= budget:
                    w += 1
                return w - 1
        """),
        Variant("itertools", """
            def widest_hidden(d_in, d_out, hidden_layers, budget):
                from itertools import count
                for w in count(1):
                    if mlp_parameter_count((d_in, *(w,) * hidden_layers, d_out)) > budget:
                        return w - 1
        """),
    ],
)  # fmt: skip


@widest_hidden.test(
    points=1.5,
    cases=[
        within("one hidden layer", 1, 9, 20),
        within("three hidden layers", 3, 6, 12),
        within("the budget reached exactly", 2, 8, 15, over=0),
        within("one parameter short", 2, 8, 15, over=-1),
        within("a generous budget", 1, 1500, 1700),
        within("not even one unit", 4, 1, 2, over=-1),
        Case(
            "not even the biases of the output",
            width_of,
            lambda make: {
                "d_in": make.integers(5, 9, 1).item(),
                "d_out": 7,
                "hidden_layers": 1,
                "budget": 1,
            },
            dtypes=(torch.float64,),
        ),
    ],
)
def test_widest_hidden_stays_within_the_budget(submission, case):
    """Finds the largest width that stays within the budget"""
    submission.matches_reference(case)


# ---------------------------------------------------------------- freeze


def look_alikes():
    """Names that begin like others, or contain them."""
    layers = nn.ModuleList(nn.Linear(2, 1) for _ in range(12))
    inner = nn.ModuleDict({"layers": layers, "norm": nn.BatchNorm1d(2)})
    ends = {"head": nn.Linear(3, 1), "headline": nn.Linear(1, 2), "subhead": nn.Linear(2, 2)}
    return nn.ModuleDict({"body": inner, **ends})


def frozen_model(impl, names, before):
    model = look_alikes()
    for i, (name, parameter) in enumerate(model.named_parameters()):
        parameter.requires_grad_(name not in before)
        parameter.grad = torch.full_like(parameter, i + 1.0)
    model["head"].eval()
    values = [p.detach().clone() for p in model.parameters()]
    nothing = impl(model)
    returned = impl(model, *names)
    named = dict(model.named_parameters())
    return {
        "names returned where none is given": nothing,
        "names returned": returned,
        "parameters that require no gradient": [n for n, p in named.items() if not p.requires_grad],
        "parameters without a gradient": [n for n, p in named.items() if p.grad is None],
        "parameters with a gradient of zeros": [
            n for n, p in named.items() if p.grad is not None and not p.grad.any()
        ],
        "values as before": all(map(torch.equal, values, model.parameters())),
        "modules in evaluation mode": [n for n, m in model.named_modules() if not m.training],
    }


def freezing(title, *names, before=()):
    return Case(title, frozen_model, lambda _: {"names": names, "before": before},
                dtypes=(torch.float64,))  # fmt: skip


MEANT = 'if any(name == part or name.startswith(f"{part}.") for part in names):'
NO_GRADIENT = "            parameter.requires_grad_(False)\n"
DROPPED = "            parameter.grad = None\n"

freeze = Exercise(
    "freeze",
    oracle=freeze_by_lookup,
    mistakes=[Mistake.edits_of(name, edits, hint) for name, edits, hint in [
        ("names that begin alike", [(MEANT, "if name.startswith(names):")],
         "\"layers.1\" begins \"layers.10\" as well: a name has to end at a dot, or altogether."),
        ("names that contain it", [(MEANT, "if any(part in name for part in names):")],
         "A name may occur inside others: it has to match from the start, and end at a dot."),
        ("submodules only", [(MEANT, "if any(name.startswith(f'{part}.') for part in names):")],
         "A name may also mean a single parameter, in full."),
        ("full names only", [(MEANT, "if name in names:")],
         "A name may mean a whole submodule, with every parameter in it."),
        ("children only", [(MEANT, "if name.split('.')[0] in names:")],
         "A name may be dotted: it can lead deeper than the model's children."),
        ("the others frozen", [(MEANT, MEANT.replace("if any", "if not any"))],
         "The parts that are named get frozen, not the others."),
        ("everything frozen", [(MEANT, "if names:")],
         "Only the parts that are named are frozen."),
        ("first name only", [("for part in names)", "for part in names[:1])")],
         "There may be several names."),
        ("in the order of the names", [("    for name, parameter in model.named_parameters():\n"
          f"        {MEANT}", "    for name, parameter in [(n, p) for part in names for n, p in "
          "model.named_parameters() if n == part or n.startswith(f'{part}.')]:\n        if True:")],
         "The names are returned in the order in which the *model* lists its parameters."),
        ("gradient kept", [(DROPPED, "")],
         "A frozen parameter still holds its last gradient, and an optimizer goes on using it: "
         "drop it."),
        ("gradient zeroed", [(DROPPED, "            parameter.grad.zero_()\n")],
         "A gradient of zeros still lets momentum and weight decay move the parameter: there "
         "should be none at all."),
        ("all gradients dropped",
         [("    frozen = []\n", "    frozen = []\n    model.zero_grad()\n")],
         "Parameters that go on being trained keep their gradients."),
        ("gradient dropped, not frozen", [(NO_GRADIENT, "")],
         "Without a gradient now, but the next backward pass brings a new one: it has to be "
         "switched off."),
        ("an attribute of the module",
         [(NO_GRADIENT + DROPPED, "            model.requires_grad = False\n")],
         "Setting requires_grad on a *module* only gives it a new attribute. It is the parameters "
         "that have one which counts."),
        ("the others thawed", [("        " + MEANT, "        parameter.requires_grad_(True)\n"
                                "        " + MEANT)],
         "What was frozen before stays frozen: only what is named is changed."),
        ("biases left out", [(MEANT, MEANT[:-1] + " and not name.endswith('bias'):")],
         "A submodule is frozen with everything in it, biases included."),
        ("weights of batch norm left out",
         [(MEANT, MEANT[:-1] + " and (parameter.ndim > 1 or 'norm' not in name):")],
         "A submodule is frozen with everything in it, the scale and shift of a norm included."),
        ("a number returned", [("return frozen", "return len(frozen)")],
         "The names are returned, not how many there are."),
        ("the names given returned", [("return frozen", "return list(names)")],
         "Return the full names of the parameters, not the names that were given."),
        ("switched to evaluation", [("    return frozen", "    model.eval()\n    return frozen")],
         "Freezing does not touch the mode: that is the caller's choice."),
        ("frozen ones left out",
         [(MEANT, MEANT.replace("if any", "if parameter.requires_grad and any"))],
         "The names that are meant are returned, those of parameters that were frozen before as "
         "well."),
        ("listed once for each name", [(MEANT, "for _ in [p for p in names if name == p or "
                                        "name.startswith(f'{p}.')]:")],
         "Two names may mean the same parameter: it is listed once."),
        ("in the order of the alphabet", [("return frozen", "return sorted(frozen)")],
         "The names are returned in the model's order, not in that of the alphabet."),
        ("everything where nothing is named",
         [(MEANT, MEANT.replace("if any", "if not names or any"))],
         "Where no name is given nothing is frozen."),
    ]],
    variants=[
        Variant("by the parts of the name", """
            def freeze(model, *names):
                found = []
                for full, p in model.named_parameters():
                    parts = full.split(".")
                    starts = [".".join(parts[:k]) for k in range(1, len(parts) + 1)]
                    if any(n in starts for n in names):
                        p.requires_grad, p.grad = False, None
                        found += [full]
                return found
        """),
        Variant("with a dot at the end of both", """
            def freeze(model, *names):
                starts = tuple(n + "." for n in names)
                meant = {n: p for n, p in model.named_parameters() if (n + ".").startswith(starts)}
                for p in meant.values():
                    p.grad = None
                    p.requires_grad = False
                return list(meant)
        """),
        Variant("through get_submodule", """
            def freeze(model, *names):
                chosen = set()
                for n in names:
                    try:
                        part = model.get_submodule(n)
                        chosen |= {id(p) for p in part.parameters()}
                    except AttributeError:
                        chosen.add(id(model.get_parameter(n)))
                out = []
                for n, p in model.named_parameters():
                    if id(p) in chosen:
                        p.requires_grad_(False).grad = None
                        out.append(n)
                return out
        """),
    ],
)  # fmt: skip


@freeze.test(
    points=2,
    cases=[
        freezing("a layer whose number begins others", "body.layers.1"),
        freezing("a name that others contain", "head"),
        freezing("single parameters", "headline.bias", "body.layers.10.weight"),
        freezing("everything below a child", "body", before=("subhead.bias",)),
        freezing("several parts, some frozen before", "subhead", "body.norm",
                 before=("head.weight", "body.layers.3.bias", "subhead.bias")),
        freezing("a part, and a parameter in it", "body.norm", "body.norm.weight"),
    ],
)  # fmt: skip
def test_freeze_excludes_what_is_named(submission, case):
    """Excludes what is named from training, and nothing else"""
    submission.matches_reference(case)
