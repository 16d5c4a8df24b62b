"""Training a GAN: the noise, the two steps, the figures that show a collapse, and averaging.

Goodfellow et al. (2014), https://arxiv.org/abs/1406.2661, Algorithm 1; Srivastava et al. (2017),
https://arxiv.org/abs/1705.07761; Yazıcı et al. (2019), https://arxiv.org/abs/1806.04498.

The steps start from a case's parameters and use SGD with momentum, which shows the size of a
gradient. Batch normalisation keeps no running statistics here, so that the order of two calls is
nobody's business; a recorder in each network writes down its mode and the passes back.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from autograder.spec import Case, Exercise, Mistake, load_parameters
from autograder.spec.tables import edits, slips, variants

ONE = (torch.float64,)

# ---------------------------------------------------------------- sample_noise


def noise_by_normal(batch_size, latent_dim, generator=None, device="cpu"):
    return torch.empty(batch_size, latent_dim, device=device).normal_(generator=generator)


def drawn_noise(impl, batch_size, latent_dim, seed):
    def seeded(seed):
        return torch.Generator().manual_seed(seed)

    ours, again, other = seeded(seed), seeded(seed), seeded(seed + 1)
    torch.manual_seed(seed)
    return {
        "noise": impl(batch_size, latent_dim),
        "next": impl(batch_size, latent_dim),
        "seeded": impl(batch_size, latent_dim, ours),
        "seeded next": impl(batch_size, latent_dim, ours),
        "again": impl(batch_size, latent_dim, generator=again),
        "other": impl(batch_size, latent_dim, generator=other),
    }


def facts_of_noise(outcome, _inputs):
    """At 12,000 numbers a draw, the bounds lie six sigma out."""
    facts = {
        "another call draws other noise": not outcome["noise"].equal(outcome["next"]),
        "the same generator goes on drawing": not outcome["seeded"].equal(outcome["seeded next"]),
        "equal seeds give equal noise": outcome["seeded"].equal(outcome["again"]),
        "other seeds give other noise": not outcome["again"].equal(outcome["other"]),
    }
    for name in ("noise", "seeded"):
        z = outcome[name].double()
        n, d = z.shape
        near = (z.abs() < 1).double().mean()
        facts |= {
            f"{name}: shape": [n, d],
            f"{name}: dtype": str(outcome[name].dtype),
            f"{name}: mean 0": bool(z.mean().abs() < 6 / math.sqrt(z.numel())),
            f"{name}: variance 1": bool((z.var() - 1).abs() < 6 * math.sqrt(2 / z.numel())),
            f"{name}: standard deviation, about": round(4 * float(z.std())) / 4,
            f"{name}: bell-shaped": bool((near - 0.6827).abs() < 0.03 and z.abs().max() > 2.5),
            f"{name}: no negative number": bool((z >= 0).all()),
            f"{name}: rows differ": bool((z[0] != z[1]).any()),
            f"{name}: columns differ": bool((z[:, 0] != z[:, 1]).any()),
            f"{name}: rows of different length": bool(z.norm(dim=1).std() > 0.1),
            f"{name}: standardised": bool(z.mean().abs() < 1e-7 and (z.std() - 1).abs() < 1e-3),
            f"{name}: columns standardised": bool((z.mean(dim=0).abs() < 1e-6).all()),
            f"{name}: rows standardised": bool((z.mean(dim=1).abs() < 1e-6).all()),
        }
    return facts


def shape_of_noise(impl, like):
    return 0 * impl(len(like), like.shape[1] + 2, device=like.device)


NOISE = "torch.randn(batch_size, latent_dim, generator=generator, device=device)"
UNIFORM = NOISE.replace("randn", "rand")

sample_noise = Exercise(
    "sample_noise",
    oracle=noise_by_normal,
    mistakes=[Mistake(name, NOISE, code, hint) for name, code, hint in [
        ("uniform from 0 to 1", UNIFORM,
         "These numbers are uniform. The noise is standard normal, positive and negative."),
        ("uniform from minus 1 to 1", f"2 * {UNIFORM} - 1",
         "These numbers are uniform. The noise is standard normal."),
        ("one row repeated", NOISE.replace("batch_size", "1") + ".repeat(batch_size, 1)",
         "All fakes would be made of the same noise: every row needs a draw of its own."),
        ("one number a row", NOISE.replace("latent_dim", "1") + ".repeat(1, latent_dim)",
         "A row repeats one number. Every entry is drawn by itself."),
        ("other way round", NOISE.replace("batch_size, latent_dim", "latent_dim, batch_size"),
         "The batch comes first: the shape is (batch_size, latent_dim)."),
        ("generator ignored", NOISE.replace("generator=generator, ", ""),
         "The draw must come from the generator that is passed in, so that it can be repeated."),
        ("device ignored", NOISE.replace(", device=device", ""),
         "The noise stays on the CPU. Draw it on the device asked for."),
        ("on a sphere", f"nn.functional.normalize({NOISE})",
         "The rows have been scaled to length 1; the noise is used as it is drawn."),
        ("standardised", f"(lambda z: (z - z.mean()) / z.std())({NOISE})",
         "The batch has been given the mean 0 and the deviation 1, so that its entries depend on "
         "one another. The noise is used as it is drawn."),
        ("standardised column by column",
         f"(lambda z: (z - z.mean(0)) / z.std(0))({NOISE})",
         "The columns have been given the mean 0 and the deviation 1, so that entries depend on "
         "one another. The noise is used as it is drawn."),
        ("four dimensions", NOISE + "[:, :, None, None]",
         "That is the shape for a convolution. Here the noise is a matrix, (batch_size, "
         "latent_dim)."),
        ("divided by a root", NOISE + " / latent_dim**0.5",
         "The variance of each entry is 1, whatever the dimension."),
        ("standard deviation of 0.02", f"0.02 * {NOISE}",
         "That is how weights are drawn. The noise has a standard deviation of 1."),
        ("in float64", NOISE[:-1] + ", dtype=torch.float64)", "The noise is float32."),
        ("positive only", NOISE + ".abs()", "The noise has both signs: it is standard normal."),
        ("always the same", NOISE.replace("generator=generator", "generator=generator or "
                                          "torch.Generator(device).manual_seed(0)"),
         "A generator made inside the function starts afresh at every call: each batch would be "
         "the same."),
    ]],
    variants=variants("""
        filled in place
            def sample_noise(batch_size, latent_dim, generator=None, device="cpu"):
                z = torch.empty((batch_size, latent_dim), device=device)
                return z.normal_(0.0, 1.0, generator=generator)

        drawn flat
            def sample_noise(batch_size, latent_dim, generator=None, device="cpu"):
                flat = torch.randn(batch_size * latent_dim, generator=generator, device=device)
                return flat.view(batch_size, -1)

        torch.normal
            def sample_noise(batch_size, latent_dim, generator=None, device="cpu"):
                zeros = torch.zeros(batch_size, latent_dim, device=device)
                return torch.normal(zeros, 1.0, generator=generator)

        by nn.init
            def sample_noise(batch_size, latent_dim, generator=None, device="cpu"):
                z = torch.empty(batch_size, latent_dim, dtype=torch.float32, device=device)
                nn.init.normal_(z, generator=generator)
                return z
    """),
)  # fmt: skip


@sample_noise.test(points=0.5, cases=[
    Case("a large batch", drawn_noise,
         lambda make: {"batch_size": 600, "latent_dim": 20, "seed": make.seed()},
         observe=facts_of_noise, dtypes=ONE),
])  # fmt: skip
def test_sample_noise_draws_from_a_normal_distribution(submission, case):
    """Draws every entry from the standard normal distribution"""
    submission.matches_reference(case)


@sample_noise.test(points=0.25, cases=[
    Case("a small batch", shape_of_noise, lambda make: {"like": make.normal(5, 3)}),
])  # fmt: skip
def test_sample_noise_follows_the_device(submission, case):
    """Draws on the device asked for"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- the two steps: scenarios


