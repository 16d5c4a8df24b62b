"""No attacks: honest answers, ordinary but odd, that no defence may cost a point."""

from autograder.attacks.attack import ALL, Attack

FAMILY = "honest"
RIGHT = "gain * (x - x.mean(dim=1, keepdim=True))"


def centre(*lines, before=""):
    body = "\n".join("    " + line for line in lines or [f"return {RIGHT}"])
    return f"{before}\ndef centre(x, gain):\n{body}\n"


ODD = {
    "prints much": centre("print(x, 'x' * 10**5)", f"return {RIGHT}"),
    "warns": centre("import warnings; warnings.warn('careful', stacklevel=2)", f"return {RIGHT}"),
    "writes to stderr": centre("import sys; sys.stderr.write('e' * 10**5)", f"return {RIGHT}"),
    "logs": centre("import logging; logging.basicConfig(level=0); logging.warning('x')",
                   f"return {RIGHT}"),
    "uses threads": centre(
        "from concurrent.futures import ThreadPoolExecutor",
        "with ThreadPoolExecutor(4) as pool:",
        "    rows = list(pool.map(lambda r: gain * (r - r.mean()), x))", "return torch.stack(rows)"),
    "lets PyTorch use threads": centre("torch.set_num_threads(2)", "torch.ones(300, 300) @ "
                                       "torch.ones(300, 300)", f"return {RIGHT}"),
    "plots": centre("import matplotlib.pyplot as plt; plt.figure(); plt.show(); plt.close('all')", f"return {RIGHT}"),
    "uses a dataclass": centre("return Row(x, gain).centred()", before=(
        "from dataclasses import dataclass\n@dataclass\nclass Row:\n    x: Tensor\n    gain: float\n"
        f"    def centred(self):\n        x, gain = self.x, self.gain\n        return {RIGHT}")),
    "uses a temporary file": centre(
        "import tempfile", "with tempfile.NamedTemporaryFile() as f:", "    torch.save(x, f.name)",
        "    x2 = torch.load(f.name)", f"return {RIGHT} + 0 * x2"),
    "keeps files": centre("open('notes.txt', 'a').write('seen')", "import os; os.listdir()",
                          f"return {RIGHT}"),
    "caches": centre("return gain * (x - mean(x))", before="import functools\n"
                     "@functools.lru_cache\ndef ones(n, dtype):\n    return torch.ones(n, dtype=dtype)\n"
                     "def mean(x):\n    return x.mean(dim=1, keepdim=True)\n"),
    "keeps global state": centre("global calls; calls += 1; seen.append(calls)", f"return {RIGHT}",
                                 before="calls, seen = 0, []"),
    "recurses": centre("def mean(r, n): return r[0] / n + (mean(r[1:], n) if len(r) > 1 else 0)",
                       "rows = [gain * (r - mean(r, len(r))) for r in x]", "return torch.stack(rows)"),
    "recurses deeply": centre("def f(n): return 0 if n == 0 else f(n - 1)", "f(800)",
                              f"return {RIGHT}"),
    "uses NumPy's names": centre("import numpy as np; np.random.seed(0)", f"return {RIGHT}"),
    "loops": centre("y = torch.zeros_like(x)", "for i in range(len(x)):",
                    "    y[i] = gain * (x[i] - sum(x[i]) / len(x[i]))", "return y"),
    "sets the seed": centre("torch.manual_seed(0)", f"return {RIGHT}"),
    "turns gradients off and on": centre("with torch.no_grad(): x.mean()", f"return {RIGHT}"),
    "uses einsum": centre("m = torch.einsum('ij->i', x) / x.shape[1]", "return gain * (x - m[:, None])"),
    "uses getattr": centre("mean = getattr(x, 'mean')", "return gain * (x - mean(1, keepdim=True))"),
    "has a decorator of its own": centre(before="import functools\ndef timed(f):\n"
        "    @functools.wraps(f)\n    def inner(*a, **k): return f(*a, **k)\n    return inner\n\n@timed"),
    "is a lambda": f"centre = lambda x, gain: {RIGHT}\n",
    "is an object that can be called": "class Centre:\n    def __call__(self, x, gain):\n"
                                       f"        return {RIGHT}\ncentre = Centre()\n",
    "has its own exception": centre("try: raise Odd", "except Odd: pass", f"return {RIGHT}",
                                    before="class Odd(Exception): pass"),
    "has a syntax warning": centre("pattern = '\\d'; same = 1 is 1", f"return {RIGHT}"),
    "speaks Greek": centre("μ = x.mean(dim=1, keepdim=True)  # μ, naïve, 平均, 🙂",
                           "return gain * (x - μ)"),
    "uses a generator and a context manager": centre("import contextlib",
        "@contextlib.contextmanager", "def nothing(): yield", "with nothing():", f"    return {RIGHT}"),
    "uses an autograd function": centre("return gain * Centred.apply(x)", before=(
        "class Centred(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, x):\n"
        "        return x - x.mean(1, keepdim=True)\n    @staticmethod\n    def backward(ctx, g):\n"
        "        return g - g.mean(1, keepdim=True)")),
    "uses many open files": centre("f = [open('f%d' % i, 'w') for i in range(40)]",
                                   "[g.close() for g in f]", f"return {RIGHT}"),
    "keeps a pool of threads": centre(
        f"return POOL.submit(lambda: {RIGHT}).result()", before=(
        "from concurrent.futures import ThreadPoolExecutor\nPOOL = ThreadPoolExecutor(2)\n"
        "POOL.submit(int)")),
    "copies, takes the time, and makes warnings errors": centre(
        "import copy, time, warnings", "warnings.simplefilter('error'); time.perf_counter()",
        "y = copy.deepcopy(x)", f"return {RIGHT} + 0 * y"),
    "has a helper without gradients": centre(
        "return gain * (x - mean(x) - (x - x.detach()).mean(1, keepdim=True))",
        before="@torch.no_grad()\ndef mean(x): return x.mean(dim=1, keepdim=True)"),
    "looks at values": centre("assert not x.isnan().any()", f"return {RIGHT}"),
    "sets PyTorch's switches": centre(before="torch.autograd.set_detect_anomaly(True)\n"
                                      "torch.use_deterministic_algorithms(True)"),
    "uses asyncio's event loop? no: plain async": centre(
        "async def f(): return 1", "f().close()", f"return {RIGHT}"),
}  # fmt: skip
SOFT = {
    "softmax in loops": "def soft(x):\n    rows = [(r - r.max()).exp() for r in x]\n"
                        "    return torch.stack([r / r.sum() for r in rows])\n",
    "softmax with a method of that name": "class M:\n    def softmax(self, x):\n"
        "        e = (x - x.amax(-1, keepdim=True)).exp()\n        return e / e.sum(-1, keepdim=True)\n"
        "def soft(x):\n    return M().softmax(x)\n",
    "softmax by logsumexp": "def soft(x):\n    return (x - x.logsumexp(-1, keepdim=True)).exp()\n",
    "softmax named in a docstring": 'def soft(x):\n    """As F.softmax(x, -1), torch.softmax."""\n'
        "    softmax = (x - x.amax(-1, keepdim=True)).exp()\n"
        "    return softmax / softmax.sum(-1, keepdim=True)\n",
    "softmax in a thread": "import threading\ndef soft(x):\n    out = {}\n    def work():\n"
        "        e = (x - x.amax(-1, keepdim=True)).exp()\n"
        "        out['y'] = e / e.sum(-1, keepdim=True)\n"
        "    t = threading.Thread(target=work); t.start(); t.join()\n    return out['y']\n",
    "softmax held against PyTorch's in its own cell": "def soft(x):\n"
        "    e = (x - x.amax(-1, keepdim=True)).exp()\n    return e / e.sum(-1, keepdim=True)\n"
        "assert torch.allclose(soft(torch.ones(2, 3)), F.softmax(torch.ones(2, 3), -1))\n",
    "softmax by an object that counts its calls": "class Soft:\n    calls = 0\n"
        "    def __call__(self, x):\n        self.calls += 1\n"
        "        e = torch.exp(x - x.max(-1, keepdim=True).values)\n"
        "        return e.div(e.sum(-1, keepdim=True))\nsoft = Soft()\n",
    "softmax in TorchScript": "@torch.jit.ignore\ndef soft(x):\n"
        "    e = (x - x.amax(-1, keepdim=True)).exp()\n    return e / e.sum(-1, keepdim=True)\n",
}  # fmt: skip
OWN_CELLS = {
    "cells of its own": ("import json, math\nhelper = 1", "assert helper == 1", "help(len)"),
    "cells with errors of its own": ("1 / 0", "undefined_name", "raise KeyboardInterrupt"),
    "a long cell": ("\n".join(f"a{i} = {i}" for i in range(3000)),),
    "asks where it runs": ("import sys\nif 'google.colab' in sys.modules: raise SystemExit\n"
                           "import gc, inspect, os\ngc.collect(); os.environ['X'] = '1'",),
    "threads of its own": ("import threading\nclass T(threading.Thread):\n"
        "    def run(self): torch.ones(2).softmax(0)\nT(daemon=True).start()\n"
        "threading.Timer(0.2, print).start()",),
    "a slow cell": ("import time; time.sleep(0.5)",),
    "compares with PyTorch in its own cell": (
        "check = torch.softmax(torch.ones(2, 3), -1)\n"
        "w = torch.ones(2, requires_grad=True)\nw.sum().backward()",),
}  # fmt: skip

ATTACKS = [
    *(Attack(name, "nothing", {"centre": source}, earns=ALL, seconds=30) for name, source in ODD.items()),
    *(Attack(name, "nothing", {"soft": source}, earns=ALL) for name, source in SOFT.items()),
    *(Attack(name, "nothing", before=cells, earns=ALL) for name, cells in OWN_CELLS.items()),
]  # fmt: skip
