"""Reverse-mode automatic differentiation of tensors, and a small module system on top of it.

The backward functions are judged against PyTorch's autograd. A Variable is judged by what it
computes and by the gradients that reach the leaves; how it stores its record is its own affair.
Modules are judged beside the Variable of the same notebook, or the oracle that stands in for it.
"""

import sys
from dataclasses import replace
from typing import Any

import torch

from autograder.spec import Case, Exercise, Mistake, Variant, raised
from autograder.spec.tables import slips, variants, written

AUTODIFF = [
    "torch.autograd.grad",
    "torch.autograd.backward",
    "torch.autograd.functional",
    "torch.autograd.Function",
    "torch.Tensor.backward",
    "torch.func",
    "torch.ops",
]


# ---------------------------------------------------------------- unbroadcast


def back_to(impl, grad, shape):
    return impl(grad, torch.Size(shape))


def back_to_tuple(impl, grad, shape):
    return impl(grad, tuple(shape))


def shaped(large, small):
    return lambda make: {"grad": make.normal(*large), "shape": small}


def by_sum_to_size(grad, shape):
    return grad.sum_to_size(*shape) if len(shape) else grad.sum()


unbroadcast = Exercise(
    "unbroadcast",
    oracle=by_sum_to_size,
    forbids=["torch.Tensor.sum_to_size", *AUTODIFF],
    mistakes=[
        *slips(
            "grad = grad.sum(dim=dim, keepdim=True)",
            """
            sizes of one left repeated
                pass
            Dimensions of size 1 have been repeated too: add up over those as well.

            dimension lost
                grad = grad.sum(dim=dim).unsqueeze(0)
            A dimension of size 1 stays where it was when it has been added up.

            mean over repeated dimensions
                grad = grad.mean(dim=dim, keepdim=True)
            Each use of an entry has a share in its gradient, and shares are added up.

            first of the repeated entries
                grad = grad.narrow(dim, 0, 1)
            All the repetitions count, not just the first of them.

            largest of the repeated entries
                grad = grad.amax(dim=dim, keepdim=True)
            The shares of all the repetitions are added up.
            """,
        ),
        *slips(
            "grad = grad.sum(dim=0)",
            """
            mean over new dimensions
                grad = grad.mean(dim=0)
            Each use of an entry has a share in its gradient, and shares are added up.

            first along new dimensions
                grad = grad[0]
            A tensor that was repeated along a new dimension hears from every repetition.

            new dimensions at the end
                grad = grad.sum(dim=-1)
            Broadcasting puts new dimensions in front: the shapes are lined up at their ends.
            """,
        ),
        Mistake(
            "new dimensions left",
            "for _ in range(grad.dim() - len(shape)):",
            "for _ in range(0):",
            "Dimensions that broadcasting put in front have to go again.",
        ),
        Mistake(
            "sizes of one everywhere",
            "if size == 1:",
            "if size <= grad.shape[-1]:",
            "Only dimensions that were of size 1 have been repeated.",
        ),
        *written(
            """
            sum over no dimension
                def unbroadcast(grad, shape):
                    lead = grad.dim() - len(shape)
                    dims = [i for i in range(grad.dim())
                            if i < lead or (shape[i - lead] == 1 and grad.shape[i] != 1)]
                    return grad.sum(dim=dims).reshape(shape)
            Where nothing was broadcast the list of dimensions is empty, and a sum over no
            dimension in particular is a sum over all of them.

            places counted before the new dimensions are gone
                def unbroadcast(grad, shape):
                    for dim, size in enumerate(shape):
                        if size == 1:
                            grad = grad.sum(dim=dim, keepdim=True)
                    while grad.dim() > len(shape):
                        grad = grad.sum(dim=0)
                    return grad
            While the new dimensions are still in front, dimension 0 of the shape is not dimension
            0 of the gradient.

            everything added up
                def unbroadcast(grad, shape):
                    return grad if grad.shape == torch.Size(shape) else grad.sum().expand(shape)
            Only what was broadcast is added up; the other dimensions stay apart.
            """
        ),
        *written(
            """
            mean in place of the sum
                def unbroadcast(grad, shape):
                    while grad.dim() > len(shape):
                        grad = grad.mean(dim=0)
                    for dim, size in enumerate(shape):
                        if size == 1:
                            grad = grad.mean(dim=dim, keepdim=True)
                    return grad
            What was repeated is added up on the way back, not averaged.

            first copy alone
                def unbroadcast(grad, shape):
                    while grad.dim() > len(shape):
                        grad = grad[0]
                    for dim, size in enumerate(shape):
                        if size == 1:
                            grad = grad.narrow(dim, 0, 1)
                    return grad
            Every copy has sent a gradient back, and yours hears only the first: add them up.

            one new dimension at most
                def unbroadcast(grad, shape):
                    if grad.dim() > len(shape):
                        grad = grad.sum(dim=0)
                    for dim, size in enumerate(shape):
                        if size == 1:
                            grad = grad.sum(dim=dim, keepdim=True)
                    return grad
            Broadcasting may have put several dimensions in front: take all of them away.

            sizes of one dropped
                def unbroadcast(grad, shape):
                    while grad.dim() > len(shape):
                        grad = grad.sum(dim=0)
                    for dim in reversed(range(len(shape))):
                        if shape[dim] == 1:
                            grad = grad.sum(dim=dim)
                    return grad
            A dimension of size 1 stays where it was when it has been added up.

            a number in a row of one
                def unbroadcast(grad, shape):
                    while grad.dim() > max(1, len(shape)):
                        grad = grad.sum(dim=0)
                    for dim, size in enumerate(shape or (1,)):
                        if size == 1:
                            grad = grad.sum(dim=dim, keepdim=True)
                    return grad
            The shape () is that of a single number: it has no dimension, not one of size 1.
            """,
        ),
    ],
    variants=variants(
        """
        dimensions in one sum
            def unbroadcast(grad, shape):
                lead = grad.ndim - len(shape)
                dims = list(range(lead))
                dims += [i + lead for i, n in enumerate(shape) if n == 1]
                if dims:
                    grad = torch.sum(grad, dim=tuple(dims), keepdim=True)
                return grad.reshape(shape)

        only where the sizes differ
            def unbroadcast(grad, shape):
                while len(grad.shape) > len(shape):
                    grad = grad.sum(0)
                for i in range(len(shape)):
                    if grad.shape[i] != shape[i]:
                        grad = grad.sum(i, keepdim=True)
                return grad

        einsum
            def unbroadcast(grad, shape):
                letters = "abcdefgh"[: grad.dim()]
                lead = grad.dim() - len(shape)
                kept = "".join(c for c, n in zip(letters[lead:], shape) if n != 1)
                return torch.einsum(f"{letters}->{kept}", grad).reshape(tuple(shape))
        """
    ),
)


@unbroadcast.test(
    points=2,
    cases=[
        Case("a row that was used by every example", back_to, shaped((4, 3), (3,))),
        Case("a column", back_to, shaped((4, 3), (4, 1))),
        Case("a row with its dimension kept", back_to, shaped((4, 3), (1, 3))),
        Case("two new dimensions", back_to_tuple, shaped((2, 5, 3), (3,))),
        Case("a new dimension and a size of one", back_to, shaped((4, 2, 3), (2, 1))),
        Case("a size of one in the middle", back_to, shaped((4, 2, 3), (4, 1, 3))),
        Case("new dimensions as large as the old", back_to, shaped((3, 3, 3), (3, 1))),
        Case("a size of one in front of a square", back_to, shaped((3, 3, 3), (1, 3))),
        Case("a number", back_to, shaped((4, 3), ())),
        Case("several sizes of one", back_to_tuple, shaped((4, 2, 3), (1, 2, 1))),
    ],
)
def test_adds_up_what_was_repeated(submission, case):
    """Adds up over what broadcasting repeated"""
    submission.matches_reference(case)


@unbroadcast.test(
    points=0.5,
    cases=[
        Case("nothing broadcast", back_to, shaped((4, 3), (4, 3))),
        Case("sizes of one that stayed so", back_to, shaped((4, 1, 3), (1, 3))),
    ],
)
def test_leaves_the_rest_alone(submission, case):
    """Leaves alone what was not repeated"""
    submission.matches_reference(case)


