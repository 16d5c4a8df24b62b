"""Fast attention: online softmax, tiled attention forward and backward, a key-value cache.

Milakov & Gimelshein (2018), https://arxiv.org/abs/1805.02867; Dao et al. (2022),
https://arxiv.org/abs/2205.14135; Dao (2023), https://arxiv.org/abs/2307.08691
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from solutions.ch11_attention.attention import (
    causal_mask,
    merge_heads,
    scaled_dot_product_attention,
    split_heads,
)


def online_softmax_update(
    running_max: Tensor, running_sum: Tensor, scores: Tensor
) -> tuple[Tensor, Tensor]:
    """Take one more block of scores into a row's maximum and its sum of exponentials.

    Milakov & Gimelshein (2018), https://arxiv.org/abs/1805.02867, algorithm 3, a block at a time.
    With s over all scores of a row that have been seen, ``running_max`` is their maximum m, and
    ``running_sum`` is the sum of exp(s − m). Where nothing has been seen, the maximum is minus
    infinity and the sum is 0. Scores of minus infinity stand for masked keys and count nothing,
    also where there is nothing else in the block, or in all blocks so far; no NaN comes of them.
    Exact for finite scores of any size. No argument is changed.

    Args:
        running_max: floating point, of shape (…,): one number a row; … is any number of dimensions,
            none included.
        running_sum: of the same shape.
        scores: the block, of shape (…, block) with at least one score a row; finite or minus
            infinity.

    Returns:
        The new maximum and the new sum, both of shape (…,).
    """
    new_max = torch.maximum(running_max, scores.amax(dim=-1))  # (...)
    # Where all is masked so far, any finite number keeps inf - inf out of the exponents.
    finite = new_max.masked_fill(new_max == -torch.inf, 0.0)
    old = running_sum * torch.exp(running_max - finite)
    return new_max, old + torch.exp(scores - finite.unsqueeze(-1)).sum(dim=-1)


def flash_attention_forward(
    q: Tensor, k: Tensor, v: Tensor, block_size: int, causal: bool = False
) -> tuple[Tensor, Tensor]:
    """Attend block by block, without ever holding all scores: Dao et al. (2022), Dao (2023).

    https://arxiv.org/abs/2205.14135, https://arxiv.org/abs/2307.08691. The result is that of
    scaled dot-product attention. Keys and values are gone through in blocks of ``block_size``
    (the last may be smaller), and unless a single block holds all keys, no tensor may have as many
    numbers as the scores of all queries with all keys. Exact for finite scores of any size.
    PyTorch's own attention functions are not allowed. No argument is changed.

    Args:
        q: queries, floating point, of shape (…, queries, d_k); … is any number of leading
            dimensions, none included, the same for q, k and v.
        k: keys, of shape (…, keys, d_k).
        v: values, of shape (…, keys, d_v).
        block_size: keys in a block, at least 1; there may be fewer keys than that.
        causal: the queries are the last positions of the keys' sequence, the last query stands
            on the last key, and none may attend to a key after its own; there are at least as
            many keys as queries.

    Returns:
        The output, of shape (…, queries, d_v), and for every query the logarithm of the sum of
        the exponentials of its scaled scores, over the keys that it may attend to, of shape
        (…, queries).
    """
    num_queries, num_keys = q.size(-2), k.size(-2)
    running_max = torch.full_like(q[..., 0], -torch.inf)  # (..., queries)
    running_sum = torch.zeros_like(running_max)  # (..., queries)
    output = q.new_zeros(*q.shape[:-1], v.size(-1))  # (..., queries, d_v)
    stands_on = torch.arange(num_keys - num_queries, num_keys, device=q.device)  # (queries,)
    for start in range(0, num_keys, block_size):
        end = min(start + block_size, num_keys)
        scores = q @ k[..., start:end, :].mT / math.sqrt(q.size(-1))  # (..., queries, block)
        if causal:
            behind = torch.arange(start, end, device=q.device) > stands_on.unsqueeze(1)
            scores = scores.masked_fill(behind, -torch.inf)
        new_max, running_sum = online_softmax_update(running_max, running_sum, scores)
        shrink = torch.exp(running_max - new_max).unsqueeze(-1)  # (..., queries, 1)
        weights = torch.exp(scores - new_max.unsqueeze(-1))  # (..., queries, block)
        output = output * shrink + weights @ v[..., start:end, :]
        running_max = new_max
    return output / running_sum.unsqueeze(-1), running_max + running_sum.log()


def flash_attention_backward(
    grad_output: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    output: Tensor,
    lse: Tensor,
    block_size: int,
    causal: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Differentiate tiled attention, recomputing its weights block by block: Dao (2023).

    https://arxiv.org/abs/2307.08691, algorithm 2. Weights are exponentials of scaled scores less
    ``lse``, and are not normalised anew; what all keys together have contributed comes in through
    ``output``. So k and v may also be a part of the keys and values that ``output`` and ``lse``
    were computed with, as where these are spread over several devices: the gradients are then
    what this part contributes to grad_q, and its own grad_k and grad_v. Unless a single block holds
    all keys, no tensor may have as many numbers as the scores of all queries with all keys.
    PyTorch's automatic differentiation and attention functions are not allowed. No argument is
    changed.

    Args:
        grad_output: the loss's gradient by the output, of shape (…, queries, d_v).
        q: queries, of shape (…, queries, d_k).
        k: keys, of shape (…, keys, d_k).
        v: values, of shape (…, keys, d_v).
        output: of ``flash_attention_forward``, of shape (…, queries, d_v).
        lse: of ``flash_attention_forward``, of shape (…, queries).
        block_size: keys in a block, at least 1; there may be fewer keys than that.
        causal: as in ``flash_attention_forward``.

    Returns:
        The gradients by q, k and v, each of the shape of what it is the gradient by.
    """
    num_queries, num_keys = q.size(-2), k.size(-2)
    scale = 1 / math.sqrt(q.size(-1))
    delta = (grad_output * output).sum(dim=-1, keepdim=True)  # (..., queries, 1)
    grad_q = torch.zeros_like(q)
    grads_k, grads_v = [], []
    stands_on = torch.arange(num_keys - num_queries, num_keys, device=q.device)  # (queries,)
    for start in range(0, num_keys, block_size):
        end = min(start + block_size, num_keys)
        k_block, v_block = k[..., start:end, :], v[..., start:end, :]
        scores = q @ k_block.mT * scale  # (..., queries, block)
        if causal:
            behind = torch.arange(start, end, device=q.device) > stands_on.unsqueeze(1)
            scores = scores.masked_fill(behind, -torch.inf)
        weights = torch.exp(scores - lse.unsqueeze(-1))  # (..., queries, block)
        grad_weights = grad_output @ v_block.mT  # (..., queries, block)
        grad_scores = weights * (grad_weights - delta)  # (..., queries, block)
        grad_q = grad_q + grad_scores @ k_block * scale
        grads_k.append(grad_scores.mT @ q * scale)
        grads_v.append(weights.mT @ grad_output)
    return grad_q, torch.cat(grads_k, dim=-2), torch.cat(grads_v, dim=-2)


