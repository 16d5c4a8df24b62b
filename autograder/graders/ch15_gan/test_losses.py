"""What the players of a GAN minimise: six games, and the gradient penalty.

Goodfellow et al. (2014), https://arxiv.org/abs/1406.2661; Mao et al. (2017),
https://arxiv.org/abs/1611.04076; Lim & Ye (2017), https://arxiv.org/abs/1705.02894; Arjovsky et
al. (2017), https://arxiv.org/abs/1701.07875; Gulrajani et al. (2017),
https://arxiv.org/abs/1704.00028.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from autograder.spec import Case, Exercise, Mistake, Variant, gradients

# ---------------------------------------------------------------- scenarios and inputs


NO_TENSOR = "none, because the loss is not a tensor"


def loss_of_both(impl, real, fake):
    return impl(real, fake)


def loss_of_fakes(impl, fake):
    return impl(fake)


def gradients_of_both(impl, real, fake):
    real, fake = real.requires_grad_(), fake.requires_grad_()
    loss = impl(real, fake)
    if not isinstance(loss, Tensor):
        return {"the loss": loss, "the gradient of the first argument": NO_TENSOR}
    on_real, on_fake = gradients(loss, [real, fake])
    return {
        "the loss": loss,
        "the gradient of the first argument": on_real,
        "the gradient of the second argument": on_fake,
    }


def gradients_of_fakes(impl, fake):
    fake = fake.requires_grad_()
    loss = impl(fake)
    if not isinstance(loss, Tensor):
        return {"the loss": loss, "the gradient": NO_TENSOR}
    return {"the loss": loss, "the gradient": gradients(loss, [fake])[0]}


def around(make, centre, *shape, low=0.2, high=1.8):
    """Values on both sides of a centre, never at it: a kink there is never judged at its corner."""
    count = torch.Size(shape).numel()
    side = (2.0 * make.labels(count, 2) - 1).reshape(shape)
    return centre + side * make.uniform(*shape, low=low, high=high)


# Off zero, so that no mean over a batch is near zero by chance; both signs in every batch of two.
def real_batch(make, *shape):
    return around(make, 0.6, *shape, low=0.7, high=4.0)


def fake_batch(make, *shape):
    return around(make, -0.9, *shape, low=1.1, high=4.0)


def two(real_shape, fake_shape):
    return lambda make: {
        "real": real_batch(make, *real_shape),
        "fake": fake_batch(make, *fake_shape),
    }


def one(*shape):
    return lambda make: {"fake": fake_batch(make, *shape)}


def two_within(low, high, n_real, n_fake):
    return lambda make: {
        "real": make.uniform(n_real, low=low, high=high),
        "fake": make.uniform(n_fake, low=low, high=high),
    }


def two_beyond(low, high, n_real, n_fake):
    return lambda make: {
        "real": around(make, 0.0, n_real, low=low, high=high),
        "fake": around(make, 0.0, n_fake, low=low, high=high),
    }


SHAPES_OF_BOTH = [
    Case("as many fakes as reals", loss_of_both, two((6,), (6,))),
    Case("more reals than fakes", loss_of_both, two((7,), (4,))),
    Case("more fakes than reals, in columns", loss_of_both, two((3, 1), (5, 1))),
    Case("a map of outputs for each image", loss_of_both, two((2, 1, 3, 4), (3, 1, 4, 5))),
    Case("a vector and a column", loss_of_both, two((5,), (2, 1))),
    Case("outputs that could be probabilities", loss_of_both, two_within(0.1, 0.9, 6, 3)),
    Case("one real and one fake", loss_of_both, two((1,), (1,))),
]
SHAPES_OF_FAKES = [
    Case("a vector", loss_of_fakes, one(7)),
    Case("a column", loss_of_fakes, one(5, 1)),
    Case("a map of outputs for each image", loss_of_fakes, one(3, 1, 4, 5)),
    Case(
        "outputs that could be probabilities",
        loss_of_fakes,
        lambda make: {"fake": make.uniform(6, low=0.1, high=0.9)},
    ),
    Case("one fake", loss_of_fakes, one(1)),
]
GRADIENTS_OF_BOTH = [
    Case("more reals than fakes", gradients_of_both, two((6,), (4,))),
    Case("maps of outputs", gradients_of_both, two((2, 1, 3, 2), (3, 1, 2, 5))),
]
GRADIENTS_OF_FAKES = [
    Case("a vector", gradients_of_fakes, one(6)),
    Case("a map of outputs for each image", gradients_of_fakes, one(2, 1, 3, 5)),
]
EXTREMES_OF_BOTH = [
    Case("logits around ten", gradients_of_both, two_beyond(6.0, 15.0, 4, 6)),
    Case("logits in the hundreds", gradients_of_both, two_beyond(150.0, 250.0, 5, 3)),
    Case("logits near a thousand", gradients_of_both, two_beyond(800.0, 1000.0, 3, 4)),
]
EXTREMES_OF_FAKES = [
    Case(
        "logits around ten",
        gradients_of_fakes,
        lambda make: {"fake": around(make, 0.0, 6, low=6.0, high=15.0)},
    ),
    Case(
        "logits in the hundreds",
        gradients_of_fakes,
        lambda make: {"fake": around(make, 0.0, 5, low=150.0, high=250.0)},
    ),
    Case(
        "logits near a thousand",
        gradients_of_fakes,
        lambda make: {"fake": around(make, 0.0, 3, low=800.0, high=1000.0)},
    ),
    Case(
        "every fake recognised without a doubt",
        gradients_of_fakes,
        lambda make: {"fake": make.uniform(4, low=-250.0, high=-150.0)},
    ),
]
DEVICE_OF_BOTH = [Case("unequal batches", gradients_of_both, two((5,), (3, 1)))]
DEVICE_OF_FAKES = [Case("a column", gradients_of_fakes, one(4, 1))]

# ---------------------------------------------------------------- hints that games share

UNSTABLE = (
    "The formula is right, but for large logits an exponential overflows or a sigmoid rounds to "
    "exactly 0 or 1, and the logarithm is infinite. Use a function that takes the logits."
)
NOT_TAKEN = (
    "The value is right, but the branch that torch.where does not take overflows, and 0 times its "
    "gradient is NaN. Make the exponential harmless before the choice, or take a ready function."
)
CLIPPED = (
    "An epsilon or a clamp keeps the logarithm finite, but confident examples then get a wrong "
    "loss and no gradient. Use a function that takes the logits themselves."
)
WRONG_ORDER = "PyTorch's cross-entropies take the logits first and the labels second."
SUM = "These are expectations: take the mean over each batch, not the sum."
PER_EXAMPLE = (
    "The mean is over every entry of a batch: divide by how many entries it has, not by its length."
)
FIRST_DIMENSION = (
    "Averaging over the first dimension alone leaves a shape behind. The loss is one number, of "
    "shape (): average over every entry."
)
CONCATENATED = (
    "A mean over both batches together lets the larger one count more. Average each batch by "
    "itself, then add the two."
)
HALVED = "The two means are added as they are: no averaging of the two halves."
ELEMENTWISE = (
    "Adding example by example needs batches of equal size. Average each batch first, then add."
)
ONE_SIZE = "Each sum is divided by the size of its own batch, not both by the same one."
DETACHED = (
    "The detach belongs to the generator's output in the training step, not inside the loss: "
    "detached outputs teach the discriminator nothing."
)
DETACHED_RESULT = (
    "The loss that comes back is cut off from the outputs it was made of, so that backward() "
    "teaches nobody: no detach, no .data, no new tensor made of its number."
)
DETACHED_REAL = (
    "The reals' outputs are detached: the discriminator learns from both batches, real and fake."
)
ROUNDED = (
    "The logits are cut off before the loss is taken: beyond the limit the loss is wrong, and its "
    "gradient is 0. A function that is stable needs no limit."
)
EARLY = (
    "For moderately large logits this takes a straight line for the curve. The loss is exact for "
    "every logit, so leave PyTorch's own threshold as it is."
)
SHAPE = "The loss has the shape (), not (1,): a mean over every entry has no dimension left."
DETACHED_GENERATOR = (
    "The generator learns through these outputs: detaching them cuts it off from its loss."
)
NUMBER = "Return the loss as a tensor, so that backward() works; .item() is for printing."
FLOAT32 = (
    "The loss takes the dtype of its arguments: do not cast them to float32, and make labels and "
    "running totals of your own like the arguments."
)
SIGMOID = (
    "There is no sigmoid in this loss: it works on the outputs as they are, and a sigmoid would "
    "flatten its gradient."
)
ONLY_REAL = "The fakes are missing: the loss has two terms, one for each batch."
ONLY_FAKE = "The real examples are missing: the loss has two terms, one for each batch."
CPU_LABELS = (
    "Labels made without a device live on the CPU. Make them like the logits, so that they follow "
    "them to a GPU."
)


def of_line(line):
    """Mistakes in a reference of one line: ``of(name, as mistaken, hint)``."""
    return lambda name, mistaken, hint: Mistake(name, line, mistaken, hint)


def of_terms(on_real, on_fake):
    """Mistakes in both terms of a reference: ``of(name, on reals, on fakes, hint)``."""
    return lambda name, reals, fakes, hint: Mistake.edits_of(
        name, [(on_real, reals), (on_fake, fakes)], hint
    )


def batch_mistakes(on_real, on_fake):
    """Slips in averaging two batches; both terms of the reference hold a mean."""
    of, result = of_terms(on_real, on_fake), "return on_real + on_fake"

    def averaged(name, real_mean, fake_mean, hint):
        real, fake = (
            t.replace("mean()", m) for t, m in ((on_real, real_mean), (on_fake, fake_mean))
        )
        return of(name, real, fake, hint)

    def unaveraged(name, mistaken, hint):
        real, fake = (t.replace(".mean()", "") for t in (on_real, on_fake))
        return Mistake.edits_of(name, [(on_real, real), (on_fake, fake), (result, mistaken)], hint)

    end = of_line(result)
    detached = on_fake.replace("fake_logits", "fake_logits.detach()")
    detached_real = on_real.replace("real_logits", "real_logits.detach()")
    own_length = ("sum() / len(real_logits)", "sum() / len(fake_logits)")
    one_size = ("sum() / real_logits.numel()", "sum() / real_logits.numel()")
    cat = "return torch.cat([on_real.flatten(), on_fake.flatten()]).mean()"
    return [
        averaged("sums", "sum()", "sum()", SUM),
        averaged("divided by the number of examples", *own_length, PER_EXAMPLE),
        averaged("both divided by the real batch's size", *one_size, ONE_SIZE),
        averaged("averaged over the first dimension", "mean(0)", "mean(0)", FIRST_DIMENSION),
        unaveraged("one mean over both batches", cat, CONCATENATED),
        unaveraged("added example by example", "return (on_real + on_fake).mean()", ELEMENTWISE),
        end("the two means averaged", "return (on_real + on_fake) / 2", HALVED),
        end("the fakes left out", "return on_real", ONLY_REAL),
        end("the reals left out", "return on_fake", ONLY_FAKE),
        end("returned as a number", "return (on_real + on_fake).item()", NUMBER),
        end("computed in float32", "return on_real.float() + on_fake.float()", FLOAT32),
        end("detached", "return (on_real + on_fake).detach()", DETACHED_RESULT),
        end("of shape (1,)", "return (on_real + on_fake).reshape(1)", SHAPE),
        unaveraged(
            "both batches weighted by their sizes",
            "return 2 * torch.cat([on_real.flatten(), on_fake.flatten()]).mean()",
            CONCATENATED,
        ),
        Mistake("fakes detached in the loss", on_fake, detached, DETACHED),
        Mistake("reals detached in the loss", on_real, detached_real, DETACHED_REAL),
    ]


def mean_mistakes(line, argument="fake_logits"):
    """Slips in averaging one batch; the reference's line holds a mean."""
    of, body = of_line(line), line.removeprefix("return ")
    per_example = line.replace("mean()", f"sum() / len({argument})")
    detached = line.replace(argument, f"{argument}.detach()")
    return [
        of("a sum", line.replace("mean()", "sum()"), SUM),
        of("divided by the number of examples", per_example, PER_EXAMPLE),
        of("averaged over the first dimension", line.replace("mean()", "mean(0)"), FIRST_DIMENSION),
        of("detached in the loss", detached, DETACHED_GENERATOR),
        of("returned as a number", f"return ({body}).item()", NUMBER),
        of("of shape (1,)", f"return ({body}).reshape(1)", SHAPE),
        of("computed in float32", f"return ({body}).float()", FLOAT32),
    ]