@unbroadcast.test(points=0.5, cases=[Case("a row", back_to, shaped((4, 2, 3), (2, 1)))])
def test_unbroadcast_on_device(submission, case):
    """Works on whichever device its input is on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- matmul_backward


def matmul_carried(impl, grad, a, b):
    return dict(zip(("grad_a", "grad_b"), impl(grad, a, b), strict=True))


def factors(shape_a, shape_b):
    batch = torch.broadcast_shapes(shape_a[:-2], shape_b[:-2])
    return lambda make: {
        "grad": make.normal(*batch, shape_a[-2], shape_b[-1]),
        "a": make.normal(*shape_a),
        "b": make.normal(*shape_b),
    }


def matmul_by_autograd(grad, a, b):
    leaves = [t.detach().clone().requires_grad_() for t in (a, b)]
    return torch.autograd.grad(torch.matmul(*leaves), leaves, grad)


GRAD_A, GRAD_B = "grad @ b.transpose(-2, -1)", "a.transpose(-2, -1) @ grad"
BACK = "return unbroadcast(grad_a, a.shape), unbroadcast(grad_b, b.shape)"
TRANSPOSED = (
    "One of the factors has to be transposed, and not grad: line up the shapes, with all sizes "
    "different."
)

matmul_backward = Exercise(
    "matmul_backward",
    oracle=matmul_by_autograd,
    forbids=AUTODIFF,
    mistakes=[
        Mistake("b not transposed", GRAD_A, "grad @ b", TRANSPOSED),
        Mistake("a not transposed", GRAD_B, "a @ grad", TRANSPOSED),
        Mistake(
            "b in front of grad",
            GRAD_A,
            "b.transpose(-2, -1) @ grad",
            "In grad_a the factor b stands on the right, as it does in the product.",
        ),
        Mistake(
            "a behind grad",
            GRAD_B,
            "grad @ a.transpose(-2, -1)",
            "In grad_b the factor a stands on the left, as it does in the product.",
        ),
        Mistake(
            "grad_b transposed",
            GRAD_B,
            "grad.transpose(-2, -1) @ a",
            "A gradient has the shape of what it belongs to: this is grad_b lying on its side.",
        ),
        Mistake.edits_of(
            "all dimensions reversed",
            [
                (GRAD_A, "grad @ b.permute(*range(b.dim())[::-1])"),
                (GRAD_B, "a.permute(*range(a.dim())[::-1]) @ grad"),
            ],
            "Only the last two dimensions are those of the matrices: batches stay where they are.",
        ),
        Mistake.edits_of(
            "grad left out",
            [
                (GRAD_A, "torch.ones_like(grad) @ b.transpose(-2, -1)"),
                (GRAD_B, "a.transpose(-2, -1) @ torch.ones_like(grad)"),
            ],
            "The chain rule multiplies by what arrives: grad belongs into both gradients.",
        ),
        *slips(
            BACK,
            """
            batches not added up
                return grad_a, grad_b
            A factor that was shared by several batches hears from all of them: carry the
            gradients back through the broadcasting of the batches.

            batches of b not added up
                return unbroadcast(grad_a, a.shape), grad_b
            A factor that was shared by several batches hears from all of them, b too.

            batches of a not added up
                return grad_a, unbroadcast(grad_b, b.shape)
            A factor that was shared by several batches hears from all of them, a too.

            returned in another order
                return unbroadcast(grad_b, b.shape), unbroadcast(grad_a, a.shape)
            The order is that of the factors: the gradient of a comes first.

            mean over the rows
                return unbroadcast(grad_a, a.shape), unbroadcast(grad_b, b.shape) / a.shape[-2]
            The rows' shares are added up. A mean, if there was one, is in grad already.

            batches always added up
                grad_a = grad_a.reshape(-1, *a.shape[-2:]).sum(0).expand(a.shape)
                    grad_b = grad_b.reshape(-1, *b.shape[-2:]).sum(0).expand(b.shape)
                    return grad_a, grad_b
            A batch of its own has a gradient of its own: add up only where a factor was shared.
            """,
        ),
    ],
    variants=variants(
        """
        mT and einsum
            def matmul_backward(grad, a, b):
                grad_a = torch.einsum("...nm,...km->...nk", grad, b)
                grad_b = torch.matmul(a.mT, grad)
                return unbroadcast(grad_a, a.shape), unbroadcast(grad_b, b.shape)

        unbroadcast by itself
            def matmul_backward(grad, a, b):
                found = []
                for g, like in ((grad @ b.mT, a), (a.mT @ grad, b)):
                    while g.dim() > like.dim():
                        g = g.sum(0)
                    for d in range(like.dim() - 2):
                        if like.shape[d] == 1:
                            g = g.sum(d, keepdim=True)
                    found.append(g)
                return found

        broadcast products
            def matmul_backward(grad, a, b):
                grad_a = (grad.unsqueeze(-2) * b.unsqueeze(-3)).sum(-1)
                grad_b = (a.unsqueeze(-1) * grad.unsqueeze(-2)).sum(-3)
                return unbroadcast(grad_a, a.shape), unbroadcast(grad_b, b.shape)
        """
    ),
)


@matmul_backward.test(
    points=1.5,
    cases=[
        Case("two matrices", matmul_carried, factors((4, 2), (2, 3))),
        Case("square matrices", matmul_carried, factors((3, 3), (3, 3))),
        Case("a row and a column", matmul_carried, factors((1, 4), (4, 1))),
    ],
)
def test_carries_back_through_a_product(submission, case):
    """Carries a gradient back to both factors"""
    submission.matches_reference(case)


@matmul_backward.test(
    points=1,
    cases=[
        Case("batches alike", matmul_carried, factors((5, 4, 2), (5, 2, 3))),
        Case("one b for all batches", matmul_carried, factors((5, 4, 2), (2, 3))),
        Case("one a for all batches", matmul_carried, factors((4, 2), (5, 2, 3))),
        Case("batches that broadcast", matmul_carried, factors((5, 1, 4, 2), (6, 2, 3))),
    ],
)
def test_takes_batches(submission, case):
    """Takes batches, and adds up over those that shared a factor"""
    submission.matches_reference(case)


@matmul_backward.test(
    points=0.5, cases=[Case("shared batches", matmul_carried, factors((5, 4, 2), (2, 3)))]
)
def test_matmul_backward_on_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- sum_backward


def sum_carried(impl, grad, shape, dim, keepdim):
    return impl(grad, torch.Size(shape), dim, keepdim)


def sum_carried_by_default(impl, grad, shape):
    return impl(grad, torch.Size(shape))


def sum_carried_by_name(impl, grad, shape, dim):
    return impl(grad, tuple(shape), dim=dim)


def summed(shape, dim, keepdim=False):
    total = torch.zeros(shape).sum(dim=dim, keepdim=keepdim)
    return lambda make: {
        "grad": make.normal(*(total.shape or (1,))).reshape(total.shape),
        "shape": shape,
        "dim": dim,
        "keepdim": keepdim,
    }


def less(inputs, *names):
    return lambda make: {k: v for k, v in inputs(make).items() if k not in names}


def sum_by_autograd(grad, shape, dim=None, keepdim=False):
    leaf = grad.new_zeros(shape).requires_grad_()
    return torch.autograd.grad(leaf.sum(dim=dim, keepdim=keepdim), leaf, grad)[0]


sum_backward = Exercise(
    "sum_backward",
    oracle=sum_by_autograd,
    forbids=AUTODIFF,
    mistakes=[
        *slips(
            "grad = grad.unsqueeze(d)",
            """
            dimensions not put back
                pass
            A sum takes its dimensions away, and repeating puts new ones in front: give each its
            old place back, with size 1, before repeating.

            dimensions put back at the end
                grad = grad.unsqueeze(-1)
            Each dimension goes back to its own place, not to the end.
            """,
        ),
        *slips(
            "return grad.expand(shape)",
            """
            divided by how many were added
                return grad.expand(shape) * (grad.numel() / torch.Size(shape).numel())
            That is the gradient of a mean. In a sum each entry counts in full.

            not spread
                return grad
            Every entry that was added receives the gradient of its sum: spread it over the shape.

            ones
                return torch.ones_like(grad).expand(shape)
            The slope of a sum is 1, times the gradient that arrives.

            multiplied by how many were added
                return grad.expand(shape) * (torch.Size(shape).numel() / grad.numel())
            Each entry is added once, so it receives the gradient once.
            """,
        ),
        Mistake(
            "kept dimensions put back again",
            "if dim is not None and not keepdim:",
            "if dim is not None:",
            "Where keepdim kept the dimensions they are there already.",
        ),
        Mistake(
            "order of the dimensions as given",
            "for d in sorted(d % len(shape) for d in dims):",
            "for d in dims:",
            "Put the dimensions back from the first to the last, whatever order they were given "
            "in; a later one's place counts the earlier ones.",
        ),
        Mistake(
            "negative dimensions sorted as they are",
            "for d in sorted(d % len(shape) for d in dims):",
            "for d in sorted(dims):",
            "A negative dimension counts from the end of the whole shape: make it positive first.",
        ),
        Mistake(
            "one dimension only",
            "dims = (dim,) if isinstance(dim, int) else dim",
            "dims = (dim,) if isinstance(dim, int) else dim[:1]",
            "A sum may go over several dimensions at once.",
        ),
        Mistake(
            "several dimensions not taken",
            "dims = (dim,) if isinstance(dim, int) else dim",
            "dims = (dim,)",
            "dim may be a tuple of dimensions.",
        ),
        Mistake(
            "all dimensions not taken",
            "if dim is not None and not keepdim:",
            "if not keepdim:",
            "dim may be None: the sum of all entries.",
        ),
        *written(
            """
            last dimension put back first
                def sum_backward(grad, shape, dim=None, keepdim=False):
                    if dim is not None and not keepdim:
                        dims = (dim,) if isinstance(dim, int) else dim
                        for d in sorted((d % len(shape) for d in dims), reverse=True):
                            grad = grad.unsqueeze(d)
                    return grad.expand(shape)
            Begin with the first dimension: a later one has its place only once those before it are
            back.
            """,
        ),
    ],
    variants=variants(
        """
        the shape with ones
            def sum_backward(grad, shape, dim=None, keepdim=False):
                n = len(shape)
                dims = range(n) if dim is None else [dim] if isinstance(dim, int) else dim
                dims = {d % n for d in dims}
                kept = [1 if d in dims else size for d, size in enumerate(shape)]
                return grad.reshape(kept) * grad.new_ones(shape)

        by broadcasting onto zeros
            def sum_backward(grad, shape, dim=None, keepdim=False):
                result = torch.zeros(shape, dtype=grad.dtype, device=grad.device)
                if dim is not None and not keepdim:
                    dims = [dim] if isinstance(dim, int) else list(dim)
                    dims = [d if d >= 0 else d + len(shape) for d in dims]
                    for d in range(len(shape)):
                        if d in dims:
                            grad = grad.unsqueeze(d)
                return result + grad

        by indexing
            def sum_backward(grad, shape, dim=None, keepdim=False):
                if dim is None:
                    return grad.reshape(()).expand(shape).clone()
                if not keepdim:
                    dims = (dim,) if not isinstance(dim, tuple) else dim
                    dims = [d % len(shape) for d in dims]
                    grad = grad[tuple(None if d in dims else slice(None)
                                      for d in range(len(shape)))]
                return torch.broadcast_to(grad, tuple(shape)).contiguous()
        """
    ),
)


@sum_backward.test(
    points=1,
    cases=[
        Case("all entries", sum_carried_by_default, less(summed((3, 4), None), "dim", "keepdim")),
        Case("the first dimension", sum_carried, summed((3, 4), 0)),
        Case("the last dimension", sum_carried_by_name, less(summed((3, 4), 1), "keepdim")),
        Case("the last dimension of a square", sum_carried, summed((3, 3), 1)),
        Case("the last dimension, kept", sum_carried, summed((3, 4), 1, True)),
    ],
)
def test_spreads_over_what_was_summed(submission, case):
    """Spreads the gradient over what was summed"""
    submission.matches_reference(case)


@sum_backward.test(
    points=1,
    cases=[
        Case("a dimension in the middle", sum_carried, summed((2, 3, 4), 1)),
        Case("a dimension counted from the end", sum_carried, summed((2, 3, 4), -2)),
        Case("two dimensions", sum_carried, summed((2, 3, 4), (0, 2))),
        Case("two dimensions in another order", sum_carried, summed((2, 3, 4), (2, 0))),
        Case("two counted from the end", sum_carried, summed((2, 3, 4), (-2, -1))),
        Case("one counted from each end", sum_carried, summed((2, 3, 4, 5), (-3, 2))),
        Case("two dimensions, kept", sum_carried, summed((2, 3, 4), (1, -1), True)),
        Case("all entries, kept", sum_carried, lambda make: {
            "grad": make.normal(1, 1), "shape": (3, 4), "dim": None, "keepdim": True}),
    ],
)  # fmt: skip
def test_takes_any_dimensions(submission, case):
    """Takes any dimensions, in any order, kept or not"""
    submission.matches_reference(case)


@sum_backward.test(
    points=0.5, cases=[Case("two dimensions", sum_carried, summed((2, 3, 4), (0, 2)))]
)
def test_sum_backward_on_device(submission, case):
    """Works on whichever device its input is on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- index_backward


def index_of(kind, chosen):
    """An index of some kind; scenarios build it, since slices do not travel as inputs."""
    return {
        "an int": lambda: -2,
        "a slice": lambda: slice(1, 4),
        "a slice with a step": lambda: (slice(None), slice(None, None, 2)),
        "an int and a slice": lambda: (1, slice(0, 2)),
        "a new dimension": lambda: (slice(None), None, 1),
        "indices": lambda: chosen,
        "pairs of indices": lambda: (chosen, chosen.flip(0) % 3),
        "a column of indices": lambda: (slice(None), chosen % 3),
        "a mask": lambda: chosen,
        "a mask of rows": lambda: chosen,
    }[kind]()


def index_carried(impl, grad, shape, kind, chosen):
    return impl(grad, torch.Size(shape), index_of(kind, chosen))


