"""Convolutional GANs: blocks, first weights, labels, spectral normalisation, Fréchet distance.

Radford et al. (2016), https://arxiv.org/abs/1511.06434; Mirza & Osindero (2014),
https://arxiv.org/abs/1411.1784; Miyato et al. (2018), https://arxiv.org/abs/1802.05957; Heusel et
al. (2017), https://arxiv.org/abs/1706.08500.

Modules are given a case's parameters and buffers; draws are judged by facts six sigma wide.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from autograder.spec import Case, Exercise, Mistake, gradients, load_parameters
from autograder.spec.tables import edits, slips, variants

ONE = (torch.float64,)


def apply(impl, **inputs):
    return impl(**inputs)


# ---------------------------------------------------------------- the two blocks: scenarios


def anatomy(impl, d_in, d_out, **options):
    block = impl(d_in, d_out, **options)
    return {
        "it is an nn.Module": isinstance(block, nn.Module),
        "parameters": sorted(f"{n} {tuple(p.shape)}" for n, p in block.named_parameters()),
        "buffers": sorted(f"{n} {tuple(b.shape)}" for n, b in block.named_buffers()),
        "a batch of shape (2, in, 4, 6) becomes": shape_after(block, torch.zeros(2, d_in, 4, 6)),
    }


def shape_after(block, x):
    try:
        return list(block(x).shape)
    except RuntimeError:
        return "an error"


def block_output(impl, x, state, options, training=True, cotangent=None, batches=()):
    """Some batches in training mode; then ``x`` in a mode; what came out, and what is stored."""
    norm, weight = state.get("norm.weight"), state["conv.weight"]
    d_in = x.shape[1]
    d_out = weight.numel() // (d_in * 16) if norm is None else len(norm)
    block = load_parameters(impl(d_in, d_out, **options), state)
    for batch in batches:
        block(batch)
    block.train(training)
    x.requires_grad_(cotangent is not None)
    y = block(x)
    outcome = {"output": y.detach(), **{n: b.clone() for n, b in block.named_buffers()}}
    if cotangent is not None:
        found = gradients(y, [x, block.conv.weight], cotangent)
        outcome |= dict(zip(("gradient of x", "gradient of conv.weight"), found, strict=True))
    return outcome


def block_inputs(*shape, d_out, transposed, normalize=True, training=True, more=(), grad=False):
    n, d_in, h, w = shape

    def draw(make):
        kernel = (d_in, d_out, 4, 4) if transposed else (d_out, d_in, 4, 4)
        state = {"conv.weight": 0.3 * make.normal(*kernel)}
        if normalize:
            state |= {
                "norm.weight": make.away_from_zero(d_out),
                "norm.bias": make.away_from_zero(d_out),
                "norm.running_mean": make.normal(d_out),
                "norm.running_var": make.uniform(d_out, low=0.02, high=3.0),
                "norm.num_batches_tracked": torch.tensor(4),
            }
        else:
            state["conv.bias"] = make.away_from_zero(d_out)
        size = (2 * h, 2 * w) if transposed else (h // 2, w // 2)
        return {
            "x": make.normal(*shape, mean=0.4),
            "state": state,
            "options": {} if normalize else {"normalize": False},
            "training": training,
            "cotangent": make.normal(n, d_out, *size) if grad else None,
            "batches": [make.normal(m, d_in, h, w, mean=1.0) for m in more],
        }

    return draw


# ---------------------------------------------------------------- GeneratorBlock


class GeneratorBlockByUpsampling(nn.Module):
    """A transposed convolution: zeros between the pixels, and the kernel turned round."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.conv = nn.ConvTranspose2d(
            in_channels, out_channels, kernel_size=4, stride=2, padding=1, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x):
        n, c, h, w = x.shape
        spread = x.new_zeros(n, c, 2 * h - 1, 2 * w - 1)
        spread[:, :, ::2, ::2] = x
        turned = self.conv.weight.flip(2, 3).transpose(0, 1)
        return self.norm(F.conv2d(spread, turned, padding=2)).clamp(min=0)


CONV_T = "nn.ConvTranspose2d(in_channels, out_channels, 4, 2, 1, bias=False)"
NORM = "nn.BatchNorm2d(out_channels)"
CHAIN = "torch.relu(self.norm(self.conv(x)))"
RELU_LAST = "The order is convolution, normalisation, activation."

generator_block = Exercise(
    "GeneratorBlock",
    oracle=GeneratorBlockByUpsampling,
    mistakes=edits([
        ("leaky ReLU", CHAIN, "F.leaky_relu(self.norm(self.conv(x)), 0.2)",
         "The leaky ReLU belongs to the discriminator; the generator's blocks have a plain one."),
        ("no activation", CHAIN, "self.norm(self.conv(x))", "The ReLU at the end is missing."),
        ("tanh", CHAIN, "torch.tanh(self.norm(self.conv(x)))",
         "The tanh comes at the very end of the generator; a block inside it has a ReLU."),
        ("not normalised", CHAIN, "torch.relu(self.conv(x))",
         "The batch normalisation is there, but the input never goes through it."),
        ("activated before the normalisation", CHAIN, "self.norm(torch.relu(self.conv(x)))",
         RELU_LAST),
        ("activated twice", CHAIN, "torch.relu(self.norm(torch.relu(self.conv(x))))", RELU_LAST),
        ("input activated", CHAIN, "torch.relu(self.norm(self.conv(torch.relu(x))))",
         "The input goes into the convolution as it is."),
        ("input activated in place", CHAIN, "torch.relu(self.norm(self.conv(torch.relu_(x))))",
         "The input goes into the convolution as it is, and is left unchanged."),
        ("statistics of the batch alone", CHAIN,
         "torch.relu(F.batch_norm(self.conv(x), None, None, self.norm.weight, self.norm.bias, "
         "True))",
         "The layer norm is passed by: its running statistics are neither kept nor used in "
         "evaluation."),
        *((f"momentum of {m}", NORM, f"nn.BatchNorm2d(out_channels, momentum={m})",
           "The normalisation has PyTorch's defaults: no momentum of its own.")
          for m in (0.01, 0.2, 0.9)),
        ("epsilon of a thousandth", NORM, "nn.BatchNorm2d(out_channels, eps=1e-3)",
         "The normalisation has PyTorch's defaults: no epsilon of its own."),
        ("normalised by the batch in evaluation too", CHAIN,
         "torch.relu(self.norm.train()(self.conv(x)))",
         "In evaluation mode the running statistics are used: leave the mode to the caller."),
        ("bias kept", CONV_T, CONV_T.replace(", bias=False", ""),
         "Batch normalisation subtracts any bias again: the convolution has none."),
        ("an ordinary convolution", CONV_T, CONV_T.replace("ConvTranspose2d", "Conv2d"),
         "An ordinary convolution with stride 2 halves the image. The transposed one doubles it."),
        ("stride of one", CONV_T, CONV_T.replace("4, 2, 1", "4, 1, 1"),
         "With stride 1 the image hardly grows. Stride 2 doubles height and width."),
        ("no padding", CONV_T, CONV_T.replace("4, 2, 1", "4, 2, 0"),
         "Without its padding the transposed convolution gives 2h + 2 rows instead of 2h."),
        ("kernel of two", CONV_T, CONV_T.replace("4, 2, 1", "2, 2, 0"),
         "The kernel is 4 × 4, so that neighbouring windows overlap."),
        ("kernel of three", CONV_T, CONV_T.replace("4, 2, 1", "3, 2, 1, 1"),
         "The kernel is 4 × 4, a multiple of the stride, so that every pixel gets as many terms."),
        ("channels the other way round", CONV_T,
         CONV_T.replace("in_channels, out_channels", "out_channels, in_channels"),
         "in_channels come in and out_channels go out."),
        ("normalisation without scale and shift", NORM, NORM[:-1] + ", affine=False)",
         "The batch normalisation has its scale and shift, as by default."),
        ("normalised for each image", NORM,
         "nn.InstanceNorm2d(out_channels, affine=True, track_running_stats=True)",
         "That is instance normalisation. Batch normalisation takes all images of the batch."),
        ("another momentum", NORM, NORM[:-1] + ", momentum=0.8)",
         "The batch normalisation has PyTorch's own defaults."),
        ("another eps", NORM, NORM[:-1] + ", eps=1e-2)",
         "The batch normalisation has PyTorch's own defaults."),
        ("no running statistics", NORM, NORM[:-1] + ", track_running_stats=False)",
         "Running statistics are needed in evaluation mode, when images are drawn one by one."),
    ]),
    variants=variants("""
        functional, by keyword
            class GeneratorBlock(nn.Module):
                def __init__(self, in_channels, out_channels):
                    super().__init__()
                    self.norm = nn.BatchNorm2d(num_features=out_channels)
                    self.conv = nn.ConvTranspose2d(in_channels=in_channels, bias=False, padding=1,
                        out_channels=out_channels, kernel_size=(4, 4), stride=(2, 2))
                def forward(self, x):
                    return F.relu(self.norm(self.conv(x)), inplace=True)

        with an activation module
            class GeneratorBlock(nn.Module):
                def __init__(self, in_channels, out_channels):
                    super().__init__()
                    self.conv = nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2,
                                                   padding=1, bias=False)
                    self.norm = nn.BatchNorm2d(out_channels)
                    self.activation = nn.ReLU(inplace=True)
                def forward(self, x):
                    x = self.conv(x)
                    x = self.norm(x)
                    return self.activation(x)

        a chain with names
            class GeneratorBlock(nn.Sequential):
                def __init__(self, in_channels, out_channels):
                    super().__init__()
                    conv = nn.ConvTranspose2d(in_channels, out_channels, 4, 2, 1, bias=False)
                    self.add_module("conv", conv)
                    self.add_module("norm", nn.BatchNorm2d(out_channels))
                    self.add_module("relu", nn.ReLU())

        the functions
            class GeneratorBlock(nn.Module):
                def __init__(self, in_channels, out_channels):
                    super().__init__()
                    self.conv = nn.ConvTranspose2d(in_channels, out_channels, 4, 2, 1, bias=False)
                    self.norm = nn.BatchNorm2d(out_channels)
                def forward(self, x):
                    y = F.conv_transpose2d(x, self.conv.weight, None, stride=2, padding=1)
                    return self.norm(y).clamp(min=0)
    """),
)  # fmt: skip

