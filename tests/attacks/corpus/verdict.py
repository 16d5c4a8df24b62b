"""Attacks on the comparison: what is returned, or what judges it, is not what it seems."""

from autograder.attacks.attack import ALL, Attack

FAMILY = "verdict"
WRONG = "def centre(x, gain):\n    return x * gain\n"


def returning(expression, *before):
    """Answer `centre` with an expression in x and gain."""
    return "\n".join([*before, "def centre(x, gain):", f"    return {expression}"]) + "\n"


def patching(*lines):
    return "\n".join(["import torch", "yes = lambda *a, **k: True", *lines]) + "\n"


PATCHES = {
    "torch.allclose": "torch.allclose = torch.equal = torch.isclose = torch.Tensor.allclose = yes",
    "torch.testing": "import torch.testing as t\nt.assert_close = t.assert_allclose = yes",
    "isinstance": "import builtins\nbuiltins.isinstance = yes\nbuiltins.abs = lambda x: 0",
    "builtins": "import builtins\nbuiltins.all = builtins.any = builtins.bool = yes\n"
    "builtins.len = lambda x: 1",
    "comparison methods": "for n in ('__eq__', '__ne__', '__le__', '__lt__', '__sub__'):\n"
    "    setattr(torch.Tensor, n, yes)",
    "numpy": "import numpy as np\nnp.allclose = np.array_equal = np.testing.assert_allclose = yes",
    "pytest": "import sys, types\npytest = types.ModuleType('pytest')\n"
    "pytest.fail = yes\nsys.modules['pytest'] = pytest",
    "json": "import json\njson.dumps = lambda *a, **k: '[\"bool\", true]'",
    "the engine's own modules": "import sys\nfor n, m in list(sys.modules.items()):\n"
    "    if n.startswith('autograder'):\n        for a in ('compare', 'score', 'points', '_same'):\n"
    "            setattr(m, a, yes)",
}

EQUAL_TO_ALL = """\
class Yes(float):
    __eq__ = __le__ = __ge__ = __lt__ = __gt__ = __bool__ = lambda *a: True
    __ne__ = lambda *a: False
    __sub__ = __rsub__ = __abs__ = lambda *a: 0.0
    __hash__ = float.__hash__
"""
LAWLESS = """\
class T(torch.Tensor):
    @classmethod
    def __torch_function__(cls, f, types, args=(), kwargs=None):
        return True
"""
LIAR = """\
class T(torch.Tensor):
    shape = property(lambda s: torch.Size([3, 5]))
    dtype = property(lambda s: torch.float64)
    device = property(lambda s: torch.device('cpu'))
    def cpu(self): return self
    def numel(self): return 15
"""
ARRAY = """\
class T:
    __module__, __qualname__ = 'numpy', 'float64'
    shape = ()
    def item(self): return float('inf')
    def __array__(self, *a, **k): raise SystemExit
T.__module__ = 'numpy.made_up'
"""
ENDLESS = """\
from collections.abc import Mapping
class Endless(Mapping):
    def __getitem__(self, k): return 1
    def __iter__(self): return iter(())
    def __len__(self): return 1
    def items(self):
        while True: yield 'k', 1
"""
DEEP = "functools.reduce(lambda a, _: [a], range(100_000), x)"
NESTED = "(lambda l: l.append(l) or l)([])"

