"""A decoder step with additive attention: Bahdanau et al. (2014), section 3.1,
https://arxiv.org/abs/1409.0473; the Transformer: Vaswani et al. (2017), section 3.1 and figure 1,
https://arxiv.org/abs/1706.03762; pre-norm: Xiong et al. (2020), https://arxiv.org/abs/2002.04745.

Every module gets its parameters from the case, under the names that its docstring fixes. Dropout is
judged with p = 1, where everything is dropped and nothing is random, and once by its properties.
"""

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
)
from autograder.spec.tables import edits, edits_of, variants

SHORT_CUTS = [
    "torch.nn.Transformer",
    "torch.nn.TransformerEncoder",
    "torch.nn.TransformerEncoderLayer",
    "torch.nn.TransformerDecoder",
    "torch.nn.TransformerDecoderLayer",
    "torch.nn.modules.transformer",
    "torch.nn.modules.Transformer",
    "torch.nn.modules.TransformerEncoderLayer",
    "torch.nn.modules.TransformerDecoderLayer",
    "torch._transformer_encoder_layer_fwd",
]

# ----------------------------------------------------------------------------- what all share


def case_of(title, scenario, inputs, **options):
    return Case(title, scenario, inputs, **{"loosen": 10.0, **options})


def through(impl, sizes, weights, sequences, masks=(), training=True):
    """Run a module on sequences, with as many masks behind them as there are."""
    module = load_weights(impl(**sizes), weights).train(training)
    return module(*sequences, *masks)


def backward_through(impl, sizes, weights, sequences, masks, cotangent):
    module = load_weights(impl(**sizes), weights)
    leaves = [t.detach().clone().requires_grad_() for t in sequences]
    names = [name for name in weights if name.endswith(("W_q.weight", "W_1.weight"))]
    parameters = dict(module.named_parameters())
    output = module(*leaves, *masks)
    found = gradients(output, [*leaves, *(parameters[name] for name in names)], cotangent)
    which = [f"sequence {i}" for i in range(len(leaves))] + names
    return {f"gradient of {n}": g for n, g in zip(which, found, strict=True)}


def through_twice(impl, sizes, weights, sequences, masks):
    """One module, first with masks, then on other sequences without."""
    module = load_weights(impl(**sizes), weights)
    first = module(*sequences, *masks)
    return {"first call": first, "second call": module(*(x.flip(1) for x in sequences))}


def draw(make, shapes):
    """Parameters of all kinds; those of layer norms lie around 1, so that they show."""
    return {
        name: make.normal(*shape, mean=float(name.endswith("norm.weight")), std=0.4)
        for name, shape in shapes.items()
    }


def norm_shapes(prefix, d_model):
    return {f"{prefix}norm.weight": (d_model,), f"{prefix}norm.bias": (d_model,)}


def linear_shapes(prefix, d_in, d_out):
    return {f"{prefix}.weight": (d_out, d_in), f"{prefix}.bias": (d_out,)}


def attention_shapes(prefix, d_model):
    return {f"{prefix}.W_{name}.weight": (d_model, d_model) for name in "qkvo"}


def block_shapes(prefix, attentions, d_model, d_ff):
    shapes = {}
    for attention in attentions:
        shapes |= attention_shapes(f"{prefix}{attention}", d_model)
    shapes |= linear_shapes(f"{prefix}feed_forward.W_1", d_model, d_ff)
    shapes |= linear_shapes(f"{prefix}feed_forward.W_2", d_ff, d_model)
    for i in range(len(attentions) + 1):
        shapes |= norm_shapes(f"{prefix}residuals.{i}.", d_model)
    return shapes


def some_mask(make, *shape):
    """A mask in which every query may attend to something."""
    mask = make.boolean(*shape, p=0.5)
    mask[..., 0] = True
    return mask


# ------------------------------------------------------------------------ AttentionDecoderCell


class CellByEinsum(nn.Module):
    def __init__(self, d_embedding, d_state, d_memory, d_attention):
        super().__init__()
        self.W_a = nn.Linear(d_state, d_attention, bias=False)
        self.U_a = nn.Linear(d_memory, d_attention, bias=False)
        self.v_a = nn.Linear(d_attention, 1, bias=False)
        self.cell = nn.GRUCell(d_embedding + d_memory, d_state)

    def forward(self, embedded, state, memory, mask):
        compared = torch.einsum("bs,as->ba", state, self.W_a.weight)[:, None]
        compared = compared + torch.einsum("bkm,am->bka", memory, self.U_a.weight)
        scores = torch.einsum("bka,a->bk", compared.tanh(), self.v_a.weight[0])
        low = torch.finfo(scores.dtype).min
        weights = torch.log_softmax(torch.where(mask, scores, low), dim=1).exp() * mask
        context = torch.einsum("bk,bkm->bm", weights, memory)
        return self.cell(torch.cat((embedded, context), 1), state), context, weights


def step_of(impl, sizes, weights, inputs, mask):
    found = load_weights(impl(**sizes), weights)(*inputs, mask)
    whole = isinstance(found, tuple | list) and len(found) == 3
    state, context, attention = found if whole else (found, None, None)
    return {"state": state, "context": context, "weights": attention}


def step_backward(impl, sizes, weights, inputs, mask, cotangent):
    cell = load_weights(impl(**sizes), weights)
    leaves = [t.detach().clone().requires_grad_() for t in inputs]
    state = cell(*leaves, mask)[0]
    names = ("gradient of embedded", "gradient of state", "gradient of memory")
    parameters = dict(cell.named_parameters())
    found = gradients(state, [*leaves, parameters["W_a.weight"]], cotangent)
    return dict(zip((*names, "gradient of W_a"), found, strict=True))


def one_step(make, *, batch=3, keys=5, sizes=(4, 6, 7, 8), scale=1.0, masked=True):
    """Inputs of a step; scale makes the scores large."""
    d_embedding, d_state, d_memory, d_attention = sizes
    names = ("d_embedding", "d_state", "d_memory", "d_attention")
    shapes = {
        "W_a.weight": (d_attention, d_state),
        "U_a.weight": (d_attention, d_memory),
        "v_a.weight": (1, d_attention),
        "cell.weight_ih": (3 * d_state, d_embedding + d_memory),
        "cell.weight_hh": (3 * d_state, d_state),
        "cell.bias_ih": (3 * d_state,),
        "cell.bias_hh": (3 * d_state,),
    }
    weights = draw(make, shapes)
    weights["v_a.weight"] = make.normal(1, d_attention, std=scale)
    shape = (batch, keys)
    return {
        "sizes": dict(zip(names, sizes, strict=True)),
        "weights": weights,
        "inputs": [
            make.normal(batch, d_embedding),
            make.normal(batch, d_state),
            make.normal(batch, keys, d_memory),
        ],
        "mask": some_mask(make, *shape) if masked else torch.ones(shape, dtype=torch.bool),
    }


def far_below(make, *, padding):
    """Scores near -300 where the first keys stand, near -300 + padding at the masked rest."""
    inputs = one_step(make, keys=6)
    weights, (embedded, state, memory) = inputs["weights"], inputs["inputs"]
    weights["v_a.weight"][0, 0] = -300.0
    weights["W_a.weight"][0] = 0.0
    weights["U_a.weight"][0] = 0.0
    weights["U_a.weight"][0, 0] = 1.0
    memory[..., 0] = 9.0
    if padding:
        memory[:, 3:, 0] = -9.0
    mask = (torch.arange(6) < 3).expand(3, 6).clone()
    return {**inputs, "inputs": [embedded, state, memory], "mask": mask}


SCORES = "self.v_a(torch.tanh(query + self.U_a(memory))).squeeze(-1)"
MASKED = "        scores = scores.masked_fill(~mask, -torch.inf)\n"
SOFTMAX = "weights = torch.softmax(scores, dim=-1)"
CONTEXT = "context = (weights.unsqueeze(1) @ memory).squeeze(1)"
STEP = "state = self.cell(torch.cat([embedded, context], dim=-1), state)"
THREE = "return state, context, weights"
LAYERS = [
    ("W_a", "nn.Linear(d_state, d_attention"),
    ("U_a", "nn.Linear(d_memory, d_attention"),
    ("v_a", "nn.Linear(d_attention, 1"),
]

AttentionDecoderCell = Exercise(
    "AttentionDecoderCell",
    oracle=CellByEinsum,
    mistakes=[
        *edits_of(
            SCORES,
            (
                "every dimension of size 1 squeezed away",
                SCORES.replace(".squeeze(-1)", ".squeeze()"),
                "squeeze without a dimension also takes away the batch or the keys where there is "
                "only one. Say which dimension is to go.",
            ),
            (
                "no tanh",
                "self.v_a(query + self.U_a(memory)).squeeze(-1)",
                "Without the tanh the score is linear: the state then shifts the scores of all "
                "positions alike, and no longer decides where to look.",
            ),
            (
                "a ReLU instead of tanh",
                "self.v_a(torch.relu(query + self.U_a(memory))).squeeze(-1)",
                "There is a ReLU between the sum and v_a; the formula has a tanh there.",
            ),
            (
                "a sigmoid instead of tanh",
                "self.v_a(torch.sigmoid(query + self.U_a(memory))).squeeze(-1)",
                "There is a sigmoid between the sum and v_a; the formula has a tanh there.",
            ),
            (
                "tanh of the score",
                "torch.tanh(self.v_a(query + self.U_a(memory))).squeeze(-1)",
                "The tanh comes after v_a, so no score can leave the range from -1 to 1. It "
                "belongs between the sum and v_a.",
            ),
            (
                "v_a left out",
                "torch.tanh(query + self.U_a(memory)).sum(-1)",
                "The features are added up as they are; v_a should weight them.",
            ),
            (
                "a product instead of a sum",
                "self.v_a(torch.tanh(query * self.U_a(memory))).squeeze(-1)",
                "State and memory are multiplied. Additive attention adds the two projections.",
            ),
            (
                "a dot product",
                "(query * self.U_a(memory)).sum(-1)",
                "This is the attention of dot products. Here the two projections are added, go "
                "through a tanh, and v_a makes one number of them.",
            ),
            (
                "scaled",
                SCORES + " / query.size(-1) ** 0.5",
                "The scores are divided by a root. That belongs to dot products; additive "
                "attention is not scaled.",
            ),
            (
                "the state left out of the scores",
                "self.v_a(torch.tanh(self.U_a(memory))).squeeze(-1)",
                "The state changes nothing about where a step looks. (Added outside the tanh, it "
                "shifts all scores of a sentence alike, which a softmax does not notice.)",
            ),
            (
                "the memory left out of the scores",
                "self.v_a(torch.tanh(query + 0 * self.U_a(memory))).squeeze(-1)",
                "The scores do not depend on the memory, so all positions get the same weight.",
            ),
        ),
        *edits_of(
            MASKED,
            ("mask ignored", "", "The mask changes nothing: padding still gets weight."),
            (
                "mask the wrong way round",
                MASKED.replace("~mask", "mask"),
                "The mask is read the wrong way round: True is where one may attend.",
            ),
            (
                "mask the wrong way round, with a lowest number",
                MASKED.replace("~mask, -torch.inf", "mask, torch.finfo(scores.dtype).min"),
                "The mask is read the wrong way round: True is where one may attend.",
            ),
            (
                "scores clamped",
                MASKED + "        scores = torch.where(mask, scores.clamp(-30.0, 30.0), scores)\n",
                "Clamping keeps exp in range, but scores beyond the limits become equal and their "
                "differences are lost. A stable softmax needs no clamp.",
            ),
            (
                "masked scores set to zero",
                MASKED.replace("-torch.inf", "0.0"),
                "A score of 0 still gets weight, since exp(0) is 1.",
            ),
            (
                "masked scores not low enough",
                MASKED.replace("-torch.inf", "-100.0"),
                "The number put in for masked scores is not low enough: where the true scores are "
                "lower still, the padding wins.",
            ),
        ),
        *edits_of(
            MASKED + "        " + SOFTMAX,
            (
                "masked after the softmax",
                "        " + SOFTMAX + " * mask",
                "The padding takes its share in the softmax before it is dropped, so the weights "
                "do not add up to 1. Mask the scores, then take the softmax.",
            ),
            (
                "masked after the softmax, made to add up",
                "        weights = torch.softmax(scores, dim=-1) * mask\n"
                "        weights = weights / weights.sum(-1, keepdim=True).clamp_min(1e-9)",
                "Where a masked score is far larger than the others, these have rounded to 0 "
                "before the mask comes in. Mask the scores first.",
            ),
            (
                "softmax overflows",
                "        weights = scores.exp() * mask\n"
                "        weights = weights / weights.sum(-1, keepdim=True)",
                "exp of a large score overflows, and exp of very negative ones is 0 for all of "
                "them: 0/0. torch.softmax takes care of both.",
            ),
        ),
        *edits_of(
            SOFTMAX,
            (
                "softmax over the batch",
                "weights = torch.softmax(scores, dim=0)",
                "The weights add up to 1 over the batch; those of each sentence should, over its "
                "own positions.",
            ),
            (
                "a sigmoid for each position",
                "weights = torch.sigmoid(scores)",
                "Each position gets a weight of its own between 0 and 1; they should share one "
                "attention, and add up to 1.",
            ),
        ),
        *edits_of(
            CONTEXT,
            (
                "the memory cut from the graph",
                CONTEXT.replace("memory)", "memory.detach())"),
                "No gradient passes through the context to the memory: it is detached, so that "
                "the encoder could not learn what to tell.",
            ),
            (
                "the mean of the memory",
                "context = memory.mean(1)",
                "The context is the plain mean of the memory; the weights should decide.",
            ),
            (
                "the best position only",
                "context = memory[torch.arange(len(memory)), weights.argmax(-1)]",
                "The context is the memory at the largest weight alone. That passes no gradient "
                "to the scores; take the weighted sum.",
            ),
            (
                "divided by the number of keys",
                CONTEXT + " / memory.size(1)",
                "The weights add up to 1 already; nothing is left to divide by.",
            ),
            (
                "weights cut from the graph",
                CONTEXT.replace("weights.", "weights.detach()."),
                "The weights are detached before they are used, so where to look is never learned.",
            ),
        ),
        *edits_of(
            STEP,
            (
                "context before the word",
                STEP.replace("embedded, context", "context, embedded"),
                "The input of the cell is the embedded word followed by the context; here it is "
                "the other way round.",
            ),
            (
                "the cell does not see the context",
                STEP.replace("context]", "torch.zeros_like(context)]"),
                "The context is computed, but the cell does not get it.",
            ),
            (
                "the cell starts anew",
                STEP.replace(", state)", ", torch.zeros_like(state))"),
                "The cell does not get the state before, and so forgets everything in each step.",
            ),
            (
                "the old state returned",
                STEP.replace("state =", "_ ="),
                "What comes back first is the state that was given, not the new one.",
            ),
            (
                "the new state added to the old",
                STEP.replace("state =", "state = state +"),
                "The state before is added to the new one; the cell decides itself what to keep.",
            ),
            (
                "read again with the new state",
                STEP + "\n        query = self.W_a(state).unsqueeze(1)\n        scores = "
                "self.v_a(torch.tanh(query + self.U_a(memory))).squeeze(-1)\n"
                "        weights = torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1)\n"
                "        " + CONTEXT,
                "Context and weights are computed once more with the new state. Return those that "
                "the step was made with.",
            ),
        ),
        *edits_of(
            THREE,
            (
                "context first",
                "return context, state, weights",
                "The new state comes first, then the context, then the weights.",
            ),
            (
                "weights second",
                "return state, weights, context",
                "The new state comes first, then the context, then the weights.",
            ),
            ("weights not returned", "return state, context", "The weights should follow."),
            ("only the state returned", "return state", "Context and weights should follow."),
            (
                "scores returned as weights",
                "return state, context, scores",
                "The third result should be the weights, after the softmax.",
            ),
            (
                "weights with a dimension too many",
                "return state, context, weights.unsqueeze(1)",
                "The weights have shape (batch, keys): there is only one query in a step.",
            ),
        ),
        Mistake(
            "the state cut from the graph in the scores",
            "self.W_a(state)",
            "self.W_a(state.detach())",
            "The state is detached where it is compared with the memory: no gradient passes back "
            "that way to the steps before.",
        ),
        Mistake.edits_of(
            "every dimension of size 1 squeezed away, before a sum",
            [
                (SCORES, SCORES.replace(".squeeze(-1)", ".squeeze()")),
                (CONTEXT, "context = (weights.unsqueeze(-1) * memory).sum(dim=1)"),
            ],
            "squeeze without a dimension also takes away the batch or the keys where there is only "
            "one. Say which dimension is to go.",
        ),
        Mistake(
            "W_a and U_a exchanged",
            "nn.Linear(d_state, d_attention, bias=False)\n"
            "        self.U_a = nn.Linear(d_memory, d_attention, bias=False)",
            "nn.Linear(d_memory, d_attention, bias=False)\n"
            "        self.U_a = nn.Linear(d_state, d_attention, bias=False)\n"
            "        self.W_a, self.U_a = self.U_a, self.W_a\n"
            "        self.W_a.weight, self.U_a.weight = self.U_a.weight, self.W_a.weight",
            "W_a is for the state and U_a for the memory; here they have changed places.",
        ),
        Mistake(
            "v_a with a bias",
            "nn.Linear(d_attention, 1, bias=False)",
            "nn.Linear(d_attention, 1)",
            "v_a has a bias, which a softmax would not even notice; the docstring asks for none.",
        ),
        Mistake(
            "projections with biases",
            "        self.v_a = nn.Linear(",
            "        self.W_a = nn.Linear(d_state, d_attention)\n"
            "        self.U_a = nn.Linear(d_memory, d_attention)\n"
            "        self.v_a = nn.Linear(",
            "W_a and U_a have biases, which nn.Linear adds unless told otherwise; the docstring "
            "asks for none.",
        ),
        *(
            Mistake.edits_of(
                f"{' and '.join(name for name, _ in layers)} with {'a bias' if one else 'biases'}",
                [(f"{sizes}, bias=False", sizes) for _, sizes in layers],
                "nn.Linear adds a bias unless told otherwise; the docstring asks for none in "
                f"{' and '.join(name for name, _ in layers)}.",
            )
            for layers in (LAYERS[:1], LAYERS[1:2], LAYERS[::2], LAYERS[1:], LAYERS)
            for one in [len(layers) == 1]
        ),
    ],
    variants=[
        *variants("""
            a loop over the keys
                class AttentionDecoderCell(nn.Module):
                    def __init__(self, d_embedding, d_state, d_memory, d_attention):
                        super().__init__()
                        self.cell = nn.GRUCell(d_embedding + d_memory, d_state)
                        self.v_a = nn.Linear(d_attention, 1, bias=False)
                        self.U_a = nn.Linear(d_memory, d_attention, bias=False)
                        self.W_a = nn.Linear(d_state, d_attention, bias=False)
                    def forward(self, embedded, state, memory, mask):
                        scores = []
                        for j in range(memory.shape[1]):
                            h = memory[:, j]
                            scores.append(self.v_a((self.W_a(state) + self.U_a(h)).tanh()))
                        scores = torch.cat(scores, dim=1)
                        scores[~mask] = torch.finfo(scores.dtype).min
                        weights = scores.softmax(1)
                        context = 0
                        for j in range(memory.shape[1]):
                            context = context + weights[:, j : j + 1] * memory[:, j]
                        new = self.cell(torch.hstack([embedded, context]), state)
                        return [new, context, weights]

            bmm and where
                class AttentionDecoderCell(nn.Module):
                    def __init__(self, d_embedding, d_state, d_memory, d_attention):
                        super().__init__()
                        self.W_a = nn.Linear(d_state, d_attention, bias=False)
                        self.U_a = nn.Linear(d_memory, d_attention, bias=False)
                        self.v_a = nn.Linear(d_attention, 1, bias=False)
                        self.cell = nn.GRUCell(d_embedding + d_memory, d_state)
                        self.softmax = nn.Softmax(dim=1)
                    def forward(self, embedded, state, memory, mask):
                        energy = torch.tanh(self.U_a(memory) + self.W_a(state[:, None, :]))
                        scores = self.v_a(energy)[..., 0]
                        scores = torch.where(mask, scores, torch.full_like(scores, -1e30))
                        weights = self.softmax(scores)
                        context = torch.bmm(memory.mT, weights[:, :, None])[:, :, 0]
                        x = torch.cat((embedded, context), -1)
                        return self.cell(x, state), context, weights
        """),
        Variant.edits_of(
            "a product and a sum",
            [(CONTEXT, "context = (weights[..., None] * memory).sum(dim=1)")],
        ),
    ],
)


