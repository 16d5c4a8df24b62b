"""Adam and its family: AdaGrad, RMSprop, Adam, AdamW, and Adam as an optimizer class."""

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor


def adagrad_step(
    param: Tensor, grad: Tensor, state_sum: Tensor, lr: float = 1e-2, eps: float = 1e-10
) -> tuple[Tensor, Tensor]:
    """Take one step of AdaGrad, each element at its own rate.

    Duchi, Hazan and Singer (2011), https://jmlr.org/papers/v12/duchi11a.html, in the diagonal
    form of ``torch.optim.Adagrad``. Written with tensor arithmetic, without ``torch.optim``.

    Args:
        param: the parameter before the step; any shape.
        grad: the loss's gradient at ``param``; the same shape.
        state_sum: s, what AdaGrad has remembered of earlier gradients, not counting ``grad``;
            the same shape, zeros before the first step.
        lr: the learning rate.
        eps: keeps the division defined; it stands outside the root.

    Returns:
        ``(param, state_sum)`` after the step, as new tensors of the shape, dtype and device of
        ``param``. The arguments are left unchanged.
    """
    state_sum = state_sum + grad**2
    return param - lr * grad / (state_sum.sqrt() + eps), state_sum


def rmsprop_step(
    param: Tensor,
    grad: Tensor,
    square_avg: Tensor,
    lr: float = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
) -> tuple[Tensor, Tensor]:
    """Take one step of RMSprop: AdaGrad with a memory that fades.

    Tieleman and Hinton (2012), lecture 6e, in the form of ``torch.optim.RMSprop`` (no momentum,
    not centred). Written with tensor arithmetic, without ``torch.optim``.

    Args:
        param: the parameter before the step; any shape.
        grad: the loss's gradient at ``param``; the same shape.
        square_avg: s, the running average before the step, not counting ``grad``; the same
            shape, zeros before the first step. It is not corrected for its start at zero.
        lr: the learning rate.
        alpha: the share of the running average that is kept.
        eps: keeps the division defined; it stands outside the root.

    Returns:
        ``(param, square_avg)`` after the step, as new tensors of the shape, dtype and device of
        ``param``. The arguments are left unchanged.
    """
    square_avg = alpha * square_avg + (1 - alpha) * grad**2
    return param - lr * grad / (square_avg.sqrt() + eps), square_avg