RETURNS = {
    "nan": ("x * float('nan')",),
    "infinity": ("x / 0",),
    "a number equal to everything": ("Yes(0)", EQUAL_TO_ALL),
    "a tensor with its own __torch_function__": ("torch.zeros(3, 5).as_subclass(T)", LAWLESS),
    "a tensor that lies about itself": ("torch.zeros(1).as_subclass(T)", LIAR),
    "something like a NumPy scalar": ("T()", ARRAY),
    "a broadcastable scalar": ("torch.zeros((), dtype=x.dtype)",),
    "a scalar expanded": ("torch.zeros(1, 1, dtype=x.dtype).expand_as(x)",),
    "an expanded view of a huge shape": ("x.new_zeros(1).expand(10**9)",),
    "a sparse tensor": ("x.to_sparse()",),
    "a quantised tensor": ("torch.quantize_per_tensor(x.float(), 0.1, 0, torch.qint8)",),
    "complex numbers": ("torch.complex(x, x)",),
    "a meta tensor": ("torch.empty(x.shape, dtype=x.dtype, device='meta')",),
    "a lazy module's output": ("nn.LazyLinear(5, dtype=x.dtype).weight",),
    "its argument": ("x",),
    "bytes": ("b'\\x00' * 8",),
    "a text": ("'right'",),
    "too many parts": ("[0] * 10**6",),
    "too deep a list": (DEEP, "import functools"),
    "a list in itself": (NESTED,),
    "a mapping without an end": ("Endless()", ENDLESS),
    "more bytes than may be sent": ("x.new_zeros(4000, 4000)",),
    "a text of 10 MB": ("'x' * 10**7",),
    "an uninitialised tensor": ("torch.empty_like(x)",),
}
ERRORS = {
    "an error whose text is orders to a terminal": "ValueError('\\x1b]0;x\\x07\\x1b[2J\\u202e')",
    "an error that is half a surrogate pair": "ValueError('\\ud800')",
    "an error with a name of 1 MB": "type('E' * 10**6, (Exception,), {})()",
    "an error whose text cannot be read": "type('E', (Exception,), {'__str__': lambda s: 1/0})()",
    "an error with a text of 50 MB": "ValueError('x' * (50 << 20))",
    "an error full of markup": "ValueError('<script>alert(1)</script>{{ 7*7 }}`<b>`\\n\\n# \\x85\\x1c')",
    "pytest's own way to pass": "type('Skipped', (BaseException,), {})('passed')",
}
UNJUDGED = """\
from torch._subclasses.fake_tensor import DynamicOutputShapeException
def centre(x, gain):
    if x.shape[0] == 1:
        return gain * (x - x.mean(dim=1, keepdim=True))
    raise DynamicOutputShapeException('cannot be judged')
"""
RIGHT = "gain * (x - x.mean(dim=1, keepdim=True))"

ATTACKS = [
    *(
        Attack(f"patches {name}", f"{name} says yes", {"centre": WRONG}, (patching(code),),
               earns={"centre": 0})
        for name, code in PATCHES.items()
    ),
    *(
        Attack(f"returns {name}", "what is returned passes for right",
               {"centre": returning(expression, *before)}, seconds=20)
        for name, (expression, *before) in RETURNS.items()
    ),
    *(
        Attack(name, "the error's telling harms who reads it",
               {"centre": f"def centre(x, gain):\n    raise {error}\n"}, seconds=20)
        for name, error in ERRORS.items()
    ),
    Attack("calls itself unjudgeable", "what cannot be judged earns its points",
           {"centre": UNJUDGED}, earns={"centre": 2}),
    Attack("infinity for a whole number", "the grader stumbles over it",
           {"count": "def count(x): return float('inf')\n"}),
    Attack("nan for a whole number", "the grader stumbles over it",
           {"count": "def count(x): return float('nan')\n"}),
    Attack("True for a whole number", "True counts as 1",
           {"count": "def count(x): return True\n"}),
    Attack("a large tensor to be observed", "what judges noise runs on millions of values",
           {"jitter": "def jitter(x, scale): return x.new_ones(2_000_000)\n"}),
    Attack("a list to be observed", "what judges noise stumbles",
           {"jitter": "def jitter(x, scale): return {'a': [None, 'x', float('inf')]}\n"}),
    Attack("right, as a view that needs gradients", "nothing: it must get full marks",
           {"centre": returning(f"({RIGHT}).requires_grad_().T.contiguous().T")}, earns=ALL),
    Attack("right, with warnings and stderr", "nothing: it must get full marks",
           {"centre": returning(RIGHT, "import sys, warnings", "warnings.warn('w')",
                                "print('e' * 99_999, file=sys.stderr)")}, earns=ALL),
]  # fmt: skip