def softplus_by_cases(x):
    """The mean softplus as a choice between two branches, of which the other one overflows."""
    negative, positive = f"torch.log(1 + torch.exp({x}))", f"torch.log(1 + torch.exp(-{x})) + {x}"
    return f"torch.where({x} < 0, {negative}, {positive}).mean()"


# ---------------------------------------------------------------- discriminator_loss


def cross_entropy_with_labels(real_logits, fake_logits):
    on_real = F.binary_cross_entropy_with_logits(real_logits, torch.ones_like(real_logits))
    on_fake = F.binary_cross_entropy_with_logits(fake_logits, torch.zeros_like(fake_logits))
    return on_real + on_fake


REAL = "-F.logsigmoid(real_logits).mean()"
FAKE = "-F.logsigmoid(-fake_logits).mean()"
entropies = of_terms(REAL, FAKE)

discriminator_loss = Exercise(
    "discriminator_loss",
    oracle=cross_entropy_with_labels,
    mistakes=[
        entropies(
            "labels swapped",
            "-F.logsigmoid(-real_logits).mean()",
            "-F.logsigmoid(fake_logits).mean()",
            "The labels are swapped: the discriminator calls real examples 1 and fakes 0.",
        ),
        Mistake(
            "fakes labelled real",
            FAKE,
            "-F.logsigmoid(fake_logits).mean()",
            "The fakes are labelled 1 here: that is what the generator hopes for. For the "
            "discriminator they are 0.",
        ),
        Mistake(
            "reals labelled fake",
            REAL,
            "-F.logsigmoid(-real_logits).mean()",
            "The real examples are labelled 0 here: for the discriminator they are 1.",
        ),
        Mistake(
            "maximised",
            "return on_real + on_fake",
            "return -on_real - on_fake",
            "The paper maximises this number, an optimizer minimises: turn its sign.",
        ),
        Mistake(
            "a difference of the two",
            "return on_real + on_fake",
            "return on_real - on_fake",
            "Both terms are costs and both are paid: add them.",
        ),
        entropies(
            "logarithm of the sigmoid",
            "-torch.log(torch.sigmoid(real_logits)).mean()",
            "-torch.log(1 - torch.sigmoid(fake_logits)).mean()",
            UNSTABLE,
        ),
        entropies(
            "overflow in the branch not taken",
            softplus_by_cases("(-real_logits)"),
            softplus_by_cases("fake_logits"),
            NOT_TAKEN,
        ),
        entropies(
            "exponential over- or underflows",
            "-torch.log(torch.sigmoid(real_logits)).mean()",
            "-torch.log(torch.sigmoid(-fake_logits)).mean()",
            UNSTABLE,
        ),
        *(
            entropies(
                f"epsilon in the logarithm, {eps}",
                f"-torch.log(torch.sigmoid(real_logits) + {eps}).mean()",
                f"-torch.log(1 - torch.sigmoid(fake_logits) + {eps}).mean()",
                CLIPPED,
            )
            for eps in ("1e-7", "1e-8", "1e-10", "1e-12")
        ),
        *(
            entropies(
                f"logits cut off at {limit}",
                f"-F.logsigmoid(real_logits.clamp(-{limit}, {limit})).mean()",
                f"-F.logsigmoid(-fake_logits.clamp(-{limit}, {limit})).mean()",
                ROUNDED,
            )
            for limit in (10, 20, 30, 50, 80)
        ),
        entropies(
            "clamped probabilities",
            "-torch.log(torch.sigmoid(real_logits).clamp(1e-7, 1 - 1e-7)).mean()",
            "-torch.log(1 - torch.sigmoid(fake_logits).clamp(1e-7, 1 - 1e-7)).mean()",
            CLIPPED,
        ),
        entropies(
            "sigmoid, then binary_cross_entropy",
            "F.binary_cross_entropy(real_logits.sigmoid(), torch.ones_like(real_logits))",
            "F.binary_cross_entropy(fake_logits.sigmoid(), torch.zeros_like(fake_logits))",
            "binary_cross_entropy takes probabilities and cuts its logarithm off at -100, so "
            "confident mistakes get a wrong loss. Use a function that takes the logits.",
        ),
        entropies(
            "sigmoid twice",
            "-F.logsigmoid(real_logits.sigmoid()).mean()",
            "-F.logsigmoid(-fake_logits.sigmoid()).mean()",
            "A function that takes logits applies the sigmoid itself: do not apply it before.",
        ),
        entropies(
            "logits taken for probabilities",
            "-torch.log(real_logits).mean()",
            "-torch.log(1 - fake_logits).mean()",
            "The arguments are logits, any real numbers; D is their sigmoid.",
        ),
        Mistake(
            "labels smoothed",
            REAL,
            "-(0.9 * F.logsigmoid(real_logits) + 0.1 * F.logsigmoid(-real_logits)).mean()",
            "One-sided label smoothing is a good trick, but not part of this loss: real examples "
            "are labelled 1.",
        ),
        entropies(
            "logits and labels in the wrong order",
            "F.binary_cross_entropy_with_logits(torch.ones_like(real_logits), real_logits)",
            "F.binary_cross_entropy_with_logits(torch.zeros_like(fake_logits), fake_logits)",
            WRONG_ORDER,
        ),
        entropies(
            "logarithm of the mean",
            "-F.sigmoid(real_logits).mean().log()",
            "-F.sigmoid(-fake_logits).mean().log()",
            "The mean is taken over the logarithms, not the logarithm of the mean.",
        ),
        entropies(
            "labels on the CPU",
            "F.binary_cross_entropy_with_logits(\n"
            "        real_logits, torch.ones(real_logits.shape, dtype=real_logits.dtype)\n"
            "    )",
            "F.binary_cross_entropy_with_logits(\n"
            "        fake_logits, torch.zeros(fake_logits.shape, dtype=fake_logits.dtype)\n"
            "    )",
            CPU_LABELS,
        ),
        *batch_mistakes(REAL, FAKE),
    ],
    variants=[
        Variant(
            "binary_cross_entropy_with_logits and labels",
            """
            def discriminator_loss(real_logits, fake_logits):
                ones, zeros = torch.ones_like(real_logits), torch.zeros_like(fake_logits)
                bce = torch.nn.functional.binary_cross_entropy_with_logits
                return bce(real_logits, ones) + bce(fake_logits, zeros)
            """,
        ),
        Variant(
            "the module, labels with full_like",
            """
            def discriminator_loss(real_logits, fake_logits):
                criterion = torch.nn.BCEWithLogitsLoss()
                loss = criterion(real_logits, torch.full_like(real_logits, 1.0))
                loss = loss + criterion(fake_logits, torch.full_like(fake_logits, 0.0))
                return loss
            """,
        ),
        Variant(
            "softplus",
            """
            def discriminator_loss(real_logits, fake_logits):
                return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()
            """,
        ),
        Variant(
            "logaddexp",
            """
            def discriminator_loss(real_logits, fake_logits):
                zero = real_logits.new_zeros(())
                real_cost = torch.logaddexp(zero, -real_logits)
                fake_cost = torch.logaddexp(zero, fake_logits)
                return torch.mean(real_cost) + torch.mean(fake_cost)
            """,
        ),
        Variant(
            "log1p of the exponential of minus the magnitude",
            """
            def discriminator_loss(real_logits, fake_logits):
                def cost(x, y):
                    return (x.clamp(min=0) - x * y + torch.log1p(torch.exp(-x.abs()))).mean()
                return cost(real_logits, 1.0) + cost(fake_logits, 0.0)
            """,
        ),
        Variant(
            "both batches at once, each entry weighted by its batch",
            """
            def discriminator_loss(real_logits, fake_logits):
                n, m = real_logits.numel(), fake_logits.numel()
                signed = torch.cat([-real_logits.reshape(-1), fake_logits.reshape(-1)])
                costs = torch.nn.functional.softplus(signed)
                return costs[:n].sum() / n + costs[n:].sum() / m
            """,
        ),
    ],
)


@discriminator_loss.test(points=1.5, cases=SHAPES_OF_BOTH)
def test_discriminator_loss_is_the_cross_entropy(submission, case):
    """Is the cross-entropy, each batch averaged by itself"""
    submission.matches_reference(case)


@discriminator_loss.test(points=0.5, cases=GRADIENTS_OF_BOTH)
def test_discriminator_loss_reaches_both_batches(submission, case):
    """Sends its gradient to both batches"""
    submission.matches_reference(case)


@discriminator_loss.test(points=1, cases=EXTREMES_OF_BOTH)
def test_discriminator_loss_is_stable(submission, case):
    """Stays exact for large logits, and so does its gradient"""
    submission.matches_reference(case)


@discriminator_loss.test(points=0.5, cases=DEVICE_OF_BOTH)
def test_discriminator_loss_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- minimax_generator_loss