@AttentionDecoderCell.test(
    points=0.5,
    cases=[
        Case(
            "names and shapes of the parameters",
            names_and_shapes,
            lambda make: {
                "sizes": {
                    "d_embedding": make.choice([3, 4]),
                    "d_state": 6,
                    "d_memory": 7,
                    "d_attention": 8,
                }
            },
        )
    ],
)
def test_cell_parameters(submission, case):
    """Has the parameters of the docstring"""
    submission.matches_reference(case)


@AttentionDecoderCell.test(
    points=1.5,
    cases=[
        case_of("no padding", step_of, lambda make: one_step(make, masked=False)),
        case_of("a batch of one", step_of, lambda make: one_step(make, batch=1, masked=False)),
        case_of(
            "as many features of the state as of the memory",
            step_of,
            lambda make: one_step(make, sizes=(4, 6, 6, 5), masked=False),
        ),
        case_of(
            "gradients",
            step_backward,
            lambda make: dict(**one_step(make), cotangent=make.normal(3, 6)),
            loosen=100.0,
        ),
    ],
)
def test_takes_a_step(submission, case):
    """Looks with the old state, reads, and makes the new one"""
    submission.matches_reference(case)


@AttentionDecoderCell.test(
    points=0.75,
    cases=[
        case_of("padding", step_of, lambda make: one_step(make, batch=4, keys=7)),
        case_of("a source of one position", step_of, lambda make: one_step(make, keys=1)),
        case_of("large scores", step_of, lambda make: one_step(make, scale=300.0), loosen=100.0),
        case_of("scores far below zero", step_of, lambda make: far_below(make, padding=False)),
        case_of("large scores in the padding", step_of, lambda make: far_below(make, padding=True)),
    ],
)
def test_reads_no_padding(submission, case):
    """Reads no padding, whatever the scores are"""
    submission.matches_reference(case)


@AttentionDecoderCell.test(points=0.25, cases=[case_of("with padding", step_of, one_step)])
def test_cell_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ------------------------------------------------------------------------------ greedy_decode


def decode_by_lists(model, source, bos, eos, max_len, pad=0):
    """Each sentence by itself, in a table that is there from the beginning."""
    with torch.inference_mode():
        memory, mask = model.encode(source)
        written = source.new_full((len(source), max_len + 1), bos)
        for t in range(max_len):
            logits = model.decode(written[:, : t + 1].clone(), memory, mask)
            written[:, t + 1] = torch.max(logits[:, t], dim=1).indices
    after = torch.zeros_like(written, dtype=torch.bool)
    for t in range(2, max_len + 1):
        after[:, t] = after[:, t - 1] | (written[:, t - 1] == eos)
    return torch.where(after, pad, written)[:, 1:].clone()


class Storyteller:
    """A model whose next word depends on every word so far, on its place, and on the source."""

    def __init__(self, table, places, ends, eos):
        self.table, self.places, self.ends, self.eos = table, places, ends, eos
        self.encoded, self.recorded = 0, False

    def encode(self, source):
        self.encoded += 1
        self.recorded |= torch.is_grad_enabled()
        return self.table[source], (source != 0).unsqueeze(1)

    def decode(self, target, memory, memory_mask):
        self.recorded |= torch.is_grad_enabled()
        said = (self.table[target] * self.places[: target.size(1)]).cumsum(dim=1)
        logits = said + (memory * memory_mask.mT).sum(dim=1, keepdim=True)
        at_end = torch.arange(target.size(1), device=target.device) == self.ends.unsqueeze(1)
        wanted = torch.where(at_end, 500.0, -500.0).to(logits)
        is_eos = torch.arange(logits.size(-1), device=target.device) == self.eos
        return torch.where(is_eos, wanted.unsqueeze(-1), logits)


def tell(impl, table, places, ends, source, numbers):
    model = Storyteller(table, places, ends, numbers["eos"])
    with torch.enable_grad():
        words = impl(model, source, **numbers)
        still = torch.is_grad_enabled()
    return {
        "translation": words,
        "times that the source was encoded": model.encoded,
        "a graph was recorded": model.recorded,
        "gradients are still on afterwards": still,
    }


def story(make, ends, *, bos=1, eos=2, pad=0, max_len=7, words=9, padded=True):
    """Inputs of greedy_decode; ends says after how many words each sentence ends."""
    batch = len(ends)
    source = make.integers(1, words, batch, 5)
    if padded:
        source[:, 3:] = 0
    return {
        "table": make.normal(words, words, std=2.0),
        "places": make.normal(max_len + 2, words, std=2.0),
        "ends": torch.tensor(ends)[make.permutation(batch)],
        "source": source,
        "numbers": {"bos": bos, "eos": eos, "max_len": max_len, "pad": pad},
    }


def story_without_pad(make):
    inputs = story(make, [1, 5, 3])
    return {**inputs, "numbers": {k: v for k, v in inputs["numbers"].items() if k != "pad"}}


WORD = "word = logits[:, -1].argmax(dim=-1, keepdim=True)"
APPEND = "target = torch.cat([target, word], dim=1)"
DECODE = "logits = model.decode(target, memory, memory_mask)"
ENCODE = "memory, memory_mask = model.encode(source)"
CUT = "words = target[:, 1:]"
ENDED = "ended = (words == eos).cumsum(dim=1) - (words == eos).long()"
FILLED = "return words.masked_fill(ended > 0, pad)"