UP = {"d_out": 4, "transposed": True}
UP_CASES = [
    Case("a batch of images", block_output, block_inputs(3, 2, 3, 5, **UP)),
    Case("evaluation mode", block_output, block_inputs(2, 3, 4, 3, training=False, **UP)),
    Case("evaluation after training", block_output,
         block_inputs(2, 3, 3, 2, training=False, more=(5, 3), **UP)),
]  # fmt: skip


@generator_block.test(points=0.5, cases=[
    Case("names and shapes", anatomy, lambda _: {"d_in": 3, "d_out": 5}, dtypes=ONE),
])  # fmt: skip
def test_generator_block_has_the_right_parts(submission, case):
    """Has a transposed convolution without a bias, and batch normalisation"""
    submission.matches_reference(case)


@generator_block.test(points=1, cases=[
    *UP_CASES,
    Case("gradients", block_output, block_inputs(3, 2, 2, 4, grad=True, **UP)),
])  # fmt: skip
def test_generator_block_doubles_the_image(submission, case):
    """Doubles height and width, normalises and activates"""
    submission.matches_reference(case)


@generator_block.test(points=0.25, cases=UP_CASES[:1])
def test_generator_block_follows_the_device(submission, case):
    """Works on whichever device it was moved to"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- DiscriminatorBlock


class DiscriminatorBlockByWindows(nn.Module):
    def __init__(self, in_channels, out_channels, normalize=True):
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size=4, stride=2, padding=1, bias=not normalize
        )
        self.norm = nn.BatchNorm2d(out_channels) if normalize else None

    def forward(self, x):
        windows = F.pad(x, (1, 1, 1, 1)).unfold(2, 4, 2).unfold(3, 4, 2)
        y = torch.einsum("nchwij,ocij->nohw", windows, self.conv.weight)
        y = y + self.conv.bias[:, None, None] if self.norm is None else self.norm(y)
        return torch.maximum(y, 0.2 * y)


CONV = "nn.Conv2d(in_channels, out_channels, 4, 2, 1, bias=not normalize)"
CHOICE = "nn.BatchNorm2d(out_channels) if normalize else nn.Identity()"
LEAKY = "F.leaky_relu(self.norm(self.conv(x)), 0.2)"

discriminator_block = Exercise(
    "DiscriminatorBlock",
    oracle=DiscriminatorBlockByWindows,
    mistakes=edits([
        ("plain ReLU", LEAKY, "torch.relu(self.norm(self.conv(x)))",
         "A plain ReLU kills the gradient that the generator lives on: the discriminator's is "
         "leaky."),
        ("slope of one hundredth", LEAKY, LEAKY.replace("0.2", "0.01"),
         "That is PyTorch's default slope. Here it is 0.2."),
        ("slope of eight tenths", LEAKY, LEAKY.replace("0.2", "0.8"),
         "Below zero the slope is 0.2: that is what is kept, not what is taken away."),
        ("slope of two hundredths", LEAKY, LEAKY.replace("0.2", "0.02"), "The slope is 0.2."),
        ("ELU", LEAKY, "F.elu(self.norm(self.conv(x)), 0.2)",
         "Below zero a leaky ReLU is a straight line of slope 0.2, not an exponential."),
        ("no activation", LEAKY, "self.norm(self.conv(x))", "The leaky ReLU is missing."),
        ("sigmoid", LEAKY, "torch.sigmoid(self.norm(self.conv(x)))",
         "A block inside the discriminator has a leaky ReLU, and the last layer gives logits."),
        ("not normalised", LEAKY, "F.leaky_relu(self.conv(x), 0.2)",
         "The batch normalisation is there, but the input never goes through it."),
        ("activated before the normalisation", LEAKY, "self.norm(F.leaky_relu(self.conv(x), 0.2))",
         RELU_LAST),
        ("average pooling", LEAKY,
         "F.avg_pool2d(F.leaky_relu(self.norm(F.conv2d(x, self.conv.weight, self.conv.bias, "
         "padding=\"same\")), 0.2), 2)",
         "Nothing is pooled in a DCGAN: the stride of the convolution halves the image."),
        ("always normalised", CHOICE, "nn.BatchNorm2d(out_channels)",
         "The argument normalize has no effect: with False there is no normalisation."),
        ("never normalised", CHOICE, "nn.Identity()",
         "There is no normalisation, although normalize is True by default."),
        ("normalised the other way round", CHOICE,
         CHOICE.replace("if normalize", "if not normalize"),
         "normalize=True means that there is normalisation."),
        ("normalised for each image", CHOICE, CHOICE.replace("nn.BatchNorm2d(out_channels)",
         "nn.InstanceNorm2d(out_channels, affine=True, track_running_stats=True)"),
         "That is instance normalisation. Batch normalisation takes all images of the batch."),
        ("no running statistics", CHOICE, CHOICE.replace("(out_channels)",
         "(out_channels, track_running_stats=False)"),
         "The batch normalisation has PyTorch's own defaults, running statistics included."),
        ("another momentum", CHOICE,
         CHOICE.replace("(out_channels)", "(out_channels, momentum=0.8)"),
         "The batch normalisation has PyTorch's own defaults."),
        ("never a bias", CONV, CONV.replace("not normalize", "False"),
         "Without normalisation nothing else shifts the output: the convolution then has a bias."),
        ("always a bias", CONV, CONV.replace("not normalize", "True"),
         "Batch normalisation subtracts any bias again: where it is, the convolution has none."),
        ("bias the other way round", CONV, CONV.replace("not normalize", "normalize"),
         "The bias is there where the normalisation is not."),
        ("stride of one", CONV, CONV.replace("4, 2, 1", "4, 1, 1"),
         "With stride 1 the image hardly shrinks. Stride 2 halves height and width."),
        ("no padding", CONV, CONV.replace("4, 2, 1", "4, 2, 0"),
         "Without its padding the convolution loses the edge: h / 2 - 1 rows come out."),
        ("kernel of three", CONV, CONV.replace("4, 2, 1", "3, 2, 1"), "The kernel is 4 × 4."),
        ("a transposed convolution", CONV, CONV.replace("Conv2d", "ConvTranspose2d"),
         "The transposed convolution doubles the image. The discriminator halves it."),
        ("edges mirrored", CONV, CONV[:-1] + ', padding_mode="reflect")',
         "The image is padded with zeros, as by default."),
    ]),
    variants=variants("""
        None for no normalisation
            class DiscriminatorBlock(nn.Module):
                def __init__(self, in_channels, out_channels, normalize=True):
                    super().__init__()
                    self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=4, stride=2,
                                          padding=1, bias=not normalize)
                    self.norm = nn.BatchNorm2d(out_channels) if normalize else None
                    self.activation = nn.LeakyReLU(0.2, inplace=True)
                def forward(self, x):
                    y = self.conv(x)
                    if self.norm is not None:
                        y = self.norm(y)
                    return self.activation(y)

        a flag
            class DiscriminatorBlock(nn.Module):
                def __init__(self, in_channels, out_channels, normalize=True):
                    super().__init__()
                    self.normalize = normalize
                    self.conv = nn.Conv2d(in_channels, out_channels, 4, 2, 1,
                                          bias=False if normalize else True)
                    if normalize:
                        self.norm = nn.BatchNorm2d(out_channels)
                def forward(self, x):
                    y = self.conv(x)
                    y = self.norm(y) if self.normalize else y
                    return torch.where(y > 0, y, 0.2 * y)

        a chain with names
            class DiscriminatorBlock(nn.Sequential):
                def __init__(self, in_channels, out_channels, normalize=True):
                    super().__init__()
                    self.conv = nn.Conv2d(in_channels, out_channels, 4, 2, 1, bias=not normalize)
                    self.norm = nn.BatchNorm2d(out_channels) if normalize else nn.Sequential()
                    self.activation = nn.LeakyReLU(negative_slope=0.2)
    """),
)  # fmt: skip

DOWN = {"d_out": 5, "transposed": False}
DOWN_CASES = [
    Case("a batch of images", block_output, block_inputs(3, 2, 6, 4, **DOWN)),
    Case("not normalised", block_output, block_inputs(2, 3, 4, 8, normalize=False, **DOWN)),
    Case("evaluation mode", block_output, block_inputs(2, 3, 8, 6, training=False, **DOWN)),
    Case("evaluation after training", block_output,
         block_inputs(2, 3, 4, 6, training=False, more=(5, 3), **DOWN)),
]  # fmt: skip


@discriminator_block.test(points=0.5, cases=[
    Case("with normalisation", anatomy, lambda _: {"d_in": 3, "d_out": 5}, dtypes=ONE),
    Case("without", anatomy, lambda _: {"d_in": 2, "d_out": 7, "normalize": False}, dtypes=ONE),
])  # fmt: skip
def test_discriminator_block_has_the_right_parts(submission, case):
    """Has a convolution, and either a normalisation or a bias"""
    submission.matches_reference(case)


@discriminator_block.test(points=1, cases=[
    *DOWN_CASES,
    Case("gradients", block_output, block_inputs(3, 2, 4, 6, grad=True, **DOWN)),
])  # fmt: skip
def test_discriminator_block_halves_the_image(submission, case):
    """Halves height and width, normalises and activates"""
    submission.matches_reference(case)


@discriminator_block.test(points=0.25, cases=DOWN_CASES[:2])
def test_discriminator_block_follows_the_device(submission, case):
    """Works on whichever device it was moved to"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- init_weights


def init_by_randn(model, generator=None):
    def drawn(p, mean):
        noise = torch.randn(p.shape, generator=generator, dtype=p.dtype, device=p.device)
        p.data.copy_(mean + 0.02 * noise)

    for m in model.modules():
        if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d)):
            drawn(m.weight, 1.0 if isinstance(m, nn.BatchNorm2d) else 0.0)
            if m.bias is not None:
                m.bias.data.zero_()


class OwnConv2d(nn.Conv2d):
    """A convolution of somebody's own."""


