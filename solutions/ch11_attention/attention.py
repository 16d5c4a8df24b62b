"""Attention: masks, scaled dot products, many heads, cross attention, grouped queries."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def padding_mask(lengths: Tensor, max_len: int) -> Tensor:
    """Tell the real positions of a padded batch from its padding.

    Args:
        lengths: how many positions of each sequence are real, counted from the left; integers
            from 0 to ``max_len``, of shape (batch,).
        max_len: positions in the padded batch, however long its longest sequence is.

    Returns:
        bool of shape (batch, 1, max_len), on the device of ``lengths``; True where a key may be
        attended to. The 1 stands for the queries: all of them see the same keys.
    """
    positions = torch.arange(max_len, device=lengths.device)  # (max_len,)
    return positions < lengths[:, None, None]  # (batch, 1, max_len)


def causal_mask(num_queries: int, num_keys: int, device: torch.device | None = None) -> Tensor:
    """Let each position attend to itself and to everything before it.

    The queries are the *last* ``num_queries`` positions of a sequence of ``num_keys``, as when
    one new token is read after many: the last query stands on the last key. With as many queries
    as keys, query i stands on key i. With more queries than keys, the first queries stand before
    the first key, and attend to nothing. PyTorch's ready-made masks, those of ``nn.Transformer``
    and ``torch.nn.attention``, are not allowed.

    Args:
        num_queries: rows of the mask, at least 1.
        num_keys: columns of the mask, at least 1.
        device: where the mask is made; PyTorch's default device where it is None.

    Returns:
        bool of shape (num_queries, num_keys); True where a query may attend to a key.
    """
    everything = torch.ones(num_queries, num_keys, dtype=torch.bool, device=device)
    return everything.tril(diagonal=num_keys - num_queries)


def scaled_dot_product_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attend with scaled dot products: Vaswani et al. (2017), equation 1, with a mask.

    https://arxiv.org/abs/1706.03762. To be written from elementary operations: PyTorch's own
    attention functions and modules are not allowed.

    The result is exact and finite for scores of any finite size, at masked positions too: what
    stands in the padding never matters. A query that may attend to nothing gets weights and an
    output of zeros, not NaN, and passes back gradients of zeros. No argument is changed; none
    need be contiguous.

    Args:
        q: queries, floating point, of shape (…, queries, d_k); … is any number of leading
            dimensions, none included, and the same for q, k and v.
        k: keys, of shape (…, keys, d_k).
        v: values, of shape (…, keys, d_v).
        mask: bool, broadcastable to (…, queries, keys); True where a query may attend to a key,
            as in PyTorch. None: every query may attend to every key.

    Returns:
        The output, of shape (…, queries, d_v), and the attention weights, of shape
        (…, queries, keys); both in the dtype of q. Weights are 0 where the mask is False and
        add up to 1 over the keys that a query may attend to.
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))  # (..., queries, keys)
    if mask is None:
        weights = torch.softmax(scores, dim=-1)
    else:
        # The lowest finite number instead of -inf: a row masked whole stays free of NaN.
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, dim=-1).masked_fill(~mask, 0.0)
    return weights @ v, weights  # (..., queries, d_v), (..., queries, keys)


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Cut the features of every position into heads.

    Args:
        x: of shape (batch, positions, num_heads * d_head).
        num_heads: how many heads.

    Returns:
        Shape (batch, num_heads, positions, d_head): head h holds the features from ``h * d_head``
        up to, not including, ``(h + 1) * d_head`` of every position.
    """
    batch, positions, _ = x.shape
    heads = x.reshape(batch, positions, num_heads, -1)  # (batch, positions, num_heads, d_head)
    return heads.transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """Put the heads of every position side by side again: the inverse of ``split_heads``.

    Args:
        x: of shape (batch, num_heads, positions, d_head); need not be contiguous.

    Returns:
        Shape (batch, positions, num_heads * d_head), the heads of a position in order.
    """
    return x.transpose(1, 2).flatten(start_dim=2)


