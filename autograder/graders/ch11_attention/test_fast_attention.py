"""Online softmax: Milakov & Gimelshein (2018), https://arxiv.org/abs/1805.02867; tiled attention:
Dao (2023), https://arxiv.org/abs/2307.08691; a key-value cache.

Oracles: logsumexp over what has been seen; PyTorch's attention; the derivative of an expression
with the same gradient, by autograd; a cache of pieces; attention over the whole text.

That nothing grows with the square is judged by the size of the largest tensor that an answer's
operations make, and of what it puts aside for the way backward.
"""

from functools import partial

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from autograder.spec import (
    Case,
    Exercise,
    Mistake,
    Variant,
    gradients,
    load_weights,
    names_and_shapes,
    raised,
    tensors_of,
)
from autograder.spec.tables import edits, slips, variants

SHORT_CUTS = [
    "torch.nn.functional.scaled_dot_product_attention",
    "torch.nn.functional.multi_head_attention_forward",
    "torch.nn.MultiheadAttention",
    "torch.nn.attention",
]
DERIVATIVES = ["torch.autograd.grad", "torch.autograd.backward", "torch.Tensor.backward"]


def case(title, scenario, inputs, loosen=10.0):
    return Case(title, scenario, inputs, loosen=loosen)


class Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return made


def by_blocks(call, too_many):
    """The outcome, and whether every tensor on the way was smaller than all scores."""
    with Largest() as largest:
        outcome = call()
    return {**outcome, "no tensor is as large as all the scores": largest.numel < too_many}


def finite(result):
    """Minus infinity apart from the numbers: the difference of two would be none."""
    if not isinstance(result, torch.Tensor):
        return result
    return result.masked_fill(result == -torch.inf, -1e4)


# -------------------------------------------------------------------- online_softmax_update


def update_by_logsumexp(running_max, running_sum, scores):
    seen = torch.cat([(running_max + running_sum.log())[..., None], scores], -1).logsumexp(-1)
    highest = torch.cat([running_max[..., None], scores], -1).max(-1).values
    nothing = highest == -torch.inf
    total = torch.exp(seen - highest.masked_fill(nothing, 0.0)).masked_fill(nothing, 0.0)
    return highest, total


def told(result):
    pair = isinstance(result, tuple | list) and len(result) == 2
    highest, total = result if pair else (result, None)
    return {"the maximum": finite(highest), "the sum": total}


def update(impl, running_max, running_sum, scores):
    return told(impl(running_max, running_sum, scores))


def all_blocks(impl, scores, size):
    """From the beginning, block after block."""
    state = scores.new_full(scores.shape[:-1], -torch.inf), scores.new_zeros(scores.shape[:-1])
    for block in scores.split(size, dim=-1):
        state = impl(*state, block)
    return told(state)


def a_state(make, *rows, block=4, higher=0.0):
    """A state as if some scores had been seen; the block's are higher on average, or lower."""
    highest = make.normal(1, *rows).squeeze(0)
    return {
        "running_max": highest,
        "running_sum": make.uniform(1, *rows, low=1.0, high=5.0).squeeze(0),
        "scores": highest.unsqueeze(-1) + higher + make.normal(*rows, block),
    }


def with_masked(make, *shape, p=0.4):
    """Scores of which some are minus infinity; in row 0 the first five, in row 1 all."""
    scores = make.normal(*shape, std=2.0).masked_fill(make.boolean(*shape, p=p), -torch.inf)
    scores[..., 0, :5] = -torch.inf
    scores[..., 1, :] = -torch.inf
    return scores


def eighths(make, *shape, by):
    return (make.normal(*shape) * 8).round() / 8 + torch.as_tensor(by, dtype=torch.float64)


NEW_MAX = "new_max = torch.maximum(running_max, scores.amax(dim=-1))"
FINITE = "finite = new_max.masked_fill(new_max == -torch.inf, 0.0)"
OLD = "old = running_sum * torch.exp(running_max - finite)"
UPDATED = "return new_max, old + torch.exp(scores - finite.unsqueeze(-1)).sum(dim=-1)"

online_softmax_update = Exercise(
    "online_softmax_update",
    oracle=update_by_logsumexp,
    mistakes=[
        *slips(
            OLD,
            """
            the old sum not corrected
                old = running_sum
            The old sum was measured against the old maximum. When the maximum grows, the sum
            shrinks by a factor.

            corrected the wrong way
                old = running_sum * torch.exp((finite - running_max).clamp(max=700.0))
            When the maximum grows, the old sum becomes smaller: the sign in the exponent is wrong.

            corrected the wrong way, without a limit
                old = running_sum * torch.exp(finite - running_max)
            When the maximum grows, the old sum becomes smaller: the sign in the exponent is wrong.

            the factor without exp
                old = running_sum * (running_max - finite).clamp_min(-1e30)
            The correction is a factor e to the power of m − m', not m − m' itself.

            the old sum forgotten
                old = torch.zeros_like(running_sum)
            The sum of the earlier blocks is lost.

            corrected by the block's maximum
                own = scores.amax(dim=-1)
                    old = running_sum * torch.exp((running_max - own).clamp(-700.0, 700.0))
            The old sum is corrected from the old maximum to the new one, which need not be the
            block's.
            """,
        ),
        *slips(
            NEW_MAX,
            """
            the block's maximum alone
                new_max = scores.amax(dim=-1)
            The maximum is over all that has been seen, earlier blocks included.

            the maximum not updated
                new_max = running_max.clone()
            The maximum grows where the block holds a larger score.

            one maximum for all rows
                new_max = torch.maximum(running_max, scores.max())
            Every row has a maximum of its own.

            the first score for the maximum
                new_max = torch.maximum(running_max, scores[..., 0])
            The maximum is over all scores of the block.

            minimum
                new_max = torch.maximum(running_max, scores.amin(dim=-1))
            It is the block's largest score that counts, not its smallest.
            """,
        ),
        *slips(
            UPDATED,
            """
            mean over the block
                return new_max, old + torch.exp(scores - finite.unsqueeze(-1)).mean(dim=-1)
            Exponentials are added up, not averaged.

            the block against its own maximum
                own = scores.amax(-1, keepdim=True)
                    own = own.masked_fill(own == -torch.inf, 0.0)
                    return new_max, old + torch.exp(scores - own).sum(dim=-1)
            The block's exponentials are measured against the new maximum, as the old sum is; it
            need not be the block's own.

            the block against the old maximum
                return new_max, old + torch.exp(scores - running_max.unsqueeze(-1)).sum(dim=-1)
            The block's exponentials are measured against the new maximum, not against the old one.

            a finite maximum where nothing has been seen
                lowest = torch.nan_to_num(new_max, neginf=-1e30)
                    return lowest, old + torch.exp(scores - finite.unsqueeze(-1)).sum(dim=-1)
            Where nothing has been seen, the maximum is minus infinity, not some very low number.

            not measured against the maximum
                return new_max, old + torch.exp(scores).sum(dim=-1)
            The maximum is not taken from the scores before the exponential, which would keep it in
            range.

            sum before maximum
                return old + torch.exp(scores - finite.unsqueeze(-1)).sum(dim=-1), new_max
            The maximum is returned first, then the sum.

            the logarithm of the sum
                return new_max, (old + torch.exp(scores - finite.unsqueeze(-1)).sum(dim=-1)).log()
            The sum itself is returned, not its logarithm.

            only the sum
                return old + torch.exp(scores - finite.unsqueeze(-1)).sum(dim=-1)
            Both are returned: the maximum and the sum.

            summed over the rows as well
                return new_max, old + torch.exp(scores - finite.unsqueeze(-1)).sum()
            Each row has a sum of its own.

            changed in place
                running_sum.copy_(old + torch.exp(scores - finite.unsqueeze(-1)).sum(dim=-1))
                    return new_max, running_sum.clone()
            The caller's sum has changed. Make a new tensor: the arguments belong to the caller.
            """,
        ),
        *slips(
            FINITE,
            """
            NaN where all is masked
                finite = new_max
            Where a row has met nothing but minus infinity, you compute minus infinity less minus
            infinity, which is NaN. The sum there is 0.
            """,
        ),
        Mistake.edits_of(
            "a maximum of zero where all is masked",
            [(UPDATED, UPDATED.replace("new_max,", "finite,"))],
            "Where all is masked the maximum stays minus infinity: with 0 instead, later scores "
            "below it would be measured against something that was never there.",
        ),
        Mistake(
            "very low scores taken for masked ones",
            FINITE,
            FINITE.replace("new_max == -torch.inf", "new_max < -1e3"),
            "Rows whose scores are all very low are treated as if they had met nothing. Only minus "
            "infinity stands for a masked key.",
        ),
        Mistake(
            "a masked key counted as one",
            UPDATED,
            "terms = torch.exp(scores - finite.unsqueeze(-1))\n"
            "    return new_max, old + terms.masked_fill(scores == -torch.inf, 1.0).sum(dim=-1)",
            "A masked key adds 1 to the sum; it counts nothing.",
        ),
        Mistake.edits_of(
            "no maximum anywhere",
            [(OLD, "old = running_sum"), (UPDATED, UPDATED.replace(" - finite.unsqueeze(-1)", ""))],
            "The exponentials are added up as they are. running_sum is measured against the "
            "maximum, old and new; without it, large scores overflow.",
        ),
        Mistake.edits_of(
            "NaN mended, the sum lost",
            [
                (FINITE, "finite = new_max"),
                (UPDATED, UPDATED.replace("old +", "torch.nan_to_num(old) +")),
            ],
            "Minus infinity less minus infinity is NaN in the block's exponentials, too, and so "
            "the sum of a row that has met nothing but masked keys is NaN.",
        ),
    ],
    variants=variants(
        """
        with where
            def online_softmax_update(running_max, running_sum, scores):
                m = torch.maximum(running_max, scores.max(dim=-1).values)
                safe = torch.where(torch.isinf(m), torch.zeros_like(m), m)
                terms = (scores - safe[..., None]).exp().sum(-1)
                return m, running_sum * (running_max - safe).exp() + terms

        NaN mended, both times
            def online_softmax_update(running_max, running_sum, scores):
                m = torch.max(torch.cat([running_max[..., None], scores], dim=-1), dim=-1).values
                factor = torch.nan_to_num(torch.exp(running_max - m), nan=0.0)
                terms = torch.nan_to_num(torch.exp(scores - m.unsqueeze(-1)), nan=0.0)
                return [m, running_sum * factor + terms.sum(-1)]

        score by score
            def online_softmax_update(running_max, running_sum, scores):
                m, l = running_max.clone(), running_sum.clone()
                for s in scores.unbind(dim=-1):
                    new = torch.maximum(m, s)
                    safe = new.masked_fill(new.isneginf(), 0)
                    l = l * torch.exp(m - safe) + torch.exp(s - safe)
                    m = new
                return m, l
        """
    ),
)


