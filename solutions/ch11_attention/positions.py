"""Positions for attention: sinusoidal, learned, rotary (RoPE), linear biases (ALiBi).

Vaswani et al. (2017), https://arxiv.org/abs/1706.03762; Su et al. (2021),
https://arxiv.org/abs/2104.09864; Press, Smith & Lewis (2021), https://arxiv.org/abs/2108.12409
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from solutions.ch11_attention.attention import (
    merge_heads,
    scaled_dot_product_attention,
    split_heads,
)


def sinusoidal_encoding(
    length: int, d_model: int, base: float = 10000.0, device: torch.device | None = None
) -> Tensor:
    """Encode the positions 0, 1, …, length − 1: Vaswani et al. (2017), section 3.5.

    https://arxiv.org/abs/1706.03762. Columns 2i and 2i + 1 hold a sine and a cosine of the same
    angle.

    Args:
        length: how many positions.
        d_model: features of each; even.
        base: wavelengths run from 2π up to almost 2π times this.
        device: where the encoding is made; PyTorch's default device where it is None.

    Returns:
        Shape (length, d_model), in PyTorch's default dtype: sines in the even columns, cosines in
        the odd ones.

    Raises:
        ValueError: ``d_model`` is odd.
    """
    if d_model % 2 != 0:
        raise ValueError(f"d_model must be even, but is {d_model}")
    positions = torch.arange(length, device=device).unsqueeze(1)  # (length, 1)
    exponents = torch.arange(0, d_model, 2, device=device) / d_model  # (d_model / 2,)
    angles = positions / base**exponents  # (length, d_model / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(start_dim=1)


def shift_matrix(
    offset: int, d_model: int, base: float = 10000.0, device: torch.device | None = None
) -> Tensor:
    """Find the matrix that moves every sinusoidal encoding by the same number of positions.

    With p the row of ``sinusoidal_encoding`` for any position and M this matrix, ``M @ p`` is the
    row for the position that is ``offset`` further. M is the same for all positions. It is 0 but
    for blocks of 2×2 on its diagonal, one for each frequency.

    Args:
        offset: by how many positions; negative moves back.
        d_model: features of the encoding; even.
        base: that of the encoding.
        device: where the matrix is made; PyTorch's default device where it is None.

    Returns:
        Shape (d_model, d_model), in PyTorch's default dtype.
    """
    exponents = torch.arange(0, d_model, 2, device=device) / d_model  # (d_model / 2,)
    angles = offset / base**exponents  # (d_model / 2,)
    cos = angles.cos().repeat_interleave(2)  # (d_model,)
    sin = torch.stack([angles.sin(), torch.zeros_like(angles)], dim=-1).flatten()[:-1]
    return torch.diag(cos) + torch.diag(sin, 1) - torch.diag(sin, -1)


class LearnedPositions(nn.Module):
    """Add a learned vector for each position, as BERT and GPT-2 do.

    Args:
        max_len: how many positions there are vectors for.
        d_model: features of each.

    Attributes:
        embedding: an ``nn.Embedding`` of ``max_len`` vectors of ``d_model`` features; row n is
            the vector of position n.
    """

    def __init__(self, max_len: int, d_model: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(max_len, d_model)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Add its position's vector to every element of a sequence. x is not changed.

        Args:
            x: of shape (batch, length, d_model).
            start: the position of the first element, at least 0; where a sequence is read in
                pieces, the length of what came before.

        Returns:
            Shape (batch, length, d_model).

        Raises:
            ValueError: a position is needed that there is no vector for.
        """
        end = start + x.size(1)
        max_len = self.embedding.num_embeddings
        if end > max_len:
            raise ValueError(f"positions up to {end - 1} are needed, but there are {max_len}")
        positions = torch.arange(start, end, device=x.device)  # (length,)
        vectors: Tensor = self.embedding(positions)  # (length, d_model)
        return x + vectors


def apply_rotary(x: Tensor, positions: Tensor, base: float = 10000.0) -> Tensor:
    """Rotate pairs of features by angles that grow with the position: Su et al. (2021), RoPE.

    https://arxiv.org/abs/2104.09864, equation 15 and section 3.2.2. Pairs are interleaved, as in
    the paper: features 2i and 2i + 1 are the first and the second coordinate of pair i, counted
    from 0. (Much published code pairs feature i with feature i + d_head / 2 instead.) Each pair
    is turned counterclockwise, from its first axis towards its second. Angles are computed in
    the dtype of x. No argument is changed.

    Args:
        x: queries or keys, floating point, of shape (…, length, d_head); … is any number of
            leading dimensions, none included; d_head is even.
        positions: of the elements along ``length``, in any order, integers or floating point, of
            shape (length,).
        base: pair i turns by ``base ** (-2 * i / d_head)`` radians a position.

    Returns:
        Shape (…, length, d_head), in the dtype of x.

    Raises:
        ValueError: ``d_head`` is odd.
    """
    d_head = x.size(-1)
    if d_head % 2 != 0:
        raise ValueError(f"d_head must be even, but is {d_head}")
    exponents = torch.arange(0, d_head, 2, dtype=x.dtype, device=x.device) / d_head
    angles = positions.to(x.dtype).unsqueeze(-1) / base**exponents  # (length, d_head / 2)
    cos, sin = angles.cos(), angles.sin()
    first, second = x[..., 0::2], x[..., 1::2]  # (..., length, d_head / 2)
    turned = torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1)
    return turned.flatten(start_dim=-2)


