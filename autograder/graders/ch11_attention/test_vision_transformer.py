"""Patches, class token, positions, blocks, the whole: Dosovitskiy et al. (2021), equations 1 to 4,
https://arxiv.org/abs/2010.11929; attention rollout: Abnar & Zuidema (2020), equation 1,
https://arxiv.org/abs/2005.00928.

Every module gets its parameters from the case, under the names that its docstring fixes. Dropout is
judged with p = 1, where everything is dropped and nothing is random.
"""

from functools import partial

import torch
from torch import nn

from autograder.spec import (
    Case,
    Exercise,
    Mistake,
    Variant,
    gradients,
    load_weights,
    names_and_shapes,
    raised,
)
from autograder.spec.tables import edits, edits_of, variants

NO_UNFOLD = [
    "torch.nn.Unfold",
    "torch.nn.modules.Unfold",
    "torch.nn.modules.fold",
    "torch.nn.functional.unfold",
    "torch._C._nn.im2col",
    "torch.ops.aten.im2col",
]
NO_LAYERS = [
    "torch.nn.Transformer",
    "torch.nn.TransformerEncoder",
    "torch.nn.TransformerEncoderLayer",
    "torch.nn.TransformerDecoder",
    "torch.nn.TransformerDecoderLayer",
    "torch.nn.modules.transformer",
    "torch.nn.modules.Transformer",
    "torch.nn.modules.TransformerEncoderLayer",
    "torch._transformer_encoder_layer_fwd",
]

# ----------------------------------------------------------------------------- what all share


def plain(impl, **inputs):
    return impl(*inputs.values())


def case_of(title, scenario, inputs, **options):
    return Case(title, scenario, inputs, **{"loosen": 10.0, **options})


def through(impl, sizes, weights, x, training=True):
    return load_weights(impl(**sizes), weights).train(training)(x)


def backward_through(impl, sizes, weights, x, names, cotangent):
    module = load_weights(impl(**sizes), weights)
    parameters = dict(module.named_parameters())
    leaf = x.detach().clone().requires_grad_()
    found = gradients(module(leaf), [leaf, *(parameters[name] for name in names)], cotangent)
    return {f"gradient of {n}": g for n, g in zip(("the input", *names), found, strict=True)}


def draw(make, shapes):
    """Parameters of all kinds; those of layer norms lie around 1, so that they show."""
    return {
        name: make.normal(*shape, mean=float("norm" in name and name.endswith("weight")), std=0.4)
        for name, shape in shapes.items()
    }


def linear_shapes(prefix, d_in, d_out):
    return {f"{prefix}.weight": (d_out, d_in), f"{prefix}.bias": (d_out,)}


def norm_shapes(prefix, d_model):
    return {f"{prefix}.weight": (d_model,), f"{prefix}.bias": (d_model,)}