class FlashAttention(torch.autograd.Function):
    """Tiled attention as an operation of its own, with a derivative of its own.

    ``FlashAttention.apply(q, k, v, block_size, causal)`` returns the output of
    ``flash_attention_forward``, and calling ``backward`` on what follows gives the gradients of
    ``flash_attention_backward``. Unless a single block holds all keys, no tensor is made, let alone
    kept between the two, that has as many numbers as the scores of all queries with all keys.
    PyTorch's automatic differentiation and attention functions are not allowed.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, block_size: int, causal: bool) -> Tensor:
        """Compute the output, and keep what going backward needs.

        Args:
            ctx: PyTorch's; tensors are kept with ``ctx.save_for_backward``.
            q: of shape (…, queries, d_k).
            k: of shape (…, keys, d_k).
            v: of shape (…, keys, d_v).
            block_size: keys in a block.
            causal: as in ``flash_attention_forward``.

        Returns:
            The output alone, of shape (…, queries, d_v).
        """
        output, lse = flash_attention_forward(q, k, v, block_size, causal)
        ctx.save_for_backward(q, k, v, output, lse)
        ctx.block_size, ctx.causal = block_size, causal
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """Compute the gradients of everything that ``forward`` took.

        Args:
            ctx: PyTorch's; holds what ``forward`` kept.
            grad_outputs: one tensor, the gradient by the output, of shape (…, queries, d_v).

        Returns:
            One gradient for each argument of ``forward`` after ``ctx``, in their order; None for
            those that have none.
        """
        q, k, v, output, lse = ctx.saved_tensors
        grads = flash_attention_backward(
            grad_outputs[0], q, k, v, output, lse, ctx.block_size, ctx.causal
        )
        return *grads, None, None


class KVCache:
    """Keep the keys and values of what has been read, so that they are not computed again.

    Args:
        max_len: how many positions fit.

    Attributes:
        length: how many positions it holds; 0 at first.
    """

    def __init__(self, max_len: int) -> None:
        self.max_len = max_len
        self.length = 0
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Take in the keys and values of the next positions. The arguments are not changed.

        What is kept does not change when the caller later changes ``k`` or ``v`` in place, and
        what was returned earlier does not change with later calls. The first call decides on the
        leading dimensions, the features, the dtype and the device.

        Args:
            k: of shape (batch, num_heads, new, d_head), with at least one new position.
            v: of the same shape.

        Returns:
            The keys and the values of all positions so far, oldest first, both of shape
            (batch, num_heads, length, d_head).

        Raises:
            ValueError: more than ``max_len`` positions would be held; the cache is then left as
                it was.
        """
        if self.length + k.size(-2) > self.max_len:
            raise ValueError(f"{self.length} + {k.size(-2)} positions, room for {self.max_len}")
        if self.keys is None or self.values is None:
            self.keys, self.values = k.clone(), v.clone()
        else:
            self.keys = torch.cat([self.keys, k], dim=-2)
            self.values = torch.cat([self.values, v], dim=-2)
        self.length = self.keys.size(-2)
        return self.keys, self.values


