"""The fake device refuses what CUDA refuses where PyTorch's own fakes would let it through."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from autograder.engine.accelerator import fake_mode


def there(*shape):
    return torch.empty(*shape, device="meta")


REFUSED = {
    "places in an embedding, from the CPU": lambda: F.embedding(torch.arange(3), there(5, 4)),
    "an embedding on the CPU": lambda: F.embedding(there(3).long(), torch.zeros(5, 4)),
    "a tensor of the CPU added in place": lambda: there(3).add_(torch.zeros(3)),
    "a tensor of the CPU added to a part": lambda: there(3)[:2].add_(torch.zeros(2)),
    "tensors of the CPU added to a list": lambda: torch._foreach_add_([there(3)], [torch.ones(3)]),
    "a sum kept on the CPU": lambda: torch.tensor(0.0).add_(there(3).sum()),
    "a product kept on the CPU": lambda: torch.tensor(1.0).mul_(there(3).sum()),
    "a table on the CPU": lambda: torch.eye(4)[there(3).long()],
    "a write into a table on the CPU": lambda: torch.zeros(4).index_put_(
        (there(2).long(),), torch.tensor(1.0)
    ),
}
ALLOWED = {
    "a number of the CPU added in place": lambda: there(3).add_(torch.tensor(1.0)),
    "a number of the CPU added to a number": lambda: there(3).sum().add_(torch.tensor(1.0)),
    "a number of the CPU as a factor": lambda: there(3) * torch.tensor(2.0),
    "a copy from the CPU": lambda: there(3).copy_(torch.zeros(3)),
    "a copy to the CPU": lambda: torch.zeros(3).copy_(there(3)),
    "a part written from the CPU": lambda: there(3)[:2].copy_(torch.zeros(2)),
    "places named by the CPU": lambda: there(4)[torch.arange(2)],
    "all on the CPU": lambda: torch.zeros(3).add_(torch.ones(3)),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what):
    with pytest.raises(RuntimeError, match="on the same device"), fake_mode():
        REFUSED[what]()


@pytest.mark.parametrize("what", ALLOWED)
def test_allowed(what):
    with fake_mode():
        ALLOWED[what]()