greedy_decode = Exercise(
    "greedy_decode",
    oracle=decode_by_lists,
    mistakes=[
        *edits_of(
            WORD,
            (
                "the first position's word",
                WORD.replace("-1]", "0]"),
                "Every step looks only at what follows the first word, so it says the same each "
                "time. The logits of the last position speak about what comes next.",
            ),
            (
                "the smallest logit",
                WORD.replace("argmax", "argmin"),
                "The word with the smallest logit is taken; it should be the largest.",
            ),
            (
                "the second best word",
                "word = logits[:, -1].topk(2).indices[:, 1:]",
                "The word with the second largest logit is taken.",
            ),
            (
                "the best word of the whole batch",
                "word = logits[:, -1].mean(0).argmax().expand(len(source), 1)",
                "All sentences get the same word; each has logits of its own.",
            ),
        ),
        *edits_of(
            DECODE,
            (
                "only the last word decoded",
                "logits = model.decode(target[:, -1:], memory, memory_mask)",
                "The model sees only the last word. It has no memory of its own: hand it all that "
                "has been written.",
            ),
            (
                "the source's mask forgotten",
                "logits = model.decode(target, memory, torch.ones_like(memory_mask))",
                "The mask that encode returns does not reach decode, and padding is read.",
            ),
            (
                "encoded again in each step",
                ENCODE + "\n            " + DECODE,
                "The source is encoded again for every word. It does not change: once will do.",
            ),
        ),
        *edits_of(
            APPEND,
            (
                "the word before instead of behind",
                "target = torch.cat([word, target], dim=1)",
                "The new word is put in front of what is written; it belongs behind it.",
            ),
            (
                "only the last word kept",
                "target = torch.cat([target[:, :1], word], dim=1)",
                "Each new word takes the place of the one before; append it.",
            ),
        ),
        *edits(
            [
                (
                    "the beginning returned as well",
                    CUT,
                    "words = target",
                    "bos is still in front of the translation, which makes it one word too long.",
                ),
                (
                    "the last word cut off",
                    CUT,
                    "words = target[:, :-1]",
                    "bos is still there and the last word is cut off instead.",
                ),
                (
                    "one word too few",
                    "range(max_len)",
                    "range(max_len - 1)",
                    "One word too few is written: bos does not count.",
                ),
                (
                    "one word too many",
                    "range(max_len)",
                    "range(max_len + 1)",
                    "One word too many is written.",
                ),
                (
                    "as long as the source",
                    "range(max_len)",
                    "range(source.size(1))",
                    "The translation is as long as its source; max_len says how long it is.",
                ),
                (
                    "begins with 1",
                    "source[:, :1], bos",
                    "source[:, :1], 1",
                    "The target begins with the number 1, whatever bos is.",
                ),
                (
                    "begins with the source's first word",
                    "torch.full_like(source[:, :1], bos)",
                    "source[:, :1]",
                    "The target begins with the source's first word; it should begin with bos.",
                ),
                (
                    "begins with eos",
                    "source[:, :1], bos",
                    "source[:, :1], eos",
                    "The target begins with eos; it should begin with bos.",
                ),
                (
                    "begins with pad",
                    "source[:, :1], bos",
                    "source[:, :1], pad",
                    "The target begins with pad; it should begin with bos.",
                ),
                (
                    "words after the end",
                    FILLED,
                    "return words",
                    "What the model says after eos is still there; it should be pad from there on.",
                ),
                (
                    "the end padded too",
                    ENDED,
                    "ended = (words == eos).cumsum(dim=1)",
                    "eos itself is replaced as well; the first one belongs to the sentence.",
                ),
                (
                    "one word after the end",
                    ENDED,
                    "ended = ((words == eos).cumsum(dim=1) - (words == eos).long())"
                    ".roll(1, dims=1) * (torch.arange(max_len, device=words.device) > 0)",
                    "One word after eos is kept; pad begins right behind eos.",
                ),
                (
                    "filled with eos",
                    FILLED,
                    "return words.masked_fill(ended > 0, eos)",
                    "What comes after the end is filled with eos; it should be pad.",
                ),
                (
                    "filled with 0",
                    FILLED,
                    "return words.masked_fill(ended > 0, 0)",
                    "What comes after the end is filled with zeros, whatever pad is.",
                ),
                (
                    "all end with the first",
                    ENDED,
                    "ended = (words == eos).any(0).cumsum(0) - (words == eos).any(0).long()",
                    "As soon as one sentence has ended, all are padded; each ends by itself.",
                ),
                (
                    "only the word after the end padded",
                    FILLED,
                    "return words.masked_fill((words == eos).roll(1, dims=1), pad)",
                    "Only the word right after eos is pad; it should be all of them.",
                ),
                (
                    "a graph recorded",
                    "with torch.no_grad():",
                    "with torch.enable_grad():",
                    "The graph is recorded in every step, which costs memory for nothing.",
                ),
                (
                    "gradients off for good",
                    "    with torch.no_grad():\n",
                    "    torch.set_grad_enabled(False)\n    if True:\n",
                    "Gradients are switched off and stay off, for the caller and everyone else. "
                    "Switch them off only while the translation is written.",
                ),
                (
                    "numbers as floats",
                    FILLED,
                    "return words.masked_fill(ended > 0, pad).to(torch.get_default_dtype())",
                    "The numbers of the words are integers, int64.",
                ),
            ]
        ),
        Mistake.edits_of(
            "stops with the first",
            [
                (APPEND, APPEND + "\n            if (word == eos).any():\n                break"),
            ],
            "Writing stops when the first sentence has ended; the others are not finished, and "
            "max_len words are asked for.",
        ),
        Mistake.edits_of(
            "stops early",
            [
                (
                    APPEND,
                    APPEND
                    + "\n            if (target == eos).any(1).all():\n                break",
                ),
            ],
            "Writing stops when all sentences have ended, which is clever, but the result is then "
            "shorter than max_len. Fill it up.",
        ),
    ],
    variants=variants("""
        ended sentences remembered
            def greedy_decode(model, source, bos, eos, max_len, pad=0):
                batch = source.size(0)
                memory_and_mask = None
                with torch.no_grad():
                    memory_and_mask = model.encode(source)
                    target = torch.full((batch, 1), bos, dtype=torch.long, device=source.device)
                    done = torch.zeros(batch, dtype=torch.bool, device=source.device)
                    for _ in range(max_len):
                        scores = model.decode(target, *memory_and_mask)[:, -1, :]
                        word = scores.max(dim=-1).indices
                        word = torch.where(done, torch.full_like(word, pad), word)
                        target = torch.cat((target, word[:, None]), dim=-1)
                        done = done | (word == eos)
                return target[:, 1:]

        a buffer and inference mode
            def greedy_decode(model, source, bos, eos, max_len, pad=0):
                with torch.inference_mode():
                    memory, mask = model.encode(source)
                    out = torch.full((len(source), max_len + 1), pad, device=source.device)
                    out[:, 0] = bos
                    alive = torch.ones(len(source), dtype=torch.bool, device=source.device)
                    for t in range(max_len):
                        best = model.decode(out[:, : t + 1], memory, mask)[:, t].argmax(-1)
                        out[:, t + 1] = torch.where(alive, best, pad)
                        alive &= best != eos
                return out[:, 1:].clone()

        stops early and fills up
            def greedy_decode(model, source, bos, eos, max_len, pad=0):
                with torch.no_grad():
                    memory, mask = model.encode(source)
                    target = source.new_full((source.shape[0], 1), bos)
                    done = torch.zeros_like(target, dtype=torch.bool)
                    while target.shape[1] <= max_len and not done.all():
                        word = model.decode(target, memory, mask)[:, -1:].softmax(-1).argmax(-1)
                        word = word.masked_fill(done, pad)
                        target = torch.cat([target, word], 1)
                        done = done | (word == eos)
                missing = max_len + 1 - target.shape[1]
                return nn.functional.pad(target[:, 1:], (0, missing), value=pad)
    """),
)


@greedy_decode.test(
    points=2,
    cases=[
        Case(
            "sentences that end early, late and never",
            tell,
            lambda make: story(make, [0, 2, 4, 5, 6, 99]),
        ),
        Case("all end early", tell, lambda make: story(make, [1, 3, 2, 0], max_len=8)),
        Case("a sentence that never ends", tell, lambda make: story(make, [99], max_len=6)),
        Case("other numbers", tell, lambda make: story(make, [2, 4, 1], bos=6, eos=7, pad=3)),
        Case("one word", tell, lambda make: story(make, [0, 99, 99], max_len=1)),
        Case("padding left out", tell, story_without_pad),
    ],
)
def test_writes_word_by_word(submission, case):
    """Writes word by word, up to the end of each sentence"""
    submission.matches_reference(case)


@greedy_decode.test(
    points=0.25, cases=[Case("some that end", tell, lambda make: story(make, [2, 99, 4]))]
)
def test_greedy_decode_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# --------------------------------------------------------------------- PositionwiseFeedForward


class FeedForwardByClamp(nn.Module):
    def __init__(self, d_model, d_ff):
        super().__init__()
        self.W_1 = nn.Linear(d_model, d_ff)
        self.W_2 = nn.Linear(d_ff, d_model)

    def forward(self, x):
        hidden = torch.einsum("...d,fd->...f", x, self.W_1.weight) + self.W_1.bias
        return torch.einsum("...f,df->...d", hidden.clamp(min=0), self.W_2.weight) + self.W_2.bias


def feed(make, *leading, d_model=6, d_ff=10):
    """Inputs of the feed-forward network."""
    shapes = linear_shapes("W_1", d_model, d_ff) | linear_shapes("W_2", d_ff, d_model)
    return {
        "sizes": {"d_model": d_model, "d_ff": d_ff},
        "weights": draw(make, shapes),
        "sequences": [make.normal(*leading, d_model, std=2.0)],
    }


FED = "self.W_2(torch.relu(self.W_1(x)))"
BIASED = "The docstring asks for linear layers with bias, as the formula has b_1 and b_2."

PositionwiseFeedForward = Exercise(
    "PositionwiseFeedForward",
    oracle=FeedForwardByClamp,
    mistakes=[
        *edits_of(
            FED,
            (
                "no ReLU",
                "self.W_2(self.W_1(x))",
                "Two linear layers with nothing between them are one linear layer. Where does "
                "equation 2 have its maximum with 0?",
            ),
            (
                "x cut from the graph",
                FED.replace("(x)", "(x.detach())"),
                "The numbers are right, but no gradient passes back to x: it is detached, and what "
                "comes before could not learn.",
            ),
            (
                "x made float32",
                FED.replace("(x)", "(x.float())"),
                "x is cast to float32 whatever comes in, which does not go together with weights "
                "of another dtype. Keep the dtype of the inputs.",
            ),
            (
                "ReLU limited to 6",
                "self.W_2(nn.functional.relu6(self.W_1(x)))",
                "This ReLU ends at 6; the maximum with 0 has no upper limit.",
            ),
            (
                "three dimensions taken for granted",
                "self.W_2(torch.relu(self.W_1(x))) if len(tuple(zip((1, 2, 3), x.shape, "
                "strict=True))) else x",
                "x is taken to have three dimensions. Any number of leading ones may come, none "
                "included.",
            ),
            (
                "ReLU at the end",
                "torch.relu(self.W_2(torch.relu(self.W_1(x))))",
                "The second layer's outputs go through a ReLU as well; they should be free to be "
                "negative.",
            ),
            (
                "ReLU after the second layer only",
                "torch.relu(self.W_2(self.W_1(x)))",
                "The ReLU belongs between the two layers, not behind them.",
            ),
            (
                "ReLU of the input",
                "self.W_2(self.W_1(torch.relu(x)))",
                "The ReLU belongs between the two layers, not before them.",
            ),
            (
                "ReLU of the input as well",
                "self.W_2(torch.relu(self.W_1(torch.relu(x))))",
                "The input goes through a ReLU; there is only one, between the two layers.",
            ),
            (
                "GELU",
                "self.W_2(nn.functional.gelu(self.W_1(x)))",
                "This is a GELU, which later models use; equation 2 has a ReLU.",
            ),
            (
                "leaky ReLU",
                "self.W_2(nn.functional.leaky_relu(self.W_1(x)))",
                "This ReLU lets a little through below 0; the maximum with 0 does not.",
            ),
            ("tanh", "self.W_2(torch.tanh(self.W_1(x)))", "Equation 2 has a ReLU, not a tanh."),
            (
                "sigmoid",
                "self.W_2(torch.sigmoid(self.W_1(x)))",
                "Equation 2 has a ReLU, not a sigmoid.",
            ),
            (
                "SiLU",
                "self.W_2(nn.functional.silu(self.W_1(x)))",
                "This is a SiLU; equation 2 has a ReLU.",
            ),
            (
                "residual added",
                "x + self.W_2(torch.relu(self.W_1(x)))",
                "The input is added to the result. That residual connection belongs around the "
                "network, not into it.",
            ),
            (
                "normalised",
                "self.W_2(torch.relu(self.W_1(nn.functional.layer_norm(x, x.shape[-1:]))))",
                "The input is normalised first. That belongs around the network, not into it.",
            ),
            (
                "positions averaged",
                "self.W_2(torch.relu(self.W_1(x)).mean(-2, keepdim=True)).expand(x.shape)",
                "The positions are averaged. Each goes through the network by itself.",
            ),
        ),
        *edits(
            [
                (
                    "four times d_model",
                    "        self.W_1 = nn.Linear(d_model, d_ff)",
                    "        d_ff = 4 * d_model\n        self.W_1 = nn.Linear(d_model, d_ff)",
                    "The argument d_ff has no effect: it says how wide the network is inside.",
                ),
                (
                    "W_1 without bias",
                    "nn.Linear(d_model, d_ff)",
                    "nn.Linear(d_model, d_ff, bias=False)",
                    BIASED,
                ),
                (
                    "W_2 without bias",
                    "nn.Linear(d_ff, d_model)",
                    "nn.Linear(d_ff, d_model, bias=False)",
                    BIASED,
                ),
                (
                    "W_1 and W_2 exchanged",
                    "        self.W_1 = nn.Linear(d_model, d_ff)\n"
                    "        self.W_2 = nn.Linear(d_ff, d_model)",
                    "        self.W_2 = nn.Linear(d_model, d_ff)\n"
                    "        self.W_1 = nn.Linear(d_ff, d_model)",
                    "W_1 leads from d_model to d_ff features and W_2 back; here it is the other "
                    "way round.",
                ),
                (
                    "a third layer",
                    "        self.W_2 = nn.Linear(d_ff, d_model)",
                    "        self.W_2 = nn.Linear(d_ff, d_model)\n"
                    "        self.W_3 = nn.Linear(d_model, d_model)",
                    "There is a layer too many: equation 2 has two.",
                ),
            ]
        ),
        Mistake.edits_of(
            "no biases",
            [
                ("nn.Linear(d_model, d_ff)", "nn.Linear(d_model, d_ff, bias=False)"),
                ("nn.Linear(d_ff, d_model)", "nn.Linear(d_ff, d_model, bias=False)"),
            ],
            BIASED,
        ),
    ],
    variants=[
        Variant.edits_of("a method", [(FED, "self.W_2(self.W_1(x).relu_())")]),
        Variant.edits_of("maximum", [("torch.relu(self.W_1(x))", "self.W_1(x).clamp(min=0)")]),
        *variants("""
            an activation module and a flattened batch
                class PositionwiseFeedForward(nn.Module):
                    def __init__(self, d_model, d_ff):
                        super().__init__()
                        self.W_2 = nn.Linear(d_ff, d_model, bias=True)
                        self.activation = nn.ReLU()
                        self.W_1 = nn.Linear(d_model, d_ff, bias=True)
                    def forward(self, x):
                        flat = x.reshape(-1, x.shape[-1])
                        return self.W_2(self.activation(self.W_1(flat))).reshape(x.shape)

            by hand
                class PositionwiseFeedForward(nn.Module):
                    def __init__(self, d_model, d_ff):
                        super().__init__()
                        self.W_1, self.W_2 = nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model)
                    def forward(self, x):
                        hidden = x @ self.W_1.weight.T + self.W_1.bias
                        hidden = torch.where(hidden > 0, hidden, torch.zeros_like(hidden))
                        return hidden @ self.W_2.weight.T + self.W_2.bias
        """),
    ],
)


@PositionwiseFeedForward.test(
    points=0.25,
    cases=[
        Case(
            "names and shapes of the parameters",
            names_and_shapes,
            lambda make: {"sizes": {"d_model": 6, "d_ff": make.choice([9, 11])}},
        )
    ],
)
def test_feed_forward_parameters(submission, case):
    """Has the parameters of the docstring"""
    submission.matches_reference(case)


@PositionwiseFeedForward.test(
    points=1,
    cases=[
        Case("a batch of sequences", through, lambda make: feed(make, 3, 5)),
        Case("no leading dimension", through, lambda make: feed(make, d_ff=7)),
        Case("three leading dimensions", through, lambda make: feed(make, 2, 1, 4, d_ff=3)),
        case_of(
            "gradients",
            backward_through,
            lambda make: {**feed(make, 2, 3), "masks": [], "cotangent": make.normal(2, 3, 6)},
            loosen=100.0,
        ),
    ],
)
def test_follows_equation_2(submission, case):
    """Follows equation 2 of the paper"""
    submission.matches_reference(case)


@PositionwiseFeedForward.test(
    points=0.25, cases=[Case("a batch of sequences", through, lambda make: feed(make, 3, 5))]
)
def test_feed_forward_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# -------------------------------------------------------------------------- SublayerConnection


class ConnectionByHand(nn.Module):
    def __init__(self, d_model, p=0.0, norm_first=False):
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.p, self.norm_first = p, norm_first

    def normalised(self, x):
        variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt() * self.norm.weight + self.norm.bias

    def forward(self, x, sublayer):
        said = sublayer(self.normalised(x) if self.norm_first else x)
        total = x + nn.functional.dropout(said, self.p, self.training)
        return total if self.norm_first else self.normalised(total)


def connect(impl, options, weights, x, matrix, training):
    """A sublayer that mixes the features, and that is not linear."""
    module = load_weights(impl(x.size(-1), **options), weights).train(training)
    return module(x, lambda z: torch.tanh(z @ matrix))


def connect_backward(impl, options, weights, x, matrix, cotangent):
    module = load_weights(impl(x.size(-1), **options), weights)
    leaves = [t.detach().clone().requires_grad_() for t in (x, matrix)]
    calls = []

    def sublayer(z):
        calls.append(1)
        return torch.tanh(z @ leaves[1])

    found = gradients(module(leaves[0], sublayer), leaves, cotangent)
    told = dict(zip(("gradient of x", "gradient of the sublayer"), found, strict=True))
    return {**told, "times that the sublayer was called": len(calls)}