def indexed(shape, kind, *, rows=(), repeat=False, mask=()):
    def inputs(make):
        if mask:
            chosen = make.permutation(torch.Size(mask).numel()).reshape(mask) % 2 == 0
        else:
            chosen = make.permutation(shape[0])[: max(rows[0] if rows else 2, 1)]
            if repeat:  # certain repetitions, and certain gaps
                chosen = chosen[torch.tensor([0, 1, 0, 0, 1])]
        taken = torch.zeros(shape)[index_of(kind, chosen)]
        grad = make.away_from_zero(*(taken.shape or (1,)), low=0.3).reshape(taken.shape)
        return {"grad": grad, "shape": shape, "kind": kind, "chosen": chosen}

    return inputs


def index_by_autograd(grad, shape, index):
    leaf = grad.new_zeros(shape).requires_grad_()
    return torch.autograd.grad(leaf[index], leaf, grad)[0]


PLACES = "places = torch.arange(len(flat), device=grad.device).reshape(shape)[index]"
TAKEN = "return flat.index_add(0, places.flatten(), grad.flatten()).reshape(shape)"

index_backward = Exercise(
    "index_backward",
    oracle=index_by_autograd,
    forbids=AUTODIFF,
    mistakes=[
        *slips(
            TAKEN,
            """
            ones in place of the gradient
                return flat.index_add(
                        0, places.flatten(), torch.ones_like(grad).flatten()
                    ).reshape(shape)
            Each entry passes on what arrives: grad, not 1.

            mean over the repetitions
                count = flat.index_add(0, places.flatten(), torch.ones_like(grad).flatten())
                    total = flat.index_add(0, places.flatten(), grad.flatten())
                    return (total / count.clamp(min=1)).reshape(shape)
            The gradients of repeated entries are added up, not averaged.

            returned flat
                return flat.index_add(0, places.flatten(), grad.flatten())
            A gradient has the shape of what it belongs to.

            sign turned
                return -flat.index_add(0, places.flatten(), grad.flatten()).reshape(shape)
            The gradient is right but for its sign.
            """,
        ),
        Mistake(
            "ones where nothing was taken",
            "grad.new_zeros(shape)",
            "grad.new_ones(shape)",
            "Entries that were not taken do not touch the result: their gradient is zero.",
        ),
        Mistake(
            "float32 in between",
            "flat = grad.new_zeros(shape).flatten()  # (numel,)",
            "flat = torch.zeros(shape).flatten().to(grad.device)\n    grad = grad.float()",
            "torch.zeros without a dtype is float32: make the gradient like grad.",
        ),
        Mistake(
            "places on the CPU",
            "torch.arange(len(flat), device=grad.device)",
            "torch.arange(len(flat))",
            "Tensors made without a device live on the CPU: make them where grad is.",
        ),
        *written(
            """
            repetitions lost
                def index_backward(grad, shape, index):
                    result = torch.zeros(shape, dtype=grad.dtype, device=grad.device)
                    result[index] += grad
                    return result
            result[index] += grad reads, adds and writes once: of an entry that occurs twice in the
            index, only one share survives. Look for an operation that accumulates.

            rows only
                def index_backward(grad, shape, index):
                    result = grad.new_zeros(shape)
                    return result.index_add(0, torch.as_tensor(index, device=grad.device), grad)
            The index may be more than a list of rows: an int, a slice, a mask, or a tuple of these.

            indexed instead of carried back
                def index_backward(grad, shape, index):
                    return grad.expand(shape)[index]
            The way back goes from the taken entries to their places in x.
            """
        ),
    ],
    variants=variants(
        """
        index_put_
            def index_backward(grad, shape, index):
                result = torch.zeros(shape, dtype=grad.dtype, device=grad.device)
                places = torch.arange(result.numel(), device=grad.device).view(shape)[index]
                result.view(-1).index_put_((places.reshape(-1),), grad.reshape(-1), accumulate=True)
                return result

        scatter_add
            def index_backward(grad, shape, index):
                numel = torch.Size(shape).numel()
                where = torch.arange(numel, device=grad.device).reshape(shape)[index].reshape(-1)
                return grad.new_zeros(numel).scatter_add_(0, where, grad.reshape(-1)).view(shape)

        by kinds of index
            def index_backward(grad, shape, index):
                result = grad.new_zeros(shape)
                parts = index if isinstance(index, tuple) else (index,)
                if any(isinstance(p, torch.Tensor) and p.dtype != torch.bool for p in parts):
                    places = torch.arange(result.numel(), device=grad.device).reshape(shape)[index]
                    flat = result.flatten()
                    for place, g in zip(places.flatten(), grad.flatten()):
                        flat[place] += g
                    return flat.reshape(shape)
                result[index] = grad
                return result
        """
    ),
)


@index_backward.test(
    points=1,
    cases=[
        Case("an int", index_carried, indexed((4, 3), "an int")),
        Case("a slice", index_carried, indexed((5, 2), "a slice")),
        Case("a slice with a step", index_carried, indexed((2, 5), "a slice with a step")),
        Case("an int and a slice", index_carried, indexed((3, 4, 2), "an int and a slice")),
        Case("a new dimension", index_carried, indexed((4, 3, 2), "a new dimension")),
        Case("a mask", index_carried, indexed((3, 4), "a mask", mask=(3, 4))),
        Case("a mask of rows", index_carried, indexed((5, 2), "a mask of rows", mask=(5,))),
        Case("a vector", index_carried, indexed((5,), "a slice")),
    ],
)
def test_puts_gradients_in_their_places(submission, case):
    """Puts each gradient in its place, and zero elsewhere"""
    submission.matches_reference(case)


@index_backward.test(
    points=1,
    cases=[
        Case("rows, each once", index_carried, indexed((5, 2), "indices", rows=(3,))),
        Case("rows, some several times", index_carried, indexed((5, 2), "indices", repeat=True)),
        Case("entries, some several times", index_carried, indexed((6,), "indices", repeat=True)),
        Case("pairs", index_carried, indexed((6, 3), "pairs of indices", rows=(4,))),
        Case("pairs, repeated", index_carried, indexed((6, 3), "pairs of indices", repeat=True)),
        Case(
            "columns, repeated", index_carried, indexed((4, 3), "a column of indices", repeat=True)
        ),
    ],
)
def test_adds_repetitions_up(submission, case):
    """Adds up the gradients of an entry that was taken several times"""
    submission.matches_reference(case)


@index_backward.test(
    points=0.5, cases=[Case("rows", index_carried, indexed((5, 2), "indices", repeat=True))]
)
def test_index_backward_on_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- softmax_backward


def softmax_carried(impl, grad, y, dim):
    return impl(grad, y, dim)


def probabilities(*shape, dim, std=1.0):
    return lambda make: {
        "grad": make.normal(*shape, mean=0.7),
        "y": torch.softmax(make.normal(*shape, std=std), dim=dim),
        "dim": dim,
    }


def softmax_by_jacobian(grad, y, dim):
    p, g = y.movedim(dim, -1), grad.movedim(dim, -1)
    jacobian = torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)
    return torch.einsum("...ij,...i->...j", jacobian, g).movedim(-1, dim)


SOFTMAX = "y * (grad - (grad * y).sum(dim=dim, keepdim=True))"

softmax_backward = Exercise(
    "softmax_backward",
    oracle=softmax_by_jacobian,
    forbids=[*AUTODIFF, "torch._softmax_backward_data"],
    mistakes=slips(
        SOFTMAX,
        """
        entry by entry
            grad * y * (1 - y)
        Each probability depends on all the logits of its softmax, so the others' gradients belong
        into the answer.

        nothing subtracted
            y * grad
        A logit also acts through the denominator, which they all share: a sum over the softmax is
        missing.

        gradients summed without their probabilities
            y * (grad - grad.sum(dim=dim, keepdim=True))
        In the sum each gradient is weighted with its probability.

        mean in place of the sum
            y * (grad - (grad * y).mean(dim=dim, keepdim=True))
        The chain rule adds up: a sum, not a mean.

        last dimension always
            y * (grad - (grad * y).sum(dim=-1, keepdim=True))
        The sum goes over the dimension of the softmax, which need not be the last.

        sum over everything
            y * (grad - (grad * y).sum())
        Each softmax of a batch is by itself: sum over its own dimension.

        dimension lost
            y * (grad - (grad * y).sum(dim=dim))
        Keep the summed dimension with size 1: it has to line up with the others again.

        sign of the sum
            y * (grad + (grad * y).sum(dim=dim, keepdim=True))
        Raising a logit takes from the other probabilities: look at the sign.

        sign turned
            -y * (grad - (grad * y).sum(dim=dim, keepdim=True))
        The gradient is right but for its sign.

        probability in front missing
            grad - (grad * y).sum(dim=dim, keepdim=True)
        Every term has the logit's own probability as a factor.

        backward of the log-softmax
            grad - y * grad.sum(dim=dim, keepdim=True)
        This carries back through the logarithm of a softmax. Without the logarithm it is
        another formula.

        softmax taken twice
            torch.softmax(y, dim) * (grad - (grad * torch.softmax(y, dim)).sum(dim, keepdim=True))
        y is what the softmax returned: it is not taken again.

        squared probabilities
            y * grad - y**2 * grad.sum(dim=dim, keepdim=True)
        The term with two probabilities pairs a logit's own one with each of the others.

        probability in the first term alone
            y * grad - (grad * y).sum(dim=dim, keepdim=True)
        The factor in front belongs to both terms: what is subtracted is weighed by it too.
        """,
    ),
    variants=variants(
        """
        the product first
            def softmax_backward(grad, y, dim):
                product = grad * y
                return product - y * torch.sum(product, dim, keepdim=True)

        einsum along the last dimension
            def softmax_backward(grad, y, dim):
                g, p = grad.movedim(dim, -1), y.movedim(dim, -1)
                inner = torch.einsum("...k,...k->...", g, p).unsqueeze(-1)
                return (p * (g - inner)).movedim(-1, dim)

        with a Jacobian
            def softmax_backward(grad, y, dim):
                p, g = y.transpose(dim, -1), grad.transpose(dim, -1)
                J = torch.diag_embed(p) - p[..., :, None] * p[..., None, :]
                return (J @ g[..., None])[..., 0].transpose(dim, -1)
        """
    ),
)


@softmax_backward.test(
    points=2,
    cases=[
        Case("a vector", softmax_carried, probabilities(5, dim=0)),
        Case("a batch", softmax_carried, probabilities(3, 4, dim=1)),
        Case("the first dimension", softmax_carried, probabilities(4, 3, dim=0)),
        Case("the first dimension of a square", softmax_carried, probabilities(3, 3, dim=0)),
        Case("the last dimension of a square", softmax_carried, probabilities(3, 3, dim=-1)),
        Case("a dimension in the middle", softmax_carried, probabilities(2, 4, 3, dim=1)),
        Case("counted from the end", softmax_carried, probabilities(2, 4, 3, dim=-2)),
        Case("very sure probabilities", softmax_carried, probabilities(3, 4, dim=-1, std=300.0)),
    ],
)
def test_carries_back_through_softmax(submission, case):
    """Carries a gradient back through a softmax over any dimension"""
    submission.matches_reference(case)


@softmax_backward.test(
    points=0.5, cases=[Case("a batch", softmax_carried, probabilities(3, 4, dim=1))]
)
def test_softmax_backward_on_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- Variable


def leaves_of(impl, *tensors):
    return [impl(tensor.clone(), requires_grad=True) for tensor in tensors]


