"""Sinusoidal encoding: Vaswani et al. (2017), https://arxiv.org/abs/1706.03762; learned positions;
rotary embeddings: Su et al. (2021), https://arxiv.org/abs/2104.09864; linear biases: Press et al.
(2021), https://arxiv.org/abs/2108.12409.

Oracles: rotations as complex numbers; the shift by solving for it; tables entry by entry. What has
no tensor among its arguments is judged in float32, PyTorch's default.
"""

import math
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
from autograder.spec.tables import edits, slips, variants

SHORT_CUTS = [
    "torch.nn.functional.scaled_dot_product_attention",
    "torch.nn.functional.multi_head_attention_forward",
    "torch.nn.MultiheadAttention",
    "torch.nn.attention",
]


def case(title, scenario, inputs, loosen=10.0):
    return Case(title, scenario, inputs, loosen=loosen)


def plain(title, inputs, scenario=None, loosen=10.0):
    """A case without tensors among its inputs."""
    return Case(title, scenario or called, inputs, dtypes=(torch.float32,), loosen=loosen)


def called(impl, **inputs):
    return impl(*inputs.values())


def by_name(impl, **inputs):
    return impl(**inputs)


def refuses(impl, several):
    told = {}
    for sizes in several:
        name = ", ".join(f"{key}={value}" for key, value in sizes.items())
        told[name] = raised(partial(impl, **sizes), ValueError)
    return told


# ---------------------------------------------------------------------- sinusoidal_encoding