class MultiHeadAttention(nn.Module):
    """Attend in several subspaces at once: Vaswani et al. (2017), section 3.2.2.

    https://arxiv.org/abs/1706.03762. Head h works on the features from ``h * d_head`` up to, not
    including, ``(h + 1) * d_head`` of the projected queries, keys and values, where ``d_head`` is
    ``d_model // num_heads``; the heads' outputs are concatenated in order and projected once more.
    PyTorch's own attention functions and modules are not allowed.

    Args:
        d_model: features of queries, keys, values and output.
        num_heads: how many heads share these features.

    Attributes:
        W_q, W_k, W_v: project queries, keys and values; each an ``nn.Linear`` without bias, from
            d_model to d_model features.
        W_o: projects the concatenated heads; an ``nn.Linear`` of the same form.

    Raises:
        ValueError: ``d_model`` is not divisible by ``num_heads``.
    """

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        if d_model % num_heads != 0:
            raise ValueError(f"d_model {d_model} is not divisible by num_heads {num_heads}")
        self.num_heads = num_heads
        self.W_q = nn.Linear(d_model, d_model, bias=False)
        self.W_k = nn.Linear(d_model, d_model, bias=False)
        self.W_v = nn.Linear(d_model, d_model, bias=False)
        self.W_o = nn.Linear(d_model, d_model, bias=False)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attend from every query to the keys; self-attention where all three are the same.

        Args:
            query: of shape (batch, queries, d_model).
            key: of shape (batch, keys, d_model).
            value: of shape (batch, keys, d_model).
            mask: bool, the same for all heads; of shape (queries, keys) or
                (batch, queries, keys), each of which may be 1. True where a query may attend to a
                key; None: everywhere. A query that may attend to nothing gets zeros.

        Returns:
            The output, of shape (batch, queries, d_model), and the weights of every head, of
            shape (batch, num_heads, queries, keys).
        """
        q = split_heads(self.W_q(query), self.num_heads)  # (batch, num_heads, queries, d_head)
        k = split_heads(self.W_k(key), self.num_heads)  # (batch, num_heads, keys, d_head)
        v = split_heads(self.W_v(value), self.num_heads)  # (batch, num_heads, keys, d_head)
        if mask is not None:
            mask = mask.unsqueeze(-3)  # (..., 1, queries, keys)
        heads, weights = scaled_dot_product_attention(q, k, v, mask)
        return self.W_o(merge_heads(heads)), weights


class CrossAttention(nn.Module):
    """Let one sequence read another that has features of its own: many heads, as above.

    The queries come from one sequence, the keys and the values from the other, as where a decoder
    reads an encoder (Vaswani et al., 2017, section 3.2.3). Heads, their features and their order
    are those of ``MultiHeadAttention``. PyTorch's own attention functions and modules are not
    allowed.

    Args:
        d_model: features of the sequence that reads, and of the output.
        d_context: features of the sequence that is read.
        num_heads: how many heads share ``d_model`` features.

    Attributes:
        W_q, W_o: each an ``nn.Linear`` without bias, from d_model to d_model features.
        W_k, W_v: each an ``nn.Linear`` without bias, from d_context to d_model features.

    Raises:
        ValueError: ``d_model`` is not divisible by ``num_heads``.
    """

    def __init__(self, d_model: int, d_context: int, num_heads: int) -> None:
        super().__init__()
        if d_model % num_heads != 0:
            raise ValueError(f"d_model {d_model} is not divisible by num_heads {num_heads}")
        self.num_heads = num_heads
        self.W_q = nn.Linear(d_model, d_model, bias=False)
        self.W_k = nn.Linear(d_context, d_model, bias=False)
        self.W_v = nn.Linear(d_context, d_model, bias=False)
        self.W_o = nn.Linear(d_model, d_model, bias=False)

    def forward(
        self, x: Tensor, context: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Read the context, once for every position of x.

        Args:
            x: the sequence that reads, of shape (batch, queries, d_model).
            context: the sequence that is read, of shape (batch, keys, d_context).
            mask: bool, the same for all heads; of shape (queries, keys) or
                (batch, queries, keys), each of which may be 1. True where a query may attend to a
                key; None: everywhere. A query that may attend to nothing gets zeros.

        Returns:
            The output, of shape (batch, queries, d_model), and the weights of every head, of
            shape (batch, num_heads, queries, keys).
        """
        q = split_heads(self.W_q(x), self.num_heads)  # (batch, num_heads, queries, d_head)
        k = split_heads(self.W_k(context), self.num_heads)  # (batch, num_heads, keys, d_head)
        v = split_heads(self.W_v(context), self.num_heads)  # (batch, num_heads, keys, d_head)
        if mask is not None:
            mask = mask.unsqueeze(-3)  # (..., 1, queries, keys)
        heads, weights = scaled_dot_product_attention(q, k, v, mask)
        return self.W_o(merge_heads(heads)), weights


