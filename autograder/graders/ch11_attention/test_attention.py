"""Masks, scaled dot products, heads, cross attention: Vaswani et al. (2017), section 3.2,
https://arxiv.org/abs/1706.03762; grouped queries: Ainslie et al. (2023),
https://arxiv.org/abs/2305.13245."""

from functools import partial

import torch
from torch import nn

from autograder.spec import (
    TRAINING,
    Case,
    Exercise,
    Mistake,
    Variant,
    gradients,
    load_weights,
    names_and_shapes,
    raised,
)

SHORT_CUTS = [
    "torch.nn.functional.scaled_dot_product_attention",
    "torch.nn.functional.multi_head_attention_forward",
    "torch.nn.MultiheadAttention",
    "torch.nn.modules.MultiheadAttention",
    "torch.nn.modules.activation.MultiheadAttention",
    "torch.nn.Transformer",
    "torch.nn.TransformerEncoder",
    "torch.nn.TransformerEncoderLayer",
    "torch.nn.TransformerDecoder",
    "torch.nn.TransformerDecoderLayer",
    "torch.nn.modules.transformer",
    "torch.nn.attention",
    "torch._C._nn.scaled_dot_product_attention",
    "torch._native_multi_head_attention",
    "torch._transformer_encoder_layer_fwd",
    "torch._scaled_dot_product_attention_math",
    "torch.ops.aten.scaled_dot_product_attention",
    "torch.ops.aten._scaled_dot_product_attention_math",
    "torch.ops.aten._scaled_dot_product_flash_attention",
    "torch.ops.aten._scaled_dot_product_flash_attention_for_cpu",
    "torch.ops.aten._scaled_dot_product_efficient_attention",
    "torch.ops.aten._scaled_dot_product_cudnn_attention",
    "torch.ops.aten._scaled_dot_product_fused_attention_overrideable",
    "torch.ops.aten._native_multi_head_attention",
]


def plain(impl, **inputs):
    return impl(*inputs.values())


def named(result):
    """Names for the feedback; where only one thing comes back, the weights are missing."""
    pair = isinstance(result, tuple | list) and len(result) == 2
    output, weights = result if pair else (result, None)
    return {"output": output, "weights": weights}


# ---------------------------------------------------------------------------- padding_mask


def padding_by_counting(lengths, max_len):
    ones = torch.ones(len(lengths), max_len, dtype=torch.int64, device=lengths.device)
    return (ones.cumsum(1) <= lengths.unsqueeze(1)).unsqueeze(1)


padding_mask = Exercise(
    "padding_mask",
    oracle=padding_by_counting,
    mistakes=[
        Mistake(
            "one position too many",
            "positions < lengths",
            "positions <= lengths",
            "One padded position per sequence is let through. Positions count from 0: which is "
            "the last real one of a sequence of length 3?",
        ),
        Mistake(
            "one position too few",
            "positions < lengths[:, None, None]",
            "positions < lengths[:, None, None] - 1",
            "The last real position of each sequence is masked away. Positions count from 0: "
            "which is the last real one of a sequence of length 3?",
        ),
        Mistake(
            "True where it is padding",
            "positions < lengths",
            "positions >= lengths",
            "The polarity is reversed: here, as in PyTorch's scaled dot-product attention, True "
            "means 'may be attended to'. (nn.MultiheadAttention's key_padding_mask says it the "
            "other way round, which is where this often comes from.)",
        ),
        Mistake(
            "padding on the left",
            "positions < lengths[:, None, None]",
            "positions >= max_len - lengths[:, None, None]",
            "This marks the last positions as real. The sequences start at position 0, and the "
            "padding comes after them.",
        ),
        Mistake(
            "no dimension for the queries",
            "lengths[:, None, None]",
            "lengths[:, None]",
            "Shape (batch, max_len) would line the batch up with the queries when it is "
            "broadcast against (batch, queries, keys). Keep a dimension of size 1 between them.",
        ),
        Mistake(
            "one dimension too many",
            "lengths[:, None, None]",
            "lengths[:, None, None, None]",
            "Shape (batch, 1, 1, max_len) fits scores that have heads already. Here the mask "
            "has three dimensions; MultiHeadAttention makes room for its heads itself.",
        ),
        Mistake(
            "the batch in the queries' place",
            "lengths[:, None, None]",
            "lengths[None, :, None]",
            "Shape (1, batch, max_len) puts the batch where the queries belong. The batch comes "
            "first, and the dimension of size 1 after it.",
        ),
        Mistake(
            "a row for every position",
            "return positions < lengths[:, None, None]",
            "return (positions < lengths[:, None, None]).expand(-1, max_len, -1)",
            "The mask has a row for every position of the batch. One row, broadcast, serves any "
            "number of queries, also where queries and keys differ in number.",
        ),
        Mistake(
            "masks queries instead of keys",
            "return positions < lengths[:, None, None]",
            "return positions[:, None] < lengths[:, None, None]",
            "The 1 stands in the keys' place, so this mask hides padded queries and lets every "
            "query see padded keys. The last dimension is the keys'.",
        ),
        Mistake(
            "as long as the longest sequence",
            "torch.arange(max_len, device=lengths.device)",
            "torch.arange(int(lengths.max()), device=lengths.device)",
            "The mask is as long as the longest sequence, but the padded batch has max_len "
            "positions, which may be more.",
        ),
        Mistake(
            "numbers instead of bool",
            "return positions < lengths[:, None, None]",
            "return (positions < lengths[:, None, None]).to(torch.get_default_dtype())",
            "The mask holds zeros and ones. It should be bool: a comparison gives just that, and "
            "numbers would be taken as something to add to the scores.",
        ),
        Mistake(
            "the same for every sequence",
            "lengths[:, None, None]",
            "lengths.max().expand(len(lengths))[:, None, None]",
            "Every sequence got the mask of the longest one. Each row of the batch has a length "
            "of its own.",
        ),
        Mistake(
            "one real position in an empty sequence",
            "lengths[:, None, None]",
            "lengths.clamp(min=1)[:, None, None]",
            "A sequence of length 0 has no real position, but one of its positions is marked as "
            "real. Lengths start at 0.",
        ),
    ],
    variants=[
        Variant(
            "row by row",
            """
            def padding_mask(lengths, max_len):
                mask = torch.zeros(len(lengths), 1, max_len, dtype=torch.bool)
                for row, length in enumerate(lengths.tolist()):
                    mask[row, :, :length] = True
                return mask.to(lengths.device)
            """,
        ),
        Variant(
            "everything but the padding",
            """
            def padding_mask(lengths, max_len):
                index = torch.arange(max_len, device=lengths.device).expand(len(lengths), -1)
                padding = torch.ge(index, lengths.unsqueeze(-1))
                return torch.logical_not(padding).unsqueeze(1)
            """,
        ),
        Variant(
            "by broadcasting views",
            """
            def padding_mask(lengths, max_len):
                index = torch.arange(1, max_len + 1, device=lengths.device).view(1, 1, max_len)
                return lengths.view(-1, 1, 1) >= index
            """,
        ),
    ],
)

PADDING_CASES = [
    Case(
        "sequences of several lengths, none as long as the batch",
        plain,
        lambda make: {"lengths": 1 + make.permutation(5)[:4], "max_len": 9},
    ),
    Case(
        "an empty sequence and a full one",
        plain,
        lambda make: {"lengths": torch.tensor([0, 6, 2])[make.permutation(3)], "max_len": 6},
    ),
    Case(
        "a batch of one",
        plain,
        lambda make: {"lengths": make.integers(2, 5, 1), "max_len": 7},
    ),
]


@padding_mask.test(points=1, cases=PADDING_CASES)
def test_marks_the_real_positions(submission, case):
    """Marks the real positions, and nothing else"""
    submission.matches_reference(case)


@padding_mask.test(points=0.5, cases=PADDING_CASES[:1])
def test_padding_mask_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ----------------------------------------------------------------------------- causal_mask


def causal_by_comparing(num_queries, num_keys, device=None):
    keys = torch.arange(num_keys, device=device)
    queries = torch.arange(num_keys - num_queries, num_keys, device=device)
    return keys <= queries.unsqueeze(1)


def on_the_device_of(impl, x, num_queries, num_keys):
    return impl(num_queries, num_keys, device=x.device)


causal_mask = Exercise(
    "causal_mask",
    oracle=causal_by_comparing,
    forbids=["torch.nn.Transformer", "torch.nn.modules.transformer", "torch.nn.attention"],
    mistakes=[
        Mistake(
            "a position does not see itself",
            "diagonal=num_keys - num_queries",
            "diagonal=num_keys - num_queries - 1",
            "A position may attend to itself as well as to what comes before it; here the "
            "diagonal is missing.",
        ),
        Mistake(
            "sees one position ahead",
            "diagonal=num_keys - num_queries",
            "diagonal=num_keys - num_queries + 1",
            "Each position sees one step into the future, which is the very answer it is asked "
            "to predict. The last key it may see is its own.",
        ),
        Mistake(
            "True where it must not look",
            "return everything.tril(diagonal=num_keys - num_queries)",
            "return ~everything.tril(diagonal=num_keys - num_queries)",
            "The polarity is reversed: True should stand where a query *may* attend.",
        ),
        Mistake(
            "looks ahead instead of back",
            "everything.tril(diagonal=num_keys - num_queries)",
            "everything.triu(diagonal=num_keys - num_queries)",
            "Every position sees itself and what comes after it. Rows are queries, columns are "
            "keys: for which side of the diagonal is the key earlier than the query?",
        ),
        Mistake(
            "aligned at the first key",
            "tril(diagonal=num_keys - num_queries)",
            "tril()",
            "Right for as many queries as keys. Otherwise the queries are the *last* positions "
            "of the sequence: it is the last query that stands on the last key.",
        ),
        Mistake(
            "a position does not see itself, aligned at the first key",
            "tril(diagonal=num_keys - num_queries)",
            "tril(diagonal=-1)",
            "Two things: a position may attend to itself as well, and with fewer queries than "
            "keys it is the last query that stands on the last key.",
        ),
        Mistake(
            "marks the future",
            "tril(diagonal=num_keys - num_queries)",
            "triu(diagonal=1)",
            "This marks what must not be seen, as nn.MultiheadAttention wants it. Here True means "
            "'may attend', and the last query stands on the last key.",
        ),
        Mistake(
            "shifted the wrong way",
            "diagonal=num_keys - num_queries",
            "diagonal=num_queries - num_keys",
            "The shift between queries and keys has the wrong sign: with fewer queries than "
            "keys, already the first query has keys behind it.",
        ),
        Mistake(
            "more queries than keys forgotten",
            "diagonal=num_keys - num_queries",
            "diagonal=max(num_keys - num_queries, 0)",
            "Right while there are at least as many keys as queries. With more queries the last "
            "one still stands on the last key, and the first ones see nothing.",
        ),
        Mistake(
            "queries and keys exchanged",
            "return everything.tril(diagonal=num_keys - num_queries)",
            "return everything.tril(diagonal=num_keys - num_queries).T",
            "The result is transposed: rows are queries, columns are keys.",
        ),
        Mistake(
            "a row for every key",
            "torch.ones(num_queries, num_keys, dtype",
            "torch.ones(num_keys, num_queries, dtype",
            "There is a row for every key and a column for every query; rows are queries, columns "
            "are keys.",
        ),
        Mistake.edits_of(
            "a row for every key, aligned at the first",
            [
                (
                    "torch.ones(num_queries, num_keys, dtype",
                    "torch.ones(num_keys, num_queries, dtype",
                ),
                ("diagonal=num_keys - num_queries", ""),
            ],
            "Two things: rows are queries and columns are keys, and the last query stands on the "
            "last key.",
        ),
        Mistake(
            "shifted the same way for more queries than keys",
            "diagonal=num_keys - num_queries",
            "diagonal=abs(num_keys - num_queries)",
            "Right while there are at least as many keys as queries. With more queries than keys "
            "the shift changes its sign: the first queries stand before the first key.",
        ),
        Mistake(
            "always square",
            "torch.ones(num_queries, num_keys, dtype",
            "torch.ones(num_keys, num_keys, dtype",
            "There is a row for every key, but only the queries, the last of these positions, "
            "should have one.",
        ),
        Mistake(
            "numbers instead of bool",
            "dtype=torch.bool",
            "dtype=torch.float32",
            "The mask holds zeros and ones; it should be bool.",
        ),
        Mistake(
            "minus infinity instead of False",
            "return everything.tril(diagonal=num_keys - num_queries)",
            "allowed = everything.tril(diagonal=num_keys - num_queries)\n"
            "    bias = torch.zeros(num_queries, num_keys, device=device)\n"
            "    return bias.masked_fill(~allowed, -torch.inf)",
            "This is the other kind of mask, to be added to the scores. Here a mask is bool, "
            "True where a query may attend.",
        ),
    ],
    variants=[
        Variant(
            "by comparing positions",
            """
            def causal_mask(num_queries, num_keys, device=None):
                i = torch.arange(num_queries, device=device)[:, None] + num_keys - num_queries
                j = torch.arange(num_keys, device=device)[None, :]
                return i >= j
            """,
        ),
        Variant(
            "the last rows of a square",
            """
            def causal_mask(num_queries, num_keys, device=None):
                n = max(num_queries, num_keys)
                square = torch.tril(torch.ones((n, n), device=device)).bool()
                return square[n - num_queries :, n - num_keys :]
            """,
        ),
        Variant(
            "by its upper triangle",
            """
            def causal_mask(num_queries, num_keys, device=None):
                ones = torch.ones(num_queries, num_keys, device=device)
                return torch.triu(ones, diagonal=num_keys - num_queries + 1) == 0
            """,
        ),
        Variant(
            "entry by entry",
            """
            def causal_mask(num_queries, num_keys, device=None):
                offset = num_keys - num_queries
                rows = [[j <= i + offset for j in range(num_keys)] for i in range(num_queries)]
                return torch.tensor(rows, dtype=torch.bool, device=device)
            """,
        ),
    ],
)