def adam_step(
    param: Tensor,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
    t: int,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> tuple[Tensor, Tensor, Tensor]:
    """Take one step of Adam.

    Kingma and Ba (2015), Algorithm 1, https://arxiv.org/abs/1412.6980. Written with tensor
    arithmetic, without ``torch.optim``.

    Args:
        param: the parameter before the step; any shape.
        grad: the loss's gradient at ``param``; the same shape.
        m: the first moment before the step, as Algorithm 1 stores it (without bias
            correction); the same shape, zeros before the first step.
        v: the second moment before the step, stored likewise.
        t: the number of this step; the first step is number 1.
        lr: the learning rate.
        betas: the decay rates of ``m`` and of ``v``, in this order.
        eps: keeps the division defined; it stands outside the root and is added after the
            bias correction.

    Returns:
        ``(param, m, v)`` after the step, ``m`` and ``v`` without bias correction, as new
        tensors of the shape, dtype and device of ``param``. The arguments are left unchanged.
    """
    beta1, beta2 = betas
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad**2
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    return param - lr * m_hat / (v_hat.sqrt() + eps), m, v


def adamw_step(
    param: Tensor,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
    t: int,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
) -> tuple[Tensor, Tensor, Tensor]:
    """Take one step of AdamW: Adam with decoupled weight decay.

    Loshchilov and Hutter (2019), Algorithm 2, https://arxiv.org/abs/1711.05101, in the form of
    ``torch.optim.AdamW``: the decay is scaled by ``lr``, and what decays is the parameter as it
    was before the step. Written without ``torch.optim``; ``adam_step`` may be called.

    Args:
        param: the parameter before the step; any shape.
        grad: the loss's gradient at ``param``, without any penalty; the same shape.
        m: the first moment before the step, without bias correction; the same shape.
        v: the second moment before the step, without bias correction; the same shape.
        t: the number of this step; the first step is number 1.
        lr: the learning rate.
        betas: the decay rates of ``m`` and of ``v``, in this order.
        eps: as in ``adam_step``.
        weight_decay: λ, the rate of the decay; with 0 the step is Adam's.

    Returns:
        ``(param, m, v)`` after the step, as new tensors of the shape, dtype and device of
        ``param``. The arguments are left unchanged.
    """
    decayed = param - lr * weight_decay * param
    return adam_step(decayed, grad, m, v, t, lr, betas, eps)


class Adam:
    """Adam for any number of parameters, with the interface of ``torch.optim.Adam``.

    Each parameter has a state of its own: a first moment, a second moment and a count of *its
    own* steps. A parameter that sat out some steps is therefore corrected for the steps that
    it took, not for those that others took. Written without ``torch.optim``, so it is no subclass
    of ``torch.optim.Optimizer`` either; ``adam_step`` may be called.

    Attributes:
        param_groups: a list of dicts, one a group, with the keys ``"params"`` (a list of the
            group's parameters), ``"lr"``, ``"betas"``, ``"eps"`` and ``"weight_decay"``. Each
            step reads them anew: whoever changes ``param_groups[0]["lr"]`` changes the steps
            that follow.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        """Set up the parameter groups.

        Args:
            params: the parameters, as any iterable (a list, or a generator such as
                ``model.parameters()``): they form one group. Or a list of dicts, one a group:
                each has its parameters, as any iterable, under ``"params"``, and may have
                hyperparameters of its own under ``"lr"``, ``"betas"``, ``"eps"`` and
                ``"weight_decay"``. Every parameter is in one group only.
            lr: the learning rate of groups that do not bring their own.
            betas: the decay rates of the moments, likewise.
            eps: added outside the root, likewise.
            weight_decay: the rate of an L2 penalty, likewise. As in ``torch.optim.Adam`` it
                acts through the gradient: ``weight_decay`` times the parameter is added to the
                gradient before anything else is done with it.

        Raises:
            ValueError: ``params`` is empty.
        """
        given: list[Any] = list(params)
        if not given:
            raise ValueError("params is empty: there is nothing to train")
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        groups = given if isinstance(given[0], dict) else [{"params": given}]
        self.param_groups: list[dict[str, Any]] = [
            {**defaults, **group, "params": list(group["params"])} for group in groups
        ]
        self.state: dict[Tensor, dict[str, Any]] = {}

    def step(self) -> None:
        """Update every parameter that has a gradient, in place, by Adam's rule.

        The update is not recorded by autograd. A parameter whose ``grad`` is None is skipped:
        neither it nor its state changes, and the step does not count for it. The gradients
        themselves are left as they are.
        """
        with torch.no_grad():
            for group in self.param_groups:
                for param in group["params"]:
                    if param.grad is None:
                        continue
                    if param not in self.state:
                        self.state[param] = {
                            "step": 0,
                            "exp_avg": torch.zeros_like(param),
                            "exp_avg_sq": torch.zeros_like(param),
                        }
                    state = self.state[param]
                    state["step"] += 1
                    new, state["exp_avg"], state["exp_avg_sq"] = adam_step(
                        param,
                        param.grad + group["weight_decay"] * param,
                        state["exp_avg"],
                        state["exp_avg_sq"],
                        state["step"],
                        lr=group["lr"],
                        betas=group["betas"],
                        eps=group["eps"],
                    )
                    param.copy_(new)

    def zero_grad(self) -> None:
        """Set the ``grad`` of every parameter, in every group, to None."""
        for group in self.param_groups:
            for param in group["params"]:
                param.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Say all that is needed to go on from here, without the parameters themselves.

        Parameters go by numbers: 0, 1, 2, … through all groups in their order.

        Returns:
            A dict with two keys. ``"state"`` maps the number of each parameter that has been
            updated to a dict of ``"step"`` (an int: how many updates it has had), ``"exp_avg"``
            (its first moment) and ``"exp_avg_sq"`` (its second moment), the moments without bias
            correction. ``"param_groups"`` is a list of dicts, one a group, with its
            hyperparameters and, under ``"params"``, the list of its parameters' numbers. It is
            a snapshot: later steps and later changes of ``param_groups`` leave it as it is.
        """
        every = [param for group in self.param_groups for param in group["params"]]
        number = {param: i for i, param in enumerate(every)}
        return {
            "state": {number[param]: deepcopy(state) for param, state in self.state.items()},
            "param_groups": [
                {**group, "params": [number[param] for param in group["params"]]}
                for group in self.param_groups
            ],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a snapshot that ``state_dict()`` took, of this optimizer or of another.

        Afterwards the states and the hyperparameters of the groups are those of the snapshot,
        whatever this optimizer did before; the parameters keep their values. The snapshot is
        copied: later steps do not change it, so that it may be loaded again.

        Args:
            state_dict: what ``state_dict()`` returned.

        Raises:
            ValueError: the snapshot has another number of groups, or a group of it another
                number of parameters.
        """
        saved_groups = state_dict["param_groups"]
        sizes = [len(group["params"]) for group in self.param_groups]
        saved_sizes = [len(group["params"]) for group in saved_groups]
        if saved_sizes != sizes:
            raise ValueError(f"the snapshot's groups have sizes {saved_sizes}, not {sizes}")
        every = [param for group in self.param_groups for param in group["params"]]
        self.param_groups = [
            {**saved, "params": group["params"]}
            for saved, group in zip(saved_groups, self.param_groups, strict=True)
        ]
        self.state = {every[i]: deepcopy(state) for i, state in state_dict["state"].items()}