def told_of(result, cotangent, **leaves):
    """The values of a result, and the gradients that a backward from it leaves."""
    values = result.data.clone()
    result.backward(cotangent)
    return {
        "the values": values,
        "requires_grad of the result": result.requires_grad,
        **{f"the gradient of {name}": leaf.grad for name, leaf in leaves.items()},
        **{f"{name} afterwards": leaf.data for name, leaf in leaves.items()},
    }


PAIRS = {
    "sum": lambda a, b: a + b,
    "product": lambda a, b: a * b,
    "difference": lambda a, b: a - b,
    "matrix product": lambda a, b: a @ b,
    "itself twice": lambda a, b: a * a + a + b,
}
SINGLES = {
    "sum of all": lambda x: x.sum(),
    "sum over the last": lambda x: x.sum(1),
    "sum kept": lambda x: x.sum(dim=0, keepdim=True),
    "sum over two": lambda x: x.sum((0, -1)),
    "reshape": lambda x: x.reshape(2, -1),
    "flat": lambda x: x.reshape(-1),
    "slice": lambda x: x[1:],
    "int": lambda x: x[1],
    "repeated rows": lambda x: x[torch.tensor([0, 2, 0], device=x.data.device)],
    "softmax": lambda x: x.softmax(1),
    "softmax over the first": lambda x: x.softmax(dim=0),
    "relu": lambda x: x.relu(),
    "log": lambda x: x.log(),
    "number added": lambda x: x + 3,
    "number multiplied": lambda x: x * 0.25,
    "numbers on the left": lambda x: 2 * x + 1 - x,
}


def of_two(impl, operation, a, b, cotangent):
    a, b = leaves_of(impl, a, b)
    return told_of(PAIRS[operation](a, b), cotangent, a=a, b=b)


def of_one(impl, operation, x, cotangent):
    (x,) = leaves_of(impl, x)
    return told_of(SINGLES[operation](x), cotangent, x=x)


def two(operation, shape_a, shape_b):
    def inputs(make):
        a, b = make.away_from_zero(*shape_a), make.away_from_zero(*shape_b)
        cotangent = make.normal(*PAIRS[operation](a, b).shape)
        return {"operation": operation, "a": a, "b": b, "cotangent": cotangent}

    return inputs


def one(operation, *shape, positive=False):
    def inputs(make):
        x = make.uniform(*shape, low=0.3, high=2.0) if positive else make.away_from_zero(*shape)
        shape_of_result = SINGLES[operation](x).shape
        cotangent = make.normal(*(shape_of_result or (1,))).reshape(shape_of_result)
        return {"operation": operation, "x": x, "cotangent": cotangent}

    return inputs


def relu_at_zero(make):
    inputs = one("relu", 3, 4)(make)
    inputs["x"][1, 2] = 0.0
    return inputs


def loss_of(x, labels, W1, b1, W2, b2):
    hidden = (x @ W1 + b1).relu()
    p = (hidden @ W2 + b2).softmax(1)
    rows = torch.arange(len(labels), device=labels.device)
    return p[rows, labels].log().sum() * (-1 / len(labels))


def of_a_network(impl, x, labels, W1, b1, W2, b2):
    params = dict(zip(("W1", "b1", "W2", "b2"), leaves_of(impl, W1, b1, W2, b2), strict=True))
    loss = loss_of(impl(x), labels, **params)
    return told_of(loss, None, **params)


def network(make):
    return {
        "x": make.normal(6, 3),
        "labels": make.labels(6, 4),
        "W1": make.normal(3, 5),
        "b1": make.normal(5, mean=0.5),
        "W2": make.normal(5, 4),
        "b2": make.normal(4),
    }


def requirements(impl, a, b):
    """Who requires a gradient, who has a history, and who receives one."""
    wanted, constant = impl(a, requires_grad=True), impl(b)
    mixed, plain = wanted * constant, constant + constant
    mixed.sum().backward()
    return {
        "a new Variable requires a gradient": constant.requires_grad,
        "a result with one such operand does": mixed.requires_grad,
        "a result of constants does": plain.requires_grad,
        "a result of constants has parents": len(plain.parents) > 0,
        "a result of constants has a vjp": plain.vjp is not None,
        "the gradient of the one": wanted.grad,
        "the constant's grad": constant.grad,
        "the computed Variable's grad": mixed.grad,
    }


def switched_off(impl, a, b):
    a = impl(a, requires_grad=True)
    before = impl.recording
    impl.recording = False
    try:
        inside = a * a
    finally:
        impl.recording = before
    outside = a * impl(b)
    return {
        "recording, at first": before,
        "inside": inside.data,
        "requires_grad inside": inside.requires_grad,
        "a history inside": len(inside.parents) > 0 or inside.vjp is not None,
        "requires_grad outside": outside.requires_grad,
    }


def detached(impl, a, cotangent):
    (a,) = leaves_of(impl, a)
    squared = a * a
    cut = squared.detach()
    (squared * cut).backward(cotangent)
    return {
        "the values": cut.data,
        "the tensor is the same": cut.data.data_ptr() == squared.data.data_ptr(),
        "it requires a gradient": cut.requires_grad,
        "it has parents": len(cut.parents) > 0,
        "the original still requires one": squared.requires_grad,
        "the original still has parents": len(squared.parents) > 0,
        "the gradient past it": a.grad,
    }


def twice(impl, a, b, cotangent):
    """Two calls from one result, then one from another: everything adds up, each leaf its own."""
    a, b = leaves_of(impl, a, b)
    result = (a + b) * a
    result.backward(cotangent)
    first = a.grad.clone()
    result.backward(cotangent)
    second = a.grad.clone()
    (a + b).backward(cotangent)
    return {"once": first, "twice": second, "and another": a.grad, "the other leaf": b.grad,
            "the gradient handed in": cotangent}  # fmt: skip


def sum_twice(impl, a, b, cotangent):
    """A sum hands the same gradient to both of its operands."""
    a, b = leaves_of(impl, a, b)
    (a + b).backward(cotangent)
    a_once, b_once = a.grad.clone(), b.grad.clone()
    (a * 1.0).backward(cotangent)
    return {"a once": a_once, "b once": b_once, "a, with one more": a.grad, "b": b.grad,
            "the gradient handed in": cotangent}  # fmt: skip


def written_over(impl, a, b, cotangent):
    """A leaf's gradient is its own to be stepped, clipped or cleared in place."""
    a, b = leaves_of(impl, a, b)
    (a + b).backward(cotangent)
    once = a.grad.clone()
    a.grad.fill_(7.0)
    return {"a": once, "b, once a's gradient is written over": b.grad,
            "the gradient handed in": cotangent}  # fmt: skip


def numbers_alone(impl, x):
    """Plain numbers among the operands, and nothing handed in."""
    (x,) = leaves_of(impl, x)
    total = (2.5 * x + 1.5).sum()
    total.backward()
    return {"the value": total.data, "the gradient": x.grad}


def with_a_gradient(impl, a, earlier, cotangent):
    (a,) = leaves_of(impl, a)
    a.grad = earlier.clone()
    (a * 2.0).backward(cotangent)
    return {"the gradient": a.grad}


def leaf_itself(impl, a, cotangent):
    (a,) = leaves_of(impl, a)
    a.backward(cotangent)
    return {"the gradient": a.grad, "the gradient handed in": cotangent}


def shared_depths(impl, a, b, cotangent):
    """A Variable that is reached by a short way and by a long way."""
    a, b = leaves_of(impl, a, b)
    h = a * b
    for _ in range(3):
        h = h * a + h
    result = h * b + a
    return told_of(result, cotangent, a=a, b=b)


def errors(impl, a):
    (leaf,) = leaves_of(impl, a)
    constant = impl(a)
    return {
        "backward of a constant": raised(lambda: constant.sum().backward(), RuntimeError),
        "backward of a tensor without a gradient": raised(
            lambda: (leaf * leaf).backward(), RuntimeError
        ),
        "backward of a row with one entry, without a gradient": raised(
            lambda: (leaf[0, :1] * 2.0).backward(), RuntimeError
        ),
        "backward of a number": raised(lambda: (leaf * leaf).sum().backward(), RuntimeError),
    }


def alike(*shape):
    return lambda make: {
        "a": make.away_from_zero(*shape),
        "b": make.away_from_zero(*shape),
        "cotangent": make.normal(*shape),
    }


class VariableByTorch:
    """A Variable whose operations and their ways back are PyTorch's own."""

    recording = True

    def __init__(self, data, requires_grad=False):
        self.data, self.requires_grad, self.grad = data, requires_grad, None
        self.parents, self.vjp = (), None

    @classmethod
    def record(cls, data, parents, vjp):
        result = cls(data)
        # By type(parents[0]) and not by its own name, so that a copy of the class works as well.
        if cls.recording and any(parent.requires_grad for parent in parents):
            result.requires_grad, result.parents, result.vjp = True, parents, vjp
        return result

    def of(self, function, *others):
        parents = (self, *(o if hasattr(o, "vjp") else type(self)(torch.full_like(self.data, o))
                           for o in others))  # fmt: skip
        tensors = [parent.data for parent in parents]

        def vjp(grad):
            leaves = [tensor.detach().requires_grad_() for tensor in tensors]
            return torch.autograd.grad(function(*leaves), leaves, grad)

        return self.record(function(*tensors), parents, vjp)

    def detach(self):
        return type(self)(self.data)

    def backward(self, grad=None):
        if not self.requires_grad or (grad is None and self.data.dim()):
            raise RuntimeError("no gradient here")
        uses, waiting, seen = {}, [self], {id(self)}
        while waiting:
            for parent in waiting.pop().parents:
                uses[id(parent)] = uses.get(id(parent), 0) + 1
                if id(parent) not in seen:
                    seen.add(id(parent))
                    waiting.append(parent)
        whole = {id(self): torch.ones_like(self.data) if grad is None else grad}
        ready = [self]
        while ready:
            node = ready.pop()
            arrived = whole[id(node)]
            if node.vjp is None:
                if node.requires_grad:
                    node.grad = arrived + (0 if node.grad is None else node.grad)
                continue
            for parent, share in zip(node.parents, node.vjp(arrived), strict=True):
                whole[id(parent)] = share + whole.get(id(parent), 0)
                uses[id(parent)] -= 1
                if not uses[id(parent)]:
                    ready.append(parent)

    def __add__(self, other):
        return self.of(torch.add, other)

    def __mul__(self, other):
        return self.of(torch.mul, other)

    def __matmul__(self, other):
        return self.of(torch.matmul, other)

    def sum(self, dim=None, keepdim=False):
        return self.of(lambda x: x.sum(dim=dim, keepdim=keepdim))

    def reshape(self, *shape):
        return self.of(lambda x: x.reshape(shape))

    def __getitem__(self, index):
        return self.of(lambda x: x[index])

    def softmax(self, dim):
        return self.of(lambda x: torch.softmax(x, dim))

    def relu(self):
        return self.of(torch.relu)

    def log(self):
        return self.of(torch.log)

    def __radd__(self, other):
        return self + other

    def __rmul__(self, other):
        return self * other

    def __neg__(self):
        return self * -1.0

    def __sub__(self, other):
        return self + (-other)