@causal_mask.test(
    points=1,
    cases=[
        Case(
            "as many queries as keys",
            plain,
            lambda make: {"num_queries": (n := make.choice([4, 6])), "num_keys": n},
        ),
        Case("one position", plain, lambda _: {"num_queries": 1, "num_keys": 1}),
    ],
)
def test_sees_itself_and_the_past(submission, case):
    """Lets a position see itself and the past"""
    submission.matches_reference(case)


@causal_mask.test(
    points=1,
    cases=[
        Case(
            "the last few positions of a longer sequence",
            plain,
            lambda make: {"num_queries": 3, "num_keys": make.choice([7, 8])},
        ),
        Case(
            "one new position after many",
            plain,
            lambda make: {"num_queries": 1, "num_keys": make.choice([5, 6])},
        ),
        Case(
            "more queries than keys",
            plain,
            lambda make: {"num_queries": 6, "num_keys": make.choice([3, 4])},
        ),
    ],
)
def test_ends_on_the_last_key(submission, case):
    """Puts the last query on the last key"""
    submission.matches_reference(case)


@causal_mask.test(
    points=0.5,
    cases=[
        Case(
            "on the device asked for",
            on_the_device_of,
            lambda make: {"x": make.normal(2), "num_queries": 4, "num_keys": 6},
        )
    ],
)
def test_causal_mask_is_made_on_the_device(submission, case):
    """Makes the mask on the device asked for"""
    submission.matches_on_device(case)


# ------------------------------------------------------------ scaled_dot_product_attention


def attention_by_torch(q, k, v, mask=None):
    """PyTorch's own; an identity in place of the values brings out the weights."""
    n = k.size(-2)
    one_hot = torch.eye(n, dtype=q.dtype, device=q.device).expand(*k.shape[:-2], n, n)
    weights = nn.functional.scaled_dot_product_attention(q, k, one_hot, attn_mask=mask)
    return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask), weights


def attend(impl, q, k, v, mask=None):
    return named(impl(q, k, v) if mask is None else impl(q, k, v, mask))


def case_of(title, scenario, inputs, loosen=10.0):
    """With room for a tiny constant under a sum, and for a logsumexp of scores near 800."""
    return Case(title, scenario, inputs, loosen=loosen)


def attend_to_views(impl, q, k, v):
    """Queries and keys as a split into heads leaves them, values with their rows as columns."""
    return named(impl(q.transpose(1, 2), k.transpose(1, 2), v.mT))


def attend_backward(impl, q, k, v, mask, cotangent):
    leaves = [t.detach().clone().requires_grad_() for t in (q, k, v)]
    output, _ = impl(*leaves, mask)
    found = gradients(output, leaves, cotangent)
    names = ("gradient of q", "gradient of k", "gradient of v")
    return {"output": output, **dict(zip(names, found, strict=True))}


def triple(make, *leading, queries=5, keys=7, d_k=6, d_v=3):
    return {
        "q": make.normal(*leading, queries, d_k, std=1.3),
        "k": make.normal(*leading, keys, d_k, std=1.3),
        "v": make.normal(*leading, keys, d_v),
    }


def lengths_mask(make, batch, keys):
    """Padding of another length in every sequence, of shape (batch, 1, keys)."""
    return torch.arange(keys) < (1 + make.permutation(keys - 1)[:batch])[:, None, None]


def with_dead_rows(make, *shape, dead=(1, 3)):
    """A mask in which some queries may attend to nothing, and every other to something."""
    mask = make.boolean(*shape, p=0.6)
    mask[..., 0] = True
    mask[..., list(dead), :] = False
    return mask


def far_from_zero(make, common_q, common_k, queries=4, keys=6):
    """Scores that one feature shifts far away; multiples of 1/8, so that float32 is exact."""
    q = (make.normal(2, queries, 16) * 8).round() / 8
    k = (make.normal(2, keys, 16) * 8).round() / 8
    q[..., 0] = torch.as_tensor(common_q, dtype=torch.float64)
    k[..., 0] = torch.as_tensor(common_k, dtype=torch.float64)
    return {"q": q, "k": k, "v": make.normal(2, keys, 3)}


SCALED = "q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))"
MASKED = """        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, dim=-1).masked_fill(~mask, 0.0)"""
RETURNED = "return weights @ v, weights"


def by_hand(softmax):
    """An answer that has its own way of masking and of making weights of the scores."""
    return f"""
        def scaled_dot_product_attention(q, k, v, mask=None):
            scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
            if mask is None:
                mask = torch.ones_like(scores, dtype=torch.bool)
            {softmax}
            return weights @ v, weights
        """


