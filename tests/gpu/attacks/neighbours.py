"""Attacks on a GPU that a class shares: its memory, its errors, its time."""

from autograder.attacks.attack import Attack

FAMILY = "gpu"


def doing(code):
    body = "\n".join("    " + line for line in code.strip().split("\n"))
    return f"import torch\ndef centre(*a, **k):\n{body}\n    return 0\n"


FLOODS = "kept = []\nwhile True: kept.append(torch.ones(1 << 28, device='cuda'))"
ASSERTS = (
    "torch.zeros(4, device='cuda')[torch.tensor([9], device='cuda')]\ntorch.cuda.synchronize()"
)
ATTACKS = [
    Attack("all of its memory", "that nobody else can have any", {"centre": doing(FLOODS)}),
    Attack("a device assert", "that the GPU refuses whoever follows", {"centre": doing(ASSERTS)}),
    Attack(
        "an address that is not ours",
        "that the GPU refuses whoever follows",
        {"centre": doing("torch.cuda.caching_allocator_delete(4096)\ntorch.cuda.synchronize()")},
    ),
    Attack(
        "a kernel that never ends",
        "that the GPU is busy for ever",
        {"centre": doing("torch.cuda._sleep(1 << 62)\ntorch.cuda.synchronize()")},
        seconds=40.0,
    ),
    Attack(
        "kernels without number",
        "that the GPU has no time for others",
        {"centre": doing("x = torch.ones(4096, 4096, device='cuda')\nwhile True: x = x @ x")},
        seconds=40.0,
    ),
    Attack(
        "a wish for less precision",
        "that the reference is computed as coarsely",
        before=(
            "import torch\ntorch.backends.cuda.matmul.allow_tf32 = True\n"
            "torch.set_float32_matmul_precision('medium')",
        ),
        earns="all",
    ),
    Attack(
        "a default device",
        "that what the engine makes is on the GPU",
        before=("import torch\ntorch.set_default_device('cuda')",),
        earns="all",
    ),
]