class Recorder(nn.Module):
    """Passes its input on; writes down the mode, and every pass back through it."""

    def __init__(self, name, modes, events):
        super().__init__()
        self.told, self.modes, self.events = f"back through the {name}", modes, events

    def forward(self, x):
        self.modes.add("training" if self.training else "evaluation")
        if x.requires_grad:
            x.register_hook(lambda _: self.events.append(self.told))
        return x


class RecordedSGD(torch.optim.SGD):
    """Writes down its steps."""

    events: list[str]

    def step(self, closure=None):
        found = super().step(closure)
        self.events.append("a step")
        return found


def perceptron(d_in, width, d_out, recorder):
    norm = nn.BatchNorm1d(width, track_running_stats=False)
    return nn.Sequential(nn.Linear(d_in, width), norm, nn.Tanh(), nn.Linear(width, d_out), recorder)


WIDTHS = {"generator": (3, 5, 2), "discriminator": (2, 6, 1)}
STARTS = ("0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias")


def parameters(make, d_in, width, d_out):
    shapes = ((width, d_in), (width,), (width,), (width,), (d_out, width), (d_out,))
    return {n: make.away_from_zero(*s, low=0.3, high=1.2) for n, s in zip(STARTS, shapes)}  # noqa: B905


def rounds_of(*sizes, evaluated=(), stale=False):
    """Inputs: a round for each pair (reals, fakes); which networks are in evaluation mode."""

    def draw(make):
        return {
            "weights": {name: parameters(make, *widths) for name, widths in WIDTHS.items()},
            "rounds": [(make.normal(n, 2, mean=1.0), make.normal(m, 3)) for n, m in sizes],
            "evaluated": list(evaluated),
            "stale": make.number(0.4, 1.2) if stale else None,
        }

    return draw


def told(events):
    """What happened, in order; several passes in a row count as one."""
    return ", then ".join(e for i, e in enumerate(events) if i == 0 or e != events[i - 1])


def rounds_with(call, trained, weights, rounds, evaluated, stale):
    """Play some rounds of ``call(networks, optimizer, real, noise)``; say all that came of it."""
    networks, modes, events = {}, {name: set() for name in WIDTHS}, []
    for name, widths in WIDTHS.items():
        watched = events if name == "discriminator" or trained == "generator" else []
        networks[name] = perceptron(*widths, Recorder(name, modes[name], watched))
        load_parameters(networks[name], weights[name]).train(name not in evaluated)
        for p in networks[name].parameters():
            p.grad = None if stale is None else torch.full_like(p, stale)
    other = "generator" if trained == "discriminator" else "discriminator"
    networks[other][0].bias.requires_grad_(not evaluated)  # a network may be frozen in part
    optimizer = RecordedSGD(networks[trained].parameters(), lr=0.3, momentum=0.8)
    optimizer.events = events
    losses, happened = [], []
    for real, noise in rounds:
        events.clear()
        losses.append(call(networks, optimizer, real, noise))
        happened.append(told(events))
    tensors = [loss for loss in losses if isinstance(loss, Tensor)]
    return {
        "losses": [loss.detach() if isinstance(loss, Tensor) else loss for loss in losses],
        "a loss requires a gradient": any(loss.requires_grad for loss in tensors),
        "what happened in each round": happened,
        "examples or noise ask for a gradient": any(
            part.requires_grad for pair in rounds for part in pair
        ),
        **{
            f"the {name}'s parameters": {n: p.detach() for n, p in network.named_parameters()}
            for name, network in networks.items()
        },
        **{
            f"the {name}": f"called in {' and '.join(sorted(modes[name]))} mode, "
            f"left in {'training' if network.training else 'evaluation'} mode, "
            f"{sum(p.requires_grad for p in network.parameters())} parameters require gradients"
            for name, network in networks.items()
        },
        **(
            {
                "gradients stored in the generator": [
                    p.grad for p in networks["generator"].parameters()
                ]
            }
            if trained == "discriminator"
            else {}
        ),
    }


def discriminator_rounds(impl, **inputs):
    def call(networks, optimizer, real, noise):
        return impl(networks["generator"], networks["discriminator"], optimizer, real, noise)

    return rounds_with(call, "discriminator", **inputs)


def generator_rounds(impl, **inputs):
    def call(networks, optimizer, _real, noise):
        return impl(networks["generator"], networks["discriminator"], optimizer, noise)

    return rounds_with(call, "generator", **inputs)


def step_by_grad(optimizer, loss):
    owned = [p for group in optimizer.param_groups for p in group["params"]]
    for p, grad in zip(owned, torch.autograd.grad(loss, owned), strict=True):
        p.grad = grad
    optimizer.step()
    return loss.detach()


def discriminator_step_by_grad(generator, discriminator, optimizer, real, noise):
    with torch.no_grad():
        fake = generator(noise)
    on_fake, on_real = discriminator(fake), discriminator(real)
    entropy = F.binary_cross_entropy_with_logits
    loss = entropy(on_real, torch.ones_like(on_real)) + entropy(on_fake, torch.zeros_like(on_fake))
    return step_by_grad(optimizer, loss)


def generator_step_by_grad(generator, discriminator, optimizer, noise):
    logits = discriminator(generator(noise))
    loss = F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
    return step_by_grad(optimizer, loss)


STEP_CASES = {
    "one step": rounds_of((6, 4)),
    "three steps": rounds_of((5, 7), (4, 6), (8, 3)),
    "as many fakes as reals": rounds_of((5, 5), (5, 5)),
    "gradients left from before": rounds_of((7, 4), (5, 6), stale=True),
    "networks in evaluation mode": rounds_of(
        (4, 5), (6, 4), evaluated=("generator", "discriminator")
    ),
}

# ---------------------------------------------------------------- discriminator_step

FAKE = "fake = generator(noise).detach()  # (m, …)"
LOSS = "loss = discriminator_loss(discriminator(real), discriminator(fake))"
CLEAR, BACK, STEP, RETURN = (
    "    optimizer.zero_grad()\n",
    "    loss.backward()  # type: ignore[no-untyped-call]\n",
    "    optimizer.step()\n",
    "return loss.detach()",
)