def minus_cross_entropy_with_zeros(fake_logits):
    return -F.binary_cross_entropy_with_logits(fake_logits, torch.zeros_like(fake_logits))


MINIMAX = "return F.logsigmoid(-fake_logits).mean()"
minimax = of_line(MINIMAX)

minimax_generator_loss = Exercise(
    "minimax_generator_loss",
    oracle=minus_cross_entropy_with_zeros,
    mistakes=[
        minimax(
            "the non-saturating loss",
            "return -F.logsigmoid(fake_logits).mean()",
            "That is the non-saturating loss, −log D, the next exercise. The minimax generator "
            "minimises log(1 − D).",
        ),
        minimax(
            "the discriminator's sign",
            "return -F.logsigmoid(-fake_logits).mean()",
            "That is the discriminator's own term, which would make it recognise fakes better. The "
            "generator wants the opposite of it.",
        ),
        minimax(
            "log D",
            "return F.logsigmoid(fake_logits).mean()",
            "That is log D, and it falls as the fakes get worse. The game has log(1 − D): think of "
            "what 1 − sigmoid(x) is in terms of a sigmoid.",
        ),
        minimax(
            "logarithm of one minus the sigmoid",
            "return torch.log(1 - torch.sigmoid(fake_logits)).mean()",
            UNSTABLE,
        ),
        minimax(
            "overflow in the branch not taken",
            f"return -{softplus_by_cases('fake_logits')}",
            NOT_TAKEN,
        ),
        minimax(
            "exponential over- or underflows",
            "return torch.log(torch.sigmoid(-fake_logits)).mean()",
            UNSTABLE,
        ),
        *(
            minimax(
                f"epsilon in the logarithm, {eps}",
                f"return torch.log(1 - torch.sigmoid(fake_logits) + {eps}).mean()",
                CLIPPED,
            )
            for eps in ("1e-7", "1e-8", "1e-10", "1e-12")
        ),
        *(
            minimax(
                f"logits cut off at {limit}",
                f"return F.logsigmoid(-fake_logits.clamp(-{limit}, {limit})).mean()",
                ROUNDED,
            )
            for limit in (10, 20, 30, 50, 80, 100)
        ),
        minimax(
            "a straight line too early",
            "return -F.softplus(fake_logits, threshold=5).mean()",
            EARLY,
        ),
        minimax(
            "infinities replaced",
            "return torch.nan_to_num(torch.log(1 - fake_logits.sigmoid()), neginf=-100.0).mean()",
            CLIPPED,
        ),
        minimax(
            "one minus log D",
            "return (1 - F.logsigmoid(fake_logits)).mean()",
            "One minus the logarithm is not the logarithm of one minus: the 1 − D comes first, "
            "then its logarithm.",
        ),
        minimax(
            "clamped probabilities",
            "return torch.log(1 - torch.sigmoid(fake_logits).clamp(1e-7, 1 - 1e-7)).mean()",
            CLIPPED,
        ),
        minimax(
            "sigmoid, then binary_cross_entropy",
            "return -F.binary_cross_entropy(fake_logits.sigmoid(), torch.zeros_like(fake_logits))",
            "binary_cross_entropy takes probabilities and cuts its logarithm off at -100. Use a "
            "function that takes the logits.",
        ),
        minimax(
            "logits taken for probabilities",
            "return torch.log(1 - fake_logits).mean()",
            "The argument holds logits, any real numbers; D is their sigmoid.",
        ),
        minimax(
            "logarithm of the mean",
            "return F.sigmoid(-fake_logits).mean().log()",
            "The mean is taken over the logarithms, not the logarithm of the mean.",
        ),
        minimax(
            "logarithm forgotten",
            "return (1 - torch.sigmoid(fake_logits)).mean()",
            "This is the mean of 1 − D: the logarithm is missing.",
        ),
        *mean_mistakes(MINIMAX),
    ],
    variants=[
        Variant(
            "minus softplus",
            """
            def minimax_generator_loss(fake_logits):
                return -torch.nn.functional.softplus(fake_logits).mean()
            """,
        ),
        Variant(
            "logsigmoid minus the logit",
            """
            def minimax_generator_loss(fake_logits):
                log_d = torch.nn.LogSigmoid()(fake_logits)
                return torch.mean(log_d - fake_logits)
            """,
        ),
        Variant(
            "minus the cross-entropy with zeros",
            """
            def minimax_generator_loss(fake_logits):
                zeros = torch.zeros_like(fake_logits)
                return -F.binary_cross_entropy_with_logits(fake_logits, zeros, reduction="mean")
            """,
        ),
        Variant(
            "written out, stably",
            """
            def minimax_generator_loss(fake_logits):
                x = fake_logits.reshape(-1)
                costs = torch.where(x > 0, x, torch.zeros_like(x)) + (-x.abs()).exp().log1p()
                return -costs.sum() / x.numel()
            """,
        ),
    ],
)


@minimax_generator_loss.test(points=0.75, cases=SHAPES_OF_FAKES)
def test_minimax_generator_loss_is_the_mean_of_log_one_minus_d(submission, case):
    """Is the mean of log(1 − D)"""
    submission.matches_reference(case)


@minimax_generator_loss.test(points=0.25, cases=GRADIENTS_OF_FAKES)
def test_minimax_generator_loss_has_a_gradient(submission, case):
    """Sends its gradient to the fakes"""
    submission.matches_reference(case)


@minimax_generator_loss.test(points=0.75, cases=EXTREMES_OF_FAKES)
def test_minimax_generator_loss_is_stable(submission, case):
    """Stays exact for large logits, and so does its gradient"""
    submission.matches_reference(case)


@minimax_generator_loss.test(points=0.25, cases=DEVICE_OF_FAKES)
def test_minimax_generator_loss_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- generator_loss


def cross_entropy_with_ones(fake_logits):
    return F.binary_cross_entropy_with_logits(fake_logits, torch.ones_like(fake_logits))


NON_SATURATING = "return -F.logsigmoid(fake_logits).mean()"
non_saturating = of_line(NON_SATURATING)

generator_loss = Exercise(
    "generator_loss",
    oracle=cross_entropy_with_ones,
    mistakes=[
        non_saturating(
            "the saturating loss",
            "return F.logsigmoid(-fake_logits).mean()",
            "That is the minimax loss: its gradient vanishes where the fakes are recognised. The "
            "non-saturating loss maximises log D instead of minimising log(1 − D).",
        ),
        non_saturating(
            "fakes labelled fake",
            "return -F.logsigmoid(-fake_logits).mean()",
            "The fakes are labelled 0 here, as the discriminator labels them. The generator is "
            "paid for fakes that pass for real: label 1.",
        ),
        non_saturating(
            "minus sign missing",
            "return F.logsigmoid(fake_logits).mean()",
            "Minimising this makes the fakes worse: the generator wants log D large, so its loss "
            "is the negative.",
        ),
        non_saturating(
            "overflow in the branch not taken",
            f"return {softplus_by_cases('(-fake_logits)')}",
            NOT_TAKEN,
        ),
        non_saturating(
            "exponential over- or underflows",
            "return -torch.log(torch.sigmoid(fake_logits)).mean()",
            UNSTABLE,
        ),
        *(
            non_saturating(
                f"epsilon in the logarithm, {eps}",
                f"return -torch.log(torch.sigmoid(fake_logits) + {eps}).mean()",
                CLIPPED,
            )
            for eps in ("1e-7", "1e-8", "1e-10", "1e-12")
        ),
        *(
            non_saturating(
                f"logits cut off at {limit}",
                f"return -F.logsigmoid(fake_logits.clamp(-{limit}, {limit})).mean()",
                ROUNDED,
            )
            for limit in (10, 20, 30, 50, 80)
        ),
        non_saturating(
            "a straight line too early",
            "return F.softplus(-fake_logits, threshold=5).mean()",
            EARLY,
        ),
        non_saturating(
            "infinities replaced",
            "return -torch.nan_to_num(torch.log(fake_logits.sigmoid()), neginf=-100.0).mean()",
            CLIPPED,
        ),
        non_saturating(
            "logarithm forgotten",
            "return (1 - fake_logits.sigmoid()).mean()",
            "This is the mean of 1 − D: it has no logarithm, and its gradient vanishes where the "
            "fakes are recognised.",
        ),
        non_saturating(
            "squared distance for the logarithm",
            "return (1 - fake_logits.sigmoid()).square().mean()",
            "This is the squared distance of D from 1. The loss is the negative logarithm of D.",
        ),
        non_saturating(
            "clamped probabilities",
            "return -torch.log(torch.sigmoid(fake_logits).clamp(1e-7, 1 - 1e-7)).mean()",
            CLIPPED,
        ),
        non_saturating(
            "sigmoid, then binary_cross_entropy",
            "return F.binary_cross_entropy(fake_logits.sigmoid(), torch.ones_like(fake_logits))",
            "binary_cross_entropy takes probabilities and cuts its logarithm off at -100, so the "
            "worst fakes get a wrong loss. Use a function that takes the logits.",
        ),
        non_saturating(
            "sigmoid twice",
            "return -F.logsigmoid(fake_logits.sigmoid()).mean()",
            "A function that takes logits applies the sigmoid itself: do not apply it before.",
        ),
        non_saturating(
            "logits taken for probabilities",
            "return -torch.log(fake_logits).mean()",
            "The argument holds logits, any real numbers; D is their sigmoid.",
        ),
        non_saturating(
            "logits and labels in the wrong order",
            "return F.binary_cross_entropy_with_logits(torch.ones_like(fake_logits), fake_logits)",
            WRONG_ORDER,
        ),
        non_saturating(
            "logarithm of the mean",
            "return -F.sigmoid(fake_logits).mean().log()",
            "The mean is taken over the logarithms, not the logarithm of the mean.",
        ),
        non_saturating(
            "linear",
            "return -fake_logits.mean()",
            "That is the Wasserstein generator's loss. Here D is a probability, and the loss its "
            "negative logarithm.",
        ),
        non_saturating(
            "labels on the CPU",
            "return F.binary_cross_entropy_with_logits(\n"
            "        fake_logits, torch.ones(fake_logits.shape, dtype=fake_logits.dtype)\n"
            "    )",
            CPU_LABELS,
        ),
        *mean_mistakes(NON_SATURATING),
    ],
    variants=[
        Variant(
            "softplus",
            """
            def generator_loss(fake_logits):
                return F.softplus(-fake_logits).mean()
            """,
        ),
        Variant(
            "binary_cross_entropy_with_logits",
            """
            def generator_loss(fake_logits):
                labels = torch.ones_like(fake_logits)
                return torch.nn.BCEWithLogitsLoss()(fake_logits, labels)
            """,
        ),
        Variant(
            "cross-entropy of two classes",
            """
            def generator_loss(fake_logits):
                x = fake_logits.reshape(-1)
                two = torch.stack([torch.zeros_like(x), x], dim=1)
                real = torch.ones(len(x), dtype=torch.int64, device=x.device)
                return F.cross_entropy(two, real)
            """,
        ),
        Variant(
            "log1p, each sign by itself",
            """
            def generator_loss(fake_logits):
                small = torch.log1p(torch.exp(-torch.abs(fake_logits)))
                return (torch.maximum(-fake_logits, torch.zeros_like(fake_logits)) + small).mean()
            """,
        ),
    ],
)


