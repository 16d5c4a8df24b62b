"""The vision transformer: images as sequences of patches.

Dosovitskiy et al. (2021), https://arxiv.org/abs/2010.11929
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from solutions.ch11_attention.attention import MultiHeadAttention


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut images into square patches that do not overlap, and lay each patch flat.

    ``nn.Unfold`` and its function are not allowed.

    Args:
        images: of shape (batch, channels, height, width), any dtype; need not be contiguous.
            Not changed.
        patch_size: pixels along each side of a patch.

    Returns:
        Shape (batch, patches, channels * patch_size * patch_size). The patches come row by row
        from the top left, as one reads; the numbers of a patch come channel by channel, those of
        a channel row by row.

    Raises:
        ValueError: height or width is not divisible by ``patch_size``.
    """
    batch, channels, height, width = images.shape
    if height % patch_size != 0 or width % patch_size != 0:
        raise ValueError(f"patches of {patch_size} do not fit an image of {height} x {width}")
    rows, columns = height // patch_size, width // patch_size
    cut = images.reshape(batch, channels, rows, patch_size, columns, patch_size)
    patches = cut.permute(0, 2, 4, 1, 3, 5)  # (batch, rows, columns, channels, patch, patch)
    return patches.reshape(batch, rows * columns, channels * patch_size * patch_size)


class PatchEmbedding(nn.Module):
    """Turn each patch of an image into a vector: Dosovitskiy et al. (2021), equation 1.

    https://arxiv.org/abs/2010.11929: the part of the equation without class token and positions.

    Args:
        patch_size: pixels along each side of a patch.
        channels: of the images.
        d_model: features of each embedded patch.

    Attributes:
        projection: ``nn.Linear`` with bias, from the numbers of a patch, in the order of
            ``patchify``, to d_model features.
    """

    def __init__(self, patch_size: int, channels: int, d_model: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.projection = nn.Linear(channels * patch_size * patch_size, d_model)

    def forward(self, images: Tensor) -> Tensor:
        """Embed the patches of every image.

        Args:
            images: of shape (batch, channels, height, width); both sides are multiples of
                ``patch_size``.

        Returns:
            Shape (batch, patches, d_model), patches in the order of ``patchify``.
        """
        embedded: Tensor = self.projection(patchify(images, self.patch_size))
        return embedded


class ViTEmbedding(nn.Module):
    """Patches, a class token, and positions: Dosovitskiy et al. (2021), equation 1.

    https://arxiv.org/abs/2010.11929. The class token is one learned vector, the same for all
    images, and stands before the patches of each. Every place of the sequence, the class token's
    included, has a learned position, which is added. Of the sum, ``nn.Dropout`` drops with
    probability p while training.

    Args:
        image_size: pixels along each side of the square images.
        patch_size: pixels along each side of a patch; divides ``image_size``.
        channels: of the images.
        d_model: features of every place.
        p: probability of dropping, from 0 up to and including 1.

    Attributes:
        patches: a ``PatchEmbedding``.
        class_token: ``nn.Parameter`` of shape (1, 1, d_model).
        positions: ``nn.Parameter`` of shape (1, 1 + patches, d_model). Both parameters begin as
            draws from a normal distribution with mean 0 and standard deviation 0.02.
    """

    def __init__(
        self, image_size: int, patch_size: int, channels: int, d_model: int, p: float = 0.0
    ) -> None:
        super().__init__()
        count = (image_size // patch_size) ** 2
        self.patches = PatchEmbedding(patch_size, channels, d_model)
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, d_model))
        self.positions = nn.Parameter(0.02 * torch.randn(1, 1 + count, d_model))
        self.dropout = nn.Dropout(p)

    def forward(self, images: Tensor) -> Tensor:
        """Make a sequence of every image.

        Args:
            images: of shape (batch, channels, image_size, image_size).

        Returns:
            Shape (batch, 1 + patches, d_model), the class token's place first.
        """
        patches = self.patches(images)  # (batch, patches, d_model)
        class_token = self.class_token.expand(len(images), -1, -1)  # (batch, 1, d_model)
        x: Tensor = self.dropout(torch.cat([class_token, patches], dim=1) + self.positions)
        return x