def encoding_by_rotations(length, d_model, base=10000.0, device=None):
    """Imaginary and real parts of a rotation, in double precision."""
    if d_model % 2:
        raise ValueError("an odd number of features has no pairs")
    speeds = torch.tensor(
        [base ** (-2 * i / d_model) for i in range(d_model // 2)], dtype=torch.float64
    )
    angles = torch.outer(torch.arange(length, dtype=torch.float64), speeds)
    turned = torch.polar(torch.ones_like(angles), angles)
    pairs = torch.view_as_real(turned).flip(-1).flatten(1)
    return pairs.to(device=device, dtype=torch.get_default_dtype())


def on_the_device_of(impl, x, **inputs):
    return impl(*inputs.values(), device=x.device)


ANGLES = "angles = positions / base**exponents"
EXPONENTS = "exponents = torch.arange(0, d_model, 2, device=device) / d_model"
PAIRED = "torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(start_dim=1)"
COUNTED = "positions = torch.arange(length, device=device).unsqueeze(1)"

sinusoidal_encoding = Exercise(
    "sinusoidal_encoding",
    oracle=encoding_by_rotations,
    mistakes=[
        *slips(
            PAIRED,
            """
            sines first, then cosines
                torch.cat([angles.sin(), angles.cos()], dim=1)
            All sines stand on the left and all cosines on the right. They should take turns: sines
            in the even columns, cosines in the odd ones.

            cosines in the even columns
                torch.stack([angles.cos(), angles.sin()], dim=-1).flatten(start_dim=1)
            Sines and cosines have changed places: columns are counted from 0, and the even ones
            hold the sines.

            nothing but sines
                torch.stack([angles.sin(), angles.sin()], dim=-1).flatten(start_dim=1)
            The odd columns hold cosines.

            transposed
                torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(start_dim=1).T
            A row belongs to a position, a column to a feature; yours are exchanged.

            a batch of one
                torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(start_dim=1)[None]
            The result has two dimensions, (length, d_model), and no batch.

            scaled down
                torch.stack([angles.sin(), angles.cos()], -1).flatten(start_dim=1) / d_model**0.5
            Sines and cosines stay as they are, between −1 and 1.
            """,
        ),
        *slips(
            EXPONENTS,
            """
            i instead of 2i
                exponents = torch.arange(d_model // 2, device=device) / d_model
            The exponent of pair i is 2i / d_model; yours grows half as fast.

            2i over half of the features
                exponents = torch.arange(0, d_model, 2, device=device) / (d_model // 2)
            The exponent is divided by d_model, all of the features.

            from 1 to the base exactly
                exponents = torch.arange(0, d_model, 2, device=device) / max(d_model - 2, 1)
            The last pair's exponent is a little less than 1: divide by d_model, as the paper does.
            (The authors' own code divided by d_model − 2.)

            pairs counted from 1
                exponents = torch.arange(2, d_model + 1, 2, device=device) / d_model
            Pairs are counted from 0: the first one turns by one radian a position.

            slowest first
                exponents = torch.arange(0, d_model, 2, device=device).flip(0) / d_model
            The fastest pair comes first: its exponent is 0.

            all pairs alike
                exponents = torch.zeros(d_model // 2, device=device)
            Every pair has a speed of its own.
            """,
        ),
        *slips(
            ANGLES,
            """
            base ignored
                angles = positions / 10000.0**exponents
            The argument base has no effect.

            multiplied by the power
                angles = positions * base**exponents
            Later pairs are slower: divide by the power, or make its exponent negative.

            turns instead of radians
                angles = 2 * torch.pi * positions / base**exponents
            The angle is the position times the speed, without a factor of 2π.

            e to the exponent
                angles = positions / (base * exponents).clamp_min(1.0)
            The base is taken to the power of the exponent, not multiplied by it.
            """,
        ),
        *slips(
            COUNTED,
            """
            positions from 1
                positions = torch.arange(1, length + 1, device=device).unsqueeze(1)
            The first position is 0, and its row is 0, 1, 0, 1, …

            positions as a fraction of the length
                positions = torch.arange(length, device=device).unsqueeze(1) / length
            A position's row should not depend on how long the sequence is.
            """,
        ),
        *edits(
            [
                (
                    "odd sizes accepted",
                    "if d_model % 2 != 0:",
                    "if False:",
                    "An odd d_model should raise a ValueError.",
                ),
            ]
        ),
        Mistake.edits_of(
            "an angle of its own for each cosine",
            [
                (EXPONENTS, "exponents = torch.arange(d_model, device=device) / d_model"),
                (
                    PAIRED,
                    "torch.stack([angles[:, ::2].sin(), angles[:, 1::2].cos()], -1).flatten(1)",
                ),
            ],
            "The exponent of a cosine is that of the sine before it: both columns of a pair have "
            "the same angle.",
        ),
    ],
    variants=variants(
        """
        filled in, with exp and log
            def sinusoidal_encoding(length, d_model, base=10000.0, device=None):
                if d_model % 2:
                    raise ValueError("d_model must be even")
                P = torch.zeros(length, d_model, device=device)
                n = torch.arange(0, length, device=device).float()[:, None]
                even = torch.arange(0, d_model, 2, device=device).float()
                speed = torch.exp(even * -torch.tensor(base, device=device).log() / d_model)
                P[:, 0::2] = torch.sin(n * speed)
                P[:, 1::2] = torch.cos(n * speed)
                return P

        row by row
            def sinusoidal_encoding(length, d_model, base=10000.0, device=None):
                if d_model % 2 == 1:
                    raise ValueError(d_model)
                rows = []
                speed = torch.tensor(
                    [base ** (-2 * i / d_model) for i in range(d_model // 2)], device=device
                )
                for n in range(length):
                    pair = [torch.sin(n * speed), torch.cos(n * speed)]
                    rows.append(torch.stack(pair).T.reshape(-1))
                return torch.stack(rows)

        a cosine is a sine further on
            def sinusoidal_encoding(length, d_model, base=10000.0, device=None):
                if d_model & 1:
                    raise ValueError("odd")
                column = torch.arange(d_model, device=device)
                speed = torch.pow(1.0 / base, (column - column % 2) / d_model)
                angle = torch.outer(torch.arange(length, device=device), speed)
                return torch.sin(angle + torch.pi / 2 * (column % 2))
        """
    ),
)


def a_length(make, d_model=8, base=None):
    sizes = {"length": make.choice([11, 13]), "d_model": d_model}
    return sizes if base is None else {**sizes, "base": make.number(*base)}


@sinusoidal_encoding.test(
    points=1.5,
    cases=[
        plain("the usual base", a_length),
        plain("another base", lambda make: a_length(make, 12, (20.0, 90.0)), by_name),
        plain("as many positions as features", lambda _: {"length": 10, "d_model": 10}),
        plain("two features", lambda make: a_length(make, 2)),
        plain("one position", lambda _: {"length": 1, "d_model": 6}),
    ],
)
def test_encodes_positions(submission, case):
    """Encodes positions in sines and cosines"""
    submission.matches_reference(case)


@sinusoidal_encoding.test(
    points=0.5,
    cases=[
        plain(
            "odd numbers of features",
            lambda make: {
                "several": [
                    {"length": 4, "d_model": make.choice([5, 7])},
                    {"length": 3, "d_model": 6},
                ]
            },
            refuses,
        )
    ],
)
def test_refuses_odd_sizes(submission, case):
    """Refuses an odd number of features"""
    submission.matches_reference(case)


@sinusoidal_encoding.test(
    points=0.5,
    cases=[
        plain(
            "on the device asked for",
            lambda make: {"x": make.normal(2), "length": 7, "d_model": 6, "base": 50.0},
            on_the_device_of,
        )
    ],
)
def test_encoding_is_made_on_the_device(submission, case):
    """Makes the encoding on the device asked for"""
    submission.matches_on_device(case)


# ----------------------------------------------------------------------------- shift_matrix


def shift_by_solving(offset, d_model, base=10000.0, device=None):
    """Pair by pair, from two positions and where they should go."""
    blocks = []
    for i in range(d_model // 2):
        speed = base ** (-2 * i / d_model)
        angles = [0.0, math.pi / 2 / speed]  # positions at which the pair is (0, 1) and (1, 0)
        here, there = (
            torch.tensor(
                [
                    [math.sin((n + moved) * speed) for n in angles],
                    [math.cos((n + moved) * speed) for n in angles],
                ],
                dtype=torch.float64,
            )
            for moved in (0, offset)
        )
        blocks.append(torch.linalg.solve(here, there, left=False))
    matrix = torch.block_diag(*blocks)
    return matrix.to(device=device, dtype=torch.get_default_dtype())


SHIFT_ANGLES = "angles = offset / base**exponents"
SHIFT = "return torch.diag(cos) + torch.diag(sin, 1) - torch.diag(sin, -1)"

shift_matrix = Exercise(
    "shift_matrix",
    oracle=shift_by_solving,
    mistakes=[
        *slips(
            SHIFT,
            """
            moves back
                return torch.diag(cos) - torch.diag(sin, 1) + torch.diag(sin, -1)
            The matrix moves in the opposite direction. A row of the encoding begins with the sine,
            and so the signs are not those of the rotation of a point (cos, sin).

            both signs positive
                return torch.diag(cos) + torch.diag(sin, 1) + torch.diag(sin, -1)
            Look at the addition theorem of the cosine again: one of its terms is negative.

            a reflection
                sign = torch.ones_like(cos)
                    sign[1::2] = -1
                    return torch.diag(cos * sign) + torch.diag(sin, 1) + torch.diag(sin, -1)
            Both entries on the diagonal are the same cosine; the signs of the sines differ.

            sines on the diagonal
                s = angles.sin().repeat_interleave(2)
                    c = torch.stack([angles.cos(), torch.zeros_like(angles)], dim=-1).flatten()[:-1]
                    return torch.diag(s) + torch.diag(c, 1) - torch.diag(c, -1)
            Moving by nothing should give the identity: the cosines belong on the diagonal.

            halves instead of pairs
                c, s = torch.diag(angles.cos()), torch.diag(angles.sin())
                    return torch.cat([torch.cat([c, s], 1), torch.cat([-s, c], 1)])
            Sine and cosine of a pair are neighbours in the encoding, so the blocks of 2×2 stand on
            the diagonal.

            only the sines moved
                keep = torch.eye(d_model, device=device)
                    keep[0::2] = (torch.diag(cos) + torch.diag(sin, 1))[0::2]
                    return keep
            The cosines move as well: the odd rows follow the second addition theorem.

            added to the identity
                keep = torch.eye(d_model, device=device)
                    return keep + torch.diag(cos) + torch.diag(sin, 1) - torch.diag(sin, -1)
            The blocks are added to an identity matrix; where nothing else stands, M is 0.

            diagonal only
                return torch.diag(cos)
            Each new number is made of both old numbers of its pair.

            the encoding itself
                return torch.diag(sin, 1) - torch.diag(sin, -1)
            The cosines are missing from the diagonal.
            """,
        ),
        *slips(
            SHIFT_ANGLES,
            """
            base ignored
                angles = offset / 10000.0**exponents
            The argument base has no effect.

            offset ignored
                angles = 1 / base**exponents
            The argument offset has no effect: every pair turns by offset times its speed.

            multiplied by the power
                angles = offset * base**exponents
            Later pairs are slower: divide by the power, or make its exponent negative.

            only forwards
                angles = abs(offset) / base**exponents
            A negative offset moves back.

            all pairs at the first speed
                angles = offset / base ** (0 * exponents)
            Every pair turns at a speed of its own, that of the encoding.

            slowest first
                angles = (offset / base**exponents).flip(0)
            The fastest pair comes first, as in the encoding.

            i instead of 2i
                angles = offset / base ** (exponents / 2)
            The exponent of pair i is 2i / d_model; yours grows half as fast.

            one too many
                angles = (offset + 1) / base**exponents
            Moving by 0 should leave everything where it is: the angle is offset times the speed.
            """,
        ),
    ],
    variants=variants(
        """
        block by block
            def shift_matrix(offset, d_model, base=10000.0, device=None):
                M = torch.zeros(d_model, d_model, device=device)
                for i in range(0, d_model, 2):
                    angle = torch.tensor(offset * base ** (-i / d_model), device=device)
                    M[i, i] = M[i + 1, i + 1] = torch.cos(angle)
                    M[i, i + 1] = torch.sin(angle)
                    M[i + 1, i] = -torch.sin(angle)
                return M

        as a block diagonal
            def shift_matrix(offset, d_model, base=10000.0, device=None):
                pairs = torch.arange(d_model // 2, device=device)
                angles = offset * torch.pow(1 / base, 2 * pairs / d_model)
                c, s = torch.cos(angles), torch.sin(angles)
                blocks = torch.stack([c, s, -s, c], dim=1).view(-1, 2, 2)
                return torch.block_diag(*blocks)

        a power of the matrix for one step
            def shift_matrix(offset, d_model, base=10000.0, device=None):
                from math import cos, sin
                step = torch.zeros(d_model, d_model, device=device)
                for i in range(0, d_model, 2):
                    c, s = cos(base ** (-i / d_model)), sin(base ** (-i / d_model))
                    step[i, i], step[i, i + 1], step[i + 1, i], step[i + 1, i + 1] = c, s, -s, c
                if offset < 0:
                    step = step.T
                total = torch.eye(d_model, device=device)
                for _ in range(abs(offset)):
                    total = step @ total
                return total

        by strided views
            def shift_matrix(offset, d_model, base=10000.0, device=None):
                even = torch.arange(0, d_model, 2, device=device)
                angles = offset / base ** (even / d_model)
                M = torch.eye(d_model, device=device)
                M[even, even] = M[even + 1, even + 1] = angles.cos()
                M[even, even + 1], M[even + 1, even] = angles.sin(), -angles.sin()
                return M
        """
    ),
)


@shift_matrix.test(
    points=1.5,
    cases=[
        plain("forwards", lambda make: {"offset": make.choice([3, 4]), "d_model": 8}),
        plain("backwards", lambda make: {"offset": make.choice([-2, -5]), "d_model": 6}),
        plain(
            "another base",
            lambda make: {"offset": 2, "d_model": 10, "base": make.number(20.0, 90.0)},
            by_name,
        ),
        plain("by nothing", lambda _: {"offset": 0, "d_model": 6}),
        plain("a single pair", lambda make: {"offset": make.choice([2, 4]), "d_model": 2}),
    ],
)
def test_moves_encodings(submission, case):
    """Moves every position by the offset"""
    submission.matches_reference(case)


@shift_matrix.test(
    points=0.5,
    cases=[
        plain(
            "on the device asked for",
            lambda make: {"x": make.normal(2), "offset": 3, "d_model": 6, "base": 50.0},
            on_the_device_of,
        )
    ],
)
def test_shift_is_made_on_the_device(submission, case):
    """Makes the matrix on the device asked for"""
    submission.matches_on_device(case)


# ------------------------------------------------------------------------- LearnedPositions


class PositionsByIndexing(nn.Module):
    def __init__(self, max_len, d_model):
        super().__init__()
        self.embedding = nn.Embedding(max_len, d_model)

    def forward(self, x, start=0):
        rows = self.embedding.weight[start:]
        if rows.size(0) < x.size(1):
            raise ValueError("too few positions")
        return torch.stack([x[:, n] + rows[n] for n in range(x.size(1))], dim=1)


def marked(impl, sizes, table, x, start=None):
    positions = load_weights(impl(*sizes), {"embedding.weight": table})
    return positions(x) if start is None else positions(x, start)


def marked_twice(impl, sizes, table, x, start):
    positions = load_weights(impl(*sizes), {"embedding.weight": table})
    return {"first call": positions(x[:, :2], start), "second call": positions(x)}


def marked_backward(impl, sizes, table, x, start, cotangent):
    positions = load_weights(impl(*sizes), {"embedding.weight": table})
    leaf = x.detach().clone().requires_grad_()
    output = positions(leaf, start=start)
    found = gradients(output, [leaf, positions.embedding.weight], cotangent)
    return dict(zip(("gradient of x", "gradient of the table"), found, strict=True))


def too_far(impl, sizes, table, several):
    positions = load_weights(impl(*sizes), {"embedding.weight": table})
    told = {}
    for length, start in several:
        x = table.new_ones(2, length, table.size(1))
        name = f"{length} positions from {start} on, of {sizes[0]}"
        told[name] = raised(partial(positions, x, start), ValueError)
    return told


def sequence(make, *, batch=3, length=4, max_len=9, d_model=5, start=None):
    inputs = {
        "sizes": [max_len, d_model],
        "table": make.normal(max_len, d_model),
        "x": make.normal(batch, length, d_model),
    }
    return inputs if start is None else {**inputs, "start": start}


LOOKED_UP = "positions = torch.arange(start, end, device=x.device)"
MARKED = "return x + vectors"
TOO_LONG = "if end > max_len:"

LearnedPositions = Exercise(
    "LearnedPositions",
    oracle=PositionsByIndexing,
    mistakes=[
        *slips(
            LOOKED_UP,
            """
            start ignored
                positions = torch.arange(x.size(1), device=x.device)
            The vectors are always those of the first positions. A sequence that is read in pieces
            goes on at start.

            positions from 1
                positions = (torch.arange(start, end, device=x.device) + 1) % max_len
            Positions are counted from 0: row 0 of the table is that of the first one.

            positions over the batch where the sizes fit
                positions = torch.arange(start, end, device=x.device)
                        positions = positions[:, None] if x.size(0) == x.size(1) else positions
            Where there are as many sequences as positions, the positions run over the batch. They
            run along the sequence.

            positions run over the batch
                positions = torch.arange(start, start + x.size(0), device=x.device)[:, None]
            The positions run along the sequence, the second dimension, not along the batch.

            the same position for all
                positions = torch.full((x.size(1),), start, device=x.device)
            Every element of the sequence has a position of its own, one further than the last.

            counted backwards
                positions = torch.arange(start, end, device=x.device).flip(0)
            The first element has the first position; yours are in reverse order.

            counted from the end of the table
                positions = torch.arange(max_len - x.size(1), max_len, device=x.device)
            The first element has the position start; yours take the last rows of the table.

            one position before start
                positions = (torch.arange(start, end, device=x.device) - 1).clamp(min=0)
            The first element stands at start itself; yours stand one position before.

            start counted twice
                positions = (start + torch.arange(start, end, device=x.device)) % max_len
            The positions begin at start; yours begin at twice that.
            """,
        ),
        *slips(
            MARKED,
            """
            only the positions
                return vectors.expand_as(x)
            The vectors are added to x; yours are returned alone.

            multiplied
                return x * vectors
            The vectors are added to x, not multiplied with it.

            changed in place
                return x.add_(vectors)
            The caller's x has changed. Make a new tensor: the arguments belong to the caller.

            scaled
                return x * x.size(-1) ** 0.5 + vectors
            x goes in as it is. (Scaling embeddings by the root of d_model is the embedding layer's
            business, in the models that do it.)

            averaged
                return (x + vectors) / 2
            The vectors are added to x; nothing is divided.

            x cut from the graph
                return x.detach() + vectors
            No gradient passes back to x: it is detached, so that what made it could not be learned.

            the table scaled
                return x + 0.02 * vectors
            The vectors are added as they stand in the table, without a factor.

            table cut from the graph
                return x + vectors.detach()
            No gradient reaches the table, and so nothing would be learned: do not detach its rows.
            """,
        ),
        *slips(
            TOO_LONG,
            """
            too long a sequence not refused
                if False:
            Where the table has no row for a position, a ValueError should be raised.

            the last position refused
                if end >= max_len:
            The last row of the table may be used: positions go up to max_len − 1.

            start left out of the check
                if x.size(1) > max_len:
            It is the last position that must be in the table, start included.

            """,
        ),
        Mistake.edits_of(
            "beyond the table, the last row again",
            [(TOO_LONG, "if False:"), (LOOKED_UP, f"{LOOKED_UP}.clamp(max=max_len - 1)")],
            "Beyond the end of the table you use the last row again. A ValueError tells whoever "
            "uses it that the sequence is too long.",
        ),
        Mistake.edits_of(
            "beyond the table, a short slice",
            [
                (TOO_LONG, "if False:"),
                ("self.embedding(positions)", "self.embedding.weight[start:end]"),
            ],
            "A slice that goes beyond the table is merely shorter, and then fails to fit x, or is "
            "broadcast. A ValueError tells whoever uses it that the sequence is too long.",
        ),
        Mistake(
            "goes on where it stopped",
            "        end = start + x.size(1)",
            "        start = start or getattr(self, 'seen', 0) % 5\n"
            "        end = self.seen = start + x.size(1)",
            "The module remembers where the last call stopped and goes on from there. start alone "
            "says where a sequence begins.",
        ),
        Mistake.edits_of(
            "a parameter instead of an embedding",
            [
                ("nn.Embedding(max_len, d_model)", "nn.Parameter(torch.randn(max_len, d_model))"),
                ("self.embedding.num_embeddings", "self.embedding.size(0)"),
                ("self.embedding(positions)", "self.embedding[positions]"),
            ],
            "The attribute embedding should be an nn.Embedding, so that its parameter is "
            "embedding.weight.",
        ),
    ],
    variants=[
        Variant.edits_of(
            "by slicing the weight",
            [("= self.embedding(positions)  #", "= self.embedding.weight[start:end]  #")],
        ),
        *variants(
            """
            lengths kept
                class LearnedPositions(nn.Module):
                    def __init__(self, max_len, d_model):
                        super().__init__()
                        self.max_len = max_len
                        self.embedding = nn.Embedding(num_embeddings=max_len, embedding_dim=d_model)
                    def forward(self, x, start=0):
                        batch, length, _ = x.shape
                        if start + length > self.max_len:
                            raise ValueError("the sequence is too long")
                        index = torch.arange(length, device=x.device) + start
                        index = index.unsqueeze(0).expand(batch, -1)
                        return torch.add(self.embedding(index), x)

            numbers of the positions in a buffer, as BERT keeps them
                class LearnedPositions(nn.Module):
                    def __init__(self, max_len, d_model):
                        super().__init__()
                        self.embedding = nn.Embedding(max_len, d_model)
                        self.register_buffer("position_ids", torch.arange(max_len))
                    def forward(self, x, start=0):
                        ids = self.position_ids[start : start + x.size(1)]
                        if ids.numel() < x.size(1):
                            raise ValueError("no vector for some position")
                        return x + self.embedding(ids)

            by the error of indexing
                class LearnedPositions(nn.Module):
                    def __init__(self, max_len, d_model):
                        super().__init__()
                        self.embedding = nn.Embedding(max_len, d_model)
                    def forward(self, x, start=0):
                        rows = self.embedding.weight.narrow(0, 0, self.embedding.num_embeddings)
                        rows = rows[start : start + x.size(1)]
                        if len(rows) != x.shape[1]:
                            raise ValueError("there is no vector for some position")
                        out = x.clone()
                        out += rows
                        return out
            """
        ),
    ],
)


@LearnedPositions.test(
    points=1,
    cases=[
        case("from the beginning", marked, sequence),
        case("from a later position", marked, lambda make: sequence(make, start=3)),
        case(
            "a piece from a later position, then from the beginning",
            marked_twice,
            lambda make: sequence(make, start=1),
        ),
        case("up to the last position", marked, lambda make: sequence(make, start=5)),
        case("one new element", marked, lambda make: sequence(make, length=1, start=6)),
        case("as long as the table", marked, lambda make: sequence(make, length=9)),
        case("as many sequences as positions", marked, lambda make: sequence(make, batch=4)),
    ],
)
def test_adds_the_vectors(submission, case):
    """Adds each position's vector"""
    submission.matches_reference(case)


@LearnedPositions.test(
    points=0.5,
    cases=[
        plain(
            "names and shapes of the parameters",
            lambda make: {"sizes": {"max_len": make.choice([7, 9]), "d_model": 5}},
            names_and_shapes,
        ),
        case(
            "sequences that fit, and sequences that do not",
            too_far,
            lambda make: {
                "sizes": [6, 4],
                "table": make.normal(6, 4),
                "several": [[6, 0], [7, 0], [3, 3], [3, 4], [1, 5], [1, 6], [2, 9]],
            },
        ),
    ],
)
def test_has_a_table_that_ends(submission, case):
    """Has a table of its own, and refuses positions beyond it"""
    submission.matches_reference(case)


@LearnedPositions.test(
    points=0.5,
    cases=[
        case(
            "of x and of the table",
            marked_backward,
            lambda make: dict(**sequence(make, start=2), cotangent=make.normal(3, 4, 5)),
        )
    ],
)
def test_table_learns(submission, case):
    """Passes gradients to the table"""
    submission.matches_reference(case)


@LearnedPositions.test(
    points=0.5, cases=[case("a later position", marked, lambda make: sequence(make, start=3))]
)
def test_learned_follow_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ----------------------------------------------------------------------------- apply_rotary


def rotary_as_complex(x, positions, base=10000.0):
    """A rotation is a multiplication by a complex number of size 1."""
    if x.size(-1) % 2:
        raise ValueError("an odd number of features has no pairs")
    d_head = x.size(-1)
    pairs = torch.view_as_complex(x.contiguous().unflatten(-1, (d_head // 2, 2)))
    speeds = torch.tensor([base ** (-2 * i / d_head) for i in range(d_head // 2)]).to(x)
    if x.dtype == torch.float64:
        exact = [base ** (-2 * i / d_head) for i in range(d_head // 2)]
        speeds = torch.tensor(exact, dtype=torch.float64, device=x.device)
    angles = torch.outer(positions.to(x), speeds)
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)


def turn(impl, x, positions, base=None):
    return impl(x, positions) if base is None else impl(x, positions, base)


def turn_a_view(impl, x, positions):
    """Heads as a split leaves them, not contiguous."""
    return impl(x.transpose(1, 2), positions)


def turn_backward(impl, x, positions, cotangent):
    leaf = x.detach().clone().requires_grad_()
    return {"gradient of x": gradients(impl(leaf, positions), [leaf], cotangent)[0]}


def refuses_odd(impl, x, positions):
    return {
        "an odd number of features": raised(partial(impl, x, positions), ValueError),
        "one feature fewer": raised(partial(impl, x[..., 1:].contiguous(), positions), ValueError),
    }


def elements(make, *leading, length=5, d_head=6, **options):
    return {
        "x": make.normal(*leading, length, d_head),
        "positions": make.permutation(12)[:length] + 1,
        **options,
    }


TURNED = "[first * cos - second * sin, first * sin + second * cos], dim=-1"
ROTARY_EXPONENTS = "torch.arange(0, d_head, 2, dtype=x.dtype, device=x.device) / d_head"
ROTARY_ANGLES = "angles = positions.to(x.dtype).unsqueeze(-1) / base**exponents"
CUT = "first, second = x[..., 0::2], x[..., 1::2]"
JOINED = "return turned.flatten(start_dim=-2)"
HALVES = "first, second = x[..., : d_head // 2], x[..., d_head // 2 :]"

apply_rotary = Exercise(
    "apply_rotary",
    oracle=rotary_as_complex,
    mistakes=[
        Mistake.edits_of(
            "halves instead of neighbours",
            [(CUT, HALVES), (JOINED, "return turned.transpose(-1, -2).flatten(start_dim=-2)")],
            "You pair feature i with feature i + d_head / 2, as GPT-NeoX and Hugging Face's Llama "
            "do. Here pairs are interleaved, as in the paper: features 2i and 2i + 1.",
        ),
        Mistake.edits_of(
            "halves taken, neighbours put back",
            [(CUT, HALVES)],
            "The pairs are taken from the two halves of the features and put back as neighbours. "
            "Take neighbours, 2i and 2i + 1, from the beginning.",
        ),
        Mistake.edits_of(
            "neighbours taken, halves put back",
            [(JOINED, "return turned.transpose(-1, -2).flatten(start_dim=-2)")],
            "All first coordinates are put on the left and all second ones on the right. They "
            "belong where they came from: at 2i and 2i + 1.",
        ),
        *slips(
            TURNED,
            """
            turned clockwise
                [first * cos + second * sin, second * cos - first * sin], dim=-1
            The rotation goes the wrong way: look again at which sine is negative. (Scores would be
            the same, but not what others read from the same weights.)

            a reflection
                [first * cos - second * sin, first * sin - second * cos], dim=-1
            The signs in the second row are both positive.

            both signs positive
                [first * cos + second * sin, first * sin + second * cos], dim=-1
            One of the four terms is negative: look at the first row of the matrix.

            sines and cosines exchanged
                [first * sin - second * cos, first * cos + second * sin], dim=-1
            An element at position 0 should stay as it is: cosines multiply the coordinate itself.

            the second coordinate made of the new first one
                [(new := first * cos - second * sin), new * sin + second * cos], dim=-1
            The second coordinate is computed from a first one that has been rotated already. Both
            need the old ones.

            coordinates exchanged
                [first * sin + second * cos, first * cos - second * sin], dim=-1
            The two coordinates come back in each other's place.

            added instead of rotated
                [first + sin, second + cos], dim=-1
            That adds a sinusoidal encoding. Rotary positions multiply: each pair is rotated.

            only scaled
                [first * cos, second * cos], dim=-1
            A rotation mixes both coordinates of a pair; yours only makes them smaller.

            only the first coordinate
                [first * cos - second * sin, second], dim=-1
            Both coordinates of a pair are rotated.

            each coordinate by itself
                [first * cos - first * sin, second * cos + second * sin], dim=-1
            A rotation mixes both coordinates of a pair: the sines multiply the other one.
            """,
        ),
        *slips(
            ROTARY_EXPONENTS,
            """
            i instead of 2i
                torch.arange(d_head // 2, dtype=x.dtype, device=x.device) / d_head
            The exponent of pair i is 2i / d_head; yours grows half as fast.

            2i over half of the features
                torch.arange(0, d_head, 2, dtype=x.dtype, device=x.device) / (d_head // 2)
            The exponent is divided by d_head, all of the features.

            pairs counted from 1
                torch.arange(2, d_head + 1, 2, dtype=x.dtype, device=x.device) / d_head
            Pairs are counted from 0: the first one turns by one radian a position.

            all pairs alike
                torch.zeros(d_head // 2, dtype=x.dtype, device=x.device)
            Every pair turns at a speed of its own.

            slowest first
                torch.arange(0, d_head, 2, dtype=x.dtype, device=x.device).flip(0) / d_head
            The fastest pair comes first: its exponent is 0.

            from 1 to the base exactly
                torch.linspace(0, 1, d_head // 2, dtype=x.dtype, device=x.device)
            The last pair's exponent is less than 1: it is 2i / d_head.
            """,
        ),
        *slips(
            ROTARY_ANGLES,
            """
            base ignored
                angles = positions.to(x.dtype).unsqueeze(-1) / 10000.0**exponents
            The argument base has no effect.

            multiplied by the power
                angles = positions.to(x.dtype).unsqueeze(-1) * base**exponents
            Later pairs are slower: divide by the power, or make its exponent negative.

            positions ignored
                angles = torch.arange(x.size(-2)).to(x).unsqueeze(-1) / base**exponents
            The elements are taken to stand at 0, 1, 2, …; use the positions that are given.

            positions counted from the first
                angles = (positions - positions[0]).to(x.dtype).unsqueeze(-1) / base**exponents
            The positions are taken relative to the first one; use them as they are.

            one position too far
                angles = (positions + 1).to(x.dtype).unsqueeze(-1) / base**exponents
            An element at position 0 is not rotated at all; yours is, by one step.

            negative positions cut off
                angles = positions.clamp(min=0).to(x.dtype).unsqueeze(-1) / base**exponents
            Positions may be negative, and turn the other way; yours are cut off at 0.

            fractions cut off
                angles = positions.long().to(x.dtype).unsqueeze(-1) / base**exponents
            Positions may be fractions; yours are cut down to integers.

            turns instead of radians
                angles = 2 * torch.pi * positions.to(x.dtype).unsqueeze(-1) / base**exponents
            The angle is the position times the speed, without a factor of 2π.

            half of the angle
                angles = positions.to(x.dtype).unsqueeze(-1) / base**exponents / 2
            The angle is the position times the speed, without a factor of one half.

            angles in float32
                angles = (positions.float().unsqueeze(-1) / base ** exponents.float()).to(x.dtype)
            The angles are computed in float32 whatever comes in; the dtype of x is asked for.
            """,
        ),
        *(
            Mistake.edits_of(
                name,
                [
                    (ROTARY_ANGLES, angles),
                    ("cos, sin = angles.cos(), angles.sin()", f"cos, sin = {waves}"),
                ],
                "The angles are computed in float32 whatever comes in; the dtype of x is asked "
                "for.",
            )
            for name, angles, waves in [
                (
                    "angles in float32, by a negative power",
                    "even = torch.arange(0, d_head, 2, dtype=torch.float32, device=x.device)\n"
                    "    angles = positions.float().unsqueeze(-1) * base ** (-even / d_head)",
                    "angles.cos(), angles.sin()",
                ),
                (
                    "angles in float32, cast before the cosine",
                    "even = torch.arange(0, d_head, 2, dtype=torch.float32, device=x.device)\n"
                    "    angles = positions.float().unsqueeze(-1) * base ** (-even / d_head)",
                    "angles.to(x.dtype).cos(), angles.to(x.dtype).sin()",
                ),
            ]
        ),
        Mistake(
            "degrees",
            ROTARY_ANGLES,
            ROTARY_ANGLES + " * torch.pi / 180",
            "The angles are in radians; yours are taken for degrees.",
        ),
        Mistake(
            "cut from the graph",
            CUT,
            "first, second = x.detach()[..., 0::2], x.detach()[..., 1::2]",
            "The numbers are right, but no gradient passes back to x: it is detached, and the "
            "projections before could not learn.",
        ),
        Mistake(
            "two leading dimensions taken for granted",
            "cos, sin = angles.cos(), angles.sin()",
            "cos, sin = angles.cos()[None, None], angles.sin()[None, None]",
            "The result always has four dimensions. There may be any number of leading ones, none "
            "included; broadcasting takes care of them.",
        ),
        *edits(
            [
                (
                    "odd sizes accepted",
                    "if d_head % 2 != 0:",
                    "if d_head % 2 != 0 and positions.dim() > 1:",
                    "An odd number of features should raise a ValueError.",
                ),
                (
                    "odd sizes cut",
                    'raise ValueError(f"d_head must be even, but is {d_head}")',
                    "d_head, x = d_head - 1, x[..., :-1]",
                    "An odd number of features should raise a ValueError.",
                ),
                (
                    "changed in place",
                    JOINED,
                    "x.copy_(turned.flatten(start_dim=-2))\n    return x.clone()",
                    "The caller's x has changed. Make a new tensor: the arguments belong to the "
                    "caller.",
                ),
            ]
        ),
    ],
    variants=variants(
        """
        complex numbers
            def apply_rotary(x, positions, base=10000.0):
                if x.shape[-1] % 2:
                    raise ValueError("d_head must be even")
                d = x.shape[-1]
                speed = base ** (-torch.arange(0, d, 2, device=x.device).to(x.dtype) / d)
                angle = positions.to(x.dtype)[:, None] * speed
                number = torch.complex(angle.cos(), angle.sin())
                pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], d // 2, 2))
                return torch.view_as_real(pairs * number).reshape(x.shape)

        filled into an empty tensor
            def apply_rotary(x, positions, base=10000.0):
                d = x.size(-1)
                if d % 2 == 1:
                    raise ValueError(d)
                index = torch.arange(d // 2, device=x.device, dtype=x.dtype)
                angle = torch.outer(positions.to(x), torch.pow(base, -2 * index / d))
                y = torch.empty_like(x)
                y[..., ::2] = x[..., ::2] * angle.cos() - x[..., 1::2] * angle.sin()
                y[..., 1::2] = x[..., ::2] * angle.sin() + x[..., 1::2] * angle.cos()
                return y

        cosines times x plus sines times x turned by a quarter
            def apply_rotary(x, positions, base=10000.0):
                d = x.size(-1)
                if d % 2:
                    raise ValueError("odd")
                half = torch.arange(0, d, 2, device=x.device).to(x.dtype) / d
                angle = positions.to(x.dtype)[:, None] / torch.pow(base, half)
                angle = angle.repeat_interleave(2, dim=-1)
                quarter = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).reshape(x.shape)
                return x * angle.cos() + quarter * angle.sin()

        by a matrix for each position
            def apply_rotary(x, positions, base=10000.0):
                d = x.size(-1)
                if d % 2:
                    raise ValueError("odd")
                half = torch.arange(0, d, 2, device=x.device).to(x.dtype) / d
                a = positions.to(x.dtype)[:, None] / torch.pow(base, half)
                R = torch.stack([a.cos(), -a.sin(), a.sin(), a.cos()], -1).unflatten(-1, (2, 2))
                return torch.einsum("nirc,...nic->...nir", R, x.unflatten(-1, (-1, 2))).flatten(-2)
        """
    ),
)


def rotary(title, inputs):
    """In float32: who computes angles in float32 whatever comes in loses one case, not all."""
    return plain(title, inputs, turn)


@apply_rotary.test(
    points=2,
    cases=[
        rotary("queries of several heads", lambda make: elements(make, 2, 3)),
        rotary("no leading dimension", lambda make: elements(make, d_head=8)),
        rotary("another base", lambda make: elements(make, 2, base=make.number(20.0, 90.0))),
        rotary("a single pair", lambda make: elements(make, 3, d_head=2)),
        rotary("as many positions as features", lambda make: elements(make, 2, length=6)),
        rotary(
            "positions from 0 on", lambda make: {**elements(make), "positions": torch.arange(5)}
        ),
        plain(
            "a view that is not contiguous",
            lambda make: {"x": make.normal(2, 5, 3, 6), "positions": make.permutation(9)[:5]},
            turn_a_view,
        ),
    ],
)
def test_rotates_pairs(submission, case):
    """Rotates each pair by its position"""
    submission.matches_reference(case)


@apply_rotary.test(
    points=0.5,
    cases=[
        rotary(
            "fractions of positions",
            lambda make: {**elements(make, 2), "positions": make.uniform(5, low=-3.0, high=9.0)},
        ),
        rotary(
            "negative positions",
            lambda make: {**elements(make, 2), "positions": -make.permutation(9)[:5]},
        ),
        Case(
            "double precision",
            turn,
            # So many angles that two ways to round them differ in one of them.
            lambda make: elements(make, 2, length=12, d_head=16, base=make.number(20.0, 90.0)),
            dtypes=(torch.float64,),
        ),
        case(
            "an odd number of features",
            refuses_odd,
            lambda make: elements(make, 2, d_head=make.choice([5, 7])),
        ),
    ],
)
def test_rotates_by_any_position(submission, case):
    """Takes positions of any kind, and refuses features that are no pairs"""
    submission.matches_reference(case)


@apply_rotary.test(
    points=0.5,
    cases=[
        plain(
            "of x",
            lambda make: dict(**elements(make, 2), cotangent=make.normal(2, 5, 6)),
            turn_backward,
            loosen=100.0,
        )
    ],
)
def test_rotation_passes_gradients(submission, case):
    """Passes gradients back"""
    submission.matches_reference(case)


@apply_rotary.test(
    points=0.5, cases=[case("several heads", turn, lambda make: elements(make, 2, 3))]
)
def test_rotation_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------------- RotarySelfAttention


class RotaryByTorch(nn.Module):
    """PyTorch's attention on queries and keys rotated as complex numbers."""

    def __init__(self, d_model, num_heads, base=10000.0):
        super().__init__()
        if d_model % num_heads or d_model // num_heads % 2:
            raise ValueError("heads do not fit")
        self.num_heads, self.base = num_heads, base
        for name in ("W_q", "W_k", "W_v", "W_o"):
            setattr(self, name, nn.Linear(d_model, d_model, bias=False))

    def forward(self, x, mask=None):
        b, n, _ = x.shape
        q, k, v = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer in (self.W_q, self.W_k, self.W_v)
        )
        where = torch.arange(n, device=x.device)
        q, k = (rotary_as_complex(t, where, self.base) for t in (q, k))
        allowed = None if mask is None else mask.expand(b, n, n).unsqueeze(1)
        one_hot = torch.eye(n, dtype=x.dtype, device=x.device).expand(b, self.num_heads, n, n)
        attend = nn.functional.scaled_dot_product_attention
        weights = attend(q, k, one_hot, attn_mask=allowed)
        heads = attend(q, k, v, attn_mask=allowed)
        return self.W_o(heads.transpose(1, 2).flatten(2)), weights


def named(result):
    pair = isinstance(result, tuple | list) and len(result) == 2
    output, weights = result if pair else (result, None)
    return {"output": output, "weights": weights}


def attend(impl, sizes, weights, x, mask=None):
    attention = load_weights(impl(*sizes), weights)
    return named(attention(x) if mask is None else attention(x, mask))


def attend_twice(impl, sizes, weights, x, mask, then):
    """One module, first with a mask, then on another sequence without."""
    attention = load_weights(impl(*sizes), weights)
    first = named(attention(x, mask))
    return {"first call": first, "second call": named(attention(then))}


def attend_backward(impl, sizes, weights, x, mask, cotangent):
    attention = load_weights(impl(*sizes), weights)
    leaf = x.detach().clone().requires_grad_()
    output, _ = attention(leaf, mask)
    parameters = dict(attention.named_parameters())
    found = gradients(output, [leaf, *(parameters[name] for name in weights)], cotangent)
    return {f"gradient of {n}": g for n, g in zip(("x", *weights), found, strict=True)}


def heads_of(make, mask=None, *, num_heads=3, d_head=4, batch=2, length=5, base=None):
    d_model = num_heads * d_head
    names = ("W_q", "W_k", "W_v", "W_o")
    inputs = {
        "sizes": [d_model, num_heads] if base is None else [d_model, num_heads, base],
        "weights": {f"{n}.weight": make.normal(d_model, d_model, std=0.4) for n in names},
        "x": make.normal(batch, length, d_model),
    }
    return inputs if mask is None else {**inputs, "mask": mask}


def causal(length):
    return torch.ones(length, length, dtype=torch.bool).tril()


def some_of(make, *shape, dead=()):
    mask = make.boolean(*shape, p=0.6)
    mask[..., 0] = True
    mask[..., list(dead), :] = False
    return mask


TURN_Q = "q = apply_rotary(q, positions, self.base)"
TURN_K = "k = apply_rotary(k, positions, self.base)"
WHERE = "positions = torch.arange(x.size(1), device=x.device)"
ATTENDED = "heads, weights = scaled_dot_product_attention(q, k, v, mask)"
RESULT = "return self.W_o(merge_heads(heads)), weights"


def turning(q, k):
    return [(TURN_Q, q), (TURN_K, k)]


RotarySelfAttention = Exercise(
    "RotarySelfAttention",
    oracle=RotaryByTorch,
    forbids=SHORT_CUTS,
    mistakes=[
        *[
            Mistake.edits_of(name, turning(q, k), hint)
            for name, q, k, hint in [
                (
                    "not rotated",
                    "pass",
                    "pass",
                    "The order of the sequence has no effect: every element's query and key turn "
                    "by its own position before they meet.",
                ),
                (
                    "only the queries rotated",
                    TURN_Q,
                    "pass",
                    "The keys are rotated as well: only the difference of both angles says how "
                    "far apart two elements are.",
                ),
                (
                    "only the keys rotated",
                    "pass",
                    TURN_K,
                    "The queries are rotated as well: only the difference of both angles says "
                    "how far apart two elements are.",
                ),
                (
                    "keys rotated the other way",
                    TURN_Q,
                    "k = apply_rotary(k, -positions, self.base)",
                    "Queries and keys are rotated in opposite directions, and their scores depend "
                    "on the sum of the positions. Both turn the same way.",
                ),
                (
                    "the base forgotten for the keys",
                    TURN_Q,
                    "k = apply_rotary(k, positions)",
                    "The argument base reaches the queries only: pass it on for the keys, too.",
                ),
                (
                    "the base forgotten for the queries",
                    "q = apply_rotary(q, positions)",
                    TURN_K,
                    "The argument base reaches the keys only: pass it on for the queries, too.",
                ),
                (
                    "queries one position further",
                    "q = apply_rotary(q, positions + 1, self.base)",
                    TURN_K,
                    "The queries are rotated as if they stood one position further on than their "
                    "keys. An element's query and key stand at the same position.",
                ),
                (
                    "the base forgotten",
                    "q = apply_rotary(q, positions)",
                    "k = apply_rotary(k, positions)",
                    "The argument base has no effect: pass it on to the rotation.",
                ),
                (
                    "rotated before the cut into heads",
                    "q = apply_rotary(self.W_q(x), positions, self.base)\n"
                    "        q = split_heads(q, self.num_heads)",
                    "k = apply_rotary(self.W_k(x), positions, self.base)\n"
                    "        k = split_heads(k, self.num_heads)",
                    "The rotation comes before the cut into heads, so that each head turns at "
                    "other speeds. Cut first: all heads turn alike.",
                ),
                (
                    "rotated before the projection",
                    "x = apply_rotary(x, positions, self.base)\n"
                    "        q = split_heads(self.W_q(x), self.num_heads)",
                    "k = split_heads(self.W_k(x), self.num_heads)",
                    "The inputs are rotated before they are projected, and the projections undo "
                    "what makes the score depend on the distance. Rotate queries and keys.",
                ),
                (
                    "values cut from what they are made of",
                    TURN_Q,
                    f"{TURN_K}\n        v = split_heads(self.W_v(x.detach()), self.num_heads)",
                    "No gradient passes through the values to x: it is detached, so that what made "
                    "it could not be learned.",
                ),
                (
                    "queries cut from the graph",
                    "q = apply_rotary(q.detach(), positions, self.base)",
                    TURN_K,
                    "No gradient reaches W_q: the queries are detached.",
                ),
                (
                    "keys cut from the graph",
                    TURN_Q,
                    "k = apply_rotary(k.detach(), positions, self.base)",
                    "No gradient reaches W_k: the keys are detached.",
                ),
                (
                    "values rotated as well",
                    TURN_Q,
                    f"{TURN_K}\n        v = apply_rotary(v, positions, self.base)",
                    "The values are rotated, too. Positions decide who is heard, not what is "
                    "said: leave the values alone.",
                ),
                (
                    "values rotated instead of keys",
                    TURN_Q,
                    "v = apply_rotary(v, positions, self.base)",
                    "Queries and keys are rotated, not the values.",
                ),
                (
                    "rotated twice",
                    f"{TURN_Q}\n        {TURN_Q}",
                    f"{TURN_K}\n        {TURN_K}",
                    "Queries and keys are rotated twice, and every distance counts double.",
                ),
            ]
        ],
        *slips(
            WHERE,
            """
            positions in reverse order
                positions = torch.arange(x.size(1), device=x.device).flip(0)
            The first element stands at position 0; yours are counted from the end.

            positions as a fraction of the length
                positions = torch.arange(x.size(1), device=x.device) / x.size(1)
            A step is one position, however long the sequence is.

            a step twice as long from the second call on
                self.calls = getattr(self, "calls", 0) + 1
                        positions = torch.arange(x.size(1), device=x.device) * min(self.calls, 2)
            What a call gives depends on how many came before it. Every call begins at position 0
            and steps by one.
            """,
        ),
        *slips(
            ATTENDED,
            """
            mask ignored
                heads, weights = scaled_dot_product_attention(q, k, v)
            The mask changes nothing; pass it on to the attention.

            mask the wrong way round
                mask = None if mask is None else ~mask
                        heads, weights = scaled_dot_product_attention(q, k, v, mask)
            The mask is read the wrong way round: True means that a query may attend to a key.

            always causal
                causal = torch.ones_like(q[0, 0] @ k[0, 0].mT, dtype=torch.bool).tril()
                        mask = causal if mask is None else mask & causal
                        heads, weights = scaled_dot_product_attention(q, k, v, mask)
            Without a mask every element may attend to every other one; yours looks back only.

            queries and keys exchanged
                heads, weights = scaled_dot_product_attention(k, q, v, mask)
            Queries and keys have changed places on their way into the attention.

            scaled twice
                heads, weights = scaled_dot_product_attention(q / q.size(-1) ** 0.5, k, v, mask)
            The scores are divided by the square root of d_head twice; once is what
            scaled_dot_product_attention does already.
            """,
        ),
        *slips(
            RESULT,
            """
            weights not returned
                return self.W_o(merge_heads(heads))
            Only the output comes back; the weights should follow it.

            weights before output
                return weights, self.W_o(merge_heads(heads))
            The two results are in the wrong order: the output first, then the weights.

            weights averaged over the heads
                return self.W_o(merge_heads(heads)), weights.mean(dim=1)
            The weights of every head are returned, not their average.

            not projected at the end
                return merge_heads(heads), weights
            The concatenated heads go through W_o at the end.

            merged without exchanging dimensions
                return self.W_o(heads.reshape(x.shape)), weights
            The heads' outputs are reshaped straight to (batch, length, d_model), which mixes
            positions. Bring the heads next to their features first.
            """,
        ),
        *edits(
            [
                (
                    "the mask's batch taken for heads",
                    "mask = mask.unsqueeze(-3)",
                    "pass",
                    "A mask of shape (batch, length, length) meets scores that have the heads in "
                    "between: make room for them.",
                ),
                (
                    "any number of heads accepted",
                    "if d_model % num_heads != 0:",
                    "if False:",
                    "A d_model that num_heads does not divide should raise a ValueError.",
                ),
                (
                    "odd heads accepted",
                    "if d_model // num_heads % 2 != 0:",
                    "if False:",
                    "Heads with an odd number of features cannot be cut into pairs, and should "
                    "raise a ValueError when they are made.",
                ),
                (
                    "d_model asked to be even",
                    "if d_model // num_heads % 2 != 0:",
                    "if d_model % 2 != 0:",
                    "It is the features of each head that must be even in number, not d_model.",
                ),
                (
                    "a mask without batch misplaced",
                    "mask.unsqueeze(-3)",
                    "mask.unsqueeze(1)",
                    "Right for a mask of shape (batch, length, length), but one of shape "
                    "(length, length) gets its new dimension in the wrong place: count it from "
                    "the back.",
                ),
                *(
                    (
                        f"W_{name} with a bias",
                        f"self.W_{name} = nn.Linear(d_model, d_model, bias=False)",
                        f"self.W_{name} = nn.Linear(d_model, d_model)",
                        f"W_{name} has a bias, which nn.Linear adds unless told otherwise; the "
                        "docstring asks for none.",
                    )
                    for name in "qkv"
                ),
                (
                    "projections with biases",
                    "        self.W_o = nn.Linear(d_model, d_model, bias=False)",
                    "        self.W_o = nn.Linear(d_model, d_model)\n"
                    "        for layer in (self.W_q, self.W_k, self.W_v):\n"
                    "            layer.bias = nn.Parameter(torch.zeros(d_model))",
                    "The projections have biases, which nn.Linear adds unless told otherwise; the "
                    "docstring asks for none.",
                ),
                (
                    "W_o with a bias",
                    "self.W_o = nn.Linear(d_model, d_model, bias=False)",
                    "self.W_o = nn.Linear(d_model, d_model)",
                    "W_o has a bias, which nn.Linear adds unless told otherwise; the docstring "
                    "asks for none.",
                ),
            ]
        ),
    ],
    variants=[
        Variant.edits_of(
            "positions counted from 1, which no distance notices",
            [(WHERE, "positions = 1 + torch.arange(x.size(1), device=x.device)")],
        ),
        Variant.edits_of(
            "both at once",
            [
                (TURN_Q, "q, k = (apply_rotary(t, positions, base=self.base) for t in (q, k))"),
                (TURN_K, "pass"),
            ],
        ),
        *variants(
            """
            head by head
                class RotarySelfAttention(nn.Module):
                    def __init__(self, d_model, num_heads, base=10000.0):
                        super().__init__()
                        if d_model % num_heads or (d_model // num_heads) % 2:
                            raise ValueError("heads do not fit")
                        self.h, self.base = num_heads, base
                        self.W_q = nn.Linear(d_model, d_model, bias=False)
                        self.W_k = nn.Linear(d_model, d_model, bias=False)
                        self.W_v = nn.Linear(d_model, d_model, bias=False)
                        self.W_o = nn.Linear(d_model, d_model, bias=False)
                    def forward(self, x, mask=None):
                        n = torch.arange(x.shape[1], device=x.device)
                        qs, ks = self.W_q(x).chunk(self.h, -1), self.W_k(x).chunk(self.h, -1)
                        vs = self.W_v(x).chunk(self.h, -1)
                        outputs, maps = [], []
                        for q, k, v in zip(qs, ks, vs):
                            q, k = apply_rotary(q, n, self.base), apply_rotary(k, n, self.base)
                            output, weights = scaled_dot_product_attention(q, k, v, mask)
                            outputs.append(output)
                            maps.append(weights)
                        return self.W_o(torch.cat(outputs, -1)), torch.stack(maps, 1)
            """
        ),
    ],
)


@RotarySelfAttention.test(
    points=0.5,
    cases=[
        plain(
            "names and shapes of the parameters",
            lambda make: {"sizes": {"d_model": make.choice([12, 18]), "num_heads": 3}},
            names_and_shapes,
        ),
        plain(
            "sizes that fit, and sizes that do not",
            lambda _: {
                "several": [
                    {"d_model": 12, "num_heads": 3},
                    {"d_model": 12, "num_heads": 4},
                    {"d_model": 14, "num_heads": 3},
                    {"d_model": 9, "num_heads": 3},
                ]
            },
            refuses,
        ),
    ],
)
def test_rotary_parameters(submission, case):
    """Has four projections, and refuses sizes that do not fit"""
    submission.matches_reference(case)


@RotarySelfAttention.test(
    points=1.5,
    cases=[
        case("several heads", attend, heads_of),
        case("another base", attend, lambda make: heads_of(make, base=make.number(5.0, 9.0))),
        case(
            "as many heads as positions, then another sequence",
            attend_twice,
            lambda make: {
                **heads_of(make, some_of(make, 5, 5), num_heads=5),
                "then": make.normal(2, 5, 20),
            },
        ),
        case("one head", attend, lambda make: heads_of(make, num_heads=1, d_head=6, batch=3)),
        case(
            "gradients of x and of the projections",
            attend_backward,
            lambda make: dict(**heads_of(make, causal(5)), cotangent=make.normal(2, 5, 12)),
            loosen=100.0,
        ),
    ],
)
def test_rotary_attends(submission, case):
    """Attends with rotated queries and keys"""
    submission.matches_reference(case)


@RotarySelfAttention.test(
    points=0.5,
    cases=[
        case("a causal mask", attend, lambda make: heads_of(make, causal(5))),
        case(
            "a mask for each sequence",
            attend,
            lambda make: heads_of(make, some_of(make, 3, 5, 5), batch=3),
        ),
        case(
            "a mask of padded keys",
            attend,
            lambda make: heads_of(make, some_of(make, 4, 1, 5), batch=4),
        ),
        case(
            "queries that may attend to nothing",
            attend,
            lambda make: heads_of(make, some_of(make, 2, 5, 5, dead=(1, 2))),
        ),
    ],
)
def test_rotary_masks(submission, case):
    """Uses one mask for all heads"""
    submission.matches_reference(case)


@RotarySelfAttention.test(
    points=0.5, cases=[case("with a mask", attend, lambda make: heads_of(make, causal(5)))]
)
def test_rotary_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ----------------------------------------------------------------------------- alibi_slopes


def slopes_one_by_one(num_heads, device=None):
    ratio = 2 ** (-8 / num_heads)
    return torch.tensor([ratio ** (h + 1) for h in range(num_heads)], device=device)


SLOPES = "return 2.0 ** (-8.0 * heads / num_heads)"

alibi_slopes = Exercise(
    "alibi_slopes",
    oracle=slopes_one_by_one,
    mistakes=slips(
        SLOPES,
        """
        heads counted from 0
            return 2.0 ** (-8.0 * (heads - 1) / num_heads)
        The first slope is not 1: heads are counted from 1.

        right for 8 heads only
            return 2.0 ** (-1.0 * heads)
        Slopes are halved from head to head for 8 heads only; with another number, the last one is
        still 2 to the power −8.

        8 left out
            return 2.0 ** (-1.0 * heads / num_heads)
        The last slope is 2 to the power −8, not −1.

        not divided by the number of heads
            return 2.0 ** (-8.0 * heads)
        The exponent is divided by the number of heads: the last slope is 2 to the power −8.

        growing
            return 2.0 ** (8.0 * heads / num_heads)
        The exponents are negative: all slopes are smaller than 1.

        flattest first
            return (2.0 ** (-8.0 * heads / num_heads)).flip(0)
        The steepest slope comes first.

        negative slopes
            return -(2.0 ** (-8.0 * heads / num_heads))
        The slopes are positive; the sign belongs to the bias.

        a power of e
            return torch.exp(-8.0 * heads / num_heads)
        The powers are of 2, not of e.

        from one half on
            return torch.logspace(-1, -8, num_heads, base=2.0, device=device)
        Only for eight heads is the first slope one half. First term and ratio are the same, and
        follow from the number of heads.

        in equal steps between the right ends
            return torch.linspace(2 ** (-8 / num_heads), 2**-8, num_heads, device=device)
        The slopes form a geometric sequence: it is their ratio that stays the same.

        exponents rounded down
            return 2.0 ** (-(8 * heads // num_heads)).to(torch.get_default_dtype())
        The exponents are divided with // and lose their fractions: right only where the number of
        heads divides 8.

        dimensions for queries and keys
            return (2.0 ** (-8.0 * heads / num_heads))[:, None, None]
        The result has one dimension, (num_heads,); whoever needs more adds them.

        in equal steps
            return 1.0 - heads * (1.0 - 2.0**-8) / num_heads
        The slopes form a geometric sequence: it is their ratio that stays the same.

        between the ends
            return 2.0 ** (-8.0 * (heads - 1) / max(num_heads - 1, 1))
        Divide by the number of heads, and count them from 1: the first slope is the ratio itself.

        one head too many in the exponent
            return 2.0 ** (-8.0 * heads / (num_heads + 1))
        The exponent is divided by the number of heads itself: the last slope is 2 to the power −8.

        the authors' code
            near = 2 ** (num_heads.bit_length() - 1)
                steep = [2.0 ** (-8.0 * h / near) for h in range(1, near + 1)]
                more = [2.0 ** (-4.0 * h / near) for h in range(1, 2 * (num_heads - near), 2)]
                return torch.tensor(steep + more, device=device)
        That is what the authors' code does where the number of heads is no power of 2. Here the
        paper's formula holds for any number.
        """,
    ),
    variants=variants(
        """
        a running product
            def alibi_slopes(num_heads, device=None):
                ratio = torch.full((num_heads,), 2 ** (-8 / num_heads), device=device)
                return torch.cumprod(ratio, dim=0)

        exp2 of a list
            def alibi_slopes(num_heads, device=None):
                exponents = [-8 * (h + 1) / num_heads for h in range(num_heads)]
                return torch.exp2(torch.tensor(exponents, device=device))

        a logspace
            def alibi_slopes(num_heads, device=None):
                return torch.logspace(-8 / num_heads, -8, num_heads, base=2.0, device=device)
        """
    ),
)


@alibi_slopes.test(
    points=0.75,
    cases=[
        plain("eight heads", lambda _: {"num_heads": 8}),
        plain("four heads", lambda _: {"num_heads": 4}),
        plain("no power of two", lambda make: {"num_heads": make.choice([3, 6, 12])}),
        plain("one head", lambda _: {"num_heads": 1}),
    ],
)
def test_slopes_are_geometric(submission, case):
    """Follows the paper's formula for any number of heads"""
    submission.matches_reference(case)


@alibi_slopes.test(
    points=0.25,
    cases=[
        plain(
            "on the device asked for",
            lambda make: {"x": make.normal(2), "num_heads": 6},
            on_the_device_of,
        )
    ],
)
def test_slopes_are_made_on_the_device(submission, case):
    """Makes the slopes on the device asked for"""
    submission.matches_on_device(case)


# ------------------------------------------------------------------------------- alibi_bias


def bias_entry_by_entry(num_heads, num_queries, num_keys, device=None):
    shift = num_keys - num_queries
    table = [
        [
            [2 ** (-8 * h / num_heads) * (j - i - shift) if j <= i + shift else -math.inf
             for j in range(num_keys)]
            for i in range(num_queries)
        ]
        for h in range(1, num_heads + 1)
    ]  # fmt: skip
    return torch.tensor(table, device=device)


def apart(result):
    """Minus infinity apart from the numbers: told so in the feedback, and safe to subtract."""
    if not isinstance(result, torch.Tensor) or not result.is_floating_point():
        return result
    hidden = result == -torch.inf
    return {"the bias": result.masked_fill(hidden, 0.0), "where it is minus infinity": hidden}


def biased(impl, **sizes):
    return apart(impl(**sizes))


def biased_on_the_device_of(impl, x, **sizes):
    return apart(impl(*sizes.values(), device=x.device))


BIASED = "return (slopes * ahead).masked_fill(ahead > 0, -torch.inf)"
STANDS = "queries = keys[num_keys - num_queries :].unsqueeze(1)"
PER_HEAD = "slopes = alibi_slopes(num_heads, device)[:, None, None]"

alibi_bias = Exercise(
    "alibi_bias",
    oracle=bias_entry_by_entry,
    mistakes=[
        *slips(
            BIASED,
            """
            far is better
                return (-slopes * ahead).masked_fill(ahead > 0, -torch.inf)
            The bias is negative: the further away a key, the more is taken off its score.

            the future not masked
                return slopes * ahead
            Keys behind the query get a bonus; they may not be attended to at all.

            the future penalised only
                return -slopes * ahead.abs()
            Keys behind the query are penalised like those before it; they may not be attended to at
            all.

            only the mask
                return torch.zeros_like(slopes * ahead).masked_fill(ahead > 0, -torch.inf)
            The distances have no effect: take off slope times distance.

            the past masked
                return (slopes * ahead).masked_fill(ahead < 0, -torch.inf)
            Keys before the query may be attended to; those behind it may not.

            its own key masked
                return (slopes * ahead).masked_fill(ahead >= 0, -torch.inf)
            A query may attend to the key it stands on, at the distance 0.

            one key of the future
                return (slopes * ahead).masked_fill(ahead > 1, -torch.inf)
            A query sees one key of the future, which is the very answer it is asked to predict.

            not quite minus infinity
                return (slopes * ahead).masked_fill(ahead > 0, -1e9)
            Where a query may not attend, the bias is minus infinity.

            minus infinity times zero
                return slopes * ahead + (ahead > 0) * -torch.inf
            Minus infinity times 0 is NaN. Put minus infinity in where it belongs, instead of
            multiplying by it.

            the lowest finite number
                lowest = torch.finfo(slopes.dtype).min
                    return (slopes * ahead).masked_fill(ahead > 0, lowest)
            Where a query may not attend, the bias is minus infinity, not the lowest finite number.

            zeros in the future
                return (slopes * ahead).masked_fill(ahead > 0, 0.0)
            A bias of 0 lets a key through. Where a query may not attend, it is minus infinity.

            a mask of the other kind
                return ahead <= 0 * slopes
            The result holds numbers to be added to the scores, not True and False.

            distances squared
                return (-slopes * ahead**2).masked_fill(ahead > 0, -torch.inf)
            The bias is linear in the distance: nothing is squared.

            one step too many
                return (slopes * (ahead - 1)).masked_fill(ahead > 0, -torch.inf)
            The key that a query stands on has the distance 0, and nothing is taken off.

            measured from the end
                last = (keys - keys[-1]).expand_as(ahead)
                    return (slopes * last).masked_fill(ahead > 0, -torch.inf)
            The distance is measured from the last key; it should be from the key that the query
            stands on. (A softmax would not notice, but the bias is to be as in the formula.)

            queries and keys exchanged
                return (slopes * ahead).masked_fill(ahead > 0, -torch.inf).transpose(1, 2)
            Rows are queries and columns are keys; yours are exchanged.

            heads last
                return (slopes * ahead).masked_fill(ahead > 0, -torch.inf).permute(1, 2, 0)
            The heads are the first dimension.

            a batch of one
                return (slopes * ahead).masked_fill(ahead > 0, -torch.inf).unsqueeze(0)
            The result has three dimensions, (heads, queries, keys), and no batch.

            relative to the length
                return (slopes * ahead / num_keys).masked_fill(ahead > 0, -torch.inf)
            A step is a step, however long the sequence is: nothing is divided by the length.
            """,
        ),
        *slips(
            STANDS,
            """
            aligned at the first key
                queries = torch.arange(num_queries, device=device).unsqueeze(1)
            Right for as many queries as keys. Otherwise the queries are the last positions: it is
            the last query that stands on the last key.

            shifted one too far
                queries = keys[num_keys - num_queries :].unsqueeze(1) + 1
            Each query stands one key too far on: the last one stands on the last key.
            """,
        ),
        *slips(
            PER_HEAD,
            """
            the same slope for all heads
                slopes = alibi_slopes(num_heads, device)[:1].expand(num_heads)[:, None, None]
            Every head has a slope of its own.

            slopes in reverse order
                slopes = alibi_slopes(num_heads, device).flip(0)[:, None, None]
            The heads keep the order of alibi_slopes, the steepest first.

            no slopes
                slopes = torch.ones(num_heads, 1, 1, device=device)
            The distance is multiplied by the head's slope.

            halved from head to head
                slopes = 0.5 ** torch.arange(1, num_heads + 1, device=device)[:, None, None]
            Those are the slopes for eight heads; alibi_slopes knows them for any number.
            """,
        ),
    ],
    variants=variants(
        """
        by where, with the distances
            def alibi_bias(num_heads, num_queries, num_keys, device=None):
                i = torch.arange(num_keys - num_queries, num_keys, device=device)[:, None]
                j = torch.arange(num_keys, device=device)[None, :]
                bias = -torch.einsum("h,ij->hij", alibi_slopes(num_heads, device), (i - j).float())
                return torch.where(j <= i, bias, float("-inf"))

        the last rows of a square
            def alibi_bias(num_heads, num_queries, num_keys, device=None):
                n = torch.arange(num_keys, device=device)
                square = (n[None] - n[:, None]).to(torch.get_default_dtype())
                square = square + torch.full_like(square, -torch.inf).triu(1)
                rows = square[-num_queries:]
                return torch.stack([m * rows for m in alibi_slopes(num_heads, device)])

        head by head
            def alibi_bias(num_heads, num_queries, num_keys, device=None):
                bias = torch.zeros(num_heads, num_queries, num_keys, device=device)
                slopes = alibi_slopes(num_heads, device=device)
                shift = num_keys - num_queries
                for i in range(num_queries):
                    for j in range(num_keys):
                        if j <= i + shift:
                            bias[:, i, j] = -slopes * (i + shift - j)
                        else:
                            bias[:, i, j] = -torch.inf
                return bias
        """
    ),
)


def sizes(num_heads, num_queries, num_keys):
    return {"num_heads": num_heads, "num_queries": num_queries, "num_keys": num_keys}


@alibi_bias.test(
    points=1.5,
    cases=[
        plain(
            "as many queries as keys", lambda make: sizes(3, n := make.choice([5, 7]), n), biased
        ),
        plain("the last few positions", lambda make: sizes(6, 3, make.choice([7, 8])), biased),
        plain("one new position", lambda make: sizes(4, 1, make.choice([5, 6])), biased),
        plain("eight heads", lambda _: sizes(8, 4, 5), biased),
    ],
)
def test_takes_off_distances(submission, case):
    """Takes slope times distance off, and hides the future"""
    submission.matches_reference(case)


@alibi_bias.test(
    points=0.5,
    cases=[
        plain(
            "on the device asked for",
            lambda make: {"x": make.normal(2), **sizes(3, 4, 6)},
            biased_on_the_device_of,
        )
    ],
)
def test_bias_is_made_on_the_device(submission, case):
    """Makes the bias on the device asked for"""
    submission.matches_on_device(case)