class RotarySelfAttention(nn.Module):
    """Let a sequence attend to itself in several heads, with rotary positions.

    ``MultiHeadAttention`` of the lesson before, for one sequence, except that the queries and the
    keys of every head are rotated by ``apply_rotary`` with the positions 0, 1, 2, … before they
    are compared. PyTorch's own attention functions and modules are not allowed.

    Args:
        d_model: features of input and output.
        num_heads: how many heads share these features; each has d_model // num_heads.
        base: of the rotation.

    Attributes:
        W_q, W_k, W_v, W_o: project queries, keys, values and the concatenated heads; each an
            ``nn.Linear`` without bias, from d_model to d_model features.

    Raises:
        ValueError: ``d_model`` is not divisible by ``num_heads``, or the features of a head are
            odd in number.
    """

    def __init__(self, d_model: int, num_heads: int, base: float = 10000.0) -> None:
        super().__init__()
        if d_model % num_heads != 0:
            raise ValueError(f"d_model {d_model} is not divisible by num_heads {num_heads}")
        if d_model // num_heads % 2 != 0:
            raise ValueError(f"heads of {d_model // num_heads} features cannot be cut into pairs")
        self.num_heads = num_heads
        self.base = base
        self.W_q = nn.Linear(d_model, d_model, bias=False)
        self.W_k = nn.Linear(d_model, d_model, bias=False)
        self.W_v = nn.Linear(d_model, d_model, bias=False)
        self.W_o = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Attend from every position to the others.

        Args:
            x: of shape (batch, length, d_model).
            mask: bool, the same for all heads; of shape (length, length) or
                (batch, length, length), each of which may be 1. True where a query may attend to
                a key; None: everywhere. A query that may attend to nothing gets zeros.

        Returns:
            The output, of shape (batch, length, d_model), and the weights of every head, of shape
            (batch, num_heads, length, length).
        """
        positions = torch.arange(x.size(1), device=x.device)  # (length,)
        q = split_heads(self.W_q(x), self.num_heads)  # (batch, num_heads, length, d_head)
        k = split_heads(self.W_k(x), self.num_heads)  # (batch, num_heads, length, d_head)
        v = split_heads(self.W_v(x), self.num_heads)  # (batch, num_heads, length, d_head)
        q = apply_rotary(q, positions, self.base)
        k = apply_rotary(k, positions, self.base)
        if mask is not None:
            mask = mask.unsqueeze(-3)  # (..., 1, length, length)
        heads, weights = scaled_dot_product_attention(q, k, v, mask)
        return self.W_o(merge_heads(heads)), weights


def alibi_slopes(num_heads: int, device: torch.device | None = None) -> Tensor:
    """Choose how steeply each head prefers what is near: Press et al. (2021), section 3.

    https://arxiv.org/abs/2108.12409. A geometric sequence whose first term and whose ratio are
    the same, and whose last term is 2 to the power −8, for any number of heads. (The authors'
    code departs from their formula where ``num_heads`` is no power of two; this does not.)

    Args:
        num_heads: how many heads.
        device: where the slopes are made; PyTorch's default device where it is None.

    Returns:
        Shape (num_heads,), in PyTorch's default dtype, the steepest first.
    """
    heads = torch.arange(1, num_heads + 1, device=device)  # (num_heads,)
    return 2.0 ** (-8.0 * heads / num_heads)


def alibi_bias(
    num_heads: int, num_queries: int, num_keys: int, device: torch.device | None = None
) -> Tensor:
    """Make what causal attention with linear biases adds to its scores: Press et al. (2021).

    https://arxiv.org/abs/2108.12409. The queries are the last ``num_queries`` positions of a
    sequence of ``num_keys``, so that the last query stands on the last key. A key that is n
    positions before the one that the query stands on gets n times the head's slope taken off its
    score; a key after it may not be attended to.

    Args:
        num_heads: how many heads; their slopes are those of ``alibi_slopes``.
        num_queries: at least 1.
        num_keys: at least ``num_queries``.
        device: where the bias is made; PyTorch's default device where it is None.

    Returns:
        Shape (num_heads, num_queries, num_keys), in PyTorch's default dtype; minus infinity
        where a query may not attend to a key.
    """
    keys = torch.arange(num_keys, device=device)  # (keys,)
    queries = keys[num_keys - num_queries :].unsqueeze(1)  # (queries, 1)
    ahead = keys - queries  # (queries, keys): negative where the key is before the query
    slopes = alibi_slopes(num_heads, device)[:, None, None]  # (num_heads, 1, 1)
    return (slopes * ahead).masked_fill(ahead > 0, -torch.inf)