WANTED = "wanted = Variable.recording and any(parent.requires_grad for parent in parents)"
LEAF = "node.grad = whole.clone() if node.grad is None else node.grad + whole"
SHARE = "arrived[id(parent)] = share if before is None else before + share"
ADD = "return unbroadcast(grad, self.data.shape), unbroadcast(grad, b.data.shape)"
MUL_A = "grad_a = unbroadcast(grad * b.data, self.data.shape)"
MUL_B = "grad_b = unbroadcast(grad * self.data, b.data.shape)"
LIFT = "b = other if isinstance(other, Variable) else Variable(torch.full_like(self.data, other))"
TOO_EARLY = "Multiply first, in the large shape, and add up over what was broadcast after that."

variable = Exercise(
    "Variable",
    oracle=VariableByTorch,
    forbids=AUTODIFF,
    seconds=90.0,
    mistakes=[
        *slips(
            WANTED,
            """
            switch ignored
                wanted = any(parent.requires_grad for parent in parents)
            While Variable.recording is False, nothing is recorded.

            all parents asked for
                wanted = Variable.recording and all(parent.requires_grad for parent in parents)
            One parent that requires a gradient is enough: the others may be constants.

            always recorded
                wanted = Variable.recording
            An operation on constants alone has no history: nobody will ask for it.

            first parent alone asked
                wanted = Variable.recording and parents[0].requires_grad
            Any of the parents may be the one that requires a gradient.
            """,
        ),
        Mistake(
            "result requires no gradient",
            "Variable(data, requires_grad=wanted)",
            "Variable(data)",
            "A result requires a gradient where an operand does, or nothing behind it is reached.",
        ),
        Mistake(
            "history without need",
            "if wanted:\n            result.parents",
            "if True:\n            result.parents",
            "Where no gradient is wanted, parents and vjp would only hold memory: leave them out.",
        ),
        *slips(
            "return Variable(self.data)",
            """
            detached, and still requiring
                return Variable(self.data, self.requires_grad)
            What is detached requires no gradient.

            original cut off
                self.parents, self.vjp, self.requires_grad = (), None, False
                        return self
            detach makes a new Variable: the one that it is called on keeps its history.

            nothing detached
                return self
            detach makes a new Variable, with the same tensor and no history.
            """,
        ),
        *slips(
            LEAF,
            """
            gradient overwritten
                node.grad = whole.clone()
            A second call adds to what is there: several results may share a parameter.

            gradient shared and changed in place
                if node.grad is None:
                                    node.grad = whole
                                else:
                                    node.grad += whole
            A gradient that is stored must be a tensor of its own: adding in place to one that is
            shared changes the other's too, or the caller's.

            gradient averaged
                node.grad = whole.clone() if node.grad is None else (node.grad + whole) / 2
            Gradients of several calls are added up.
            """,
        ),
        *slips(
            SHARE,
            """
            share overwritten
                arrived[id(parent)] = share
            A Variable that is used several times receives a share from each use: add them up.

            first share kept
                arrived[id(parent)] = share if before is None else before
            A Variable that is used several times receives a share from each use: add them up.

            gradients left in computed Variables
                arrived[id(parent)] = share if before is None else before + share
                                    if parent.parents:
                                        parent.grad = arrived[id(parent)]
            Only Variables that were not computed keep a gradient.
            """,
        ),
        Mistake(
            "root first forgotten",
            "for node in reversed(topological_order(self)):",
            "for node in topological_order(self):",
            "Begin at the result: what arrives at a Variable must be whole before it is passed on.",
        ),
        Mistake(
            "constants receive gradients",
            "if parent.requires_grad:\n                    before",
            "if True:\n                    before",
            "A Variable that requires no gradient receives none.",
        ),
        Mistake(
            "gradient handed in ignored",
            "arrived = {id(self): grad}",
            "arrived = {id(self): torch.ones_like(self.data)}",
            "The way back starts with the gradient that was handed in.",
        ),
        Mistake(
            "history thrown away",
            "                if parent.requires_grad:\n                    before",
            "                node.parents, node.vjp = (), None\n"
            "                if parent.requires_grad:\n                    before",
            "The history stays: a second call must be able to walk it again.",
        ),
        *slips(
            "if self.data.dim() > 0:",
            """
            tensor without a gradient let through
                if False:
            Where data is not of shape (), nobody can tell which gradient is meant: raise.
            """,
        ),
        *slips(
            "if not self.requires_grad:",
            """
            constant let through
                if False:
            A Variable that requires no gradient has nothing to go back to: raise.
            """,
        ),
        *slips(
            ADD,
            """
            sum without unbroadcast
                return grad, grad
            An operand that was broadcast receives a gradient of its own shape: add up over what
            was repeated.

            sum's second operand left shaped like the sum
                return unbroadcast(grad, self.data.shape), grad
            Either operand may be the one that was broadcast.

            sum's first operand left shaped like the sum
                return grad, unbroadcast(grad, b.data.shape)
            Either operand may be the one that was broadcast.

            sum gone back like a product
                return unbroadcast(grad * b.data, self.data.shape), unbroadcast(
                                grad * self.data, b.data.shape
                            )
            A sum passes the gradient on as it is.
            """,
        ),
        Mistake.edits_of(
            "product's factors swapped",
            [
                (MUL_A, MUL_A.replace("b.data", "self.data", 1)),
                (MUL_B, MUL_B.replace("* self.data", "* b.data")),
            ],
            "Each factor's gradient is multiplied by the other factor.",
        ),
        Mistake.edits_of(
            "product without unbroadcast",
            [(MUL_A, "grad_a = grad * b.data"), (MUL_B, "grad_b = grad * self.data")],
            "A factor that was broadcast receives a gradient of its own shape.",
        ),
        Mistake.edits_of(
            "product unbroadcast too early",
            [
                (MUL_A, "grad_a = unbroadcast(grad, self.data.shape) * b.data"),
                (MUL_B, "grad_b = unbroadcast(grad, b.data.shape) * self.data"),
            ],
            TOO_EARLY,
        ),
        Mistake(
            "matrix product's factors swapped",
            "matmul_backward(grad, self.data, other.data)",
            "matmul_backward(grad, other.data, self.data)[::-1]",
            "Hand the factors over in the order in which they were multiplied.",
        ),
        Mistake(
            "keepdim forgotten on the way back",
            "sum_backward(grad, self.data.shape, dim, keepdim)",
            "sum_backward(grad, self.data.shape, dim)",
            "The way back must know whether the summed dimensions were kept.",
        ),
        Mistake(
            "keepdim forgotten on the way there",
            "total = self.data.sum(dim=dim, keepdim=keepdim)",
            "total = self.data.sum(dim=dim)",
            "Where keepdim is True, the sum keeps its dimensions with size 1.",
        ),
        Mistake.edits_of(
            "softmax over the last dimension always",
            [
                ("torch.softmax(self.data, dim=dim)", "torch.softmax(self.data, dim=-1)"),
                ("softmax_backward(grad, y, dim)", "softmax_backward(grad, y, -1)"),
            ],
            "The softmax goes over the dimension that was asked for, there and back.",
        ),
        Mistake(
            "sum always over everything",
            "total = self.data.sum(dim=dim, keepdim=keepdim)",
            "dim = None\n        total = self.data.sum()",
            "The sum goes over the dimensions that were asked for.",
        ),
        Mistake(
            "reshape not undone",
            "(grad.reshape(self.data.shape),)",
            "(grad.reshape(shape),)",
            "On the way back the gradient takes the shape that the operand had.",
        ),
        *slips(
            "softmax_backward(grad, y, dim)",
            """
            softmax's input on the way back
                softmax_backward(grad, self.data, dim)
            softmax_backward wants what the softmax returned, not what it was given.

            softmax's last dimension on the way back
                softmax_backward(grad, y, -1)
            The way back goes over the same dimension as the way there.
            """,
        ),
        *slips(
            "(grad * (self.data > 0),)",
            """
            relu open at zero
                (grad * (self.data >= 0),)
            At 0 the slope of relu is taken as 0.

            relu's gate set by the gradient
                (grad.clamp(min=0),)
            The sign of the input decides what passes, not that of the gradient.

            relu's gate left open
                (grad,)
            Where the input was negative nothing passes.
            """,
        ),
        *slips(
            "(grad / self.data,)",
            """
            logarithm multiplied
                (grad * self.data,)
            The slope of the logarithm is one over its input.

            logarithm divided by itself
                (grad / self.data.log(),)
            The slope of the logarithm is one over its input, not over its result.
            """,
        ),
        Mistake(
            "index of the gradient",
            "(index_backward(grad, self.data.shape, index),)",
            "(index_backward(torch.ones_like(grad), self.data.shape, index),)",
            "What arrives is put in its places: grad, not 1.",
        ),
        *slips(
            LEAF,
            """
            gradient shared with others
                node.grad = whole if node.grad is None else node.grad + whole
            A sum hands one tensor to both operands, and you store it in both: who writes into one
            gradient
            changes the other. Each leaf needs a tensor of its own.
            """,
        ),
        Mistake(
            "detached by copying",
            "return Variable(self.data)",
            "return Variable(self.data.clone())",
            "detach gives the same tensor without its past; yours is a copy, which costs memory.",
        ),
        Mistake(
            "one entry taken for a number",
            "self.data.dim() > 0",
            "self.data.numel() > 1",
            "Only a Variable of shape () may do without a gradient; a row with one entry is not "
            "that.",
        ),
        Mistake(
            "backward of a leaf forgotten",
            "            if node.vjp is None:\n",
            "            if node is self and node.vjp is None:\n                return\n"
            "            if node.vjp is None:\n",
            "A leaf may be where the walk starts: then it is also where the gradient stays.",
        ),
        Mistake(
            "ReLU in place",
            "self.data.clamp(min=0)",
            "self.data.clamp_(min=0)",
            "Operands are never changed: an operation ending in _ writes into the operand's own "
            "tensor.",
        ),
        Mistake(
            "a constant inside the logarithm",
            "Variable.record(self.data.log()",
            "Variable.record((self.data + 1e-8).log()",
            "The entries are positive: a small number inside the logarithm only bends it.",
        ),
        Mistake(
            "repeated rows not added up",
            "return (index_backward(grad, self.data.shape, index),)",
            "back = torch.zeros_like(self.data)\n            back[index] = grad\n            "
            "return (back,)",
            "What was taken several times gets the sum of its gradients, and an assignment keeps "
            "one of "
            "them. One of your earlier functions knows how.",
        ),
        Mistake(
            "matrix product without batches",
            "return matmul_backward(grad, self.data, other.data)",
            "return grad @ other.data.mT, self.data.mT @ grad",
            "A matrix that served a whole batch receives a gradient from every part of it: add "
            "them up. "
            "One of your earlier functions knows how.",
        ),
    ],
    variants=[
        Variant.edits_of(
            "gradients added to zeros",
            [
                (
                    LEAF,
                    "zeros = torch.zeros_like(whole)\n"
                    "                before = node.grad if node.grad is not None else zeros\n"
                    "                node.grad = whole + before",
                ),
                (
                    WANTED,
                    "wanted = bool(sum(p.requires_grad for p in parents))\n"
                    "        wanted = wanted if Variable.recording else False",
                ),
            ],
        ),
        Variant.edits_of(
            "other forms of the same operations",
            [
                ("(grad * (self.data > 0),)", "(torch.where(self.data > 0, grad, 0.0 * grad),)"),
                ("(grad / self.data,)", "(grad * self.data.reciprocal(),)"),
                ("(grad.reshape(self.data.shape),)", "[grad.view(self.data.shape)]"),
                (
                    "return Variable.record(self.data.clamp(min=0), (self,), vjp)",
                    "return self.record(torch.relu(self.data), (self,), lambda grad: vjp(grad))",
                ),
                (
                    "y = torch.softmax(self.data, dim=dim)",
                    "e = (self.data - self.data.amax(dim, keepdim=True)).exp()\n"
                    "        y = e / e.sum(dim, keepdim=True)",
                ),
                (ADD, "return tuple(unbroadcast(grad, v.data.shape) for v in (self, b))"),
                ("return Variable(self.data)", "return Variable(self.data, requires_grad=False)"),
            ],
        ),
        Variant.edits_of(
            "numbers as tensors of shape ()",
            [
                (
                    f"{told_by}\n        ### BEGIN SOLUTION\n        {LIFT}",
                    f"{told_by}\n        ### BEGIN SOLUTION\n        {as_tensor}",
                )
                for told_by, as_tensor in (
                    (
                        'Add a Variable, shapes broadcast, or a plain number."""',
                        "b = other\n        if not isinstance(other, Variable):\n"
                        "            b = Variable(torch.tensor(float(other)))",
                    ),
                    (
                        'with a Variable, shapes broadcast, or with a plain number."""',
                        "b = other if isinstance(other, Variable) else Variable("
                        "torch.as_tensor(other, dtype=self.data.dtype, device=self.data.device))",
                    ),
                )
            ],
        ),
        Variant.edits_of(
            "a numbered walk back without the dict",
            [
                (
                    "        arrived = {id(self): grad}\n",
                    "        order = topological_order(self)\n"
                    "        place = {id(node): i for i, node in enumerate(order)}\n"
                    "        totals = [None] * len(order)\n"
                    "        totals[-1] = grad\n",
                ),
                (
                    "        for node in reversed(topological_order(self)):\n"
                    "            if id(node) not in arrived:\n"
                    "                continue\n"
                    "            whole = arrived.pop(id(node))\n",
                    "        for node in order[::-1]:\n"
                    "            whole = totals[place[id(node)]]\n"
                    "            if whole is None:\n"
                    "                continue\n",
                ),
                (
                    "before = arrived.get(id(parent))",
                    "i = place[id(parent)]\n                    before = totals[i]",
                ),
                (SHARE, "totals[i] = share if before is None else share + before"),
            ],
        ),
    ],
)