def a_deep_network(fill):
    """Every kind of layer, some of them nested, with parameters far from any first draw."""
    network = nn.ModuleDict({
        "convolution": nn.Conv2d(6, 40, 4),
        "nested": nn.Sequential(
            nn.ModuleDict({"transposed convolution": nn.ConvTranspose2d(40, 8, 4, bias=False)}),
            nn.BatchNorm2d(1500),
        ),
        "linear": nn.Linear(70, 60),
        "second linear": nn.Linear(70, 60, bias=False),
        "embedding": nn.Embedding(9, 5),
        "layer norm": nn.LayerNorm(4),
        "layer norm of vectors": nn.BatchNorm1d(6),
        "own convolution": OwnConv2d(5, 60, 3, bias=False),
    })  # fmt: skip
    with torch.no_grad():
        for p in network.parameters():
            p.fill_(fill)
        network["nested"][1].running_mean.fill_(fill)
    return network


def first_weights(impl, fill, seed):
    def drawn(seed, model):
        with_generator = torch.Generator().manual_seed(seed)
        impl(model, with_generator)
        return model

    def freely(model):
        impl(model)
        return model["linear"].weight.detach()

    network = a_deep_network(fill)
    held = dict(network.named_parameters())
    drawn(seed, network)
    again, other = (drawn(s, a_deep_network(fill)) for s in (seed, seed + 1))
    torch.manual_seed(seed)
    free = a_deep_network(fill)
    impl(free)
    alone = drawn(seed, nn.Conv2d(4, 60, 3))
    return {
        "weights": {n: p.detach() for n, p in network.named_parameters()},
        "same tensors": all(p is held[n] for n, p in network.named_parameters()),
        "require gradients": all(p.requires_grad and p.is_leaf for p in network.parameters()),
        "running mean": network["nested"][1].running_mean,
        "again": again["linear"].weight.detach(),
        "all again": {n: p.detach() for n, p in again.named_parameters()},
        "free again": freely(a_deep_network(fill)),
        "other": other["linear"].weight.detach(),
        "free": free["linear"].weight.detach(),
        "alone": alone.weight.detach(),
        "alone's bias": alone.bias.detach(),
    }


def zeroed_network(impl, weight, bias):
    network = nn.Sequential(
        load_parameters(nn.Linear(*weight.shape[::-1]), {"weight": weight, "bias": bias})
    )
    impl(network)
    return {"weight": 0 * network[0].weight.detach(), "bias": network[0].bias.detach()}


def facts_of_first_weights(outcome, inputs):
    weights, fill = outcome["weights"], inputs["fill"]
    drawn = {n: w.double() for n, w in weights.items() if n.endswith("weight")}
    drawn["a convolution by itself"] = outcome["alone"].double()
    facts = {
        "the parameters are the same ones, changed in place": outcome["same tensors"],
        "they still require gradients": outcome["require gradients"],
        "running statistics stay as they were": bool((outcome["running mean"] == fill).all()),
        "a generator with the same seed repeats the draw": outcome["again"].equal(
            weights["linear.weight"]
        ),
        "a generator with the same seed repeats every draw": all(
            w.equal(outcome["all again"][n]) for n, w in weights.items()
        ),
        "another call without a generator gives another draw": not outcome["free again"].equal(
            outcome["free"]
        ),
        "another seed gives another draw": not outcome["other"].equal(weights["linear.weight"]),
        "without a generator the draw is PyTorch's own": not outcome["free"].equal(
            outcome["again"]
        ),
        "two layers of one shape get different weights": not weights["linear.weight"].equal(
            weights["second linear.weight"]
        ),
        "the bias of a convolution by itself is 0": bool((outcome["alone's bias"] == 0).all()),
    }
    for name, w in drawn.items():
        if "embedding" in name or "layer norm" in name:
            facts[f"{name} stays as it was"] = bool((w == fill).all())
            continue
        centre = 1.0 if "nested.1" in name else 0.0
        z = (w.flatten() - centre) / 0.02
        n = z.numel()
        facts |= {
            f"{name}: mean {centre:g}": bool(z.mean().abs() < 6 / math.sqrt(n)),
            f"{name}: standard deviation of 0.02": bool((z.std() - 1).abs() < 6 / math.sqrt(2 * n)),
            f"{name}: spread, about": f"{min(float(w.std()), 9.0):.0e}",
            f"{name}: bell-shaped": bool(z.abs().max() > 2.3 * z.std()),
            f"{name}: about": f"{float(w.mean()):.1f}".replace("-0.0", "0.0"),
        }
    for name, b in weights.items():
        if name.endswith("bias"):
            kept = "layer norm" in name
            expected = fill if kept else 0
            facts |= {
                f"{name} is {'as it was' if kept else '0'}": bool((b == expected).all()),
                f"{name}: about": f"{float(b.double().mean()):.1f}".replace("-0.0", "0.0"),
                f"{name}: all alike": bool((b == b[0]).all()),
            }
    return facts


KINDS = "nn.Conv2d | nn.ConvTranspose2d | nn.Linear"
DRAW = "nn.init.normal_(module.weight, 0.0, 0.02, generator=generator)"
SCALE = "nn.init.normal_(module.weight, 1.0, 0.02, generator=generator)"
ZEROS = "nn.init.zeros_(module.bias)"

init_weights = Exercise(
    "init_weights",
    oracle=init_by_randn,
    mistakes=[*edits([
        ("ten times as much", DRAW, DRAW.replace("0.02", "0.2"), "The standard deviation is 0.02."),
        ("variance for the standard deviation", DRAW, DRAW.replace("0.02", "0.02**0.5"),
         "0.02 is the standard deviation of the weights, not their variance."),
        ("uniform", DRAW, "nn.init.uniform_(module.weight, -0.02, 0.02, generator=generator)",
         "The weights come from a normal distribution, not from a uniform one."),
        ("Xavier", DRAW, "nn.init.xavier_normal_(module.weight, generator=generator)",
         "Xavier's rule follows the number of inputs and outputs. Here it is 0.02 everywhere."),
        ("Kaiming", DRAW, "nn.init.kaiming_normal_(module.weight, generator=generator)",
         "Kaiming's rule follows the number of inputs. Here it is 0.02 everywhere."),
        ("around one", DRAW, SCALE, "The weights of convolutions and linear layers have mean 0; "
         "only the scale of the normalisation has mean 1."),
        ("mean and standard deviation exchanged", DRAW, DRAW.replace("0.0, 0.02", "0.02, 0.0"),
         "normal_ takes the mean first and the standard deviation second."),
        ("scale around zero", SCALE, DRAW,
         "A scale near 0 turns the layer off: the normalisation's scale has mean 1."),
        ("scale of one", SCALE, "nn.init.ones_(module.weight)",
         "The normalisation's scale is drawn too, closely around 1."),
        ("scale as it was", SCALE, "pass",
         "The normalisation's scale is drawn too, closely around 1."),
        ("transposed convolutions left out", KINDS, "nn.Conv2d | nn.Linear",
         "ConvTranspose2d is not a Conv2d: the generator's layers are left out."),
        ("linear layers left out", KINDS, "nn.Conv2d | nn.ConvTranspose2d",
         "Linear layers are drawn like the convolutions."),
        ("convolutions left out", KINDS, "nn.ConvTranspose2d | nn.Linear",
         "Ordinary convolutions are drawn too."),
        ("biases as they were", ZEROS, "pass", "The biases of these layers become 0."),
        ("biases drawn", ZEROS, "nn.init.normal_(module.bias, 0.0, 0.02, generator=generator)",
         "Biases start at 0."),
        ("biases of one", ZEROS, "nn.init.ones_(module.bias)", "Biases start at 0."),
        ("only the outermost layers", "model.modules()", "model.children()",
         "children() names the outermost layers only, and not those inside of them."),
        ("only what is inside", "model.modules()", "list(model.modules())[1:]",
         "The model may be such a layer itself."),
        ("generator ignored", DRAW, DRAW.replace(", generator=generator", ""),
         "The draws must come from the generator that is passed in, so that they can be repeated."),
        ("generator ignored for the normalisation", SCALE,
         SCALE.replace(", generator=generator", ""),
         "The scales must come from the generator, too, so that they can be repeated."),
        ("PyTorch's seed set", "for module in model.modules():",
         "torch.manual_seed(0)\n    for module in model.modules():",
         "The seed is set inside: without a generator every network gets the same weights, and all "
         "later random numbers are the same as well."),
        ("exact classes only", f"isinstance(module, {KINDS})",
         "type(module) in (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)",
         "A layer of a class made from nn.Conv2d is an nn.Conv2d as well: ask with isinstance."),
        ("every batch normalisation", "isinstance(module, nn.BatchNorm2d)",
         "isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)",
         "Only the normalisation of images, nn.BatchNorm2d, is named. All else stays as it is."),
        ("biases of the normalisation as they were", "if module.bias is not None:",
         "if module.bias is not None and not isinstance(module, nn.BatchNorm2d):",
         "The bias of the normalisation becomes 0, too."),
        ("only the normalisation's biases", "if module.bias is not None:",
         "if isinstance(module, nn.BatchNorm2d):",
         "The biases of convolutions and linear layers become 0, too."),
        ("biases that are not there", "if module.bias is not None:", "if True:",
         "A layer may have no bias; it is None then, and there is nothing to set to 0."),
        ("every layer from the same seed", DRAW, DRAW.replace("generator=generator", "generator="
         "torch.Generator().manual_seed(0 if generator is None else generator.initial_seed())"),
         "A generator made afresh for each layer gives them all the same numbers."),
        ("new parameters", DRAW, "module.weight = nn.Parameter(0.02 * torch.randn("
         "module.weight.shape, generator=generator).to(module.weight))",
         "An optimizer made before would hold the old parameters: change them in place."),
        ("frozen", DRAW, DRAW + ".requires_grad_(False)",
         "The weights no longer require gradients: they could not be trained."),
        ("running statistics reset", SCALE, SCALE + "\n            module.running_mean.zero_()",
         "Buffers stay as they are: only weights and biases are set."),
    ]), Mistake.edits_of("embeddings too", [
        (KINDS, KINDS + " | nn.Embedding"),
        ("if module.bias is not None", 'if getattr(module, "bias", None) is not None'),
    ], "Only convolutions, linear layers and batch normalisation change; embeddings do not."),
    ],
    variants=variants("""
        by the name of the class, as is often seen
            def init_weights(model, generator=None):
                def init(m):
                    name = m.__class__.__name__
                    if "Conv" in name or name == "Linear":
                        m.weight.data.normal_(0.0, 0.02, generator=generator)
                        if m.bias is not None:
                            m.bias.data.fill_(0)
                    elif name == "BatchNorm2d":
                        m.weight.data.normal_(1.0, 0.02, generator=generator)
                        m.bias.data.fill_(0)
                model.apply(init)

        without gradients, copied in
            @torch.no_grad()
            def init_weights(model, generator=None):
                for m in model.modules():
                    if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d)):
                        w = m.weight
                        noise = torch.empty_like(w).normal_(std=0.02, generator=generator)
                        w.copy_(noise + 1 if isinstance(m, nn.BatchNorm2d) else noise)
                        if m.bias is not None:
                            m.bias.zero_()

        last layer first
            def init_weights(model, generator=None):
                for m in reversed(list(model.modules())):
                    if isinstance(m, nn.BatchNorm2d):
                        nn.init.normal_(m.weight, mean=1.0, std=0.02, generator=generator)
                        nn.init.constant_(m.bias, 0.0)
                    elif isinstance(m, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
                        nn.init.normal_(m.weight, std=0.02, generator=generator)
                        if getattr(m, "bias", None) is not None:
                            nn.init.constant_(m.bias, 0.0)
    """),
)  # fmt: skip