class CachedSelfAttention(nn.Module):
    """Causal self-attention in several heads that can go on where it stopped.

    ``MultiHeadAttention`` of the lesson *Attention*, for one sequence that attends to itself and
    to everything before it. PyTorch's own attention functions and modules are not allowed.

    Args:
        d_model: features of input and output.
        num_heads: how many heads share these features; divides d_model.

    Attributes:
        W_q, W_k, W_v, W_o: project queries, keys, values and the concatenated heads; each an
            ``nn.Linear`` without bias, from d_model to d_model features.
    """

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.W_q = nn.Linear(d_model, d_model, bias=False)
        self.W_k = nn.Linear(d_model, d_model, bias=False)
        self.W_v = nn.Linear(d_model, d_model, bias=False)
        self.W_o = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """Attend from each position to itself and to all before it.

        With a cache, x holds the positions that follow on those in it, and attends to these as
        well; its own keys and values are appended. A sequence read in pieces of any size, with
        one cache, gives what it gives when it is read at once.

        Args:
            x: of shape (batch, new, d_model).
            cache: of earlier positions, as ``KVCache``; it is changed. None: there are none.

        Returns:
            The output for the positions in x, of shape (batch, new, d_model).
        """
        q = split_heads(self.W_q(x), self.num_heads)  # (batch, num_heads, new, d_head)
        k = split_heads(self.W_k(x), self.num_heads)  # (batch, num_heads, new, d_head)
        v = split_heads(self.W_v(x), self.num_heads)  # (batch, num_heads, new, d_head)
        if cache is not None:
            k, v = cache.append(k, v)  # (batch, num_heads, keys, d_head)
        mask = causal_mask(q.size(-2), k.size(-2), x.device)  # (new, keys)
        heads, _ = scaled_dot_product_attention(q, k, v, mask)
        output: Tensor = self.W_o(merge_heads(heads))
        return output
