"""Attacks on the rule that an answer is to be written out: the ready function in disguise."""

from autograder.attacks.attack import Attack

FAMILY = "shortcut"
TOLD = "which this exercise asks you to write yourself"  # and not that it stopped on its own


def soft(*lines, before=""):
    body = "\n".join("    " + line for line in lines)
    return f"{before}\ndef soft(x):\n{body}\n"


def slope(*lines):
    return "def soft_backward(grad, x):\n" + "\n".join("    " + line for line in lines) + "\n"


NAMED = {
    "by its name": ["return F.softmax(x, -1)"],
    "by its long name": ["return torch.nn.functional.softmax(x, dim=-1)"],
    "as torch.softmax": ["return torch.softmax(x, -1)"],
    "as a method": ["return x.softmax(-1)"],
    "as torch.special.softmax": ["return torch.special.softmax(x, -1)"],
    "as torch.Tensor.softmax": ["return torch.Tensor.softmax(x, -1)"],
    "as an operator": ["return torch.ops.aten.softmax(x, -1)"],
    "as the operator underneath": ["return torch.ops.aten._softmax.default(x, -1, False)"],
    "as torch._softmax": ["return torch._softmax(x, -1, False)"],
    "from torch._C": ["return torch._C._VariableFunctions.softmax(x, -1)"],
    "as a module": ["return nn.Softmax(-1)(x)"],
    "as another module of the kind": ["return nn.Softmax2d()(x.T[None, :, :, None])[0, :, :, 0].T"],
    "as a subclass of the module": ["class Mine(nn.Softmax): pass", "return Mine(-1)(x)"],
    "through getattr": ["return getattr(F, 'softmax')(x, -1)"],
    "through getattr of parts": ["return getattr(F, 'soft' + 'max')(x, -1)"],
    "through getattr of letters": ["return getattr(F, ''.join(['s', 'oftmax']))(x, -1)"],
    "through getattr backwards": ["return getattr(torch, 'xamtfos'[::-1])(x, -1)"],
    "through vars": ["return vars(F)['softmax'](x, -1)"],
    "through __dict__": ["return torch.nn.functional.__dict__['soft' 'max'](x, -1)"],
    "through an alias of the module": ["t = torch.nn", "f = t.functional", "return f.softmax(x, -1)"],
    "through an alias of the function": ["s = F.softmax", "return s(x, -1)"],
    "through an import inside": ["from torch.nn.functional import softmax as s", "return s(x, -1)"],
    "through importlib": ["import importlib", "m = importlib.import_module('torch.nn.functional')",
                          "return m.softmax(x, -1)"],
    "through __import__": ["return __import__('torch').softmax(x, -1)"],
    "through sys.modules": ["import sys", "return sys.modules['torch'].softmax(x, -1)"],
    "through exec": ["space = {'x': x, 'torch': torch}", "exec('y = torch.softmax(x, -1)', space)",
                     "return space['y']"],
    "through eval": ["return eval('torch.soft' + 'max(x, -1)')"],
    "through a compiled string": ["return eval(compile('torch.softmax(x, -1)', 'own', 'eval'))"],
    "through functools.partial": ["import functools", "return functools.partial(F.softmax, dim=-1)(x)"],
    "through operator.methodcaller": ["import operator",
                                      "return operator.methodcaller('softmax', -1)(x)"],
    "through map": ["return next(map(lambda t: getattr(t, 'soft' 'max')(-1), [x]))"],
    "through a default argument": ["def inner(x, f=F.softmax): return f(x, -1)", "return inner(x)"],
    "through a comprehension": ["return [f(x, -1) for f in (F.softmax,)][0]"],
    "through a lambda in a list": ["return [lambda t: F.softmax(t, -1)][0](x)"],
    "through a decorator": ["import functools",
                            "@lambda f: functools.partial(F.softmax, dim=-1)", "def g(x): pass",
                            "return g(x)"],
    "through TorchScript of a text": [
        "u = torch.jit.CompilationUnit('def f(x):\\n    return torch.softmax(x, -1)\\n')",
        "return u.f(x)"],
    "through TorchScript of a hidden text": [
        "u = torch.jit.CompilationUnit('def f(x):\\n    return torch.soft' + 'max(x, -1)\\n')",
        "return u.f(x)"],
    "through torch.compile": ["return torch.compile(lambda t: F.softmax(t, -1), backend='eager')(x)"],
    "through torch.fx": ["import torch.fx", "g = torch.fx.Graph(); p = g.placeholder('x')",
                         "g.output(g.call_function(getattr(torch, 'soft' 'max'), (p, -1)))",
                         "return torch.fx.GraphModule(nn.Module(), g)(x)"],
    "with PyTorch's functions unwatched": ["with torch._C.DisableTorchFunction():",
                                           "    return getattr(F, 'soft' 'max')(x, -1)"],
    "in a thread": ["import threading", "y = []",
                    "t = threading.Thread(target=lambda: y.append(getattr(F, 'soft' 'max')(x, -1)))",
                    "t.start(); t.join()", "return y[0]"],
    "in a pool of threads": ["from concurrent.futures import ThreadPoolExecutor as P",
                             "return P(1).submit(getattr(F, 'soft' 'max'), x, -1).result()"],
    "behind the watching wrapper": ["f = getattr(F, 'soft' 'max')",
                                    "return getattr(f, '__wrapped__', f)(x, -1)"],
    "as PyTorch's own reference": ["import torch._refs as r", "return r.softmax(x, -1)"],
    "as a decomposition": ["from torch._decomp import decomposition_table as t",
                           "return t[torch.ops.aten._softmax.default](x, -1, False)"],
    "as gumbel_softmax's neighbour": ["return torch.nn.modules.activation.F.softmax(x, -1)"],
    "through vmap": ["return torch.vmap(lambda r: getattr(F, 'soft' 'max')(r, -1))(x)"],
    "through an autograd function": ["class G(torch.autograd.Function):", "    @staticmethod",
                                     "    def forward(c, x): return getattr(F, 'soft' 'max')(x, -1)",
                                     "return G.apply(x)"],
    "through a module's hook": ["m = nn.Identity()",
                                "m.register_forward_hook(lambda m, i, o: getattr(o, 'soft' 'max')(-1))",
                                "return m(x)"],
    "through a pickle": ["import pickle",
                         "f = pickle.loads(b'ctorch.nn.functional\\nsoft' + b'max\\n.')",
                         "return f(x, -1)"],
    "through numpy and back": ["return torch.softmax(torch.from_numpy(x.numpy()), -1)"],
}  # fmt: skip
MADE = "n = ''.join(map(chr, (115, 111, 102, 116, 109, 97, 120)))"  # no tree can read it
AS_IT_RUNS = {
    "of F": ["return getattr(F, n)(x, -1)"],
    "of torch": ["return getattr(torch, n)(x, -1)"],
    "of the tensor": ["return getattr(x, n)(-1)"],
    "of torch.ops": ["return getattr(torch.ops.aten, n)(x, -1)"],
    "of torch.ops, underneath": ["return getattr(torch.ops.aten, '_' + n).default(x, -1, False)"],
    "of torch._C": ["return getattr(torch._C._VariableFunctions, n)(x, -1)"],
    "of a module": ["return getattr(nn, n.title())(-1)(x)"],
    "in exec": ["d = {'x': x}", "exec('import torch; y = torch.' + n + '(x, -1)', d)", "return d['y']"],
    "in TorchScript": ["return torch.jit.CompilationUnit('def f(x):\\n    return torch.' + n + "
                       "'(x, -1)\\n').f(x)"],
    "in torch.fx": ["import torch.fx", "g = torch.fx.Graph(); p = g.placeholder('x')",
                    "g.output(g.call_function(getattr(torch, n), (p, -1)))",
                    "return torch.fx.GraphModule(nn.Module(), g)(x)"],
    "in a thread": ["import threading", "y = []",
                    "t = threading.Thread(target=lambda: y.append(getattr(x, n)(-1)))",
                    "t.start(); t.join()", "return y[0]"],
    "in a pool of threads": ["from concurrent.futures import ThreadPoolExecutor as P",
                             "return P(1).submit(getattr(F, n), x, -1).result()"],
    "in vmap": ["return torch.vmap(lambda r: getattr(F, n)(r, -1))(x)"],
    "in a hook": ["y = []; z = x.clone().requires_grad_()",
                  "z.register_hook(lambda g: y.append(getattr(x, n)(-1)))", "z.sum().backward()",
                  "return y[0]"],
    "in code with a false name": ["c = compile('torch.' + n + '(x, -1)', '/usr/lib/python3/re.py', 'eval')",
                                  "return eval(c)"],
    "of PyTorch's own reference": ["import importlib", "m = importlib.import_module('torch._' + 'sfer'[::-1])",
                                   "return getattr(m, n)(x, -1)"],
}  # fmt: skip
HELPERS = {
    "in a helper": ("def help_(x): return F.softmax(x, -1)", "return help_(x)"),
    "in a helper's helper": ("def a(x): return F.softmax(x, -1)\ndef b(x): return a(x)", "return b(x)"),
    "in a class's method": ("class A:\n    def go(self, x): return x.softmax(-1)", "return A().go(x)"),
    "in a helper defined under if": ("if True:\n    def h(x): return F.softmax(x, -1)", "return h(x)"),
    "in a helper defined in a loop": ("for h in [F.softmax]: pass", "return h(x, -1)"),
    "in a helper defined by with": (
        "import contextlib\nwith contextlib.nullcontext(F.softmax) as h: pass", "return h(x, -1)"),
    "in a helper by a walrus": ("(h := F.softmax)", "return h(x, -1)"),
    "in a helper put into globals": ("globals()['h'] = F.softmax", "return h(x, -1)"),
    "in a helper imported by a star": ("from torch.nn.functional import *", "return softmax(x, -1)"),
    "in a function made elsewhere": (
        "import types\nh = types.FunctionType(compile('def h(x): return torch.softmax(x, -1)', 'a', "
        "'exec').co_consts[0], globals())", "return h(x)"),
    "in a patched method": ("torch.Tensor.mine = lambda t: t.softmax(-1)", "return x.mine()"),
    "put where another function was": ("torch.relu = F.softmax", "return torch.relu(x, -1)"),
}  # fmt: skip
SLOPES = {
    "torch.autograd.grad": ["x = x.clone().requires_grad_()",
                            "return torch.autograd.grad(soft(x), x, grad)[0]"],
    "backward": ["x = x.clone().requires_grad_()", "soft(x).backward(grad)", "return x.grad"],
    "torch.autograd.backward": ["x = x.clone().requires_grad_()",
                                "torch.autograd.backward([soft(x)], [grad])", "return x.grad"],
    "torch.func.vjp": ["return torch.func.vjp(soft, x)[1](grad)[0]"],
    "the old functorch": ["import functorch", "return functorch.vjp(soft, x)[1](grad)[0]"],
    "torch.autograd.functional": ["return torch.autograd.functional.vjp(soft, x, grad)[1]"],
    "a name made of parts": ["x = x.clone().requires_grad_()",
                             "return getattr(torch.autograd, 'gr' + 'ad')(soft(x), x, grad)[0]"],
    "a method's name made of parts": ["x = x.clone().requires_grad_()",
                                      "getattr(soft(x), 'back' + 'ward')(grad)", "return x.grad"],
    "the engine itself": [
        "x = x.clone().requires_grad_()",
        "e = torch.autograd.Variable._execution_engine",
        "return e.run_backward((soft(x),), (grad,), False, False, (x,), allow_unreachable=True, "
        "accumulate_grad=False)[0]"],
    "forward mode": ["import torch.autograd.forward_ad as f", "out = []",
                     "for i in range(x.numel()):",
                     "    t = torch.zeros(x.numel(), dtype=x.dtype); t[i] = 1",
                     "    with f.dual_level():",
                     "        y = f.unpack_dual(soft(f.make_dual(x, t.reshape(x.shape)))).tangent",
                     "    out.append((y * grad).sum())",
                     "return torch.stack(out).reshape(x.shape)"],
    "softmax's own derivative": ["return torch._softmax_backward_data(grad, soft(x), -1, x.dtype)"],
    "softmax's own derivative as an operator": [
        "return torch.ops.aten._softmax_backward_data(grad, soft(x), -1, x.dtype)"],
}  # fmt: skip
CACHE = """\
cache = {{}}
def {name}({arguments}):
    key = {key}
    if key not in cache:
        cache[key] = {value}
    return cache[key]
"""
BLIND = """\
import sys
for name, module in list(sys.modules.items()):
    if name == 'autograder.engine.watch':
        module.CallWatch.note = lambda *a: None
        module.CallWatch.__torch_function__ = lambda s, f, t, a=(), k=None: f(*a, **(k or {}))
"""
FRAMES = "import sys\ndef centre(x, gain):\n    f = sys._getframe(1)\n    return f.f_locals['inputs']['x']\n"
CHEAT_ERRORS = """\
import sys
def count(x):
    f = sys._getframe()
    while f:
        if f.f_code.co_name == 'raised':
            raise ValueError
        f = f.f_back
    return 0
"""