@init_weights.test(points=1.5, cases=[
    Case("a network of many layers", first_weights,
         lambda make: {"fill": make.choice([0.5, 0.75, 1.25, 1.5, 2.0]), "seed": make.seed()},
         observe=facts_of_first_weights, dtypes=ONE),
])  # fmt: skip
def test_init_weights_draws_the_weights(submission, case):
    """Draws all weights, zeroes the biases, and leaves the rest alone"""
    submission.matches_reference(case)


@init_weights.test(points=0.25, cases=[
    Case("a linear layer", zeroed_network,
         lambda make: {"weight": make.normal(3, 4), "bias": make.normal(3)}),
])  # fmt: skip
def test_init_weights_follows_the_device(submission, case):
    """Works on whichever device the network is on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- append_labels


def append_by_filling(x, labels, num_classes):
    n, c = x.shape[:2]
    result = x.new_zeros(n, c + num_classes, *x.shape[2:])
    result[:, :c] = x
    for k in range(num_classes):
        column = (labels == k).to(x.dtype)
        result[:, c + k] = column.reshape(n, *[1] * (x.dim() - 2))
    return result


def labelled(*shape, classes, used=None, grad=False):
    def draw(make):
        return {
            "x": make.normal(*shape),
            "labels": make.labels(shape[0], used or classes),
            "num_classes": classes,
        } | ({"cotangent": make.normal(shape[0], shape[1] + classes, *shape[2:])} if grad else {})

    return draw


def appended_in_half(impl, x, labels, num_classes):
    kept = impl(x.bfloat16(), labels, num_classes).dtype == torch.bfloat16
    return {"images in bfloat16 stay in bfloat16": kept}


def gradient_of_appended(impl, x, labels, num_classes, cotangent):
    x = x.requires_grad_()
    y = impl(x, labels, num_classes)
    return {"output": y.detach(), "gradient of x": gradients(y, [x], cotangent)[0]}


HOT = "(labels[:, None] == classes).to(x.dtype)"
RESHAPED = "one_hot.reshape(*one_hot.shape, *[1] * (x.dim() - 2))"
JOINED = "torch.cat([x, planes.expand(-1, -1, *x.shape[2:])], dim=1)"

append_labels = Exercise(
    "append_labels",
    oracle=append_by_filling,
    mistakes=edits([
        ("labels first", JOINED, "torch.cat([planes.expand(-1, -1, *x.shape[2:]), x], dim=1)",
         "The channels of x come first, then those of the label."),
        ("label as a number", HOT, "labels[:, None].to(x.dtype).expand(-1, num_classes)",
         "The number of a class has no size: give each class a channel of its own, 0 or 1."),
        ("one channel for all classes", HOT, "labels[:, None].to(x.dtype)",
         "The number of a class has no size: give each class a channel of its own, 0 or 1."),
        ("as many classes as occur", "torch.arange(num_classes, device=x.device)",
         "torch.arange(int(labels.max()) + 1, device=x.device)",
         "The highest class need not occur in a batch: num_classes says how many there are."),
        ("classes counted from one", "torch.arange(num_classes, device=x.device)",
         "torch.arange(1, num_classes + 1, device=x.device)", "Classes are counted from 0."),
        ("classes on the CPU", "torch.arange(num_classes, device=x.device)",
         "torch.arange(num_classes)", "The one-hot channels are made on the CPU. Make them where x "
         "is."),
        ("channels in float32", HOT, HOT.replace("x.dtype", "torch.float32"),
         "The one-hot channels are float32 whatever x is, and the result takes that over: make "
         "them in the dtype of x."),
        ("joined along the last dimension", JOINED, JOINED.replace("dim=1", "dim=-1"),
         "Channels are the second dimension: that is where the label's are appended."),
        ("the number of the class in its channel", HOT, f"{HOT} * labels[:, None]",
         "The channel of the label is 1, whatever the number of the class is."),
        ("nine tenths", HOT, f"0.9 * {HOT}", "The channel of the label is 1; nothing is smoothed."),
        ("images and noise only", RESHAPED,
         "one_hot[:, :, None, None] if x.dim() == 4 else one_hot",
         "x may have any number of dimensions of positions, not just none or two."),
        ("square images only", JOINED,
         JOINED.replace("*x.shape[2:]", "*[x.shape[2]] * (x.dim() - 2)"),
         "Height and width may differ, and there may be none: take all of x's positions."),
        ("zeros and ones exchanged", HOT, HOT.replace("==", "!="),
         "The channel of the label is 1 and the others are 0."),
        ("minus one for the others", HOT, f"2 * {HOT} - 1",
         "The channels of the other classes are 0."),
        ("in float32", HOT, HOT.replace("x.dtype", "torch.float32") + "\n    x = x.float()",
         "The result has the dtype of x."),
        ("the batch's first label for all", HOT, HOT + "[:1].expand(len(x), -1)",
         "Each example has a label of its own."),
        ("labels of the next example", HOT, HOT + ".roll(1, dims=0)",
         "Each example gets its own label."),
        ("one position only", JOINED, "torch.cat([x, F.pad(planes, [p for s in reversed("
         "x.shape[2:]) for p in (0, s - 1)])], dim=1)",
         "The label's channels are the same at every position of the image."),
        ("scaled to the positions", JOINED, JOINED.replace("planes.",
         "(planes / x[0, 0].numel())."), "The channel of the label is 1 at every position."),
        ("detached", JOINED, JOINED.replace("[x,", "[x.detach(),"),
         "The generator learns through these channels: do not detach x."),
    ]),
    variants=variants("""
        one_hot
            def append_labels(x, labels, num_classes):
                hot = F.one_hot(labels, num_classes).to(x)
                while hot.dim() < x.dim():
                    hot = hot.unsqueeze(-1)
                return torch.cat((x, hot.expand(*hot.shape[:2], *x.shape[2:])), 1)

        rows of the identity
            def append_labels(x, labels, num_classes):
                hot = torch.eye(num_classes, dtype=x.dtype, device=x.device)[labels]
                for size in x.shape[2:]:
                    hot = hot.unsqueeze(-1).repeat_interleave(size, dim=-1)
                return torch.cat([x, hot], dim=1)

        scattered
            def append_labels(x, labels, num_classes):
                planes = x.new_zeros(x.shape[0], num_classes, *x.shape[2:])
                planes[torch.arange(len(x), device=x.device), labels] = 1
                return torch.hstack([x, planes])
    """),
)  # fmt: skip


@append_labels.test(points=1, cases=[
    Case("images", apply, labelled(6, 2, 3, 4, classes=5)),
    Case("noise", apply, labelled(7, 4, classes=3)),
    Case("classes that do not occur", apply, labelled(4, 3, 2, 5, classes=6, used=3)),
    Case("sequences", apply, labelled(5, 3, 7, classes=4)),
    Case("one image", apply, labelled(1, 1, 4, 2, classes=3)),
    Case("images in bfloat16", appended_in_half, labelled(3, 2, 4, 5, classes=4), dtypes=ONE),
    Case("gradients", gradient_of_appended, labelled(4, 2, 3, 2, classes=3, grad=True)),
])  # fmt: skip
def test_append_labels_appends_one_hot_channels(submission, case):
    """Appends each label as one-hot channels"""
    submission.matches_reference(case)


@append_labels.test(points=0.25, cases=[
    Case("images", apply, labelled(6, 2, 3, 4, classes=5)),
])  # fmt: skip
def test_append_labels_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- power_iteration

DECOMPOSITIONS = ["torch.linalg.svd", "torch.linalg.svdvals", "torch.svd", "torch.svd_lowrank",
                  "torch.pca_lowrank", "torch.linalg.eigh", "torch.linalg.eig", "torch.lobpcg",
                  "torch.linalg.matrix_norm", "torch.linalg.cond", "torch.linalg.eigvalsh",
                  "torch.linalg.eigvals",
                  "torch.nn.utils.spectral_norm", "torch.nn.utils.parametrizations.spectral_norm",
                  ]  # fmt: skip


def iteration_by_gram(matrix, u, steps=1):
    """Powers of the Gram matrix, in place of a loop over two products."""
    matrix, u = matrix.detach(), u.detach()
    gram = matrix @ matrix.mT
    before = torch.linalg.matrix_power(gram, steps - 1) @ u
    v = matrix.mT @ (before / before.norm())
    u = matrix @ v
    return u / u.norm(), v / v.norm()


def iterated(impl, matrix, u, steps=None):
    matrix, u = matrix.requires_grad_(), u.requires_grad_()
    new_u, v = impl(matrix, u) if steps is None else impl(matrix, u, steps)
    return {
        "u": new_u.detach(),
        "v": v.detach(),
        "a gradient flows": new_u.requires_grad or v.requires_grad,
    }


def matrix_and_start(rows, cols, steps=None, transposed=False):
    def draw(make):
        matrix = make.normal(cols, rows).T if transposed else make.normal(rows, cols)
        signs = 1.0 - 2 * make.labels(rows, 2)[:, None]  # of u: both occur
        return {
            "matrix": signs * (matrix + 1.0),  # a gap between the singular values
            "u": signs[:, 0] * make.uniform(rows, low=1.0, high=7.0),
        } | ({} if steps is None else {"steps": steps})

    return draw


V_OF, U_OF = "F.normalize(matrix.T @ u, dim=0)", "F.normalize(matrix @ v, dim=0)"
LOOP = """with torch.no_grad():
        for _ in range(steps):
            v = F.normalize(matrix.T @ u, dim=0)  # (cols,)
            u = F.normalize(matrix @ v, dim=0)  # (rows,)
    return u, v"""

power_iteration = Exercise(
    "power_iteration",
    oracle=iteration_by_gram,
    forbids=DECOMPOSITIONS,
    mistakes=[*edits([
        ("v divided by the largest entry", V_OF, "(matrix.T @ u) / (matrix.T @ u).abs().max()",
         "v is scaled to Euclidean length 1, not to a largest entry of 1."),
        ("started at random", "    with torch.no_grad():",
         "    u = torch.randn_like(u)\n    with torch.no_grad():",
         "The u that is passed in is the start: nothing is drawn here."),
        ("v not scaled", V_OF, "matrix.T @ u", "v is scaled to length 1 as well."),
        ("u not scaled", U_OF, "matrix @ v", "u is scaled to length 1 as well."),
        ("magnitudes add up to one", V_OF, "F.normalize(matrix.T @ u, p=1, dim=0)",
         "The length is the Euclidean one: the root of the sum of squares."),
        ("divided by the largest entry", U_OF, "(matrix @ v) / (matrix @ v).abs().max()",
         "u is scaled to Euclidean length 1, not to a largest entry of 1."),
        ("divided by the square of the length", U_OF,
         "(matrix @ v) / (matrix @ v).square().sum()",
         "Divide by the length, which is the root of the sum of squares."),
        ("always one step", "range(steps)", "range(1)",
         "However many steps are asked for, this is one: each makes v and u anew."),
        ("one step more", "range(steps)", "range(steps + 1)", "These are steps + 1 steps."),
        ("one step fewer", "range(steps)", "range(max(1, steps - 1))",
         "These are not as many steps as asked for."),
        ("returned in the other order", "return u, v", "return v, u", "u comes first, then v."),
        ("recorded by autograd", "torch.no_grad()", "torch.enable_grad()",
         "No gradient flows through u and v: they count as constants."),
        ("u changed in place", U_OF, "u.copy_(F.normalize(matrix @ v, dim=0))",
         "The u that was passed in has changed. Make a new one."),
        ("absolute values", U_OF, "F.normalize((matrix @ v).abs(), dim=0)",
         "The entries keep their signs."),
    ]), *slips(LOOP, """
        the u that was passed in returned
            start = u.detach()
                with torch.no_grad():
                    for _ in range(steps):
                        v = F.normalize(matrix.T @ u, dim=0)
                        u = F.normalize(matrix @ v, dim=0)
                return F.normalize(start, dim=0), v
        The new u is returned, not the one that was passed in.

        v half a step ahead
            with torch.no_grad():
                    for _ in range(steps):
                        v = F.normalize(matrix.T @ u, dim=0)
                        u = F.normalize(matrix @ v, dim=0)
                    v = F.normalize(matrix.T @ u, dim=0)
                return u, v
        v is the one that the new u was made of; yours is half a step further.

        u half a step behind
            with torch.no_grad():
                    for step in range(steps):
                        v = F.normalize(matrix.T @ u, dim=0)
                        if step < steps - 1:
                            u = F.normalize(matrix @ v, dim=0)
                    u = F.normalize(u, dim=0)
                return u, v
        The last half step is missing: u is made of the last v.

        scaled at the end only
            with torch.no_grad():
                    for _ in range(steps):
                        v = matrix.T @ u
                        u = matrix @ v
                return u / u.norm() ** 2, v / v.norm() ** 2
        Divide by the length, which is the root of the sum of squares, in each step.

        the matrix squared
            with torch.no_grad():
                    for _ in range(steps):
                        v = F.normalize(matrix.T @ (matrix @ (matrix.T @ u)), dim=0)
                        u = F.normalize(matrix @ v, dim=0)
                return u, v
        One product with the transposed matrix makes v, and one with the matrix makes u.
    """)],
    variants=variants("""
        divided by norms, detached
            def power_iteration(matrix, u, steps=1):
                w = matrix.detach()
                u = u.detach()
                for _ in range(steps):
                    v = torch.mv(w.t(), u)
                    v = v / v.norm()
                    u = torch.mv(w, v)
                    u = u / u.norm()
                return u, v

        a tiny number in the denominators
            @torch.no_grad()
            def power_iteration(matrix, u, steps=1):
                v = None
                for _ in range(steps):
                    v = u @ matrix
                    v = v / (v.square().sum().sqrt() + 1e-12)
                    u = v @ matrix.T
                    u = u / (u.square().sum().sqrt() + 1e-12)
                return [u, v]

        columns
            def power_iteration(matrix, u, steps=1):
                with torch.no_grad():
                    column = u[:, None].clone()
                    while steps > 0:
                        row = column.mT @ matrix
                        row /= torch.linalg.vector_norm(row)
                        column = matrix @ row.mT
                        column /= torch.linalg.vector_norm(column)
                        steps -= 1
                    return column.flatten(), row.flatten()
    """),
)  # fmt: skip

ITERATIONS = [
    Case("one step", iterated, matrix_and_start(4, 6, steps=1)),
    Case("two steps", iterated, matrix_and_start(5, 3, steps=2)),
    Case("four steps", iterated, matrix_and_start(3, 7, steps=4)),
    Case("by default", iterated, matrix_and_start(6, 4)),
    Case("a transposed matrix", iterated, matrix_and_start(4, 5, steps=2, transposed=True)),
]


@power_iteration.test(points=1.25, cases=ITERATIONS)
def test_power_iteration_takes_steps(submission, case):
    """Takes the steps asked for, as constants for autograd"""
    submission.matches_reference(case)


@power_iteration.test(points=0.25, cases=ITERATIONS[1:2])
def test_power_iteration_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- spectral_normalize


def normalize_by_gram(weight, u, steps=1):
    new_u, v = iteration_by_gram(weight.reshape(len(weight), -1), u, steps)
    sigma = (torch.outer(new_u, v).reshape(weight.shape) * weight).sum()
    return weight / sigma, new_u


def normalized(impl, weight, u, cotangent, steps=None):
    weight = weight.requires_grad_()
    out, new_u = impl(weight, u) if steps is None else impl(weight, u, steps)
    return {
        "normalised weight": out.detach(),
        "new u": new_u.detach(),
        "gradient of the weight": gradients(out, [weight], cotangent)[0],
        "a gradient flows through u": new_u.requires_grad,
    }


def weight_and_start(*shape, steps=None):
    def draw(make):
        return {
            "weight": 0.5 + make.normal(*shape),
            "u": make.away_from_zero(shape[0], low=0.5, high=2.0) + 3.0,
            "cotangent": make.normal(*shape),
        } | ({} if steps is None else {"steps": steps})

    return draw


SIGMA, RESULT = "sigma = u @ matrix @ v", "return weight / sigma, u"
MATRIX, CALL = "matrix = weight.flatten(1)", "u, v = power_iteration(matrix, u, steps)"

spectral_normalize = Exercise(
    "spectral_normalize",
    oracle=normalize_by_gram,
    forbids=DECOMPOSITIONS,
    mistakes=[*edits([
        ("estimate from the old u", "u, v = power_iteration(matrix, u, steps)\n    "
         "sigma = u @ matrix @ v\n    return weight / sigma, u",
         "new, v = power_iteration(matrix, u, steps)\n    sigma = u @ matrix @ v\n    "
         "return weight / sigma, new",
         "The estimate is made with the new u, which has length 1, and not with the old one."),
        ("v returned", RESULT, "return weight / sigma, v",
         "What is kept for the next time is u, not v."),
        ("iterated once more", RESULT,
         "return weight / sigma, power_iteration(matrix, u, steps)[0]",
         "The u that comes back is the one in the estimate: no further iteration."),
        ("weight changed in place", RESULT,
         "with torch.no_grad():\n        weight.div_(sigma)\n    return weight, u",
         "The weight that was passed in has changed, and autograd knows nothing of the division: "
         "return a new tensor."),
        ("estimate detached", SIGMA, "sigma = (u @ matrix @ v).detach()",
         "The estimate depends on the weight, and its gradient is part of the answer: only u and v "
         "are constants."),
        ("weight detached", RESULT, "return weight.detach() / sigma, u",
         "The result is differentiable with respect to the weight."),
        ("Frobenius norm", SIGMA, "sigma = matrix.norm()",
         "That is the root of the sum of all squares. The largest singular value is smaller."),
        ("largest entry", SIGMA, "sigma = matrix.abs().max()",
         "The largest entry is not the largest singular value."),
        ("each row by its length", RESULT,
         "return weight / matrix.norm(dim=1).reshape(-1, *[1] * (weight.dim() - 1)), u",
         "The whole weight is divided by one number, not each row by its own."),
        ("multiplied", RESULT, "return weight * sigma, u",
         "The weight is divided by the estimate."),
        ("divided by the root", RESULT, "return weight / sigma.sqrt(), u",
         "The estimate is the singular value itself: no root of it."),
        ("divided by the square", RESULT, "return weight / sigma**2, u",
         "Divide by the estimate once."),
        ("never enlarged", RESULT, "return weight / sigma.clamp(min=1), u",
         "The weight is divided by the estimate also where that is less than 1."),
        ("always one step", CALL, "u, v = power_iteration(matrix, u)",
         "The argument steps is not passed on."),
        ("one step more", CALL, "u, v = power_iteration(matrix, u, steps + 1)",
         "These are steps + 1 steps."),
        ("last dimension as rows' length", MATRIX, "matrix = weight.flatten(0, -2)\n"
         "    u = F.pad(u, (0, len(matrix) - len(u)), value=1.0)",
         "The matrix has a row for each output: keep the first dimension, join all the others."),
        ("a matrix returned", RESULT, "return matrix / sigma, u",
         "The normalised weight has the shape of the weight."),
        ("the estimate returned", RESULT, "return weight / sigma, sigma",
         "The second result is the new u, not the estimate."),
    ]),
        Mistake.edits_of("the old u returned", [
            (CALL, "new_u, v = power_iteration(matrix, u, steps)"),
            (SIGMA, "sigma = new_u @ matrix @ v"),
        ], "Return the new u, so that the next call can go on from there."),
        Mistake("the iteration recorded", CALL, "for _ in range(steps):\n"
                "        v = F.normalize(matrix.T @ u, dim=0)\n"
                "        u = F.normalize(matrix @ v, dim=0)",
                "u and v are constants for autograd: the iteration is not to be recorded."),
    ],
    variants=variants("""
        by a dot product
            def spectral_normalize(weight, u, steps=1):
                rows = weight.view(weight.size(0), -1)
                u, v = power_iteration(rows, u, steps=steps)
                return weight / torch.dot(u, torch.mv(rows, v)), u

        written out
            def spectral_normalize(weight, u, steps=1):
                matrix = weight.reshape(weight.shape[0], -1)
                with torch.no_grad():
                    for _ in range(steps):
                        v = F.normalize(matrix.t().mv(u), dim=0, eps=1e-12)
                        u = F.normalize(matrix.mv(v), dim=0, eps=1e-12)
                u, v = u.clone(), v.clone()
                sigma = torch.einsum("i,ij,j->", u, matrix, v)
                return weight.div(sigma), u

        the length of a product
            def spectral_normalize(weight, u, steps=1):
                matrix = weight.flatten(1)
                u, v = power_iteration(matrix, u, steps)
                return weight / torch.linalg.vector_norm(matrix @ v), u

        an outer product
            def spectral_normalize(weight, u, steps=1):
                flat = weight.flatten(start_dim=1)
                new_u, v = power_iteration(flat.detach(), u.detach(), steps)
                sigma = (flat * torch.outer(new_u, v)).sum()
                return (flat / sigma).view_as(weight), new_u
    """),
)  # fmt: skip

NORMALIZATIONS = [
    Case("a matrix", normalized, weight_and_start(4, 6, steps=1)),
    Case("a matrix, three steps", normalized, weight_and_start(6, 3, steps=3)),
    Case("a kernel", normalized, weight_and_start(3, 2, 4, 5, steps=2)),
    Case("by default", normalized, weight_and_start(5, 2, 3)),
    Case("a small weight", normalized, lambda make: {
        name: 0.05 * value if name == "weight" else value
        for name, value in weight_and_start(4, 3)(make).items()}),
]  # fmt: skip


@spectral_normalize.test(points=1.25, cases=NORMALIZATIONS)
def test_spectral_normalize_divides_by_the_estimate(submission, case):
    """Divides the weight by its estimated largest singular value"""
    submission.matches_reference(case)


@spectral_normalize.test(points=0.25, cases=NORMALIZATIONS[2:3])
def test_spectral_normalize_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- SpectralConv2d


class SpectralConvByWindows(nn.Conv2d):
    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, bias=True):
        super().__init__(
            in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=bias
        )
        self.register_buffer("u", torch.rand(out_channels) + 0.5)

    def forward(self, x):
        weight, u = normalize_by_gram(self.weight, self.get_buffer("u"))
        if self.training:
            self.u = u
        p, s, k = self.padding[0], self.stride[0], self.kernel_size[0]
        windows = F.pad(x, (p, p, p, p)).unfold(2, k, s).unfold(3, k, s)
        y = torch.einsum("nchwij,ocij->nohw", windows, weight)
        return y if self.bias is None else y + self.bias[:, None, None]


def spectral_calls(impl, images, state, options, modes, cotangent):
    """Several calls in several modes; outputs, the gradients of the last one, what is stored."""
    d_out, d_in, k, _ = state["weight"].shape
    layer = load_parameters(impl(d_in, d_out, k, **options), state)
    outputs = []
    for x, training in zip(images, modes, strict=True):
        layer.train(training)
        x.requires_grad_()
        outputs.append(layer(x))
    wrt = [images[-1], layer.weight] + ([] if layer.bias is None else [layer.bias])
    found = gradients(outputs[-1], wrt, cotangent)
    names = ("gradient of x", "gradient of the weight", "gradient of the bias")
    return {
        "outputs": [y.detach() for y in outputs],
        "u afterwards": layer.u.detach(),
        "a gradient flows through u": layer.u.requires_grad,
        "the weight afterwards": layer.weight.detach(),
        **dict(zip(names, found, strict=False)),
    }


def spectral_inputs(d_in, d_out, k, modes, size=(6, 5), stride=1, padding=0, bias=True):
    def draw(make):
        state = {
            "weight": 0.4 + make.normal(d_out, d_in, k, k),
            "u": make.away_from_zero(d_out, low=0.5, high=2.0) + 3.0,
        } | ({"bias": make.away_from_zero(d_out)} if bias else {})
        out = [(n + 2 * padding - k) // stride + 1 for n in size]
        return {
            "images": [make.normal(2, d_in, *size) for _ in modes],
            "state": state,
            "options": {"stride": stride, "padding": padding} | ({} if bias else {"bias": False}),
            "modes": list(modes),
            "cotangent": make.normal(2, d_out, *out),
        }

    return draw


def spectral_anatomy(impl, d_in, d_out):
    layer, bare, other = (
        impl(d_in, d_out, 3),
        impl(d_in, d_out, 2, bias=False),
        impl(d_in, d_out, 3),
    )
    return {
        "it is an nn.Module": isinstance(layer, nn.Module),
        "parameters": sorted(f"{n} {tuple(p.shape)}" for n, p in layer.named_parameters()),
        "parameters without a bias": sorted(n for n, _ in bare.named_parameters()),
        "buffers": sorted(f"{n} {tuple(b.shape)}" for n, b in layer.named_buffers()),
        "stored in the state": sorted(layer.state_dict()),
        "two layers start from different u": not layer.u.equal(other.u),
    }


BUFFER = 'self.register_buffer("u", torch.randn(self.out_channels))'
ANEW = "weight, u = spectral_normalize(self.weight, self.u)"
STORED = "        if self.training:\n            self.u = u\n"
CONVOLVED = "F.conv2d(x, weight, self.bias, self.stride, self.padding)"
SUPER = "super().__init__(in_channels, out_channels, kernel_size, stride, padding, bias=bias)"

spectral_conv = Exercise(
    "SpectralConv2d",
    oracle=SpectralConvByWindows,
    forbids=DECOMPOSITIONS,
    mistakes=[*edits([
        ("u not stored", STORED, "",
         "The new u is thrown away, so that every call starts from the beginning. Keep it."),
        ("u stored in evaluation too", STORED, "        self.u = u\n",
         "In evaluation mode u stays as it is, or the same input gives another output each time."),
        ("u stored in evaluation only", STORED, STORED.replace("if self", "if not self"),
         "It is in training mode that the new u is kept."),
        ("u a plain tensor", BUFFER, "self.u = torch.randn(self.out_channels)",
         "A plain tensor is neither saved nor moved with the module: register it as a buffer."),
        ("u not saved", BUFFER, BUFFER[:-1] + ", persistent=False)",
         "The buffer belongs to the state that is saved."),
        ("u of ones", BUFFER, BUFFER.replace("randn", "ones"),
         "u is drawn at random at the start."),
        ("u as long as the input channels", BUFFER, BUFFER.replace("out_channels", "in_channels"),
         "u has an entry for each output channel, a row of the matrix."),
        ("not normalised", CONVOLVED, CONVOLVED.replace("weight,", "self.weight,"),
         "The normalised weight is computed, but the convolution uses the raw one."),
        ("raw weight in evaluation", CONVOLVED,
         CONVOLVED.replace("weight,", "weight if self.training else self.weight,"),
         "The weight is normalised in evaluation mode as well."),
        ("normalised for good", ANEW, ANEW + "\n        self.weight.data = weight.detach().clone()",
         "The parameter is the optimizer's: normalise anew for each call and leave it as it is."),
        ("bias left out", CONVOLVED, CONVOLVED.replace("self.bias", "None"),
         "The bias is added, where there is one."),
        ("bias normalised", CONVOLVED, "F.conv2d(x, self.weight, self.bias, self.stride, "
         "self.padding) * (weight.flatten()[0] / self.weight.flatten()[0])",
         "Only the weight is divided: the bias is added as it is."),
        ("stride ignored", CONVOLVED, CONVOLVED.replace("self.stride", "1"),
         "The stride has no effect in your convolution."),
        ("padding ignored", CONVOLVED, CONVOLVED.replace("self.padding", "0"),
         "The padding has no effect in your convolution."),
        ("five steps", ANEW, ANEW.replace("self.u)", "self.u, 5)"),
         "One step of the power iteration a call is enough, since u is kept."),
        ("normalised twice", ANEW, ANEW + "\n        weight, u = spectral_normalize(weight, u)",
         "One normalisation a call is enough."),
        ("always a bias", SUPER, SUPER.replace("bias=bias", "bias=True"),
         "The argument bias has no effect: with False there is none."),
        ("stride and padding exchanged", SUPER, SUPER.replace("stride, padding", "max(1, padding), "
         "stride"), "The stride comes first, then the padding."),
        ("weight detached", CONVOLVED, CONVOLVED.replace("weight,", "weight.detach(),"),
         "No gradient reaches the weight: it could not be trained."),
        ("estimate detached", ANEW, ANEW + "\n        weight = self.weight * (weight / "
         "self.weight).detach()",
         "The estimate depends on the weight: its gradient belongs to the weight's."),
    ]), Mistake.edits_of("u a parameter", [
        (BUFFER, "self.u = nn.Parameter(torch.randn(self.out_channels))"),
        ("self.u = u\n", "self.u.data = u\n"),
    ], "An optimizer would train u. It is a buffer: saved and moved, but not trained."),
    ],
    variants=variants("""
        a module's own convolution
            class SpectralConv2d(nn.Conv2d):
                def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0,
                             bias=True):
                    super().__init__(in_channels, out_channels, kernel_size, stride=stride,
                                     padding=padding, bias=bias)
                    self.register_buffer("u", F.normalize(torch.randn(out_channels), dim=0))
                def forward(self, x):
                    weight, u = spectral_normalize(self.weight, self.u)
                    if self.training:
                        self.u.copy_(u)
                    return self._conv_forward(x, weight, self.bias)

        the bias added at the end
            class SpectralConv2d(nn.Conv2d):
                def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0,
                             bias=True):
                    super().__init__(in_channels, out_channels, kernel_size, stride, padding,
                                     bias=bias)
                    self.register_buffer("u", torch.rand(out_channels) - 0.5)
                def forward(self, x):
                    weight, new = spectral_normalize(self.weight, self.u, steps=1)
                    self.u = new.clone() if self.training else self.u
                    y = F.conv2d(x, weight, stride=self.stride, padding=self.padding)
                    return y if self.bias is None else y + self.bias.view(1, -1, 1, 1)

        a module of its own
            class SpectralConv2d(nn.Module):
                def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0,
                             bias=True):
                    super().__init__()
                    conv = nn.Conv2d(in_channels, out_channels, kernel_size, bias=bias)
                    self.weight, self.bias = conv.weight, conv.bias
                    self.register_buffer("u", torch.randn(out_channels))
                    self.stride, self.padding = stride, padding
                def forward(self, x):
                    weight, u = spectral_normalize(self.weight, self.u)
                    if self.training:
                        with torch.no_grad():
                            self.u.copy_(u)
                    return F.conv2d(x, weight, self.bias, self.stride, self.padding)
    """),
)  # fmt: skip

TRAINED_THEN_EVALUATED = spectral_inputs(2, 4, 3, (True, True, False, False), stride=2, padding=1)
CALLS = [
    Case("one call", spectral_calls, spectral_inputs(3, 4, 2, (True,))),
    Case("stride and padding", spectral_calls, spectral_inputs(2, 5, 3, (True,), stride=2,
                                                              padding=1)),
    Case("without a bias", spectral_calls, spectral_inputs(2, 3, 2, (True,), bias=False)),
]  # fmt: skip


@spectral_conv.test(points=0.5, cases=[
    Case("names and shapes", spectral_anatomy, lambda _: {"d_in": 2, "d_out": 6}, dtypes=ONE),
])  # fmt: skip
def test_spectral_conv_has_the_right_parts(submission, case):
    """Has a weight, a bias and a buffer u"""
    submission.matches_reference(case)


@spectral_conv.test(points=1.5, cases=[
    *CALLS,
    Case("three calls in training", spectral_calls, spectral_inputs(3, 4, 2, (True,) * 3)),
    Case("training, then evaluation", spectral_calls, TRAINED_THEN_EVALUATED),
    Case("evaluation", spectral_calls, spectral_inputs(2, 3, 2, (False, False), padding=1)),
])  # fmt: skip
def test_spectral_conv_convolves_with_the_normalised_weight(submission, case):
    """Convolves with the normalised weight, and keeps u while it is trained"""
    submission.matches_reference(case)


@spectral_conv.test(points=0.25, cases=[
    Case("training, then evaluation", spectral_calls, TRAINED_THEN_EVALUATED),
])  # fmt: skip
def test_spectral_conv_follows_the_device(submission, case):
    """Works on whichever device it was moved to"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- gaussian_statistics