scaled_dot_product_attention = Exercise(
    "scaled_dot_product_attention",
    oracle=attention_by_torch,
    forbids=SHORT_CUTS,
    mistakes=[
        Mistake(
            "not scaled",
            SCALED,
            "q @ k.transpose(-2, -1)",
            "The scores are not scaled. A dot product of d_k random features has a standard "
            "deviation of the square root of d_k, and the formula divides by just that.",
        ),
        Mistake(
            "scaled by d_k",
            "math.sqrt(q.size(-1))",
            "q.size(-1)",
            "The scores are divided by d_k; equation 1 divides by its square root.",
        ),
        Mistake(
            "multiplied by the root",
            "/ math.sqrt(q.size(-1))",
            "* math.sqrt(q.size(-1))",
            "The scores are multiplied by the square root of d_k; the scale should make them "
            "smaller.",
        ),
        Mistake(
            "scaled by the values' features",
            "math.sqrt(q.size(-1))",
            "math.sqrt(v.size(-1))",
            "The scale comes from the features that the dot product adds up: d_k, the keys', not "
            "d_v, the values'.",
        ),
        Mistake(
            "scaled by the number of keys",
            "math.sqrt(q.size(-1))",
            "math.sqrt(k.size(-2))",
            "The scale comes from d_k, the length of one key, not from how many keys there are.",
        ),
        Mistake(
            "scaled by the number of queries",
            "math.sqrt(q.size(-1))",
            "math.sqrt(q.size(-2))",
            "The scale comes from d_k, the length of one query, not from how many there are.",
        ),
        Mistake.edits_of(
            "scaled after the softmax",
            [
                (SCALED, "q @ k.transpose(-2, -1)"),
                (RETURNED, "weights = weights / math.sqrt(q.size(-1))\n    " + RETURNED),
            ],
            "The scale belongs to the scores: after the softmax it only makes the weights add up "
            "to something other than 1.",
        ),
        Mistake.edits_of(
            "softmax over the queries",
            [
                ("torch.softmax(scores, dim=-1)\n", "torch.softmax(scores, dim=-2)\n"),
                ("torch.softmax(scores, dim=-1).m", "torch.softmax(scores, dim=-2).m"),
            ],
            "The weights add up to 1 over the queries. Each query shares its attention out among "
            "the keys: which dimension is theirs?",
        ),
        Mistake.edits_of(
            "softmax over the first dimension",
            [
                ("torch.softmax(scores, dim=-1)\n", "torch.softmax(scores, dim=0)\n"),
                ("torch.softmax(scores, dim=-1).m", "torch.softmax(scores, dim=0).m"),
            ],
            "The weights add up to 1 over the first dimension. Each query shares its attention "
            "out among the keys: which dimension is theirs?",
        ),
        Mistake.edits_of(
            "softmax over everything",
            [
                (
                    "torch.softmax(scores, dim=-1)\n",
                    "torch.softmax(scores.flatten(), dim=0).view_as(scores)\n",
                ),
                (
                    "torch.softmax(scores, dim=-1).m",
                    "torch.softmax(scores.flatten(), dim=0).view_as(scores).m",
                ),
            ],
            "The weights of all queries together add up to 1; each query should have weights of "
            "its own that do.",
        ),
        Mistake(
            "queries and keys exchanged",
            "q @ k.transpose(-2, -1)",
            "k @ q.transpose(-2, -1)",
            "The scores are transposed: a row for every key. Queries make the rows, keys the "
            "columns.",
        ),
        Mistake(
            "no softmax",
            "weights = torch.softmax(scores, dim=-1)\n",
            "weights = scores\n",
            "Without a mask the scores are used as weights as they are; they should go through a "
            "softmax first.",
        ),
        Mistake.edits_of(
            "mask the wrong way round",
            [("scores.masked_fill(~mask", "scores.masked_fill(mask"), ("~mask, 0.0", "mask, 0.0")],
            "The mask is read the wrong way round: True means that a query may attend to a key.",
        ),
        Mistake(
            "mask ignored",
            MASKED,
            "        weights = torch.softmax(scores, dim=-1)",
            "The mask changes nothing: masked keys still get weight.",
        ),
        Mistake(
            "masked scores set to zero",
            MASKED,
            "        weights = torch.softmax(scores.masked_fill(~mask, 0.0), dim=-1)",
            "A score of 0 still gets weight, since exp(0) is 1. What should be added for a "
            "masked key to the sum under the softmax?",
        ),
        Mistake(
            "the mask added to the scores",
            MASKED,
            "        weights = torch.softmax(scores + mask, dim=-1)",
            "A bool mask added to the scores only favours the allowed keys by 1; the others must "
            "get no weight at all.",
        ),
        Mistake(
            "masked after the softmax",
            MASKED,
            "        weights = torch.softmax(scores, dim=-1).masked_fill(~mask, 0.0)",
            "The masked keys take their share in the softmax before they are dropped, so the "
            "weights that stay do not add up to 1. Mask the scores, then take the softmax.",
        ),
        Mistake(
            "masked after the softmax, made to add up",
            MASKED,
            "        weights = torch.softmax(scores, dim=-1) * mask\n"
            "        weights = weights / weights.sum(-1, keepdim=True)",
            "Dropping masked keys after the softmax and dividing by what is left breaks down "
            "when there is nothing left: in rows masked whole, and where a masked score is so "
            "large that the others round to 0. Mask the scores first.",
        ),
        Mistake(
            "masked after the softmax, with a floor under the sum",
            MASKED,
            "        weights = torch.softmax(scores, dim=-1) * mask\n"
            "        weights = weights / weights.sum(-1, keepdim=True).clamp_min(1e-9)",
            "Where a masked score is far larger than the others, these have rounded to 0 before "
            "the mask comes in. What stands in the padding must not matter: mask the scores "
            "first.",
        ),
        Mistake(
            "NaN for a query that sees nothing",
            MASKED,
            "        weights = torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1)",
            "A row masked whole is a softmax of nothing but minus infinity: 0/0. The docstring "
            "asks for zeros there; take care of such rows.",
        ),
        Mistake(
            "the mean for a query that sees nothing",
            ".masked_fill(~mask, 0.0)",
            "",
            "In a row masked whole all scores are equal after masking, and the softmax shares "
            "the attention out evenly among keys that must not be seen. Such a row's weights "
            "should be 0.",
        ),
        Mistake(
            "all keys for a query that sees nothing",
            MASKED,
            "        weights = torch.softmax(scores + ~mask * -1e9, dim=-1)",
            "Where everything is masked, all scores of the row are lowered by the same number, "
            "which a softmax does not notice: the query sees every key. Its weights should be 0.",
        ),
        Mistake.edits_of(
            "NaN left in the weights",
            [
                (
                    MASKED,
                    "        scores = scores.masked_fill(~mask, -torch.inf)\n"
                    "        weights = torch.softmax(scores, dim=-1)",
                ),
                (RETURNED, "return (weights @ v).nan_to_num(0.0), weights"),
            ],
            "For a query that may attend to nothing the output is zero, but its weights are NaN; "
            "they should be zero, too.",
        ),
        Mistake.edits_of(
            "zeros in the output only",
            [
                (".masked_fill(~mask, 0.0)", ""),
                (
                    RETURNED,
                    "output = weights @ v\n"
                    "    if mask is not None:\n"
                    "        output = output.masked_fill(~mask.any(-1, keepdim=True), 0.0)\n"
                    "    return output, weights",
                ),
            ],
            "For a query that may attend to nothing the output is zero, but the weights are not; "
            "they should be, too.",
        ),
        Mistake.edits_of(
            "zeros in the weights only",
            [
                (".masked_fill(~mask, 0.0)", ""),
                (
                    RETURNED,
                    "output = weights @ v\n"
                    "    if mask is not None:\n"
                    "        weights = weights.masked_fill(~mask, 0.0)\n"
                    "    return output, weights",
                ),
            ],
            "For a query that may attend to nothing the weights are zero, but the output was "
            "computed before they were.",
        ),
        Mistake(
            "NaN gradients",
            MASKED,
            "        bias = torch.zeros_like(scores).masked_fill(~mask, -torch.inf)\n"
            "        weights = torch.softmax(scores + bias, dim=-1).nan_to_num(0.0)",
            "The output is right, but the gradients are NaN: nan_to_num hides the 0/0 of rows "
            "masked whole going forward, not going backward. Avoid it instead.",
        ),
        Mistake.edits_of(
            "masked scores not low enough",
            [("torch.finfo(scores.dtype).min", "-100.0"), (".masked_fill(~mask, 0.0)", "")],
            "The number put in for masked scores is not low enough: where the true scores are "
            "lower still, masked keys win. Scores may be of any finite size.",
        ),
        Mistake(
            "masked scores not low enough, then zeros",
            "torch.finfo(scores.dtype).min",
            "-100.0",
            "The number put in for masked scores is not low enough: where the true scores are "
            "lower still, masked keys take the whole softmax, and zeros are left. Scores may be "
            "of any finite size.",
        ),
        Mistake(
            "masked scores not quite low enough, then zeros",
            "torch.finfo(scores.dtype).min",
            "-1e4",
            "The number put in for masked scores is low, but not low enough: where the true "
            "scores are lower still, masked keys take the whole softmax, and zeros are left. "
            "Scores may be of any finite size.",
        ),
        Mistake.edits_of(
            "masked scores not quite low enough",
            [("torch.finfo(scores.dtype).min", "-1e4"), (".masked_fill(~mask, 0.0)", "")],
            "The number put in for masked scores is low, but not low enough: where the true "
            "scores are lower still, or all are masked, masked keys win. Scores may be of any "
            "finite size, and a query that sees nothing gets zeros.",
        ),
        Mistake.written(
            "a constant under the sum",
            by_hand(
                "scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)\n"
                "            exponentials = (scores - scores.amax(-1, keepdim=True)).exp() * mask\n"
                "            weights = exponentials / (exponentials.sum(-1, keepdim=True) + 1e-6)"
            ),
            "A constant is added to the sum that the weights are divided by, so that they do not "
            "quite add up to 1. Only rows masked whole need help; leave the others exact.",
        ),
        Mistake.written(
            "softmax overflows",
            by_hand(
                "exponentials = scores.exp() * mask\n"
                "            total = exponentials.sum(-1, keepdim=True)\n"
                "            weights = exponentials / total.masked_fill(total == 0, 1.0)"
            ),
            "exp of a large score overflows, exp of a very negative one is 0. A softmax does not "
            "change when the same number is taken from all scores of a row: which one keeps exp "
            "in range?",
        ),
        Mistake.written(
            "one maximum for all rows",
            by_hand(
                "exponentials = (scores - scores.max()).exp() * mask\n"
                "            total = exponentials.sum(-1, keepdim=True)\n"
                "            weights = exponentials / total.masked_fill(total == 0, 1.0)"
            ),
            "The largest score of the whole tensor is subtracted, so rows with much smaller "
            "scores round to 0. Every row needs its own maximum.",
        ),
        Mistake(
            "scores clamped",
            "  # (..., queries, keys)\n    if",
            "\n    scores = scores.clamp(-50.0, 50.0)\n    if",
            "Clamping the scores keeps exp in range, but scores beyond the limits become equal "
            "and their differences are lost. A stable softmax needs no clamp.",
        ),
        Mistake(
            "weights before output",
            RETURNED,
            "return weights, weights @ v",
            "The two results are in the wrong order: the output first, then the weights.",
        ),
        Mistake(
            "weights not returned",
            RETURNED,
            "return weights @ v",
            "Only the output comes back; the weights should follow it.",
        ),
        Mistake(
            "scores returned as weights",
            RETURNED,
            "return weights @ v, scores",
            "The second result should be the weights, after the softmax, not the scores.",
        ),
        Mistake(
            "weights cut from the graph",
            RETURNED,
            "return weights.detach() @ v, weights",
            "No gradient reaches the queries and keys: the weights are detached before they are "
            "used, and so attention could not be learned.",
        ),
        Mistake.edits_of(
            "softmax in float32",
            [
                ("softmax(scores, dim=-1)\n", "softmax(scores, dim=-1, dtype=torch.float32)\n"),
                ("softmax(scores, dim=-1).m", "softmax(scores, dim=-1, dtype=torch.float32).m"),
            ],
            "The softmax is made float32 whatever comes in, which does not go together with "
            "values of another dtype. Keep the dtype of the inputs.",
        ),
        Mistake(
            "everything in float32",
            "    scores = q @",
            "    q, k, v = q.float(), k.float(), v.float()\n    scores = q @",
            "The computation is done in float32 whatever comes in. Keep the dtype of the inputs.",
        ),
        Mistake.edits_of(
            "computed in float32, then cast back",
            [
                (SCALED, "(" + SCALED + ").float()"),
                (RETURNED, "weights = weights.to(q.dtype)\n    " + RETURNED),
            ],
            "The weights are computed in float32 whatever comes in, and cast back: the digits "
            "that float64 has more are lost on the way. Keep the dtype of the inputs.",
        ),
        Mistake(
            "a mask for every head taken for the batch's",
            MASKED,
            "        if mask.dim() == 3 and scores.dim() == 4:\n"
            "            mask = mask.unsqueeze(1)\n" + MASKED,
            "A mask with fewer dimensions than the scores is given a new one inside. Broadcasting "
            "lines dimensions up from the back, and so should you: making room for heads is up to "
            "whoever calls.",
        ),
        Mistake(
            "a view of what is not contiguous",
            SCALED,
            "q.view(-1, *q.shape[-2:]).view(q.shape) @ (\n"
            "        k.view(-1, *k.shape[-2:]).view(k.shape).transpose(-2, -1)\n"
            "    ) / math.sqrt(q.size(-1))",
            "view cannot join leading dimensions that are not neighbours in memory, as after a "
            "split into heads. Matrix products take any number of leading dimensions as they are.",
        ),
        Mistake(
            "queries changed in place",
            SCALED,
            "q.div_(math.sqrt(q.size(-1))) @ k.transpose(-2, -1)",
            "The caller's queries are scaled in place. Make a new tensor: the arguments belong "
            "to the caller.",
        ),
        *(
            Mistake(
                f"{name} cut from the graph",
                where,
                where.replace(letter, f"{letter}.detach()", 1),
                f"No gradient reaches the {name}: they are detached, so that what made them could "
                "not be learned.",
            )
            for name, letter, where in (
                ("queries", "q", "q @ k.transpose"),
                ("keys", "k", "k.transpose(-2, -1)"),
                ("values", "v", "v, weights  #"),
            )
        ),
        Mistake(
            "no mask not provided for",
            "        weights = torch.softmax(scores, dim=-1)\n",
            "        weights = torch.softmax(scores, dim=-1).masked_fill(~mask, 0.0)\n",
            "A mask is taken for granted. It may be None, and then every query may attend to every "
            "key.",
        ),
        Mistake(
            "fixed dimensions",
            "k.transpose(-2, -1)",
            "k.transpose(1, 2)",
            "The dimensions to exchange are counted from the front, which is right for one "
            "leading dimension only. Count them from the back: … may be any number of them.",
        ),
    ],
    variants=[
        Variant(
            "einsum and logsumexp",
            """
            def scaled_dot_product_attention(q, k, v, mask=None):
                scores = torch.einsum("...qd,...kd->...qk", q, k) * q.shape[-1] ** -0.5
                if mask is None:
                    mask = scores.new_ones(scores.shape[-2:], dtype=torch.bool)
                mask = mask.expand(scores.shape)
                scores = torch.where(mask, scores, torch.full_like(scores, -1e30))
                weights = (scores - scores.logsumexp(-1, keepdim=True)).exp() * mask
                return [torch.einsum("...qk,...kd->...qd", weights, v), weights]
            """,
        ),
        Variant(
            "minus infinity, then zeros",
            """
            def scaled_dot_product_attention(q, k, v, mask=None):
                scores = torch.matmul(q / q.size(-1) ** 0.5, k.mT)
                if mask is not None:
                    scores = scores.masked_fill(mask.logical_not(), float("-inf"))
                weights = scores.softmax(dim=-1)
                if mask is not None:
                    weights = torch.nan_to_num(weights, nan=0.0)
                return torch.matmul(weights, v), weights
            """,
        ),
        Variant(
            "softmax by hand with each row's maximum",
            """
            def scaled_dot_product_attention(q, k, v, mask=None):
                scores = q.matmul(k.transpose(-1, -2)).div(math.sqrt(k.shape[-1]))
                if mask is None:
                    mask = torch.ones_like(scores, dtype=torch.bool)
                low = torch.finfo(scores.dtype).min
                highest = scores.masked_fill(~mask, low).amax(dim=-1, keepdim=True).detach()
                shifted = torch.where(mask, scores - highest, torch.zeros_like(scores))
                exponentials = shifted.exp() * mask
                total = exponentials.sum(dim=-1, keepdim=True)
                weights = exponentials / torch.where(total > 0, total, torch.ones_like(total))
                return weights.matmul(v), weights
            """,
        ),
        Variant(
            "a large negative number added",
            """
            def scaled_dot_product_attention(q, k, v, mask=None):
                scores = (q @ k.transpose(-2, -1)) / torch.sqrt(torch.tensor(q.size(-1)).to(q))
                if mask is None:
                    weights = scores.softmax(-1)
                else:
                    mask = torch.broadcast_to(mask, scores.shape)
                    scores[~mask] = -1e9
                    weights = scores.softmax(-1)
                    weights = weights * mask.any(dim=-1, keepdim=True)
                return weights @ v, weights
            """,
        ),
        Variant(
            "query by query",
            """
            def scaled_dot_product_attention(q, k, v, mask=None):
                scale = 1 / math.sqrt(q.size(-1))
                outputs, rows = [], []
                full = q.shape[:-1] + (k.size(-2),)
                allowed = None if mask is None else mask.expand(full)
                for i in range(q.size(-2)):
                    score = (q[..., i : i + 1, :] * k).sum(-1) * scale
                    if allowed is not None:
                        score = score.masked_fill(~allowed[..., i, :], -1e20)
                    row = torch.exp(torch.log_softmax(score, dim=-1))
                    if allowed is not None:
                        row = row.masked_fill(~allowed[..., i, :], 0)
                    rows.append(row)
                    outputs.append((row[..., None] * v).sum(-2))
                return torch.stack(outputs, dim=-2), torch.stack(rows, dim=-2)
            """,
        ),
    ],
)


@scaled_dot_product_attention.test(
    points=2,
    cases=[
        case_of("one leading dimension", attend, lambda make: triple(make, 2)),
        Case("in bfloat16", attend, lambda make: triple(make, 2), dtypes=TRAINING),
        case_of("no leading dimension", attend, lambda make: triple(make, queries=4)),
        case_of("two leading dimensions", attend, lambda make: triple(make, 2, 3, d_k=8)),
        case_of("three leading dimensions", attend, lambda make: triple(make, 2, 1, 3, d_v=9)),
        case_of("as many queries as keys", attend, lambda make: triple(make, 2, queries=7, keys=7)),
        case_of("tensors that are not contiguous", attend_to_views, lambda make: transposed(make)),
    ],
)
def test_follows_equation_1(submission, case):
    """Follows equation 1 of the paper"""
    submission.matches_reference(case)


def transposed(make):
    return {
        "q": make.normal(2, 5, 3, 6),
        "k": make.normal(2, 8, 3, 6),
        "v": make.normal(2, 3, 4, 8),
    }


@scaled_dot_product_attention.test(
    points=1.5,
    cases=[
        case_of(
            "a mask for every query and key",
            attend,
            lambda make: dict(**triple(make, 3), mask=with_dead_rows(make, 3, 5, 7, dead=())),
        ),
        case_of(
            "a mask of padded keys",
            attend,
            lambda make: dict(**triple(make, 4), mask=lengths_mask(make, 4, 7)),
        ),
        case_of(
            "one mask for all leading dimensions",
            attend,
            lambda make: dict(**triple(make, 2, 3), mask=with_dead_rows(make, 5, 7, dead=())),
        ),
        case_of(
            "a mask for each head, the same for the whole batch",
            attend,
            lambda make: dict(**triple(make, 3, 3), mask=with_dead_rows(make, 3, 5, 7, dead=())),
        ),
        case_of(
            "a mask of one dimension",
            attend,
            lambda make: dict(**triple(make, 2), mask=make.permutation(7) < 4),
        ),
    ],
)
def test_attends_where_it_may(submission, case):
    """Attends only where the mask allows"""
    submission.matches_reference(case)