@online_softmax_update.test(
    points=1.5,
    cases=[
        case("a block with larger scores", update, lambda make: a_state(make, 3, higher=2.0)),
        case("a block with smaller scores", update, lambda make: a_state(make, 3, higher=-4.0)),
        case("rows of several dimensions", update, lambda make: a_state(make, 2, 3, 4, block=6)),
        case("a single row", update, a_state),
        case(
            "one score at a time",
            all_blocks,
            lambda make: {"scores": make.normal(3, 7, std=2.0), "size": 1},
        ),
        case(
            "several blocks, the last one smaller",
            all_blocks,
            lambda make: {"scores": make.normal(2, 3, 11, std=2.0), "size": 4},
        ),
    ],
)
def test_updates_maximum_and_sum(submission, case):
    """Keeps the maximum and the sum of what has been seen"""
    submission.matches_reference(case)


@online_softmax_update.test(
    points=0.5,
    cases=[
        case(
            "scores far above and far below zero",
            all_blocks,
            lambda make: {"scores": eighths(make, 3, 9, by=[[900.0], [-900.0], [0.0]]), "size": 4},
        ),
        case(
            "scores that grow from block to block",
            all_blocks,
            lambda make: {
                "scores": eighths(make, 3, 9, by=torch.arange(9.0) * 200 - 800),
                "size": 3,
            },
        ),
    ],
)
def test_update_is_stable(submission, case):
    """Stays exact for large scores"""
    submission.matches_reference(case)


@online_softmax_update.test(
    points=0.5,
    cases=[
        case(
            "masked keys",
            all_blocks,
            lambda make: {"scores": with_masked(make, 4, 9), "size": make.choice([2, 4])},
        ),
        case(
            "masked keys before scores far below zero",
            all_blocks,
            lambda make: {
                "scores": torch.cat(
                    [torch.full((3, 4), -torch.inf), eighths(make, 3, 4, by=-5000.0)], dim=-1
                ).double(),
                "size": 4,
            },
        ),
    ],
)
def test_update_minds_masked_keys(submission, case):
    """Counts masked keys as nothing"""
    submission.matches_reference(case)


@online_softmax_update.test(
    points=0.5,
    cases=[
        case("several blocks", all_blocks, lambda make: {"scores": make.normal(2, 7), "size": 3})
    ],
)
def test_update_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ------------------------------------------------------------------ flash_attention_forward


def aligned(q, k, causal):
    """Which keys each query may attend to, the last query standing on the last key."""
    n, m = q.size(-2), k.size(-2)
    allowed = torch.ones(n, m, dtype=torch.bool, device=q.device)
    return allowed.tril(m - n) if causal else allowed


def attention_by_torch(q, k, v, block_size, causal=False):  # noqa: ARG001
    """PyTorch's own, query by query, over the keys that each may attend to."""
    outputs, sums = [], []
    for i in range(q.size(-2)):
        seen = k.size(-2) - (q.size(-2) - 1 - i if causal else 0)
        row, keys, values = q[..., i : i + 1, :], k[..., :seen, :], v[..., :seen, :]
        outputs.append(nn.functional.scaled_dot_product_attention(row, keys, values))
        sums.append(torch.logsumexp((row * keys).sum(-1) * q.size(-1) ** -0.5, -1))
    return torch.cat(outputs, -2), torch.stack(sums, -1)


def pair_of(result):
    pair = isinstance(result, tuple | list) and len(result) == 2
    output, lse = result if pair else (result, None)
    return {"output": output, "log-sum-exp": lse}


def attend(impl, q, k, v, block_size, causal=None):
    if causal is None:
        return pair_of(impl(q, k, v, block_size))
    return pair_of(impl(q, k, v, block_size, causal))


def attend_by_blocks(impl, q, k, v, block_size, causal):
    scores = q[..., 0].numel() * k.size(-2)
    return by_blocks(lambda: pair_of(impl(q, k, v, block_size, causal)), scores)


def triple(make, *leading, queries=5, keys=11, d_k=6, d_v=3, block=4, **options):
    return {
        "q": make.normal(*leading, queries, d_k, std=1.3),
        "k": make.normal(*leading, keys, d_k, std=1.3),
        "v": make.normal(*leading, keys, d_v),
        "block_size": block,
        **options,
    }


def steep(make, towards, shift=0.0, causal=False):
    """Scores of several hundred that rise or fall along the keys."""
    drawn = triple(make, 2, keys=9, d_k=4, block=3, causal=causal)
    drawn["q"] = (drawn["q"] * 8).round() / 8
    drawn["k"] = (drawn["k"] * 8).round() / 8
    drawn["q"][..., 0] = 16.0
    drawn["k"][..., 0] = shift + towards * torch.arange(-40.0, 41.0, 10.0)
    return drawn


SCALED = "scores = q @ k[..., start:end, :].mT / math.sqrt(q.size(-1))"
SHRINK = "shrink = torch.exp(running_max - new_max).unsqueeze(-1)"
WEIGHED = "weights = torch.exp(scores - new_max.unsqueeze(-1))"
COLLECTED = "output = output * shrink + weights @ v[..., start:end, :]"
FORWARD_RESULT = "return output / running_sum.unsqueeze(-1), running_max + running_sum.log()"
STANDS = "stands_on = torch.arange(num_keys - num_queries, num_keys, device=q.device)"
BEHIND = "behind = torch.arange(start, end, device=q.device) > stands_on.unsqueeze(1)"
CAUSAL = "            scores = scores.masked_fill(behind, -torch.inf)"
LAST_BLOCK = "for start in range(0, num_keys, block_size):"

SCALING = """
not scaled
    {start}{plain}
The scores are not scaled: divide by the square root of d_k.

scaled by d_k
    {start}{plain} / q.size(-1)
The scores are divided by d_k; it should be its square root.

scaled by the values' features
    {start}{plain} / math.sqrt(v.size(-1))
The scale comes from d_k, the features of a key, not from those of a value.
"""
MASKING = """
one key of the future
    behind = torch.arange(start, end, device=q.device) > stands_on.unsqueeze(1) + 1
Each query sees one key of the future. The last it may see is the one that it stands on.

its own key hidden
    behind = torch.arange(start, end, device=q.device) >= stands_on.unsqueeze(1)
A query may attend to the key that it stands on as well; yours sees only those before it.

keys counted anew in each block
    behind = torch.arange(end - start, device=q.device) > stands_on.unsqueeze(1)
The keys of every block are counted from 0 when the mask is made; the key that a query stands on is
counted from the first key of all. Add where the block begins.
"""
ALIGNING = """
aligned at the first key
    stands_on = torch.arange(num_queries, device=q.device)
Right for as many queries as keys. Otherwise the queries are the last positions: the last one
stands on the last key.
"""
SKIPPED = """
the last block skipped where it is smaller
    for start in range(0, num_keys - block_size + 1, block_size):
Where block_size does not divide the number of keys, the keys that are left over are lost: the last
block may be smaller.

blocks counted over the queries
    for start in range(0, num_queries, block_size):
It is the keys that are gone through in blocks: as many as there are keys, not queries.

only the first block
    for start in range(0, min(block_size, num_keys), block_size):
Only the first block of keys is read.
"""