def embedding_shapes(prefix, side, patch_size, channels, d_model):
    places = 1 + (side // patch_size) ** 2
    return {
        f"{prefix}class_token": (1, 1, d_model),
        f"{prefix}positions": (1, places, d_model),
        **linear_shapes(f"{prefix}patches.projection", channels * patch_size**2, d_model),
    }


def block_shapes(prefix, d_model, d_ff):
    return {
        **norm_shapes(f"{prefix}norm_1", d_model),
        **norm_shapes(f"{prefix}norm_2", d_model),
        **{f"{prefix}attention.W_{name}.weight": (d_model, d_model) for name in "qkvo"},
        **linear_shapes(f"{prefix}W_1", d_model, d_ff),
        **linear_shapes(f"{prefix}W_2", d_ff, d_model),
    }


# ----------------------------------------------------------------------------------- patchify


def patchify_by_unfold(images, patch_size):
    height, width = images.shape[2:]
    if height % patch_size or width % patch_size:
        raise ValueError("patches do not fit")
    # Exact for every dtype that a case uses, and integers come back as they were.
    flat = nn.functional.unfold(images.double(), patch_size, stride=patch_size)
    return flat.transpose(1, 2).to(images.dtype)


def cut_a_view(impl, images, patch_size):
    """Channels last, as images come from a file, seen channels first."""
    return impl(images.permute(0, 3, 1, 2), patch_size)


def cut_backward(impl, images, patch_size, cotangent):
    leaf = images.detach().clone().requires_grad_()
    return {"gradient of the images": gradients(impl(leaf, patch_size), [leaf], cotangent)[0]}


def refuses(impl, images, sizes):
    told = {}
    for height, width, patch_size in sizes:
        image = images[:, :, :height, :width]
        name = f"{height} x {width}, patches of {patch_size}"
        told[name] = raised(partial(impl, image, patch_size), ValueError)
    return told


CUT = "cut = images.reshape(batch, channels, rows, patch_size, columns, patch_size)"
PERMUTED = "cut.permute(0, 2, 4, 1, 3, 5)"
FLAT = "return patches.reshape(batch, rows * columns, channels * patch_size * patch_size)"
FITS = "if height % patch_size != 0 or width % patch_size != 0:"

patchify = Exercise(
    "patchify",
    oracle=patchify_by_unfold,
    forbids=NO_UNFOLD,
    mistakes=[
        *edits_of(
            PERMUTED,
            (
                "patches column by column",
                "cut.permute(0, 4, 2, 1, 3, 5)",
                "The patches come column by column; they should come as one reads, row by row.",
            ),
            (
                "pixels column by column",
                "cut.permute(0, 2, 4, 1, 5, 3)",
                "Inside a patch, the pixels come column by column; they should come row by row.",
            ),
            (
                "patches transposed",
                "cut.permute(0, 4, 2, 1, 5, 3)",
                "Rows and columns have changed places, among the patches and inside each.",
            ),
            (
                "channels last",
                "cut.permute(0, 2, 4, 3, 5, 1)",
                "Inside a patch, the channels of each pixel come together; the docstring wants "
                "channel by channel.",
            ),
            (
                "channels between rows and columns",
                "cut.permute(0, 2, 4, 3, 1, 5)",
                "Inside a patch, each row of pixels comes with all its channels; the channels "
                "should be outermost.",
            ),
            (
                "every rows-th pixel",
                "cut.permute(0, 3, 5, 1, 2, 4)[:, :rows, :columns]"
                ".reshape(batch, -1, channels, rows, columns)",
                "Neighbouring pixels land in different patches: the dimension that runs within a "
                "patch is the inner one of the two that a side is cut into.",
            ),
            (
                "not permuted",
                "cut",
                "The image is only reshaped. The numbers of a patch do not lie next to one "
                "another in memory: dimensions have to change places first.",
            ),
            (
                "patches and channels exchanged",
                "cut.permute(0, 1, 2, 4, 3, 5)",
                "The channels stand before the patches, so that numbers of one channel fill "
                "several patches.",
            ),
        ),
        *edits_of(
            CUT,
            (
                "the wrong half of each side",
                "cut = images.reshape(batch, channels, patch_size, rows, patch_size, columns)"
                ".transpose(2, 3).transpose(4, 5)",
                "Every patch takes pixels from all over the image: of the two dimensions that a "
                "side is cut into, the inner one runs within the patch.",
            ),
        ),
        *edits_of(
            FLAT,
            (
                "view",
                FLAT.replace("reshape", "view"),
                "view needs numbers that lie in memory as the shape says; after dimensions have "
                "changed places, they do not. Some other function copies where it has to.",
            ),
            (
                "channels not laid flat",
                "return patches.reshape(batch, rows * columns, channels, patch_size * patch_size)",
                "The channels are still a dimension of their own; a patch is one row of numbers.",
            ),
            (
                "patches not laid flat",
                "return patches.reshape(batch, rows * columns, channels, patch_size, patch_size)",
                "The patches are still small images; each should be one row of numbers.",
            ),
            (
                "rows and columns of patches kept",
                "return patches.flatten(3)",
                "Rows and columns of patches are two dimensions; the sequence should be one.",
            ),
            (
                "features before patches",
                FLAT + ".transpose(1, 2)",
                "The numbers of a patch come before the patches, as nn.Unfold returns them. "
                "Patches are the sequence, and come second.",
            ),
            (
                "batch and patches in one",
                "return patches.reshape(batch * rows * columns, -1)",
                "The patches of all images are in one dimension; keep the batch.",
            ),
            (
                "patches in reverse order",
                FLAT + ".flip(1)",
                "The patches come from the last to the first.",
            ),
            (
                "made floating point",
                FLAT + ".to(torch.get_default_dtype())",
                "The dtype is not that of the images.",
            ),
        ),
        *edits_of(
            FITS,
            (
                "any size accepted",
                "images = images[:, :, : height - height % patch_size, "
                ": width - width % patch_size]\n    if False:",
                "What does not fit is cut off silently; the docstring promises a ValueError.",
            ),
            (
                "only the height looked at",
                "if height % patch_size != 0:",
                "Only the height is asked whether patches fit; the width has to be, too.",
            ),
            (
                "only the width looked at",
                "if width % patch_size != 0:",
                "Only the width is asked whether patches fit; the height has to be, too.",
            ),
            (
                "refused only where neither side fits",
                FITS.replace(" or ", " and "),
                "An image is refused only if neither side fits; one that does not is enough.",
            ),
            (
                "the number of pixels looked at",
                "if height * width % patch_size**2 != 0:",
                "What has to be divisible is each side, not the number of pixels.",
            ),
            (
                "squares only",
                "if height % patch_size != 0 or width % patch_size != 0 or height != width:",
                "An image need not be square.",
            ),
        ),
        Mistake(
            "a single patch refused",
            FITS,
            FITS.replace(":", " or height == patch_size:"),
            "An image as large as a single patch is refused; it has one patch.",
        ),
        Mistake(
            "cut from the graph",
            CUT,
            CUT.replace("images.", "images.detach()."),
            "The numbers are right, but no gradient passes back to the images: detach, data and "
            "NumPy cut the graph.",
        ),
        Mistake(
            "as many columns of patches as rows",
            "rows, columns = height // patch_size, width // patch_size",
            "rows = columns = height // patch_size",
            "The columns of patches are counted by the height. An image need not be square.",
        ),
        Mistake(
            "another error",
            "raise ValueError(",
            "raise AssertionError(",
            "An assert raises AssertionError, and disappears under python -O. The docstring "
            "promises a ValueError.",
        ),
    ],
    variants=variants("""
        patch by patch
            def patchify(images, patch_size):
                height, width = images.shape[-2:]
                if height % patch_size or width % patch_size:
                    raise ValueError("the patches do not fit")
                patches = []
                for top in range(0, height, patch_size):
                    for left in range(0, width, patch_size):
                        patch = images[:, :, top : top + patch_size, left : left + patch_size]
                        patches.append(patch.flatten(1))
                return torch.stack(patches, dim=1)

        pixels unshuffled
            def patchify(images, patch_size):
                if images.size(2) % patch_size or images.size(3) % patch_size:
                    raise ValueError("the patches do not fit")
                return nn.functional.pixel_unshuffle(images, patch_size).flatten(2).mT

        windows of tensors
            def patchify(images, patch_size):
                if any(side % patch_size for side in images.shape[2:]):
                    raise ValueError("sides must be multiples of the patch size")
                windows = images.unfold(2, patch_size, patch_size).unfold(3, patch_size, patch_size)
                return windows.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)

        chunks
            def patchify(images, patch_size):
                b, c, h, w = images.size()
                if h % patch_size > 0 or w % patch_size > 0:
                    raise ValueError(f"{h} x {w} cannot be cut into patches of {patch_size}")
                rows = torch.stack(images.split(patch_size, dim=2), dim=1)
                both = torch.stack(rows.split(patch_size, dim=4), dim=2)
                return both.reshape(b, (h // patch_size) * (w // patch_size), -1)

        einsum
            def patchify(images, patch_size):
                b, c, h, w = images.shape
                if h // patch_size * patch_size != h or w // patch_size * patch_size != w:
                    raise ValueError("no")
                x = images.unflatten(3, (-1, patch_size)).unflatten(2, (-1, patch_size))
                x = torch.einsum("bcipjq->bijcpq", x)
                return x.contiguous().view(b, -1, c * patch_size**2)
    """),
)


@patchify.test(
    points=1.25,
    cases=[
        Case(
            "images of several channels",
            plain,
            lambda make: {"images": make.normal(2, 3, 8, 12), "patch_size": 4},
        ),
        Case(
            "the way back",
            cut_backward,
            lambda make: {
                "images": make.normal(2, 3, 4, 6),
                "patch_size": 2,
                "cotangent": make.normal(2, 6, 12),
            },
        ),
        Case(
            "images taller than wide",
            plain,
            lambda make: {"images": make.normal(3, 2, 15, 6), "patch_size": 3},
        ),
        Case(
            "patches of one pixel",
            plain,
            lambda make: {"images": make.normal(2, 3, 4, 5), "patch_size": 1},
        ),
        Case(
            "whole numbers, one image",
            plain,
            lambda make: {"images": make.integers(0, 256, 1, 3, 4, 6), "patch_size": 2},
        ),
        Case(
            "images that are not contiguous",
            cut_a_view,
            lambda make: {"images": make.normal(2, 6, 9, 4), "patch_size": 3},
        ),
    ],
)
def test_cuts_patches(submission, case):
    """Cuts patches, and lays them flat in order"""
    submission.matches_reference(case)


@patchify.test(
    points=0.5,
    cases=[
        Case(
            "sizes that fit, and sizes that do not",
            refuses,
            lambda make: {
                "images": make.normal(1, 2, 16, 16),
                "sizes": [
                    (8, 12, 4),
                    (8, 10, 4),
                    (10, 8, 4),
                    (9, 7, 4),
                    (4, 9, 6),
                    (8, 9, 4),
                    (6, 6, 3),
                    (4, 4, 4),
                ],
            },
        )
    ],
)
def test_refuses_what_does_not_fit(submission, case):
    """Refuses images that patches do not fit"""
    submission.matches_reference(case)


@patchify.test(
    points=0.25,
    cases=[
        Case("images", plain, lambda make: {"images": make.normal(2, 3, 8, 12), "patch_size": 4})
    ],
)
def test_patchify_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ----------------------------------------------------------------------------- PatchEmbedding


class PatchEmbeddingByConvolution(nn.Module):
    def __init__(self, patch_size, channels, d_model):
        super().__init__()
        self.patch_size = patch_size
        self.projection = nn.Linear(channels * patch_size**2, d_model)

    def forward(self, images):
        p = self.patch_size
        kernel = self.projection.weight.reshape(-1, images.size(1), p, p)
        found = nn.functional.conv2d(images, kernel, self.projection.bias, stride=p)
        return found.flatten(2).transpose(1, 2)


def patches_of(make, shape, patch_size, d_model=5):
    channels = shape[1]
    return {
        "sizes": {"patch_size": patch_size, "channels": channels, "d_model": d_model},
        "weights": draw(make, linear_shapes("projection", channels * patch_size**2, d_model)),
        "x": make.normal(*shape),
    }


PROJECTED = "self.projection(patchify(images, self.patch_size))"
PROJECTION = "nn.Linear(channels * patch_size * patch_size, d_model)"

PatchEmbedding = Exercise(
    "PatchEmbedding",
    oracle=PatchEmbeddingByConvolution,
    mistakes=[
        *edits_of(
            PROJECTED,
            (
                "patches column by column",
                "self.projection(patchify(images.mT, self.patch_size))",
                "The image is transposed before it is cut.",
            ),
            (
                "a ReLU behind it",
                f"torch.relu({PROJECTED})",
                "The projection is linear; nothing comes behind it.",
            ),
            (
                "a GELU behind it",
                f"nn.functional.gelu({PROJECTED})",
                "The projection is linear; nothing comes behind it.",
            ),
            (
                "normalised patches",
                "self.projection(nn.functional.layer_norm(patchify(images, self.patch_size), "
                "self.projection.weight.shape[1:]))",
                "The patches are normalised first; they should be projected as they are.",
            ),
            (
                "features before patches",
                f"{PROJECTED}.transpose(1, 2)",
                "The features come before the patches; the last dimension is the features'.",
            ),
            (
                "bias left out",
                f"({PROJECTED} - self.projection.bias)",
                "The bias of the projection has no effect.",
            ),
            (
                "images cut from the graph",
                "self.projection(patchify(images.detach(), self.patch_size))",
                "The numbers are right, but no gradient passes back to the images: they are "
                "detached on the way.",
            ),
            (
                "a mere reshape instead of patches",
                "self.projection(\n            images.reshape("
                "len(images), -1, self.projection.in_features)\n        )",
                "The image is only reshaped, which mixes pixels of different patches; patchify "
                "cuts it.",
            ),
            (
                "the images made float32",
                "self.projection(patchify(images.float(), self.patch_size))",
                "The images are cast to float32 whatever comes in, which does not go together with "
                "weights of another dtype. Keep the dtype of the inputs.",
            ),
            (
                "averaged over the patches, their dimension kept",
                f"{PROJECTED}.mean(1, keepdim=True)",
                "The patches are averaged; each keeps its place in the sequence.",
            ),
            (
                "averaged over the patches",
                f"{PROJECTED}.mean(1)",
                "The patches are averaged; each keeps its place in the sequence.",
            ),
            (
                "scaled",
                f"{PROJECTED} * self.projection.out_features**0.5",
                "The embedded patches are multiplied by the root of d_model; equation 1 does not.",
            ),
            (
                "pixels scaled to bytes",
                "self.projection(patchify(images / 255, self.patch_size))",
                "The pixels are divided by 255; take them as they come.",
            ),
        ),
        *edits_of(
            PROJECTION,
            (
                "projection without bias",
                "nn.Linear(channels * patch_size * patch_size, d_model, bias=False)",
                "The projection has no bias; the docstring asks for one.",
            ),
            (
                "channels forgotten",
                "nn.Linear(patch_size * patch_size, d_model)",
                "A patch has patch_size times patch_size numbers in each channel, not in all.",
            ),
            (
                "a convolution as the projection",
                "nn.Conv2d(channels, d_model, patch_size, patch_size)",
                "The projection is a convolution. It could do the same thing, but the docstring "
                "asks for an nn.Linear, whose weight has two dimensions.",
            ),
            (
                "projected the wrong way",
                "nn.Linear(d_model, channels * patch_size * patch_size)",
                "nn.Linear takes the features that come in first, then those that go out.",
            ),
        ),
    ],
    variants=[
        *variants("""
            as a convolution
                class PatchEmbedding(nn.Module):
                    def __init__(self, patch_size, channels, d_model):
                        super().__init__()
                        self.shape = (d_model, channels, patch_size, patch_size)
                        self.projection = nn.Linear(patch_size**2 * channels, d_model)
                    def forward(self, images):
                        kernel = self.projection.weight.view(self.shape)
                        bias, p = self.projection.bias, self.shape[-1]
                        y = torch.conv2d(images, kernel, bias, stride=p)
                        return y.flatten(start_dim=2).mT

            by hand
                class PatchEmbedding(nn.Module):
                    def __init__(self, patch_size, channels, d_model):
                        super().__init__()
                        self.p = patch_size
                        self.projection = nn.Linear(channels * self.p * self.p, d_model, bias=True)
                    def forward(self, images):
                        patches = patchify(images=images, patch_size=self.p)
                        return patches @ self.projection.weight.T + self.projection.bias
        """),
        Variant.edits_of(
            "the functional layer",
            [
                (
                    PROJECTED,
                    "nn.functional.linear(\n            patchify(images, self.patch_size), "
                    "self.projection.weight, self.projection.bias\n        )",
                )
            ],
        ),
    ],
)


@PatchEmbedding.test(
    points=0.25,
    cases=[
        Case(
            "names and shapes of the parameters",
            names_and_shapes,
            lambda make: {
                "sizes": {"patch_size": 3, "channels": make.choice([2, 4]), "d_model": 5}
            },
        )
    ],
)
def test_patch_embedding_parameters(submission, case):
    """Has the projection of the docstring"""
    submission.matches_reference(case)


@PatchEmbedding.test(
    points=0.5,
    cases=[
        case_of("images of several channels", through, lambda m: patches_of(m, (2, 3, 8, 12), 4)),
        case_of("square images", through, lambda m: patches_of(m, (2, 2, 6, 6), 2, d_model=9)),
        case_of("one image", through, lambda make: patches_of(make, (1, 1, 9, 6), 3)),
        case_of(
            "gradients",
            backward_through,
            lambda make: dict(
                **patches_of(make, (2, 2, 6, 4), 2),
                names=["projection.weight", "projection.bias"],
                cotangent=make.normal(2, 6, 5),
            ),
            loosen=100.0,
        ),
    ],
)
def test_embeds_patches(submission, case):
    """Projects every patch"""
    submission.matches_reference(case)


@PatchEmbedding.test(
    points=0.25,
    cases=[case_of("images", through, lambda make: patches_of(make, (2, 3, 8, 12), 4))],
)
def test_patch_embedding_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ------------------------------------------------------------------------------- ViTEmbedding


class EmbeddingByPadding(nn.Module):
    def __init__(self, image_size, patch_size, channels, d_model, p=0.0):
        super().__init__()
        self.p = p
        self.patches = PatchEmbeddingByConvolution(patch_size, channels, d_model)
        self.class_token = nn.Parameter(torch.empty(1, 1, d_model).normal_(std=0.02))
        places = 1 + (image_size // patch_size) ** 2
        self.positions = nn.Parameter(torch.empty(1, places, d_model).normal_(std=0.02))

    def forward(self, images):
        later = nn.functional.pad(self.patches(images), (0, 0, 1, 0))
        first = nn.functional.pad(self.class_token, (0, 0, 0, later.size(1) - 1))
        return nn.functional.dropout(later + first + self.positions, self.p, self.training)


def embedded(make, *, side=6, patch_size=2, channels=3, d_model=5, batch=4, p=0.0, **options):
    return {
        "sizes": {
            "image_size": side,
            "patch_size": patch_size,
            "channels": channels,
            "d_model": d_model,
            "p": p,
        },
        "weights": draw(make, embedding_shapes("", side, patch_size, channels, d_model)),
        "x": make.normal(batch, channels, side, side),
        **options,
    }


def fresh(impl, seed):
    torch.manual_seed(seed)
    module = impl(12, 2, 3, 1000)
    return {"class token": module.class_token.detach(), "positions": module.positions.detach()}


def drawn_as_promised(outcome, _inputs):
    """Six sigma of a mean and of a standard deviation; ten of a single draw."""
    told = {}
    for name, values in outcome.items():
        n, std = values.numel(), values.double().std().item()
        near = bool((values.abs() < 0.2).all())
        centred = not near or abs(values.double().mean().item()) < 6 * 0.02 / n**0.5
        told[f"no number of the {name} is far from 0"] = near
        told[f"the {name} has mean 0"] = centred
        told[f"the {name} has standard deviation 0.02"] = abs(std / 0.02 - 1) < 6 / (2 * n) ** 0.5
        told[f"the {name} is not all alike"] = std > 0
        told[f"the {name} is smaller than 1 for the most part"] = std < 0.5
        # Of a normal distribution one number in twenty, of an even one with that deviation none.
        told[f"some of the {name} lies beyond 0.04"] = bool((values.abs() > 0.04).any())
    token, places = outcome.values()
    told["each position is a draw of its own"] = bool((places[:, 1:] != places[:, :1]).any())
    told["the positions are no copies of the class token"] = bool((places != token).any())
    return told


SUM = "torch.cat([class_token, patches], dim=1) + self.positions"
TOKEN = "self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, d_model))"
PLACES = "self.positions = nn.Parameter(0.02 * torch.randn(1, 1 + count, d_model))"

ViTEmbedding = Exercise(
    "ViTEmbedding",
    oracle=EmbeddingByPadding,
    mistakes=[
        *edits_of(
            f"self.dropout({SUM})",
            (
                "class token behind the patches",
                f"self.dropout({SUM.replace('class_token, patches', 'patches, class_token')})",
                "The class token stands behind the patches; it comes first.",
            ),
            (
                "no positions",
                "self.dropout(torch.cat([class_token, patches], dim=1))",
                "The positions are not added: the patches could stand in any order.",
            ),
            (
                "no position for the class token",
                "self.dropout(\n            torch.cat([class_token, patches "
                "+ self.positions[:, 1:]], dim=1)\n        )",
                "The class token gets no position; every place of the sequence does.",
            ),
            (
                "the patches' positions one place early",
                "self.dropout(\n            torch.cat([class_token, patches "
                "+ self.positions[:, :-1]], dim=1)\n        )",
                "The patches get the positions of the places before them: the first position is "
                "the class token's.",
            ),
            (
                "positions cut from the graph",
                f"self.dropout({SUM.replace('self.positions', 'self.positions.detach()')})",
                "The positions are added, but detached: no gradient reaches them, so that they "
                "stay the noise that they began as.",
            ),
            (
                "class token cut from the graph",
                f"self.dropout({SUM.replace('class_token', 'class_token.detach()')})",
                "The class token is detached: no gradient reaches it, so that it could not be "
                "learned.",
            ),
            (
                "patches cut from the graph",
                f"self.dropout({SUM.replace('patches]', 'patches.detach()]')})",
                "The embedded patches are detached: no gradient reaches their projection, so that "
                "it could not be learned.",
            ),
            (
                "positions multiplied",
                "self.dropout(torch.cat([class_token, patches], dim=1) * self.positions)",
                "The positions are multiplied in; they should be added.",
            ),
            (
                "positions twice",
                f"self.dropout({SUM} + self.positions)",
                "The positions are added twice.",
            ),
            (
                "the class token added to every patch",
                "self.dropout(torch.cat([class_token, patches + self.class_token], dim=1) "
                "+ self.positions)",
                "The class token is added to the patches as well; it has a place of its own.",
            ),
            (
                "the patches' mean in the class token's place",
                "self.dropout(torch.cat([patches.mean(1, keepdim=True), patches], dim=1) "
                "+ self.positions)",
                "The first place holds the mean of the patches; it should hold the class token.",
            ),
            ("nothing dropped", SUM, "p has no effect: nothing is dropped in training."),
            (
                "dropped before the positions",
                "self.dropout(torch.cat([class_token, patches], dim=1)) + self.positions",
                "Dropout comes before the positions are added; it is the sum's.",
            ),
            (
                "the class token not dropped from",
                "torch.cat(\n            [\n                class_token + self.positions[:, :1],\n"
                "                self.dropout(patches + self.positions[:, 1:]),\n            ],\n"
                "            dim=1,\n        )",
                "The class token's place is left out of dropout; the whole sum is dropped from.",
            ),
            (
                "dropped in evaluation too",
                f"nn.functional.dropout({SUM}, self.dropout.p)",
                "Dropout goes on in evaluation mode: the function has to be told.",
            ),
            (
                "normalised",
                f"nn.functional.layer_norm(self.dropout({SUM}), self.class_token.shape[-1:])",
                "The sequence is normalised; in a pre-norm network the blocks do that.",
            ),
            (
                "no class token",
                "self.dropout(patches + self.positions[:, 1:])",
                "The class token is not in the sequence.",
            ),
        ),
        *edits_of(
            TOKEN,
            (
                "class token of zeros",
                "self.class_token = nn.Parameter(torch.zeros(1, 1, d_model))",
                "The class token begins as zeros; the docstring says how it is drawn.",
            ),
            (
                "class token with standard deviation 1",
                "self.class_token = nn.Parameter(torch.randn(1, 1, d_model))",
                "The class token begins fifty times too large.",
            ),
            (
                "class token not learned",
                'self.register_buffer("class_token", 0.02 * torch.randn(1, 1, d_model))',
                "The class token is no parameter, so no optimizer will ever find it.",
            ),
            (
                "class token drawn evenly around 0",
                "self.class_token = nn.Parameter(0.02 * (2 * torch.rand(1, 1, d_model) - 1))",
                "The class token is drawn evenly between two limits; a normal distribution with "
                "standard deviation 0.02 is asked for.",
            ),
            (
                "class token with variance 0.02",
                "self.class_token = nn.Parameter(0.02**0.5 * torch.randn(1, 1, d_model))",
                "The class token has the variance 0.02; that should be its standard deviation.",
            ),
            (
                "class token drawn evenly",
                "self.class_token = nn.Parameter(0.02 * torch.rand(1, 1, d_model))",
                "torch.rand draws evenly between 0 and 1; a normal distribution is asked for.",
            ),
        ),
        *edits_of(
            PLACES,
            (
                "positions of zeros",
                "self.positions = nn.Parameter(torch.zeros(1, 1 + count, d_model))",
                "The positions begin as zeros; the docstring says how they are drawn.",
            ),
            (
                "positions with standard deviation 1",
                "self.positions = nn.Parameter(torch.randn(1, 1 + count, d_model))",
                "The positions begin fifty times too large.",
            ),
            (
                "positions not learned",
                'self.register_buffer("positions", 0.02 * torch.randn(1, 1 + count, d_model))',
                "The positions are no parameter, so no optimizer will ever find them.",
            ),
            (
                "positions drawn evenly around 0",
                "self.positions = nn.Parameter(0.02 * (2 * torch.rand(1, 1 + count, d_model) - 1))",
                "The positions are drawn evenly between two limits; a normal distribution with "
                "standard deviation 0.02 is asked for.",
            ),
            (
                "positions drawn evenly with the right deviation",
                "self.positions = nn.Parameter("
                "0.02 * 3**0.5 * (2 * torch.rand(1, 1 + count, d_model) - 1))",
                "The positions have the right standard deviation, but are drawn evenly between two "
                "limits; a normal distribution is asked for.",
            ),
            (
                "positions with variance 0.02",
                "self.positions = nn.Parameter(0.02**0.5 * torch.randn(1, 1 + count, d_model))",
                "The positions have the variance 0.02; that should be their standard deviation.",
            ),
            (
                "one draw for all positions",
                "self.positions = nn.Parameter(0.02 * torch.randn(1, 1, d_model).repeat("
                "1, 1 + count, 1))",
                "All positions begin as the same vector, and none can be told from another.",
            ),
            (
                "one draw for class token and positions",
                "self.positions = nn.Parameter(self.class_token.detach().repeat(1, 1 + count, 1))",
                "All positions begin as copies of the class token. Each is a draw of its own.",
            ),
            (
                "positions in a plain tensor",
                "self.positions = 0.02 * torch.randn(1, 1 + count, d_model)",
                "The positions are a plain tensor: no optimizer will ever find them, and they do "
                "not move with the module. nn.Parameter is what the docstring asks for.",
            ),
            (
                "positions drawn evenly",
                "self.positions = nn.Parameter(0.02 * torch.rand(1, 1 + count, d_model))",
                "torch.rand draws evenly between 0 and 1; a normal distribution is asked for.",
            ),
            (
                "one position too few",
                "self.positions = nn.Parameter(0.02 * torch.randn(1, count, d_model))",
                "There is a position for each patch, but none for the class token.",
            ),
        ),
        Mistake.edits_of(
            "both with standard deviation 1",
            [
                (TOKEN, TOKEN.replace("0.02 * ", "")),
                (PLACES, PLACES.replace("0.02 * ", "")),
            ],
            "Class token and positions begin fifty times too large.",
        ),
        Mistake.edits_of(
            "both of zeros",
            [
                (TOKEN, TOKEN.replace("0.02 * torch.randn", "torch.zeros")),
                (PLACES, PLACES.replace("0.02 * torch.randn", "torch.zeros")),
            ],
            "Class token and positions begin as zeros; the docstring says how they are drawn.",
        ),
        Mistake(
            "patches on one side only counted",
            "(image_size // patch_size) ** 2",
            "image_size // patch_size",
            "The patches are counted along one side; the image has two.",
        ),
    ],
    variants=[
        Variant.edits_of(
            "repeated",
            [
                (
                    "self.class_token.expand(len(images), -1, -1)",
                    "self.class_token.repeat(len(images), 1, 1)",
                )
            ],
        ),
        *variants("""
            an empty sequence filled
                class ViTEmbedding(nn.Module):
                    def __init__(self, image_size, patch_size, channels, d_model, p=0.0):
                        super().__init__()
                        side = image_size // patch_size
                        self.positions = nn.Parameter(torch.empty(1, side * side + 1, d_model))
                        self.class_token = nn.Parameter(torch.empty(1, 1, d_model))
                        nn.init.normal_(self.positions, std=0.02)
                        nn.init.normal_(self.class_token, std=0.02)
                        self.patches = PatchEmbedding(patch_size, channels, d_model)
                        self.p = p
                    def forward(self, images):
                        patches = self.patches(images)
                        b, n, d = patches.shape
                        x = patches.new_empty(b, n + 1, d)
                        x[:, :1] = self.class_token
                        x[:, 1:] = patches
                        x = x + self.positions
                        return nn.functional.dropout(x, self.p, self.training)

            positions added to each part
                class ViTEmbedding(nn.Module):
                    def __init__(self, image_size, patch_size, channels, d_model, p=0.0):
                        super().__init__()
                        self.patches = PatchEmbedding(patch_size, channels, d_model)
                        n = image_size // patch_size * (image_size // patch_size)
                        self.class_token = nn.Parameter(torch.randn(1, 1, d_model) * 0.02)
                        self.positions = nn.Parameter(torch.randn(1, n + 1, d_model) * 0.02)
                        self.drop = nn.Dropout(p)
                    def forward(self, images):
                        patches = self.patches(images) + self.positions[:, 1:]
                        first = self.class_token + self.positions[:, :1]
                        first = first.repeat(patches.shape[0], 1, 1)
                        return self.drop(torch.cat((first, patches), 1))
        """),
    ],
)


@ViTEmbedding.test(
    points=0.5,
    cases=[
        Case(
            "names and shapes of the parameters",
            names_and_shapes,
            lambda make: {
                "sizes": {
                    "image_size": 12,
                    "patch_size": make.choice([3, 4]),
                    "channels": 2,
                    "d_model": 5,
                }
            },
        ),
        Case("fresh parameters", fresh, lambda m: {"seed": m.seed()}, observe=drawn_as_promised),
    ],
)
def test_vit_embedding_parameters(submission, case):
    """Has the parameters of the docstring, drawn as it says"""
    submission.matches_reference(case)


@ViTEmbedding.test(
    points=1.25,
    cases=[
        case_of("several images", through, embedded),
        case_of("one image, one channel", through, lambda m: embedded(m, batch=1, channels=1)),
        case_of("two large patches", through, lambda m: embedded(m, side=8, patch_size=4, batch=2)),
        case_of("everything dropped", through, lambda make: embedded(make, p=1.0)),
        case_of("evaluation mode", through, lambda make: embedded(make, p=0.6, training=False)),
        case_of(
            "gradients",
            backward_through,
            lambda make: embedded(
                make,
                names=["class_token", "positions", "patches.projection.weight"],
                cotangent=make.normal(4, 10, 5),
            ),
            loosen=100.0,
        ),
    ],
)
def test_makes_a_sequence(submission, case):
    """Makes a sequence of class token and patches, with positions"""
    submission.matches_reference(case)


@ViTEmbedding.test(points=0.25, cases=[case_of("several images", through, embedded)])
def test_vit_embedding_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ----------------------------------------------------------------------------------- ViTBlock


class Heads(nn.Module):
    """PyTorch's attention under the names of MultiHeadAttention."""

    def __init__(self, d_model, num_heads):
        super().__init__()
        self.num_heads = num_heads
        for name in ("W_q", "W_k", "W_v", "W_o"):
            self.add_module(name, nn.Linear(d_model, d_model, bias=False))

    def forward(self, x):
        projected = (self.W_q(x), self.W_k(x), self.W_v(x))
        q, k, v = (torch.stack(t.chunk(self.num_heads, -1), dim=1) for t in projected)
        heads = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.W_o(torch.cat(heads.unbind(dim=1), dim=-1))


class BlockByErf(nn.Module):
    def __init__(self, d_model, num_heads, d_ff, p=0.0):
        super().__init__()
        self.p = p
        self.norm_1, self.norm_2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.attention = Heads(d_model, num_heads)
        self.W_1, self.W_2 = nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model)

    def mlp(self, x):
        hidden = self.W_1(x)
        return self.W_2(hidden * (1 + torch.erf(hidden / 2**0.5)) / 2)

    def forward(self, x):
        x = x + nn.functional.dropout(self.attention(self.norm_1(x)), self.p, self.training)
        return x + nn.functional.dropout(self.mlp(self.norm_2(x)), self.p, self.training)


def vit_block(make, *, p=0.0, batch=2, heads=3, places=5, **options):
    d_model, d_ff = 4 * heads, 10
    return {
        "sizes": {"d_model": d_model, "num_heads": heads, "d_ff": d_ff, "p": p},
        "weights": draw(make, block_shapes("", d_model, d_ff)),
        "x": make.normal(batch, places, d_model, mean=0.3, std=1.5),
        **options,
    }


def at_random(impl, sizes, weights, x):
    """The attention says nothing here, so that all that is added is what the MLP said."""
    module = load_weights(impl(**sizes), weights)
    return {"x": x, "evaluation": module.eval()(x), "training": module.train()(x)}


def some_dropped(make):
    inputs = vit_block(make, p=0.4)
    inputs["weights"]["attention.W_o.weight"].zero_()
    return inputs


def drops(outcome, inputs):
    fact = "what the MLP returned is dropped, or scaled by 1 / (1 - p)"
    x, found = outcome["x"], (outcome["evaluation"], outcome["training"])
    if any(not isinstance(y, torch.Tensor) or y.shape != x.shape for y in found):
        return {fact: False}
    said, added = (y - x for y in found)
    kept = (added * (1 - inputs["sizes"]["p"]) - said).abs() < 1e-3
    return {fact: bool((kept | (added.abs() < 1e-3)).all())}


NORMED = "z = self.norm_1(x)"
ATTENDED = "attended, _ = self.attention(z, z, z)"
FIRST = "x = x + self.dropout(attended)"
HIDDEN = "nn.functional.gelu(self.W_1(self.norm_2(x)))"
SECOND = "y: Tensor = x + self.dropout(self.W_2(hidden))"

ViTBlock = Exercise(
    "ViTBlock",
    oracle=BlockByErf,
    forbids=NO_LAYERS,
    mistakes=[
        *edits_of(
            HIDDEN,
            (
                "ReLU",
                "torch.relu(self.W_1(self.norm_2(x)))",
                "There is a ReLU in the MLP; the vision transformer has a GELU there.",
            ),
            (
                "GELU by tanh",
                'nn.functional.gelu(self.W_1(self.norm_2(x)), approximate="tanh")',
                "This is the approximation of the GELU by tanh; the exact one is asked for.",
            ),
            (
                "GELU by a sigmoid",
                "(lambda t: t * torch.sigmoid(1.702 * t))(self.W_1(self.norm_2(x)))",
                "This is the approximation of the GELU by a sigmoid; the exact one is asked for.",
            ),
            (
                "SiLU",
                "nn.functional.silu(self.W_1(self.norm_2(x)))",
                "This is a SiLU; a GELU is asked for.",
            ),
            (
                "no GELU",
                "self.W_1(self.norm_2(x))",
                "Two linear layers with nothing between them are one; the GELU is missing.",
            ),
            (
                "GELU before W_1",
                "self.W_1(nn.functional.gelu(self.norm_2(x)))",
                "The GELU comes before W_1; it belongs between W_1 and W_2.",
            ),
            (
                "the MLP's input cut from the graph",
                HIDDEN.replace("(x)", "(x.detach())"),
                "What the MLP reads is detached: through the MLP no gradient passes back to the "
                "attention.",
            ),
            (
                "the MLP's input not normalised",
                "nn.functional.gelu(self.W_1(x))",
                "The MLP reads x itself; it should read what norm_2 makes of it.",
            ),
            (
                "one norm for both",
                "nn.functional.gelu(self.W_1(self.norm_1(x)))",
                "The MLP uses the norm of the attention; it has one of its own.",
            ),
            (
                "the MLP reads what the attention read",
                "nn.functional.gelu(self.W_1(z))",
                "The MLP reads the normalised input of the attention. It comes after it, and reads "
                "the sum.",
            ),
            (
                "the MLP reads the input under its own norm",
                "nn.functional.gelu(self.W_1(self.norm_2(x - self.dropout(attended))))",
                "The MLP reads what came into the block, side by side with the attention. It comes "
                "after it, and reads the sum.",
            ),
        ),
        *edits_of(
            ATTENDED,
            (
                "the attention's input cut from the graph",
                "z = z.detach()\n        " + ATTENDED,
                "What the attention reads is detached: through the attention no gradient passes "
                "back to norm_1 and x.",
            ),
            (
                "the attention's input not normalised",
                "attended, _ = self.attention(x, x, x)",
                "The attention reads x itself; it should read what norm_1 makes of it.",
            ),
            (
                "only the queries normalised",
                "attended, _ = self.attention(z, x, x)",
                "The queries are normalised, keys and values are not: all three are the same.",
            ),
            (
                "values not normalised",
                "attended, _ = self.attention(z, z, x)",
                "Queries and keys are normalised, the values are not: all three are the same.",
            ),
            (
                "queries not normalised",
                "attended, _ = self.attention(x, z, z)",
                "Keys and values are normalised, the queries are not: all three are the same.",
            ),
            (
                "a causal mask",
                "n = z.size(1)\n"
                "        mask = torch.ones(n, n, dtype=torch.bool, device=z.device).tril()\n"
                "        attended, _ = self.attention(z, z, z, mask)",
                "Places see only what is before them. An image has no future: all see all.",
            ),
            (
                "the class token does not see itself",
                "n = z.size(1)\n"
                "        mask = torch.ones(n, n, dtype=torch.bool, device=z.device)\n"
                "        mask[0, 0] = False\n"
                "        attended, _ = self.attention(z, z, z, mask)",
                "The first place is kept from seeing itself; all places see all.",
            ),
        ),
        *edits_of(
            FIRST,
            (
                "the residual around the attention cut from the graph",
                "x = x.detach() + self.dropout(attended)",
                "x is detached before it is added to what the attention returns. The way of x is "
                "the one by which gradients reach the blocks before.",
            ),
            (
                "no residual around the attention",
                "x = self.dropout(attended)",
                "x is not added to what the attention returns.",
            ),
            (
                "the normalised x added",
                "x = z + self.dropout(attended)",
                "The normalised x is added to what the attention returns; x itself should be.",
            ),
            (
                "nothing dropped from the attention",
                "x = x + attended",
                "p has no effect on what the attention returns.",
            ),
            (
                "dropped from the sum",
                "x = self.dropout(x + attended)",
                "Dropout drops from x too, around a sublayer; it belongs to what the sublayer "
                "returns, before the sum.",
            ),
            (
                "post-norm of the attention",
                "x = self.norm_1(x + self.dropout(attended))",
                "The sum is normalised again; with pre-norm the way of x stays free of norms.",
            ),
            (
                "x changed in place",
                "x += self.dropout(attended)",
                "The caller's x is changed in place. Make a new tensor.",
            ),
        ),
        *edits_of(
            SECOND,
            (
                "the residual around the MLP cut from the graph",
                "y: Tensor = x.detach() + self.dropout(self.W_2(hidden))",
                "x is detached before it is added to what the MLP returns. The way of x is the one "
                "by which gradients reach what comes before.",
            ),
            (
                "no residual around the MLP",
                "y: Tensor = self.dropout(self.W_2(hidden))",
                "x is not added to what the MLP returns.",
            ),
            (
                "the MLP's normalised input added",
                "y = self.norm_2(x) + self.dropout(self.W_2(hidden))",
                "The normalised x is added to what the MLP returns; x itself should be.",
            ),
            (
                "nothing dropped from the MLP",
                "y: Tensor = x + self.W_2(hidden)",
                "p has no effect on what the MLP returns.",
            ),
            (
                "dropped inside the MLP only",
                "y: Tensor = x + self.W_2(self.dropout(hidden))",
                "Dropout hits what goes into W_2; it belongs to what the MLP returns.",
            ),
            (
                "dropped inside the MLP too",
                "y: Tensor = x + self.dropout(self.W_2(self.dropout(hidden)))",
                "Dropout comes twice in the MLP, as in PyTorch's layer. Here it hits what the MLP "
                "returns, and nothing inside it.",
            ),
            (
                "GELU after W_2 as well",
                "y = x + self.dropout(nn.functional.gelu(self.W_2(hidden)))",
                "There is a second GELU behind W_2; nothing comes behind it.",
            ),
            (
                "normalised at the end",
                "y: Tensor = self.norm_2(x + self.dropout(self.W_2(hidden)))",
                "The block's output is normalised; with pre-norm the way of x stays free of norms.",
            ),
            (
                "the weights returned as well",
                "y = x + self.dropout(self.W_2(hidden)), _",
                "More than the block's output is returned, which should be one tensor.",
            ),
        ),
        *edits(
            [
                (
                    "one head",
                    "MultiHeadAttention(d_model, num_heads)",
                    "MultiHeadAttention(d_model, 1)",
                    "num_heads does not reach the attention.",
                ),
                (
                    "four times d_model",
                    "        self.W_1 = nn.Linear(d_model, d_ff)",
                    "        d_ff = 4 * d_model\n        self.W_1 = nn.Linear(d_model, d_ff)",
                    "The argument d_ff has no effect.",
                ),
                (
                    "an epsilon of 1e-6",
                    "        self.dropout = nn.Dropout(p)",
                    "        self.norm_1.eps = self.norm_2.eps = 1e-6\n"
                    "        self.dropout = nn.Dropout(p)",
                    "The norms' epsilon is 1e-6, as in the paper's own code; PyTorch's default is "
                    "asked for.",
                ),
                (
                    "another epsilon",
                    "self.norm_1 = nn.LayerNorm(d_model)",
                    "self.norm_1 = nn.LayerNorm(d_model, eps=1e-3)",
                    "The norm's epsilon is not PyTorch's default.",
                ),
            ]
        ),
        Mistake.edits_of(
            "attention and MLP use the other's norm",
            [(NORMED, "z = self.norm_2(x)"), (HIDDEN, HIDDEN.replace("norm_2", "norm_1"))],
            "norm_1 belongs to the attention and norm_2 to the MLP; they are exchanged.",
        ),
        Mistake.edits_of(
            "post-norm",
            [
                (NORMED, "z = x"),
                (FIRST, "x = self.norm_1(x + self.dropout(attended))"),
                (HIDDEN, "nn.functional.gelu(self.W_1(x))"),
                (SECOND, "y: Tensor = self.norm_2(x + self.dropout(self.W_2(hidden)))"),
            ],
            "The norms are taken of the sums, as in the paper of 2017. Here they come before the "
            "sublayers.",
        ),
        Mistake.edits_of(
            "p ignored",
            [(FIRST, "x = x + attended"), (SECOND, "y: Tensor = x + self.W_2(hidden)")],
            "p has no effect: nothing is dropped in training.",
        ),
        Mistake.edits_of(
            "dropped in evaluation too",
            [
                (FIRST, "x = x + nn.functional.dropout(attended, self.dropout.p)"),
                (SECOND, "y = x + nn.functional.dropout(self.W_2(hidden), self.dropout.p)"),
            ],
            "Dropout goes on in evaluation mode: the function has to be told.",
        ),
        Mistake.edits_of(
            "the MLP first",
            [
                (f"        {NORMED}\n        {ATTENDED}\n        {FIRST}\n", ""),
                (
                    SECOND,
                    f"{SECOND}\n        z = self.norm_1(y)\n        {ATTENDED}\n"
                    "        y = y + self.dropout(attended)",
                ),
            ],
            "The MLP comes before the attention; it comes after it.",
        ),
    ],
    variants=variants("""
        a sequential MLP beside the named layers
            class ViTBlock(nn.Module):
                def __init__(self, d_model, num_heads, d_ff, p=0.0):
                    super().__init__()
                    self.attention = MultiHeadAttention(d_model, num_heads)
                    self.W_1, self.W_2 = nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model)
                    self.norm_2, self.norm_1 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
                    self.drop_1, self.drop_2, self.gelu = nn.Dropout(p), nn.Dropout(p), nn.GELU()
                def forward(self, x):
                    z = self.norm_1(x)
                    z = self.attention(query=z, key=z, value=z)[0]
                    x = self.drop_1(z) + x
                    z = self.norm_2(x)
                    for layer in (self.W_1, self.gelu, self.W_2, self.drop_2):
                        z = layer(z)
                    return x + z

        functions inside
            class ViTBlock(nn.Module):
                def __init__(self, d_model, num_heads, d_ff, p=0.0):
                    super().__init__()
                    self.p = p
                    self.norm_1 = nn.LayerNorm(d_model)
                    self.attention = MultiHeadAttention(d_model, num_heads)
                    self.norm_2 = nn.LayerNorm(d_model)
                    self.W_1 = nn.Linear(d_model, d_ff)
                    self.W_2 = nn.Linear(d_ff, d_model)
                def attend(self, x):
                    output, _weights = self.attention(x, x, x, None)
                    return output
                def think(self, x):
                    return self.W_2(nn.functional.gelu(self.W_1(x)))
                def forward(self, x):
                    for norm, f in ((self.norm_1, self.attend), (self.norm_2, self.think)):
                        x = x + nn.functional.dropout(f(norm(x)), self.p, self.training)
                    return x

        the error function
            class ViTBlock(nn.Module):
                def __init__(self, d_model, num_heads, d_ff, p=0.0):
                    super().__init__()
                    self.norm_1 = nn.LayerNorm(d_model)
                    self.norm_2 = nn.LayerNorm(d_model)
                    self.attention = MultiHeadAttention(d_model, num_heads)
                    self.W_1 = nn.Linear(d_model, d_ff)
                    self.W_2 = nn.Linear(d_ff, d_model)
                    self.drop = nn.Dropout(p)
                def forward(self, x):
                    normed = self.norm_1(x)
                    x = x + self.drop(self.attention(normed, normed, normed)[0])
                    hidden = self.W_1(self.norm_2(x))
                    hidden = 0.5 * hidden * (1 + torch.erf(hidden * 0.5**0.5))
                    return x + self.drop(self.W_2(hidden))
    """),
)


@ViTBlock.test(
    points=0.25,
    cases=[
        Case(
            "names and shapes of the parameters",
            names_and_shapes,
            lambda make: {"sizes": {"d_model": 6, "num_heads": 2, "d_ff": make.choice([9, 11])}},
        )
    ],
)
def test_vit_block_parameters(submission, case):
    """Has the parts of the docstring"""
    submission.matches_reference(case)


@ViTBlock.test(
    points=1.5,
    cases=[
        case_of("several images", through, vit_block),
        case_of("one image", through, lambda make: vit_block(make, batch=1, heads=2, places=7)),
        case_of("everything dropped", through, lambda make: vit_block(make, p=1.0)),
        case_of("evaluation mode", through, lambda make: vit_block(make, p=0.6, training=False)),
        case_of("some of it dropped", at_random, some_dropped, observe=drops),
        case_of(
            "gradients",
            backward_through,
            lambda make: vit_block(
                make, names=["attention.W_q.weight", "W_1.weight"], cotangent=make.normal(2, 5, 12)
            ),
            loosen=100.0,
        ),
    ],
)
def test_follows_equations_2_and_3(submission, case):
    """Follows equations 2 and 3 of the paper"""
    submission.matches_reference(case)


@ViTBlock.test(
    points=0.25,
    cases=[
        case_of("several images", through, vit_block),
        case_of("some of it dropped", at_random, some_dropped, observe=drops),
    ],
)
def test_vit_block_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# -------------------------------------------------------------------------- VisionTransformer


class VisionTransformerByTorch(nn.Module):
    def __init__(
        self,
        image_size,
        patch_size,
        channels,
        num_classes,
        d_model,
        num_heads,
        d_ff,
        num_layers,
        p=0.0,
    ):
        super().__init__()
        self.embedding = EmbeddingByPadding(image_size, patch_size, channels, d_model, p)
        blocks = (BlockByErf(d_model, num_heads, d_ff, p) for _ in range(num_layers))
        self.blocks = nn.ModuleList(blocks)
        self.norm, self.head = nn.LayerNorm(d_model), nn.Linear(d_model, num_classes)

    def forward(self, images):
        x = self.embedding(images)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))[:, 0]