@scaled_dot_product_attention.test(
    points=0.5,
    cases=[
        case_of(
            "queries that may attend to nothing",
            attend,
            lambda make: dict(**triple(make, 2, 3), mask=with_dead_rows(make, 2, 1, 5, 7)),
        ),
        case_of(
            "an empty sequence in the batch",
            attend,
            lambda make: dict(**triple(make, 2), mask=torch.tensor([[[False]], [[True]]])),
        ),
    ],
)
def test_gives_zeros_where_all_is_masked(submission, case):
    """Gives zeros where everything is masked"""
    submission.matches_reference(case)


SIGNS = [[64.0], [-64.0], [64.0], [-64.0]]  # one for each query, beside its batch


@scaled_dot_product_attention.test(
    points=1,
    cases=[
        case_of(
            "scores far above and far below zero",
            attend,
            lambda make: far_from_zero(make, torch.tensor(SIGNS).T, 50.0),
        ),
        case_of(
            "scores far below zero, with a mask",
            attend,
            lambda make: dict(**far_from_zero(make, -64.0, 50.0), mask=lengths_mask(make, 2, 6)),
        ),
        Case(
            "scores still further below zero, with a mask",
            attend,
            lambda make: dict(**far_from_zero(make, -600.0, 500.0), mask=lengths_mask(make, 2, 6)),
            dtypes=(torch.float64,),  # float32 has no digits left for a logsumexp of such scores
            loosen=100.0,
        ),
        case_of(
            "large scores in the padding",
            attend,
            lambda make: dict(
                **far_from_zero(make, 64.0, [0.0, 0.0, 0.0, 100.0, 100.0, 100.0]),
                mask=torch.arange(6) < 3,
            ),
        ),
    ],
)
def test_is_stable(submission, case):
    """Stays exact for large scores, masked or not"""
    submission.matches_reference(case)


@scaled_dot_product_attention.test(
    points=0.5,
    cases=[
        case_of(
            "a mask for every query and key",
            attend_backward,
            lambda make: dict(
                **triple(make, 2),
                mask=with_dead_rows(make, 2, 5, 7, dead=()),
                cotangent=make.normal(2, 5, 3),
            ),
            loosen=100.0,
        ),
        case_of(
            "queries that may attend to nothing",
            attend_backward,
            lambda make: dict(
                **triple(make, 2),
                mask=with_dead_rows(make, 2, 5, 7),
                cotangent=make.normal(2, 5, 3),
            ),
            loosen=100.0,
        ),
    ],
)
def test_passes_gradients_back(submission, case):
    """Passes the right gradients back"""
    submission.matches_reference(case)


@scaled_dot_product_attention.test(
    points=0.5,
    cases=[
        case_of("without a mask", attend, lambda make: triple(make, 2)),
        case_of(
            "with a mask",
            attend,
            lambda make: dict(**triple(make, 2), mask=with_dead_rows(make, 2, 5, 7)),
        ),
    ],
)
def test_attention_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ----------------------------------------------------------------- split_heads, merge_heads


def split_by_chunks(x, num_heads):
    return torch.stack(x.chunk(num_heads, dim=-1), dim=1)


def merge_by_concatenating(x):
    return torch.cat(x.unbind(dim=1), dim=-1)


def merge_a_view(impl, x):
    return impl(x.transpose(1, 2))


def backward_through(impl, x, cotangent, *sizes):
    x = x.detach().clone().requires_grad_()
    return {"gradient of x": gradients(impl(x, *sizes), [x], cotangent)[0]}


def split_backward(impl, x, num_heads, cotangent):
    return backward_through(impl, x, cotangent, num_heads)


CUT = (
    "The numbers are right, but no gradient passes back to x: data, detach, NumPy and lists cut "
    "the graph, and the projections before could not learn."
)
NUMPY = (
    "The way through NumPy cuts the graph, so that no gradient passes back, and leaves the result "
    "on the CPU. PyTorch has the same operations."
)
DEFAULT_KIND = (
    "The tensor that you fill is float32 and on the CPU whatever x is. New tensors take dtype and "
    "device from the input: new_zeros, zeros_like."
)

SPLIT = "x.reshape(batch, positions, num_heads, -1)  # (batch, positions, num_heads, d_head)"

split_heads = Exercise(
    "split_heads",
    oracle=split_by_chunks,
    mistakes=[
        Mistake.edits_of(
            "reshaped without exchanging dimensions",
            [
                (SPLIT, "x.reshape(batch, num_heads, positions, -1)"),
                ("return heads.transpose(1, 2)", "return heads"),
            ],
            "The shape is right, but a reshape straight to it mixes positions and features. Cut "
            "the features first, beside their position, then exchange two dimensions.",
        ),
        Mistake.edits_of(
            "every num_heads-th feature",
            [
                (SPLIT, "x.reshape(batch, positions, -1, num_heads)"),
                ("heads.transpose(1, 2)", "heads.permute(0, 3, 1, 2)"),
            ],
            "Head h gets every num_heads-th feature. The docstring gives each head a run of "
            "neighbouring features.",
        ),
        Mistake(
            "heads behind the positions",
            "return heads.transpose(1, 2)",
            "return heads",
            "The features are cut, but the heads should come right after the batch, so that "
            "attention can treat them as one more leading dimension.",
        ),
        Mistake(
            "heads before the batch",
            "heads.transpose(1, 2)",
            "heads.permute(2, 0, 1, 3)",
            "The heads stand before the batch; the batch comes first.",
        ),
        Mistake(
            "positions behind the features",
            "heads.transpose(1, 2)",
            "heads.permute(0, 2, 3, 1)",
            "The last two dimensions are exchanged: positions first, then the features of a head.",
        ),
        Mistake(
            "batch and heads in one dimension",
            "heads.transpose(1, 2)",
            "heads.transpose(1, 2).flatten(0, 1)",
            "Batch and heads are folded together; keep them as two dimensions.",
        ),
        Mistake(
            "num_heads taken for d_head",
            "reshape(batch, positions, num_heads, -1)",
            "reshape(batch, positions, -1, num_heads)",
            "Each head got num_heads features. num_heads says how many heads there are, and the "
            "features of each follow from it.",
        ),
        Mistake(
            "heads in reverse order",
            "heads.transpose(1, 2)",
            "heads.transpose(1, 2).flip(1)",
            "The heads are in reverse order: head 0 should hold the first features.",
        ),
        Mistake("cut from the graph", "x.reshape(", "x.detach().reshape(", CUT),
        Mistake(
            "through NumPy",
            "x.reshape(",
            "torch.from_numpy(x.detach().cpu().numpy()).reshape(",
            NUMPY,
        ),
        Mistake(
            "a tensor of PyTorch's default kind",
            "return heads.transpose(1, 2)",
            "return torch.zeros(heads.transpose(1, 2).shape).copy_(heads.transpose(1, 2))",
            DEFAULT_KIND,
        ),
    ],
    variants=[
        Variant(
            "slices, stacked",
            """
            def split_heads(x, num_heads):
                d_head = x.size(-1) // num_heads
                slices = [x[:, :, h * d_head : (h + 1) * d_head] for h in range(num_heads)]
                return torch.stack(slices, dim=1)
            """,
        ),
        Variant(
            "view and permute",
            """
            def split_heads(x, num_heads):
                b, n, d = x.size()
                return x.view(b, n, num_heads, d // num_heads).permute(0, 2, 1, 3).contiguous()
            """,
        ),
        Variant(
            "unflatten",
            """
            def split_heads(x, num_heads):
                return x.unflatten(-1, (num_heads, -1)).swapaxes(1, 2)
            """,
        ),
    ],
)

SPLIT_CASES = [
    Case("several heads", plain, lambda make: {"x": make.normal(2, 5, 12), "num_heads": 3}),
    Case(
        "more heads than features of each",
        plain,
        lambda make: {"x": make.normal(3, 7, 10), "num_heads": 5},
    ),
    Case("a batch of one", plain, lambda make: {"x": make.normal(1, 4, 6), "num_heads": 2}),
    Case(
        "the way back",
        split_backward,
        lambda make: {
            "x": make.normal(2, 5, 12),
            "num_heads": 3,
            "cotangent": make.normal(2, 3, 5, 4),
        },
    ),
]


@split_heads.test(points=0.75, cases=SPLIT_CASES)
def test_cuts_the_features(submission, case):
    """Gives every head its features"""
    submission.matches_reference(case)


@split_heads.test(points=0.25, cases=SPLIT_CASES[:1])
def test_cuts_on_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


merge_heads = Exercise(
    "merge_heads",
    oracle=merge_by_concatenating,
    mistakes=[
        Mistake(
            "reshaped without exchanging dimensions",
            "x.transpose(1, 2).flatten(start_dim=2)",
            "x.reshape(x.size(0), x.size(2), -1)",
            "The shape is right, but a reshape straight to it mixes the features of different "
            "positions. Bring the heads next to their features first.",
        ),
        Mistake(
            "features of the heads interleaved",
            "x.transpose(1, 2).flatten(start_dim=2)",
            "x.permute(0, 2, 3, 1).flatten(start_dim=2)",
            "The heads are shuffled together feature by feature; they should stand one after "
            "the other, as split_heads took them apart.",
        ),
        Mistake(
            "heads averaged",
            "x.transpose(1, 2).flatten(start_dim=2)",
            "x.mean(dim=1)",
            "The heads are averaged; they should be put side by side, each keeping its features.",
        ),
        Mistake(
            "heads added up",
            "x.transpose(1, 2).flatten(start_dim=2)",
            "x.sum(dim=1)",
            "The heads are added up; they should be put side by side, each keeping its features.",
        ),
        Mistake(
            "heads not joined",
            "x.transpose(1, 2).flatten(start_dim=2)",
            "x.transpose(1, 2)",
            "The heads stand next to their features now, but are still a dimension of their own.",
        ),
        Mistake(
            "heads in reverse order",
            "x.transpose(1, 2)",
            "x.flip(1).transpose(1, 2)",
            "The heads are in reverse order: head 0 should come first.",
        ),
        Mistake(
            "a view of what is not contiguous",
            ".flatten(start_dim=2)",
            ".view(x.size(0), x.size(2), -1)",
            "view cannot join dimensions that are not neighbours in memory, as they are after an "
            "exchange of dimensions. Some other function copies where it has to.",
        ),
        Mistake(
            "heads joined to the positions",
            "x.transpose(1, 2).flatten(start_dim=2)",
            "x.flatten(1, 2)",
            "Heads and positions are joined into one dimension. Each position should keep its "
            "place, and have the features of all heads.",
        ),
        Mistake(
            "positions joined to the heads",
            "x.transpose(1, 2).flatten(start_dim=2)",
            "x.transpose(1, 2).flatten(1, 2)",
            "Positions and heads are joined into one dimension; it is heads and features that "
            "should be.",
        ),
        Mistake(
            "a batch of one squeezed away",
            "x.transpose(1, 2).flatten(start_dim=2)",
            "x.transpose(1, 2).flatten(start_dim=2).squeeze(0)",
            "A batch of one loses its dimension; the result has three dimensions for any batch.",
        ),
        Mistake("cut from the graph", "x.transpose(", "x.detach().transpose(", CUT),
        Mistake(
            "through NumPy",
            "x.transpose(",
            "torch.from_numpy(x.detach().cpu().numpy()).transpose(",
            NUMPY,
        ),
        Mistake(
            "a tensor of PyTorch's default kind",
            "return x.transpose(1, 2).flatten(start_dim=2)",
            "merged = x.transpose(1, 2).flatten(start_dim=2)\n"
            "    return torch.zeros(merged.shape).copy_(merged)",
            DEFAULT_KIND,
        ),
    ],
    variants=[
        Variant(
            "concatenation",
            """
            def merge_heads(x):
                return torch.cat([x[:, h] for h in range(x.shape[1])], dim=2)
            """,
        ),
        Variant(
            "contiguous and view",
            """
            def merge_heads(x):
                b, h, n, d = x.shape
                return x.permute(0, 2, 1, 3).contiguous().view(b, n, h * d)
            """,
        ),
        Variant(
            "einsum and reshape",
            """
            def merge_heads(x):
                moved = torch.einsum("bhnd->bnhd", x)
                return moved.reshape(x.size(0), x.size(2), x.size(1) * x.size(3))
            """,
        ),
    ],
)


MERGE_CASES = [
    Case("several heads", plain, lambda make: {"x": make.normal(2, 3, 5, 4)}),
    Case("a view, not contiguous", merge_a_view, lambda make: {"x": make.normal(3, 7, 5, 2)}),
    Case("a batch of one", plain, lambda make: {"x": make.normal(1, 2, 4, 6)}),
    Case(
        "the way back",
        backward_through,
        lambda make: {"x": make.normal(2, 3, 5, 4), "cotangent": make.normal(2, 5, 12)},
    ),
]


@merge_heads.test(points=0.75, cases=MERGE_CASES)
def test_puts_heads_side_by_side(submission, case):
    """Puts the heads of a position side by side, in order"""
    submission.matches_reference(case)


@merge_heads.test(points=0.25, cases=MERGE_CASES[:1])
def test_merges_on_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ------------------------------------------------------------- what the three modules share