@generator_loss.test(points=0.75, cases=SHAPES_OF_FAKES)
def test_generator_loss_is_the_mean_of_minus_log_d(submission, case):
    """Is the mean of −log D"""
    submission.matches_reference(case)


@generator_loss.test(points=0.25, cases=GRADIENTS_OF_FAKES)
def test_generator_loss_has_a_gradient(submission, case):
    """Sends its gradient to the fakes"""
    submission.matches_reference(case)


@generator_loss.test(points=0.75, cases=EXTREMES_OF_FAKES)
def test_generator_loss_is_stable(submission, case):
    """Stays exact for large logits, and its gradient does not vanish on bad fakes"""
    submission.matches_reference(case)


@generator_loss.test(points=0.25, cases=DEVICE_OF_FAKES)
def test_generator_loss_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- least squares


def half_mse_of_both(real_logits, fake_logits):
    on_real = F.mse_loss(real_logits, torch.ones_like(real_logits))
    on_fake = F.mse_loss(fake_logits, torch.zeros_like(fake_logits))
    return 0.5 * (on_real + on_fake)


LS_REAL = "(real_logits - 1).square().mean() / 2"
LS_FAKE = "fake_logits.square().mean() / 2"
squares = of_terms(LS_REAL, LS_FAKE)

least_squares_discriminator_loss = Exercise(
    "least_squares_discriminator_loss",
    oracle=half_mse_of_both,
    mistakes=[
        squares(
            "one half missing",
            "(real_logits - 1).square().mean()",
            "fake_logits.square().mean()",
            "The paper's factor of one half is missing before the two means.",
        ),
        Mistake(
            "half of the real term alone",
            LS_FAKE,
            "fake_logits.square().mean()",
            "The factor of one half stands before both means; the fakes' is missing.",
        ),
        Mistake(
            "half of the fake term alone",
            LS_REAL,
            "(real_logits - 1).square().mean()",
            "The factor of one half stands before both means; the reals' is missing.",
        ),
        squares(
            "targets swapped",
            "real_logits.square().mean() / 2",
            "(fake_logits - 1).square().mean() / 2",
            "The targets are swapped: reals are pulled to 1, fakes to 0.",
        ),
        Mistake(
            "both pulled to one",
            LS_FAKE,
            "(fake_logits - 1).square().mean() / 2",
            "For the discriminator the target of fakes is 0; 1 is what the generator hopes for.",
        ),
        Mistake(
            "fakes pulled to minus one",
            LS_FAKE,
            "(fake_logits + 1).square().mean() / 2",
            "The paper also tries the targets −1 and 1; here they are 0 and 1.",
        ),
        squares(
            "sigmoid before the square",
            "(real_logits.sigmoid() - 1).square().mean() / 2",
            "fake_logits.sigmoid().square().mean() / 2",
            SIGMOID,
        ),
        squares(
            "absolute distance",
            "(real_logits - 1).abs().mean() / 2",
            "fake_logits.abs().mean() / 2",
            "Least squares: the distance to the target is squared.",
        ),
        squares(
            "square of the mean",
            "(real_logits - 1).mean().square() / 2",
            "fake_logits.mean().square() / 2",
            "Square each distance first, then take the mean: errors of opposite sign must not "
            "cancel.",
        ),
        Mistake(
            "a difference of the two",
            "return on_real + on_fake",
            "return on_real - on_fake",
            "Both terms are costs and both are paid: add them.",
        ),
        squares(
            "root of the mean square",
            "(real_logits - 1).square().mean().sqrt() / 2",
            "fake_logits.square().mean().sqrt() / 2",
            "No square root: the loss is the mean of the squares itself.",
        ),
        squares(
            "the cross-entropy",
            "-F.logsigmoid(real_logits).mean()",
            "-F.logsigmoid(-fake_logits).mean()",
            "That is the cross-entropy of the first exercise; here squared distances replace it.",
        ),
        *batch_mistakes(LS_REAL, LS_FAKE),
    ],
    variants=[
        Variant(
            "mse_loss",
            """
            def least_squares_discriminator_loss(real_logits, fake_logits):
                on_real = F.mse_loss(real_logits, torch.ones_like(real_logits))
                on_fake = F.mse_loss(fake_logits, torch.zeros_like(fake_logits))
                return (on_real + on_fake) / 2
            """,
        ),
        Variant(
            "powers",
            """
            def least_squares_discriminator_loss(real_logits, fake_logits):
                return 0.5 * torch.mean((real_logits - 1.0) ** 2) + 0.5 * torch.mean(fake_logits**2)
            """,
        ),
        Variant(
            "inner products",
            """
            def least_squares_discriminator_loss(real_logits, fake_logits):
                r, f = (1 - real_logits).flatten(), fake_logits.flatten()
                return torch.dot(r, r) / (2 * r.numel()) + (f @ f) / (2 * f.numel())
            """,
        ),
        Variant(
            "the square multiplied out",
            """
            def least_squares_discriminator_loss(real_logits, fake_logits):
                on_real = (real_logits * real_logits).mean() - 2 * real_logits.mean() + 1
                return on_real.div(2) + fake_logits.pow(2).mul(0.5).mean()
            """,
        ),
    ],
)


@least_squares_discriminator_loss.test(points=1, cases=SHAPES_OF_BOTH)
def test_least_squares_discriminator_loss_pulls_to_its_targets(submission, case):
    """Is half the mean squared distance to the targets"""
    submission.matches_reference(case)


@least_squares_discriminator_loss.test(points=0.25, cases=GRADIENTS_OF_BOTH)
def test_least_squares_discriminator_loss_reaches_both_batches(submission, case):
    """Sends its gradient to both batches"""
    submission.matches_reference(case)


@least_squares_discriminator_loss.test(points=0.25, cases=DEVICE_OF_BOTH)
def test_least_squares_discriminator_loss_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


def half_mse_with_ones(fake_logits):
    return 0.5 * F.mse_loss(fake_logits, torch.ones_like(fake_logits))


LS_GENERATOR = "return (fake_logits - 1).square().mean() / 2"
to_one = of_line(LS_GENERATOR)

least_squares_generator_loss = Exercise(
    "least_squares_generator_loss",
    oracle=half_mse_with_ones,
    mistakes=[
        to_one(
            "one half missing",
            "return (fake_logits - 1).square().mean()",
            "The paper's factor of one half is missing.",
        ),
        to_one(
            "pulled to zero",
            "return fake_logits.square().mean() / 2",
            "0 is the discriminator's target for fakes. The generator wants them to reach that of "
            "real examples.",
        ),
        to_one(
            "minus the discriminator's term",
            "return -fake_logits.square().mean() / 2",
            "This game is not zero-sum: the generator has a target of its own, that of reals.",
        ),
        to_one(
            "pulled to minus one",
            "return (fake_logits + 1).square().mean() / 2",
            "The distance to 1 is the output minus 1: the sign is turned.",
        ),
        to_one(
            "sigmoid before the square",
            "return (fake_logits.sigmoid() - 1).square().mean() / 2",
            SIGMOID,
        ),
        to_one(
            "absolute distance",
            "return (fake_logits - 1).abs().mean() / 2",
            "Least squares: the distance to the target is squared.",
        ),
        to_one(
            "square of the mean",
            "return (fake_logits - 1).mean().square() / 2",
            "Square each distance first, then take the mean: errors of opposite sign must not "
            "cancel.",
        ),
        to_one(
            "root of the mean square",
            "return (fake_logits - 1).square().mean().sqrt() / 2",
            "No square root: the loss is the mean of the squares itself.",
        ),
        to_one(
            "only below the target",
            "return F.relu(1 - fake_logits).square().mean() / 2",
            "Fakes above the target cost as well: the distance is squared on both sides of 1, with "
            "no cut.",
        ),
        to_one(
            "linear in the distance far away",
            "return F.smooth_l1_loss(fake_logits, torch.ones_like(fake_logits))",
            "That is the Huber loss, which turns linear far from the target. Least squares squares "
            "every distance.",
        ),
        to_one(
            "negated",
            "return -(fake_logits - 1).square().mean() / 2",
            "The sign is turned: the generator minimises its distance to the target.",
        ),
        *mean_mistakes(LS_GENERATOR),
    ],
    variants=[
        Variant(
            "mse_loss",
            """
            def least_squares_generator_loss(fake_logits):
                return 0.5 * torch.nn.MSELoss()(fake_logits, torch.ones_like(fake_logits))
            """,
        ),
        Variant(
            "powers",
            """
            def least_squares_generator_loss(fake_logits):
                return torch.mean(0.5 * torch.pow(1.0 - fake_logits, 2))
            """,
        ),
        Variant(
            "a sum over the count",
            """
            def least_squares_generator_loss(fake_logits):
                short = torch.sub(fake_logits, 1)
                return (short * short).sum() / (2 * fake_logits.numel())
            """,
        ),
    ],
)


@least_squares_generator_loss.test(points=0.5, cases=SHAPES_OF_FAKES)
def test_least_squares_generator_loss_pulls_to_one(submission, case):
    """Is half the mean squared distance to the target of real examples"""
    submission.matches_reference(case)


@least_squares_generator_loss.test(points=0.25, cases=GRADIENTS_OF_FAKES)
def test_least_squares_generator_loss_has_a_gradient(submission, case):
    """Sends its gradient to the fakes"""
    submission.matches_reference(case)


@least_squares_generator_loss.test(points=0.25, cases=DEVICE_OF_FAKES)
def test_least_squares_generator_loss_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- hinge


def margin_ranking_of_both(real_logits, fake_logits):
    """Ranked against zero with a margin of 1, reals above and fakes below."""
    zero_r, zero_f = torch.zeros_like(real_logits), torch.zeros_like(fake_logits)
    above = F.margin_ranking_loss(real_logits, zero_r, zero_r + 1, margin=1.0)
    below = F.margin_ranking_loss(fake_logits, zero_f, zero_f - 1, margin=1.0)
    return above + below