def step_mistakes(loss):
    """Slips in the order of things, which both steps share."""
    return [Mistake.edits_of(name, changes, hint) for name, changes, hint in [
        ("gradients never cleared", [(CLEAR, "")],
         "backward() adds to what .grad holds: clear the gradients before it, in every step."),
        ("cleared after the step only", [(CLEAR, ""), (STEP, STEP + CLEAR)],
         "What .grad held before the call enters the first step. Clear before backward()."),
        ("cleared between backward and step", [(CLEAR, ""), (BACK, BACK + CLEAR)],
         "The gradients are cleared just before the step that should follow them."),
        ("no step", [(STEP, "")], "step() is missing: there are gradients, and nobody moves."),
        ("no backward", [(BACK, "")], "backward() is missing: step() finds no gradients."),
        ("step before backward", [(BACK + STEP, STEP + BACK)],
         "The step comes before the gradient that it should follow."),
        ("two steps", [(STEP, STEP + STEP)], "Take one step of the optimizer, not two."),
        ("uphill", [("loss.backward()", "(-loss).backward()")],
         "The loss is already something to be minimised: no minus sign before it."),
        ("loss after the step", [(RETURN, f"{loss}\n    return loss.detach()")],
         "That is the loss after the step. Return the one whose gradient was followed."),
        ("loss with its graph", [(RETURN, "return loss")],
         "The loss still holds its graph, which a list of losses would keep in memory. Return it "
         "without."),
        ("loss as a number", [(RETURN, "return loss.item()")],
         "Return a tensor of shape (): .item() makes a Python number of it."),
        ("nothing returned", [(RETURN, "return None")], "The loss is to be returned."),
    ]]  # fmt: skip


discriminator_step = Exercise(
    "discriminator_step",
    oracle=discriminator_step_by_grad,
    mistakes=[
        *step_mistakes(LOSS),
        *slips(
            FAKE,
            """
            fakes not detached
                fake = generator(noise)
            The gradient runs on into the generator and piles up in its .grad. Cut the fakes off
            from what made them.

            as many fakes as reals
                fake = generator(noise[: len(real)]).detach()
            Use all of the noise: there may be more fakes than reals.

            noise drawn anew
                fake = generator(torch.randn_like(noise)).detach()
            The noise is passed in: make the fakes of that, and draw nothing here.

            generator in evaluation mode
                fake = generator.eval()(noise).detach()
            The generator works in the mode in which it is passed in: leave eval() to the caller.

            generator in evaluation mode for the call
                mode = generator.training
                    fake = generator.eval()(noise).detach()
                    generator.train(mode)
            The generator works in the mode in which it is passed in: leave eval() to the caller.

            networks put into training mode
                generator.train(), discriminator.train()
                    fake = generator(noise).detach()
            Which mode the networks are in is the caller's choice: do not call train() here.

            generator frozen for good
                fake = generator.requires_grad_(False)(noise)
            Freezing the generator's parameters is not undone: its own step would not train it
            any more. A detach is enough.

            generator unfrozen afterwards
                generator.requires_grad_(False)
                    fake = generator(noise)
                    generator.requires_grad_(True)
            Parameters of the generator that were frozen before the call are not any more: their
            requires_grad is left as it was. A detach is enough.

            discriminator put into training mode
                discriminator.train()
                    fake = generator(noise).detach()
            Which mode the networks are in is the caller's choice: do not call train() here.

            gradients asked of the reals
                real.requires_grad_()
                    fake = generator(noise).detach()
            The reals are data and left unchanged: only the parameters need gradients.

            the generator's gradients cleared
                fake = generator(noise).detach()
                    generator.zero_grad()
            The generator's .grad are not this step's business: leave them as they are.
        """,
        ),
        *slips(
            LOSS,
            """
            labels exchanged
                loss = discriminator_loss(discriminator(fake), discriminator(real))
            Reals come first in discriminator_loss, fakes second: here fakes count as real.

            logits of the fakes detached
                loss = discriminator_loss(discriminator(real), discriminator(fake).detach())
            Detached logits teach the discriminator nothing about fakes. What is cut off is the
            generator's output, before the discriminator sees it.

            real examples only
                loss = discriminator_loss(discriminator(real), discriminator(real))
            The fakes do not take part: the discriminator needs both batches.

            fakes only
                loss = discriminator_loss(discriminator(fake), discriminator(fake))
            The real examples do not take part: the discriminator needs both batches.

            the generator's loss
                loss = generator_loss(discriminator(fake))
            That is what the *generator* minimises. It teaches the discriminator to be fooled.

            halved
                loss = discriminator_loss(discriminator(real), discriminator(fake)) / 2
            The loss is used as it is: its two means are added, not averaged.

            one mean for both batches
                logits = torch.cat([discriminator(real), discriminator(fake)])
                    labels = torch.cat([torch.ones(len(real), 1), torch.zeros(len(fake), 1)])
                    loss = nn.functional.binary_cross_entropy_with_logits(logits, labels.to(logits))
            One mean over all logits halves the loss, or lets the larger batch count more. Each
            batch has a mean of its own, and the two are added.

            smoothed labels
                on_real, on_fake = discriminator(real), discriminator(fake)
                    loss = discriminator_loss(on_real, on_fake) + 0.1 * on_real.mean()
            With a label of 0.9 for the reals this is a loss of another kind. Here reals have the
            label 1.

            one call for both batches
                logits = discriminator(torch.cat([real, fake]))
                    loss = discriminator_loss(logits[: len(real)], logits[len(real) :])
            In one call batch normalisation mixes the statistics of reals and fakes. Call the
            discriminator for each batch by itself.

            sigmoid before the loss
                on_real, on_fake = discriminator(real).sigmoid(), discriminator(fake).sigmoid()
                    loss = discriminator_loss(on_real, on_fake)
            discriminator_loss takes logits and applies the sigmoid itself.
        """,
        ),
        *slips(
            (LOSS + "\n" + CLEAR + BACK + STEP).rstrip(),
            """
            a step for each batch
                real_loss = -nn.functional.logsigmoid(discriminator(real)).mean()
                    optimizer.zero_grad()
                    real_loss.backward()
                    optimizer.step()
                    fake_loss = nn.functional.softplus(discriminator(fake)).mean()
                    optimizer.zero_grad()
                    fake_loss.backward()
                    optimizer.step()
                    loss = real_loss + fake_loss
            One step for the reals and one for the fakes are two steps. Add both gradients, then
            take one.
        """,
        ),
        *slips(
            (LOSS + "\n" + CLEAR + BACK).rstrip(),
            """
            cleared between the two batches
                real_loss = -nn.functional.logsigmoid(discriminator(real)).mean()
                    fake_loss = nn.functional.softplus(discriminator(fake)).mean()
                    optimizer.zero_grad()
                    real_loss.backward()
                    optimizer.zero_grad()
                    fake_loss.backward()
                    loss = real_loss + fake_loss
            The gradient of the reals is thrown away before the step. Clear once, before both.
        """,
        ),
    ],
    variants=variants("""
        fakes without a graph
            def discriminator_step(generator, discriminator, optimizer, real, noise):
                optimizer.zero_grad()
                with torch.no_grad():
                    fake = generator(noise)
                loss = discriminator_loss(discriminator(real), discriminator(fake))
                loss.backward()
                optimizer.step()
                return loss.detach()

        a pass back for each batch
            def discriminator_step(generator, discriminator, optimizer, real, noise):
                discriminator.zero_grad()
                logits = discriminator(real)
                entropy = nn.functional.binary_cross_entropy_with_logits
                real_loss = entropy(logits, torch.ones_like(logits))
                real_loss.backward()
                logits = discriminator(generator(noise).detach())
                fake_loss = entropy(logits, torch.zeros_like(logits))
                fake_loss.backward()
                optimizer.step()
                return (real_loss + fake_loss).detach()

        a closure
            def discriminator_step(generator, discriminator, optimizer, real, noise):
                fake = generator(noise).detach()
                def closure():
                    optimizer.zero_grad(set_to_none=False)
                    fake_logits, real_logits = discriminator(fake), discriminator(real)
                    loss = discriminator_loss(real_logits, fake_logits)
                    loss.backward()
                    return loss
                return optimizer.step(closure).detach()

        the generator frozen meanwhile
            def discriminator_step(generator, discriminator, optimizer, real, noise):
                before = [p.requires_grad for p in generator.parameters()]
                generator.requires_grad_(False)
                loss = discriminator_loss(discriminator(real), discriminator(generator(noise)))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                for p, flag in zip(generator.parameters(), before):
                    p.requires_grad_(flag)
                return loss.detach().clone()

        gradients of the discriminator alone
            def discriminator_step(generator, discriminator, optimizer, real, noise):
                loss = discriminator_loss(discriminator(real), discriminator(generator(noise)))
                params = [p for p in discriminator.parameters() if p.requires_grad]
                for p, grad in zip(params, torch.autograd.grad(loss, params)):
                    p.grad = grad
                optimizer.step()
                return loss.data
    """),
)