def attend_with_heads(impl, sizes, weights, sequences, mask=None):
    attention = load_weights(impl(*sizes.values()), weights)
    return named(attention(*sequences) if mask is None else attention(*sequences, mask))


def attend_twice(impl, sizes, weights, sequences, mask, then):
    """One module, first with a mask and then, on one sequence or two others, without."""
    attention = load_weights(impl(*sizes.values()), weights)
    first = named(attention(*sequences, mask))
    then = then * 3 if len(then) == 1 else then
    return {"first call": first, "second call": named(attention(*then))}


def attend_to_itself(impl, sizes, weights, x, mask):
    return named(load_weights(impl(**sizes), weights)(x, x, x, mask))


def gradients_of_projections(impl, sizes, weights, sequences, mask, cotangent):
    attention = load_weights(impl(**sizes), weights)
    leaves = [x.detach().clone().requires_grad_() for x in sequences]
    output, _ = attention(*leaves, mask)
    parameters = dict(attention.named_parameters())
    found = gradients(output, [*(parameters[name] for name in weights), *leaves], cotangent)
    names = [*weights, *(f"argument {i}" for i in range(1, 1 + len(leaves)))]
    named_gradients = {f"gradient of {n}": g for n, g in zip(names, found, strict=True)}
    return {"output": output, **named_gradients}


def refuses(impl, several):
    told = {}
    for sizes in several:
        name = ", ".join(f"{key}={value}" for key, value in sizes.items())
        told[name] = raised(partial(impl, **sizes), ValueError)
    return told


def projections(make, d_model, d_context, d_kv):
    rows = {"W_q": (d_model, d_model), "W_k": (d_kv, d_context), "W_v": (d_kv, d_context)}
    rows["W_o"] = (d_model, d_model)
    return {f"{name}.weight": make.normal(*shape, std=0.4) for name, shape in rows.items()}


# Where queries, keys and values are arguments of their own.
OF_THREE_ARGUMENTS = [
    Mistake.edits_of(
        "the key and value arguments exchanged",
        [("self.W_k(key)", "self.W_k(value)"), ("self.W_v(value)", "self.W_v(key)")],
        "W_k projects the value argument and W_v the key argument. The two are often the same "
        "tensor, but need not be.",
    ),
    Mistake(
        "the future masked in self-attention",
        "        q = split_heads(self.W_q(query)",
        "        if mask is None and query is key:\n"
        "            mask = causal_mask(query.size(1), key.size(1), query.device)\n"
        "        q = split_heads(self.W_q(query)",
        "Where all three arguments are the same, a causal mask comes in that nobody passed. "
        "Without a mask every position may attend to every other.",
    ),
    Mistake(
        "values taken from the keys",
        "self.W_v(value)",
        "self.W_v(key)",
        "The values are computed from the key argument. The two are often the same tensor, "
        "but need not be.",
    ),
    Mistake(
        "keys taken from the queries",
        "self.W_k(key)",
        "self.W_k(query)",
        "The keys are computed from the query argument: right for self-attention only.",
    ),
]


def shared_mistakes(query, key, value, sizes="d_model, d_model"):
    """Mistakes that all three modules invite, as edits of lines that all three have."""
    attention = "heads, weights = scaled_dot_product_attention(q, k, v, mask)"
    call = "scaled_dot_product_attention(q, k, v, mask)"
    first = f"        q = split_heads(self.W_q({query}), self.num_heads)"
    keys = f"k = split_heads(self.W_k({key})"
    values = f"v = split_heads(self.W_v({value})"
    layer_q = "self.W_q = nn.Linear(d_model, d_model, bias=False)"
    layer_k, layer_v = (f"self.{name} = nn.Linear({sizes}, bias=False)" for name in ("W_k", "W_v"))

    def instead(softmax, fill="torch.finfo(scores.dtype).min", used="weights"):
        lines = [
            "scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))",
            "if mask is not None:",
            f"    scores = scores.masked_fill(~mask, {fill})",
            f"weights = {softmax}",
            f"heads = {used} @ v",
        ]
        return "\n        ".join(lines)

    softmax = "torch.softmax(scores, dim=-1)"
    dead = "(weights if mask is None else weights.masked_fill(~mask, 0.0))"
    return [
        Mistake(
            "split without exchanging dimensions",
            first,
            "        def split_heads(x, n):\n"
            "            return x.reshape(x.size(0), n, x.size(1), -1)\n\n" + first,
            "Projections are reshaped straight to (batch, heads, positions, d_head), which mixes "
            "positions and features. Cut the features first, then exchange two dimensions.",
        ),
        Mistake(
            "every num_heads-th feature to a head",
            first,
            "        def split_heads(x, n):\n"
            "            return x.unflatten(-1, (-1, n)).permute(0, 3, 1, 2)\n\n" + first,
            "Head h reads every num_heads-th feature of the projections, instead of a run of "
            "neighbouring ones.",
        ),
        Mistake(
            "num_heads taken for d_head",
            first,
            "        def split_heads(x, n):\n"
            "            return x.unflatten(-1, (-1, n)).transpose(1, 2)\n\n" + first,
            "Each head got num_heads features. num_heads says how many heads there are, and the "
            "features of each follow from it.",
        ),
        Mistake(
            "merged without exchanging dimensions",
            "merge_heads(heads)",
            "heads.reshape(heads.size(0), heads.size(2), -1)",
            "The heads' outputs are reshaped straight to (batch, queries, d_model), which mixes "
            "queries. Bring the heads next to their features first.",
        ),
        Mistake(
            "heads interleaved in the output",
            "merge_heads(heads)",
            "heads.permute(0, 2, 3, 1).flatten(2)",
            "The heads' outputs are shuffled together feature by feature; they should be "
            "concatenated, one head after the other.",
        ),
        Mistake(
            "scaled by d_model",
            call,
            "scaled_dot_product_attention(q / math.sqrt(self.num_heads), k, v, mask)",
            "The scores are divided by the square root of d_model. A head's dot product adds up "
            "d_head features only.",
        ),
        Mistake(
            "not scaled",
            call,
            "scaled_dot_product_attention(q * math.sqrt(q.size(-1)), k, v, mask)",
            "The scores are not scaled: they should be divided by the square root of d_head.",
        ),
        Mistake(
            "scaled twice",
            call,
            "scaled_dot_product_attention(q / math.sqrt(q.size(-1)), k, v, mask)",
            "The scores are divided by the square root of d_head twice; once is what "
            "scaled_dot_product_attention does already.",
        ),
        Mistake(
            "softmax over the queries",
            attention,
            instead("torch.softmax(scores, dim=-2)"),
            "The weights add up to 1 over the queries; each query should share its attention out "
            "among the keys.",
        ),
        Mistake(
            "softmax over the heads",
            attention,
            instead("torch.softmax(scores, dim=1)"),
            "The weights add up to 1 over the heads; each head should share its own attention "
            "out among the keys.",
        ),
        Mistake(
            "NaN for a query that sees nothing",
            attention,
            instead(softmax, "-torch.inf"),
            "A query that may attend to nothing gets NaN; it should get zeros.",
        ),
        Mistake(
            "the mean for a query that sees nothing",
            attention,
            instead(softmax),
            "A query that may attend to nothing gets the mean of all values; it should get zeros.",
        ),
        Mistake(
            "weights cut from the graph",
            attention,
            instead(softmax, used=f"{dead}.detach()") + f"\n        weights = {dead}",
            "No gradient reaches W_q and W_k: the weights are detached before they are used.",
        ),
        Mistake(
            "mask ignored",
            call,
            "scaled_dot_product_attention(q, k, v)",
            "The mask changes nothing; pass it on to the attention.",
        ),
        Mistake(
            "mask the wrong way round",
            call,
            "scaled_dot_product_attention(q, k, v, None if mask is None else ~mask)",
            "The mask is read the wrong way round: True means that a query may attend to a key.",
        ),
        Mistake(
            "the mask's batch taken for heads",
            "mask = mask.unsqueeze(-3)",
            "pass",
            "A mask of shape (batch, queries, keys) meets scores of shape (batch, num_heads, "
            "queries, keys): broadcasting lines its batch up with the heads. Make room for the "
            "heads.",
        ),
        Mistake(
            "masks of the batch dealt out over the heads",
            "mask = mask.unsqueeze(-3)",
            f"batch = {query}.size(0)\n"
            "            mask = mask.expand(batch, -1, -1).repeat(self.num_heads, 1, 1)\n"
            "            mask = mask.unflatten(0, (batch, -1))",
            "The mask is repeated for the heads in an order other than theirs: all heads of a "
            "sequence come one after the other, and need that sequence's mask.",
        ),
        Mistake(
            "a mask without batch misplaced",
            "mask.unsqueeze(-3)",
            "mask.unsqueeze(1)",
            "Right for a mask of shape (batch, queries, keys), but one of shape (queries, keys) "
            "gets its new dimension in the wrong place: count it from the back.",
        ),
        Mistake(
            "W_o left out",
            "self.W_o(merge_heads(heads))",
            "merge_heads(heads)",
            "The concatenated heads come back without their last projection, W_o.",
        ),
        Mistake(
            "the query added to the output",
            "self.W_o(merge_heads(heads)), weights",
            f"{query} + self.W_o(merge_heads(heads)), weights",
            "The query is added to the output. That residual connection belongs to the "
            "Transformer's block around the attention, not to the attention itself.",
        ),
        Mistake(
            "weights averaged over the heads",
            "self.W_o(merge_heads(heads)), weights",
            "self.W_o(merge_heads(heads)), weights.mean(dim=1)",
            "The weights are averaged over the heads, as nn.MultiheadAttention does unless told "
            "otherwise; return those of every head.",
        ),
        Mistake(
            "weights not returned",
            "self.W_o(merge_heads(heads)), weights",
            "self.W_o(merge_heads(heads))",
            "Only the output comes back; the weights should follow it.",
        ),
        Mistake(
            "weights before output",
            "self.W_o(merge_heads(heads)), weights",
            "weights, self.W_o(merge_heads(heads))",
            "The two results are in the wrong order: the output first, then the weights.",
        ),
        Mistake.edits_of(
            "keys and values exchanged",
            [
                (keys, f"k = split_heads(self.W_v({key})"),
                (values, f"v = split_heads(self.W_k({value})"),
            ],
            "W_v projects what is compared with the queries, and W_k what is averaged. It should "
            "be the other way round.",
        ),
        Mistake(
            "keys projected by W_v",
            keys,
            f"k = split_heads(self.W_v({key})",
            "The keys are projected by W_v; W_k has that task.",
        ),
        Mistake(
            "values projected by W_k",
            values,
            f"v = split_heads(self.W_k({value})",
            "The values are projected by W_k; W_v has that task.",
        ),
        Mistake(
            "one projection for keys and values",
            "        self.W_o = nn.Linear(",
            "        self.W_v = self.W_k\n        self.W_o = nn.Linear(",
            "W_k and W_v are the same layer. They are learned separately: what a key is found by "
            "need not be what it has to tell.",
        ),
        Mistake(
            "ReLU after the projection",
            first,
            first.replace(f"self.W_q({query})", f"torch.relu(self.W_q({query}))"),
            "The projected queries went through a ReLU; the projections here are linear.",
        ),
        Mistake(
            "any number of heads accepted",
            "if d_model % num_heads != 0:",
            "if False:",
            "A d_model that num_heads does not divide is accepted; it should raise a ValueError.",
        ),
        Mistake(
            "AssertionError instead of ValueError",
            'raise ValueError(f"d_model',
            'raise AssertionError(f"d_model',
            "An assert raises AssertionError, and disappears under python -O. The docstring "
            "promises a ValueError.",
        ),
        Mistake(
            "W_o with a bias",
            "self.W_o = nn.Linear(d_model, d_model, bias=False)",
            "self.W_o = nn.Linear(d_model, d_model)",
            "W_o has a bias, which nn.Linear adds unless told otherwise; the docstring asks for "
            "none.",
        ),
        Mistake(
            "projections with biases",
            "        self.W_o = nn.Linear(d_model, d_model, bias=False)",
            "        self.W_o = nn.Linear(d_model, d_model)\n"
            "        for layer in (self.W_q, self.W_k, self.W_v):\n"
            "            layer.bias = nn.Parameter(torch.zeros(layer.out_features))",
            "The projections have biases, which nn.Linear adds unless told otherwise; the "
            "docstring asks for none.",
        ),
        Mistake.edits_of(
            "W_k and W_v with biases",
            [(layer, layer.replace(", bias=False", "")) for layer in (layer_k, layer_v)],
            "W_k and W_v have biases, which nn.Linear adds unless told otherwise; the docstring "
            "asks for none.",
        ),
        Mistake.edits_of(
            "W_q, W_k and W_v with biases",
            [(layer, layer.replace(", bias=False", "")) for layer in (layer_q, layer_k, layer_v)],
            "W_q, W_k and W_v have biases, which nn.Linear adds unless told otherwise; the "
            "docstring asks for none.",
        ),
        Mistake(
            "one query's mask for all queries",
            "mask.unsqueeze(-3)",
            "mask[..., :1, :].unsqueeze(-3)",
            "The first query's row of the mask is used for all queries; each has a row of its "
            "own, unless there is only one row.",
        ),
        Mistake(
            "one sequence's mask for all sequences",
            "mask.unsqueeze(-3)",
            "(mask[:1] if mask.dim() == 3 else mask).unsqueeze(-3)",
            "The first sequence's mask is used for the whole batch; each sequence may have one "
            "of its own.",
        ),
        Mistake(
            "a mask without batch taken for padding",
            "mask.unsqueeze(-3)",
            "mask.unsqueeze(1) if mask.dim() == 3 else mask[:, None, None, :]",
            "A mask of shape (queries, keys) is read as (batch, keys). Two dimensions are queries "
            "and keys, the same for every sequence.",
        ),
        Mistake(
            "the future masked unasked",
            first,
            f"        if mask is None:\n"
            f"            mask = causal_mask({query}.size(1), {key}.size(1), {query}.device)\n"
            + first,
            "Without a mask every query may attend to every key; here a causal mask comes in that "
            "nobody passed.",
        ),
        Mistake(
            "the last mask kept",
            first,
            "        mask = self.kept = getattr(self, 'kept', None) if mask is None else mask\n"
            + first,
            "A mask of an earlier call is still used when a call comes without one. None means: "
            "every query may attend to every key.",
        ),
        Mistake(
            "heads cut from the graph",
            "merge_heads(heads)",
            "merge_heads(heads.detach())",
            "No gradient reaches W_q, W_k and W_v: the heads' outputs are detached before they "
            "are projected.",
        ),
        Mistake(
            "keys cut from the graph",
            f"self.W_k({key})",
            f"self.W_k({key}).detach()",
            "No gradient reaches W_k: the keys are detached, and could not be learned.",
        ),
        Mistake(
            "values cut from the graph",
            f"self.W_v({value})",
            f"self.W_v({value}).detach()",
            "No gradient reaches W_v: the values are detached, and could not be learned.",
        ),
        Mistake.edits_of(
            "keys and values cut from what they are made of",
            [
                (f"self.W_k({key})", f"self.W_k({key}.detach())"),
                (f"self.W_v({value})", f"self.W_v({value}.detach())"),
            ],
            "The projections learn, but no gradient passes on to the sequence that is read: it is "
            "detached. Whatever made it could not be trained.",
        ),
        Mistake(
            "queries cut from what they are made of",
            f"self.W_q({query})",
            f"self.W_q({query}.detach())",
            "No gradient passes through the queries to the sequence that they are made of: it is "
            "detached. Whatever made it could not be trained.",
        ),
        Mistake(
            "only more heads than features refused",
            "if d_model % num_heads != 0:",
            "if num_heads > d_model:",
            "Only more heads than features are refused. Whenever num_heads does not divide "
            "d_model, a ValueError should be raised.",
        ),
        Mistake(
            "values cut from what they are made of",
            f"self.W_v({value})",
            f"self.W_v({value}.detach())",
            "No gradient passes through the values to the sequence that they are made of: it is "
            "detached. Whatever made it could not be trained.",
        ),
        Mistake(
            "the query made float32",
            f"self.W_q({query})",
            f"self.W_q({query}.float())",
            "The query is cast to float32 whatever comes in, which does not go together with "
            "weights of another dtype. Keep the dtype of the inputs.",
        ),
        Mistake(
            "queries and keys exchanged",
            call,
            "scaled_dot_product_attention(k, q, v, mask)",
            "Queries and keys have changed places on their way into the attention.",
        ),
    ]