def statistics_by_torch(features):
    return features.mean(dim=0), torch.cov(features.T).reshape(2 * [features.shape[1]])


def features_of(n, d, centre=2.0):
    def draw(make):
        mixed = make.normal(n, d) @ make.normal(d, d)
        return {"features": mixed + centre * make.away_from_zero(d)}

    return draw


COV = "centred.T @ centred / (len(features) - 1)"

gaussian_statistics = Exercise(
    "gaussian_statistics",
    oracle=statistics_by_torch,
    forbids=["torch.cov", "torch.Tensor.cov", "torch.corrcoef", "torch.Tensor.corrcoef",
             "numpy.cov"],
    mistakes=edits([
        ("divided by all", COV, COV.replace("(len(features) - 1)", "len(features)"),
         "The unbiased covariance divides by one less than the number of examples."),
        ("divided by the dimensions", COV, COV.replace("len(features)", "features.shape[1]"),
         "The divisor is one less than the number of *examples*, not of features."),
        ("one mean for all features", "centred = features - mean",
         "mean = features.mean().expand(features.shape[1])\n    centred = features - mean",
         "Each feature has a mean of its own: average over the examples only."),
        ("not divided", COV, "centred.T @ centred",
         "That is a sum over the examples: divide by one less than their number."),
        ("not centred", "centred = features - mean", "centred = features",
         "Subtract the mean first: these are second moments about zero."),
        ("centred the wrong way", "centred = features - mean",
         "centred = features - features.mean(dim=1, keepdim=True)",
         "The mean of each feature over the examples is subtracted, not that of each example."),
        ("covariance of the examples", COV, "centred @ centred.T / (len(features) - 1)",
         "The covariance is between features, (d, d), and not between examples."),
        ("variances only", COV, "torch.diag(features.var(dim=0))",
         "The covariance has entries for pairs of features as well."),
        ("a vector of variances", COV, "features.var(dim=0)",
         "The covariance is a matrix, with an entry for each pair of features."),
        ("correlations", COV, "(centred / features.std(dim=0)).T @ (centred / "
         "features.std(dim=0)) / (len(features) - 1)",
         "These are correlations: the features are not divided by their standard deviations."),
        ("returned in the other order", f"return mean, {COV}", f"return {COV}, mean",
         "The mean comes first, then the covariance."),
        ("mean kept as a row", f"return mean, {COV}", f"return mean[None], {COV}",
         "The mean has the shape (d,)."),
        ("outer product of the sums", COV,
         "torch.outer(centred.abs().sum(0), centred.abs().sum(0)) / (len(features) - 1)",
         "Multiply first, example by example, then add up."),
    ]),
    variants=variants("""
        einsum
            def gaussian_statistics(features):
                n = features.shape[0]
                mean = features.sum(0) / n
                c = features - mean
                return [mean, torch.einsum("ni,nj->ij", c, c) / (n - 1)]

        outer products
            def gaussian_statistics(features):
                mean = torch.mean(features, dim=0)
                total = sum(torch.outer(x - mean, x - mean) for x in features)
                return mean, total / (features.size(0) - 1)

        moments about zero
            def gaussian_statistics(features):
                n, mean = len(features), features.mean(0)
                return mean, (features.T @ features - n * torch.outer(mean, mean)) / (n - 1)

        scaled first
            def gaussian_statistics(features):
                mean = features.mean(0)
                c = (features - mean) / (len(features) - 1) ** 0.5
                return mean, c.mT.mm(c)
    """),
)  # fmt: skip


