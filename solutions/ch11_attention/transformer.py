"""The Transformer, from its layers to translating: and the attention in a translator before it.

Bahdanau, Cho & Bengio (2014), https://arxiv.org/abs/1409.0473; Vaswani et al. (2017),
https://arxiv.org/abs/1706.03762
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from solutions.ch11_attention.attention import MultiHeadAttention, causal_mask


class AttentionDecoderCell(nn.Module):
    """One step of a decoder with additive attention: Bahdanau et al. (2014), section 3.1.

    https://arxiv.org/abs/1409.0473. The step looks at the memory with the state that it was given,
    and then makes the new state out of the word before, of what it has read, and of that state.

    Args:
        d_embedding: features of an embedded word of the target.
        d_state: features of the decoder's state.
        d_memory: features of each position of the encoded source.
        d_attention: features in which state and memory are compared.

    Attributes:
        W_a: ``nn.Linear`` without bias, from d_state to d_attention features.
        U_a: ``nn.Linear`` without bias, from d_memory to d_attention features.
        v_a: ``nn.Linear`` without bias, from d_attention features to 1.
        cell: ``nn.GRUCell`` with states of d_state features; its input is the embedded word
            followed by the context.
    """

    def __init__(self, d_embedding: int, d_state: int, d_memory: int, d_attention: int) -> None:
        super().__init__()
        self.W_a = nn.Linear(d_state, d_attention, bias=False)
        self.U_a = nn.Linear(d_memory, d_attention, bias=False)
        self.v_a = nn.Linear(d_attention, 1, bias=False)
        self.cell = nn.GRUCell(d_embedding + d_memory, d_state)

    def forward(
        self, embedded: Tensor, state: Tensor, memory: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Take one step, for every sentence of a batch.

        The weights are exact and finite for scores of any finite size, at masked positions too.

        Args:
            embedded: the word before, of shape (batch, d_embedding).
            state: the state before, of shape (batch, d_state).
            memory: the encoded source, of shape (batch, keys, d_memory).
            mask: bool of shape (batch, keys), True where a position may be attended to; at least
                one in each row is.

        Returns:
            The new state, of shape (batch, d_state); the context, of shape (batch, d_memory); and
            the attention weights, of shape (batch, keys), 0 where the mask is False.
        """
        query = self.W_a(state).unsqueeze(1)  # (batch, 1, d_attention)
        scores = self.v_a(torch.tanh(query + self.U_a(memory))).squeeze(-1)  # (batch, keys)
        scores = scores.masked_fill(~mask, -torch.inf)
        weights = torch.softmax(scores, dim=-1)
        context = (weights.unsqueeze(1) @ memory).squeeze(1)  # (batch, d_memory)
        state = self.cell(torch.cat([embedded, context], dim=-1), state)
        return state, context, weights


def greedy_decode(
    model: Any, source: Tensor, bos: int, eos: int, max_len: int, pad: int = 0
) -> Tensor:
    """Translate word by word, each time taking the word with the largest logit.

    The source is encoded once. The target begins with ``bos``; every step decodes all that has
    been written so far and appends one word to it, max_len times. No graph is recorded.

    Args:
        model: has the methods ``encode(source)``, which returns a memory and its mask, and
            ``decode(target, memory, memory_mask)``, which returns logits of shape
            (batch, target positions, vocabulary).
        source: int64 of shape (batch, source positions).
        bos: the number of the word that begins a sentence.
        eos: the number of the word that ends it.
        max_len: how many words to write, at least 1.
        pad: what to put after ``eos``, whatever the model says there.

    Returns:
        int64 of shape (batch, max_len), on the device of ``source``: the words without ``bos``;
        a sentence that ended has its first ``eos`` and then nothing but ``pad``.
    """
    with torch.no_grad():
        memory, memory_mask = model.encode(source)
        target = torch.full_like(source[:, :1], bos)  # (batch, 1)
        for _ in range(max_len):
            logits = model.decode(target, memory, memory_mask)
            word = logits[:, -1].argmax(dim=-1, keepdim=True)  # (batch, 1)
            target = torch.cat([target, word], dim=1)
    words = target[:, 1:]  # (batch, max_len)
    ended = (words == eos).cumsum(dim=1) - (words == eos).long()  # ends before each word
    return words.masked_fill(ended > 0, pad)