flash_attention_forward = Exercise(
    "flash_attention_forward",
    oracle=attention_by_torch,
    forbids=SHORT_CUTS,
    seconds=90.0,
    mistakes=[
        *slips(SCALED, SCALING.format(start="scores = ", plain="q @ k[..., start:end, :].mT")),
        *slips(BEHIND, MASKING),
        *slips(STANDS, ALIGNING),
        *slips(
            COLLECTED,
            """
            the old output not corrected
                output = output + weights @ v[..., start:end, :]
            The output so far was measured against the old maximum. Where the maximum grows, it
            shrinks by the same factor as the sum.

            the old output forgotten
                output = weights @ v[..., start:end, :]
            What earlier blocks have put into the output is lost.

            the new values corrected as well
                output = (output + weights @ v[..., start:end, :]) * shrink
            Only the old output is corrected. The block's own weights are measured against the new
            maximum already.

            divided in every block
                output = output * shrink + weights @ v[..., start:end, :]
                        output = output / running_sum.unsqueeze(-1)
            The output is divided by the sum after every block. Collect first, and divide once, at
            the end.

            each block averaged by itself
                own = torch.softmax(scores, dim=-1).nan_to_num(0.0)
                        output = output + own @ v[..., start:end, :]
            A softmax within each block lets every block count the same. Collect exponentials, and
            divide once, at the end.
            """,
        ),
        *slips(
            SHRINK,
            """
            corrected the wrong way
                shrink = torch.exp((new_max - running_max).clamp(max=700.0)).unsqueeze(-1)
            Where the maximum grows, the old output becomes smaller: the sign in the exponent is
            wrong.
            """,
        ),
        *slips(
            WEIGHED,
            """
            weights against the old maximum
                weights = torch.exp((scores - running_max.unsqueeze(-1)).clamp(max=700.0))
            The block's weights are measured against the new maximum, not the old one.

            weights against nothing
                weights = torch.exp(scores)
            The maximum is not taken from the scores before the exponential.
            """,
        ),
        *slips(
            FORWARD_RESULT,
            """
            not divided by the sum
                return output, running_max + running_sum.log()
            The output is divided by the sum of the exponentials, once, at the end.

            the maximum missing in the log-sum-exp
                return output / running_sum.unsqueeze(-1), running_sum.log()
            The sum is measured against the maximum, which has to be added to its logarithm.

            the logarithm of the sum subtracted
                return output / running_sum.unsqueeze(-1), running_max - running_sum.log()
            The logarithm of the sum is added to the maximum, not subtracted.

            the sum instead of its logarithm
                return output / running_sum.unsqueeze(-1), running_sum
            What is returned beside the output is the logarithm of the sum of exponentials, the
            maximum included.

            the maximum instead of the log-sum-exp
                return output / running_sum.unsqueeze(-1), running_max
            The maximum alone is not enough to recompute the weights: the logarithm of the sum is
            added to it.

            the sum itself added
                return output / running_sum.unsqueeze(-1), running_max + running_sum
            It is the logarithm of the sum that is added to the maximum.

            log-sum-exp in base 2
                return output / running_sum.unsqueeze(-1), running_max + running_sum.log2()
            The logarithm is the natural one.

            a column of log-sum-exps
                lse = running_max + running_sum.log()
                    return output / running_sum.unsqueeze(-1), lse.unsqueeze(-1)
            The log-sum-exp has one number a query, and the shape (…, queries).

            log-sum-exp first
                return running_max + running_sum.log(), output / running_sum.unsqueeze(-1)
            The output is returned first, then the log-sum-exp.

            log-sum-exp not returned
                return output / running_sum.unsqueeze(-1)
            The log-sum-exp is returned as well, after the output.
            """,
        ),
        *slips(LAST_BLOCK, SKIPPED),
        *edits(
            [
                (
                    "causal ignored",
                    "        if causal:",
                    "        if causal and num_keys < 0:",
                    "The argument causal has no effect.",
                ),
                (
                    "always causal",
                    "        if causal:",
                    "        if causal or num_keys >= num_queries:",
                    "Without causal, every query attends to every key.",
                ),
                (
                    "masked scores set to zero",
                    CAUSAL,
                    CAUSAL.replace("-torch.inf", "0.0"),
                    "A score of 0 still gets weight, since exp(0) is 1. Masked scores are minus "
                    "infinity.",
                ),
                (
                    "stops where the first query stands",
                    "        end = min(start + block_size, num_keys)",
                    "        end = min(start + block_size, num_keys)\n"
                    "        if causal and start > num_keys - num_queries:\n"
                    "            break",
                    "Blocks behind the first query's key are left out, although later queries may "
                    "attend to them. Only blocks behind all queries may be skipped.",
                ),
                (
                    "masked scores not quite low enough",
                    CAUSAL,
                    CAUSAL.replace("-torch.inf", "-1e4"),
                    "The number put in for masked scores is low, but not low enough: scores may be "
                    "of any finite size, and where the true ones are lower still, masked keys win.",
                ),
                (
                    "keys transposed from the front",
                    SCALED,
                    "scores = torch.bmm(q, k[..., start:end, :].transpose(1, 2))\n"
                    "        scores = scores / math.sqrt(q.size(-1))",
                    "torch.bmm takes one leading dimension, no more and no less. A matrix product "
                    "with @ takes any number of them, and mT exchanges the last two.",
                ),
                (
                    "dimensions counted from the front",
                    SCALED,
                    "scores = torch.bmm(q, k[..., start:end, :].mT) / math.sqrt(q.size(-1))",
                    "torch.bmm takes one leading dimension, no more and no less. A matrix product "
                    "with @ takes any number of them.",
                ),
                (
                    "masked scores not low enough",
                    CAUSAL,
                    CAUSAL.replace("-torch.inf", "-50.0"),
                    "The number put in for masked scores is not low enough: where the true scores "
                    "are lower still, masked keys win.",
                ),
            ]
        ),
        Mistake(
            "scores clamped",
            SCALED,
            SCALED + "\n        scores = scores.clamp(-50.0, 50.0)",
            "Clamping keeps exp in range, but scores beyond the limits become equal and their "
            "differences are lost. Measured against the maximum, they need no clamp.",
        ),
        Mistake.edits_of(
            "divided in every block, and not at the end",
            [
                (COLLECTED, COLLECTED + "\n        output = output / running_sum.unsqueeze(-1)"),
                (FORWARD_RESULT, FORWARD_RESULT.replace(" / running_sum.unsqueeze(-1)", "")),
            ],
            "The output is divided by the sum after every block, so that earlier blocks are "
            "divided again and again. Collect first, and divide once, at the end.",
        ),
        Mistake.written(
            "all scores at once",
            """
            def flash_attention_forward(q, k, v, block_size, causal=False):
                scores = q @ k.mT / math.sqrt(q.size(-1))
                if causal:
                    n, m = q.size(-2), k.size(-2)
                    allowed = torch.ones(n, m, dtype=torch.bool, device=q.device).tril(m - n)
                    scores = scores.masked_fill(~allowed, -torch.inf)
                return torch.softmax(scores, dim=-1) @ v, scores.logsumexp(dim=-1)
            """,
            "The result is right, but all scores of all queries with all keys exist at once, which "
            "is what the exercise is to avoid. Use one block of keys at a time.",
        ),
    ],
    variants=variants(
        """
        with logsumexp and logaddexp
            def flash_attention_forward(q, k, v, block_size, causal=False):
                n, m = q.shape[-2], k.shape[-2]
                lse = torch.full_like(q[..., 0], float("-inf"))
                out = torch.zeros(*q.shape[:-1], v.shape[-1], dtype=q.dtype, device=q.device)
                i = torch.arange(n, device=q.device)[:, None] + m - n
                for a in range(0, m, block_size):
                    kb, vb = k[..., a : a + block_size, :], v[..., a : a + block_size, :]
                    s = torch.einsum("...qd,...kd->...qk", q, kb) * q.shape[-1] ** -0.5
                    if causal:
                        j = a + torch.arange(kb.shape[-2], device=q.device)
                        s = torch.where(j <= i, s, float("-inf"))
                    new = torch.logaddexp(lse, torch.logsumexp(s, -1))
                    out = out * torch.exp(lse - new)[..., None]
                    out = out + torch.exp(s - new[..., None]) @ vb
                    lse = new
                return out, lse

        queries in blocks as well
            def flash_attention_forward(q, k, v, block_size, causal=False):
                n, m = q.size(-2), k.size(-2)
                outputs, sums = [], []
                for b in range(0, n, 2):
                    own = q[..., b : b + 2, :] / math.sqrt(q.size(-1))
                    stands = torch.arange(b, b + own.size(-2), device=q.device) + m - n
                    highest = torch.full_like(own[..., 0], -torch.inf)
                    total, output = torch.zeros_like(highest), 0
                    for a in range(0, m, block_size):
                        s = own @ k[..., a : a + block_size, :].transpose(-1, -2)
                        if causal:
                            j = torch.arange(a, a + s.size(-1), device=q.device)
                            s = s.masked_fill(j > stands[:, None], -1e30)
                        new, total = online_softmax_update(highest, total, s)
                        output = output * torch.exp(highest - new)[..., None] + torch.exp(
                            s - new[..., None]
                        ).matmul(v[..., a : a + block_size, :])
                        highest = new
                    outputs.append(output / total[..., None])
                    sums.append(highest + torch.log(total))
                return [torch.cat(outputs, -2), torch.cat(sums, -1)]

        an output that is always normalised
            def flash_attention_forward(q, k, v, block_size, causal=False):
                m = q.new_full(q.shape[:-1], -torch.inf)
                l, out = torch.zeros_like(m), q.new_zeros(q.shape[:-1] + v.shape[-1:])
                first = k.size(-2) - q.size(-2)
                for a in range(0, k.size(-2), block_size):
                    b = min(a + block_size, k.size(-2))
                    s = q.matmul(k[..., a:b, :].mT) / q.size(-1) ** 0.5
                    if causal:
                        allowed = torch.ones(s.shape[-2:], dtype=torch.bool, device=q.device)
                        s = s.masked_fill(~allowed.tril(first - a), -torch.inf)
                    new_m, new_l = online_softmax_update(m, l, s)
                    keep = l * torch.exp(m - new_m) / new_l
                    p = torch.exp(s - new_m[..., None]) / new_l[..., None]
                    out = out * keep[..., None] + p @ v[..., a:b, :]
                    m, l = new_m, new_l
                return out, torch.log(l) + m
        """
    ),
)

LONG = {"queries": 24, "keys": 40, "d_k": 3, "d_v": 2, "block": 4}


@flash_attention_forward.test(
    points=2,
    cases=[
        case("one leading dimension", attend, lambda make: triple(make, 2)),
        case(
            "heads, and blocks that divide the keys",
            attend,
            lambda make: triple(make, 2, 3, keys=12),
        ),
        case("no leading dimension", attend, lambda make: triple(make, d_v=8)),
        case("blocks of one key", attend, lambda make: triple(make, 2, keys=5, block=1)),
        case("one block for all keys", attend, lambda make: triple(make, 2, block=30)),
        case("one query", attend, lambda make: triple(make, 3, queries=1)),
    ],
)
def test_attends_block_by_block(submission, case):
    """Attends block by block"""
    submission.matches_reference(case)


CAUSAL_CASES = [
    case(
        "as many queries as keys",
        attend,
        lambda make: triple(make, 2, queries=7, keys=7, block=3, causal=True),
    ),
    case("the last few positions", attend, lambda make: triple(make, 2, causal=True)),
    case(
        "scores far below zero",
        attend,
        lambda make: steep(make, 1.0, shift=-60.0, causal=True),
    ),
    Case(
        "scores still further below zero",
        attend,
        lambda make: steep(make, 1.0, shift=-6000.0, causal=True),
        dtypes=(torch.float64,),  # float32 has no digits left for a log-sum-exp of that size
        loosen=100.0,
    ),
]


@flash_attention_forward.test(points=1, cases=CAUSAL_CASES)
def test_looks_back_only(submission, case):
    """Looks back only where it is causal"""
    submission.matches_reference(case)


@flash_attention_forward.test(
    points=0.5,
    cases=[
        case("scores that rise from block to block", attend, lambda make: steep(make, 1.0)),
        case("scores that fall from block to block", attend, lambda make: steep(make, -1.0)),
    ],
)
def test_forward_is_stable(submission, case):
    """Stays exact for large scores"""
    submission.matches_reference(case)


@flash_attention_forward.test(
    points=1.5,
    cases=[
        case("many keys", attend_by_blocks, lambda make: triple(make, 2, **LONG, causal=False)),
        case(
            "many keys, causal", attend_by_blocks, lambda make: triple(make, 2, **LONG, causal=True)
        ),
    ],
)
def test_forward_holds_no_square(submission, case):
    """Never holds all scores at once"""
    submission.matches_reference(case)


@flash_attention_forward.test(
    points=0.5, cases=[case("causal", attend, lambda make: triple(make, 2, causal=True))]
)
def test_forward_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ----------------------------------------------------------------- flash_attention_backward


def backward_by_autograd(grad_output, q, k, v, output, lse, block_size, causal=False):  # noqa: ARG001
    """Query by query, of an expression with the same gradient; lse and delta are constants."""
    leaves = [t.detach().clone().requires_grad_() for t in (q, k, v)]
    totals = [torch.zeros_like(t) for t in leaves]
    for i in range(q.size(-2)):
        seen = k.size(-2) - (q.size(-2) - 1 - i if causal else 0)
        upstream = grad_output[..., i, :].detach()
        with torch.enable_grad():
            a, b, c = leaves[0][..., i, :], leaves[1][..., :seen, :], leaves[2][..., :seen, :]
            scores = torch.einsum("...d,...kd->...k", a, b) * q.size(-1) ** -0.5
            weights = torch.exp(scores - lse[..., i, None].detach())
            delta = (upstream * output[..., i, :].detach()).sum(-1, keepdim=True)
            surrogate = (upstream * torch.einsum("...k,...kf->...f", weights, c)).sum()
            found = torch.autograd.grad(surrogate - (delta * weights).sum(), leaves)
        totals = [total + grad for total, grad in zip(totals, found, strict=True)]
    return totals