def connect_identity(impl, options, weights, x, training):
    """A sublayer that gives back the very tensor that it gets."""
    module = load_weights(impl(x.size(-1), **options), weights).train(training)
    return module(x, lambda z: z)


def connect_at_random(impl, options, weights, x, matrix):
    """Two draws of one connection, and what its sublayer said; all of that far from 0."""
    module = load_weights(impl(x.size(-1), **options), weights).train()

    def sublayer(z):
        return torch.tanh(z @ matrix) + 3

    said = sublayer(
        nn.functional.layer_norm(x, x.shape[-1:], weights["norm.weight"], weights["norm.bias"])
    )
    return {"x": x, "said": said, "first": module(x, sublayer), "second": module(x, sublayer)}


def drops(outcome, inputs):
    p = inputs["options"]["p"]
    ratios = [(outcome[draw] - outcome["x"]) / outcome["said"] for draw in ("first", "second")]
    dropped = [ratio.abs() < 1e-3 for ratio in ratios]
    kept = [(ratio * (1 - p) - 1).abs() < 1e-3 for ratio in ratios]
    share = torch.stack(dropped).double().mean().item()
    sigma = (p * (1 - p) / (2 * dropped[0].numel())) ** 0.5
    return {
        "what the sublayer returned is dropped, or scaled by 1 / (1 - p)": bool(
            all((d | k).all() for d, k in zip(dropped, kept, strict=True))
        ),
        "a share of p is dropped": abs(share - p) < 6 * sigma,
        "the features of a position are dropped one by one": bool(
            (dropped[0].any(-1) & ~dropped[0].all(-1)).any()
        ),
        "each call drops others": bool((dropped[0] != dropped[1]).any()),
    }


def connection(make, p=0.0, norm_first=False, training=True, *, shape=(3, 4, 7), std=1.5):
    d_model = shape[-1]
    return {
        "options": {"p": p, "norm_first": norm_first},
        "weights": draw(make, norm_shapes("", d_model)),
        "x": make.normal(*shape, mean=0.5, std=std),
        "matrix": make.normal(d_model, d_model, std=0.6),
        "training": training,
    }


def on_the_way_back(make, first):
    inputs = connection(make, norm_first=first)
    del inputs["training"]
    return {**inputs, "cotangent": make.normal(3, 4, 7)}


def without_matrix(make):
    inputs = connection(make, p=1.0)
    del inputs["matrix"]
    return inputs


def at_random(make):
    inputs = connection(make, 0.3, True, shape=(5, 30, 20))
    del inputs["training"]
    return inputs


PRE = "x + self.dropout(sublayer(self.norm(x)))"
POST = "self.norm(x + self.dropout(sublayer(x)))"
BOTH_ORDERS = "if self.norm_first:"

SublayerConnection = Exercise(
    "SublayerConnection",
    oracle=ConnectionByHand,
    mistakes=[
        *edits(
            [
                (
                    "pre-norm and post-norm exchanged",
                    BOTH_ORDERS,
                    "if not self.norm_first:",
                    "norm_first is read the wrong way round: where it is True, the norm comes "
                    "before the sublayer.",
                ),
                (
                    "always post-norm",
                    BOTH_ORDERS,
                    "if False:",
                    "norm_first has no effect: it is post-norm every time.",
                ),
                (
                    "always pre-norm",
                    BOTH_ORDERS,
                    "if True:",
                    "norm_first has no effect: it is pre-norm every time.",
                ),
                (
                    "pre-norm by default",
                    "norm_first: bool = False",
                    "norm_first: bool = True",
                    "Left out, norm_first means False: the order of the paper of 2017.",
                ),
                (
                    "pre-norm: the residual is normalised",
                    PRE,
                    "self.norm(x) + self.dropout(sublayer(self.norm(x)))",
                    "With pre-norm, x itself is normalised too before the sum. The path from x to "
                    "the output should be left free of norms.",
                ),
                (
                    "pre-norm: no residual",
                    PRE,
                    "self.dropout(sublayer(self.norm(x)))",
                    "With pre-norm, x is not added any more. It should be.",
                ),
                (
                    "pre-norm: normalised at the end as well",
                    PRE,
                    "self.norm(x + self.dropout(sublayer(self.norm(x))))",
                    "With pre-norm, the sum is normalised once more. The only norm is before the "
                    "sublayer.",
                ),
                (
                    "pre-norm: the sublayer's output is normalised",
                    PRE,
                    "x + self.dropout(self.norm(sublayer(x)))",
                    "With pre-norm, what the sublayer gets is normalised, not what it returns.",
                ),
                (
                    "post-norm: no residual",
                    POST,
                    "self.norm(self.dropout(sublayer(x)))",
                    "With post-norm, x is missing from the sum that is normalised.",
                ),
                (
                    "post-norm: only the sublayer's output is normalised",
                    POST,
                    "x + self.norm(self.dropout(sublayer(x)))",
                    "With post-norm, the norm is taken of the whole sum, x included.",
                ),
                (
                    "post-norm: only x is normalised",
                    POST,
                    "self.norm(x) + self.dropout(sublayer(x))",
                    "With post-norm, the norm is taken of the whole sum, not of x alone.",
                ),
                (
                    "post-norm: normalised before as well",
                    POST,
                    "self.norm(x + self.dropout(sublayer(self.norm(x))))",
                    "With post-norm, the sublayer gets x as it is; the only norm is at the end.",
                ),
                (
                    "post-norm: not normalised",
                    POST,
                    "x + self.dropout(sublayer(x))",
                    "With post-norm, the sum is returned without its norm.",
                ),
                (
                    "post-norm: dropout of the result",
                    POST,
                    "self.dropout(self.norm(x + sublayer(x)))",
                    "With post-norm, dropout comes last and drops from x as well. It belongs to "
                    "what the sublayer returns, before the sum.",
                ),
                (
                    "post-norm: dropout of the sum",
                    POST,
                    "self.norm(self.dropout(x + sublayer(x)))",
                    "With post-norm, dropout drops from x too. It belongs to what the sublayer "
                    "returns, before the sum.",
                ),
                (
                    "pre-norm: dropout of the sum",
                    PRE,
                    "self.dropout(x + sublayer(self.norm(x)))",
                    "With pre-norm, dropout drops from x too. It belongs to what the sublayer "
                    "returns, before the sum.",
                ),
                (
                    "pre-norm: the residual cut from the graph",
                    PRE,
                    PRE.replace("x + ", "x.detach() + ", 1),
                    "With pre-norm, x is detached before it is added. The way of x is the one by "
                    "which gradients reach the first blocks.",
                ),
                (
                    "post-norm: the residual cut from the graph",
                    POST,
                    POST.replace("x + ", "x.detach() + ", 1),
                    "With post-norm, x is detached before it is added, and what comes before "
                    "hardly learns.",
                ),
                (
                    "pre-norm: the sublayer cut from the graph",
                    PRE,
                    PRE.replace("sublayer(self.norm(x))", "sublayer(self.norm(x)).detach()"),
                    "With pre-norm, what the sublayer returns is detached: it could not learn.",
                ),
                (
                    "post-norm: the sublayer cut from the graph",
                    POST,
                    POST.replace("sublayer(x)", "sublayer(x).detach()"),
                    "With post-norm, what the sublayer returns is detached: it could not learn.",
                ),
                (
                    "averaged instead of added",
                    "        return y",
                    "        return y if not self.norm_first else (x + y) / 2",
                    "With pre-norm, only half of what the sublayer returns is added.",
                ),
                (
                    "another epsilon",
                    "nn.LayerNorm(d_model)",
                    "nn.LayerNorm(d_model, eps=1e-6)",
                    "The norm's epsilon is not PyTorch's, which shows where the features of "
                    "a position hardly differ.",
                ),
                (
                    "norm without parameters",
                    "nn.LayerNorm(d_model)",
                    "nn.LayerNorm(d_model, elementwise_affine=False)",
                    "The layer norm has no weight and bias. With PyTorch's defaults it has both.",
                ),
                (
                    "RMS norm",
                    "nn.LayerNorm(d_model)",
                    "nn.RMSNorm(d_model, eps=1e-5)",
                    "An RMS norm does not take the mean away, and has no bias; the docstring asks "
                    "for nn.LayerNorm.",
                ),
                (
                    "dropped in place",
                    "nn.Dropout(p)",
                    "nn.Dropout(p, inplace=True)",
                    "Dropout overwrites what the sublayer returned. That tensor may be needed "
                    "elsewhere; it may even be x.",
                ),
                (
                    "the sublayer called twice",
                    "        return y",
                    "        sublayer(x)\n        return y",
                    "The sublayer is called twice. Once is enough, and a second call costs time "
                    "and draws other random numbers.",
                ),
                (
                    "nothing dropped",
                    "nn.Dropout(p)",
                    "nn.Identity()",
                    "The argument p has no effect: nothing is dropped in training.",
                ),
                (
                    "keeps with probability p",
                    "nn.Dropout(p)",
                    "nn.Dropout(1 - p)",
                    "p is the probability of dropping, not of keeping.",
                ),
                (
                    "whole positions dropped",
                    "nn.Dropout(p)",
                    "nn.Dropout1d(p)",
                    "All features of a position are dropped together; each should be by itself.",
                ),
                (
                    "not scaled up",
                    "self.dropout(sublayer(self.norm(x)))",
                    "self.dropout(torch.ones_like(x)).clamp(max=1) * sublayer(self.norm(x))",
                    "What is kept in training is not scaled by 1 / (1 - p), as nn.Dropout does.",
                ),
            ]
        ),
        Mistake.edits_of(
            "the residual cut from the graph",
            [
                (PRE, PRE.replace("x + ", "x.detach() + ", 1)),
                (POST, POST.replace("x + ", "x.detach() + ", 1)),
            ],
            "x is detached before it is added, in either order. The way of x is the one by which "
            "gradients reach the first blocks.",
        ),
        Mistake.edits_of(
            "the sublayer cut from the graph",
            [
                (PRE, PRE.replace("sublayer(self.norm(x))", "sublayer(self.norm(x)).detach()")),
                (POST, POST.replace("sublayer(x)", "sublayer(x).detach()")),
            ],
            "What the sublayer returns is detached, in either order: it could not learn.",
        ),
        Mistake.edits_of(
            "no residual",
            [(PRE, PRE.removeprefix("x + ")), (POST, POST.replace("x + ", ""))],
            "x is not added to what the sublayer returns, in either order. The residual "
            "connection is missing.",
        ),
        Mistake.edits_of(
            "dropout before the sublayer",
            [
                (PRE, "x + sublayer(self.dropout(self.norm(x)))"),
                (POST, "self.norm(x + sublayer(self.dropout(x)))"),
            ],
            "Dropout hits what the sublayer gets; it belongs to what the sublayer returns.",
        ),
        Mistake.edits_of(
            "dropout of the sum",
            [
                (PRE, "self.dropout(x + sublayer(self.norm(x)))"),
                (POST, "self.norm(self.dropout(x + sublayer(x)))"),
            ],
            "Dropout drops from x too. It belongs to what the sublayer returns, before the sum.",
        ),
        Mistake.edits_of(
            "x changed in place",
            [
                (PRE, "x.add_(self.dropout(sublayer(self.norm(x))))"),
                (POST, "self.norm(x.add_(self.dropout(sublayer(x))))"),
            ],
            "The caller's x is changed in place. Make a new tensor.",
        ),
        Mistake.edits_of(
            "dropped in evaluation too",
            [
                ("self.dropout(sublayer(self.norm", "self.dropped(sublayer(self.norm"),
                ("self.dropout(sublayer(x)", "self.dropped(sublayer(x)"),
                (
                    "        self.norm_first = norm_first",
                    "        self.norm_first = norm_first\n"
                    "        self.dropped = lambda t: nn.functional.dropout(t, p)",
                ),
            ],
            "Dropout goes on in evaluation mode. nn.Dropout knows the mode of its module; the "
            "function has to be told.",
        ),
    ],
    variants=[
        Variant.edits_of(
            "the function for dropout",
            [
                (
                    "self.dropout(sublayer(self.norm(x)))",
                    "nn.functional.dropout(sublayer(self.norm(x)), self.dropout.p, self.training)",
                )
            ],
        ),
        *variants("""
            one sum
                class SublayerConnection(nn.Module):
                    def __init__(self, d_model, p=0.0, norm_first=False):
                        super().__init__()
                        self.drop = nn.Dropout(p=p)
                        self.norm = nn.LayerNorm((d_model,))
                        self.order = [norm_first, not norm_first]
                    def forward(self, x, sublayer):
                        pre, post = (self.norm if on else (lambda t: t) for on in self.order)
                        return post(torch.add(self.drop(sublayer(pre(x))), x))

            step by step
                class SublayerConnection(nn.Module):
                    def __init__(self, d_model, p=0.0, norm_first=False):
                        super().__init__()
                        self.norm = nn.LayerNorm(d_model, eps=1e-5, elementwise_affine=True)
                        self.p = p
                        self.norm_first = norm_first
                    def forward(self, x, sublayer):
                        inside = x
                        if self.norm_first:
                            inside = self.norm(inside)
                        inside = sublayer(inside)
                        inside = torch.dropout(inside, self.p, self.training)
                        total = inside + x
                        if not self.norm_first:
                            total = self.norm(total)
                        return total
        """),
    ],
)


def both_orders(title, **options):
    return [
        case_of(
            f"{order}: {title}",
            connect,
            lambda make, first=first: connection(make, norm_first=first, **options),
        )
        for order, first in (("post-norm", False), ("pre-norm", True))
    ]


def by_default(make):
    inputs = connection(make)
    return {**inputs, "options": {}}


@SublayerConnection.test(
    points=0.25,
    cases=[
        Case(
            "names and shapes of the parameters",
            names_and_shapes,
            lambda make: {"sizes": {"d_model": make.choice([5, 7]), "norm_first": True}},
        )
    ],
)
def test_connection_parameters(submission, case):
    """Has the layer norm of the docstring"""
    submission.matches_reference(case)


@SublayerConnection.test(
    points=1,
    cases=[
        *both_orders("nothing dropped"),
        case_of("the defaults", connect, by_default),
        *both_orders("features that hardly differ", std=2e-3, shape=(2, 5, 6)),
        *(
            case_of(
                f"{order}: gradients",
                connect_backward,
                partial(on_the_way_back, first=first),
                loosen=100.0,
            )
            for order, first in (("post-norm", False), ("pre-norm", True))
        ),
    ],
)
def test_norm_and_residual(submission, case):
    """Adds and normalises in the order asked for"""
    submission.matches_reference(case)


@SublayerConnection.test(
    points=1,
    cases=[
        *both_orders("everything dropped", p=1.0),
        *both_orders("evaluation mode", p=0.6, training=False),
        case_of("pre-norm: some of it dropped", connect_at_random, at_random, observe=drops),
        case_of(
            "post-norm: a sublayer that gives back what it gets", connect_identity, without_matrix
        ),
    ],
)
def test_drops_what_the_sublayer_returns(submission, case):
    """Drops, in training, from what the sublayer returns"""
    submission.matches_reference(case)