def in_float64(*cases):
    """Cases in which the history counts, and not the dtype."""
    return [replace(case, dtypes=(torch.float64,)) for case in cases]


@variable.test(
    points=2.5,
    cases=[
        Case("a sum", of_two, two("sum", (3, 4), (3, 4))),
        Case("a product", of_two, two("product", (3, 4), (3, 4))),
        Case("a matrix product", of_two, two("matrix product", (3, 4), (4, 2))),
        Case("square matrices", of_two, two("matrix product", (3, 3), (3, 3))),
        Case("the sum of all entries", of_one, one("sum of all", 3, 4)),
        Case("a sum over the last dimension", of_one, one("sum over the last", 3, 4)),
        Case("a sum that keeps its dimension", of_one, one("sum kept", 3, 3)),
        Case("a sum over two dimensions", of_one, one("sum over two", 3, 2, 4)),
        Case("reshape", of_one, one("reshape", 4, 3)),
        Case("reshape to a vector", of_one, one("flat", 4, 3)),
        Case("a slice", of_one, one("slice", 4, 3)),
        Case("an int", of_one, one("int", 4, 3)),
        Case("rows, one of them twice", of_one, one("repeated rows", 3, 4)),
        Case("softmax", of_one, one("softmax", 3, 4)),
        Case("softmax over the first dimension", of_one, one("softmax over the first", 3, 3)),
        Case("relu", of_one, relu_at_zero),
        Case("log", of_one, one("log", 3, 4, positive=True)),
    ],
)
def test_goes_there_and_back(submission, case):
    """Computes every operation, and carries gradients back through it"""
    submission.matches_reference(case)


@variable.test(
    points=1,
    cases=in_float64(
        Case("a row added to a matrix", of_two, two("sum", (3, 4), (4,))),
        Case("a matrix added to a column", of_two, two("sum", (3, 1), (3, 4))),
        Case("a row times a column", of_two, two("product", (1, 4), (3, 1))),
        Case("a matrix times a row", of_two, two("product", (3, 3), (3,))),
        Case("a column subtracted", of_two, two("difference", (3, 4), (3, 1))),
        Case("one matrix for a batch", of_two, two("matrix product", (5, 3, 4), (4, 2))),
        Case("a number added", of_one, one("number added", 3, 4)),
        Case("a number multiplied", of_one, one("number multiplied", 3, 4)),
        Case("numbers on the left", of_one, one("numbers on the left", 3, 4)),
    ),
)
def test_broadcasts(submission, case):
    """Broadcasts, and takes plain numbers"""
    submission.matches_reference(case)


@variable.test(
    points=2.5,
    cases=in_float64(
        Case("a network with a cross-entropy", of_a_network, network),
        Case("an operand that is used several times", of_two, two("itself twice", (3, 4), (3, 4))),
        Case("a short way and a long way", shared_depths, alike(2, 3)),
        Case("several calls", twice, alike(2, 3)),
        Case("two leaves that receive the same gradient", sum_twice, alike(2, 3)),
        Case("a gradient that is written over", written_over, alike(2, 3)),
        Case("a leaf that has a gradient already", with_a_gradient, lambda make: {
            "a": make.normal(3), "earlier": make.normal(3), "cotangent": make.normal(3)}),
        Case("a leaf by itself", leaf_itself, lambda make: {
            "a": make.normal(3), "cotangent": make.normal(3)}),
        Case("what requires a gradient", requirements, lambda make: {
            "a": make.normal(2, 3), "b": make.away_from_zero(2, 3)}),
        Case("while nothing is recorded", switched_off, lambda make: {
            "a": make.normal(3), "b": make.normal(3)}),
        Case("detach", detached, lambda make: {
            "a": make.away_from_zero(3), "cotangent": make.normal(3)}),
        Case("what has no way back", errors, lambda make: {"a": make.normal(2, 3)}),
    ),
)  # fmt: skip
def test_keeps_its_history(submission, case):
    """Records what is needed, adds gradients up, and detaches"""
    submission.matches_reference(case)


@variable.test(
    points=0.5,
    cases=[
        Case("a network", of_a_network, network),
        Case("numbers", numbers_alone, lambda make: {"x": make.normal(3, 4)}),
    ],
)
def test_variable_on_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- no_grad


def beside(impl):
    """The Variable of the notebook that an implementation comes from, recording."""
    places = [vars(sys.modules["__main__"])]
    places += [getattr(part, "__globals__", {}) for part in vars(impl).values()]
    found = next((place["Variable"] for place in places if "Variable" in place), VariableByTorch)
    found.recording = True
    return found


def block(impl, a):
    V = beside(impl)
    a = V(a, requires_grad=True)
    made = impl()
    between = V.recording
    with made:
        inside, during = a * a, V.recording
    after = V.recording
    V.recording = True
    return {
        "recording once it is made": between,
        "recording inside": during,
        "recording afterwards": after,
        "requires_grad inside": inside.requires_grad,
        "the values inside": inside.data,
    }


def nested(impl):
    V = beside(impl)
    seen = []
    with impl():
        seen.append(V.recording)
        with impl():
            seen.append(V.recording)
            with impl():
                seen.append(V.recording)
            seen.append(V.recording)
        seen.append(V.recording)
    seen.append(V.recording)
    V.recording = True
    return {"recording, from the outermost block inwards and back": seen}


def after_an_exception(impl, kind):
    V = beside(impl)
    expected = {"ValueError": ValueError, "KeyError": KeyError}[kind]

    def fails():
        with impl():
            raise expected("from inside")

    told = raised(fails, expected)
    after = V.recording
    V.recording = True
    return {"what comes out": told, "recording afterwards": after}


def while_off(impl):
    V = beside(impl)
    V.recording = False
    with impl():
        inside = V.recording
    after = V.recording
    V.recording = True
    return {"recording inside": inside, "recording afterwards": after}


def made_early(impl):
    """Made while nothing was recorded, entered while something is."""
    V = beside(impl)
    V.recording = False
    made = impl()
    V.recording = True
    with made:
        inside = V.recording
    after = V.recording
    V.recording = True
    return {"recording inside": inside, "recording afterwards": after}


ENTER = "self.before = Variable.recording\n        Variable.recording = False"
LEAVE = "Variable.recording = self.before"

no_grad = Exercise(
    "no_grad",
    mistakes=[
        *slips(
            LEAVE,
            """
            always on again
                Variable.recording = True
            A block inside another must not switch recording on: go back to how it was before.

            exceptions swallowed
                Variable.recording = self.before
                        return True
            A true value from __exit__ swallows the exception: let it pass.

            left off
                pass
            When the block is left, recording goes back to what it was before it was switched off.

            not switched back after an exception
                if error[0] is None:
                            Variable.recording = self.before
            An exception leaves the block too: recording goes back to what it was.

            switched round
                Variable.recording = not Variable.recording
            Switching round is wrong where it was off before: go back to how it was.
            """,
        ),
        *slips(
            ENTER,
            """
            nothing switched off
                self.before = Variable.recording
            While the block runs, Variable.recording is False.

            switched round on entering
                self.before = Variable.recording
                        Variable.recording = not Variable.recording
            A block within another would switch recording on again: it is False in both.

            remembered for all blocks at once
                type(self).before = Variable.recording
                        Variable.recording = False
            Each block remembers for itself; a block inside another would overwrite the memory of
            the outer one.
            """,
        ),
        Mistake.written(
            "switched off as it is made",
            """
            class no_grad:
                def __init__(self):
                    self.before = Variable.recording
                    Variable.recording = False
                def __enter__(self):
                    pass
                def __exit__(self, *error):
                    Variable.recording = self.before
            """,
            "Making a no_grad() changes nothing yet: that begins when the block is entered.",
        ),
        Mistake.written(
            "remembered as it is made",
            """
            class no_grad:
                def __init__(self):
                    self.before = Variable.recording
                def __enter__(self):
                    Variable.recording = False
                def __exit__(self, *error):
                    Variable.recording = self.before
            """,
            "How it was counts at the moment when the block is entered, not when it is made.",
        ),
    ],
    variants=variants(
        """
        a stack of memories
            class no_grad:
                def __init__(self):
                    self.before = []
                def __enter__(self):
                    self.before.append(Variable.recording)
                    Variable.recording = False
                    return self
                def __exit__(self, kind, error, trace):
                    Variable.recording = self.before.pop()
                    return False

        contextlib
            from contextlib import contextmanager
            @contextmanager
            def no_grad():
                before, Variable.recording = Variable.recording, False
                try:
                    yield
                finally:
                    Variable.recording = before

        setattr
            class no_grad:
                def __enter__(self):
                    self._was = getattr(Variable, "recording")
                    setattr(Variable, "recording", False)
                def __exit__(self, *_):
                    setattr(Variable, "recording", self._was)
        """
    ),
)


