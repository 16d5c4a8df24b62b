"""Attention pooling: kernel regression, masked softmax, additive attention.

Nadaraya (1964), https://doi.org/10.1137/1109020; Watson (1964),
https://www.jstor.org/stable/25049340; Bahdanau, Cho & Bengio (2014),
https://arxiv.org/abs/1409.0473
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def nadaraya_watson(
    queries: Tensor, keys: Tensor, values: Tensor, bandwidth: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Predict at each query by an average of values, weighted by a Gaussian kernel.

    Nadaraya (1964), Watson (1964). Exact and finite however far a query is from every key, as
    long as squared distances are finite. Gradients reach queries, keys, values and, where it is a
    tensor, the bandwidth. No argument is changed.

    Args:
        queries: where to predict, floating point, of shape (…, queries, features); … is any
            number of leading dimensions, none included, the same for the first three arguments.
        keys: where values are known, of shape (…, keys, features).
        values: what is known there, of shape (…, keys, d_v).
        bandwidth: standard deviation of the kernel, positive; a number or a 0-d tensor.

    Returns:
        The predictions, of shape (…, queries, d_v), and the weights, of shape
        (…, queries, keys), which add up to 1 for every query.
    """
    differences = queries.unsqueeze(-2) - keys.unsqueeze(-3)  # (..., queries, keys, features)
    squared_distances = differences.square().sum(dim=-1)  # (..., queries, keys)
    weights = torch.softmax(-squared_distances / (2 * bandwidth**2), dim=-1)
    return weights @ values, weights  # (..., queries, d_v), (..., queries, keys)


def masked_softmax(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax over the keys that may be attended to: the last dimension, where the mask is True.

    Exact for scores of any finite size, at masked positions too. A row that is masked whole gives
    zeros, not NaN. Gradients are finite in all these cases, and zero where the mask is False. No
    argument is changed. ``torch.masked`` and PyTorch's attention functions are not allowed;
    ``torch.softmax`` is.

    Args:
        scores: floating point, of shape (…, keys), with at least one dimension.
        mask: bool, broadcastable to the shape of ``scores``; True where a key may be attended to.
            None: everywhere.

    Returns:
        The weights, in the shape and dtype of ``scores``: 0 where the mask is False, and adding
        up to 1 over the rest of each row.
    """
    if mask is None:
        return torch.softmax(scores, dim=-1)
    # The lowest finite number instead of -inf: a row masked whole stays free of NaN.
    lowest = torch.finfo(scores.dtype).min
    weights = torch.softmax(scores.masked_fill(~mask, lowest), dim=-1)
    return weights.masked_fill(~mask, 0.0)


def leave_one_out_loss(keys: Tensor, values: Tensor, bandwidth: float | Tensor) -> Tensor:
    """Judge a bandwidth: predict the value of each key from all the other keys.

    The predictions are those of ``nadaraya_watson`` with the same Gaussian kernel, except that no
    key takes part in the prediction of its own value. Exact and finite for any positive
    bandwidth, however small, as long as squared distances divided by its square are finite.
    Gradients reach the bandwidth where it is a tensor. No argument is changed. ``torch.masked`` and
    PyTorch's attention functions are not allowed.

    Args:
        keys: floating point, of shape (n, features), with n at least 2.
        values: of shape (n, d_v).
        bandwidth: standard deviation of the kernel, positive; a number or a 0-d tensor.

    Returns:
        The squared error, averaged over all n · d_v numbers; a 0-d tensor.
    """
    squared_distances = (keys.unsqueeze(1) - keys.unsqueeze(0)).square().sum(dim=-1)  # (n, n)
    others = ~torch.eye(len(keys), dtype=torch.bool, device=keys.device)  # (n, n)
    weights = masked_softmax(-squared_distances / (2 * bandwidth**2), others)
    return (weights @ values - values).square().mean()


def additive_scores(query: Tensor, key: Tensor, W_q: Tensor, W_k: Tensor, w_v: Tensor) -> Tensor:
    """Score every query with every key by a small network: Bahdanau et al. (2014), section A.1.2.

    https://arxiv.org/abs/1409.0473. One hidden layer of hyperbolic tangents, without biases. No
    argument is changed.

    Args:
        query: floating point, of shape (…, queries, d_query); … is any number of leading
            dimensions, none included, the same for query and key.
        key: of shape (…, keys, d_key).
        W_q: of shape (d_hidden, d_query), as in ``nn.Linear``.
        W_k: of shape (d_hidden, d_key), as in ``nn.Linear``.
        w_v: of shape (d_hidden,).

    Returns:
        The scores, not normalised, of shape (…, queries, keys).
    """
    from_query = (query @ W_q.T).unsqueeze(-2)  # (..., queries, 1, d_hidden)
    from_key = (key @ W_k.T).unsqueeze(-3)  # (..., 1, keys, d_hidden)
    return torch.tanh(from_query + from_key) @ w_v  # (..., queries, keys)


class AdditiveAttention(nn.Module):
    """Attend with additive scores: Bahdanau et al. (2014), https://arxiv.org/abs/1409.0473.

    Queries and keys may have different numbers of features, and so may the values. ``torch.masked``
    and PyTorch's own attention functions and modules are not allowed.

    Args:
        d_query: features of a query.
        d_key: features of a key.
        d_hidden: hidden units of the network that scores.

    Attributes:
        W_q: an ``nn.Linear`` without bias, from d_query to d_hidden features.
        W_k: an ``nn.Linear`` without bias, from d_key to d_hidden features.
        w_v: an ``nn.Linear`` without bias, from d_hidden features to 1.
    """

    def __init__(self, d_query: int, d_key: int, d_hidden: int) -> None:
        super().__init__()
        self.W_q = nn.Linear(d_query, d_hidden, bias=False)
        self.W_k = nn.Linear(d_key, d_hidden, bias=False)
        self.w_v = nn.Linear(d_hidden, 1, bias=False)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attend from every query to the keys.

        Args:
            query: of shape (batch, queries, d_query).
            key: of shape (batch, keys, d_key).
            value: of shape (batch, keys, d_v).
            mask: bool, of shape (queries, keys) or (batch, queries, keys), each of which may be
                1. True where a query may attend to a key; None: everywhere. A query that may
                attend to nothing gets zeros.

        Returns:
            The output, of shape (batch, queries, d_v), and the attention weights, of shape
            (batch, queries, keys).
        """
        w_v = self.w_v.weight.squeeze(0)  # (d_hidden,)
        scores = additive_scores(query, key, self.W_q.weight, self.W_k.weight, w_v)
        weights = masked_softmax(scores, mask)  # (batch, queries, keys)
        return weights @ value, weights