@SublayerConnection.test(
    points=0.25,
    cases=[
        *both_orders("everything dropped", p=1.0),
        case_of("pre-norm: some of it dropped", connect_at_random, at_random, observe=drops),
    ],
)
def test_connection_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ------------------------------------------------------------------------------- EncoderBlock


class Heads(nn.Module):
    """PyTorch's attention under the names of MultiHeadAttention."""

    def __init__(self, d_model, num_heads):
        super().__init__()
        self.num_heads = num_heads
        for name in ("W_q", "W_k", "W_v", "W_o"):
            self.add_module(name, nn.Linear(d_model, d_model, bias=False))

    def forward(self, query, key, value, mask=None):
        pairs = ((self.W_q, query), (self.W_k, key), (self.W_v, value))
        q, k, v = (torch.stack(W(x).chunk(self.num_heads, -1), dim=1) for W, x in pairs)
        if mask is not None:
            mask = mask.expand(q.size(0), q.size(2), k.size(2)).unsqueeze(1)
        heads = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.W_o(torch.cat(heads.unbind(dim=1), dim=-1)), None


class BlockByTorch(nn.Module):
    """The blocks with their residuals written out, under the names of the reference."""

    def __init__(self, attentions, d_model, num_heads, d_ff, p, norm_first):
        super().__init__()
        self.p, self.norm_first = p, norm_first
        for name in attentions:
            self.add_module(name, Heads(d_model, num_heads))
        self.feed_forward = FeedForwardByClamp(d_model, d_ff)
        self.residuals = nn.ModuleList(nn.Module() for _ in range(len(attentions) + 1))
        for residual in self.residuals:
            residual.norm = nn.LayerNorm(d_model)

    def add(self, x, i, sublayer):
        norm = self.residuals[i].norm
        said = sublayer(norm(x)) if self.norm_first else sublayer(x)
        total = x + nn.functional.dropout(said, self.p, self.training)
        return total if self.norm_first else norm(total)


class EncoderBlockByTorch(BlockByTorch):
    def __init__(self, d_model, num_heads, d_ff, p=0.0, norm_first=False):
        super().__init__(["self_attention"], d_model, num_heads, d_ff, p, norm_first)

    def forward(self, x, mask=None):
        attention = self.self_attention
        x = self.add(x, 0, lambda z: attention(z, z, z, mask)[0])
        return self.add(x, 1, self.feed_forward)


def encoder_block(make, norm_first=False, *, p=0.0, batch=2, heads=3, n=5, masks=(), **options):
    d_model, d_ff = 4 * heads, 10
    return {
        "sizes": {
            "d_model": d_model,
            "num_heads": heads,
            "d_ff": d_ff,
            "p": p,
            "norm_first": norm_first,
        },
        "weights": draw(make, block_shapes("", ["self_attention"], d_model, d_ff)),
        "sequences": [make.normal(batch, n, d_model, mean=0.3, std=1.5)],
        "masks": [some_mask(make, *shape) for shape in masks],
        **options,
    }


def in_both_orders(title, inputs, scenario=through, loosen=10.0, **options):
    return [
        case_of(
            f"{order}: {title}",
            scenario,
            lambda make, first=first: inputs(make, first, **options),
            loosen=loosen,
        )
        for order, first in (("post-norm", False), ("pre-norm", True))
    ]


def sizes_of_defaults(inputs):
    sizes = {k: v for k, v in inputs["sizes"].items() if k not in ("p", "norm_first")}
    return {**inputs, "sizes": sizes}


def block_mistakes(last):
    """Mistakes that both blocks invite; last is the number of the last connection."""
    feed = f"self.residuals[{last}](x, self.feed_forward)"
    attend = "x = self.residuals[0](x, lambda z: self.self_attention(z, z, z, mask)[0])"
    connections = f"SublayerConnection(d_model, p, norm_first) for _ in range({last + 1})"
    return [
        Mistake(
            "connections in a plain list",
            f"nn.ModuleList({connections})",
            f"[{connections}]",
            "The connections stand in a plain list, where PyTorch does not see their parameters: "
            "they are neither trained nor moved. An nn.ModuleList is what the docstring asks for.",
        ),
        *edits_of(
            attend,
            (
                "mask ignored",
                attend.replace(", mask)", ")"),
                "The mask of the self-attention changes nothing; pass it on.",
            ),
            (
                "mask the wrong way round",
                attend.replace(", mask)", ", None if mask is None else ~mask)"),
                "The mask is turned round on its way into the self-attention. True means the same "
                "there: a query may attend.",
            ),
            (
                "keys and values not normalised",
                attend.replace("(z, z, z,", "(z, x, x,"),
                "With pre-norm, the queries are normalised but keys and values are x itself. The "
                "sublayer gets one normalised sequence, and all three are that one.",
            ),
            (
                "values not normalised",
                attend.replace("(z, z, z,", "(z, z, x,"),
                "With pre-norm, queries and keys are normalised but the values are x itself. The "
                "sublayer gets one normalised sequence, and all three are that one.",
            ),
            (
                "queries not normalised",
                attend.replace("(z, z, z,", "(x, z, z,"),
                "With pre-norm, keys and values are normalised but the queries are x itself. The "
                "sublayer gets one normalised sequence, and all three are that one.",
            ),
            (
                "nothing normalised before the attention",
                attend.replace("(z, z, z,", "(x, x, x,"),
                "The self-attention reads x, whatever the connection hands to it. With pre-norm "
                "that is the normalised x.",
            ),
            (
                "no self-attention",
                "pass",
                "The self-attention is left out.",
            ),
            (
                "no connection around the self-attention",
                "x = self.self_attention(x, x, x, mask)[0]",
                "The self-attention has no connection around it: residual and norm are missing.",
            ),
            (
                "the last mask kept",
                "mask = self.kept = getattr(self, 'kept', None) if mask is None else mask\n"
                f"        {attend}",
                "A mask of an earlier call is still used when a call comes without one. None "
                "means: everywhere.",
            ),
            (
                "the attention cut from the graph",
                attend.replace("[0])", "[0].detach())"),
                "What the self-attention returns is detached: it could not learn.",
            ),
            (
                "the future masked unasked",
                "if mask is None:\n"
                "            n = x.size(1)\n"
                "            mask = torch.ones(n, n, device=x.device).tril().bool()\n"
                f"        {attend}",
                "Without a mask every position may attend to every other; here a causal mask "
                "comes in that nobody passed.",
            ),
            (
                "a second residual",
                "x = x + self.residuals[0](x, lambda z: self.self_attention(z, z, z, mask)[0])",
                "x is added once more around the connection, which adds it already.",
            ),
            (
                "the feed-forward network twice",
                attend + f"\n        x = {feed}",
                "The feed-forward network is used twice; it comes once, at the end.",
            ),
        ),
        *edits_of(
            feed,
            (
                "no feed-forward network",
                "x",
                "The feed-forward network is left out.",
            ),
            (
                "no connection around the feed-forward network",
                "self.feed_forward(x)",
                "The feed-forward network has no connection around it: residual and norm are "
                "missing.",
            ),
            (
                "one connection for the first sublayer and the last",
                "self.residuals[0](x, self.feed_forward)",
                "The feed-forward network uses the connection of the self-attention. Each "
                "sublayer has a norm of its own.",
            ),
            (
                "a second residual around the feed-forward network",
                f"x + {feed}",
                "x is added once more around the last connection, which adds it already.",
            ),
            (
                "the weights returned as well",
                f"{feed}, None",
                "More than the block's output is returned, which should be one tensor.",
            ),
        ),
        *edits_of(
            connections,
            (
                "norm_first not passed on",
                f"SublayerConnection(d_model, p) for _ in range({last + 1})",
                "norm_first has no effect: the connections are not told.",
            ),
            (
                "p not passed on",
                f"SublayerConnection(d_model, norm_first=norm_first) for _ in range({last + 1})",
                "p has no effect: the connections are not told.",
            ),
            (
                "p in the first connection only",
                f"SublayerConnection(d_model, p * (i == 0), norm_first) for i in range({last + 1})",
                "Only the first connection drops; all should.",
            ),
            (
                "p in the last connection only",
                f"SublayerConnection(d_model, p * (i == {last}), norm_first) "
                f"for i in range({last + 1})",
                "Only the last connection drops; all should.",
            ),
            (
                "pre-norm in the first connection only",
                f"SublayerConnection(d_model, p, norm_first and i == 0) for i in range({last + 1})",
                "norm_first reaches the first connection only; the others stay post-norm.",
            ),
            (
                "always pre-norm",
                f"SublayerConnection(d_model, p, True) for _ in range({last + 1})",
                "The block is pre-norm whatever norm_first says.",
            ),
            (
                "one connection too many",
                f"SublayerConnection(d_model, p, norm_first) for _ in range({last + 2})",
                f"There are {last + 2} connections, one more than sublayers.",
            ),
        ),
        *edits(
            [
                (
                    "one head",
                    "self.self_attention = MultiHeadAttention(d_model, num_heads)",
                    "self.self_attention = MultiHeadAttention(d_model, 1)",
                    "num_heads does not reach the self-attention.",
                ),
                (
                    "d_ff not passed on",
                    "PositionwiseFeedForward(d_model, d_ff)",
                    "PositionwiseFeedForward(d_model, 4 * d_model)",
                    "The argument d_ff has no effect on the feed-forward network.",
                ),
                (
                    "d_model and d_ff exchanged",
                    "PositionwiseFeedForward(d_model, d_ff)",
                    "PositionwiseFeedForward(d_ff, d_model)",
                    "The feed-forward network takes d_model first, then d_ff.",
                ),
                (
                    "pre-norm by default",
                    "norm_first: bool = False",
                    "norm_first: bool = True",
                    "Left out, norm_first means False: the order of the paper.",
                ),
            ]
        ),
    ]


EncoderBlock = Exercise(
    "EncoderBlock",
    oracle=EncoderBlockByTorch,
    forbids=SHORT_CUTS,
    mistakes=[
        *block_mistakes(1),
        Mistake.edits_of(
            "the two side by side",
            [
                ("x = self.residuals[0](x,", "first = self.residuals[0](x,"),
                (
                    "y: Tensor = self.residuals[1](x, self.feed_forward)",
                    "y = first + self.residuals[1](x, self.feed_forward) - x",
                ),
            ],
            "The feed-forward network reads what came into the block. It comes after the "
            "attention, and reads what that connection returns.",
        ),
        Mistake.edits_of(
            "the feed-forward network first",
            [
                (
                    "x = self.residuals[0](x, lambda z: self.self_attention(z, z, z, mask)[0])",
                    "x = self.residuals[1](x, self.feed_forward)",
                ),
                (
                    "y: Tensor = self.residuals[1](x, self.feed_forward)\n",
                    "y = self.residuals[0](x, lambda z: self.self_attention(z, z, z, mask)[0])\n",
                ),
            ],
            "The feed-forward network comes before the attention; it comes after it.",
        ),
        Mistake.edits_of(
            "connections exchanged",
            [
                ("self.residuals[0](x,", "self.residuals[-1](x,"),
                ("self.residuals[1](x,", "self.residuals[0](x,"),
            ],
            "The attention uses the second connection and the feed-forward network the first. "
            "They stand in the list in the order of their use.",
        ),
        Mistake(
            "one norm for both",
            "        self.residuals = nn.ModuleList(",
            "        shared = SublayerConnection(d_model, p, norm_first)\n"
            "        self.residuals = nn.ModuleList(shared for _ in range(2))\n"
            "        return\n        self.residuals = nn.ModuleList(",
            "Both connections are the same module. Each sublayer has a norm of its own.",
        ),
    ],
    variants=variants("""
        named functions inside
            class EncoderBlock(nn.Module):
                def __init__(self, d_model, num_heads, d_ff, p=0.0, norm_first=False):
                    super().__init__()
                    first = SublayerConnection(d_model, p=p, norm_first=norm_first)
                    second = SublayerConnection(d_model, p=p, norm_first=norm_first)
                    self.residuals = nn.ModuleList([first, second])
                    self.feed_forward = PositionwiseFeedForward(d_model, d_ff)
                    self.self_attention = MultiHeadAttention(d_model, num_heads)
                def forward(self, x, mask=None):
                    def attend(z):
                        output, _ = self.self_attention(query=z, key=z, value=z, mask=mask)
                        return output
                    attention, feed_forward = self.residuals
                    return feed_forward(attention(x, attend), lambda z: self.feed_forward(z))

        without calling the connections
            class EncoderBlock(nn.Module):
                def __init__(self, d_model, num_heads, d_ff, p=0.0, norm_first=False):
                    super().__init__()
                    self.self_attention = MultiHeadAttention(d_model, num_heads)
                    self.feed_forward = PositionwiseFeedForward(d_model, d_ff)
                    self.residuals = nn.ModuleList()
                    for _ in range(2):
                        self.residuals.append(SublayerConnection(d_model, p, norm_first))
                    self.norm_first = norm_first
                    self.drop = nn.Dropout(p)
                def forward(self, x, mask=None):
                    one, two = (residual.norm for residual in self.residuals)
                    if self.norm_first:
                        z = one(x)
                        x = x + self.drop(self.self_attention(z, z, z, mask)[0])
                        return x + self.drop(self.feed_forward(two(x)))
                    x = one(x + self.drop(self.self_attention(x, x, x, mask)[0]))
                    return two(x + self.drop(self.feed_forward(x)))

        a loop over the sublayers
            class EncoderBlock(nn.Module):
                def __init__(self, d_model, num_heads, d_ff, p=0.0, norm_first=False):
                    super().__init__()
                    self.self_attention = MultiHeadAttention(d_model, num_heads)
                    self.feed_forward = PositionwiseFeedForward(d_model, d_ff)
                    self.residuals = nn.ModuleList(
                        [SublayerConnection(d_model, p, norm_first) for _ in "ab"]
                    )
                def forward(self, x, mask=None):
                    attend = lambda z: self.self_attention(z, z, z, mask)[0]
                    for residual, sublayer in zip(self.residuals, (attend, self.feed_forward)):
                        x = residual(x, sublayer)
                    return x
    """),
)


@EncoderBlock.test(
    points=0.25,
    cases=[
        Case(
            "names and shapes of the parameters",
            names_and_shapes,
            lambda make: {"sizes": {"d_model": 6, "num_heads": 2, "d_ff": make.choice([9, 11])}},
        )
    ],
)
def test_encoder_block_parameters(submission, case):
    """Has the parts of the docstring"""
    submission.matches_reference(case)