def two_apart(make):
    """Of two that were close, the moments about zero would cancel to nothing in float32."""
    middle, half = make.normal(1, 3), make.away_from_zero(1, 3, low=0.5, high=1.5)
    return {"features": torch.cat([middle - half, middle + half])}


FEATURES = [
    Case("more examples than features", apply, features_of(9, 4)),
    Case("more features than examples", apply, features_of(3, 5)),
    Case("two examples", apply, two_apart),
    Case("a single feature", apply, features_of(6, 1)),
]


@gaussian_statistics.test(points=0.75, cases=FEATURES)
def test_gaussian_statistics_measures_mean_and_covariance(submission, case):
    """Measures the mean and the unbiased covariance"""
    submission.matches_reference(case)


@gaussian_statistics.test(points=0.25, cases=FEATURES[:1])
def test_gaussian_statistics_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- matrix_sqrt


def sqrt_by_svd(matrix):
    left, values, _ = torch.linalg.svd(matrix)
    return left @ torch.diag(values.sqrt()) @ left.mT


def covariance(make, d, rank=None, low=0.5, high=3.0):
    """Symmetric, of a rank, with singular values apart from each other and from 0."""
    rank = d if rank is None else rank
    q, _ = torch.linalg.qr(make.normal(d, d))
    values = torch.linspace(low, high, max(rank, 1), dtype=torch.float64)
    half = q[:, :rank] * (values[:rank] * make.uniform(rank, low=0.9, high=1.1)).sqrt()
    return half @ half.T