def two_around_margins(real_shape, fake_shape):
    """Reals on both sides of +1 and fakes on both sides of −1, none at either margin or at 0."""
    return lambda make: {
        "real": around(make, 1.0, *real_shape, low=1.1, high=1.9),
        "fake": around(make, -1.0, *fake_shape, low=1.1, high=1.9),
    }


H_REAL = "F.relu(1 - real_logits).mean()"
H_FAKE = "F.relu(1 + fake_logits).mean()"
hinges = of_terms(H_REAL, H_FAKE)

hinge_discriminator_loss = Exercise(
    "hinge_discriminator_loss",
    oracle=margin_ranking_of_both,
    mistakes=[
        hinges(
            "no hinge",
            "(1 - real_logits).mean()",
            "(1 + fake_logits).mean()",
            "An output beyond its margin costs nothing; here it earns. Cut the cost off at 0.",
        ),
        hinges(
            "signs swapped",
            "F.relu(1 + real_logits).mean()",
            "F.relu(1 - fake_logits).mean()",
            "The signs are swapped: reals should lie above +1, fakes below −1.",
        ),
        Mistake(
            "fakes above the margin",
            H_FAKE,
            "F.relu(1 - fake_logits).mean()",
            "Fakes should lie below −1: what an output exceeds −1 by is its cost.",
        ),
        Mistake(
            "reals below the margin",
            H_REAL,
            "F.relu(1 + real_logits).mean()",
            "Reals should lie above +1: what an output falls short of it by is its cost.",
        ),
        hinges(
            "no margin",
            "F.relu(-real_logits).mean()",
            "F.relu(fake_logits).mean()",
            "The right side of 0 is not enough: the hinge asks for a margin of 1 on either side.",
        ),
        Mistake(
            "margin at zero for the fakes",
            H_FAKE,
            "F.relu(fake_logits).mean()",
            "The fakes have a margin too: they should lie below −1.",
        ),
        hinges(
            "hinge of the mean",
            "F.relu((1 - real_logits).mean())",
            "F.relu((1 + fake_logits).mean())",
            "Each output has its own hinge: cut off first, then average.",
        ),
        hinges(
            "squared hinge",
            "F.relu(1 - real_logits).square().mean()",
            "F.relu(1 + fake_logits).square().mean()",
            "The hinge is linear: no square.",
        ),
        hinges(
            "maximised",
            "(real_logits - 1).clamp(max=0).mean()",
            "(-1 - fake_logits).clamp(max=0).mean()",
            "The paper maximises this number, an optimizer minimises: turn its sign.",
        ),
        hinges(
            "softplus for the hinge",
            "F.softplus(1 - real_logits).mean()",
            "F.softplus(1 + fake_logits).mean()",
            "Softplus is a smoothed hinge: beyond the margin it still costs and still pushes.",
        ),
        hinges(
            "cost capped",
            "(1 - real_logits).clamp(0, 1).mean()",
            "(1 + fake_logits).clamp(0, 1).mean()",
            "Only the lower side is cut off: the worse an output, the more it costs.",
        ),
        hinges(
            "absolute value",
            "(1 - real_logits).abs().mean()",
            "(1 + fake_logits).abs().mean()",
            "Lying beyond the margin is no error: it costs 0, not the distance.",
        ),
        hinges(
            "averaged over what is short",
            "F.relu(1 - real_logits).sum() / (real_logits < 1).sum()",
            "F.relu(1 + fake_logits).sum() / (fake_logits > -1).sum()",
            "The mean is over every entry of the batch: outputs beyond their margin count, too, "
            "with a cost of 0.",
        ),
        hinges(
            "leaky hinge",
            "F.leaky_relu(1 - real_logits).mean()",
            "F.leaky_relu(1 + fake_logits).mean()",
            "Beyond its margin an output costs exactly 0: a leaky ReLU still pays it a little.",
        ),
        hinges(
            "sigmoid before the hinge",
            "F.relu(1 - real_logits.sigmoid()).mean()",
            "F.relu(1 + fake_logits.sigmoid()).mean()",
            SIGMOID,
        ),
        Mistake(
            "a difference of the two",
            "return on_real + on_fake",
            "return on_real - on_fake",
            "Both terms are costs and both are paid: add them.",
        ),
        *batch_mistakes(H_REAL, H_FAKE),
    ],
    variants=[
        Variant(
            "clamp",
            """
            def hinge_discriminator_loss(real_logits, fake_logits):
                real_cost = torch.clamp(1.0 - real_logits, min=0)
                fake_cost = torch.clamp(1.0 + fake_logits, min=0)
                return real_cost.mean() + fake_cost.mean()
            """,
        ),
        Variant(
            "minus a minimum, as in the paper",
            """
            def hinge_discriminator_loss(real_logits, fake_logits):
                zero = torch.zeros_like
                on_real = torch.minimum(zero(real_logits), -1 + real_logits).mean()
                on_fake = torch.min(zero(fake_logits), -1 - fake_logits).mean()
                return -(on_real + on_fake)
            """,
        ),
        Variant(
            "a mask in place of a cut",
            """
            def hinge_discriminator_loss(real_logits, fake_logits):
                short = (1 - real_logits) * (real_logits < 1)
                over = torch.where(fake_logits > -1, 1 + fake_logits, 0.0)
                return short.sum() / short.numel() + over.mean()
            """,
        ),
        Variant(
            "the hinge as a module in a helper",
            """
            def hinge_discriminator_loss(real_logits, fake_logits):
                def cost(signed):
                    return torch.nn.ReLU()(1 - signed).mean()
                return cost(real_logits) + cost(-fake_logits)
            """,
        ),
    ],
)


@hinge_discriminator_loss.test(
    points=1,
    cases=[
        *SHAPES_OF_BOTH,
        Case("on both sides of both margins", loss_of_both, two_around_margins((6,), (8,))),
    ],
)
def test_hinge_discriminator_loss_counts_what_is_short(submission, case):
    """Counts what falls short of the margins, and nothing beyond them"""
    submission.matches_reference(case)


@hinge_discriminator_loss.test(
    points=0.75,
    cases=[
        Case("around the margins", gradients_of_both, two_around_margins((6,), (4,))),
        Case("maps of outputs", gradients_of_both, two_around_margins((2, 1, 3, 2), (3, 1, 2, 5))),
        Case(
            "everything beyond its margin",
            gradients_of_both,
            lambda make: {
                "real": make.uniform(5, low=1.2, high=4.0),
                "fake": make.uniform(3, low=-4.0, high=-1.2),
            },
        ),
    ],
)
def test_hinge_discriminator_loss_pushes_inside_the_margins_alone(submission, case):
    """Has a gradient inside the margins and none beyond"""
    submission.matches_reference(case)


@hinge_discriminator_loss.test(points=0.25, cases=DEVICE_OF_BOTH)
def test_hinge_discriminator_loss_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


def minus_the_average(fake_logits):
    return fake_logits.flatten().dot(
        torch.full_like(fake_logits.flatten(), -1 / fake_logits.numel())
    )


def linear_mistakes(argument):
    """What goes wrong in minus the mean of the outputs on fakes."""
    line = f"return -{argument}.mean()"
    of = of_line(line)
    return [
        of(
            "sign turned",
            f"return {argument}.mean()",
            "Minimising this pushes the outputs on fakes down: the generator wants them up.",
        ),
        of(
            "hinge at plus one",
            f"return F.relu(1 - {argument}).mean()",
            "The generator's loss is linear: no margin, no cut. With a hinge, fakes that already "
            "fool the other player would stop improving.",
        ),
        of(
            "hinge at zero",
            f"return F.relu(-{argument}).mean()",
            "The generator's loss is linear, with no cut at 0: outputs above it count as well.",
        ),
        of(
            "shifted by one",
            f"return 1 - {argument}.mean()",
            "There is no margin in the generator's loss: at a mean output of 0 it is 0.",
        ),
        of("sigmoid of the outputs", f"return -{argument}.sigmoid().mean()", SIGMOID),
        of(
            "the cross-entropy",
            f"return -F.logsigmoid({argument}).mean()",
            "That is the non-saturating loss; here the outputs count as they are.",
        ),
        of(
            "the fakes' hinge of the discriminator",
            f"return F.relu(1 + {argument}).mean()",
            "That is the discriminator's own term, which pushes the outputs on fakes down.",
        ),
        of(
            "least squares",
            f"return ({argument} - 1).square().mean()",
            "That pulls the outputs to 1, as in the least-squares game. Here there is no target: "
            "the higher, the better.",
        ),
        of(
            "half the least squares",
            f"return ({argument} - 1).square().mean() / 2",
            "That pulls the outputs to 1, as in the least-squares game. Here there is no target: "
            "the higher, the better.",
        ),
        of(
            "only the best fake",
            f"return -{argument}.max()",
            "Only the highest output counts here: the loss is the mean over all of them.",
        ),
        of(
            "minus the magnitude",
            f"return -{argument}.abs().mean()",
            "The sign of an output matters: no absolute value.",
        ),
        *mean_mistakes(line, argument),
    ]


def linear_variants(name, argument):
    return [
        Variant(
            "the mean of the negative", f"def {name}({argument}):\n    return (-{argument}).mean()"
        ),
        Variant(
            "a sum over the count",
            f"def {name}({argument}):\n    return -torch.sum({argument}) / {argument}.numel()",
        ),
        Variant(
            "torch.mean times minus one",
            f"def {name}({argument}):\n    return torch.mean({argument}).mul(-1)",
        ),
        Variant(
            "zero minus the mean of the flattened outputs",
            f"def {name}({argument}):\n    return 0.0 - {argument}.reshape(-1).mean(dim=0)",
        ),
    ]


hinge_generator_loss = Exercise(
    "hinge_generator_loss",
    oracle=minus_the_average,
    mistakes=linear_mistakes("fake_logits"),
    variants=linear_variants("hinge_generator_loss", "fake_logits"),
)


@hinge_generator_loss.test(points=0.5, cases=SHAPES_OF_FAKES)
def test_hinge_generator_loss_is_linear(submission, case):
    """Falls as the outputs on fakes rise, one for one"""
    submission.matches_reference(case)


@hinge_generator_loss.test(points=0.25, cases=GRADIENTS_OF_FAKES)
def test_hinge_generator_loss_has_a_gradient_everywhere(submission, case):
    """Has the same gradient for every fake"""
    submission.matches_reference(case)


@hinge_generator_loss.test(points=0.25, cases=DEVICE_OF_FAKES)
def test_hinge_generator_loss_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- Wasserstein


def weighted_sum_of_scores(real_scores, fake_scores):
    """An inner product of all scores with +1/m for the fakes and −1/n for the reals."""
    scores = torch.cat([real_scores.flatten(), fake_scores.flatten()])
    n, m = real_scores.numel(), fake_scores.numel()
    weights = torch.cat([scores.new_full((n,), -1 / n), scores.new_full((m,), 1 / m)])
    return scores @ weights