def whole(make, *, side=6, patch_size=2, channels=2, layers=2, batch=3, p=0.0, **options):
    d_model, d_ff, classes = 6, 9, 7
    shapes = embedding_shapes("embedding.", side, patch_size, channels, d_model)
    for i in range(layers):
        shapes |= block_shapes(f"blocks.{i}.", d_model, d_ff)
    shapes |= norm_shapes("norm", d_model) | linear_shapes("head", d_model, classes)
    return {
        "sizes": {
            "image_size": side,
            "patch_size": patch_size,
            "channels": channels,
            "num_classes": classes,
            "d_model": d_model,
            "num_heads": 2,
            "d_ff": d_ff,
            "num_layers": layers,
            "p": p,
        },
        "weights": draw(make, shapes),
        "x": make.normal(batch, channels, side, side),
        **options,
    }


HEADED = "self.head(self.norm(x[:, 0]))"
BLOCKS = "ViTBlock(d_model, num_heads, d_ff, p) for _ in range(num_layers)"
WALK = "            x = block(x)\n"

VisionTransformer = Exercise(
    "VisionTransformer",
    oracle=VisionTransformerByTorch,
    forbids=NO_LAYERS,
    seconds=90.0,
    mistakes=[
        *edits_of(
            HEADED,
            (
                "the mean of all places",
                "self.head(self.norm(x.mean(1)))",
                "The mean of all places is classified; equation 4 takes the class token's place.",
            ),
            (
                "the mean of all normalised places",
                "self.head(self.norm(x).mean(1))",
                "The mean of all places is classified; equation 4 takes the class token's place.",
            ),
            (
                "the mean of the patches",
                "self.head(self.norm(x[:, 1:].mean(1)))",
                "The mean of the patches is classified; equation 4 takes the class token's place.",
            ),
            (
                "the mean of the normalised patches",
                "self.head(self.norm(x)[:, 1:].mean(1))",
                "The mean of the patches is classified; equation 4 takes the class token's place.",
            ),
            (
                "the last place",
                "self.head(self.norm(x[:, -1]))",
                "The last patch is classified; the class token stands first.",
            ),
            (
                "the first patch",
                "self.head(self.norm(x[:, 1]))",
                "The first patch is classified; the class token stands before it.",
            ),
            (
                "all places",
                "self.head(self.norm(x))",
                "Every place gets logits; only the class token's is asked.",
            ),
            (
                "no norm at the end",
                "self.head(x[:, 0])",
                "The last norm is not used; with pre-norm nothing else normalises the sum.",
            ),
            (
                "normalised after the head",
                "nn.functional.layer_norm(self.head(x[:, 0]), self.head.bias.shape)",
                "The logits are normalised; the norm belongs before the head.",
            ),
            (
                "probabilities",
                f"{HEADED}.softmax(-1)",
                "These are probabilities; logits are what stands before the softmax.",
            ),
            (
                "log-probabilities",
                f"{HEADED}.log_softmax(-1)",
                "These are log-probabilities; logits are what stands before the softmax.",
            ),
            (
                "the batch in the places' stead",
                "self.head(self.norm(x[0]))",
                "The first image's places are classified; the batch comes first, then the places.",
            ),
            (
                "the places' dimension kept",
                "self.head(self.norm(x[:, :1]))",
                "The logits have a dimension of size 1 too many, that of the places. One place is "
                "taken, and its dimension goes.",
            ),
            (
                "a ReLU before the head",
                "self.head(torch.relu(self.norm(x[:, 0])))",
                "There is a ReLU before the head; the head is one linear layer.",
            ),
            (
                "a tanh before the head",
                "self.head(torch.tanh(self.norm(x[:, 0])))",
                "There is a tanh before the head; the head is one linear layer.",
            ),
        ),
        *edits_of(
            BLOCKS,
            (
                "p not passed to the blocks",
                BLOCKS.replace(", p)", ")"),
                "p does not reach the blocks.",
            ),
            (
                "one block",
                BLOCKS.replace("range(num_layers)", "range(1)"),
                "There is one block, whatever num_layers says.",
            ),
            (
                "one block too many",
                BLOCKS.replace("range(num_layers)", "range(num_layers + 1)"),
                "There is a block more than num_layers says.",
            ),
            (
                "one head of attention",
                BLOCKS.replace("num_heads", "1"),
                "num_heads does not reach the blocks.",
            ),
            (
                "d_ff not passed on",
                BLOCKS.replace("d_ff", "4 * d_model"),
                "d_ff does not reach the blocks.",
            ),
        ),
        Mistake(
            "the embedding cut from the graph",
            "x = self.embedding(images)",
            "x = self.embedding(images).detach()",
            "The embedded sequence is detached: no gradient reaches class token, positions and "
            "projection, so that they could not be learned.",
        ),
        Mistake(
            "the last block skipped",
            "for block in self.blocks:",
            "for block in self.blocks[:-1]:",
            "The last block is not used.",
        ),
        Mistake(
            "another epsilon",
            "self.norm = nn.LayerNorm(d_model)",
            "self.norm = nn.LayerNorm(d_model, eps=1e-6)",
            "The last norm's epsilon is not PyTorch's default.",
        ),
        Mistake(
            "blocks in a plain list",
            "nn.ModuleList(",
            "list(",
            "The blocks stand in a plain list, where PyTorch does not see their parameters: they "
            "are neither trained nor moved. An nn.ModuleList is what the docstring asks for.",
        ),
        Mistake(
            "head the wrong way",
            "nn.Linear(d_model, num_classes)",
            "nn.Linear(num_classes, d_model)",
            "nn.Linear takes the features that come in first, then those that go out.",
        ),
        *edits_of(
            WALK,
            (
                "the blocks side by side",
                "            first = x if block is self.blocks[0] else first\n"
                "            x = block(first)\n",
                "Only the last block counts: each should read what the one before it returned.",
            ),
            (
                "blocks cut from the graph",
                "            x = block(x).detach()\n",
                "What a block returns is detached: no gradient passes back beyond the last block, "
                "so that those before it could not be learned.",
            ),
            (
                "a residual around the blocks",
                "            x = x + block(x)\n",
                "x is added once more around each block, which has residuals inside already.",
            ),
            (
                "normalised after every block",
                "            x = self.norm(block(x))\n",
                "The last norm is used after every block; it comes once, at the end.",
            ),
            (
                "blocks in reverse order",
                "            pass\n        for block in reversed(self.blocks):\n" + WALK,
                "The blocks are used from the last to the first.",
            ),
            (
                "the first block again and again",
                "            x = self.blocks[0](x)\n",
                "The first block is used every time; each comes once.",
            ),
        ),
        *edits(
            [
                (
                    "p not passed to the embedding",
                    "ViTEmbedding(image_size, patch_size, channels, d_model, p)",
                    "ViTEmbedding(image_size, patch_size, channels, d_model)",
                    "p does not reach the embedding.",
                ),
                (
                    "normalised before the blocks",
                    "x = self.embedding(images)",
                    "x = self.norm(self.embedding(images))",
                    "The embedding is normalised by the last norm, which has its place at the end.",
                ),
                (
                    "the class token dropped before the blocks",
                    "x = self.embedding(images)",
                    "x = self.embedding(images)[:, 1:]",
                    "The class token is cut off before the blocks.",
                ),
                (
                    "head without bias",
                    "nn.Linear(d_model, num_classes)",
                    "nn.Linear(d_model, num_classes, bias=False)",
                    "The head has no bias; the docstring asks for one.",
                ),
                (
                    "image size and patch size exchanged",
                    "ViTEmbedding(image_size, patch_size,",
                    "ViTEmbedding(patch_size, image_size,",
                    "ViTEmbedding takes the size of the image first, then that of a patch.",
                ),
            ]
        ),
        Mistake(
            "shared blocks",
            "        self.norm = nn.LayerNorm(d_model)",
            "        for i in range(1, num_layers):\n"
            "            self.blocks[i] = self.blocks[0]\n"
            "        self.norm = nn.LayerNorm(d_model)",
            "The blocks are all the same module; each has weights of its own.",
        ),
        Mistake.edits_of(
            "p passed to nothing",
            [
                (BLOCKS, BLOCKS.replace(", p)", ")")),
                (
                    "ViTEmbedding(image_size, patch_size, channels, d_model, p)",
                    "ViTEmbedding(image_size, patch_size, channels, d_model)",
                ),
            ],
            "p has no effect: nothing is dropped in training.",
        ),
    ],
    variants=variants("""
        everything normalised, then the first place
            class VisionTransformer(nn.Module):
                def __init__(self, image_size, patch_size, channels, num_classes, d_model,
                             num_heads, d_ff, num_layers, p=0.0):
                    super().__init__()
                    self.head = nn.Linear(d_model, num_classes)
                    self.norm = nn.LayerNorm(d_model)
                    self.blocks = nn.ModuleList()
                    for _ in range(num_layers):
                        block = ViTBlock(d_model=d_model, num_heads=num_heads, d_ff=d_ff, p=p)
                        self.blocks.append(block)
                    self.embedding = ViTEmbedding(image_size, patch_size, channels, d_model, p=p)
                def forward(self, images):
                    x = self.embedding(images)
                    for i in range(len(self.blocks)):
                        x = self.blocks[i](x)
                    return self.head(self.norm(x))[:, 0, :]

        a method for the features
            class VisionTransformer(nn.Module):
                def __init__(self, image_size, patch_size, channels, num_classes, d_model,
                             num_heads, d_ff, num_layers, p=0.0):
                    super().__init__()
                    self.embedding = ViTEmbedding(
                        image_size=image_size, patch_size=patch_size, channels=channels,
                        d_model=d_model, p=p,
                    )
                    self.blocks = nn.ModuleList(
                        [ViTBlock(d_model, num_heads, d_ff, p) for _ in range(num_layers)]
                    )
                    self.norm, self.head = nn.LayerNorm(d_model), nn.Linear(d_model, num_classes)
                def features(self, images):
                    x = nn.Sequential(self.embedding, *self.blocks)(images)
                    return self.norm(x.select(1, 0))
                def forward(self, images):
                    return self.head(self.features(images))

        blocks in a Sequential too
            class VisionTransformer(nn.Module):
                def __init__(self, image_size, patch_size, channels, num_classes, d_model,
                             num_heads, d_ff, num_layers, p=0.0):
                    super().__init__()
                    self.embedding = ViTEmbedding(image_size, patch_size, channels, d_model, p)
                    self.blocks = nn.Sequential(
                        *(ViTBlock(d_model, num_heads, d_ff, p) for _ in range(num_layers))
                    )
                    self.norm = nn.LayerNorm(d_model)
                    self.head = nn.Linear(d_model, num_classes)
                def forward(self, images):
                    x = self.blocks(self.embedding(images))
                    class_token, _ = x.split([1, x.size(1) - 1], dim=1)
                    return self.head(self.norm(class_token.squeeze(1)))
    """),
)