@EncoderBlock.test(
    points=1.5,
    cases=[
        *in_both_orders("no mask", encoder_block),
        *in_both_orders("a batch of one", encoder_block, batch=1, heads=2, n=7),
        *in_both_orders("a mask for each sequence", encoder_block, masks=[(3, 5, 5)], batch=3),
        *in_both_orders("a mask of padded keys", encoder_block, masks=[(3, 1, 5)], batch=3),
        case_of("the defaults", through, lambda make: sizes_of_defaults(encoder_block(make))),
        case_of(
            "with a mask, then without",
            through_twice,
            lambda make: encoder_block(make, masks=[(5, 5)]),
        ),
    ],
)
def test_attends_then_feeds_forward(submission, case):
    """Attends, then feeds forward"""
    submission.matches_reference(case)


@EncoderBlock.test(
    points=0.5,
    cases=[
        *in_both_orders("everything dropped", encoder_block, p=1.0),
        *in_both_orders("evaluation mode", encoder_block, p=0.6, training=False),
        case_of(
            "gradients",
            backward_through,
            lambda make: encoder_block(
                make, True, masks=[(2, 5, 5)], cotangent=make.normal(2, 5, 12)
            ),
            loosen=100.0,
        ),
    ],
)
def test_encoder_block_trains(submission, case):
    """Drops in training, and passes gradients back"""
    submission.matches_reference(case)


@EncoderBlock.test(
    points=0.25,
    cases=[
        *in_both_orders("a mask for each sequence", encoder_block, masks=[(2, 5, 5)]),
        case_of("no mask", through, encoder_block),
    ],
)
def test_encoder_block_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ------------------------------------------------------------------------------- DecoderBlock


class DecoderBlockByTorch(BlockByTorch):
    def __init__(self, d_model, num_heads, d_ff, p=0.0, norm_first=False):
        both = ["self_attention", "cross_attention"]
        super().__init__(both, d_model, num_heads, d_ff, p, norm_first)

    def forward(self, x, memory, mask=None, memory_mask=None):
        attention, cross = self.self_attention, self.cross_attention
        x = self.add(x, 0, lambda z: attention(z, z, z, mask)[0])
        x = self.add(x, 1, lambda z: cross(z, memory, memory, memory_mask)[0])
        return self.add(x, 2, self.feed_forward)


def decoder_block(
    make, norm_first=False, *, p=0.0, batch=2, heads=3, n=5, m=7, masks=(), **options
):
    d_model, d_ff = 4 * heads, 10
    shapes = block_shapes("", ["self_attention", "cross_attention"], d_model, d_ff)
    drawn = [None if shape is None else some_mask(make, *shape) for shape in masks]
    if drawn and drawn[0] is not None:
        drawn[0] &= torch.ones(n, n, dtype=torch.bool).tril()
    return {
        "sizes": {
            "d_model": d_model,
            "num_heads": heads,
            "d_ff": d_ff,
            "p": p,
            "norm_first": norm_first,
        },
        "weights": draw(make, shapes),
        "sequences": [
            make.normal(batch, n, d_model, mean=0.3, std=1.5),
            make.normal(batch, m, d_model, mean=-0.4, std=1.5),
        ],
        "masks": drawn,
        **options,
    }


CROSS = (
    "x = self.residuals[1](x, lambda z: self.cross_attention(z, memory, memory, memory_mask)[0])"
)
SELF = "x = self.residuals[0](x, lambda z: self.self_attention(z, z, z, mask)[0])"
FEED = "y: Tensor = self.residuals[2](x, self.feed_forward)"

DecoderBlock = Exercise(
    "DecoderBlock",
    oracle=DecoderBlockByTorch,
    forbids=SHORT_CUTS,
    mistakes=[
        *block_mistakes(2),
        *edits_of(
            CROSS,
            (
                "memory mask ignored",
                CROSS.replace(", memory_mask)", ")"),
                "The mask of the cross attention changes nothing, so padding of the source is "
                "read; pass it on.",
            ),
            (
                "memory mask the wrong way round",
                CROSS.replace(", memory_mask)", ", None if memory_mask is None else ~memory_mask)"),
                "The memory's mask is turned round on its way into the cross attention. True "
                "means the same there: a query may attend.",
            ),
            (
                "no cross attention",
                "pass",
                "The cross attention is left out, so the block never reads the source.",
            ),
            (
                "no connection around the cross attention",
                "x = self.cross_attention(x, memory, memory, memory_mask)[0]",
                "The cross attention has no connection around it: residual and norm are missing.",
            ),
            (
                "the memory normalised",
                CROSS.replace("memory, memory,", "*[self.residuals[1].norm(memory)] * 2,"),
                "The memory goes through the connection's norm; the docstring takes it as it is.",
            ),
            (
                "queries of the cross attention not normalised",
                CROSS.replace("(z, memory", "(x, memory"),
                "With pre-norm, the cross attention's queries are x itself, not what the "
                "connection hands over.",
            ),
            (
                "the cross attention reads the target",
                "x = self.residuals[1](x, lambda z: self.cross_attention(z, z, z, mask)[0])",
                "The cross attention reads the target once more. Its keys and values come from "
                "the memory.",
            ),
            (
                "the memory's last mask kept",
                "memory_mask = self.kept = "
                "getattr(self, 'kept', None) if memory_mask is None else memory_mask\n"
                "        " + CROSS,
                "A mask of the memory of an earlier call is still used when a call comes without "
                "one. None means: everywhere.",
            ),
            (
                "queries from the memory, under its mask",
                CROSS.replace("(z, memory, memory, ", "(memory, z, z, "),
                "Queries come from the memory and keys from the target; it is the target that "
                "reads.",
            ),
            (
                "values from the target",
                CROSS.replace("(z, memory, memory, ", "(z, memory, z, "),
                "The cross attention's values come from the target; keys and values both come "
                "from the memory.",
            ),
            (
                "keys from the target",
                CROSS.replace("(z, memory, memory, ", "(z, z, memory, "),
                "The cross attention's keys come from the target; keys and values both come from "
                "the memory.",
            ),
            (
                "the memory cut from the graph",
                CROSS.replace("memory, memory,", "*[memory.detach()] * 2,"),
                "No gradient passes to the memory: it is detached, so the encoder could not learn.",
            ),
            (
                "queries from the memory",
                CROSS.replace("(z, memory, memory, memory_mask)", "(memory, z, z)"),
                "Queries come from the memory and keys from the target; it is the target that "
                "reads.",
            ),
            (
                "self_attention used for both",
                CROSS.replace("self.cross_attention", "self.self_attention"),
                "The cross attention is done by self_attention; it has weights of its own.",
            ),
            (
                "the connection of the self-attention for both",
                CROSS.replace("residuals[1]", "residuals[0]"),
                "The cross attention uses the connection of the self-attention. Each sublayer has "
                "a norm of its own.",
            ),
            (
                "cross attention twice",
                CROSS + "\n        " + CROSS,
                "The cross attention is used twice; once is what the figure shows.",
            ),
        ),
        *edits(
            [
                (
                    "one head in the cross attention",
                    "self.cross_attention = MultiHeadAttention(d_model, num_heads)",
                    "self.cross_attention = MultiHeadAttention(d_model, 1)",
                    "num_heads does not reach the cross attention.",
                ),
                (
                    "the same attention under two names",
                    "self.cross_attention = MultiHeadAttention(d_model, num_heads)",
                    "self.cross_attention = self.self_attention",
                    "Self-attention and cross attention are the same module; each has weights of "
                    "its own.",
                ),
            ]
        ),
        Mistake.edits_of(
            "masks exchanged",
            [
                (SELF, SELF.replace(", mask)", ", memory_mask)")),
                (CROSS, CROSS.replace("memory_mask)", "mask)")),
            ],
            "The two masks have changed places: mask is for the self-attention, memory_mask for "
            "the cross attention.",
        ),
        Mistake.edits_of(
            "the memory normalised with pre-norm",
            [
                (
                    CROSS,
                    "if self.norm_first:\n            memory = self.residuals[1].norm(memory)\n"
                    "        " + CROSS,
                ),
                (
                    "        self.residuals = nn.ModuleList(",
                    "        self.norm_first = norm_first\n        self.residuals = nn.ModuleList(",
                ),
            ],
            "With pre-norm, the memory goes through the connection's norm as well. Only the "
            "target does; the memory is taken as it is.",
        ),
        Mistake.edits_of(
            "the memory's mask where there is no other",
            [
                (
                    SELF,
                    "own = memory_mask if mask is None and memory.shape == x.shape else mask\n"
                    "        " + SELF.replace(", mask)", ", own)"),
                )
            ],
            "Where mask is None, the self-attention takes the memory's mask. None means "
            "everywhere.",
        ),
        Mistake.edits_of(
            "the memory's mask for both",
            [(SELF, SELF.replace(", mask)", ", memory_mask)"))],
            "The self-attention gets the mask of the memory; it has one of its own.",
        ),
        Mistake.edits_of(
            "cross attention first",
            [(SELF, CROSS), (f"{CROSS}\n        {FEED}", f"{SELF}\n        {FEED}")],
            "The cross attention comes before the self-attention; it should come after it.",
        ),
        Mistake.edits_of(
            "cross attention first, in the first connection",
            [
                (SELF, CROSS.replace("residuals[1]", "residuals[0]")),
                (
                    f"{CROSS}\n        {FEED}",
                    f"{SELF.replace('residuals[0]', 'residuals[1]')}\n        {FEED}",
                ),
            ],
            "The cross attention comes before the self-attention; it should come after it.",
        ),
        Mistake.edits_of(
            "cross attention last",
            [
                (
                    f"{CROSS}\n        {FEED}",
                    f"{FEED.replace('y: Tensor', 'x')}\n        {CROSS.replace('x =', 'y =', 1)}",
                )
            ],
            "The cross attention comes after the feed-forward network, which should be last.",
        ),
        Mistake.edits_of(
            "connections of the last two exchanged",
            [
                (CROSS, CROSS.replace("residuals[1]", "residuals[-1]")),
                (FEED, FEED.replace("residuals[2]", "residuals[1]")),
            ],
            "The cross attention uses the last connection and the feed-forward network the one "
            "before. They stand in the list in the order of their use.",
        ),
        Mistake.edits_of(
            "queries from what came in",
            [
                (SELF, "first = x\n        " + SELF),
                (CROSS, CROSS.replace("(z, memory", "(first, memory")),
            ],
            "The cross attention's queries are made of what came into the block, before the "
            "self-attention.",
        ),
    ],
    variants=variants("""
        named functions inside
            class DecoderBlock(nn.Module):
                def __init__(self, d_model, num_heads, d_ff, p=0.0, norm_first=False):
                    super().__init__()
                    connections = [SublayerConnection(d_model, p, norm_first) for _ in range(3)]
                    self.residuals = nn.ModuleList(connections)
                    self.cross_attention = MultiHeadAttention(d_model, num_heads)
                    self.self_attention = MultiHeadAttention(d_model, num_heads)
                    self.feed_forward = PositionwiseFeedForward(d_model, d_ff)
                def forward(self, x, memory, mask=None, memory_mask=None):
                    def look_back(z):
                        output, _ = self.self_attention(z, z, z, mask=mask)
                        return output
                    def look_across(z):
                        output, _ = self.cross_attention(z, memory, memory, mask=memory_mask)
                        return output
                    steps = (look_back, look_across, self.feed_forward)
                    for residual, step in zip(self.residuals, steps):
                        x = residual(x, step)
                    return x

        without calling the connections
            class DecoderBlock(nn.Module):
                def __init__(self, d_model, num_heads, d_ff, p=0.0, norm_first=False):
                    super().__init__()
                    self.self_attention = MultiHeadAttention(d_model, num_heads)
                    self.cross_attention = MultiHeadAttention(d_model, num_heads)
                    self.feed_forward = PositionwiseFeedForward(d_model, d_ff)
                    self.residuals = nn.ModuleList(
                        SublayerConnection(d_model, p, norm_first) for _ in range(3)
                    )
                    self.norm_first, self.p = norm_first, p
                def drop(self, x):
                    return nn.functional.dropout(x, self.p, self.training)
                def forward(self, x, memory, mask=None, memory_mask=None):
                    a, b, c = (residual.norm for residual in self.residuals)
                    if self.norm_first:
                        z = a(x)
                        x = x + self.drop(self.self_attention(z, z, z, mask)[0])
                        x = x + self.drop(
                            self.cross_attention(b(x), memory, memory, memory_mask)[0]
                        )
                        return x + self.drop(self.feed_forward(c(x)))
                    x = a(x + self.drop(self.self_attention(x, x, x, mask)[0]))
                    x = b(x + self.drop(self.cross_attention(x, memory, memory, memory_mask)[0]))
                    return c(x + self.drop(self.feed_forward(x)))

        masks made when they are missing
            class DecoderBlock(nn.Module):
                def __init__(self, d_model, num_heads, d_ff, p=0.0, norm_first=False):
                    super().__init__()
                    self.self_attention = MultiHeadAttention(d_model, num_heads)
                    self.cross_attention = MultiHeadAttention(d_model, num_heads)
                    self.feed_forward = PositionwiseFeedForward(d_model, d_ff)
                    self.residuals = nn.ModuleList([
                        SublayerConnection(d_model, p, norm_first),
                        SublayerConnection(d_model, p, norm_first),
                        SublayerConnection(d_model, p, norm_first),
                    ])
                def forward(self, x, memory, mask=None, memory_mask=None):
                    everywhere = torch.ones(1, 1, dtype=torch.bool, device=x.device)
                    mask = everywhere if mask is None else mask
                    memory_mask = everywhere if memory_mask is None else memory_mask
                    x = self.residuals[0](x, lambda y: self.self_attention(y, y, y, mask)[0])
                    x = self.residuals[1](
                        x, lambda y: self.cross_attention(y, memory, memory, memory_mask)[0]
                    )
                    return self.residuals[2](x, self.feed_forward)
    """),
)

TWO_MASKS = [(3, 5, 5), (3, 5, 7)]


def with_memory_mask(make):
    inputs = decoder_block(make, masks=[(5, 5), (2, 1, 5)], m=5)
    return {**inputs, "masks": [None, inputs["masks"][1]]}


@DecoderBlock.test(
    points=0.25,
    cases=[
        Case(
            "names and shapes of the parameters",
            names_and_shapes,
            lambda make: {"sizes": {"d_model": 6, "num_heads": 2, "d_ff": make.choice([9, 11])}},
        )
    ],
)
def test_decoder_block_parameters(submission, case):
    """Has the parts of the docstring"""
    submission.matches_reference(case)


@DecoderBlock.test(
    points=2,
    cases=[
        *in_both_orders("no masks", decoder_block),
        *in_both_orders("a batch of one", decoder_block, batch=1, heads=2, n=6, m=4),
        *in_both_orders("both masks", decoder_block, masks=TWO_MASKS, batch=3),
        *in_both_orders("masks that broadcast", decoder_block, masks=[(5, 5), (2, 1, 7)]),
        *in_both_orders("as long as its memory", decoder_block, masks=[(5, 5), (2, 1, 5)], m=5),
        case_of("no mask but the memory's", through, with_memory_mask),
        case_of(
            "with masks, then without",
            through_twice,
            lambda make: decoder_block(make, masks=[(5, 5), (2, 1, 7)]),
        ),
        case_of("the defaults", through, lambda make: sizes_of_defaults(decoder_block(make))),
    ],
)
def test_reads_target_then_source(submission, case):
    """Reads the target, then the source, then feeds forward"""
    submission.matches_reference(case)