GRADS = ("gradient of q", "gradient of k", "gradient of v")


def three(result):
    if not isinstance(result, tuple | list) or len(result) != 3:
        return {"gradients": result}
    return dict(zip(GRADS, result, strict=True))


def saved(q, k, v, causal):
    """Output and log-sum-exp as the way forward leaves them; made without blocks."""
    scores = q @ k.mT / q.size(-1) ** 0.5
    scores = scores.masked_fill(~aligned(q, k, causal), -torch.inf)
    return torch.softmax(scores, -1) @ v, scores.logsumexp(-1)


def go_back(impl, grad_output, q, k, v, block_size, causal=None):
    output, lse = saved(q, k, v, bool(causal))
    options = () if causal is None else (causal,)
    return three(impl(grad_output, q, k, v, output, lse, block_size, *options))


def go_back_by_blocks(impl, grad_output, q, k, v, block_size, causal):
    output, lse = saved(q, k, v, causal)
    return by_blocks(
        lambda: three(impl(grad_output, q, k, v, output, lse, block_size, causal)),
        q[..., 0].numel() * k.size(-2),
    )


def go_back_on_a_part(impl, grad_output, q, k, v, block_size, part):
    """The last keys only, with what all keys together have given."""
    output, lse = saved(q, k, v, False)
    own = (k[..., -part:, :].contiguous(), v[..., -part:, :].contiguous())
    found = three(impl(grad_output, q, *own, output, lse, block_size))
    return {**found, "the output afterwards": output, "the log-sum-exp afterwards": lse}


def backwards(make, *leading, **options):
    drawn = triple(make, *leading, **options)
    shape = (*drawn["q"].shape[:-1], drawn["v"].size(-1))
    return {"grad_output": make.normal(*shape), **drawn}


DELTA = "delta = (grad_output * output).sum(dim=-1, keepdim=True)"
BACK_SCORES = "scores = q @ k_block.mT * scale"
BACK_WEIGHTS = "weights = torch.exp(scores - lse.unsqueeze(-1))"
GRAD_WEIGHTS = "grad_weights = grad_output @ v_block.mT"
GRAD_SCORES = "grad_scores = weights * (grad_weights - delta)"
GRAD_Q = "grad_q = grad_q + grad_scores @ k_block * scale"
GRAD_K = "grads_k.append(grad_scores.mT @ q * scale)"
GRAD_V = "grads_v.append(weights.mT @ grad_output)"
BACK_RESULT = "return grad_q, torch.cat(grads_k, dim=-2), torch.cat(grads_v, dim=-2)"

flash_attention_backward = Exercise(
    "flash_attention_backward",
    oracle=backward_by_autograd,
    forbids=[*SHORT_CUTS, *DERIVATIVES],
    seconds=90.0,
    mistakes=[
        *slips(
            BACK_SCORES,
            """
            scores not scaled
                scores = q @ k_block.mT
            The scores are recomputed as going forward: divided by the square root of d_k.

            scores scaled by d_k
                scores = q @ k_block.mT * scale**2
            The scores are divided by d_k; it should be its square root.
            """,
        ),
        *slips(BEHIND, MASKING),
        *slips(STANDS, ALIGNING),
        *slips(
            DELTA,
            """
            delta left out
                delta = torch.zeros_like(lse).unsqueeze(-1)
            D is missing: the weights of a row add up to 1, so raising one score lowers all the
            other weights.

            delta from the gradient alone
                delta = grad_output.sum(dim=-1, keepdim=True)
            D is the sum of gradient times output, feature by feature.

            delta averaged
                delta = (grad_output * output).mean(dim=-1, keepdim=True)
            D is a sum over the features, not a mean.

            one delta for all queries
                delta = (grad_output * output).sum(dim=(-2, -1), keepdim=True)
            Every query has a D of its own.
            """,
        ),
        *slips(
            BACK_WEIGHTS,
            """
            normalised within the block
                weights = torch.softmax(scores, dim=-1).nan_to_num(0.0)
            A softmax within the block gives weights that add up to 1 in each block. The saved
            log-sum-exp knows what all blocks together add up to.

            normalised anew
                every = q @ k.mT * scale
                        if causal:
                            place = torch.arange(num_keys, device=q.device)
                            every = every.masked_fill(place > stands_on.unsqueeze(1), -torch.inf)
                        weights = torch.exp(scores - every.logsumexp(-1, keepdim=True))
            The softmax's sum is computed once more from k. Use the log-sum-exp that is given: it
            may come from more keys, and all scores at once are too many.

            one exponential divided by another
                weights = torch.exp(scores) / torch.exp(lse).unsqueeze(-1)
            exp of a large score overflows, although the weight is at most 1. Take the log-sum-exp
            from the scores before the exponential.

            not normalised
                weights = torch.exp(scores - scores.amax(dim=-1, keepdim=True)).nan_to_num(0.0)
            The weights are exponentials of the scores less the log-sum-exp, which divides by the
            sum as well.

            divided by the log-sum-exp
                weights = torch.exp(scores) / lse.unsqueeze(-1)
            The log-sum-exp is a logarithm: take it from the scores before the exponential.
            """,
        ),
        *slips(
            GRAD_SCORES,
            """
            delta with the wrong sign
                grad_scores = weights * (grad_weights + delta)
            D is subtracted from the gradient of the weights.

            delta outside of the brackets
                grad_scores = weights * grad_weights - delta
            D is subtracted before the weights are multiplied in.

            the weights left out
                grad_scores = grad_weights - delta
            The derivative of a softmax is proportional to its weights.

            the derivative of a sigmoid
                grad_scores = weights * (1 - weights) * grad_weights
            All weights of a row depend on each score, not only its own: that is what D stands for.

            delta of the block only
                delta_block = (weights * grad_weights).sum(dim=-1, keepdim=True)
                        grad_scores = weights * (grad_weights - delta_block)
            The sum runs over all keys of the row, not over those of the block. Gradient and output
            know it.
            """,
        ),
        *slips(
            GRAD_Q,
            """
            gradient of q not scaled
                grad_q = grad_q + grad_scores @ k_block
            The scale of the scores comes back as a factor of the gradient of q.

            gradient of q from the last block only
                grad_q = grad_scores @ k_block * scale
            Every block contributes to the gradient of q; they add up.

            gradient of q scaled twice
                grad_q = grad_q + grad_scores @ k_block * scale**2
            The scale comes in once: the square root of d_k.

            weights for q instead of scores
                grad_q = grad_q + grad_weights @ k_block * scale
            It is the gradient of the scores that goes on to q, not that of the weights.
            """,
        ),
        *slips(
            GRAD_K,
            """
            gradient of k not scaled
                grads_k.append(grad_scores.mT @ q)
            The scale of the scores comes back as a factor of the gradient of k.

            gradient of k scaled twice
                grads_k.append(grad_scores.mT @ q * scale**2)
            The scale comes in once: the square root of d_k.

            gradient of k from the weights
                grads_k.append(weights.mT @ q * scale)
            The gradient of k comes from that of the scores, not from the weights.
            """,
        ),
        *slips(
            GRAD_V,
            """
            gradient of v scaled
                grads_v.append(weights.mT @ grad_output * scale)
            The scale belongs to the scores; the values never see it.

            gradient of v from the output
                grads_v.append(weights.mT @ output)
            The gradient of v is made of the gradient of the output, not of the output.

            gradient of v from the scores
                grads_v.append(grad_scores.mT @ grad_output)
            The weights themselves carry the gradient to the values.
            """,
        ),
        *slips(
            BACK_RESULT,
            """
            v before k
                return grad_q, torch.cat(grads_v, dim=-2), torch.cat(grads_k, dim=-2)
            The gradients are returned in the order of the arguments: q, k, v.

            blocks in reverse order
                return grad_q, torch.cat(grads_k[::-1], dim=-2), torch.cat(grads_v[::-1], dim=-2)
            The blocks' gradients of k and v are put together in the order of the keys.

            blocks added up
                k_sum, v_sum = torch.zeros_like(k), torch.zeros_like(v)
                    for block_k, block_v in zip(grads_k, grads_v):
                        k_sum[..., : block_k.size(-2), :] += block_k
                        v_sum[..., : block_v.size(-2), :] += block_v
                    return grad_q, k_sum, v_sum
            Each block of keys has rows of its own in the gradients of k and v.
            """,
        ),
        *edits(
            [
                (
                    "causal ignored",
                    "        if causal:",
                    "        if causal and num_keys < 0:",
                    "The argument causal has no effect: masked keys have weight 0, going backward "
                    "as well.",
                ),
                (
                    "masked weights left at one",
                    CAUSAL,
                    CAUSAL.replace("-torch.inf", "0.0"),
                    "A masked score of 0 still has a weight; it is minus infinity.",
                ),
            ]
        ),
        Mistake(
            "causal by default",
            "causal: bool = False",
            "causal: bool = True",
            "Left out, causal means False: every query attends to every key.",
        ),
        Mistake(
            "output and log-sum-exp computed anew",
            DELTA,
            "output, lse = flash_attention_forward(q, k, v, block_size, causal)\n    " + DELTA,
            "Output and log-sum-exp are computed once more from k and v. Use those that are given: "
            "they may come from more keys.",
        ),
        Mistake(
            "the saved output overwritten",
            DELTA,
            "delta = output.mul_(grad_output).sum(dim=-1, keepdim=True)",
            "The output that was saved is overwritten. Make a new tensor: the arguments belong to "
            "the caller.",
        ),
        Mistake.edits_of(
            "nothing for the last block where it is smaller",
            [
                (
                    LAST_BLOCK,
                    "for start in range(0, num_keys - num_keys % block_size, block_size):",
                ),
                (
                    BACK_RESULT,
                    "left = num_keys % block_size\n"
                    "    grads_k.append(torch.zeros_like(k[..., :left, :]))\n"
                    "    grads_v.append(torch.zeros_like(v[..., :left, :]))\n"
                    "    " + BACK_RESULT,
                ),
            ],
            "Where block_size does not divide the number of keys, the keys that are left over get "
            "gradients of zero: the last block may be smaller.",
        ),
        Mistake.written(
            "all scores at once",
            """
            def flash_attention_backward(
                grad_output, q, k, v, output, lse, block_size, causal=False
            ):
                n, m, scale = q.size(-2), k.size(-2), 1 / math.sqrt(q.size(-1))
                scores = q @ k.mT * scale
                if causal:
                    allowed = torch.ones(n, m, dtype=torch.bool, device=q.device).tril(m - n)
                    scores = scores.masked_fill(~allowed, -torch.inf)
                weights = torch.exp(scores - lse.unsqueeze(-1))
                delta = (grad_output * output).sum(dim=-1, keepdim=True)
                grad_scores = weights * (grad_output @ v.mT - delta) * scale
                return grad_scores @ k, grad_scores.mT @ q, weights.mT @ grad_output
            """,
            "The gradients are right, but all weights exist at once, which is what the exercise is "
            "to avoid. Use one block of keys at a time.",
        ),
    ],
    variants=variants(
        """
        written into zeros
            def flash_attention_backward(
                grad_output, q, k, v, output, lse, block_size, causal=False
            ):
                n, m, scale = q.shape[-2], k.shape[-2], q.shape[-1] ** -0.5
                dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
                D = torch.einsum("...qf,...qf->...q", grad_output, output)
                for a in range(0, m, block_size):
                    part = slice(a, min(a + block_size, m))
                    s = torch.einsum("...qd,...kd->...qk", q, k[..., part, :]) * scale
                    p = (s - lse[..., None]).exp()
                    if causal:
                        allowed = torch.ones(p.shape[-2:], dtype=torch.bool, device=q.device)
                        p = torch.where(allowed.tril(m - n - a), p, torch.zeros_like(p))
                    dv[..., part, :] = torch.einsum("...qk,...qf->...kf", p, grad_output)
                    dp = torch.einsum("...qf,...kf->...qk", grad_output, v[..., part, :])
                    ds = p * (dp - D[..., None]) * scale
                    dq += torch.einsum("...qk,...kd->...qd", ds, k[..., part, :])
                    dk[..., part, :] = torch.einsum("...qk,...qd->...kd", ds, q)
                return [dq, dk, dv]

        key by key, as if blocks were of one
            def flash_attention_backward(
                grad_output, q, k, v, output, lse, block_size, causal=False
            ):
                n, m, scale = q.size(-2), k.size(-2), 1 / math.sqrt(q.size(-1))
                delta = (grad_output * output).sum(-1)
                index = torch.arange(n, device=q.device) + m - n
                grad_q, grad_k, grad_v = torch.zeros_like(q), [], []
                for j in range(m):
                    key, value = k[..., j, :].unsqueeze(-2), v[..., j, :].unsqueeze(-2)
                    weight = torch.exp((q * key).sum(-1) * scale - lse)
                    if causal:
                        weight = weight.masked_fill(index < j, 0.0)
                    grad_score = weight * ((grad_output * value).sum(-1) - delta) * scale
                    grad_q = grad_q + grad_score.unsqueeze(-1) * key
                    grad_k.append((grad_score.unsqueeze(-1) * q).sum(-2))
                    grad_v.append((weight.unsqueeze(-1) * grad_output).sum(-2))
                return grad_q, torch.stack(grad_k, -2), torch.stack(grad_v, -2)

        chunks, with the scale in q
            def flash_attention_backward(
                grad_output, q, k, v, output, lse, block_size, causal=False
            ):
                scaled = q / math.sqrt(q.size(-1))
                first = torch.arange(q.size(-2), device=q.device).unsqueeze(1)
                first = first + k.size(-2) - q.size(-2)
                D = torch.sum(output * grad_output, dim=-1, keepdim=True)
                dq, dk, dv, seen = 0, [], [], 0
                for key, value in zip(k.split(block_size, -2), v.split(block_size, -2)):
                    s = scaled.matmul(key.transpose(-1, -2))
                    if causal:
                        j = torch.arange(key.size(-2), device=q.device) + seen
                        s = s.masked_fill(j > first, -1e30)
                    p = torch.exp(s - lse.unsqueeze(-1))
                    ds = p * grad_output.matmul(value.transpose(-1, -2)) - p * D
                    dq = dq + ds.matmul(key) / math.sqrt(q.size(-1))
                    dk.append(ds.transpose(-1, -2).matmul(scaled))
                    dv.append(p.transpose(-1, -2).matmul(grad_output))
                    seen += key.size(-2)
                return dq, torch.cat(dk, -2), torch.cat(dv, -2)
        """
    ),
)