ATTACKS = [
    *(
        Attack(f"softmax {name}", "the answer is not written out", {"soft": soft(*lines)}, told=TOLD)
        for name, lines in NAMED.items()
    ),
    *(
        Attack(f"softmax by a name made as it runs, {name}", "only running it can tell",
               {"soft": soft(MADE, *lines)}, told=TOLD)
        for name, lines in AS_IT_RUNS.items()
    ),
    *(
        Attack(f"softmax {name}", "the answer is not written out", {"soft": soft(line, before=helper)}, told=TOLD)
        for name, (helper, line) in HELPERS.items()
    ),
    *(
        Attack(f"the derivative by {name}", "the derivative is not written out",
               {"soft_backward": slope(*lines)}, told=TOLD)
        for name, lines in SLOPES.items()
    ),
    Attack("answers hard-coded for what is visible", "the visible check's inputs come again",
           {"count": "def count(x): return {50: 25, 56: 28}.get(x.numel(), 0)\n"}),
    Attack("results cached by identity", "the same tensor comes again",
           {"count": CACHE.format(name="count", arguments="x", key="id(type(x))", value="0")}),
    Attack("results cached by the seed", "the same seed comes again",
           {"jitter": CACHE.format(name="jitter", arguments="x, scale", key="torch.initial_seed()",
                                   value="x")}),
    Attack("its caller's variables", "the expected value may be among them", {"centre": FRAMES}),
    Attack("knows when it should raise from its caller", "a check that it does not make",
           {"count": CHEAT_ERRORS}, earns={"count": 0.5}, flagged="_getframe"),
    Attack("knows when it should raise from a printed stack", "a check that it does not make",
           {"count": "import traceback\ndef count(x):\n"
                     "    if any(f.name == 'raised' for f in traceback.extract_stack()): raise ValueError\n"
                     "    return 0\n"}, earns={"count": 0.5}, flagged="extract_stack"),
    Attack("knows when it should raise from a logger", "a check that it does not make",
           {"count": "import logging\ndef count(x):\n"
                     "    if logging.Logger('x').findCaller(False, 3)[2] == 'raised': raise ValueError\n"
                     "    return 0\n"}, earns={"count": 0.5}, flagged="findCaller"),
    Attack("blinds the watch and hides the name", "neither check sees the call",
           {"soft": soft("return getattr(F, 'xamtfos'[::-1])(x, -1)", before=BLIND)}),
    Attack("blinds the watch and makes the name as it runs", "neither check sees the call",
           {"soft": soft(MADE, "return getattr(F, n)(x, -1)", before=BLIND)}, told=TOLD,
           flagged=r"look at (sys\.modules|getattr of a name)"),
]  # fmt: skip