class Projections(nn.Module):
    def __init__(self, d_model, num_heads, d_context=None, d_kv=None):
        super().__init__()
        if d_model % num_heads:
            raise ValueError("num_heads does not divide d_model")
        self.num_heads = num_heads
        d_context, d_kv = d_context or d_model, d_kv or d_model
        self.W_q = nn.Linear(d_model, d_model, bias=False)
        self.W_k = nn.Linear(d_context, d_kv, bias=False)
        self.W_v = nn.Linear(d_context, d_kv, bias=False)
        self.W_o = nn.Linear(d_model, d_model, bias=False)

    def attend(self, query, key, value, mask):
        """PyTorch's own many heads; rows masked whole, which give NaN there, are set to zero."""
        if mask is None:
            mask = torch.ones(1, 1, dtype=torch.bool, device=query.device)
        allowed = mask.expand(query.size(0), query.size(1), key.size(1))
        dead = ~allowed.any(dim=-1, keepdim=True)
        output, weights = nn.functional.multi_head_attention_forward(
            query=query.transpose(0, 1),
            key=key.transpose(0, 1),
            value=value.transpose(0, 1),
            embed_dim_to_check=query.size(-1),
            num_heads=self.num_heads,
            in_proj_weight=None,
            in_proj_bias=None,
            bias_k=None,
            bias_v=None,
            add_zero_attn=False,
            dropout_p=0.0,
            out_proj_weight=self.W_o.weight,
            out_proj_bias=None,
            attn_mask=(~allowed & ~dead).repeat_interleave(self.num_heads, dim=0),
            average_attn_weights=False,
            use_separate_proj_weight=True,
            q_proj_weight=self.W_q.weight,
            k_proj_weight=self.W_k.weight,
            v_proj_weight=self.W_v.weight,
        )
        assert weights is not None
        output = output.transpose(0, 1).masked_fill(dead, 0.0)
        return output, weights.masked_fill(dead.unsqueeze(1), 0.0)


class HeadsByTorch(Projections):
    def forward(self, query, key, value, mask=None):
        return self.attend(query, key, value, mask)


class CrossByTorch(Projections):
    def __init__(self, d_model, d_context, num_heads):
        super().__init__(d_model, num_heads, d_context=d_context)

    def forward(self, x, context, mask=None):
        return self.attend(x, context, context, mask)