@VisionTransformer.test(
    points=0.25,
    cases=[
        Case(
            "names and shapes of the parameters",
            names_and_shapes,
            lambda make: {"sizes": {**whole(make)["sizes"], "num_layers": make.choice([2, 3])}},
        )
    ],
)
def test_vision_transformer_parameters(submission, case):
    """Has the parts of the docstring"""
    submission.matches_reference(case)


@VisionTransformer.test(
    points=1.5,
    cases=[
        case_of("several images", through, whole),
        case_of("one image", through, lambda make: whole(make, batch=1, layers=3)),
        case_of("large patches", through, lambda m: whole(m, side=8, patch_size=4, channels=3)),
        case_of("everything dropped", through, lambda make: whole(make, p=1.0)),
        case_of("evaluation mode", through, lambda make: whole(make, p=0.6, training=False)),
        case_of(
            "gradients",
            backward_through,
            lambda make: whole(
                make,
                names=["embedding.class_token", "blocks.0.W_1.weight", "head.weight"],
                cotangent=make.normal(3, 7),
            ),
            loosen=100.0,
        ),
    ],
)
def test_classifies_by_the_class_token(submission, case):
    """Classifies images by their class token"""
    submission.matches_reference(case)


@VisionTransformer.test(points=0.25, cases=[case_of("several images", through, whole)])
def test_vision_transformer_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# -------------------------------------------------------------------------- attention_rollout