CRITIC = "return fake_scores.mean() - real_scores.mean()"
critic = of_line(CRITIC)

wasserstein_critic_loss = Exercise(
    "wasserstein_critic_loss",
    oracle=weighted_sum_of_scores,
    mistakes=[
        critic(
            "maximised",
            "return real_scores.mean() - fake_scores.mean()",
            "That is the gap itself, which the critic maximises; an optimizer minimises, so turn "
            "its sign.",
        ),
        critic(
            "a sum of the two means",
            "return fake_scores.mean() + real_scores.mean()",
            "The critic pushes reals up and fakes down: the two means have opposite signs.",
        ),
        critic(
            "minus both means",
            "return -fake_scores.mean() - real_scores.mean()",
            "The critic pushes reals up and fakes down: the two means have opposite signs.",
        ),
        critic(
            "magnitude of the gap",
            "return (fake_scores.mean() - real_scores.mean()).abs()",
            "The sign of the gap matters: the loss is negative where the critic is good.",
        ),
        critic(
            "minus the magnitude of the gap",
            "return -(fake_scores.mean() - real_scores.mean()).abs()",
            "The critic should score reals above fakes, not merely apart: no absolute value.",
        ),
        critic(
            "gap squared",
            "return (fake_scores.mean() - real_scores.mean()).square()",
            "The loss is linear in the scores: no square.",
        ),
        critic(
            "sigmoid of the scores",
            "return fake_scores.sigmoid().mean() - real_scores.sigmoid().mean()",
            "A critic gives scores, not probabilities: no sigmoid.",
        ),
        critic(
            "logarithms kept",
            "return -F.logsigmoid(real_scores).mean() - F.logsigmoid(-fake_scores).mean()",
            "That is the cross-entropy. A critic gives scores, not probabilities: no sigmoid and "
            "no logarithm.",
        ),
        critic(
            "hinge kept",
            "return F.relu(1 - real_scores).mean() + F.relu(1 + fake_scores).mean()",
            "That is the hinge. The critic's loss is linear: no margins.",
        ),
        critic("sums", "return fake_scores.sum() - real_scores.sum()", SUM),
        critic(
            "divided by the number of examples",
            "return fake_scores.sum() / len(fake_scores) - real_scores.sum() / len(real_scores)",
            PER_EXAMPLE,
        ),
        critic(
            "both divided by the real batch's size",
            "return (fake_scores.sum() - real_scores.sum()) / real_scores.numel()",
            ONE_SIZE,
        ),
        critic(
            "averaged over the first dimension",
            "return fake_scores.mean(0) - real_scores.mean(0)",
            FIRST_DIMENSION,
        ),
        critic(
            "one mean over both batches",
            "return torch.cat([fake_scores.flatten(), -real_scores.flatten()]).mean()",
            CONCATENATED,
        ),
        critic(
            "subtracted example by example",
            "return (fake_scores - real_scores).mean()",
            "Subtracting example by example needs batches of equal size. Average each batch first.",
        ),
        critic("the gap halved", "return (fake_scores.mean() - real_scores.mean()) / 2", HALVED),
        critic("the reals left out", "return fake_scores.mean()", ONLY_FAKE),
        critic("the fakes left out", "return -real_scores.mean()", ONLY_REAL),
        critic(
            "fakes detached in the loss",
            "return fake_scores.detach().mean() - real_scores.mean()",
            DETACHED,
        ),
        critic(
            "reals detached in the loss",
            "return fake_scores.mean() - real_scores.detach().mean()",
            DETACHED_REAL,
        ),
        critic(
            "detached",
            "return (fake_scores.mean() - real_scores.mean()).detach()",
            DETACHED_RESULT,
        ),
        critic(
            "of shape (1,)",
            "return (fake_scores.mean() - real_scores.mean()).reshape(1)",
            SHAPE,
        ),
        critic(
            "medians",
            "return fake_scores.median() - real_scores.median()",
            "The scores' means are compared, not their medians.",
        ),
        critic(
            "returned as a number",
            "return (fake_scores.mean() - real_scores.mean()).item()",
            NUMBER,
        ),
        critic(
            "computed in float32",
            "return fake_scores.float().mean() - real_scores.float().mean()",
            FLOAT32,
        ),
    ],
    variants=[
        Variant(
            "minus the gap",
            """
            def wasserstein_critic_loss(real_scores, fake_scores):
                return -(torch.mean(real_scores) - torch.mean(fake_scores))
            """,
        ),
        Variant(
            "signs inside the means",
            """
            def wasserstein_critic_loss(real_scores, fake_scores):
                return (-real_scores).mean() + fake_scores.mean()
            """,
        ),
        Variant(
            "sums over counts",
            """
            def wasserstein_critic_loss(real_scores, fake_scores):
                up = real_scores.sum() / real_scores.numel()
                down = fake_scores.sum() / fake_scores.numel()
                return torch.sub(down, up)
            """,
        ),
        Variant(
            "every real against every fake",
            """
            def wasserstein_critic_loss(real_scores, fake_scores):
                return (fake_scores.reshape(-1, 1) - real_scores.reshape(1, -1)).mean()
            """,
        ),
    ],
)


def two_scores(real_mean, fake_mean, real_shape, fake_shape):
    return lambda make: {
        "real": make.normal(*real_shape, mean=real_mean),
        "fake": make.normal(*fake_shape, mean=fake_mean),
    }


@wasserstein_critic_loss.test(
    points=0.75,
    cases=[
        *SHAPES_OF_BOTH,
        Case("a good critic", loss_of_both, two_scores(9.0, -7.0, (5,), (3,))),
        Case("a critic on the wrong side", loss_of_both, two_scores(-9.0, 7.0, (3,), (4,))),
    ],
)
def test_wasserstein_critic_loss_is_minus_the_gap(submission, case):
    """Is minus the gap between the mean scores"""
    submission.matches_reference(case)


@wasserstein_critic_loss.test(points=0.25, cases=GRADIENTS_OF_BOTH)
def test_wasserstein_critic_loss_reaches_both_batches(submission, case):
    """Sends its gradient to both batches"""
    submission.matches_reference(case)


@wasserstein_critic_loss.test(points=0.25, cases=DEVICE_OF_BOTH)
def test_wasserstein_critic_loss_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


def minus_the_average_score(fake_scores):
    return fake_scores.flatten().dot(
        torch.full_like(fake_scores.flatten(), -1 / fake_scores.numel())
    )


wasserstein_generator_loss = Exercise(
    "wasserstein_generator_loss",
    oracle=minus_the_average_score,
    mistakes=linear_mistakes("fake_scores"),
    variants=linear_variants("wasserstein_generator_loss", "fake_scores"),
)


@wasserstein_generator_loss.test(points=0.25, cases=SHAPES_OF_FAKES)
def test_wasserstein_generator_loss_is_linear(submission, case):
    """Falls as the scores of fakes rise, one for one"""
    submission.matches_reference(case)


@wasserstein_generator_loss.test(points=0.25, cases=GRADIENTS_OF_FAKES)
def test_wasserstein_generator_loss_has_a_gradient_everywhere(submission, case):
    """Has the same gradient for every fake"""
    submission.matches_reference(case)


@wasserstein_generator_loss.test(points=0.25, cases=DEVICE_OF_FAKES)
def test_wasserstein_generator_loss_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- gradient_penalty


def one_example_at_a_time(critic, real, fake, epsilon=None, generator=None):
    """Each example's slope from a call of its own."""
    if epsilon is None:
        epsilon = torch.rand(len(real), generator=generator, dtype=real.dtype, device=real.device)
    penalties = []
    for r, f, e in zip(real.detach(), fake.detach(), epsilon, strict=True):
        point = torch.lerp(f, r, e).unsqueeze(0).requires_grad_()
        gradient = torch.autograd.grad(critic(point).sum(), point, create_graph=True)[0]
        penalties.append((gradient.norm() - 1) ** 2)
    return torch.stack(penalties).mean()


def smooth_critic(W, v):
    """A critic whose slope changes from point to point; scores have the shape of ``v``'s rows."""

    def critic(x):
        return torch.tanh(x.flatten(1) @ W) @ v

    return critic


def penalty(impl, real, fake, epsilon, W, v):
    return impl(smooth_critic(W, v), real, fake, epsilon)


def penalty_and_its_gradients(impl, real, fake, epsilon, W, v):
    W, v = W.requires_grad_(), v.requires_grad_()
    found = impl(smooth_critic(W, v), real, fake, epsilon)
    if not isinstance(found, Tensor):
        return {"the penalty": found, "the gradient of the critic's first weights": NO_TENSOR}
    on_W, on_v = gradients(found, [W, v])
    return {
        "the penalty": found,
        "the gradient of the critic's first weights": on_W,
        "the gradient of the critic's last weights": on_v,
    }


def penalty_of_attached_examples(impl, real, fake, epsilon, W, v):
    W, scale = W.requires_grad_(), real.new_ones(()).requires_grad_()
    found = impl(smooth_critic(W, v), scale * real, scale * fake, epsilon)
    if not isinstance(found, Tensor):
        return {"the gradient of the critic's weights": NO_TENSOR}
    on_W, on_examples = gradients(found, [W, scale])
    return {
        "the gradient of the critic's weights": on_W,
        "the gradient that reaches the examples": on_examples,
    }


def penalty_beside_stored_gradients(impl, real, fake, epsilon, W, v):
    W, v = W.requires_grad_(), v.requires_grad_()
    W.grad = torch.ones_like(W)
    generator = torch.Generator(device=real.device).manual_seed(5)
    found = impl(smooth_critic(W, v), real, fake, epsilon, generator)
    return {
        "a penalty of shape () is returned": isinstance(found, Tensor) and found.ndim == 0,
        "the examples ask for gradients now": real.requires_grad or fake.requires_grad,
        "the generator's state, with epsilon given": generator.get_state(),
        "the .grad that the critic's first weights had before": W.grad,
        "the critic's last weights still have no .grad": v.grad is None,
    }


def dtype_of_the_points(impl, real, fake):
    """Whether a critic in half precision is asked about points in half precision."""
    dtypes = []

    def critic(x):
        dtypes.append(x.dtype)
        return x.flatten(1).sum(dim=1)

    impl(critic, real.bfloat16(), fake.bfloat16())
    return {"the drawn points have the dtype of the examples": set(dtypes) == {torch.bfloat16}}