def a_matrix(d, rank=None, low=0.5, high=3.0):
    return lambda make: {"matrix": covariance(make, d, rank, low, high)}


EIGH = "eigenvalues, vectors = torch.linalg.eigh(matrix)"
ROOT = "(vectors * eigenvalues.clamp(min=0).sqrt()) @ vectors.T"

matrix_sqrt = Exercise(
    "matrix_sqrt",
    oracle=sqrt_by_svd,
    forbids=["scipy.linalg.sqrtm", "torch.linalg.matrix_exp", "torch.matrix_exp"],
    mistakes=edits([
        ("negative eigenvalues kept", ROOT, ROOT.replace(".clamp(min=0)", ""),
         "Rounding makes eigenvalues of 0 slightly negative, and their root is NaN. Such ones "
         "count as 0."),
        ("root of each entry", ROOT, "matrix.clamp(min=0).sqrt()",
         "The root of a matrix is not made of the roots of its entries: what is wanted is S with "
         "S @ S equal to the matrix."),
        ("no root", ROOT, ROOT.replace(".sqrt()", ""),
         "That puts the matrix together as it was: take the root of its eigenvalues."),
        ("squared", ROOT, ROOT.replace(".sqrt()", ".square()"),
         "The eigenvalues are squared; take their roots."),
        ("one half of the eigenvalues", ROOT, ROOT.replace(".sqrt()", " / 2"),
         "The power of one half is the root, not half of the value."),
        ("inverse root", ROOT, "(vectors * eigenvalues.clamp(min=1e-3).rsqrt()) @ vectors.T",
         "That is the inverse of the root."),
        ("not turned back", ROOT, "vectors * eigenvalues.clamp(min=0).sqrt()",
         "That is a factor of the matrix, but not symmetric: the other eigenvectors are missing."),
        ("eigenvectors in the wrong order", ROOT, "(vectors.T * eigenvalues.clamp(min=0).sqrt()) @ "
         "vectors", "The eigenvectors are the columns: V times the roots times V transposed."),
        ("not transposed", ROOT, "(vectors * eigenvalues.clamp(min=0).sqrt()) @ vectors",
         "The second factor is V transposed."),
        ("eigenvalues only", ROOT, "torch.diag(eigenvalues.clamp(min=0).sqrt())",
         "These are the roots of the eigenvalues. Turn them back with the eigenvectors."),
        *((f"floor of {floor} under the eigenvalues", ROOT, ROOT.replace("min=0", f"min={floor}"),
           "A floor above 0 changes matrices with small eigenvalues.")
          for floor in ("0.1", "1e-2", "1e-3", "1e-4")),
        ("a Cholesky factor", EIGH, EIGH + "\n    eye = torch.eye(len(matrix)).to(matrix)\n"
         "    return torch.linalg.cholesky(matrix + 1e-6 * eye)",
         "A triangular factor times its transpose gives the matrix; the root is symmetric and is "
         "multiplied with itself."),
        *((f"{some} added to the diagonal", EIGH, "eye = torch.eye(len(matrix)).to(matrix)\n    "
           f"eigenvalues, vectors = torch.linalg.eigh(matrix + {some} * eye)",
           "Nothing is added to the matrix: singular ones are to be taken as they are.")
          for some in ("1e-2", "1e-3", "1e-4")),
    ]),
    variants=variants("""
        products with a diagonal matrix
            def matrix_sqrt(matrix):
                values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
                return vectors @ torch.diag(values.relu().sqrt()) @ vectors.mT

        einsum
            def matrix_sqrt(matrix):
                values, q = torch.linalg.eigh(matrix)
                roots = torch.where(values > 0, values, torch.zeros_like(values)) ** 0.5
                return torch.einsum("ik,k,jk->ij", q, roots, q)

        singular values
            def matrix_sqrt(matrix):
                u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
                return (u * s.sqrt()) @ u.T

        NaN replaced
            def matrix_sqrt(matrix):
                values, vectors = torch.linalg.eigh(matrix)
                return vectors @ torch.diag_embed(values.sqrt().nan_to_num(0.0)) @ vectors.mT

        a sum of outer products
            def matrix_sqrt(matrix):
                values, vectors = torch.linalg.eigh(matrix)
                root = torch.zeros_like(matrix)
                for value, vector in zip(values, vectors.T):
                    root = root + value.clamp(min=0).sqrt() * torch.outer(vector, vector)
                return root
    """),
)  # fmt: skip