@DecoderBlock.test(
    points=0.5,
    cases=[
        *in_both_orders("everything dropped", decoder_block, p=1.0),
        *in_both_orders("evaluation mode", decoder_block, p=0.6, training=False),
        case_of(
            "gradients",
            backward_through,
            lambda make: decoder_block(
                make, True, batch=3, masks=TWO_MASKS, cotangent=make.normal(3, 5, 12)
            ),
            loosen=100.0,
        ),
    ],
)
def test_decoder_block_trains(submission, case):
    """Drops in training, and passes gradients back"""
    submission.matches_reference(case)


@DecoderBlock.test(
    points=0.25,
    cases=[
        *in_both_orders("both masks", decoder_block, masks=TWO_MASKS, batch=3),
        case_of("no masks", through, decoder_block),
    ],
)
def test_decoder_block_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# -------------------------------------------------------------------------------- Transformer


class TransformerByTorch(nn.Module):
    """The whole, with one-hot words and positions, out of the oracles' own blocks."""

    def __init__(
        self,
        src_vocab_size,
        tgt_vocab_size,
        d_model,
        num_heads,
        d_ff,
        num_layers,
        max_len,
        p=0.0,
        norm_first=False,
        pad=0,
    ):
        super().__init__()
        self.pad, self.p = pad, p
        sizes = (d_model, num_heads, d_ff, p, norm_first)
        self.src_embedding = nn.Embedding(src_vocab_size, d_model)
        self.tgt_embedding = nn.Embedding(tgt_vocab_size, d_model)
        self.src_positions = nn.Embedding(max_len, d_model)
        self.tgt_positions = nn.Embedding(max_len, d_model)
        self.encoder = nn.ModuleList(EncoderBlockByTorch(*sizes) for _ in range(num_layers))
        self.decoder = nn.ModuleList(DecoderBlockByTorch(*sizes) for _ in range(num_layers))
        norm = nn.LayerNorm if norm_first else nn.Identity
        self.encoder_norm, self.decoder_norm = norm(d_model), norm(d_model)
        self.output = nn.Linear(d_model, tgt_vocab_size)

    def embedded(self, words, embedding, positions):
        one_hot = nn.functional.one_hot(words, embedding.num_embeddings).to(embedding.weight)
        x = one_hot @ embedding.weight + positions.weight[: words.size(1)]
        return nn.functional.dropout(x, self.p, self.training)

    def encode(self, source):
        mask = source.ne(self.pad)[:, None, :]
        x = self.embedded(source, self.src_embedding, self.src_positions)
        for block in self.encoder:
            x = block(x, mask)
        return self.encoder_norm(x), mask

    def decode(self, target, memory, memory_mask):
        index = torch.arange(target.size(1), device=target.device)
        x = self.embedded(target, self.tgt_embedding, self.tgt_positions)
        for block in self.decoder:
            x = block(x, memory, index[None, :] <= index[:, None], memory_mask)
        return self.output(self.decoder_norm(x))

    def forward(self, source, target):
        return self.decode(target, *self.encode(source))


def only_words(values, is_word):
    """Zeros where the padding is, where the docstring leaves open what is returned."""
    fits = isinstance(values, torch.Tensor) and values.shape[:2] == is_word.shape
    return values.masked_fill(~is_word.unsqueeze(-1), 0.0) if fits else values


def translate(impl, sizes, weights, source, target, training=True):
    """What encode returns, and what forward does."""
    model = load_weights(impl(**sizes), weights).train(training)
    pad = sizes.get("pad", 0)
    memory, mask = model.encode(source)
    return {
        "memory": only_words(memory, source != pad),
        "memory's mask": mask,
        "logits": only_words(model(source, target), target != pad),
    }


def decode_another(impl, sizes, weights, source, target, memory):
    """decode, with a memory that did not come from encode, and a mask with holes."""
    model = load_weights(impl(**sizes), weights)
    mask = (source % 2 == 0).unsqueeze(1)
    mask[..., 0] = True
    return only_words(model.decode(target, memory, mask), target != sizes.get("pad", 0))


def backward_to_embeddings(impl, sizes, weights, source, target, cotangent):
    model = load_weights(impl(**sizes), weights)
    parameters = dict(model.named_parameters())
    names = ("src_embedding.weight", "src_positions.weight", "tgt_positions.weight")
    logits = only_words(model(source, target), target != 0)
    found = gradients(logits, [parameters[name] for name in names], cotangent)
    return {f"gradient of {n}": g for n, g in zip(names, found, strict=True)}


def sentences(make, batch, length, *, pad, shortest=2):
    """Numbers of words below 8, the first sentence the longest, padding behind the others."""
    words = (1 + pad + make.integers(0, 7, batch, length)) % 8
    lengths = make.integers(shortest, length, batch)
    lengths[0] = length
    return words.masked_fill(torch.arange(length) >= lengths[:, None], pad)


def whole_shapes(layers, norm_first, *, src, tgt, d_model, d_ff, max_len):
    shapes = {
        "src_embedding.weight": (src, d_model),
        "tgt_embedding.weight": (tgt, d_model),
        "src_positions.weight": (max_len, d_model),
        "tgt_positions.weight": (max_len, d_model),
        **linear_shapes("output", d_model, tgt),
    }
    for i in range(layers):
        shapes |= block_shapes(f"encoder.{i}.", ["self_attention"], d_model, d_ff)
        both = ["self_attention", "cross_attention"]
        shapes |= block_shapes(f"decoder.{i}.", both, d_model, d_ff)
    if norm_first:
        shapes |= norm_shapes("encoder_", d_model) | norm_shapes("decoder_", d_model)
    return shapes


def whole(make, norm_first=False, *, p=0.0, layers=2, batch=3, pad=0, n=6, m=5, **options):
    """Inputs of the Transformer: n words of the source, m of the target."""
    fixed = {"d_model": 6, "d_ff": 9, "max_len": 8}
    return {
        "sizes": {
            "src_vocab_size": 11,
            "tgt_vocab_size": 9,
            "num_heads": 2,
            "num_layers": layers,
            "p": p,
            "norm_first": norm_first,
            "pad": pad,
            **fixed,
        },
        "weights": draw(make, whole_shapes(layers, norm_first, src=11, tgt=9, **fixed)),
        "source": sentences(make, batch, n, pad=pad),
        "target": sentences(make, batch, m, pad=pad),
        **options,
    }


def with_memory(make, norm_first):
    inputs = whole(make, norm_first)
    return {**inputs, "memory": make.normal(3, 6, 6)}


def whole_by_default(make):
    inputs = whole(make)
    sizes = inputs["sizes"]
    return {
        **inputs,
        "sizes": {k: v for k, v in sizes.items() if k not in ("p", "norm_first", "pad")},
    }


SRC = "self.src_embedding(source) + self.src_positions(positions)"
TGT = "self.tgt_embedding(target) + self.tgt_positions(positions)"
PAD_MASK = "mask = (source != self.pad).unsqueeze(1)"
CAUSAL = "mask = causal_mask(n, n, device=target.device)"
ENCODED = "            x = block(x, mask)\n"
DECODED = "x = block(x, memory, mask, memory_mask)"
ENCODER = "EncoderBlock(d_model, num_heads, d_ff, p, norm_first) for _ in range(num_layers)"
DECODER = "DecoderBlock(d_model, num_heads, d_ff, p, norm_first) for _ in range(num_layers)"
LOGITS = "logits: Tensor = self.output(self.decoder_norm(x))"
FINAL = "nn.LayerNorm(d_model) if norm_first else nn.Identity()"