class GroupsByTorch(Projections):
    def __init__(self, d_model, num_heads, num_kv_heads):
        if num_heads % num_kv_heads:
            raise ValueError("num_kv_heads does not divide num_heads")
        super().__init__(d_model, num_heads, d_kv=d_model // num_heads * num_kv_heads)
        self.num_kv_heads = num_kv_heads

    def forward(self, query, key, value, mask=None):
        q, k, v = self.W_q(query), self.W_k(key), self.W_v(value)
        q = torch.stack(q.chunk(self.num_heads, dim=-1), dim=1)
        k = torch.stack(k.chunk(self.num_kv_heads, dim=-1), dim=1)
        v = torch.stack(v.chunk(self.num_kv_heads, dim=-1), dim=1)
        one_hot = torch.eye(k.size(2), dtype=k.dtype, device=k.device).expand(*k.shape[:3], -1)
        if mask is not None:
            mask = mask.expand(q.size(0), q.size(2), k.size(2)).unsqueeze(1)
        heads, weights = (
            nn.functional.scaled_dot_product_attention(q, k, t, attn_mask=mask, enable_gqa=True)
            for t in (v, one_hot)
        )
        return self.W_o(torch.cat(heads.unbind(dim=1), dim=-1)), weights


def three(make, mask=None, *, num_heads=3, batch=2, queries=5, keys=7, d_model=12):
    """Inputs of MultiHeadAttention; mask is drawn from its shape, or given."""
    return {
        "sizes": {"d_model": d_model, "num_heads": num_heads},
        "weights": projections(make, d_model, d_model, d_model),
        "sequences": [
            make.normal(batch, queries, d_model),
            make.normal(batch, keys, d_model),
            make.normal(batch, keys, d_model),
        ],
        "mask": with_dead_rows(make, *mask, dead=()) if isinstance(mask, tuple) else mask,
    }


def then_itself(make, inputs):
    """The same inputs, and for a second call one sequence as all three."""
    return {**inputs, "then": [make.normal(*inputs["sequences"][0].shape)]}


MultiHeadAttention = Exercise(
    "MultiHeadAttention",
    oracle=HeadsByTorch,
    forbids=SHORT_CUTS,
    mistakes=[
        *shared_mistakes("query", "key", "value"),
        *OF_THREE_ARGUMENTS,
        Mistake(
            "keys taken from the values",
            "self.W_k(key)",
            "self.W_k(value)",
            "The keys are computed from the value argument. The two are often the same tensor, "
            "but need not be.",
        ),
        Mistake.edits_of(
            "only self-attention",
            [("self.W_k(key)", "self.W_k(query)"), ("self.W_v(value)", "self.W_v(query)")],
            "Keys and values are computed from the query argument, which is right for "
            "self-attention only.",
        ),
        Mistake(
            "keys projected by W_q",
            "self.W_k(key)",
            "self.W_q(key)",
            "The keys are projected by W_q; W_k has that task.",
        ),
        Mistake.edits_of(
            "W_q and W_k exchanged",
            [("self.W_q(query)", "self.W_k(query)"), ("self.W_k(key)", "self.W_q(key)")],
            "The queries are projected by W_k and the keys by W_q; it should be the other way "
            "round.",
        ),
        Mistake(
            "one projection for queries and keys",
            "        self.W_v = nn.Linear(",
            "        self.W_k = self.W_q\n        self.W_v = nn.Linear(",
            "W_q and W_k are the same layer. They are learned separately: what a position looks "
            "for need not be what it is found by.",
        ),
        Mistake(
            "values not projected",
            "self.W_v(value)",
            "value",
            "The values are used as they are; W_v should project them first.",
        ),
    ],
    variants=[
        Variant(
            "einsum",
            """
            class MultiHeadAttention(nn.Module):
                def __init__(self, d_model, num_heads):
                    super().__init__()
                    if d_model % num_heads:
                        raise ValueError("num_heads must divide d_model")
                    self.h = num_heads
                    for name in ("W_q", "W_k", "W_v", "W_o"):
                        setattr(self, name, nn.Linear(d_model, d_model, bias=False))

                def forward(self, query, key, value, mask=None):
                    q = self.W_q(query).unflatten(-1, (self.h, -1))
                    k = self.W_k(key).unflatten(-1, (self.h, -1))
                    v = self.W_v(value).unflatten(-1, (self.h, -1))
                    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / q.size(-1) ** 0.5
                    if mask is not None:
                        mask = (mask[None] if mask.dim() == 2 else mask)[:, None]
                        scores = scores.masked_fill(~mask, -1e30)
                    weights = scores.softmax(dim=-1)
                    if mask is not None:
                        weights = weights * mask
                    heads = torch.einsum("bhqk,bkhd->bqhd", weights, v)
                    return self.W_o(heads.flatten(2)), weights
            """,
        ),
        Variant(
            "head by head",
            """
            class MultiHeadAttention(nn.Module):
                def __init__(self, d_model, num_heads):
                    super().__init__()
                    if d_model // num_heads * num_heads != d_model:
                        raise ValueError(f"{num_heads} heads do not fit {d_model} features")
                    self.num_heads, self.d_head = num_heads, d_model // num_heads
                    self.W_o = nn.Linear(d_model, d_model, bias=False)
                    self.W_v = nn.Linear(d_model, d_model, bias=False)
                    self.W_k = nn.Linear(d_model, d_model, bias=False)
                    self.W_q = nn.Linear(d_model, d_model, bias=False)

                def forward(self, query, key, value, mask=None):
                    output, weights = 0, []
                    for h in range(self.num_heads):
                        own = slice(h * self.d_head, (h + 1) * self.d_head)
                        head, weight = scaled_dot_product_attention(
                            query @ self.W_q.weight[own].T,
                            key @ self.W_k.weight[own].T,
                            value @ self.W_v.weight[own].T,
                            mask,
                        )
                        output = output + head @ self.W_o.weight[:, own].T
                        weights.append(weight)
                    return output, torch.stack(weights, dim=1)
            """,
        ),
        Variant(
            "heads folded into the batch",
            """
            class MultiHeadAttention(nn.Module):
                def __init__(self, d_model, num_heads):
                    super().__init__()
                    if d_model % num_heads != 0:
                        raise ValueError("d_model % num_heads should be 0")
                    self.num_heads = num_heads
                    self.register_buffer("scale", torch.tensor((d_model / num_heads) ** -0.5))
                    self.W_q = nn.Linear(d_model, d_model, bias=False)
                    self.W_k = nn.Linear(d_model, d_model, bias=False)
                    self.W_v = nn.Linear(d_model, d_model, bias=False)
                    self.W_o = nn.Linear(d_model, d_model, bias=False)

                def fold(self, x):
                    b, n, d = x.shape
                    x = x.view(b, n, self.num_heads, d // self.num_heads).transpose(1, 2)
                    return x.reshape(b * self.num_heads, n, d // self.num_heads)

                def forward(self, query, key, value, mask=None):
                    b, n, d = query.shape
                    q, k = self.fold(self.W_q(query)), self.fold(self.W_k(key))
                    v = self.fold(self.W_v(value))
                    if mask is not None:
                        mask = mask.expand(b, n, key.size(1))
                        mask = mask.repeat_interleave(self.num_heads, dim=0)
                    heads, weights = scaled_dot_product_attention(q, k, v, mask=mask)
                    weights = weights.view(b, self.num_heads, n, key.size(1))
                    heads = heads.view(b, self.num_heads, n, -1).permute(0, 2, 1, 3)
                    return self.W_o(heads.reshape(b, n, d)), weights
            """,
        ),
    ],
)


@MultiHeadAttention.test(
    points=0.5,
    cases=[
        Case(
            "names and shapes of the parameters",
            names_and_shapes,
            lambda make: {"sizes": {"d_model": make.choice([12, 18]), "num_heads": 3}},
        )
    ],
)
def test_multi_head_parameters(submission, case):
    """Has the four projections of the docstring, and no other parameters"""
    submission.matches_reference(case)


@MultiHeadAttention.test(
    points=0.5,
    cases=[
        Case(
            "sizes that divide, and sizes that do not",
            refuses,
            lambda make: {
                "several": [
                    {"d_model": 12, "num_heads": make.choice([3, 4])},
                    {"d_model": 10, "num_heads": make.choice([3, 4])},
                    {"d_model": 4, "num_heads": 8},
                ]
            },
        )
    ],
)
def test_multi_head_sizes(submission, case):
    """Raises a ValueError where the heads do not divide d_model"""
    submission.matches_reference(case)


@MultiHeadAttention.test(
    points=1.5,
    cases=[
        case_of("queries, keys and values of their own", attend_with_heads, three),
        Case("in bfloat16", attend_with_heads, three, dtypes=TRAINING),
        case_of(
            "as many queries as keys, then to itself without a mask",
            attend_twice,
            lambda make: then_itself(make, three(make, (6, 6), queries=6, keys=6)),
        ),
        case_of(
            "one head, a batch of one",
            attend_with_heads,
            lambda make: three(make, num_heads=1, batch=1, d_model=6),
        ),
        case_of(
            "as many heads as features",
            attend_with_heads,
            lambda make: three(make, num_heads=8, d_model=8),
        ),
    ],
)
def test_multi_head_attends(submission, case):
    """Attends in every head, and joins the heads"""
    submission.matches_reference(case)


@MultiHeadAttention.test(
    points=1.5,
    cases=[
        case_of(
            "a mask for each sequence",
            attend_with_heads,
            lambda make: three(make, (3, 5, 7), batch=3),
        ),
        case_of(
            "a mask of padded keys",
            attend_with_heads,
            lambda make: three(make, lengths_mask(make, 4, 7), batch=4),
        ),
        case_of(
            "one mask for all sequences",
            attend_with_heads,
            lambda make: three(make, (3, 7), queries=3),
        ),
        case_of(
            "a sequence that attends to its own past",
            attend_to_itself,
            lambda make: {
                "sizes": {"d_model": 12, "num_heads": 3},
                "weights": projections(make, 12, 12, 12),
                "x": make.normal(2, 6, 12),
                "mask": torch.ones(6, 6, dtype=torch.bool).tril(),
            },
        ),
        case_of(
            "queries that may attend to nothing",
            attend_with_heads,
            lambda make: three(make, with_dead_rows(make, 2, 5, 7)),
        ),
    ],
)
def test_multi_head_masks(submission, case):
    """Uses one mask for all heads"""
    submission.matches_reference(case)


@MultiHeadAttention.test(
    points=0.5,
    cases=[
        case_of(
            "gradients of the projections",
            gradients_of_projections,
            lambda make: dict(**three(make, (2, 5, 7)), cotangent=make.normal(2, 5, 12)),
            loosen=100.0,
        )
    ],
)
def test_multi_head_learns(submission, case):
    """Passes gradients to every projection"""
    submission.matches_reference(case)


@MultiHeadAttention.test(
    points=0.5,
    cases=[
        case_of("without a mask", attend_with_heads, three),
        case_of("with a mask", attend_with_heads, lambda make: three(make, (2, 5, 7))),
    ],
)
def test_multi_head_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# -------------------------------------------------------------------------- CrossAttention


def two(make, mask=None, *, num_heads=3, batch=2, queries=5, keys=7, d_model=12, d_context=10):
    """Inputs of CrossAttention; mask is drawn from its shape, or given."""
    return {
        "sizes": {"d_model": d_model, "d_context": d_context, "num_heads": num_heads},
        "weights": projections(make, d_model, d_context, d_model),
        "sequences": [make.normal(batch, queries, d_model), make.normal(batch, keys, d_context)],
        "mask": with_dead_rows(make, *mask, dead=()) if isinstance(mask, tuple) else mask,
    }


CrossAttention = Exercise(
    "CrossAttention",
    oracle=CrossByTorch,
    forbids=SHORT_CUTS,
    mistakes=[
        *shared_mistakes("x", "context", "context", sizes="d_context, d_model"),
        Mistake(
            "keys taken from the reader",
            "self.W_k(context)",
            "self.W_k(x)",
            "The keys are computed from x. Queries come from the sequence that reads, keys and "
            "values from the one that is read.",
        ),
        Mistake(
            "values taken from the reader",
            "self.W_v(context)",
            "self.W_v(x)",
            "The values are computed from x. Queries come from the sequence that reads, keys and "
            "values from the one that is read.",
        ),
        Mistake.edits_of(
            "reads itself",
            [("self.W_k(context)", "self.W_k(x)"), ("self.W_v(context)", "self.W_v(x)")],
            "This is self-attention: keys and values are computed from x, and the context is "
            "never read.",
        ),
        Mistake.edits_of(
            "the context reads",
            [
                ("self.W_q(x)", "self.W_q(context)"),
                ("self.W_k(context)", "self.W_k(x)"),
                ("self.W_v(context)", "self.W_v(x)"),
            ],
            "The roles are exchanged: here the context asks and x answers. x is the sequence "
            "that reads.",
        ),
        Mistake.edits_of(
            "d_context forgotten",
            [
                ("self.W_k = nn.Linear(d_context", "self.W_k = nn.Linear(d_model"),
                ("self.W_v = nn.Linear(d_context", "self.W_v = nn.Linear(d_model"),
            ],
            "W_k and W_v read the context, which has d_context features, not d_model.",
        ),
        Mistake(
            "d_context and d_model exchanged",
            "d_model: int, d_context: int",
            "d_context: int, d_model: int",
            "The first two arguments of the constructor are exchanged: d_model comes first.",
        ),
        Mistake(
            "d_context must be divisible, too",
            "d_model % num_heads != 0",
            "d_model % num_heads != 0 or d_context % num_heads != 0",
            "The heads share d_model features, and only these must divide; d_context may be "
            "anything.",
        ),
        Mistake.edits_of(
            "the context reads, with projections to match",
            [
                ("self.W_q = nn.Linear(d_model", "self.W_q = nn.Linear(d_context"),
                ("self.W_k = nn.Linear(d_context", "self.W_k = nn.Linear(d_model"),
                ("self.W_v = nn.Linear(d_context", "self.W_v = nn.Linear(d_model"),
                ("self.W_q(x)", "self.W_q(context)"),
                ("self.W_k(context)", "self.W_k(x)"),
                ("self.W_v(context)", "self.W_v(x)"),
            ],
            "The roles are exchanged: here the context asks and x answers. x is the sequence "
            "that reads.",
        ),
        Mistake(
            "the first context kept",
            "        q = split_heads(self.W_q(x)",
            "        context = self.kept = getattr(self, 'kept', context)\n"
            "        q = split_heads(self.W_q(x)",
            "The context of the first call is kept and read again later. Every call brings the "
            "context that it is to read.",
        ),
        Mistake(
            "d_context must be divisible",
            "d_model % num_heads",
            "d_context % num_heads",
            "The heads share d_model features, so that is what num_heads must divide; d_context "
            "may be anything.",
        ),
        Mistake(
            "scaled by d_context",
            "scaled_dot_product_attention(q, k, v, mask)",
            "scaled_dot_product_attention(\n"
            "            q * math.sqrt(q.size(-1) / context.size(-1)), k, v, mask\n        )",
            "The scores are divided by the square root of d_context. A head's dot product adds "
            "up d_head features.",
        ),
    ],
    variants=[
        Variant(
            "a MultiHeadAttention with other projections",
            """
            class CrossAttention(MultiHeadAttention):
                def __init__(self, d_model, d_context, num_heads):
                    super().__init__(d_model, num_heads)
                    self.W_k = nn.Linear(d_context, d_model, bias=False)
                    self.W_v = nn.Linear(d_context, d_model, bias=False)

                def forward(self, x, context, mask=None):
                    return super().forward(x, context, context, mask)
            """,
        ),
        Variant(
            "einsum",
            """
            class CrossAttention(nn.Module):
                def __init__(self, d_model, d_context, num_heads):
                    nn.Module.__init__(self)
                    if d_model % num_heads > 0:
                        raise ValueError("d_model must be a multiple of num_heads")
                    self.h, self.d = num_heads, d_model // num_heads
                    self.W_q = nn.Linear(d_model, d_model, False)
                    self.W_k = nn.Linear(d_context, d_model, False)
                    self.W_v = nn.Linear(d_context, d_model, False)
                    self.W_o = nn.Linear(d_model, d_model, False)

                def forward(self, x, context, mask=None):
                    b, n, m = x.size(0), x.size(1), context.size(1)
                    q = self.W_q(x).view(b, n, self.h, self.d) * self.d**-0.5
                    k = self.W_k(context).view(b, m, self.h, self.d)
                    v = self.W_v(context).view(b, m, self.h, self.d)
                    weights = torch.einsum("bnhd,bmhd->bhnm", q, k)
                    if mask is not None:
                        mask = mask.expand(b, n, m)[:, None]
                        weights = torch.where(mask, weights, float("-inf"))
                        weights = torch.where(mask.any(-1, keepdim=True), weights, 0.0)
                    weights = weights.softmax(-1)
                    if mask is not None:
                        weights = torch.where(mask, weights, 0.0)
                    heads = torch.einsum("bhnm,bmhd->bnhd", weights, v).reshape(b, n, -1)
                    return [self.W_o(heads), weights]
            """,
        ),
        Variant(
            "head by head",
            """
            class CrossAttention(nn.Module):
                def __init__(self, d_model, d_context, num_heads):
                    super().__init__()
                    if d_model % num_heads != 0:
                        raise ValueError
                    self.num_heads = num_heads
                    self.W_q = nn.Linear(d_model, d_model, bias=False)
                    self.W_k = nn.Linear(d_context, d_model, bias=False)
                    self.W_v = nn.Linear(d_context, d_model, bias=False)
                    self.W_o = nn.Linear(d_model, d_model, bias=False)

                def forward(self, x, context, mask=None):
                    parts = zip(
                        self.W_q(x).chunk(self.num_heads, -1),
                        self.W_k(context).chunk(self.num_heads, -1),
                        self.W_v(context).chunk(self.num_heads, -1),
                    )
                    pairs = [scaled_dot_product_attention(q, k, v, mask) for q, k, v in parts]
                    output = self.W_o(torch.cat([o for o, _ in pairs], dim=-1))
                    return output, torch.stack([w for _, w in pairs], dim=1)
            """,
        ),
    ],
)


@CrossAttention.test(
    points=0.5,
    cases=[
        Case(
            "names and shapes of the parameters",
            names_and_shapes,
            lambda make: {
                "sizes": {"d_model": 12, "d_context": make.choice([7, 10]), "num_heads": 3}
            },
        ),
        Case(
            "sizes that divide, and sizes that do not",
            refuses,
            lambda make: {
                "several": [
                    {"d_model": 12, "d_context": 7, "num_heads": make.choice([3, 4])},
                    {"d_model": 10, "d_context": 12, "num_heads": make.choice([3, 4])},
                    {"d_model": 4, "d_context": 8, "num_heads": 8},
                ]
            },
        ),
    ],
)
def test_cross_parameters(submission, case):
    """Has the projections of the docstring, and refuses sizes that do not fit"""
    submission.matches_reference(case)


@CrossAttention.test(
    points=1.5,
    cases=[
        case_of("a context of its own length and width", attend_with_heads, two),
        case_of(
            "a context as long and as wide as the reader, then another without a mask",
            attend_twice,
            lambda make: dict(
                **two(make, (6, 6), queries=6, keys=6, d_context=12),
                then=[make.normal(2, 6, 12), make.normal(2, 6, 12)],
            ),
        ),
        case_of(
            "one head, a batch of one",
            attend_with_heads,
            lambda make: two(make, num_heads=1, batch=1, d_context=15),
        ),
        case_of(
            "gradients of the projections",
            gradients_of_projections,
            lambda make: dict(**two(make, (2, 5, 7)), cotangent=make.normal(2, 5, 12)),
            loosen=100.0,
        ),
    ],
)
def test_cross_reads_the_context(submission, case):
    """Asks with one sequence and reads the other"""
    submission.matches_reference(case)


@CrossAttention.test(
    points=0.5,
    cases=[
        case_of(
            "a mask for each sequence",
            attend_with_heads,
            lambda make: two(make, (3, 5, 7), batch=3),
        ),
        case_of(
            "a mask of padded keys",
            attend_with_heads,
            lambda make: two(make, lengths_mask(make, 4, 7), batch=4),
        ),
        case_of(
            "one mask for all sequences",
            attend_with_heads,
            lambda make: two(make, (3, 7), queries=3),
        ),
        case_of(
            "queries that may attend to nothing",
            attend_with_heads,
            lambda make: two(make, with_dead_rows(make, 2, 5, 7)),
        ),
    ],
)
def test_cross_masks(submission, case):
    """Reads only where the mask allows"""
    submission.matches_reference(case)


@CrossAttention.test(
    points=0.5,
    cases=[case_of("with a mask", attend_with_heads, lambda make: two(make, (2, 5, 7)))],
)
def test_cross_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# -------------------------------------------------------------------- GroupedQueryAttention


def grouped(make, mask=None, *, num_heads=6, num_kv_heads=2, batch=2, queries=5, keys=7, d_head=4):
    """Inputs of GroupedQueryAttention; mask is drawn from its shape, or given."""
    d_model = num_heads * d_head
    inputs = three(
        make, mask, num_heads=num_heads, batch=batch, queries=queries, keys=keys, d_model=d_model
    )
    inputs["sizes"]["num_kv_heads"] = num_kv_heads
    return {**inputs, "weights": projections(make, d_model, d_model, num_kv_heads * d_head)}


REPEATED_K = "k = k.repeat_interleave(group, dim=1)"
REPEATED_V = "v = v.repeat_interleave(group, dim=1)"

GroupedQueryAttention = Exercise(
    "GroupedQueryAttention",
    oracle=GroupsByTorch,
    forbids=SHORT_CUTS,
    mistakes=[
        *shared_mistakes("query", "key", "value", sizes="d_model, num_kv_heads * d_head"),
        Mistake.edits_of(
            "key and value heads dealt out in turn",
            [
                (REPEATED_K, "k = k.repeat(1, group, 1, 1)"),
                (REPEATED_V, "v = v.repeat(1, group, 1, 1)"),
            ],
            "Neighbouring query heads use different heads of keys and values, in turn. A group "
            "is a run of neighbouring query heads, and all of it shares one head.",
        ),
        Mistake(
            "key heads dealt out in turn",
            REPEATED_K,
            "k = k.repeat(1, group, 1, 1)",
            "The heads of the keys are dealt out to the query heads in turn; those of the values "
            "are right. Neighbouring query heads share one.",
        ),
        Mistake(
            "value heads dealt out in turn",
            REPEATED_V,
            "v = v.repeat(1, group, 1, 1)",
            "The heads of the values are dealt out to the query heads in turn; those of the keys "
            "are right. Neighbouring query heads share one.",
        ),
        Mistake.edits_of(
            "groups of num_kv_heads",
            [
                (
                    REPEATED_K,
                    "own = [h // self.num_kv_heads for h in range(self.num_heads)]\n"
                    "        k = torch.stack([k[:, i] for i in own], dim=1)",
                ),
                (REPEATED_V, "v = torch.stack([v[:, i] for i in own], dim=1)"),
            ],
            "num_kv_heads is how many groups there are, not how many query heads are in each.",
        ),
        Mistake.edits_of(
            "features repeated instead of heads",
            [
                (
                    "split_heads(self.W_k(key), self.num_kv_heads)",
                    "split_heads(self.W_k(key).repeat_interleave(group, -1), self.num_heads)",
                ),
                (
                    "split_heads(self.W_v(value), self.num_kv_heads)",
                    "split_heads(self.W_v(value).repeat_interleave(group, -1), self.num_heads)",
                ),
                (REPEATED_K, "pass"),
                (REPEATED_V, "pass"),
            ],
            "Every feature of the keys and values is repeated before they are cut into heads; "
            "whole heads should be.",
        ),
        Mistake.edits_of(
            "one head for all",
            [
                (REPEATED_K, "k = k[:, :1].expand(-1, self.num_heads, -1, -1)"),
                (REPEATED_V, "v = v[:, :1].expand(-1, self.num_heads, -1, -1)"),
            ],
            "Every query head uses the first head of keys and values. That is multi-query "
            "attention; here every group has a head of its own.",
        ),
        Mistake.edits_of(
            "key and value heads averaged",
            [
                (REPEATED_K, "k = k.mean(1, keepdim=True).expand(-1, self.num_heads, -1, -1)"),
                (REPEATED_V, "v = v.mean(1, keepdim=True).expand(-1, self.num_heads, -1, -1)"),
            ],
            "The heads of keys and values are averaged. Each group of query heads should use its "
            "own.",
        ),
        Mistake.edits_of(
            "groups in reverse order",
            [
                (REPEATED_K, "k = k.flip(1).repeat_interleave(group, dim=1)"),
                (REPEATED_V, "v = v.flip(1).repeat_interleave(group, dim=1)"),
            ],
            "The groups are in reverse order: the first query heads use the first head of keys "
            "and values.",
        ),
        Mistake(
            "heads regrouped in the output",
            "merge_heads(heads)",
            "merge_heads(heads.unflatten(1, (-1, group)).transpose(1, 2).flatten(1, 2))",
            "Groups and the heads within them changed places before they were concatenated: the "
            "query heads should keep their order.",
        ),
        Mistake(
            "weights averaged over each group",
            "self.W_o(merge_heads(heads)), weights",
            "self.W_o(merge_heads(heads)), weights.unflatten(1, (-1, group)).mean(2)",
            "The weights of a group are averaged; return those of every query head.",
        ),
        Mistake(
            "d_head from num_kv_heads",
            "d_head = d_model // num_heads\n",
            "d_head = d_model // num_kv_heads\n",
            "The features of a head follow from num_heads, for keys and values too; W_k and W_v "
            "are to be smaller than W_q.",
        ),
        *OF_THREE_ARGUMENTS,
        Mistake(
            "any number of key and value heads accepted",
            "if num_heads % num_kv_heads != 0:",
            "if False:",
            "A num_heads that num_kv_heads does not divide is accepted; it should raise a "
            "ValueError.",
        ),
        Mistake.edits_of(
            "sizes not checked",
            [
                ("if d_model % num_heads != 0:", "if False:"),
                ("if num_heads % num_kv_heads != 0:", "if False:"),
            ],
            "Sizes that do not divide are accepted; both should raise a ValueError.",
        ),
        Mistake(
            "d_model asked to be divisible by num_kv_heads",
            "if num_heads % num_kv_heads != 0:",
            "if d_model % num_kv_heads != 0:",
            "It is num_heads that num_kv_heads must divide, so that all groups are of one size.",
        ),
    ],
    variants=[
        Variant(
            "groups as a dimension",
            """
            class GroupedQueryAttention(nn.Module):
                def __init__(self, d_model, num_heads, num_kv_heads):
                    super().__init__()
                    if d_model % num_heads or num_heads % num_kv_heads:
                        raise ValueError("heads do not divide")
                    self.h, self.g, self.d = num_heads, num_kv_heads, d_model // num_heads
                    self.W_q = nn.Linear(d_model, d_model, bias=False)
                    self.W_k = nn.Linear(d_model, self.g * self.d, bias=False)
                    self.W_v = nn.Linear(d_model, self.g * self.d, bias=False)
                    self.W_o = nn.Linear(d_model, d_model, bias=False)

                def forward(self, query, key, value, mask=None):
                    b, n, m = query.size(0), query.size(1), key.size(1)
                    q = self.W_q(query).view(b, n, self.g, self.h // self.g, self.d)
                    k = self.W_k(key).view(b, m, self.g, self.d)
                    v = self.W_v(value).view(b, m, self.g, self.d)
                    scores = torch.einsum("bngrd,bmgd->bgrnm", q, k) / math.sqrt(self.d)
                    if mask is not None:
                        mask = mask.expand(b, n, m)[:, None, None]
                        scores = scores.masked_fill(~mask, -1e30)
                    weights = scores.softmax(-1)
                    if mask is not None:
                        weights = weights * mask
                    heads = torch.einsum("bgrnm,bmgd->bngrd", weights, v)
                    return self.W_o(heads.reshape(b, n, -1)), weights.flatten(1, 2)
            """,
        ),
        Variant(
            "expanded and reshaped",
            edits=[
                (
                    REPEATED_K,
                    "k = k[:, :, None].expand(-1, -1, group, -1, -1).flatten(1, 2)",
                ),
                (
                    REPEATED_V,
                    "v = v[:, :, None].expand(-1, -1, group, -1, -1).flatten(1, 2)",
                ),
            ],
        ),
        Variant(
            "query head by query head",
            """
            class GroupedQueryAttention(nn.Module):
                def __init__(self, d_model, num_heads, num_kv_heads):
                    super().__init__()
                    if d_model % num_heads != 0:
                        raise ValueError("num_heads does not divide d_model")
                    if num_heads % num_kv_heads != 0:
                        raise ValueError("num_kv_heads does not divide num_heads")
                    self.num_heads, self.num_kv_heads = num_heads, num_kv_heads
                    d_kv = num_kv_heads * (d_model // num_heads)
                    self.W_q = nn.Linear(d_model, d_model, bias=False)
                    self.W_k = nn.Linear(d_model, d_kv, bias=False)
                    self.W_v = nn.Linear(d_model, d_kv, bias=False)
                    self.W_o = nn.Linear(d_model, d_model, bias=False)

                def forward(self, query, key, value, mask=None):
                    q = self.W_q(query).chunk(self.num_heads, dim=-1)
                    k = self.W_k(key).chunk(self.num_kv_heads, dim=-1)
                    v = self.W_v(value).chunk(self.num_kv_heads, dim=-1)
                    outputs, weights = [], []
                    for h in range(self.num_heads):
                        g = h * self.num_kv_heads // self.num_heads
                        output, weight = scaled_dot_product_attention(q[h], k[g], v[g], mask)
                        outputs.append(output)
                        weights.append(weight)
                    return self.W_o(torch.cat(outputs, -1)), torch.stack(weights, 1)
            """,
        ),
    ],
)


@GroupedQueryAttention.test(
    points=0.5,
    cases=[
        Case(
            "names and shapes of the parameters",
            names_and_shapes,
            lambda make: {
                "sizes": {"d_model": 24, "num_heads": 6, "num_kv_heads": make.choice([2, 3])}
            },
        ),
        Case(
            "sizes that divide, and sizes that do not",
            refuses,
            lambda make: {
                "several": [
                    {"d_model": 12, "num_heads": 6, "num_kv_heads": make.choice([2, 3])},
                    {"d_model": 14, "num_heads": 4, "num_kv_heads": 2},
                    {"d_model": 4, "num_heads": 8, "num_kv_heads": 2},
                    {"d_model": 12, "num_heads": 6, "num_kv_heads": 4},
                    {"d_model": 12, "num_heads": 3, "num_kv_heads": 6},
                    {"d_model": 9, "num_heads": 3, "num_kv_heads": 2},
                ]
            },
        ),
    ],
)
def test_grouped_parameters(submission, case):
    """Has the projections of the docstring, and refuses sizes that do not fit"""
    submission.matches_reference(case)


@GroupedQueryAttention.test(
    points=2,
    cases=[
        case_of("few large groups", attend_with_heads, grouped),
        case_of("many small groups", attend_with_heads, lambda make: grouped(make, num_kv_heads=3)),
        case_of(
            "as many queries as keys, then to itself without a mask",
            attend_twice,
            lambda make: then_itself(make, grouped(make, (6, 6), num_heads=4, queries=6, keys=6)),
        ),
        case_of(
            "one head of keys and values",
            attend_with_heads,
            lambda make: grouped(make, num_kv_heads=1, batch=1, d_head=3),
        ),
        case_of(
            "as many heads of keys and values as of queries",
            attend_with_heads,
            lambda make: grouped(make, num_heads=3, num_kv_heads=3),
        ),
        case_of(
            "gradients of the projections",
            gradients_of_projections,
            lambda make: dict(**grouped(make, (2, 5, 7)), cotangent=make.normal(2, 5, 24)),
            loosen=100.0,
        ),
    ],
)
def test_groups_share_keys_and_values(submission, case):
    """Shares keys and values within each group"""
    submission.matches_reference(case)


@GroupedQueryAttention.test(
    points=1,
    cases=[
        case_of(
            "a mask for each sequence",
            attend_with_heads,
            lambda make: grouped(make, (6, 5, 7), batch=6),
        ),
        case_of(
            "a mask of padded keys",
            attend_with_heads,
            lambda make: grouped(make, lengths_mask(make, 4, 7), batch=4, num_kv_heads=3),
        ),
        case_of(
            "one mask for all sequences",
            attend_with_heads,
            lambda make: grouped(make, (6, 7), queries=6),
        ),
        case_of(
            "queries that may attend to nothing",
            attend_with_heads,
            lambda make: grouped(make, with_dead_rows(make, 2, 5, 7)),
        ),
    ],
)
def test_grouped_masks(submission, case):
    """Uses one mask for all heads"""
    submission.matches_reference(case)


@GroupedQueryAttention.test(
    points=0.5,
    cases=[case_of("with a mask", attend_with_heads, lambda make: grouped(make, (2, 5, 7)))],
)
def test_grouped_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)