@flash_attention_backward.test(
    points=2.5,
    cases=[
        case("one leading dimension", go_back, lambda make: backwards(make, 2)),
        case(
            "heads, and blocks that divide the keys",
            go_back,
            lambda make: backwards(make, 2, 3, keys=12),
        ),
        case("no leading dimension", go_back, lambda make: backwards(make, d_v=8)),
        case("blocks of one key", go_back, lambda make: backwards(make, 2, keys=5, block=1)),
        case("one block for all keys", go_back, lambda make: backwards(make, 2, block=30)),
        case("features alike", go_back, lambda make: backwards(make, 2, d_v=6, queries=4)),
    ],
)
def test_goes_back_block_by_block(submission, case):
    """Differentiates block by block"""
    submission.matches_reference(case)


@flash_attention_backward.test(
    points=1,
    cases=[
        case(
            "as many queries as keys",
            go_back,
            lambda make: backwards(make, 2, queries=7, keys=7, block=3, causal=True),
        ),
        case("the last few positions", go_back, lambda make: backwards(make, 2, causal=True)),
    ],
)
def test_goes_back_causally(submission, case):
    """Minds causality going backward"""
    submission.matches_reference(case)


@flash_attention_backward.test(
    points=1,
    cases=[
        case(
            "a part of the keys",
            go_back_on_a_part,
            lambda make: backwards(make, 2, part=make.choice([4, 5]), block=3),
        ),
        case(
            "large scores",
            go_back,
            lambda make: {**steep(make, 0.5), "grad_output": make.normal(2, 5, 3)},
        ),
    ],
)
def test_uses_what_was_saved(submission, case):
    """Uses the output and the log-sum-exp that were saved"""
    submission.matches_reference(case)


@flash_attention_backward.test(
    points=1,
    cases=[
        case(
            "many keys",
            go_back_by_blocks,
            lambda make: backwards(make, 2, **LONG, causal=make.choice([True, False])),
        )
    ],
)
def test_backward_holds_no_square(submission, case):
    """Never holds all weights at once"""
    submission.matches_reference(case)


@flash_attention_backward.test(
    points=0.5, cases=[case("causal", go_back, lambda make: backwards(make, 2, causal=True))]
)
def test_backward_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# --------------------------------------------------------------------------- FlashAttention


class FlashByAutograd(torch.autograd.Function):
    """Everything computed anew on the way back, by autograd."""

    @staticmethod
    def forward(ctx, q, k, v, block_size, causal):
        ctx.save_for_backward(q, k, v)
        ctx.causal = causal
        return attention_by_torch(q, k, v, block_size, causal)[0]

    @staticmethod
    def backward(ctx, grad_output):
        with torch.enable_grad():
            leaves = [t.detach().clone().requires_grad_() for t in ctx.saved_tensors]
            q, k, v = leaves
            output, _ = attention_by_torch(q, k, v, 1, ctx.causal)
            return *torch.autograd.grad(output, leaves, grad_output), None, None


def applied(impl, grad_output, q, k, v, block_size, causal):
    leaves = [t.detach().clone().requires_grad_() for t in (q, k, v)]
    output = impl.apply(*leaves, block_size, causal)
    found = gradients(output, leaves, grad_output)
    return {"output": output, **dict(zip(GRADS, found, strict=True))}


def applied_forward(impl, q, k, v, block_size, causal):
    return {"output": impl.apply(q, k, v, block_size, causal)}


def applied_twice(impl, grad_output, q, k, v, block_size, causal):
    """Two calls before either goes back, as in a network of two layers."""
    leaves = [t.detach().clone().requires_grad_() for t in (q, k, v)]
    inner = impl.apply(*leaves, block_size, causal)
    output = impl.apply(inner, leaves[1], 2 * leaves[2], block_size + 1, not causal)
    found = gradients(output, leaves, grad_output)
    return {"output": output, **dict(zip(GRADS, found, strict=True))}


def applied_to_some(impl, grad_output, q, k, v, block_size, causal):  # noqa: ARG001
    """Only the queries need a gradient, and what comes back is a sum's, one number expanded."""
    leaf = q.detach().clone().requires_grad_()
    output = impl.apply(leaf, k, v, block_size, causal)
    return {"gradient of q": gradients(output, [leaf])[0]}


def kept(impl, grad_output, q, k, v, block_size, causal):  # noqa: ARG001
    """How large the largest tensor is that is put aside, in whichever place, or only made."""
    sizes = [0]

    def put_aside(tensor):
        sizes.append(tensor.numel())
        return tensor

    leaves = [t.detach().clone().requires_grad_() for t in (q, k, v)]
    hooks = torch.autograd.graph.saved_tensors_hooks(put_aside, lambda tensor: tensor)
    with hooks, Largest() as largest:
        output = impl.apply(*leaves, block_size, causal)
    operation = getattr(output, "grad_fn", None)
    attributes = [getattr(holder, "__dict__", {}) for holder in (operation, impl)]
    sizes += [t.numel() for own in attributes for t in tensors_of(list(own.values()))]
    too_many = q[..., 0].numel() * k.size(-2)
    return {
        "nothing as large as all the scores is kept": max(sizes) < too_many,
        "nothing as large as all the scores is made": largest.numel < too_many,
    }


CALLED = "output, lse = flash_attention_forward(q, k, v, block_size, causal)"
PUT_ASIDE = "ctx.save_for_backward(q, k, v, output, lse)"
REMEMBERED = "ctx.block_size, ctx.causal = block_size, causal"
GIVEN_BACK = "return *grads, None, None"
GRADS_CALL = "grad_outputs[0], q, k, v, output, lse, ctx.block_size, ctx.causal"