@discriminator_step.test(
    points=2,
    cases=[
        Case(title, discriminator_rounds, STEP_CASES[title])
        for title in ("one step", "three steps", "as many fakes as reals")
    ],
)
def test_discriminator_step_trains_the_discriminator(submission, case):
    """Trains the discriminator, and nothing else"""
    submission.matches_reference(case)


@discriminator_step.test(
    points=1,
    cases=[
        Case(title, discriminator_rounds, STEP_CASES[title])
        for title in ("gradients left from before", "networks in evaluation mode")
    ],
)
def test_discriminator_step_leaves_things_as_they_were(submission, case):
    """Is not disturbed by old gradients, and leaves modes and the generator alone"""
    submission.matches_reference(case)


@discriminator_step.test(
    points=0.5, cases=[Case("one step", discriminator_rounds, STEP_CASES["one step"])]
)
def test_discriminator_step_follows_the_device(submission, case):
    """Works on whichever device the networks are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- generator_step

FAKES, JUDGED = "fake = generator(noise)  # (m, …)", "loss = generator_loss(discriminator(fake))"

generator_step = Exercise(
    "generator_step",
    oracle=generator_step_by_grad,
    mistakes=[
        *step_mistakes("loss = generator_loss(discriminator(generator(noise)))"),
        *slips(
            FAKES,
            """
            fakes detached
                fake = generator(noise).detach()
            Detached fakes end the gradient before it reaches the generator. The detach belongs to
            the discriminator's step.

            networks put into training mode
                generator.train(), discriminator.train()
                    fake = generator(noise)
            Which mode the networks are in is the caller's choice: do not call train() here.

            noise drawn anew
                fake = generator(torch.randn_like(noise))
            The noise is passed in: make the fakes of that, and draw nothing here.

            generator in evaluation mode
                fake = generator.eval()(noise)
            The generator works in the mode in which it is passed in: leave eval() to the caller.

            one fake
                fake = generator(noise)[:1].expand(len(noise), -1)
            Every row of the noise makes a fake of its own, and all of them are judged.

            half of the noise
                fake = generator(noise[: len(noise) // 2 + 1])
            Use all of the noise that is passed in.
        """,
        ),
        *slips(
            JUDGED,
            """
            trained to be recognised
                loss = nn.functional.softplus(discriminator(fake)).mean()
            That is the discriminator's side: the fakes labelled fake. The generator wants them to
            pass for real.

            the saturating loss
                loss = -nn.functional.softplus(discriminator(fake)).mean()
            That is the minimax loss, whose gradient fades when fakes are recognised. Use the
            non-saturating generator_loss.

            raw logits
                loss = -discriminator(fake).mean()
            That is the generator's loss of the Wasserstein game; here it is generator_loss.

            sigmoid before the loss
                loss = generator_loss(discriminator(fake).sigmoid())
            generator_loss takes logits and applies the sigmoid itself.

            a batch of fakes taken for real
                loss = discriminator_loss(discriminator(fake), discriminator(fake))
            Labelled real and fake at once, the fakes are pulled both ways. The generator's loss
            has one term.

            discriminator in evaluation mode
                loss = generator_loss(discriminator.eval()(fake))
            The discriminator works in the mode in which it is passed in, and stays in it.

            discriminator in evaluation mode for the call
                mode = discriminator.training
                    loss = generator_loss(discriminator.eval()(fake))
                    discriminator.train(mode)
            The discriminator works in the mode in which it is passed in: leave eval() to the
            caller.

            discriminator frozen for good
                loss = generator_loss(discriminator.requires_grad_(False)(fake))
            Freezing the discriminator's parameters is not undone: its own step would fail. They
            are not in this optimizer, so nothing moves them.

            discriminator unfrozen afterwards
                discriminator.requires_grad_(False)
                    loss = generator_loss(discriminator(fake))
                    discriminator.requires_grad_(True)
            Parameters of the discriminator that were frozen before the call are not any more:
            their requires_grad is left as it was.

            discriminator cut off
                with torch.no_grad():
                        logits = discriminator(fake)
                    loss = generator_loss(logits)
            The gradient reaches the fakes *through* the discriminator: its call must be recorded.
        """,
        ),
        Mistake(
            "the discriminator moved too",
            STEP,
            STEP + "    with torch.no_grad():\n"
            "        for p in discriminator.parameters():\n"
            "            p -= 0.01 * p.grad\n",
            "Only the generator moves in this step: the discriminator would be trained to be "
            "fooled.",
        ),
    ],
    variants=variants("""
        cleared through the network
            def generator_step(generator, discriminator, optimizer, noise):
                generator.zero_grad()
                logits = discriminator(generator(noise))
                loss = nn.BCEWithLogitsLoss()(logits, torch.ones_like(logits))
                loss.backward()
                optimizer.step()
                return loss.detach()

        the discriminator frozen meanwhile
            def generator_step(generator, discriminator, optimizer, noise):
                flags = {p: p.requires_grad for p in discriminator.parameters()}
                for p in flags:
                    p.requires_grad_(False)
                optimizer.zero_grad(set_to_none=False)
                loss = generator_loss(discriminator(generator(noise)))
                torch.autograd.backward(loss)
                optimizer.step()
                for p, flag in flags.items():
                    p.requires_grad_(flag)
                return loss.detach()

        gradients of the generator alone
            def generator_step(generator, discriminator, optimizer, noise):
                loss = generator_loss(discriminator(generator(noise)))
                params = list(generator.parameters())
                grads = torch.autograd.grad(loss, params)
                for p, grad in zip(params, grads):
                    p.grad = grad
                optimizer.step()
                return loss.data

        in two legs
            def generator_step(generator, discriminator, optimizer, noise):
                fake = generator(noise)
                leaf = fake.detach().requires_grad_()
                loss = generator_loss(discriminator(leaf))
                loss.backward()
                optimizer.zero_grad()
                fake.backward(leaf.grad)
                optimizer.step()
                discriminator.zero_grad()
                return loss.detach()

        a closure
            def generator_step(generator, discriminator, optimizer, noise):
                def closure():
                    optimizer.zero_grad()
                    loss = generator_loss(discriminator(generator(noise)))
                    loss.backward()
                    return loss
                return optimizer.step(closure).detach()
    """),
)


@generator_step.test(
    points=2,
    cases=[
        Case(title, generator_rounds, STEP_CASES[title])
        for title in ("one step", "three steps", "as many fakes as reals")
    ],
)
def test_generator_step_trains_the_generator(submission, case):
    """Trains the generator through the discriminator"""
    submission.matches_reference(case)


@generator_step.test(
    points=1,
    cases=[
        Case(title, generator_rounds, STEP_CASES[title])
        for title in ("gradients left from before", "networks in evaluation mode")
    ],
)
def test_generator_step_leaves_things_as_they_were(submission, case):
    """Is not disturbed by old gradients, and leaves modes and the discriminator alone"""
    submission.matches_reference(case)


@generator_step.test(points=0.5, cases=[Case("one step", generator_rounds, STEP_CASES["one step"])])
def test_generator_step_follows_the_device(submission, case):
    """Works on whichever device the networks are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- mode_counts


def counts_by_loop(samples, centres, std):
    counts = torch.zeros(len(centres), dtype=torch.int64, device=samples.device)
    for sample in samples:
        squares = (centres - sample).square().sum(dim=1)
        mode = squares.argmin()
        here = torch.arange(len(centres), device=samples.device) == mode
        counts += here * (squares.min() <= 9 * std**2)
    return counts


def apply(impl, **inputs):
    return impl(**inputs)


def around(*members, d, spacing=20.0, bad=0.35):
    """So many samples around each mode; a share of them too far out. Nothing near three sigma."""

    def draw(make):
        std, modes = make.number(0.3, 0.7), len(members)
        places = torch.arange(modes).double()
        lattice = torch.stack([places // 3 ** (k % 2) % 3 + places // 9 for k in range(d)], dim=1)
        if d == 1:
            lattice = places[:, None]
        centres = spacing * std * lattice + make.normal(d)
        mode = torch.repeat_interleave(torch.arange(modes), torch.tensor(members))
        n = len(mode)
        towards = torch.nn.functional.normalize(make.normal(n, d))
        out = torch.arange(n) < bad * n
        radius = torch.where(
            out[make.permutation(n)],
            make.uniform(n, low=3.15, high=7.0),
            make.uniform(n, low=0.1, high=2.9),
        )
        samples = centres[mode] + std * radius[:, None] * towards
        return {"samples": samples[make.permutation(n)], "centres": centres, "std": std}

    return draw


def at_the_bound(make):
    """Some samples at three standard deviations, in numbers that floating point holds exactly."""
    centres = 8.0 * torch.tensor([[0, 0], [1, 0], [0, 1]]).double()
    away = torch.tensor([[0, 1.5], [1.5, 0], [-1.5, 0], [0.25, 0], [0, -2], [0, -1.5]]).double()
    samples = centres[make.labels(6, 3)] + away
    return {"samples": samples[make.permutation(6)], "centres": centres, "std": 0.5}


DISTANCE = "torch.linalg.vector_norm(samples[:, None] - centres, dim=2)"
GOOD = "shortest <= 3 * std"
COUNTED = "return ((nearest[:, None] == every) & good[:, None]).sum(dim=0)"

mode_counts = Exercise(
    "mode_counts",
    oracle=counts_by_loop,
    mistakes=[
        *edits([
            ("every sample counted", COUNTED,
             "return (nearest[:, None] == every).sum(dim=0)",
             "Samples that are too far from any centre are counted as well."),
            ("every mode within reach", COUNTED,
             "return (distance <= 3 * std).sum(dim=0)",
             "Where modes are close together a sample counts for several. It belongs to the "
             "nearest one alone."),
            ("bad samples sent to the first mode", COUNTED,
             "return torch.bincount(nearest * good, minlength=len(centres))",
             "Multiplying the index by the mask sends every bad sample to mode 0. Leave them out."),
            ("as many modes as were hit", COUNTED, "return torch.bincount(nearest[good])",
             "If the last modes get no sample, the result is too short: it has an entry for each "
             "mode."),
            ("empty modes left out", COUNTED,
             "return torch.unique(nearest[good], return_counts=True)[1]",
             "Modes without a sample have the count 0; they are not left out."),
            ("shares", COUNTED, COUNTED.replace("sum(dim=0)", "double().mean(dim=0)"),
             "These are shares of the samples. The counts are asked for."),
            ("counts in floating point", COUNTED, f"{COUNTED}.to(samples)",
             "Counts are whole numbers, of dtype int64."),
            ("bad samples counted", COUNTED, COUNTED.replace("good[:, None]", "~good[:, None]"),
             "The samples counted are those that are *not* of high quality."),
            ("hits instead of counts", COUNTED, COUNTED.replace("sum(dim=0)", "any(dim=0).long()"),
             "That says whether a mode has any sample, and not how many."),
            ("squared distance", DISTANCE, "(samples[:, None] - centres).square().sum(dim=2)",
             "The root is missing: a squared distance is compared with three standard deviations."),
            ("sum of magnitudes", DISTANCE, "(samples[:, None] - centres).abs().sum(dim=2)",
             "The distance is Euclidean, not the sum of the magnitudes."),
            ("largest coordinate", DISTANCE, "(samples[:, None] - centres).abs().amax(dim=2)",
             "Each coordinate is compared by itself: that is a box and not a ball. The distance is "
             "Euclidean."),
            ("first two coordinates", DISTANCE,
             "torch.linalg.vector_norm((samples[:, None] - centres)[..., :2], dim=2)",
             "Samples may have any number of dimensions: the distance is over all of them."),
            ("nearest sample for each mode", "distance.min(dim=1)", "distance.min(dim=0)",
             "The minimum runs over the samples: that finds the nearest sample of each mode. Find "
             "the nearest mode of each sample."),
            ("mean over the coordinates", DISTANCE,
             "(samples[:, None] - centres).square().mean(dim=2).sqrt()",
             "The Euclidean distance adds the squares up; it does not average them."),
            ("less than the bound", GOOD, "shortest < 3 * std",
             "A sample exactly three standard deviations away counts too: at most, not less than."),
            ("one standard deviation", GOOD, "shortest <= std",
             "Up to three standard deviations count as high quality."),
            ("two standard deviations", GOOD, "shortest <= 2 * std",
             "Up to three standard deviations count as high quality."),
            ("variance for the standard deviation", GOOD, "shortest <= 3 * std**2",
             "Distances are compared with standard deviations, not with variances."),
            ("three units", GOOD, "shortest <= 3",
             "The bound is three standard deviations: std has no effect here."),
            ("modes numbered on the CPU", "torch.arange(len(centres), device=samples.device)",
             "torch.arange(len(centres))",
             "The modes' numbers are made on the CPU. Make them where the samples are."),
            ("farthest mode", "distance.min(dim=1)", "distance.max(dim=1)",
             "A sample belongs to the nearest mode, not to the farthest."),
        ]),
    ],
    variants=variants("""
        cdist and bincount
            def mode_counts(samples, centres, std):
                distance, mode = torch.cdist(samples, centres).min(dim=1)
                return torch.bincount(mode[distance <= 3 * std], minlength=len(centres))

        one mode at a time
            def mode_counts(samples, centres, std):
                squares = torch.stack([((samples - c) ** 2).sum(1) for c in centres], dim=1)
                mode = squares.argmin(dim=1)
                good = squares.gather(1, mode[:, None])[:, 0].sqrt() / std <= 3.0
                return torch.stack([(good & (mode == k)).sum() for k in range(len(centres))])

        one-hot rows added up
            def mode_counts(samples, centres, std):
                distance = (samples.unsqueeze(1) - centres.unsqueeze(0)).norm(dim=-1)
                nearest = nn.functional.one_hot(distance.argmin(1), centres.shape[0])
                return (nearest * (distance.amin(1, keepdim=True) <= 3 * std)).sum(0)

        scattered
            def mode_counts(samples, centres, std):
                delta = samples[:, None, :] - centres[None, :, :]
                distance, index = torch.einsum("nkd,nkd->nk", delta, delta).sqrt().min(-1)
                counts = torch.zeros(len(centres), dtype=torch.long, device=samples.device)
                return counts.index_add(0, index, (distance <= 3 * std).long())
    """),
)  # fmt: skip

MIXED = around(7, 0, 9, 4, 12, 3, 8, d=2)


@mode_counts.test(points=1.5, cases=[
    Case("well separated modes", apply, MIXED),
    Case("three dimensions", apply, around(9, 4, 11, 6, 8, d=3)),
    Case("one dimension", apply, around(5, 9, 7, d=1)),
    Case("six dimensions", apply, around(10, 12, 9, d=6)),
    Case("the last modes empty", apply, around(6, 8, 11, 0, 0, d=2)),
    Case("modes close together", apply, around(14, 9, 12, 10, d=2, spacing=4.0)),
    Case("good samples only", apply, around(5, 3, 8, 2, d=2, bad=0.0)),
    Case("no good sample", apply, around(4, 6, 5, d=2, bad=1.0)),
    Case("exactly at the bound", apply, at_the_bound),
])  # fmt: skip
def test_mode_counts_counts_good_samples(submission, case):
    """Counts the high-quality samples at each mode"""
    submission.matches_reference(case)


@mode_counts.test(points=0.25, cases=[Case("well separated modes", apply, MIXED)])
def test_mode_counts_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- mode_coverage


def coverage_by_loop(counts, n, share=0.2):
    covered = sum((count * len(counts) >= share * n).to(torch.int64) for count in counts)
    return covered, counts.to(torch.get_default_dtype()).sum().div(n)


def some_counts(low, high, modes, lost, share=None, empty=0):
    """Random counts, and so many samples of low quality besides."""

    def draw(make):
        while True:
            counts = make.integers(low, high, modes)
            counts[:empty] = 0
            counts = counts[make.permutation(modes)]
            n = int(counts.sum()) + lost
            bound = (0.2 if share is None else share) * n
            if ((counts * modes - bound).abs() > 1e-3).all():  # rounding decides nothing
                return {"counts": counts, "n": n} | ({} if share is None else {"share": share})

    return draw


def given_counts(*counts, n, share):
    def draw(make):
        return {
            "counts": torch.tensor(counts)[make.permutation(len(counts))],
            "n": n,
            "share": share,
        }

    return draw


COVERED, QUALITY = "(counts >= share * n / len(counts)).sum()", "counts.sum() / n"

mode_coverage = Exercise(
    "mode_coverage",
    oracle=coverage_by_loop,
    mistakes=edits([
        ("more than the share", COVERED, COVERED.replace(">=", ">"),
         "A mode with exactly the share needed is covered too: at least, not more than."),
        ("any sample covers a mode", COVERED, "(counts > 0).sum()",
         "One stray sample does not cover a mode: it needs a part of its fair share."),
        ("fair share of the good samples", COVERED, "(counts >= share * counts.sum() / "
         "len(counts)).sum()",
         "The fair share is that of all n samples, those of low quality included."),
        ("share of all samples", COVERED, "(counts >= share * n).sum()",
         "The fair share of a mode is n divided by the number of modes."),
        ("the whole fair share", COVERED, "(counts >= n / len(counts)).sum()",
         "A mode needs only `share` times its fair share."),
        ("default share", COVERED, COVERED.replace("share", "0.2"),
         "The argument share has no effect."),
        ("share without n", COVERED, "(counts / counts.sum() >= share).sum()",
         "That compares a mode's part of the good samples with share. Compare its count with share "
         "times its fair share of n."),
        ("rounded up", COVERED, "(counts >= -(-share * n // len(counts)) + 1).sum()",
         "The bound need not be a whole number, and is not rounded."),
        ("covered part", COVERED, "(counts >= share * n / len(counts)).float().mean()",
         "That is the part of the modes which is covered. Their number is asked for."),
        ("covered in floating point", COVERED, COVERED + ".float()",
         "The number of modes covered is a whole number, of dtype int64."),
        ("which modes", COVERED, COVERED.removesuffix(".sum()"),
         "That says which modes are covered. Their number is asked for."),
        ("good samples counted", QUALITY, "counts.sum()",
         "The quality is a share: divide by the number of all samples."),
        ("in percent", QUALITY, "100 * counts.sum() / n",
         "The share lies between 0 and 1: no percent."),
        ("mean of the counts", QUALITY, "counts.float().mean()",
         "The share is the sum of the counts over the number of all samples, not their mean over "
         "the modes."),
        ("mean count", QUALITY, "counts.double().mean() / n",
         "Add the counts up; their mean divides by the number of modes as well."),
        ("covered modes only", QUALITY, "counts[counts >= share * n / len(counts)].sum() / n",
         "Good samples at modes that are not covered are of high quality too."),
        ("low quality", QUALITY, "1 - counts.sum() / n",
         "That is the share of samples of *low* quality."),
        ("rounded down", QUALITY, "counts.sum() // n",
         "Integer division rounds the share down: use a true division."),
        ("returned in the other order", "return covered, quality", "return quality, covered",
         "The modes covered come first, then the share of high quality."),
        ("Python numbers", "return covered, quality", "return covered.item(), quality.item()",
         "Return two tensors of shape (): .item() makes Python numbers of them."),
    ]),
    variants=variants("""
        one comparison for each mode
            def mode_coverage(counts, n, share=0.2):
                fair = n / counts.numel()
                hits = [(c >= share * fair).long() for c in counts]
                return torch.stack(hits).sum(), torch.sum(counts / n)

        nothing divided
            def mode_coverage(counts, n, share=0.2):
                covered = torch.count_nonzero(counts * len(counts) >= share * n)
                return [covered, counts.sum().true_divide(n)]

        shares compared
            def mode_coverage(counts, n, share=0.2):
                modes = counts.shape[0]
                parts = counts.to(torch.get_default_dtype()) * modes / n
                return (parts >= share).sum(dim=0), parts.sum() / modes
    """),
)  # fmt: skip

SINGLE = {"dtypes": (torch.float32,)}  # of whole numbers; the results are in the default dtype
COUNTS = [
    Case("some samples of low quality", apply, some_counts(3, 60, 9, lost=70, empty=2), **SINGLE),
    Case("half of the share needed", apply, some_counts(2, 40, 7, lost=53, share=0.5), **SINGLE),
    Case("most samples of low quality", apply,
         some_counts(1, 9, 5, lost=90, share=0.4, empty=1), **SINGLE),
    Case("none of low quality", apply, some_counts(2, 50, 8, lost=0, share=0.3, empty=3), **SINGLE),
    Case("exactly the share needed", apply, given_counts(10, 9, 40, 10, 11, 0, 22, 10, n=160,
                                                        share=0.5), **SINGLE),
    Case("between two whole numbers", apply,
         given_counts(4, 5, 3, 6, 2, 0, n=29, share=0.75), **SINGLE),
    Case("a share of more than one", apply, given_counts(30, 4, 9, 2, n=50, share=1.5), **SINGLE),
    Case("none covered", apply, given_counts(1, 0, 2, 1, n=200, share=0.25), **SINGLE),
]  # fmt: skip


@mode_coverage.test(points=1, cases=COUNTS)
def test_mode_coverage_counts_modes_and_quality(submission, case):
    """Counts the modes covered, and the share of high quality"""
    submission.matches_reference(case)


@mode_coverage.test(points=0.25, cases=COUNTS[:1])
def test_mode_coverage_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- mode_kl


def kl_by_entropy(counts):
    p = counts.to(torch.get_default_dtype()) / counts.sum()
    return math.log(len(counts)) - torch.special.entr(p).sum()


def only_counts(*counts):
    return lambda make: {"counts": torch.tensor(counts)[make.permutation(len(counts))]}


PART, SUM = "p = counts / counts.sum()", "torch.special.xlogy(p, p * len(counts))"

mode_kl = Exercise(
    "mode_kl",
    oracle=kl_by_entropy,
    forbids=["torch.nn.functional.kl_div", "torch.nn.KLDivLoss", "torch.kl_div",
             "torch.distributions"],
    mistakes=[
        *edits([
            ("zero times minus infinity", SUM, "p * (p * len(counts)).log()",
             "For an empty mode that is 0 times the logarithm of 0, which is NaN. It adds 0: use a "
             "function that knows, or leave such modes out."),
            ("empty modes do not count", SUM, "torch.special.xlogy(p, p * (counts > 0).sum())",
             "The uniform distribution is over all modes, the empty ones included."),
            ("the other way round", SUM, "-(p * len(counts)).log() / len(counts)",
             "These are the divergences the other way round, of the uniform distribution from "
             "yours; they are infinite where a mode is empty."),
            ("entropy", SUM, "-torch.special.xlogy(p, p)",
             "That is the entropy, largest for even counts. The divergence is 0 for them."),
            ("uniform part left out", SUM, "torch.special.xlogy(p, p)",
             "p is compared with the uniform distribution: the 1 / u in the logarithm is missing."),
            ("sign", SUM, "-torch.special.xlogy(p, p * len(counts))",
             "The divergence is never negative: the sign is turned round."),
            ("in bits", SUM, "torch.special.xlogy(p, p * len(counts)) / 0.6931471805599453",
             "Nats are asked for: the natural logarithm."),
            ("not weighted by p", SUM, "torch.where(p > 0, (p * len(counts)).log(), 0 * p)",
             "Each logarithm is weighted by p before it is added."),
            ("divided in the logarithm", SUM, "torch.special.xlogy(p, p / len(counts))",
             "Dividing by u, one over the number of modes, is multiplying by that number."),
            ("always eight modes", SUM, "torch.special.xlogy(p, p * 8)",
             "The number of modes is the length of counts, not always the same."),
            ("total variation", SUM, "(p - 1 / len(counts)).abs() / 2",
             "That is the total variation. The divergence has a logarithm in it."),
            ("averaged", "gain.sum()", "gain.mean()", "The terms are added up, not averaged."),
            ("not added", "gain.sum()", "gain", "The terms of all modes are added to one number."),
            ("Python number", "gain.sum()", "gain.sum().item()",
             "Return a tensor of shape (): .item() makes a Python number of it."),
            ("counts not normalised", PART, "p = counts.float()",
             "The counts are turned into parts of their sum first."),
            ("divided by the largest", PART, "p = counts / counts.max()",
             "The parts add up to 1: divide by the sum of the counts."),
            ("softmax", PART, "p = counts.float().softmax(dim=0)",
             "A softmax is no share: divide the counts by their sum."),
            ("smoothed", PART, "p = (counts + 1) / (counts + 1).sum()",
             "Nothing is added to the counts; an empty mode adds 0."),
            *((f"{eps} in the logarithm", SUM, f"p * ((p + {eps}) * len(counts)).log()",
               "Something small is added in the logarithm, and shows in the result. An empty mode "
               "adds exactly 0, and the others need no help.")
              for eps in ("1e-2", "1e-3", "1e-4", "1e-5")),
            ("the other way round, empty modes raised", SUM,
             "-(p.clamp(min=1e-12) * len(counts)).log() / len(counts)",
             "These are the divergences the other way round, of the uniform distribution from "
             "yours; they are infinite where a mode is empty."),
            ("integer division", PART, "p = (counts // counts.sum()).float()",
             "Integer division makes every part 0 or 1: use a true division."),
            ("empty modes counted once", PART,
             "p = counts.clamp(min=1) / counts.clamp(min=1).sum()",
             "An empty mode keeps its count of 0, and adds 0."),
            ("smoothed a little", PART, "p = (counts + 0.01) / (counts + 0.01).sum()",
             "Nothing is added to the counts; an empty mode adds 0."),
        ]),
    ],
    variants=variants("""
        only the modes that were hit
            def mode_kl(counts):
                p = counts[counts > 0] / counts.sum()
                return (p * torch.log(p * len(counts))).sum()

        from the entropy
            def mode_kl(counts):
                p = counts / counts.sum()
                return torch.tensor(float(len(counts)), device=p.device).log() + (
                    p * p.clamp(min=1e-30).log()
                ).sum()

        NaN replaced
            def mode_kl(counts):
                p = counts.to(torch.get_default_dtype()) / counts.sum()
                u = torch.full_like(p, 1 / len(counts))
                return torch.nansum(p * (p.log() - u.log()))

        entr
            def mode_kl(counts):
                p = counts.float().div(counts.sum())
                modes = p.new_tensor(len(counts))
                return modes.log() - torch.special.entr(p).sum(dim=0)
    """),
)  # fmt: skip

HISTOGRAMS = [
    Case("uneven counts", apply, lambda make: {"counts": make.integers(20, 400, 7)}, **SINGLE),
    Case("empty modes", apply, only_counts(0, 31, 122, 0, 7, 60, 0, 45, 9), **SINGLE),
    Case("a single mode", apply, only_counts(0, 0, 83, 0, 0), **SINGLE),
    Case("all modes alike", apply, only_counts(*[25] * 6), loosen=100, **SINGLE),
    Case("few samples", apply, only_counts(1, 0, 2, 1), **SINGLE),
]


@mode_kl.test(points=1, cases=HISTOGRAMS)
def test_mode_kl_measures_unevenness(submission, case):
    """Is the divergence of the samples' modes from the uniform distribution"""
    submission.matches_reference(case)


@mode_kl.test(points=0.25, cases=HISTOGRAMS[:1])
def test_mode_kl_follows_the_device(submission, case):
    """Works on whichever device its inputs are on"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- update_average


def average_by_state(average, generator, decay=0.999):
    learned, now = {name for name, _ in average.named_parameters()}, generator.state_dict()
    with torch.no_grad():
        for name, value in average.state_dict().items():
            new = now[name].clone()
            value.copy_(torch.lerp(new, value, decay) if name in learned else new)


NETWORK = {"0.weight": (4, 3), "0.bias": (4,), "1.weight": (4,), "1.bias": (4,),
           "1.running_mean": (4,), "1.running_var": (4,), "2.weight": (2, 4)}  # fmt: skip


def some_network(make, batches):
    state = {name: make.away_from_zero(*shape) for name, shape in NETWORK.items()}
    return state | {"1.num_batches_tracked": torch.tensor(batches)}


def network_of(state):
    layers = nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2, bias=False)
    return load_parameters(nn.Sequential(*layers), state)


def everything_in(network):
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def averaged(impl, start, states, decay, frozen):
    average, generator = network_of(start), network_of(start)
    generator[2].weight.requires_grad_(not frozen)
    held = dict(average.named_parameters()) | dict(average.named_buffers())
    for state in states:
        generator.load_state_dict(state)
        impl(average, generator) if decay is None else impl(average, generator, decay)
    outcome = {
        "the average": {name: value.detach().clone() for name, value in held.items()},
        "the average's own entries are those from before": all(
            value is held[name]
            for name, value in [*average.named_parameters(), *average.named_buffers()]
        ),
        "the average's parameters are leaves": all(p.is_leaf for p in average.parameters()),
        "the generator": everything_in(generator),
        "the generator's parameters that require gradients": sum(
            p.requires_grad for p in generator.parameters()
        ),
    }
    with torch.no_grad():
        for value in generator.state_dict().values():
            value.add_(1)
    return outcome | {"the average, after the generator moved on": everything_in(average)}


def updates(count, decay, frozen=False):
    def draw(make):
        return {
            "start": some_network(make, 3),
            "states": [some_network(make, 11 + 7 * i) for i in range(count)],
            "decay": None if decay is None else make.number(*decay),
            "frozen": frozen,
        }

    return draw


KEPT, BUFFER = "kept.copy_(decay * kept + (1 - decay) * new)", "buffer.copy_(newest)"
BUFFERS = (
    "        for buffer, newest in zip(average.buffers(), generator.buffers(), strict=True):\n"
    "            buffer.copy_(newest)\n"
)

update_average = Exercise(
    "update_average",
    oracle=average_by_state,
    forbids=["torch.optim.swa_utils"],
    mistakes=[
        *edits([
            ("decay the other way round", KEPT, "kept.copy_((1 - decay) * kept + decay * new)",
             "decay is the share that the *average* keeps; the generator gets the rest."),
            ("nothing kept", KEPT, "kept.copy_(new)",
             "That is a copy of the generator, not an average."),
            ("new one unweighted", KEPT, "kept.copy_(decay * kept + new)",
             "The two weights add up to 1: the generator's is 1 - decay."),
            ("old one unweighted", KEPT, "kept.copy_(kept + (1 - decay) * new)",
             "The average keeps only the share decay of itself, or nothing is ever forgotten."),
            ("only a name assigned", KEPT, "kept = decay * kept + (1 - decay) * new",
             "An assignment gives the loop's name another tensor, and the network keeps its own. "
             "Write into the parameter in place."),
            ("plain mean", KEPT, "kept.copy_((kept + new) / 2)",
             "The argument decay has no effect."),
            ("default decay", KEPT, "kept.copy_(0.999 * kept + 0.001 * new)",
             "The argument decay has no effect."),
            ("the generator changed", KEPT, "new.copy_(decay * kept + (1 - decay) * new)",
             "It is the average that changes; the generator goes on training as it is."),
            ("difference the wrong way round", KEPT,
             "kept.copy_((2 - decay) * kept - (1 - decay) * new)",
             "The average moves towards the generator, not away from it."),
            ("trained parameters only", KEPT, f"if new.requires_grad:\n                {KEPT}",
             "Frozen parameters are averaged too: every parameter is."),
            ("weights only", KEPT, f"if new.dim() > 1:\n                {KEPT}",
             "Biases and the like are averaged too: every parameter is."),
            ("tied to the generator", KEPT, f"{KEPT}\n            new.data = kept.data",
             "The generator now uses the average's own memory: nothing may be shared."),
            ("buffers forgotten", BUFFERS, "",
             "Buffers are no parameters: copy them besides, or batch normalisation keeps its old "
             "statistics."),
            ("buffers averaged", BUFFER, "buffer.copy_(decay * buffer + (1 - decay) * newest)",
             "Buffers are not averaged: they become equal to the generator's."),
            ("running statistics averaged", BUFFER,
             "buffer.copy_(decay * buffer + (1 - decay) * newest if buffer.is_floating_point() "
             "else newest)",
             "Buffers are not averaged, running statistics neither: they become equal to the "
             "generator's."),
            ("both networks averaged", KEPT, f"{KEPT}\n            new.copy_(kept)",
             "The generator takes on the average: it is to be left as it is, and trains on."),
            ("buffers shared", BUFFER, "buffer.data = newest.data",
             "The average's buffers now use the generator's memory, and will change with it. Copy "
             "the values."),
            ("buffers of numbers only", BUFFER,
             "if buffer.is_floating_point():\n                buffer.copy_(newest)",
             "Whole-number buffers, such as the count of batches, are copied too."),
            ("buffers taken from the average", BUFFER, "newest.copy_(buffer)",
             "The buffers go from the generator to the average, not the other way."),
        ]),
        Mistake("recorded by autograd", "with torch.no_grad():", "if True:",
                "A parameter cannot be changed in place while autograd records: say that it should "
                "not."),
        Mistake.written("new parameters", """
            def update_average(average, generator, decay=0.999):
                for kept, new in zip(average.modules(), generator.modules(), strict=True):
                    for name, value in list(kept._parameters.items()):
                        if value is not None:
                            mixed = decay * value + (1 - decay) * new._parameters[name]
                            kept._parameters[name] = nn.Parameter(mixed.detach())
                    for name, value in new._buffers.items():
                        kept._buffers[name].copy_(value)
            """, "The average gets new parameters, so whoever holds the old ones is left behind. "
            "Write into those that are there."),
    ],
    variants=variants("""
        lerp
            def update_average(average, generator, decay=0.999):
                with torch.no_grad():
                    for a, g in zip(average.parameters(), generator.parameters()):
                        a.lerp_(g, 1 - decay)
                    for a, g in zip(average.buffers(), generator.buffers()):
                        a.copy_(g)

        by name, through data
            def update_average(average, generator, decay=0.999):
                new = dict(generator.named_parameters())
                for name, p in average.named_parameters():
                    p.data.mul_(decay).add_(new[name].data, alpha=1 - decay)
                new = dict(generator.named_buffers())
                for name, b in average.named_buffers():
                    b.data.copy_(new[name])

        a decorated loop over the state
            @torch.no_grad()
            def update_average(average, generator, decay=0.999):
                params = {name for name, _ in generator.named_parameters()}
                theirs = generator.state_dict()
                for name, value in average.state_dict().items():
                    if name in params:
                        value += (1 - decay) * (theirs[name] - value)
                    else:
                        value.copy_(theirs[name])

        the state loaded at once
            def update_average(average, generator, decay=0.999):
                mine = dict(average.named_parameters())
                state = generator.state_dict()
                for name, value in mine.items():
                    state[name] = decay * value.detach() + (1 - decay) * state[name]
                average.load_state_dict(state)
    """),
)  # fmt: skip

UPDATES = [
    Case("one update", averaged, updates(1, (0.6, 0.9))),
    Case("three updates", averaged, updates(3, (0.3, 0.45))),
    Case("by default", averaged, updates(2, None)),
    Case("a frozen layer", averaged, updates(2, (0.55, 0.8), frozen=True)),
]


@update_average.test(points=2, cases=UPDATES)
def test_update_average_averages_parameters(submission, case):
    """Averages the parameters, copies the buffers, and shares nothing"""
    submission.matches_reference(case)


@update_average.test(points=0.25, cases=UPDATES[:1])
def test_update_average_follows_the_device(submission, case):
    """Works on whichever device the networks are on"""
    submission.matches_on_device(case)