def penalty_of_a_linear_critic(impl, real, fake, W):
    """The same slope everywhere, so the same penalty wherever the points are drawn."""
    W = W.requires_grad_()
    found = impl(lambda x: x.flatten(1) @ W, real, fake)
    if not isinstance(found, Tensor):
        return {"the penalty": found, "the gradient of the critic's weights": NO_TENSOR}
    return {"the penalty": found, "the gradient of the critic's weights": gradients(found, [W])[0]}


def drawn_points(impl, real, fake, seed, seeded):
    """The points at which the critic is asked: drawn, drawn again, and drawn from the same seed."""
    n = len(real)

    def points(generator):
        asked = []

        def critic(x):
            seen = x.detach()
            while torch._C._functorch.is_functorch_wrapped_tensor(seen):  # inside vmap and grad
                seen = torch._C._functorch.get_unwrapped(seen)
            asked.append(seen.reshape(-1, *real.shape[1:]))
            return x.flatten(1).square().sum(dim=1)

        impl(critic, real, fake, None, generator)
        return torch.cat(asked)[-n:]

    if not seeded:
        return {"first": points(None), "second": points(None)}
    generator = torch.Generator(device=real.device).manual_seed(seed)
    again = torch.Generator(device=real.device).manual_seed(seed)
    return {"first": points(generator), "second": points(generator), "again": points(again)}


def facts_of_the_draw(outcome, inputs):
    """Facts certain for a right answer: at 400 examples the bounds lie beyond eight sigma."""
    real, fake = inputs["real"].flatten(1), inputs["fake"].flatten(1)

    def shares(points):
        return (points.flatten(1).to(real.dtype) - fake) / (real - fake)  # (n, entries)

    every = shares(outcome["first"])
    own = every.mean(dim=1).sort().values
    even = (torch.arange(len(own), dtype=own.dtype) + 0.5) / len(own)
    facts = {
        "all entries of an example share one epsilon": bool(
            (every.T - every.mean(1)).abs().max() < 1e-3
        ),
        "every example has an epsilon of its own": bool(own.diff().abs().max() > 0),
        "every epsilon lies between 0 and 1": bool(((own > -1e-3) & (own < 1 + 1e-3)).all()),
        "the epsilons are spread evenly from 0 to 1": bool((own - even).abs().max() < 0.2),
        "another call draws other epsilons": bool(
            (shares(outcome["second"]) - every).abs().max() > 1e-3
        ),
    }
    if "again" in outcome:
        facts["a generator with the same seed draws the same epsilons"] = bool(
            (shares(outcome["again"]) - every).abs().max() < 1e-3
        )
    return facts


def between(*shape, hidden, column=False, scale=1.0, low=0.0, high=1.0):
    """Examples of a shape (n, …), a share for each, and a critic's weights."""
    n, entries = shape[0], torch.Size(shape[1:]).numel()
    return lambda make: {
        "real": make.normal(*shape, mean=0.3),
        "fake": make.normal(*shape, mean=-0.4),
        "epsilon": make.uniform(n, low=low, high=high),
        "W": make.normal(entries, hidden) * (scale / entries**0.5),
        "v": make.away_from_zero(*((hidden, 1) if column else (hidden,)), low=0.5, high=1.5),
    }


def apart(*shape, seeded):
    """Reals and fakes that differ in every entry, so that each point gives its share away."""

    def inputs(make):
        fake = make.normal(*shape)
        real = fake + make.away_from_zero(*shape, low=0.5, high=2.0)
        return {"real": real, "fake": fake, "seed": make.seed(), "seeded": seeded}

    return inputs


# A tiny epsilon under the norm's root is good practice, and shows in float64 alone.
SINGLE = {"dtypes": (torch.float32,)}
DOUBLE = {"dtypes": (torch.float64,), "loosen": 1e4}


def linear(*shape):
    entries = torch.Size(shape[1:]).numel()
    return lambda make: {
        "real": make.normal(*shape),
        "fake": make.normal(*shape),
        "W": make.away_from_zero(entries, low=0.6, high=1.4),
    }


DRAW = "torch.rand(len(real), generator=generator, dtype=real.dtype, device=real.device)"
POINTS = "(share * real + (1 - share) * fake).detach().requires_grad_()"
SHARE = "epsilon.reshape(-1, *[1] * (real.dim() - 1))"
SLOPE = "torch.linalg.vector_norm(gradient.flatten(1), dim=1)"
MEAN = "return (slope - 1).square().mean()"
ONE_EACH = (
    "One share is drawn for each example, and all entries of the example use it: n random numbers."
)
LINED_UP = (
    "A share belongs to an example, so it must line up with the batch dimension, whatever "
    "dimensions follow. Give it one dimension of size 1 for each of those."
)
SLOPE_OF_AN_EXAMPLE = (
    "The slope of an example is one norm over all its dimensions together: n norms, whatever the "
    "shape of an example."
)