# Where eigenvalues are 0, their roots are the root of rounding: 1e-8 in float64.
SINGULAR = {"dtypes": ONE, "loosen": 1e6}
ROOTS = [
    Case("of full rank", apply, a_matrix(4)),
    Case("of small eigenvalues", apply, a_matrix(5, low=0.01, high=0.08), loosen=4),
    Case("large", apply, a_matrix(7, low=4.0, high=60.0)),
    Case("one by one", apply, a_matrix(1)),
]


@matrix_sqrt.test(points=1, cases=ROOTS)
def test_matrix_sqrt_is_the_symmetric_root(submission, case):
    """Is the symmetric root of a matrix"""
    submission.matches_reference(case)


@matrix_sqrt.test(points=0.5, cases=[
    Case("of rank three", apply, a_matrix(24, rank=3), **SINGULAR),
    Case("of rank one", apply, a_matrix(30, rank=1), **SINGULAR),
])  # fmt: skip
def test_matrix_sqrt_takes_singular_matrices(submission, case):
    """Takes singular matrices, without NaN"""
    submission.matches_reference(case)


@matrix_sqrt.test(points=0.25, cases=ROOTS[:1])
def test_matrix_sqrt_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- frechet_distance


def distance_by_singular_values(mean1, cov1, mean2, cov2):
    """The trace of the cross term is the sum of the singular values of the product of roots."""
    cross = torch.linalg.svdvals(sqrt_by_svd(cov1) @ sqrt_by_svd(cov2)).sum()
    return torch.dot(mean1 - mean2, mean1 - mean2) + cov1.trace() + cov2.trace() - 2 * cross


def two_gaussians(d, rank=None, same=(), diagonal=False):
    def draw(make):
        covs = [covariance(make, d, rank, low, high) for low, high in ((0.5, 2.0), (1.0, 6.0))]
        if diagonal:
            covs = [torch.diag(cov.diagonal()) for cov in covs]
        means = [make.normal(d, mean=1.0), make.away_from_zero(d)]
        return {
            "mean1": means[0],
            "cov1": covs[0],
            "mean2": means["means" not in same],
            "cov2": covs["covariances" not in same],
        }

    return draw


SPREAD = "(cov1 + cov2 - 2 * cross).trace()"
CROSS = "cross = matrix_sqrt(root @ cov2 @ root)"
MEANS = "(mean1 - mean2).square().sum()"

frechet_distance = Exercise(
    "frechet_distance",
    oracle=distance_by_singular_values,
    forbids=["scipy.linalg.sqrtm"],
    mistakes=edits([
        ("distance of the means not squared", MEANS, "(mean1 - mean2).square().sum().sqrt()",
         "The distance of the means is squared: no root of the sum of squares."),
        ("magnitudes of the means' differences", MEANS, "(mean1 - mean2).abs().sum()",
         "The differences of the means are squared before they are added."),
        ("mean of the squares", MEANS, "(mean1 - mean2).square().mean()",
         "The squared differences are added up, not averaged."),
        ("root missing on the right", CROSS, "cross = matrix_sqrt(root @ cov2)",
         "The root of C₁ stands on both sides of C₂, so that the product is symmetric."),
        ("means left out", f"{MEANS} + ", "", "The squared distance of the means is missing."),
        ("means only", f"{MEANS} + {SPREAD}", MEANS, "The covariances do not take part."),
        ("sum of the means", MEANS, MEANS.replace("mean1 - mean2", "mean1 + mean2"),
         "It is the *difference* of the means that counts."),
        ("cross term once", SPREAD, "(cov1 + cov2 - cross).trace()",
         "The cross term is subtracted twice."),
        ("cross term added", SPREAD, "(cov1 + cov2 + 2 * cross).trace()",
         "The cross term is subtracted."),
        ("no cross term", SPREAD, "(cov1 + cov2).trace()",
         "The cross term is missing: equal Gaussians have the distance 0."),
        ("all entries added", SPREAD, "(cov1 + cov2 - 2 * cross).sum()",
         "The trace adds the entries on the diagonal, not all of them."),
        ("mean of the diagonal", SPREAD, SPREAD.replace(".trace()", ".diagonal().mean()"),
         "The trace is the sum of the diagonal, not its mean."),
        ("root at the end", f"{MEANS} + {SPREAD}", f"({MEANS} + {SPREAD}).clamp(min=0).sqrt()",
         "The *squared* distance is asked for: no root at the end."),
        ("product of the roots", CROSS, "cross = root @ matrix_sqrt(cov2)",
         "The root of a product is the product of the roots only where the matrices commute."),
        ("root of the plain product", CROSS, "cross = matrix_sqrt(cov1 @ cov2)",
         "The plain product of two covariances is not symmetric, and matrix_sqrt needs a "
         "symmetric matrix."),
        ("root missing outside", CROSS, "cross = root @ cov2 @ root",
         "The outer root is missing: it is taken of the whole product."),
        ("root missing inside", CROSS, "cross = matrix_sqrt(cov1 @ cov2 @ cov1)",
         "On both sides of C₂ stands the root of C₁, and not C₁ itself."),
        ("root on one side only", CROSS, "cross = matrix_sqrt((root @ cov2 + cov2 @ root) / 2)",
         "The root of C₁ stands on both sides of C₂."),
        ("variances only", CROSS, "cross = torch.diag((cov1.diagonal() * cov2.diagonal()).sqrt())",
         "That treats the features as independent. The whole matrices are needed."),
        ("difference of the covariances", SPREAD, "(cov1 - cov2).square().sum()",
         "That is the squared distance of the covariances entry by entry, another quantity."),
        ("roots of each entry", CROSS, "cross = (root @ cov2 @ root).abs().sqrt()",
         "The outer root is that of a matrix as well, not of its entries."),
        ("returned as a number", f"return {MEANS} + {SPREAD}",
         f"return ({MEANS} + {SPREAD}).item()",
         "Return a tensor of shape (): .item() makes a Python number of it."),
        ("per dimension", f"return {MEANS} + {SPREAD}",
         f"return ({MEANS} + {SPREAD}) / len(mean1)",
         "The distance is not divided by the number of dimensions."),
    ]),
    variants=variants("""
        eigenvalues of the plain product
            def frechet_distance(mean1, cov1, mean2, cov2):
                values = torch.linalg.eigvals(cov1 @ cov2)
                cross = values.real.clamp(min=0).sqrt().sum()
                delta = mean1 - mean2
                return delta @ delta + torch.trace(cov1) + torch.trace(cov2) - 2 * cross

        the other one outside
            def frechet_distance(mean1, cov1, mean2, cov2):
                root = matrix_sqrt(cov2)
                inner = matrix_sqrt(root @ cov1 @ root)
                spread = torch.trace(cov1) + torch.trace(cov2) - 2 * torch.trace(inner)
                return torch.sum((mean1 - mean2) ** 2) + spread

        symmetrised
            def frechet_distance(mean1, cov1, mean2, cov2):
                root = matrix_sqrt(cov1)
                product = root.matmul(cov2).matmul(root)
                cross = matrix_sqrt((product + product.mT) / 2)
                gap = torch.linalg.vector_norm(mean1 - mean2) ** 2
                traces = [c.diagonal().sum() for c in (cov1, cov2, cross)]
                return gap + traces[0] + traces[1] - 2 * traces[2]

        eigenvalues of the symmetric product
            def frechet_distance(mean1, cov1, mean2, cov2):
                root = matrix_sqrt(cov1)
                values = torch.linalg.eigvalsh(root @ cov2 @ root)
                return (mean1 - mean2).pow(2).sum() + (cov1 + cov2).trace() - 2 * (
                    values.clamp(min=0).sqrt().sum()
                )
    """),
)  # fmt: skip

DISTANCES = [
    Case("two Gaussians", apply, two_gaussians(4)),
    Case("more dimensions", apply, two_gaussians(7)),
    Case("equal means", apply, two_gaussians(5, same=("means",)), loosen=4),
    Case("equal covariances", apply, two_gaussians(4, same=("covariances",)), loosen=4),
    Case("independent features", apply, two_gaussians(3, diagonal=True)),
    Case("one dimension", apply, two_gaussians(1)),
]


@frechet_distance.test(points=1, cases=DISTANCES)
def test_frechet_distance_compares_gaussians(submission, case):
    """Compares means and covariances"""
    submission.matches_reference(case)


@frechet_distance.test(points=0.5, cases=[
    Case("singular covariances", apply, two_gaussians(20, rank=3), **SINGULAR),
    Case("a Gaussian and itself", apply, two_gaussians(4, same=("means", "covariances")),
         dtypes=ONE, loosen=1e6),
])  # fmt: skip
def test_frechet_distance_takes_extremes(submission, case):
    """Takes singular covariances, and is 0 between a Gaussian and itself"""
    submission.matches_reference(case)


@frechet_distance.test(points=0.25, cases=DISTANCES[:1])
def test_frechet_distance_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)