def rollout_by_einsum(weights):
    total = None
    for layer in weights:
        mean = torch.einsum("bhij->bij", layer) / layer.size(1)
        mixed = 0.5 * mean + 0.5 * torch.diag_embed(torch.ones_like(mean[..., 0]))
        total = mixed if total is None else torch.einsum("bij,bjk->bik", mixed, total)
    return total


def attention_of(make, layers, *, batch=2, heads=3, places=5):
    return {
        "weights": [
            make.normal(batch, heads, places, places, std=2.0).softmax(-1) for _ in range(layers)
        ]
    }


STEP = "(layer.mean(dim=1) + own) / 2 @ rollout"
START = "own.expand(len(weights[0]), -1, -1)"

attention_rollout = Exercise(
    "attention_rollout",
    oracle=rollout_by_einsum,
    mistakes=[
        Mistake(
            "layers averaged",
            "    for layer in weights:",
            "    heads = [layer.mean(dim=1, keepdim=True) for layer in weights]\n"
            "    for layer in [torch.stack(heads).mean(dim=0)]:",
            "The layers are averaged; a later one reads what the earlier ones have mixed, so that "
            "they are multiplied.",
        ),
        *edits_of(
            STEP,
            (
                "layers in reverse order",
                "rollout @ ((layer.mean(dim=1) + own) / 2)",
                "The layers are multiplied in reverse order. A later layer reads what the earlier "
                "ones have mixed: its matrix stands on the left.",
            ),
            (
                "no residual",
                "layer.mean(dim=1) @ rollout",
                "Only the attention is followed; half of what a place has came by the residual.",
            ),
            (
                "no residual in the first layer",
                "(layer.mean(dim=1) + own) / 2 @ rollout if layer is not weights[0] else "
                "layer.mean(dim=1)",
                "The first layer is taken without its residual; every layer has one.",
            ),
            (
                "images averaged instead of heads",
                "(layer.mean(dim=0)[:1] + own) / 2 @ rollout",
                "The images of the batch are averaged; it is the heads, the second dimension, that "
                "should be.",
            ),
            (
                "not halved",
                "(layer.mean(dim=1) + own) @ rollout",
                "Attention and residual count whole, so that rows add up to 2 in each layer; each "
                "should count half.",
            ),
            (
                "heads added up",
                "(layer.sum(dim=1) + own) / 2 @ rollout",
                "The heads are added up; they should be averaged.",
            ),
            (
                "the strongest head",
                "(layer.amax(dim=1) + own) / 2 @ rollout",
                "The largest weight of all heads is taken; they should be averaged.",
            ),
            (
                "the first head only",
                "(layer[:, 0] + own) / 2 @ rollout",
                "Only the first head is followed; they should be averaged.",
            ),
            (
                "transposed",
                "(layer.mean(dim=1).mT + own) / 2 @ rollout",
                "The attention is transposed: rows are the places that read.",
            ),
            (
                "the product added to what was there",
                "((layer.mean(dim=1) @ rollout) + own) / 2",
                "The residual brings back what the place had before this layer, which is no "
                "longer the input alone: mix first, then multiply.",
            ),
            (
                "elementwise",
                "(layer.mean(dim=1) + own) / 2 * rollout",
                "The matrices are multiplied element by element; paths through places are added "
                "up by a product of matrices.",
            ),
            (
                "added over the layers",
                "rollout + (layer.mean(dim=1) + own) / 2",
                "The layers are added; one reads what the other has written, so multiply.",
            ),
            (
                "the last layer only",
                "(layer.mean(dim=1) + own) / 2 + 0 * rollout",
                "Only the last layer counts; follow attention through all of them.",
            ),
            (
                "the mean over the queries",
                "(layer.mean(dim=2) + own[: layer.size(1)]) / 2 @ rollout",
                "The mean is taken over the queries; the heads are dimension 1.",
            ),
            (
                "the residual weighted like a head",
                "(layer.sum(dim=1) + own) / (layer.size(1) + 1) @ rollout",
                "The residual counts as much as one head; it should count as much as all of them "
                "together.",
            ),
        ),
        Mistake(
            "batch added up",
            "return rollout",
            "return rollout.mean(0)",
            "The images are averaged; each has a rollout of its own.",
        ),
        Mistake(
            "the class token's row only",
            "return rollout",
            "return rollout[:, 0]",
            "Only the class token's row comes back; all rows are asked for.",
        ),
        Mistake(
            "transposed in the end",
            "return rollout",
            "return rollout.mT",
            "The result is transposed: rows are the places after the last layer.",
        ),
        Mistake(
            "the first layer left out",
            "for layer in weights:",
            "for layer in weights[1:]:",
            "The first layer is left out.",
        ),
        Mistake(
            "the last layer left out",
            "for layer in weights:",
            "for layer in weights[:-1]:",
            "The last layer is left out.",
        ),
        Mistake(
            "started from zeros",
            START,
            f"torch.zeros_like({START})",
            "The product starts with zeros and stays there; what should it be before any layer?",
        ),
        Mistake(
            "started from ones",
            START,
            f"torch.ones_like({START})",
            "The product starts with ones everywhere; before any layer, each place is itself.",
        ),
        Mistake(
            "changed in place",
            STEP,
            "layer.mul_(0.5).mean(dim=1).add(own / 2) @ rollout",
            "The caller's weights are changed in place. Make new tensors.",
        ),
        Mistake(
            "in float32",
            "return rollout",
            "return rollout.float()",
            "The result is float32 whatever comes in. Keep the dtype of the weights.",
        ),
    ],
    variants=variants("""
        from the first layer on
            def attention_rollout(weights):
                identity = torch.eye(weights[0].shape[-1]).to(weights[0])
                mixed = [0.5 * layer.mean(1) + 0.5 * identity for layer in weights]
                result = mixed[0]
                for matrix in mixed[1:]:
                    result = torch.matmul(matrix, result)
                return result

        from the last layer back
            def attention_rollout(weights):
                result = None
                for layer in reversed(weights):
                    matrix = layer.mean(dim=1)
                    matrix = matrix + torch.eye(matrix.size(-1)).to(matrix)
                    matrix = matrix / matrix.sum(dim=-1, keepdim=True)
                    result = matrix if result is None else torch.bmm(result, matrix)
                return result

        residual and attention apart
            def attention_rollout(weights):
                b, _, n, _ = weights[0].shape
                eye = torch.eye(n, dtype=weights[0].dtype, device=weights[0].device)
                rollout = eye.repeat(b, 1, 1)
                for layer in weights:
                    read = torch.einsum("bhij,bjk->bik", layer, rollout) / layer.shape[1]
                    rollout = (read + rollout) / 2
                return rollout
    """),
)


@attention_rollout.test(
    points=1.25,
    cases=[
        Case("one layer", plain, lambda make: attention_of(make, 1)),
        Case("two layers", plain, lambda make: attention_of(make, 2, batch=3)),
        Case("many layers", plain, lambda make: attention_of(make, 5, heads=2)),
        Case("one image, one head", plain, lambda m: attention_of(m, 3, batch=1, heads=1)),
        Case("as many heads as places", plain, lambda m: attention_of(m, 3, heads=4, places=4)),
    ],
)
def test_follows_attention(submission, case):
    """Follows attention through all layers"""
    submission.matches_reference(case)


@attention_rollout.test(
    points=0.25, cases=[Case("two layers", plain, lambda make: attention_of(make, 2))]
)
def test_rollout_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)