class GroupedQueryAttention(nn.Module):
    """Share keys and values among groups of query heads: Ainslie et al. (2023).

    https://arxiv.org/abs/2305.13245. There are ``num_heads`` heads of queries and
    ``num_kv_heads`` heads of keys and values. All heads have d_head features, ``num_heads`` times
    d_head is d_model, and they are cut from their projections as in ``MultiHeadAttention``. With
    groups of ``num_heads // num_kv_heads``, the first group of query heads attends with the first
    head of keys and values, the next group with the next, and so on. PyTorch's own attention
    functions and modules are not allowed.

    Args:
        d_model: features of queries, keys, values and output.
        num_heads: heads of the queries.
        num_kv_heads: heads of the keys and values; 1 is multi-query attention, ``num_heads`` is
            multi-head attention.

    Attributes:
        W_q, W_o: each an ``nn.Linear`` without bias, from d_model to d_model features.
        W_k, W_v: each an ``nn.Linear`` without bias, from d_model features to what
            ``num_kv_heads`` heads of d_head features take.

    Raises:
        ValueError: ``d_model`` is not divisible by ``num_heads``, or ``num_heads`` is not
            divisible by ``num_kv_heads``.
    """

    def __init__(self, d_model: int, num_heads: int, num_kv_heads: int) -> None:
        super().__init__()
        if d_model % num_heads != 0:
            raise ValueError(f"d_model {d_model} is not divisible by num_heads {num_heads}")
        if num_heads % num_kv_heads != 0:
            raise ValueError(f"num_heads {num_heads} is not divisible by {num_kv_heads} kv heads")
        d_head = d_model // num_heads
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.W_q = nn.Linear(d_model, d_model, bias=False)
        self.W_k = nn.Linear(d_model, num_kv_heads * d_head, bias=False)
        self.W_v = nn.Linear(d_model, num_kv_heads * d_head, bias=False)
        self.W_o = nn.Linear(d_model, d_model, bias=False)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attend from every query to the keys; self-attention where all three are the same.

        Args:
            query: of shape (batch, queries, d_model).
            key: of shape (batch, keys, d_model).
            value: of shape (batch, keys, d_model).
            mask: bool, the same for all heads; of shape (queries, keys) or
                (batch, queries, keys), each of which may be 1. True where a query may attend to a
                key; None: everywhere. A query that may attend to nothing gets zeros.

        Returns:
            The output, of shape (batch, queries, d_model), and the weights of every query head,
            of shape (batch, num_heads, queries, keys).
        """
        group = self.num_heads // self.num_kv_heads
        q = split_heads(self.W_q(query), self.num_heads)  # (batch, num_heads, queries, d_head)
        k = split_heads(self.W_k(key), self.num_kv_heads)  # (batch, num_kv_heads, keys, d_head)
        v = split_heads(self.W_v(value), self.num_kv_heads)  # (batch, num_kv_heads, keys, d_head)
        k = k.repeat_interleave(group, dim=1)  # (batch, num_heads, keys, d_head)
        v = v.repeat_interleave(group, dim=1)  # (batch, num_heads, keys, d_head)
        if mask is not None:
            mask = mask.unsqueeze(-3)  # (..., 1, queries, keys)
        heads, weights = scaled_dot_product_attention(q, k, v, mask)
        return self.W_o(merge_heads(heads)), weights