Transformer = Exercise(
    "Transformer",
    oracle=TransformerByTorch,
    forbids=SHORT_CUTS,
    seconds=120.0,
    mistakes=[
        *edits_of(
            SRC,
            (
                "no positions in the source",
                "self.src_embedding(source)",
                "The source has no positions: to the encoder it is a bag of words.",
            ),
            (
                "source embedding scaled",
                SRC.replace("(source)", "(source) * self.output.in_features**0.5"),
                "The source embedding is multiplied by the root of d_model, as in the paper. Here "
                "the sum is not scaled.",
            ),
            (
                "the source in the target's embedding",
                SRC.replace("src_embedding", "tgt_embedding"),
                "The source is embedded with the target's embedding; each language has its own.",
            ),
            (
                "the target's positions for the source",
                SRC.replace("src_positions", "tgt_positions"),
                "The source gets the positions of the target; each side has its own.",
            ),
            (
                "source positions from 1",
                SRC.replace("positions(positions)", "positions(positions + 1)"),
                "The positions of the source are counted from 1; the first is 0.",
            ),
        ),
        *edits_of(
            TGT,
            (
                "no positions in the target",
                "self.tgt_embedding(target)",
                "The target has no positions, so the decoder cannot tell in which order it wrote.",
            ),
            (
                "target embedding scaled",
                TGT.replace("(target)", "(target) * self.output.in_features**0.5"),
                "The target embedding is multiplied by the root of d_model, as in the paper. Here "
                "the sum is not scaled.",
            ),
            (
                "the target in the source's embedding",
                TGT.replace("tgt_embedding", "src_embedding"),
                "The target is embedded with the source's embedding; each language has its own.",
            ),
            (
                "the source's positions for the target",
                TGT.replace("tgt_positions", "src_positions"),
                "The target gets the positions of the source; each side has its own.",
            ),
            (
                "target positions from 1",
                TGT.replace("positions(positions)", "positions(positions + 1)"),
                "The positions of the target are counted from 1; the first is 0.",
            ),
            (
                "the target shifted once more",
                TGT.replace("(target)", "(target.roll(1, dims=1))"),
                "The target is moved by one inside the model. Its caller hands it over as the "
                "decoder is to read it.",
            ),
        ),
        Mistake.edits_of(
            "no positions",
            [(SRC, "self.src_embedding(source)"), (TGT, "self.tgt_embedding(target)")],
            "Neither side has positions: to attention a sentence is then a bag of words.",
        ),
        Mistake.edits_of(
            "embeddings scaled",
            [
                (SRC, SRC.replace("(source)", "(source) * self.output.in_features**0.5")),
                (TGT, TGT.replace("(target)", "(target) * self.output.in_features**0.5")),
            ],
            "The embeddings are multiplied by the root of d_model, as in the paper. The docstring "
            "adds word and position unscaled.",
        ),
        Mistake.edits_of(
            "words and positions scaled",
            [(SRC, f"2**0.5 * ({SRC})"), (TGT, f"2**0.5 * ({TGT})")],
            "The sum of word and position is scaled; it should be left as it is.",
        ),
        Mistake.edits_of(
            "nothing dropped from the embeddings",
            [(f"self.dropout({SRC})", SRC), (f"self.dropout({TGT})", TGT)],
            "Dropout of the embeddings is missing, on both sides.",
        ),
        *edits(
            [
                (
                    "nothing dropped from the source's embedding",
                    f"self.dropout({SRC})",
                    SRC,
                    "Dropout of the source's embedding is missing.",
                ),
                (
                    "nothing dropped from the target's embedding",
                    f"self.dropout({TGT})",
                    TGT,
                    "Dropout of the target's embedding is missing.",
                ),
                (
                    "dropped before the positions",
                    f"self.dropout({SRC})",
                    "self.dropout(self.src_embedding(source)) + self.src_positions(positions)",
                    "Dropout hits the words before the positions are added; it is the sum's.",
                ),
                (
                    "blocks of the encoder do not drop",
                    ENCODER,
                    ENCODER.replace(" p,", " 0.0,"),
                    "p does not reach the blocks of the encoder.",
                ),
                (
                    "blocks of the decoder do not drop",
                    DECODER,
                    DECODER.replace(" p,", " 0.0,"),
                    "p does not reach the blocks of the decoder.",
                ),
                (
                    "encoder always post-norm",
                    ENCODER,
                    ENCODER.replace("p, norm_first", "p"),
                    "norm_first does not reach the blocks of the encoder.",
                ),
                (
                    "decoder always post-norm",
                    DECODER,
                    DECODER.replace("p, norm_first", "p"),
                    "norm_first does not reach the blocks of the decoder.",
                ),
                (
                    "one block in the encoder",
                    ENCODER,
                    ENCODER.replace("range(num_layers)", "range(1)"),
                    "The encoder has one block, whatever num_layers says.",
                ),
                (
                    "one block in the decoder",
                    DECODER,
                    DECODER.replace("range(num_layers)", "range(1)"),
                    "The decoder has one block, whatever num_layers says.",
                ),
                (
                    "one head in the encoder",
                    ENCODER,
                    ENCODER.replace("num_heads", "1"),
                    "num_heads does not reach the blocks of the encoder.",
                ),
                (
                    "one head in the decoder",
                    DECODER,
                    DECODER.replace("num_heads", "1"),
                    "num_heads does not reach the blocks of the decoder.",
                ),
                (
                    "the same block again and again in the encoder",
                    "        self.encoder_norm",
                    "        for i in range(1, num_layers):\n"
                    "            self.encoder[i] = self.encoder[0]\n"
                    "        self.encoder_norm",
                    "The encoder's blocks are all the same module; each has weights of its own.",
                ),
                (
                    "the same block again and again in the decoder",
                    "        self.encoder_norm",
                    "        for i in range(1, num_layers):\n"
                    "            self.decoder[i] = self.decoder[0]\n"
                    "        self.encoder_norm",
                    "The decoder's blocks are all the same module; each has weights of its own.",
                ),
            ]
        ),
        *edits_of(
            PAD_MASK,
            (
                "0 taken for the padding",
                PAD_MASK.replace("self.pad", "0"),
                "The mask looks for zeros; the argument pad says which number fills up.",
            ),
            (
                "mask the wrong way round",
                PAD_MASK.replace("!=", "=="),
                "The mask is True where the padding is; True should be where a word is.",
            ),
            (
                "no dimension for the queries",
                PAD_MASK.replace(".unsqueeze(1)", ""),
                "The mask has shape (batch, source positions). Broadcast against (batch, queries, "
                "keys), its batch would line up with the queries.",
            ),
            (
                "nothing masked",
                PAD_MASK.replace("source != self.pad", "torch.ones_like(source, dtype=torch.bool)"),
                "The mask is True everywhere, so padding is read like words.",
            ),
        ),
        *edits_of(
            ENCODED,
            (
                "the encoder reads padding",
                ENCODED.replace("x, mask", "x"),
                "The encoder's blocks do not get the mask, and read the padding.",
            ),
            (
                "the encoder's blocks side by side",
                "            embedded = x if block is self.encoder[0] else embedded\n"
                "            x = block(embedded, mask)\n",
                "Only the last block of the encoder counts: each should read what the one before "
                "it returned.",
            ),
            (
                "a residual around the encoder's blocks",
                ENCODED.replace("= block", "= x + block"),
                "x is added once more around each block, which has residuals inside already.",
            ),
            (
                "the encoder's blocks in reverse order",
                "            pass\n        for block in reversed(self.encoder):\n" + ENCODED,
                "The blocks of the encoder are used from the last to the first.",
            ),
        ),
        *edits_of(
            DECODED,
            (
                "the decoder sees the future",
                DECODED.replace("memory, mask", "memory, None"),
                "The decoder's blocks get no causal mask, so each position sees the very word "
                "that it is to predict.",
            ),
            (
                "the decoder reads padding of the source",
                DECODED.replace(", memory_mask", ""),
                "The decoder's blocks do not get the memory's mask, and read the source's padding.",
            ),
            (
                "the decoder's masks exchanged",
                DECODED.replace("mask, memory_mask", "memory_mask, mask"),
                "The causal mask and the memory's mask have changed places.",
            ),
            (
                "memory and target exchanged",
                DECODED.replace("x, memory, mask, memory_mask", "memory, x, None, mask"),
                "The decoder's blocks transform the memory and read the target; it is the other "
                "way round.",
            ),
            (
                "the decoder's blocks side by side",
                "embedded = x if block is self.decoder[0] else embedded\n"
                "            " + DECODED.replace("(x,", "(embedded,"),
                "Every block of the decoder reads the embedding; each should read what the one "
                "before returned.",
            ),
            (
                "a residual around the decoder's blocks",
                DECODED.replace("= block", "= x + block"),
                "x is added once more around each block, which has residuals inside already.",
            ),
            (
                "the decoder's blocks in reverse order",
                "pass\n        for block in reversed(self.decoder):\n            " + DECODED,
                "The blocks of the decoder are used from the last to the first.",
            ),
        ),
        *edits_of(
            CAUSAL,
            (
                "a position does not see itself",
                CAUSAL + "\n        mask = mask & mask.roll(1, dims=0)",
                "A position of the target does not see itself; it may see that and all before.",
            ),
            (
                "the causal mask turned round",
                CAUSAL + ".T",
                "Positions of the target see what is behind them instead of what is before.",
            ),
            (
                "padding masked in place of the future",
                "mask = (target != self.pad).unsqueeze(1)",
                "The target's padding is masked, and not the future: each position sees the very "
                "word that it is to predict.",
            ),
        ),
        *edits(
            [
                (
                    "no norm after the encoder",
                    f"self.encoder_norm = {FINAL}",
                    "self.encoder_norm = nn.Identity()",
                    "With pre-norm, what leaves the encoder has never been normalised as a whole: "
                    "a layer norm stands after its last block.",
                ),
                (
                    "no norm after the decoder",
                    f"self.decoder_norm = {FINAL}",
                    "self.decoder_norm = nn.Identity()",
                    "With pre-norm, what leaves the decoder has never been normalised as a whole: "
                    "a layer norm stands after its last block.",
                ),
                (
                    "the norm after the encoder not used",
                    "self.encoder_norm(x), mask",
                    "x, mask",
                    "The encoder's last norm is there, but is not used.",
                ),
                (
                    "the norm after the decoder not used",
                    "self.decoder_norm(x)",
                    "x",
                    "The decoder's last norm is there, but is not used.",
                ),
                (
                    "the decoder's norm after the encoder",
                    "self.encoder_norm(x), mask",
                    "self.decoder_norm(x), mask",
                    "The encoder ends with the decoder's norm; it has one of its own.",
                ),
                (
                    "norm after every block of the encoder",
                    ENCODED,
                    "            x = self.encoder_norm(block(x, mask))\n",
                    "The encoder's last norm is used after every block; it comes once, at the end.",
                ),
                (
                    "probabilities",
                    LOGITS,
                    LOGITS + ".softmax(-1)",
                    "These are probabilities; logits are what stands before the softmax.",
                ),
                (
                    "log-probabilities",
                    LOGITS,
                    LOGITS + ".log_softmax(-1)",
                    "These are log-probabilities; logits are what stands before the softmax.",
                ),
                (
                    "the last position only",
                    LOGITS,
                    LOGITS.replace("(x))", "(x[:, -1:]))"),
                    "Only the last position gets logits; in training all positions are needed.",
                ),
                (
                    "output without bias",
                    "nn.Linear(d_model, tgt_vocab_size)",
                    "nn.Linear(d_model, tgt_vocab_size, bias=False)",
                    "The output layer has no bias; the docstring asks for one.",
                ),
                (
                    "as many outputs as the source has words",
                    "nn.Linear(d_model, tgt_vocab_size)",
                    "nn.Linear(d_model, src_vocab_size)",
                    "The logits are those of the target's words; here there are as many as the "
                    "source language has.",
                ),
                (
                    "the memory cut from the graph",
                    "return self.decode(target, memory,",
                    "return self.decode(target, memory.detach(),",
                    "No gradient reaches the encoder: the memory is detached, and so only the "
                    "decoder learns.",
                ),
                (
                    "the memory's mask not used in forward",
                    "return self.decode(target, memory, mask)",
                    "return self.decode(target, memory, torch.ones_like(mask))",
                    "forward does not hand the mask of encode on to decode.",
                ),
                (
                    "only the memory returned by encode",
                    "return self.encoder_norm(x), mask",
                    "return self.encoder_norm(x)",
                    "encode returns the memory, and then its mask.",
                ),
                (
                    "mask before memory",
                    "return self.encoder_norm(x), mask",
                    "return mask, self.encoder_norm(x)",
                    "encode returns the memory first, then its mask.",
                ),
            ]
        ),
        Mistake(
            "dropped from the memory",
            "self.encoder_norm(x), mask",
            "self.dropout(self.encoder_norm(x)), mask",
            "The memory is dropped from as well. Dropout comes after the embeddings and in the "
            "blocks, nowhere else.",
        ),
        Mistake(
            "the mask in the encoder's first block only",
            ENCODED,
            "            x = block(x, mask if block is self.encoder[0] else None)\n",
            "Only the first block of the encoder gets the mask; from the second on, padding is "
            "read.",
        ),
        Mistake(
            "a target embedding of the source's size",
            "nn.Embedding(tgt_vocab_size, d_model)",
            "nn.Embedding(src_vocab_size, d_model)",
            "The target's embedding has as many rows as the source language has words; each "
            "language has its own number.",
        ),
        Mistake(
            "output tied to the embedding",
            "nn.Linear(d_model, tgt_vocab_size)\n",
            "nn.Linear(d_model, tgt_vocab_size)\n"
            "        self.output.weight = self.tgt_embedding.weight\n",
            "The output layer shares its weight with the target's embedding, as the paper does. "
            "Here both have weights of their own.",
        ),
        Mistake.edits_of(
            "a mask of two dimensions",
            [
                (PAD_MASK, PAD_MASK.replace(".unsqueeze(1)", "")),
                ("x = block(x, mask)", "x = block(x, mask.unsqueeze(1))"),
                (DECODED, DECODED.replace("memory_mask)", "memory_mask[:, None, :])")),
            ],
            "The memory's mask comes as (batch, source positions); encode returns it with a "
            "dimension for the queries, (batch, 1, source positions).",
        ),
        Mistake.edits_of(
            "the last source's mask kept",
            [
                (PAD_MASK, PAD_MASK + "\n        self.kept = mask"),
                (DECODED, DECODED.replace("memory_mask)", "self.kept)")),
            ],
            "decode uses a mask that encode has kept, whatever memory_mask is. Memory and mask "
            "may come from anywhere, as in decoding many sentences by turns.",
        ),
        Mistake.edits_of(
            "all positions embedded",
            [
                ("torch.arange(source.size(1)", "torch.arange(self.src_positions.num_embeddings"),
                ("torch.arange(n", "torch.arange(self.tgt_positions.num_embeddings"),
            ],
            "The vectors of all max_len positions are added; a sentence has only as many as it "
            "is long.",
        ),
        Mistake(
            "the target cut in forward",
            "return self.decode(target, memory, mask)",
            "return self.decode(target[:, :-1], memory, mask)",
            "forward drops the target's last word. What the decoder reads is cut by whoever "
            "calls; there are logits for every position passed.",
        ),
        Mistake.edits_of(
            "last norms with post-norm too",
            [
                (f"self.encoder_norm = {FINAL}", "self.encoder_norm = nn.LayerNorm(d_model)"),
                (f"self.decoder_norm = {FINAL}", "self.decoder_norm = nn.LayerNorm(d_model)"),
            ],
            "With post-norm every block ends with a norm already; the last norms are for pre-norm "
            "alone.",
        ),
        Mistake.edits_of(
            "no last norms",
            [
                (f"self.encoder_norm = {FINAL}", "self.encoder_norm = nn.Identity()"),
                (f"self.decoder_norm = {FINAL}", "self.decoder_norm = nn.Identity()"),
            ],
            "With pre-norm, what leaves the two stacks has never been normalised as a whole: a "
            "layer norm stands after each.",
        ),
        Mistake.edits_of(
            "last norms not used",
            [("self.encoder_norm(x), mask", "x, mask"), ("self.decoder_norm(x)", "x")],
            "The last norms of encoder and decoder are there, but are not used.",
        ),
        Mistake.edits_of(
            "norm_first not passed on",
            [
                (ENCODER, ENCODER.replace("p, norm_first", "p")),
                (DECODER, DECODER.replace("p, norm_first", "p")),
            ],
            "norm_first does not reach the blocks, on either side.",
        ),
        Mistake.edits_of(
            "p not passed on",
            [
                (ENCODER, ENCODER.replace(" p,", " 0.0,")),
                (DECODER, DECODER.replace(" p,", " 0.0,")),
            ],
            "p does not reach the blocks, on either side.",
        ),
    ],
    variants=[
        Variant.edits_of(
            "padding of the target masked as well",
            [(CAUSAL, CAUSAL + "\n        mask = mask & (target != self.pad).unsqueeze(1)")],
        ),
        Variant.edits_of(
            "positions sliced from their table",
            [
                (SRC, "self.src_embedding(source) + self.src_positions.weight[: source.size(1)]"),
                (
                    TGT,
                    "self.tgt_positions.weight[: target.size(1)] + self.tgt_embedding(target)",
                ),
            ],
        ),
        Variant.edits_of(
            "padding that embeds to zero",
            [
                (
                    "nn.Embedding(src_vocab_size, d_model)",
                    "nn.Embedding(src_vocab_size, d_model, padding_idx=pad)",
                ),
                (CAUSAL, "mask = torch.ones(n, n, device=target.device).tril().bool()"),
            ],
        ),
        *variants("""
            one function for both embeddings
                class Transformer(nn.Module):
                    def __init__(self, src_vocab_size, tgt_vocab_size, d_model, num_heads, d_ff,
                                 num_layers, max_len, p=0.0, norm_first=False, pad=0):
                        super().__init__()
                        sizes = dict(d_model=d_model, num_heads=num_heads, d_ff=d_ff)
                        sizes.update(p=p, norm_first=norm_first)
                        self.pad = pad
                        self.p = p
                        self.output = nn.Linear(d_model, tgt_vocab_size)
                        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
                        for _ in range(num_layers):
                            self.encoder.append(EncoderBlock(**sizes))
                            self.decoder.append(DecoderBlock(**sizes))
                        self.src_embedding = nn.Embedding(src_vocab_size, d_model)
                        self.tgt_embedding = nn.Embedding(tgt_vocab_size, d_model)
                        self.src_positions = nn.Embedding(max_len, d_model)
                        self.tgt_positions = nn.Embedding(max_len, d_model)
                        self.encoder_norm = nn.Identity()
                        self.decoder_norm = nn.Identity()
                        if norm_first:
                            self.encoder_norm = nn.LayerNorm(d_model)
                            self.decoder_norm = nn.LayerNorm(d_model)
                    def embed(self, words, words_table, positions_table):
                        index = torch.arange(words.shape[1], device=words.device)
                        index = index.expand(words.shape)
                        x = words_table(words) + positions_table(index)
                        return nn.functional.dropout(x, p=self.p, training=self.training)
                    def encode(self, source):
                        mask = ~torch.eq(source, self.pad)[:, None, :]
                        x = self.embed(source, self.src_embedding, self.src_positions)
                        for i in range(len(self.encoder)):
                            x = self.encoder[i](x, mask=mask)
                        x = self.encoder_norm(x)
                        return [x, mask]
                    def decode(self, target, memory, memory_mask):
                        n = target.shape[1]
                        mask = causal_mask(n, n, target.device)
                        x = self.embed(target, self.tgt_embedding, self.tgt_positions)
                        for block in self.decoder:
                            x = block(x, memory, mask=mask, memory_mask=memory_mask)
                        return self.output(self.decoder_norm(x))
                    def forward(self, source, target):
                        return self.decode(target, *self.encode(source))
        """),
    ],
)


def sizes_alone(make, norm_first):
    return {"sizes": {**whole(make, norm_first)["sizes"], "num_layers": make.choice([2, 3])}}


@Transformer.test(
    points=0.5,
    cases=[
        Case(
            f"names and shapes of the parameters, {order}",
            names_and_shapes,
            partial(sizes_alone, norm_first=first),
        )
        for order, first in (("post-norm", False), ("pre-norm", True))
    ],
)
def test_transformer_parameters(submission, case):
    """Has the parts of the docstring"""
    submission.matches_reference(case)


@Transformer.test(
    points=2.5,
    cases=[
        *in_both_orders("sentences of several lengths", whole, translate),
        case_of(
            "post-norm: a target longer than its source",
            translate,
            lambda make: whole(make, n=3, m=7, layers=1),
        ),
        case_of(
            "pre-norm: a target as long as its source",
            translate,
            lambda make: whole(make, True, n=5),
        ),
        case_of(
            "post-norm: another number for the padding",
            translate,
            lambda make: whole(make, pad=4),
        ),
        case_of(
            "pre-norm: a batch of one", translate, lambda make: whole(make, True, batch=1, layers=3)
        ),
        case_of("pre-norm: another memory", decode_another, lambda make: with_memory(make, True)),
        case_of("the defaults", translate, whole_by_default),
    ],
)
def test_encodes_and_decodes(submission, case):
    """Encodes the source, and decodes the target"""
    submission.matches_reference(case)


@Transformer.test(
    points=0.75,
    cases=[
        *in_both_orders("everything dropped", whole, translate, p=1.0),
        *in_both_orders("evaluation mode", whole, translate, p=0.6, training=False),
        case_of(
            "gradients",
            backward_to_embeddings,
            lambda make: whole(make, True, cotangent=make.normal(3, 5, 9)),
            loosen=100.0,
        ),
    ],
)
def test_transformer_trains(submission, case):
    """Drops in training, and passes gradients back to the source"""
    submission.matches_reference(case)


@Transformer.test(
    points=0.25, cases=in_both_orders("sentences of several lengths", whole, translate)
)
def test_transformer_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)