class ViTBlock(nn.Module):
    """A pre-norm encoder block with a GELU: Dosovitskiy et al. (2021), equations 2 and 3.

    https://arxiv.org/abs/2010.11929. What attention and MLP return is dropped from with
    probability p, while training, before it is added; inside them nothing is dropped. The GELU is
    the exact one, PyTorch's default. PyTorch's own Transformer layers are not allowed.

    Args:
        d_model: features of every place.
        num_heads: heads of the attention.
        d_ff: features inside the MLP.
        p: probability of dropping, from 0 up to and including 1.

    Attributes:
        norm_1, norm_2: each an ``nn.LayerNorm`` with PyTorch's defaults; the first belongs to the
            attention, the second to the MLP.
        attention: a ``MultiHeadAttention``.
        W_1: ``nn.Linear`` with bias, from d_model to d_ff features.
        W_2: ``nn.Linear`` with bias, from d_ff to d_model features.
    """

    def __init__(self, d_model: int, num_heads: int, d_ff: int, p: float = 0.0) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(d_model)
        self.norm_2 = nn.LayerNorm(d_model)
        self.attention = MultiHeadAttention(d_model, num_heads)
        self.W_1 = nn.Linear(d_model, d_ff)
        self.W_2 = nn.Linear(d_ff, d_model)
        self.dropout = nn.Dropout(p)

    def forward(self, x: Tensor) -> Tensor:
        """Let every place look at all others, then work on what it has found.

        Args:
            x: of shape (batch, places, d_model). Not changed.

        Returns:
            The shape of ``x``.
        """
        z = self.norm_1(x)
        attended, _ = self.attention(z, z, z)
        x = x + self.dropout(attended)
        hidden = nn.functional.gelu(self.W_1(self.norm_2(x)))  # (batch, places, d_ff)
        y: Tensor = x + self.dropout(self.W_2(hidden))
        return y


class VisionTransformer(nn.Module):
    """An image classifier: Dosovitskiy et al. (2021), equations 1 to 4.

    https://arxiv.org/abs/2010.11929. The class token's place, after the last block, goes through
    a layer norm and a linear layer; the other places are not asked. PyTorch's own Transformer
    layers are not allowed.

    Args:
        image_size: pixels along each side of the square images.
        patch_size: pixels along each side of a patch; divides ``image_size``.
        channels: of the images.
        num_classes: how many classes there are.
        d_model: features of every place.
        num_heads: heads of each attention.
        d_ff: features inside each MLP.
        num_layers: how many blocks.
        p: probability of dropping, in the embedding and in all blocks.

    Attributes:
        embedding: a ``ViTEmbedding``.
        blocks: ``nn.ModuleList`` of num_layers ``ViTBlock``.
        norm: ``nn.LayerNorm`` with PyTorch's defaults.
        head: ``nn.Linear`` with bias, from d_model features to num_classes.
    """

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        channels: int,
        num_classes: int,
        d_model: int,
        num_heads: int,
        d_ff: int,
        num_layers: int,
        p: float = 0.0,
    ) -> None:
        super().__init__()
        self.embedding = ViTEmbedding(image_size, patch_size, channels, d_model, p)
        self.blocks = nn.ModuleList(
            ViTBlock(d_model, num_heads, d_ff, p) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Classify images.

        Args:
            images: of shape (batch, channels, image_size, image_size).

        Returns:
            Logits, of shape (batch, num_classes).
        """
        x = self.embedding(images)  # (batch, 1 + patches, d_model)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x[:, 0]))
        return logits


def attention_rollout(weights: Sequence[Tensor]) -> Tensor:
    """Follow attention through all layers: Abnar & Zuidema (2020), equation 1.

    https://arxiv.org/abs/2005.00928. In each layer the heads are averaged, and half of what a
    place has is counted as read by attention, half as its own, which came by the residual.

    Args:
        weights: of each layer, the first one first: (batch, heads, places, places), rows for
            queries, every row adding up to 1. At least one layer. Not changed.

    Returns:
        Shape (batch, places, places): row i says how place i after the last layer is made up of
        the places before the first. Every row adds up to 1.
    """
    own = torch.eye(weights[0].size(-1), dtype=weights[0].dtype, device=weights[0].device)
    rollout = own.expand(len(weights[0]), -1, -1)  # (batch, places, places)
    for layer in weights:
        rollout = (layer.mean(dim=1) + own) / 2 @ rollout
    return rollout