gradient_penalty = Exercise(
    "gradient_penalty",
    oracle=one_example_at_a_time,
    mistakes=[
        Mistake("shares lined up with the last dimension", SHARE, "epsilon", LINED_UP),
        Mistake(
            "shares given one more dimension, however many there are",
            SHARE,
            "epsilon[:, None]",
            LINED_UP,
        ),
        Mistake(
            "one share for the whole batch",
            DRAW,
            DRAW.replace("len(real)", "1") + ".expand(len(real))",
            ONE_EACH,
        ),
        Mistake.edits_of(
            "the first example's share for the whole batch",
            [(SHARE, "epsilon[0]")],
            "Each example has a share of its own in epsilon; only the first one is used here.",
        ),
        Mistake(
            "one share for the whole batch, the generator ignored",
            DRAW,
            "torch.rand(1, dtype=real.dtype, device=real.device).expand(len(real))",
            ONE_EACH,
        ),
        Mistake.edits_of(
            "a share drawn for each entry by rand_like",
            [
                (DRAW, "torch.rand_like(real)"),
                (SHARE, f"epsilon if epsilon.dim() > 1 else {SHARE}"),
            ],
            ONE_EACH,
        ),
        Mistake.edits_of(
            "a share drawn for each entry",
            [
                (DRAW, DRAW.replace("len(real)", "real.shape")),
                (SHARE, f"epsilon if epsilon.dim() > 1 else {SHARE}"),
            ],
            ONE_EACH,
        ),
        Mistake(
            "shares from a normal distribution",
            DRAW,
            DRAW.replace("rand(", "randn("),
            "The shares are drawn uniformly from [0, 1): each point lies on the line between its "
            "real and its fake.",
        ),
        Mistake(
            "every point half way",
            DRAW,
            "torch.full((len(real),), 0.5, dtype=real.dtype, device=real.device)",
            "Half way is one point of many: draw the share at random for each example.",
        ),
        Mistake(
            "generator ignored",
            DRAW,
            DRAW.replace("generator=generator, ", ""),
            "The draw must come from the generator that is passed in, so that it can be repeated.",
        ),
        Mistake(
            "shares drawn on the CPU",
            DRAW,
            DRAW.replace(", device=real.device", ""),
            "The shares are made on the CPU, wherever the examples are. Draw them on the device of "
            "the real batch.",
        ),
        Mistake(
            "shares drawn in the default dtype",
            DRAW,
            DRAW.replace("dtype=real.dtype, ", ""),
            "The shares are drawn in float32, whatever the examples are in, and the points take "
            "that over. Draw them in the dtype of the real batch.",
        ),
        Mistake.edits_of(
            "drawn in any case",
            [
                ("if epsilon is None:\n        epsilon", "drawn"),
                (SHARE, SHARE.replace("epsilon", "(drawn if epsilon is None else epsilon)")),
            ],
            "The generator is used even where epsilon is given, which changes every later draw "
            "from it: draw only where it is None.",
        ),
        Mistake(
            "epsilon of zeros ignored",
            "if epsilon is None:",
            "if epsilon is None or not epsilon.any():",
            "A share of 0 is a share: ask whether epsilon is None, not whether it is zero.",
        ),
        Mistake(
            "gradients asked of the examples",
            POINTS,
            f"{POINTS}\n    real.requires_grad_()",
            "The examples are changed: they ask for a gradient afterwards. Ask it of the points "
            "alone, which are new.",
        ),
        Mistake(
            "the first example's score alone",
            "scores.sum()",
            "scores[0].sum()",
            "Only the first score is differentiated, so that all other slopes are 0: one call "
            "finds all of them, if it starts from all scores together.",
        ),
        Mistake(
            "shares rounded",
            POINTS,
            POINTS.replace("share *", "share.round() *").replace(
                "1 - share)", "1 - share.round())"
            ),
            "The points are the examples themselves: a share lies anywhere between 0 and 1.",
        ),
        Mistake(
            "epsilon ignored",
            "if epsilon is None:",
            "if True:",
            "Where epsilon is given, it is used as it is: draw only where it is None.",
        ),
        Mistake(
            "share of the fakes",
            POINTS,
            "(share * fake + (1 - share) * real).detach().requires_grad_()",
            "epsilon is the share of the real example; the fake gets the rest.",
        ),
        Mistake(
            "slope at the reals",
            POINTS,
            "real.detach().clone().requires_grad_()",
            "The slope is taken at points between real and fake, not at the real examples (that "
            "is another penalty, R1).",
        ),
        Mistake(
            "slope at the fakes",
            POINTS,
            "fake.detach().clone().requires_grad_()",
            "The slope is taken at points between real and fake, not at the fakes.",
        ),
        Mistake(
            "no rest for the fakes",
            POINTS,
            "(share * real + share * fake).detach().requires_grad_()",
            "The two shares of a point add up to 1.",
        ),
        Mistake(
            "gradients flow into the examples",
            POINTS,
            "(share * real + (1 - share) * fake + torch.zeros_like(real).requires_grad_())",
            "The points are constants: cut them off from whatever made the fakes, or the penalty "
            "trains the generator too.",
        ),
        Mistake(
            "cannot be trained on",
            "create_graph=True",
            "create_graph=False",
            "The penalty is computed from a gradient, and must itself be differentiated: ask "
            "autograd to record the gradient's own computation.",
        ),
        Mistake(
            "gradient of the mean score",
            "scores.sum()",
            "scores.mean()",
            "Each example's slope is that of its own score; a mean over the scores divides every "
            "slope by the batch's size.",
        ),
        Mistake(
            "gradients left in the critic",
            "(gradient,) = torch.autograd.grad(scores.sum(), between, create_graph=True)",
            "scores.sum().backward(create_graph=True)\n    gradient = between.grad",
            "backward() adds to every parameter's .grad on its way, which the next step would use. "
            "Ask for the gradient of the points alone.",
        ),
        Mistake(
            "norm over the second dimension",
            SLOPE,
            "torch.linalg.vector_norm(gradient, dim=1)",
            SLOPE_OF_AN_EXAMPLE,
        ),
        Mistake(
            "norm over the last dimension",
            SLOPE,
            "torch.linalg.vector_norm(gradient, dim=-1)",
            SLOPE_OF_AN_EXAMPLE,
        ),
        Mistake(
            "norm over the whole batch",
            SLOPE,
            "torch.linalg.vector_norm(gradient)",
            "That is one norm for the whole batch. Each example has a slope of its own.",
        ),
        Mistake(
            "norm over the batch dimension",
            SLOPE,
            "torch.linalg.vector_norm(gradient.flatten(1), dim=0)",
            "The norm runs across examples here. Each example has a slope of its own, over all its "
            "other dimensions.",
        ),
        Mistake(
            "sum of magnitudes for the norm",
            SLOPE,
            "gradient.flatten(1).abs().sum(dim=1)",
            "The slope is the Euclidean norm, not the sum of the magnitudes.",
        ),
        Mistake(
            "largest entry for the norm",
            SLOPE,
            "gradient.flatten(1).abs().amax(dim=1)",
            "The slope is the Euclidean norm, not the largest magnitude.",
        ),
        Mistake(
            "root mean square for the norm",
            SLOPE,
            "gradient.flatten(1).square().mean(dim=1).sqrt()",
            "The Euclidean norm sums the squares; it does not average them.",
        ),
        Mistake(
            "norm squared",
            SLOPE,
            "gradient.flatten(1).square().sum(dim=1)",
            "The root is missing: the slope is the norm, not its square.",
        ),
        Mistake("no norm", SLOPE, "gradient.flatten(1)", SLOPE_OF_AN_EXAMPLE),
        Mistake.edits_of(
            "one taken from every entry of the gradient",
            [
                (SLOPE, "torch.linalg.vector_norm((gradient - 1).flatten(1), dim=1)"),
                (MEAN, "return slope.square().mean()"),
            ],
            "The norm comes first: 1 is taken from each example's slope, not from the entries of "
            "its gradient.",
        ),
        Mistake(
            "target zero",
            MEAN,
            "return slope.square().mean()",
            "The slope is held near 1, not 0: penalise its distance from 1.",
        ),
        Mistake(
            "not squared",
            MEAN,
            "return (slope - 1).mean()",
            "The difference from 1 is squared, so that slopes too small cost as well.",
        ),
        Mistake(
            "absolute difference",
            MEAN,
            "return (slope - 1).abs().mean()",
            "The difference from 1 is squared, not its absolute value.",
        ),
        Mistake(
            "one-sided",
            MEAN,
            "return (slope - 1).clamp(min=0).square().mean()",
            "That is the one-sided penalty. Here slopes below 1 cost as much as slopes above it.",
        ),
        Mistake(
            "square of the mean",
            MEAN,
            "return (slope - 1).mean().square()",
            "Square each example's difference first, then average: slopes too small and too large "
            "must not cancel.",
        ),
        Mistake(
            "a sum",
            MEAN,
            "return (slope - 1).square().sum()",
            "The penalty is the mean over the examples, not the sum.",
        ),
        Mistake(
            "weighted by ten",
            MEAN,
            "return 10 * (slope - 1).square().mean()",
            "The weight belongs to the training step; the penalty itself has none.",
        ),
        Mistake(
            "one half",
            MEAN,
            "return (slope - 1).square().mean() / 2",
            "There is no factor of one half in this penalty.",
        ),
        Mistake(
            "not averaged",
            MEAN,
            "return (slope - 1).square()",
            "The penalty is one number: average over the examples.",
        ),
        Mistake(
            "returned as a number",
            MEAN,
            "return (slope - 1).square().mean().item()",
            "Return the penalty as a tensor: the critic is trained on it.",
        ),
    ],
    variants=[
        Variant(
            "as the paper's algorithm is usually written",
            """
            def gradient_penalty(critic, real, fake, epsilon=None, generator=None):
                n = real.size(0)
                if epsilon is None:
                    like_real = dict(device=real.device, dtype=real.dtype)
                    epsilon = torch.rand(n, generator=generator, **like_real)
                alpha = epsilon.view([n] + [1] * (real.ndim - 1)).expand_as(real)
                x_hat = alpha * real.detach() + (1 - alpha) * fake.detach()
                x_hat.requires_grad_(True)
                d_hat = critic(x_hat)
                grads = torch.autograd.grad(
                    outputs=d_hat, inputs=x_hat, grad_outputs=torch.ones_like(d_hat),
                    create_graph=True, retain_graph=True, only_inputs=True
                )[0]
                grads = grads.view(n, -1)
                return ((grads.norm(2, dim=1) - 1) ** 2).mean()
            """,
        ),
        Variant(
            "root of the sum of squares, a tiny epsilon in it",
            """
            def gradient_penalty(critic, real, fake, epsilon=None, generator=None):
                if epsilon is None:
                    epsilon = torch.empty_like(real.flatten(1)[:, 0])
                    epsilon.uniform_(generator=generator)
                while epsilon.dim() < real.dim():
                    epsilon = epsilon.unsqueeze(-1)
                points = torch.lerp(fake, real, epsilon).detach()
                points.requires_grad = True
                grads = torch.autograd.grad(critic(points).sum(), points, create_graph=True)[0]
                squares = torch.sum(grads**2, dim=tuple(range(1, grads.dim())))
                return torch.mean((torch.sqrt(squares + 1e-8) - 1) ** 2)
            """,
        ),
        Variant(
            "from the difference, as in the authors' code",
            """
            def gradient_penalty(critic, real, fake, epsilon=None, generator=None):
                real, fake = real.detach(), fake.detach()
                shape = (len(real),) + (1,) * (real.dim() - 1)
                if epsilon is None:
                    share = real.new_empty(shape).uniform_(0, 1, generator=generator)
                else:
                    share = epsilon.reshape(shape)
                points = (fake + share * (real - fake)).requires_grad_()
                grads, = torch.autograd.grad(critic(points).sum(), [points], create_graph=True)
                slopes = torch.einsum("ni,ni->n", grads.flatten(1), grads.flatten(1)).sqrt()
                return F.mse_loss(slopes, torch.ones_like(slopes))
            """,
        ),
        Variant(
            "one example at a time",
            """
            def gradient_penalty(critic, real, fake, epsilon=None, generator=None):
                if epsilon is None:
                    epsilon = torch.rand(len(real), generator=generator, device=real.device)
                    epsilon = epsilon.to(real.dtype)
                total = 0.0
                for i in range(len(real)):
                    x = epsilon[i] * real[i : i + 1] + (1 - epsilon[i]) * fake[i : i + 1]
                    x = x.detach().clone().requires_grad_(True)
                    slope = torch.autograd.grad(critic(x).sum(), x, create_graph=True)[0].norm()
                    total = total + (slope - 1) ** 2
                return total / len(real)
            """,
        ),
        Variant(
            "torch.func",
            """
            def gradient_penalty(critic, real, fake, epsilon=None, generator=None):
                if epsilon is None:
                    epsilon = torch.rand(
                        len(real), generator=generator, dtype=real.dtype, device=real.device
                    )
                share = epsilon[(slice(None),) + (None,) * (real.dim() - 1)]
                points = (share * real + (1 - share) * fake).detach()
                score = lambda x: critic(x.unsqueeze(0)).sum()
                grads = torch.func.vmap(torch.func.grad(score))(points)
                return (grads.flatten(1).norm(dim=1) - 1).pow(2).mean()
            """,
        ),
    ],
)


@gradient_penalty.test(
    points=2,
    cases=[
        Case("vectors", penalty, between(5, 3, hidden=4), **SINGLE),
        Case("images", penalty, between(4, 2, 4, 3, hidden=5, column=True), **SINGLE),
        Case("sequences, in float64", penalty, between(3, 5, 2, hidden=4), **DOUBLE),
        Case("as many examples as entries", penalty, between(4, 4, hidden=6), **SINGLE),
        Case("a steep critic", penalty, between(5, 3, hidden=7, scale=4.0), **SINGLE),
        Case("a flat critic", penalty, between(6, 4, hidden=3, scale=0.1), **SINGLE),
        Case("points at the fakes", penalty, between(5, 2, hidden=4, high=0.0), **SINGLE),
        Case("points next to the reals", penalty, between(3, 4, hidden=5, low=0.95), **SINGLE),
        Case("one example, in float64", penalty, between(1, 6, hidden=4), **DOUBLE),
    ],
)
def test_gradient_penalty_measures_the_slope(submission, case):
    """Is the mean squared distance of the slopes from 1, at the points given"""
    submission.matches_reference(case)


@gradient_penalty.test(
    points=1,
    cases=[
        Case("vectors", penalty_and_its_gradients, between(5, 3, hidden=4), **DOUBLE),
        Case(
            "images",
            penalty_and_its_gradients,
            between(3, 2, 4, 5, hidden=6, column=True),
            **SINGLE,
        ),
    ],
)
def test_gradient_penalty_trains_the_critic(submission, case):
    """Can be trained on: its gradient reaches the critic's weights"""
    submission.matches_reference(case)


@gradient_penalty.test(
    points=0.5,
    cases=[
        Case(
            "examples that require gradients",
            penalty_of_attached_examples,
            between(5, 3, hidden=4),
            **SINGLE,
        ),
        Case(
            "gradients stored before the call",
            penalty_beside_stored_gradients,
            between(4, 3, hidden=5),
            **SINGLE,
        ),
    ],
)
def test_gradient_penalty_leaves_everything_else_alone(submission, case):
    """Sends no gradient to the examples and leaves every .grad as it was"""
    submission.matches_reference(case)


@gradient_penalty.test(
    points=1,
    cases=[
        Case(
            "vectors, PyTorch's own generator",
            drawn_points,
            apart(400, 3, seeded=False),
            observe=facts_of_the_draw,
        ),
        Case(
            "vectors, a generator passed in",
            drawn_points,
            apart(400, 2, seeded=True),
            observe=facts_of_the_draw,
        ),
        Case("images", drawn_points, apart(400, 1, 3, 2, seeded=True), observe=facts_of_the_draw),
        Case(
            "examples in bfloat16",
            dtype_of_the_points,
            lambda make: {"real": make.normal(4, 3), "fake": make.normal(4, 3)},
            **SINGLE,
        ),
    ],
)
def test_gradient_penalty_draws_the_points(submission, case):
    """Draws one share for each example where none is given"""
    submission.matches_reference(case)


@gradient_penalty.test(
    points=0.5,
    cases=[
        Case("shares given", penalty_and_its_gradients, between(3, 2, 2, 4, hidden=5)),
        Case("shares drawn", penalty_of_a_linear_critic, linear(4, 2, 3)),
    ],
)
def test_gradient_penalty_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)