@no_grad.test(
    points=1.5,
    cases=[
        Case("a block", block, lambda make: {"a": make.normal(3)}),
        Case("blocks within each other", nested, lambda _: {}),
        Case("an exception", after_an_exception, lambda _: {"kind": "ValueError"}),
        Case("another exception", after_an_exception, lambda _: {"kind": "KeyError"}),
        Case("where recording was off already", while_off, lambda _: {}),
        Case("made before it is entered", made_early, lambda _: {}),
    ],
)
def test_switches_recording_off_for_a_block(submission, case):
    """Switches recording off for a block, and back to how it was"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- Module


def names_and_values(module):
    named = module.named_parameters()
    return {
        "the names": list(named),
        "their tensors": {name: variable.data for name, variable in named.items()},
        "how many parameters() lists": len(module.parameters()),
        "parameters() lists the same": all(
            a is b for a, b in zip(module.parameters(), named.values(), strict=True)
        ),
    }


def flat_module(impl, a, b, c):
    V = beside(impl)
    module = impl()
    module.weight = V(a, requires_grad=True)
    module.mean = V(b)  # a constant, and no parameter
    module.size, module.tensor, module.label = 3, c, "a text"
    module.bias = V(c, requires_grad=True)
    module.alpha = V(b, requires_grad=True)
    return names_and_values(module)


def nested_module(impl, a, b, c):
    V = beside(impl)
    outer, middle, inner = impl(), impl(), impl()
    inner.w = V(a, requires_grad=True)
    middle.inner = inner
    middle.b = V(b, requires_grad=True)
    outer.first = middle
    outer.scale = V(c, requires_grad=True)
    return {**names_and_values(outer), "of the middle": list(middle.named_parameters()),
            "with a prefix": list(outer.named_parameters("net."))}  # fmt: skip


def module_of_lists(impl, a, b, c):
    V = beside(impl)
    one, other, last = impl(), impl(), impl()
    one.w, other.w, last.w = (V(t, requires_grad=True) for t in (a, b, c))
    net = impl()
    net.layers = [one, other]
    net.pair = (last, V(a, requires_grad=True), V(b), None)
    net.numbers = [1, 2]
    return names_and_values(net)


def shared_parameters(impl, a, b):
    V = beside(impl)
    encoder, decoder, net = impl(), impl(), impl()
    encoder.weight = V(a, requires_grad=True)
    decoder.weight = encoder.weight
    decoder.bias = V(a.clone(), requires_grad=True)
    net.encoder, net.decoder = encoder, decoder
    net.again = decoder.bias
    net.own = V(b, requires_grad=True)
    return names_and_values(net)


def assigned_later(impl, a, b):
    V = beside(impl)
    net, part = impl(), impl()
    net.first = V(a, requires_grad=True)
    net.part = part
    before = len(net.named_parameters())
    part.late = V(b, requires_grad=True)
    return {"how many before": before, "after": names_and_values(net)}


def cleared(impl, a, b):
    V = beside(impl)
    inner, outer = impl(), impl()
    inner.w, outer.w = V(a, requires_grad=True), V(b, requires_grad=True)
    outer.part, outer.constant = inner, V(b)
    for variable in (inner.w, outer.w, outer.constant):
        variable.grad = torch.ones_like(variable.data)
    kept = inner.w
    outer.zero_grad()
    return {
        "the part's gradient": inner.w.grad,
        "its own gradient": outer.w.grad,
        "the part's parameter is the same": inner.w is kept,
        "the values": [inner.w.data, outer.w.data],
    }


def empty_module(impl):
    module = impl()
    module.size = 3
    module.zero_grad()
    return {"the names": list(module.named_parameters()), "how many": len(module.parameters())}


def called(impl, a, b):
    V = beside(impl)

    class Scale(impl):  # type: ignore[misc, valid-type]
        def forward(self, x):
            return x * self.factor

    scale = Scale()
    scale.factor = V(b, requires_grad=True)
    return {"the output": scale(V(a)).data, "the names": list(scale.named_parameters())}


def three(make):
    return {"a": make.normal(2, 3), "b": make.normal(3), "c": make.normal(4)}


def two_tensors(make):
    return {"a": make.normal(2, 3), "b": make.normal(3)}


class ModuleByWalking:
    """Finds parameters with a stack; knows them by their attributes, whatever their class."""

    def named_parameters(self, prefix=""):
        found, seen = {}, set()
        waiting: list[tuple[str, Any]] = [(prefix, self)]
        while waiting:
            name, thing = waiting.pop()
            if hasattr(thing, "vjp"):
                if thing.requires_grad and id(thing) not in seen:
                    seen.add(id(thing))
                    found[name] = thing
            elif hasattr(thing, "named_parameters"):
                dot = name if thing is self else name + "."
                waiting += [(dot + key, value) for key, value in vars(thing).items()][::-1]
            elif isinstance(thing, list | tuple):
                waiting += [(f"{name}.{i}", value) for i, value in enumerate(thing)][::-1]
        return found

    def parameters(self):
        return [*self.named_parameters().values()]

    def zero_grad(self):
        for parameter in self.parameters():
            parameter.grad = None

    def forward(self, *_):
        raise TypeError("no forward")

    def __call__(self, x):
        return self.forward(x)


PARTS = 'parts = {f"{attribute}.{i}": p for i, p in enumerate(value)} if several else None'
INNER = 'inner = part.named_parameters(f"{prefix}{name}.")'
OWN = "elif isinstance(part, Variable) and part.requires_grad:"

module = Exercise(
    "Module",
    oracle=ModuleByWalking,
    forbids=["torch.nn.Module"],
    mistakes=[
        *slips(
            INNER,
            """
            parts left out
                inner = {}
            A Module inside a Module has parameters too: ask it for them.

            names of parts not told apart
                inner = part.named_parameters(prefix)
            Two parts may use the same name: put the part's own name and a dot in front.

            dot forgotten
                inner = part.named_parameters(f"{prefix}{name}")
            A part's name and its parameter's name are joined by a dot.

            prefix not handed down
                inner = part.named_parameters(f"{name}.")
            The names of outer Modules come in front of those of inner ones: hand the prefix down.
            """,
        ),
        *slips(
            OWN,
            """
            constants counted as parameters
                elif isinstance(part, Variable):
            Only Variables that require a gradient are parameters.

            everything that has data
                elif hasattr(part, "data"):
            Only Variables that require a gradient are parameters: a tensor is none.
            """,
        ),
        Mistake(
            "prefix forgotten for its own",
            "inner = {prefix + name: part}",
            "inner = {name: part}",
            "A Module's own parameters have the prefix too.",
        ),
        Mistake(
            "lists left out",
            "several = isinstance(value, list | tuple)",
            "several = False",
            "Modules and parameters may stand in a list or a tuple: look into those.",
        ),
        Mistake(
            "tuples left out",
            "several = isinstance(value, list | tuple)",
            "several = isinstance(value, list)",
            "A tuple may hold Modules and parameters as a list may.",
        ),
        Mistake(
            "positions counted from one",
            PARTS,
            PARTS.replace("enumerate(value)", "enumerate(value, 1)"),
            "The positions of a list are counted from 0.",
        ),
        Mistake(
            "position without a dot",
            PARTS,
            PARTS.replace("{attribute}.{i}", "{attribute}{i}"),
            "A list's name and the position are joined by a dot.",
        ),
        Mistake(
            "shared parameters twice",
            "if all(parameter is not other for other in found.values()):",
            "if True:",
            "A parameter that is shared would be stepped twice: list it once.",
        ),
        Mistake(
            "equal parameters taken for one",
            "if all(parameter is not other for other in found.values()):",
            "if all(parameter.data.shape != other.data.shape or not torch.equal("
            "parameter.data, other.data) for other in found.values()):",
            "Two parameters may hold the same numbers and still be two: compare identities.",
        ),
        Mistake(
            "names in alphabetical order",
            "for attribute, value in vars(self).items():",
            "for attribute, value in sorted(vars(self).items()):",
            "The order is that in which the attributes were assigned.",
        ),
        *slips(
            "return list(self.named_parameters().values())",
            """
            names in place of parameters
                return list(self.named_parameters())
            parameters() lists the Variables themselves.

            its own parameters only
                return [
                            v for v in vars(self).values()
                            if isinstance(v, Variable) and v.requires_grad
                        ]
            parameters() lists those of the parts too.
            """,
        ),
        *slips(
            "parameter.grad = None",
            """
            gradients set to zeros
                parameter.grad = torch.zeros_like(parameter.data)
            A cleared gradient is None here, as it was before the first backward.

            gradients not cleared
                pass
            Gradients add up from call to call, so that a training loop needs them cleared.
            """,
        ),
        Mistake.edits_of(
            "first answer kept",
            [
                (
                    "        found: dict[str, Variable] = {}\n",
                    '        if "_kept" in vars(self):\n            return self._kept\n'
                    "        found: dict[str, Variable] = {}\n",
                ),
                ("        return found\n", "        self._kept = found\n        return found\n"),
            ],
            "A Module may get parameters later, itself or in a part: look each time that you are "
            "asked.",
        ),
        Mistake(
            "only its own gradients cleared",
            "for parameter in self.parameters():",
            "for parameter in [v for v in vars(self).values() if isinstance(v, Variable)]:",
            "The parts have parameters too: clear the gradients of all that are listed.",
        ),
        Mistake(
            "last name kept",
            "                    if all(parameter is not other for other in found.values()):\n",
            "                    found = {k: o for k, o in found.items() if o is not parameter}\n"
            "                    if parameter is not None:\n",
            "A parameter that is met again keeps its first name and its first place.",
        ),
    ],
    variants=variants(
        """
        a generator of pairs
            class Module:
                def _pairs(self, thing, name):
                    if isinstance(thing, Variable):
                        if thing.requires_grad:
                            yield name, thing
                    elif isinstance(thing, Module):
                        for key, value in thing.__dict__.items():
                            yield from self._pairs(value, f"{name}.{key}" if name else key)
                    elif isinstance(thing, (list, tuple)):
                        for i, value in enumerate(thing):
                            yield from self._pairs(value, f"{name}.{i}")
                def named_parameters(self, prefix=""):
                    seen, found = set(), {}
                    for name, p in self._pairs(self, ""):
                        if id(p) not in seen:
                            seen.add(id(p))
                            found[prefix + name] = p
                    return found
                def parameters(self):
                    return [p for _, p in self.named_parameters().items()]
                def zero_grad(self):
                    for p in self.named_parameters().values():
                        p.grad = None
                def forward(self, x):
                    raise NotImplementedError("subclasses have one")
                def __call__(self, x):
                    return self.forward(x)

        parts collected first
            class Module:
                def named_parameters(self, prefix=""):
                    entries = []
                    for name, value in self.__dict__.items():
                        if isinstance(value, (list, tuple)):
                            entries.extend((name + "." + str(i), v) for i, v in enumerate(value))
                        else:
                            entries.append((name, value))
                    result = {}
                    for name, value in entries:
                        new = {}
                        if isinstance(value, Variable) and value.requires_grad:
                            new[prefix + name] = value
                        if isinstance(value, Module):
                            new.update(value.named_parameters(prefix + name + "."))
                        known = {id(p) for p in result.values()}
                        result.update({k: p for k, p in new.items() if id(p) not in known})
                    return result
                def parameters(self):
                    return list({id(p): p for p in self.named_parameters().values()}.values())
                def zero_grad(self):
                    for p in self.parameters():
                        p.grad = None
                def forward(self, x):
                    raise TypeError("no forward")
                def __call__(self, x):
                    return self.forward(x)

        a walk with a stack
            class Module:
                def named_parameters(self, prefix=""):
                    found, stack = {}, [(prefix[:-1] if prefix else "", self)]
                    while stack:
                        name, thing = stack.pop()
                        if isinstance(thing, Module):
                            inner = list(vars(thing).items())
                        elif isinstance(thing, list | tuple):
                            inner = [(str(i), value) for i, value in enumerate(thing)]
                        else:
                            fits = isinstance(thing, Variable) and thing.requires_grad
                            if fits and not any(thing is p for p in found.values()):
                                found[name] = thing
                            continue
                        for key, value in reversed(inner):
                            stack.append((f"{name}.{key}" if name else key, value))
                    return found
                def parameters(self):
                    return list(self.named_parameters().values())
                def zero_grad(self):
                    for p in self.parameters():
                        p.grad = None
                def forward(self, x):
                    raise TypeError("no forward")
                def __call__(self, x):
                    return self.forward(x)
        """
    ),
)


@module.test(
    points=1.5,
    cases=[
        Case("parameters, constants and other attributes", flat_module, three),
        Case("no parameters", empty_module, lambda _: {}),
        Case("Modules within Modules", nested_module, three),
        Case("Modules and parameters in lists and tuples", module_of_lists, three),
    ],
)
def test_finds_every_parameter(submission, case):
    """Finds every parameter, by name and in order"""
    submission.matches_reference(case)


@module.test(
    points=1,
    cases=[
        Case("shared parameters", shared_parameters, two_tensors),
        Case("clearing the gradients", cleared, two_tensors),
        Case("a parameter that comes later", assigned_later, two_tensors),
        Case("a Module with a forward of its own", called, two_tensors),
    ],
)
def test_lists_each_once_and_clears(submission, case):
    """Lists shared parameters once, and clears gradients"""
    submission.matches_reference(case)


@module.test(points=0.5, cases=[Case("Modules in Modules", nested_module, three)])
def test_module_on_device(submission, case):
    """Works on whichever device its parameters are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- Linear