FlashAttention = Exercise(
    "FlashAttention",
    oracle=FlashByAutograd,
    forbids=[*SHORT_CUTS, *DERIVATIVES],
    mistakes=[
        *edits(
            [
                (
                    "causal not passed on going forward",
                    CALLED,
                    "output, lse = flash_attention_forward(q, k, v, block_size)",
                    "The argument causal is not passed on to flash_attention_forward.",
                ),
                (
                    "causal not remembered",
                    REMEMBERED,
                    "ctx.block_size, ctx.causal = block_size, False",
                    "Going backward does not know whether attention was causal: keep the argument "
                    "in ctx.",
                ),
                (
                    "always causal going backward",
                    REMEMBERED,
                    "ctx.block_size, ctx.causal = block_size, True",
                    "Going backward takes attention to be causal whether it was or not: keep the "
                    "argument in ctx.",
                ),
                (
                    "causal always",
                    CALLED,
                    "causal = True\n        output, lse = flash_attention_forward(q, k, v, "
                    "block_size, causal)",
                    "The argument causal has no effect: attention is always causal.",
                ),
                (
                    "the log-sum-exp returned as well",
                    "        return output\n",
                    "        return output, lse\n",
                    "Only the output is returned; the log-sum-exp is kept for going backward.",
                ),
                (
                    "the log-sum-exp returned instead",
                    "        return output\n",
                    "        return lse\n",
                    "The output is returned; the log-sum-exp is kept for going backward.",
                ),
                (
                    "gradients that do not fit the arguments",
                    GIVEN_BACK,
                    "return grads",
                    "backward returns one gradient for each argument of forward, in their order: "
                    "for q, k and v, and None for block_size and for causal.",
                ),
                (
                    "gradients in the wrong order",
                    GIVEN_BACK,
                    "return grads[0], grads[2], grads[1], None, None",
                    "The gradients are returned in the order of forward's arguments: q, k, v.",
                ),
                (
                    "no gradient for the values",
                    GIVEN_BACK,
                    "return grads[0], grads[1], None, None, None",
                    "q, k and v all have gradients.",
                ),
                (
                    "the gradient from above ignored",
                    GRADS_CALL,
                    GRADS_CALL.replace("grad_outputs[0]", "torch.ones_like(output)"),
                    "The gradient that comes from what follows is ignored: it is the first "
                    "argument of flash_attention_backward.",
                ),
                (
                    "output and gradient exchanged",
                    GRADS_CALL,
                    GRADS_CALL.replace(
                        "grad_outputs[0], q, k, v, output", "output, q, k, v, grad_outputs[0]"
                    ),
                    "Gradient and output have changed places in the call: look at what enters "
                    "besides their product.",
                ),
                (
                    "block_size not passed on",
                    CALLED,
                    "output, lse = flash_attention_forward(q, k, v, k.size(-2), causal)",
                    "The argument block_size has no effect: all keys make one block, and all "
                    "scores exist at once.",
                ),
                (
                    "scores kept",
                    PUT_ASIDE,
                    "ctx.save_for_backward(q, k, v, output, lse)\n        ctx.scores = q @ k.mT",
                    "All scores are made and kept. What is put aside may grow with the length, not "
                    "with its square: weights are computed anew on the way back.",
                ),
                (
                    "keys kept in the values' place",
                    PUT_ASIDE,
                    "ctx.save_for_backward(q, k, k, output, lse)",
                    "What is kept is not what is unpacked: the values are missing.",
                ),
                (
                    "queries kept scaled",
                    PUT_ASIDE,
                    "ctx.save_for_backward(q / q.size(-1) ** 0.5, k, v, output, lse)",
                    "The queries are kept as they came in: flash_attention_backward scales the "
                    "scores itself.",
                ),
            ]
        ),
        Mistake.edits_of(
            "kept in the class",
            [
                (PUT_ASIDE, "FlashAttention.kept = (q, k, v, output, lse)"),
                ("= ctx.saved_tensors", "= FlashAttention.kept"),
            ],
            "What going backward needs is kept in the class, where the next call overwrites it. "
            "Every call has a ctx of its own.",
        ),
    ],
    variants=[
        Variant.edits_of(
            "keywords",
            [
                (
                    CALLED,
                    "output, lse = flash_attention_forward(\n            q=q, k=k, v=v, "
                    "block_size=block_size, causal=causal\n        )",
                )
            ],
        ),
        *variants(
            """
            one argument for the gradient, a tuple back
                class FlashAttention(torch.autograd.Function):
                    @staticmethod
                    def forward(ctx, q, k, v, block_size, causal):
                        out, lse = flash_attention_forward(q, k, v, block_size, causal)
                        ctx.save_for_backward(q, k, v, out, lse)
                        ctx.options = (block_size, causal)
                        return out
                    @staticmethod
                    def backward(ctx, dout):
                        kept = ctx.saved_tensors
                        dq, dk, dv = flash_attention_backward(dout, *kept, *ctx.options)
                        return (dq, dk, dv, None, None)

            only what was asked for
                class FlashAttention(torch.autograd.Function):
                    @staticmethod
                    def forward(ctx, q, k, v, block_size, causal):
                        out, lse = flash_attention_forward(q, k, v, block_size, causal)
                        ctx.save_for_backward(lse, out, v, k, q)
                        ctx.causal = causal
                        ctx.size = block_size
                        return out
                    @staticmethod
                    def backward(ctx, dout):
                        lse, out, v, k, q = ctx.saved_tensors
                        dout = dout.contiguous()
                        found = flash_attention_backward(
                            dout, q, k, v, out, lse, ctx.size, causal=ctx.causal
                        )
                        needed = ctx.needs_input_grad[:3]
                        found = [g if need else None for g, need in zip(found, needed)]
                        return found[0], found[1], found[2], None, None
            """
        ),
    ],
)


@FlashAttention.test(
    points=1.5,
    cases=[
        case("forward alone", applied_forward, lambda make: triple(make, 2, causal=True)),
        case("every query to every key", applied, lambda make: backwards(make, 2, causal=False)),
        case("causal", applied, lambda make: backwards(make, 2, 3, causal=True)),
        case(
            "two layers",
            applied_twice,
            lambda make: backwards(make, 2, d_v=6, causal=make.choice([True, False])),
            loosen=100.0,
        ),
        case(
            "only the queries learn", applied_to_some, lambda make: backwards(make, 2, causal=True)
        ),
    ],
)
def test_is_an_operation_with_a_derivative(submission, case):
    """Is an operation with a derivative of its own"""
    submission.matches_reference(case)


@FlashAttention.test(
    points=0.5,
    cases=[case("many keys", kept, lambda make: backwards(make, 2, **LONG, causal=True))],
)
def test_keeps_no_square(submission, case):
    """Keeps nothing as large as all the scores"""
    submission.matches_reference(case)


@FlashAttention.test(
    points=0.5, cases=[case("causal", applied, lambda make: backwards(make, 2, causal=True))]
)
def test_operation_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------------------------- KVCache


class CacheOfPieces:
    def __init__(self, max_len):
        self.max_len, self.pieces = max_len, []

    @property
    def length(self):
        return sum(k.size(-2) for k, _ in self.pieces)

    def append(self, k, v):
        if self.length + k.size(-2) > self.max_len:
            raise ValueError("no room")
        self.pieces.append((k.clone(), v.clone()))
        keys, values = (torch.cat(each, dim=-2) for each in zip(*self.pieces, strict=True))
        return keys, values


def both(result):
    pair = isinstance(result, tuple | list) and len(result) == 2
    keys, values = result if pair else (result, None)
    return {"keys": keys, "values": values}


def filled(impl, max_len, pieces):
    """What every call returns, and the length after each."""
    cache = impl(max_len)
    told = {"length in the beginning": cache.length}
    for number, (k, v) in enumerate(pieces, start=1):
        told[f"after {number}"] = {**both(cache.append(k, v)), "length": cache.length}
    return told


def written_into(impl, max_len, pieces):
    """The caller writes into what it had passed in; the cache should not notice."""
    cache = impl(max_len)
    for k, v in pieces:
        k, v = k.clone(), v.clone()
        cache.append(k, v)
        k.zero_()
        v.fill_(7.0)
    first, second = pieces[0]
    return both(cache.append(first[:, :, :1], second[:, :, :1]))


def returned_earlier(impl, max_len, pieces):
    cache = impl(max_len)
    first = both(cache.append(*pieces[0]))
    for k, v in pieces[1:]:
        cache.append(k, v)
    return {"what the first call returned": first}


def two_caches(impl, max_len, pieces):
    """Two caches, filled in turn, have nothing to do with each other."""
    one, other = impl(max_len), impl(max_len)
    for k, v in pieces:
        told = both(one.append(k, v))
        other.append(v, k)
    return {"the first": told, "its length": one.length, "the other's length": other.length}


def overfilled(impl, max_len, pieces, too_much):
    cache = impl(max_len)
    for k, v in pieces:
        cache.append(k, v)
    told = {"too many": raised(partial(cache.append, *too_much), ValueError)}
    told["length"] = cache.length
    last = [t[:, :, : max_len - cache.length] for t in too_much]
    return {**told, "what fits": raised(partial(cache.append, *last), ValueError)}


def pieces(make, *new, batch=2, heads=3, d_head=4, room=1):
    drawn = [[make.normal(batch, heads, n, d_head) for _ in range(2)] for n in new]
    return {"max_len": sum(new) + room, "pieces": drawn}


CHECKED = "if self.length + k.size(-2) > self.max_len:"
FIRST = "self.keys, self.values = k.clone(), v.clone()"
JOIN_K = "self.keys = torch.cat([self.keys, k], dim=-2)"
JOIN_V = "self.values = torch.cat([self.values, v], dim=-2)"
LENGTH = "self.length = self.keys.size(-2)"
HELD = "return self.keys, self.values"