class PositionwiseFeedForward(nn.Module):
    """Two linear layers with a ReLU between them: Vaswani et al. (2017), equation 2.

    https://arxiv.org/abs/1706.03762. Every position goes through them by itself.

    Args:
        d_model: features that come in and go out.
        d_ff: features between the two layers.

    Attributes:
        W_1: ``nn.Linear`` with bias, from d_model to d_ff features.
        W_2: ``nn.Linear`` with bias, from d_ff to d_model features.
    """

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.W_1 = nn.Linear(d_model, d_ff)
        self.W_2 = nn.Linear(d_ff, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Transform every position.

        Args:
            x: of shape (…, d_model); … is any number of leading dimensions. Not changed.

        Returns:
            The shape of ``x``.
        """
        y: Tensor = self.W_2(torch.relu(self.W_1(x)))
        return y


class SublayerConnection(nn.Module):
    """Wrap a sublayer: dropout, residual connection and layer norm, in one of two orders.

    Post-norm is the order of Vaswani et al. (2017), section 3.1, https://arxiv.org/abs/1706.03762:
    the norm is taken of the sum. Pre-norm is the order of Xiong et al. (2020), figure 1 (b),
    https://arxiv.org/abs/2002.04745: the norm is taken of what the sublayer gets, and of nothing
    else. In both, what the sublayer returns is dropped from with probability p before it is added.

    Args:
        d_model: features of every position.
        p: probability with which ``nn.Dropout`` drops, while training; from 0 up to and
            including 1.
        norm_first: pre-norm where True, post-norm where False.

    Attributes:
        norm: ``nn.LayerNorm`` over d_model features, with PyTorch's defaults.
    """

    def __init__(self, d_model: int, p: float = 0.0, norm_first: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(p)
        self.norm_first = norm_first

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Add to x what the sublayer has to say.

        Args:
            x: of shape (batch, positions, d_model). Not changed.
            sublayer: takes a tensor of the shape of ``x`` and returns another of that shape.

        Returns:
            The shape of ``x``.
        """
        if self.norm_first:
            y: Tensor = x + self.dropout(sublayer(self.norm(x)))
        else:
            y = self.norm(x + self.dropout(sublayer(x)))
        return y


class EncoderBlock(nn.Module):
    """Self-attention, then the feed-forward network: Vaswani et al. (2017), section 3.1.

    https://arxiv.org/abs/1706.03762, the left half of figure 1. Each of the two is wrapped in a
    ``SublayerConnection`` of its own. PyTorch's own Transformer layers are not allowed.

    Args:
        d_model: features of every position.
        num_heads: heads of the attention.
        d_ff: features inside the feed-forward network.
        p: probability of dropping, in both connections.
        norm_first: pre-norm where True, post-norm where False.

    Attributes:
        self_attention: a ``MultiHeadAttention``.
        feed_forward: a ``PositionwiseFeedForward``.
        residuals: ``nn.ModuleList`` of two ``SublayerConnection``, that of the attention first.
    """

    def __init__(
        self, d_model: int, num_heads: int, d_ff: int, p: float = 0.0, norm_first: bool = False
    ) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, num_heads)
        self.feed_forward = PositionwiseFeedForward(d_model, d_ff)
        self.residuals = nn.ModuleList(SublayerConnection(d_model, p, norm_first) for _ in range(2))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Let every position read the others, then think about it.

        Args:
            x: of shape (batch, positions, d_model). Not changed.
            mask: bool, of shape (positions, positions) or (batch, positions, positions), each of
                which may be 1; True where a query may attend to a key. None: everywhere.

        Returns:
            The shape of ``x``.
        """
        x = self.residuals[0](x, lambda z: self.self_attention(z, z, z, mask)[0])
        y: Tensor = self.residuals[1](x, self.feed_forward)
        return y


class DecoderBlock(nn.Module):
    """Self-attention, cross attention, the feed-forward network: Vaswani et al., section 3.1.

    https://arxiv.org/abs/1706.03762, the right half of figure 1. Each of the three is wrapped in
    a ``SublayerConnection`` of its own. The cross attention's queries come from the target, its
    keys and values from the memory, which it takes as it is. PyTorch's own Transformer layers are
    not allowed.

    Args:
        d_model: features of every position, of target and memory.
        num_heads: heads of each attention.
        d_ff: features inside the feed-forward network.
        p: probability of dropping, in all three connections.
        norm_first: pre-norm where True, post-norm where False.

    Attributes:
        self_attention, cross_attention: each a ``MultiHeadAttention``.
        feed_forward: a ``PositionwiseFeedForward``.
        residuals: ``nn.ModuleList`` of three ``SublayerConnection``, in the order in which the
            sublayers are used.
    """

    def __init__(
        self, d_model: int, num_heads: int, d_ff: int, p: float = 0.0, norm_first: bool = False
    ) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, num_heads)
        self.cross_attention = MultiHeadAttention(d_model, num_heads)
        self.feed_forward = PositionwiseFeedForward(d_model, d_ff)
        self.residuals = nn.ModuleList(SublayerConnection(d_model, p, norm_first) for _ in range(3))

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        """Read the target so far, then the source, then think about it.

        Args:
            x: the target, of shape (batch, positions, d_model). Not changed.
            memory: the encoded source, of shape (batch, keys, d_model). Not changed.
            mask: of the self-attention; bool, of shape (positions, positions) or
                (batch, positions, positions), each of which may be 1; True where a query may
                attend to a key. None: everywhere.
            memory_mask: of the cross attention; bool, of shape (positions, keys) or
                (batch, positions, keys), each of which may be 1. None: everywhere.

        Returns:
            The shape of ``x``.
        """
        x = self.residuals[0](x, lambda z: self.self_attention(z, z, z, mask)[0])
        x = self.residuals[1](x, lambda z: self.cross_attention(z, memory, memory, memory_mask)[0])
        y: Tensor = self.residuals[2](x, self.feed_forward)
        return y


class Transformer(nn.Module):
    """The encoder–decoder: Vaswani et al. (2017), figure 1, with learned positions.

    https://arxiv.org/abs/1706.03762. Words enter as the sum of two embeddings, that of the word
    and that of its position, positions counted from 0; the sum is not scaled, and it is dropped
    from with probability p while training. A linear layer turns what the last block of the
    decoder returns into logits. With pre-norm, one more layer norm stands after the last block
    of the encoder, and one after the last block of the decoder. PyTorch's own Transformer and its
    layers are not allowed.

    Args:
        src_vocab_size: how many words the source language has.
        tgt_vocab_size: how many words the target language has.
        d_model: features of every position.
        num_heads: heads of each attention.
        d_ff: features inside each feed-forward network.
        num_layers: blocks of the encoder, and of the decoder.
        max_len: positions of the longest sentence, in either language.
        p: probability of dropping, after the embeddings and in all blocks.
        norm_first: pre-norm where True, post-norm where False.
        pad: the number that fills up the shorter sentences of a batch, after their words.

    Attributes:
        src_embedding, tgt_embedding: ``nn.Embedding`` of each language's words.
        src_positions, tgt_positions: ``nn.Embedding`` of max_len positions.
        encoder: ``nn.ModuleList`` of num_layers ``EncoderBlock``.
        decoder: ``nn.ModuleList`` of num_layers ``DecoderBlock``.
        encoder_norm, decoder_norm: ``nn.LayerNorm`` with PyTorch's defaults where norm_first is
            True, ``nn.Identity`` where it is False.
        output: ``nn.Linear`` with bias, from d_model features to tgt_vocab_size.
    """

    def __init__(
        self,
        src_vocab_size: int,
        tgt_vocab_size: int,
        d_model: int,
        num_heads: int,
        d_ff: int,
        num_layers: int,
        max_len: int,
        p: float = 0.0,
        norm_first: bool = False,
        pad: int = 0,
    ) -> None:
        super().__init__()
        self.pad = pad
        self.src_embedding = nn.Embedding(src_vocab_size, d_model)
        self.tgt_embedding = nn.Embedding(tgt_vocab_size, d_model)
        self.src_positions = nn.Embedding(max_len, d_model)
        self.tgt_positions = nn.Embedding(max_len, d_model)
        self.dropout = nn.Dropout(p)
        self.encoder = nn.ModuleList(
            EncoderBlock(d_model, num_heads, d_ff, p, norm_first) for _ in range(num_layers)
        )
        self.decoder = nn.ModuleList(
            DecoderBlock(d_model, num_heads, d_ff, p, norm_first) for _ in range(num_layers)
        )
        self.encoder_norm = nn.LayerNorm(d_model) if norm_first else nn.Identity()
        self.decoder_norm = nn.LayerNorm(d_model) if norm_first else nn.Identity()
        self.output = nn.Linear(d_model, tgt_vocab_size)

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Read the source; no word attends to padding.

        Args:
            source: numbers of words, int64 of shape (batch, source positions), ``pad`` after
                the words.

        Returns:
            The memory, of shape (batch, source positions, d_model), in which positions of padding
            may hold anything; and its mask, bool of shape (batch, 1, source positions), True
            where there is a word.
        """
        mask = (source != self.pad).unsqueeze(1)  # (batch, 1, source positions)
        positions = torch.arange(source.size(1), device=source.device)
        x = self.dropout(self.src_embedding(source) + self.src_positions(positions))
        for block in self.encoder:
            x = block(x, mask)
        return self.encoder_norm(x), mask

    def decode(self, target: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        """Say which word comes next, after every word of the target.

        A position of the target sees itself and what is before it.

        Args:
            target: numbers of words, int64 of shape (batch, target positions), ``pad`` after
                the words.
            memory: from ``encode``, of shape (batch, source positions, d_model).
            memory_mask: from ``encode``, bool of shape (batch, 1, source positions).

        Returns:
            Logits, of shape (batch, target positions, tgt_vocab_size); at position t those of
            the word after it. Where the target is padding they may be anything.
        """
        n = target.size(1)
        positions = torch.arange(n, device=target.device)
        x = self.dropout(self.tgt_embedding(target) + self.tgt_positions(positions))
        mask = causal_mask(n, n, device=target.device)  # (target positions, target positions)
        for block in self.decoder:
            x = block(x, memory, mask, memory_mask)
        logits: Tensor = self.output(self.decoder_norm(x))
        return logits

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Encode the source and decode the target: the logits of ``decode``.

        Args:
            source: int64 of shape (batch, source positions).
            target: int64 of shape (batch, target positions).

        Returns:
            Logits, of shape (batch, target positions, tgt_vocab_size).
        """
        memory, mask = self.encode(source)
        return self.decode(target, memory, mask)