def drawn(impl, seed, other):
    def layer(number, n_in=40, n_out=60):
        return impl(n_in, n_out, generator=torch.Generator().manual_seed(number))

    torch.manual_seed(other)
    first, again, different = layer(seed), layer(seed), layer(seed + 1)
    left_alone = torch.rand(3)
    unseeded, another = impl(4, 3), impl(4, 3)
    return {
        "weights": first.weight.data.flatten(),
        "weights again": again.weight.data.flatten(),
        "other weights": different.weight.data.flatten(),
        "weights without a generator": unseeded.weight.data.flatten(),
        "weights without a generator again": another.weight.data.flatten(),
        "shape of the weight": str(tuple(first.weight.data.shape)),
        "shape of the bias": str(tuple(first.bias.data.shape)),
        "shape of a weight drawn without a generator": str(tuple(unseeded.weight.data.shape)),
        "the bias is zero": bool((first.bias.data == 0).all()),
        "what PyTorch's own generator draws next": left_alone,
        "the names": ", ".join(first.named_parameters()),
        "the weight requires a gradient": first.weight.requires_grad,
        "the bias requires a gradient": first.bias.requires_grad,
    }


def facts_of_layer(outcome, _inputs):
    facts = dict(outcome)
    first, again, other, free, free_again = (
        facts.pop(name)
        for name in (
            "weights",
            "weights again",
            "other weights",
            "weights without a generator",
            "weights without a generator again",
        )
    )
    weights = first.double()
    unit = weights * 40**0.5  # uniform in [-1, 1): variance 1/3, of its square 4/45
    n, square = unit.numel(), unit.square()
    return {
        **facts,
        "the generator decides the weights": first.equal(again) and not first.equal(other),
        "without a generator every layer is another": not free.equal(free_again),
        "how far the weights reach, in bounds": round(float(unit.abs().max()), 1),
        "the weights lie on both sides of zero alike": bool(
            unit.mean().abs() < 6 * (1 / 3 / n) ** 0.5
        ),
        "the weights are spread as promised": bool(
            (square.mean() - 1 / 3).abs() < 6 * (4 / 45 / n) ** 0.5
        ),
        # 1.8 for a uniform distribution and 3 for a normal one; an error of 0.02 at this n.
        "the weights are spread evenly": bool(
            (square.square().mean() / square.mean() ** 2 - 1.8).abs() < 0.4
        ),
    }


def applied(impl, x, W, b, cotangent):
    V = beside(impl)
    layer = impl(W.shape[0], W.shape[1])
    layer.weight.data, layer.bias.data = W, b
    x = V(x, requires_grad=True)
    out = layer(x)
    values = out.data.clone()
    out.backward(cotangent)
    return {
        "the output": values,
        "the gradient of x": x.grad,
        "the gradient of the weight": layer.weight.grad,
        "the gradient of the bias": layer.bias.grad,
    }


def layer_inputs(*batch, n_in=3, n_out=4):
    return lambda make: {
        "x": make.normal(*batch, n_in),
        "W": make.normal(n_in, n_out),
        "b": make.normal(n_out),
        "cotangent": make.normal(*batch, n_out),
    }


WEIGHT = "self.weight = Variable((2 * weight - 1) * bound, requires_grad=True)"
BIAS = "self.bias = Variable(torch.zeros(out_features), requires_grad=True)"

linear = Exercise(
    "Linear",
    forbids=["torch.nn.Linear", "torch.nn.functional.linear"],
    mistakes=[
        *slips(
            WEIGHT,
            """
            weights of one sign
                self.weight = Variable(weight * bound, requires_grad=True)
            The weights lie on both sides of zero.

            normal weights
                draw = torch.randn(in_features, out_features, generator=generator)
                        self.weight = Variable(draw * bound, requires_grad=True)
            The weights are drawn uniformly, within the bound.

            weights twice as wide
                self.weight = Variable((4 * weight - 2) * bound, requires_grad=True)
            The bound is 1/√in_features on either side of zero: yours is twice that.

            half of the range
                self.weight = Variable((weight - 0.5) * bound, requires_grad=True)
            The bound is 1/√in_features on either side of zero: yours is half of that.

            weight that requires no gradient
                self.weight = Variable((2 * weight - 1) * bound)
            A parameter requires a gradient: otherwise it is a constant.
            """,
        ),
        *slips(
            BIAS,
            """
            bias drawn too
                self.bias = Variable(torch.rand(out_features) * bound, requires_grad=True)
            The biases begin at zero.

            bias that requires no gradient
                self.bias = Variable(torch.zeros(out_features))
            The bias is a parameter too: it requires a gradient.

            bias for every input
                self.bias = Variable(torch.zeros(in_features), requires_grad=True)
            There is one bias for each output.
            """,
        ),
        *slips(
            "bound = in_features**-0.5",
            """
            bound without the root
                bound = 1 / in_features
            The bound is one over the square root of in_features.

            bound from the outputs
                bound = out_features**-0.5
            The bound is taken from the number of inputs.
            """,
        ),
        *slips(
            "weight = torch.rand(in_features, out_features, generator=generator)",
            """
            generator ignored
                weight = torch.rand(in_features, out_features)
            Draw from the generator that was handed in.

            weight lying on its side
                weight = torch.rand(out_features, in_features, generator=generator)
            The weight is (in_features, out_features) here, unlike nn.Linear's.
            """,
        ),
        *slips(
            "return x @ self.weight + self.bias",
            """
            bias left out
                return x @ self.weight
            The bias is added to the product.

            bias subtracted
                return x @ self.weight - self.bias
            The bias is added to the product.

            history cut
                return Variable(x.data @ self.weight.data + self.bias.data)
            Calculate with the Variables themselves: their data alone have no history.

            input cut off
                return x.detach() @ self.weight + self.bias
            The gradient has to reach the layers before this one: leave x as it is.
            """,
        ),
        *slips(
            BIAS,
            """
            biases drawn
                draw = 2 * torch.rand(out_features, generator=generator) - 1
                        self.bias = Variable(draw * bound, requires_grad=True)
            The biases begin at zero: only the weights are drawn.

            biases as a row of a matrix
                self.bias = Variable(torch.zeros(1, out_features), requires_grad=True)
            The bias has one dimension, (out_features,): broadcasting puts the other in front.
            """,
        ),
        Mistake(
            "same draw without a generator",
            "        weight = torch.rand",
            "        generator = generator or torch.Generator().manual_seed(0)\n        weight = "
            "torch.rand",
            "Without a generator PyTorch's own draws: yours starts anew each time, so that all "
            "layers are "
            "alike.",
        ),
        Mistake.edits_of(
            "bias assigned first",
            [
                (
                    "        weight = torch.rand",
                    "        self.bias = Variable(torch.zeros(out_features), requires_grad=True)\n"
                    "        weight = torch.rand",
                ),
            ],
            "Parameters are listed in the order in which they were assigned: the weight comes "
            "first.",
        ),
    ],
    variants=variants(
        """
        uniform_
            class Linear(Module):
                def __init__(self, in_features, out_features, generator=None):
                    super().__init__()
                    bound = 1 / math_sqrt(in_features)
                    weight = torch.empty(in_features, out_features)
                    weight.uniform_(-bound, bound, generator=generator)
                    self.weight = Variable(weight, requires_grad=True)
                    self.bias = Variable(torch.zeros((out_features,)), True)
                def forward(self, x):
                    out = x @ self.weight
                    return out + self.bias
            def math_sqrt(x):
                return x**0.5

        other names in between
            class Linear(Module):
                def __init__(self, in_features, out_features, generator=None):
                    shape, limit = (in_features, out_features), torch.tensor(in_features).rsqrt()
                    unit = torch.rand(shape, generator=generator)
                    weight = torch.lerp(-limit, limit, unit)
                    self.weight = Variable(weight, requires_grad=True)
                    self.bias = Variable(weight.new_zeros(out_features), requires_grad=True)
                def forward(self, x):
                    return self.bias + x @ self.weight
        """
    ),
)


@linear.test(
    points=1,
    cases=[
        Case(
            "two layers of one seed",
            drawn,
            lambda make: {"seed": make.seed() % 10**6, "other": make.seed() % 10**6},
            observe=facts_of_layer,
        )
    ],
)
def test_begins_as_promised(submission, case):
    """Begins with weights and biases as promised"""
    submission.matches_reference(case)


@linear.test(
    points=1,
    cases=[
        Case("a batch", applied, layer_inputs(5)),
        Case("a batch of batches", applied, layer_inputs(2, 5)),
        Case("as many outputs as inputs", applied, layer_inputs(4, n_in=3, n_out=3)),
    ],
)
def test_maps_its_input(submission, case):
    """Maps its input, and passes gradients to all of its parts"""
    submission.matches_reference(case)


@linear.test(points=0.5, cases=[Case("a batch", applied, layer_inputs(4))])
def test_linear_on_device(submission, case):
    """Works on whichever device its input and its parameters are on"""
    submission.matches_on_device(case)