KVCache = Exercise(
    "KVCache",
    oracle=CacheOfPieces,
    mistakes=[
        *slips(
            CHECKED,
            """
            never full
                if self.length < 0:
            More than max_len positions are taken in; a ValueError should be raised.

            full one too early
                if self.length + k.size(-2) >= self.max_len:
            Exactly max_len positions fit.

            full one too late
                if self.length + k.size(-2) > self.max_len + 1:
            One position more than max_len is taken in.

            new positions not counted
                if self.length >= self.max_len:
            It is what would be held afterwards that must fit, the new positions included.

            earlier positions not counted
                if k.size(-2) > self.max_len:
            It is what would be held afterwards that must fit, the earlier positions included.
            """,
        ),
        *slips(
            LENGTH,
            """
            calls counted instead of positions
                self.length = self.length + 1
            The length counts positions, and a call may bring several.

            the length of the last piece
                self.length = k.size(-2)
            The length counts all positions held, not those of the last call.

            length not updated
                self.length = 0
            The attribute length says how many positions are held.
            """,
        ),
        *slips(
            HELD,
            """
            only the new ones returned
                return k, v
            All keys and values so far are returned, the new ones last.

            values before keys
                return self.values, self.keys
            The keys are returned first, then the values.

            only the keys
                return self.keys
            Both are returned: keys and values.

            newest first
                return self.keys.flip(-2), self.values.flip(-2)
            The oldest position comes first.
            """,
        ),
        *slips(
            JOIN_V,
            """
            values not appended
                pass
            The values of later calls are lost; they are appended as the keys are.

            keys appended to the values
                self.values = torch.cat([self.values, k], dim=-2)
            The new keys are appended to the values; the new values should be.
            """,
        ),
        Mistake.edits_of(
            "appended in front",
            [
                (JOIN_K, "self.keys = torch.cat([k, self.keys], dim=-2)"),
                (JOIN_V, "self.values = torch.cat([v, self.values], dim=-2)"),
            ],
            "New positions come after the earlier ones, not before them.",
        ),
        Mistake.edits_of(
            "only the last piece kept",
            [(JOIN_K, "self.keys = k.clone()"), (JOIN_V, "self.values = v.clone()")],
            "Each call throws the earlier positions away; the new ones are appended to them.",
        ),
        Mistake.edits_of(
            "joined as more heads",
            [
                (JOIN_K, "self.keys = torch.cat([self.keys, k], dim=1)"),
                (JOIN_V, "self.values = torch.cat([self.values, v], dim=1)"),
            ],
            "Pieces are joined along the positions, the second dimension from the back, not along "
            "the heads.",
        ),
        Mistake.edits_of(
            "joined as more heads, and counted by the way",
            [
                (JOIN_K, "self.keys = torch.cat([self.keys, k], dim=1)"),
                (JOIN_V, "self.values = torch.cat([self.values, v], dim=1)"),
                (LENGTH, "self.length += k.size(-2)"),
            ],
            "Pieces are joined along the positions, the second dimension from the back, not along "
            "the heads.",
        ),
        Mistake.edits_of(
            "empty places returned as well",
            [
                (
                    HELD,
                    "rest = self.max_len - self.length\n"
                    "        empty = k.new_zeros(*k.shape[:-2], rest, k.size(-1))\n"
                    "        return tuple(torch.cat([t, empty], -2) for t in "
                    "(self.keys, self.values))",
                )
            ],
            "Room for max_len positions is returned, empty places included. Return the positions "
            "that are held.",
        ),
        Mistake(
            "what fits is taken in first",
            CHECKED,
            "fit = self.max_len - self.length\n"
            "        if k.size(-2) > fit > 0 and self.keys is not None:\n"
            "            self.keys = torch.cat([self.keys, k[:, :, :fit]], dim=2)\n"
            "            self.values = torch.cat([self.values, v[:, :, :fit]], dim=2)\n"
            "            self.length += fit\n"
            "        if k.size(-2) > fit:",
            "A call that does not fit is taken in as far as there is room. It should leave the "
            "cache as it was: check before anything is stored.",
        ),
        Mistake(
            "AssertionError instead of ValueError",
            'raise ValueError(f"{self.length}',
            'raise AssertionError(f"{self.length}',
            "An assert raises AssertionError, and disappears under python -O. The docstring "
            "promises a ValueError.",
        ),
        Mistake.edits_of(
            "joined as more features",
            [
                (JOIN_K, "self.keys = torch.cat([self.keys, k], dim=-1)"),
                (JOIN_V, "self.values = torch.cat([self.values, v], dim=-1)"),
            ],
            "Pieces are joined along the positions, not along the features.",
        ),
        Mistake.edits_of(
            "the caller's tensors kept",
            [(FIRST, "self.keys, self.values = k, v")],
            "The first piece is kept as it is, not as a copy: when the caller writes into it, the "
            "cache changes.",
        ),
        Mistake.edits_of(
            "spoilt by what does not fit",
            [
                (CHECKED, "self.length += k.size(-2)\n        if self.length > self.max_len:"),
            ],
            "A call that does not fit leaves the cache changed: check before anything is stored.",
        ),
        Mistake.edits_of(
            "the oldest dropped",
            [
                (CHECKED, "if False:"),
                (
                    LENGTH,
                    "self.keys = self.keys[..., -self.max_len :, :]\n"
                    "        self.values = self.values[..., -self.max_len :, :]\n        " + LENGTH,
                ),
            ],
            "When it is full, yours drops the oldest positions: a sliding window. Here a "
            "ValueError is raised.",
        ),
    ],
    variants=variants(
        """
        room made at once
            class KVCache:
                def __init__(self, max_len):
                    self.max_len, self.length, self.store = max_len, 0, None
                def append(self, k, v):
                    end = self.length + k.size(2)
                    if end > self.max_len:
                        raise ValueError("the cache is full")
                    if self.store is None:
                        b, h, _, d = k.shape
                        self.store = k.new_zeros(2, b, h, self.max_len, d)
                    self.store[0, :, :, self.length : end] = k
                    self.store[1, :, :, self.length : end] = v
                    self.length = end
                    return self.store[0, :, :, :end], self.store[1, :, :, :end]

        lists of pieces
            class KVCache:
                def __init__(self, max_len):
                    self.max_len = max_len
                    self.k, self.v = [], []
                @property
                def length(self):
                    return sum(piece.size(-2) for piece in self.k)
                def append(self, k, v):
                    if self.length + k.size(-2) > self.max_len:
                        raise ValueError
                    self.k.append(k.clone())
                    self.v.append(v.clone())
                    return [torch.cat(self.k, dim=-2), torch.cat(self.v, dim=-2)]

        copies kept, what came given back
            class KVCache:
                def __init__(self, max_len):
                    self.max_len, self.length, self.kept = max_len, 0, None
                def append(self, k, v):
                    if self.length + k.size(2) > self.max_len:
                        raise ValueError("full")
                    if self.kept is not None:
                        k = torch.cat([self.kept[0], k], dim=2)
                        v = torch.cat([self.kept[1], v], dim=2)
                    self.kept, self.length = (k.clone(), v.clone()), k.size(2)
                    return k, v

        position by position
            class KVCache:
                def __init__(self, max_len):
                    self.max_len = max_len
                    self.length = 0
                    self.positions = []
                def append(self, k, v):
                    if k.size(-2) > self.max_len - self.length:
                        raise ValueError("full")
                    for n in range(k.size(-2)):
                        self.positions.append((k[..., n, :].clone(), v[..., n, :].clone()))
                    self.length = len(self.positions)
                    keys = torch.stack([p[0] for p in self.positions], dim=-2)
                    values = torch.stack([p[1] for p in self.positions], dim=-2)
                    return keys, values
        """
    ),
)


@KVCache.test(
    points=1,
    cases=[
        case("a prompt, then one by one", filled, lambda make: pieces(make, 4, 1, 1)),
        case("pieces of several sizes", filled, lambda make: pieces(make, 2, 3, 1, room=0)),
        case("pieces of one size", filled, lambda make: pieces(make, 2, 2)),
        case("one piece", filled, lambda make: pieces(make, 5)),
        case("two caches side by side", two_caches, lambda make: pieces(make, 3, 2)),
        case("what was returned earlier", returned_earlier, lambda make: pieces(make, 3, 2, 1)),
    ],
)
def test_keeps_what_was_read(submission, case):
    """Keeps all keys and values, oldest first"""
    submission.matches_reference(case)


@KVCache.test(
    points=0.5,
    cases=[
        case("after one piece", written_into, lambda make: pieces(make, 3)),
        case("after two pieces", written_into, lambda make: pieces(make, 3, 2)),
    ],
)
def test_keeps_copies(submission, case):
    """Does not change when the caller writes into its tensors"""
    submission.matches_reference(case)


def too_much(make, *new, more, **options):
    drawn = pieces(make, *new, **options)
    return {**drawn, "too_much": [make.normal(2, 3, more, 4) for _ in range(2)]}


@KVCache.test(
    points=0.5,
    cases=[
        case("one too many", overfilled, lambda make: too_much(make, 3, 2, room=2, more=3)),
        case("far too many", overfilled, lambda make: too_much(make, 1, 2, room=1, more=9)),
        case("when it is almost full", overfilled, lambda make: too_much(make, 4, room=1, more=2)),
    ],
)
def test_refuses_too_much(submission, case):
    """Refuses what does not fit, and stays as it was"""
    submission.matches_reference(case)


@KVCache.test(points=0.5, cases=[case("two pieces", filled, lambda make: pieces(make, 3, 2))])
def test_cache_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------------- CachedSelfAttention


class AttentionToAllSoFar(nn.Module):
    def __init__(self, d_model, num_heads):
        super().__init__()
        self.num_heads = num_heads
        for name in ("W_q", "W_k", "W_v", "W_o"):
            setattr(self, name, nn.Linear(d_model, d_model, bias=False))

    def forward(self, x, cache=None):
        q, k, v = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer in (self.W_q, self.W_k, self.W_v)
        )
        if cache is not None:
            k, v = cache.append(k, v)
        attend = nn.functional.scaled_dot_product_attention
        heads = attend(q, k, v, attn_mask=aligned(q, k, True))
        return self.W_o(heads.transpose(1, 2).flatten(2))


def at_once(impl, sizes, weights, x):
    return {"output": load_weights(impl(*sizes), weights)(x)}


def at_once_after_another(impl, sizes, weights, x):
    attention = load_weights(impl(*sizes), weights)
    attention(x.flip(1))
    return {"output": attention(x)}


def in_pieces(impl, sizes, weights, x, lengths):
    """With a cache of the grader's own, so that an earlier mistake is not counted again."""
    attention, cache = load_weights(impl(*sizes), weights), CacheOfPieces(x.size(1))
    told = {}
    for number, piece in enumerate(x.split(lengths, dim=1), start=1):
        told[f"output for piece {number}"] = attention(piece, cache)
    keys, values = cache.append(*(t[:, :, :0] for t in cache.pieces[0]))
    return {**told, "keys in the cache": keys, "values in the cache": values}


def two_texts(impl, sizes, weights, x, lengths):
    """A second text with a cache of its own, then the first one goes on."""
    attention = load_weights(impl(*sizes), weights)
    one, other = CacheOfPieces(x.size(1)), CacheOfPieces(x.size(1))
    first, second = x.split(lengths, dim=1)
    attention(first, one)
    elsewhere = attention(x.flip(1), other)
    return {"the other text": elsewhere, "the first text goes on": attention(second, one)}


def learns(impl, sizes, weights, x, cotangent):
    attention = load_weights(impl(*sizes), weights)
    parameters = dict(attention.named_parameters())
    leaf = x.detach().clone().requires_grad_()
    wanted = [leaf, *(parameters[name] for name in weights)]
    found = gradients(attention(leaf), wanted, cotangent)
    return {f"gradient of {n}": g for n, g in zip(("x", *weights), found, strict=True)}


def a_text(make, length=6, *, num_heads=3, d_head=4, batch=2, **options):
    d_model = num_heads * d_head
    names = ("W_q", "W_k", "W_v", "W_o")
    return {
        "sizes": [d_model, num_heads],
        "weights": {f"{n}.weight": make.normal(d_model, d_model, std=0.4) for n in names},
        "x": make.normal(batch, length, d_model),
        **options,
    }


APPENDED = "k, v = cache.append(k, v)"
MASK = "mask = causal_mask(q.size(-2), k.size(-2), x.device)"
ATTENDED = "heads, _ = scaled_dot_product_attention(q, k, v, mask)"
PROJECTED = "output: Tensor = self.W_o(merge_heads(heads))"

CachedSelfAttention = Exercise(
    "CachedSelfAttention",
    oracle=AttentionToAllSoFar,
    forbids=SHORT_CUTS,
    mistakes=[
        *slips(
            MASK,
            """
            aligned at the first key
                mask = torch.ones(q.size(-2), k.size(-2), dtype=torch.bool, device=x.device).tril()
            The new positions are the last ones: with keys in the cache, the mask must be aligned
            at the lower right, or a new position sees only the oldest keys.

            no mask
                mask = torch.ones(q.size(-2), k.size(-2), dtype=torch.bool, device=x.device)
            Without a mask a position sees those after it: right when one position is written at a
            time, wrong for a prompt.

            causal without a cache only
                mask = causal_mask(q.size(-2), k.size(-2), x.device)
                        mask = mask if cache is None else torch.ones_like(mask)
            With a cache, new positions of the same piece see each other's future. They need the
            mask as well.

            causal for the first piece only
                mask = causal_mask(q.size(-2), k.size(-2), x.device)
                        mask = mask if q.size(-2) == k.size(-2) else torch.ones_like(mask)
            From the second piece on, new positions of the same piece see each other's future. They
            need the mask as well.

            mask of the other kind
                mask = ~causal_mask(q.size(-2), k.size(-2), x.device)
            The mask is the wrong way round: True means that a query may attend to a key.

            does not see itself
                n, m = q.size(-2), k.size(-2)
                        mask = torch.ones(n, m, dtype=torch.bool, device=x.device).tril(m - n - 1)
            A position attends to itself as well as to what comes before it.
            """,
        ),
        *slips(
            APPENDED,
            """
            what the cache returns is ignored
                cache.append(k, v)
            The new keys and values go into the cache, but attention does not see what is in it
            already.

            appended twice
                cache.append(k, v)
                        k, v = cache.append(k, v)
            The new keys and values are appended twice; what append returns is all that is needed.

            values appended as keys
                k, v = cache.append(v, k)
            append takes the keys first, then the values, and returns them in this order.

            queries cached instead of keys
                k, v = cache.append(q, v)
            The queries go into the cache in the place of the keys.

            keys and values exchanged in the cache
                v, k = cache.append(k, v)
            The cache returns the keys first, then the values.

            """,
        ),
        *slips(
            ATTENDED,
            """
            scaled by d_model
                heads, _ = scaled_dot_product_attention(q / self.num_heads**0.5, k, v, mask)
            The scores are divided by the square root of d_model. A head's dot product adds up
            d_head features only.

            scaled twice
                heads, _ = scaled_dot_product_attention(q / q.size(-1) ** 0.5, k, v, mask)
            The scores are divided by the square root of d_head twice; once is what
            scaled_dot_product_attention does already.

            values cut from the graph
                heads, _ = scaled_dot_product_attention(q, k, v.detach(), mask)
            No gradient reaches W_v: the values are detached before they are averaged.

            keys cut from the graph
                heads, _ = scaled_dot_product_attention(q, k.detach(), v, mask)
            No gradient reaches W_k: the keys are detached before they meet the queries.

            keys and values cut from the graph
                heads, _ = scaled_dot_product_attention(q, k.detach(), v.detach(), mask)
            No gradient reaches W_k and W_v: keys and values are detached before they are used.

            cut from the graph
                heads, _ = scaled_dot_product_attention(q.detach(), k.detach(), v, mask)
            No gradient reaches W_q and W_k: queries and keys are detached before they meet.
            """,
        ),
        *slips(
            PROJECTED,
            """
            not projected at the end
                output: Tensor = merge_heads(heads)
            The concatenated heads go through W_o at the end.

            merged without exchanging dimensions
                output: Tensor = self.W_o(heads.reshape(x.shape))
            The heads' outputs are reshaped straight to (batch, new, d_model), which mixes
            positions. Bring the heads next to their features first.

            the last position only
                output: Tensor = self.W_o(merge_heads(heads))[:, -1:]
            Every position in x has an output, not only the last one.

            residual added
                output: Tensor = x + self.W_o(merge_heads(heads))
            The output is that of attention alone; a residual connection is the layer's business.
            """,
        ),
        *edits(
            [
                (
                    "inputs cached instead of keys",
                    APPENDED,
                    "k, v = cache.append(split_heads(x, self.num_heads), v)",
                    "The inputs go into the cache in the place of the keys; it is the projected "
                    "keys that are kept.",
                ),
                *(
                    (
                        f"{name} cut from what they are made of",
                        f"self.W_{name[0]}(x)",
                        f"self.W_{name[0]}(x.detach())",
                        f"No gradient passes through the {name} to x: it is detached, so that what "
                        "made it could not be learned.",
                    )
                    for name in ("queries", "keys", "values")
                ),
                (
                    "values taken from the keys",
                    "v = split_heads(self.W_v(x), self.num_heads)",
                    "v = split_heads(self.W_k(x), self.num_heads)",
                    "The values have a projection of their own, W_v.",
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
                    "a cache of its own",
                    "        if cache is not None:",
                    "        if cache is None:\n"
                    "            cache = self.own = getattr(self, 'own', None) or KVCache(99)\n"
                    "        if cache is not None:",
                    "Without a cache, keys and values of earlier calls are still seen: the module "
                    "keeps a cache of its own. None means that nothing came before.",
                ),
                (
                    "W_o with a bias",
                    "self.W_o = nn.Linear(d_model, d_model, bias=False)",
                    "self.W_o = nn.Linear(d_model, d_model)",
                    "W_o has a bias, which nn.Linear adds unless told otherwise; the docstring "
                    "asks for none.",
                ),
                (
                    "weights returned as well, under their name",
                    "        return output",
                    "        return output, scaled_dot_product_attention(q, k, v, mask)[1]",
                    "Only the output is returned.",
                ),
                (
                    "weights returned as well",
                    "        return output",
                    "        return output, mask",
                    "Only the output is returned.",
                ),
                (
                    "the cache starts anew",
                    APPENDED,
                    "k, v = KVCache(x.size(1)).append(k, v)",
                    "A fresh cache is made in every call. The one that is passed in holds the "
                    "earlier positions.",
                ),
            ]
        ),
    ],
    variants=variants(
        """
        with blocks
            class CachedSelfAttention(nn.Module):
                def __init__(self, d_model, num_heads):
                    super().__init__()
                    self.num_heads = num_heads
                    self.W_q = nn.Linear(d_model, d_model, bias=False)
                    self.W_k = nn.Linear(d_model, d_model, bias=False)
                    self.W_v = nn.Linear(d_model, d_model, bias=False)
                    self.W_o = nn.Linear(d_model, d_model, bias=False)
                def forward(self, x, cache=None):
                    layers = (self.W_q, self.W_k, self.W_v)
                    q, k, v = (split_heads(layer(x), self.num_heads) for layer in layers)
                    if cache is not None:
                        k, v = cache.append(k, v)
                    heads, _ = flash_attention_forward(q, k, v, 2, causal=True)
                    return self.W_o(merge_heads(heads))

        scores by hand
            class CachedSelfAttention(nn.Module):
                def __init__(self, d_model, num_heads):
                    super().__init__()
                    self.h, self.d = num_heads, d_model // num_heads
                    self.W_q = nn.Linear(d_model, d_model, bias=False)
                    self.W_k = nn.Linear(d_model, d_model, bias=False)
                    self.W_v = nn.Linear(d_model, d_model, bias=False)
                    self.W_o = nn.Linear(d_model, d_model, bias=False)
                def cut(self, t):
                    return t.view(t.size(0), t.size(1), self.h, self.d).permute(0, 2, 1, 3)
                def forward(self, x, cache=None):
                    q, k, v = self.cut(self.W_q(x)), self.cut(self.W_k(x)), self.cut(self.W_v(x))
                    if cache:
                        k, v = cache.append(k, v)
                    n, m = q.size(2), k.size(2)
                    scores = q @ k.transpose(2, 3) / math.sqrt(self.d)
                    future = torch.ones(n, m, device=x.device).triu(m - n + 1).bool()
                    weights = torch.softmax(scores.masked_fill(future, -torch.inf), dim=-1)
                    out = (weights @ v).permute(0, 2, 1, 3).reshape(x.shape)
                    return self.W_o(out)

        position by position
            class CachedSelfAttention(nn.Module):
                def __init__(self, d_model, num_heads):
                    super().__init__()
                    self.num_heads = num_heads
                    self.W_q = nn.Linear(d_model, d_model, bias=False)
                    self.W_k = nn.Linear(d_model, d_model, bias=False)
                    self.W_v = nn.Linear(d_model, d_model, bias=False)
                    self.W_o = nn.Linear(d_model, d_model, bias=False)
                def forward(self, x, cache=None):
                    own = KVCache(x.size(1)) if cache is None else cache
                    outputs = []
                    for n in range(x.size(1)):
                        one = x[:, n : n + 1]
                        q = split_heads(self.W_q(one), self.num_heads)
                        k, v = own.append(
                            split_heads(self.W_k(one), self.num_heads),
                            split_heads(self.W_v(one), self.num_heads),
                        )
                        heads, _ = scaled_dot_product_attention(q, k, v)
                        outputs.append(self.W_o(merge_heads(heads)))
                    return torch.cat(outputs, dim=1)
        """
    ),
)


@CachedSelfAttention.test(
    points=1,
    cases=[
        case("a whole text", at_once, a_text),
        case("a text after another", at_once_after_another, a_text),
        case("one head", at_once, lambda make: a_text(make, 4, num_heads=1, d_head=5, batch=3)),
        case("a single position", at_once, lambda make: a_text(make, 1)),
        case(
            "gradients of the projections",
            learns,
            lambda make: a_text(make, 5, cotangent=make.normal(2, 5, 12)),
            loosen=100.0,
        ),
        Case(
            "names and shapes of the parameters",
            names_and_shapes,
            lambda make: {"sizes": [make.choice([12, 18]), 3]},
        ),
    ],
)
def test_attends_to_the_past(submission, case):
    """Attends to itself and to the past"""
    submission.matches_reference(case)


@CachedSelfAttention.test(
    points=2,
    cases=[
        case("one by one", in_pieces, lambda make: a_text(make, 4, lengths=1)),
        case("a prompt, then one by one", in_pieces, lambda make: a_text(make, lengths=[4, 1, 1])),
        case("pieces of several sizes", in_pieces, lambda make: a_text(make, 7, lengths=[2, 3, 2])),
        case("two texts in turn", two_texts, lambda make: a_text(make, lengths=[4, 2])),
    ],
)
def test_goes_on_where_it_stopped(submission, case):
    """Goes on where it stopped"""
    submission.matches_reference(case)


@CachedSelfAttention.test(
    points=0.5, cases=[case("in pieces", in_pieces, lambda make: a_text(make, lengths=[4, 2]))]
)
def test_cached_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)
