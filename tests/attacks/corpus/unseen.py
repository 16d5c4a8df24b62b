"""Attacks on the check of calls as they run: calls where it does not look, or that blind it."""

from autograder.attacks.attack import ALL, Attack

FAMILY = "shortcut"
TOLD = "which this exercise asks you to write yourself"  # and not that it stopped on its own
MADE = "n = ''.join(map(chr, (115, 111, 102, 116, 109, 97, 120)))  # softmax"
CALL = "return getattr(F, n)(x, -1)"
BENEATH = "super(torch.Tensor, x).softmax(-1)"
OPERATOR = "getattr(torch.ops.aten, n)(x, -1)"


def soft(*lines, before=""):
    body = "\n".join("    " + line for line in lines)
    return f"{before}\ndef soft(x):\n{body}\n"


def slope(*lines):
    return "def soft_backward(grad, x):\n" + "\n".join("    " + line for line in lines) + "\n"


def kept(*lines):
    """Code that leaves its result in the list `y`."""
    return soft(MADE, "y = []", *lines, "return y[0]")


PLACES = {
    "the method of the class beneath": soft(f"return {BENEATH}"),
    "an operator in a thread": kept("import threading",
        f"t = threading.Thread(target=lambda: y.append({OPERATOR})); t.start(); t.join()"),
    "the class beneath in a thread": kept("import threading",
        f"t = threading.Thread(target=lambda: y.append({BENEATH})); t.start(); t.join()"),
    "a thread without the threading module": kept("import _thread, time",
        f"_thread.start_new_thread(lambda: y.append({OPERATOR}), ()); time.sleep(0.2)"),
    "a thread of libc's": kept("import ctypes, time",
        f"go = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(lambda _: y.append({BENEATH}))",
        "t = ctypes.c_ulong()", "ctypes.CDLL(None).pthread_create(ctypes.byref(t), None, go, None)",
        "time.sleep(0.3)"),
    "the callback of a method": kept(f"torch.zeros(1).apply_(lambda v: y.append({BENEATH}) or v)"),
    "an operator in a hook": kept("z = x.clone().requires_grad_()",
        f"z.register_hook(lambda g: y.append({OPERATOR}))", "z.sum().backward()"),
    "the class beneath in a hook": kept("z = x.clone().requires_grad_()",
        f"z.register_hook(lambda g: y.append({BENEATH}) and None)", "z.sum().backward()"),
    "a finalizer": kept("class D:", f"    def __del__(self): y.append({OPERATOR})", "D()"),
    "a signal's handler": kept("import os, signal",
        f"signal.signal(signal.SIGUSR1, lambda *a: y.append({BENEATH}))",
        "os.kill(os.getpid(), signal.SIGUSR1)"),
    "a sort's key": kept(f"sorted([1], key=lambda v: y.append({BENEATH}) or v)"),
    "a task of TorchScript's": soft(MADE,
        "return torch.jit.wait(torch.jit.fork(getattr(torch.ops.aten, n), x, -1))"),
    "a tensor's own __torch_function__": (
        "class T(torch.Tensor):\n    @classmethod\n"
        "    def __torch_function__(cls, f, types, args=(), kwargs=None):\n"
        "        x = args[0].as_subclass(torch.Tensor)\n"
        f"        return {BENEATH}\n"
        "def soft(x): return torch.relu(x.as_subclass(T))\n"),
    "a tensor's own __torch_dispatch__": (
        "class T(torch.Tensor):\n    @staticmethod\n"
        "    def __new__(cls, e):\n"
        "        return torch.Tensor._make_wrapper_subclass(cls, e.shape, dtype=e.dtype)\n"
        "    def __init__(self, e): self.e = e\n    @classmethod\n"
        "    def __torch_dispatch__(cls, f, types, args=(), kwargs=None):\n"
        "        x = args[0].e\n"
        f"        return {BENEATH}\n"
        "def soft(x): return torch.relu(T(x))\n"),
    "a tensor that computes when it is sent": (
        "class T(torch.Tensor):\n    def detach(self):\n"
        f"        {MADE}\n        x = torch.Tensor.detach(self).as_subclass(torch.Tensor)\n"
        f"        {CALL}\ndef soft(x): return x.as_subclass(T)\n"),
    "an operator of one's own": kept("lib = torch.library.Library('mine', 'FRAGMENT')",
        "lib.define('f(Tensor x) -> Tensor')", f"lib.impl('f', lambda x: {OPERATOR}, 'CPU')",
        "y.append(torch.ops.mine.f(x))"),
    "code named as a file of the course": soft(MADE, "import course",
        "return eval(compile('torch.' + n + '(x, -1)', course.__file__, 'eval'))"),
    "code named as a hidden grader": soft(MADE,
        "f = '@ROOT@/autograder/graders/ch15_gan/test_losses.py'",
        "return eval(compile('torch.' + n + '(x, -1)', f, 'eval'))"),
    "an answer named as a file of PyTorch's": f"{MADE}\n"
        "code = 'def soft(x): return torch.' + n + '(x, -1)'\n"
        "exec(compile(code, torch.__file__, 'exec'), globals())\n",
    "an answer that is the function": f"{MADE}\nimport functools\n"
        "soft = functools.lru_cache(lambda x: getattr(F, n)(x, -1))\n",
    "a module of one's own making": soft("import importlib.util as u",
        "open('m.py', 'w').write('import torch\\ndef f(x): return torch.softmax(x, -1)')",
        "s = u.spec_from_file_location('m', 'm.py'); m = u.module_from_spec(s)",
        "s.loader.exec_module(m)", "return m.f(x)"),
    "no name at all": soft("f = [v for k, v in vars(F).items() if k[:4] == 'soft' and len(k) == 7]",
        "return next(g for g in f if 'max' in g.__name__)(x, -1)"),
    "the sparse one": soft("return torch.sparse.softmax(x.to_sparse(), -1).to_dense()"),
    "the safe one": soft("return torch._safe_softmax(x, -1)"),
    "the masked ones": soft("m = torch.zeros_like(x, dtype=torch.bool)",
        "return (torch.masked.softmax(x, -1) + torch._masked_softmax(x, m, -1)) / 2"),
    "SciPy's": soft("import scipy.special", "y = scipy.special.softmax(x.numpy(), -1)",
                    "return torch.from_numpy(y)"),
    "a guard that shuts functions off": soft("C = getattr(torch, chr(95) + 'C')",
        f"with vars(C)['DisableTorchFunction' + chr(0)[1:]](): return {BENEATH}"),
    "guards that shut everything off": soft("C = getattr(torch, chr(95) + 'C')",
        "with vars(C)['DisableTorchFunction' + chr(0)[1:]]():",
        f"    with vars(C)['_DisableTorchDispatch' + chr(0)[1:]](): return {BENEATH}"),
}  # fmt: skip
ENGINES = {
    "the engine's class": [
        "from torch.autograd.variable import ImperativeEngine as E",
        "return E().run_backward((soft(x),), (grad,), False, False, (x,), allow_unreachable=True, "
        "accumulate_grad=False)[0]"],
    "the engine behind the reporting one": [
        "e = getattr(torch.autograd.Variable, '_execution' + chr(95) + 'engine')._engine",
        "return e.run_backward((soft(x),), (grad,), False, False, (x,), allow_unreachable=True, "
        "accumulate_grad=False)[0]"],
    "the graph's nodes": ["return torch.softmax(x, -1).grad_fn(grad)"],
    "backward in a thread": ["import threading", "y = soft(x); b = 'back' + chr(119) + 'ard'",
        "t = threading.Thread(target=lambda: getattr(y, b)(grad)); t.start(); t.join()",
        "return x.grad"],
}  # fmt: skip
FOUND = "import gc\nfor c in gc.get_objects():\n    if getattr(c, '__name__', '') == '{}': {}"
BLINDS = {
    "the builtin that lists what was seen": "__builtins__['sorted'] = lambda *a, **k: []",
    "a builtin by way of another": "setattr(print.__self__, 'sorted', lambda *a, **k: [])",
    "the frames": "torch.sys._getframe = lambda *a: None",
    "a module by way of another": "torch.sys.modules['autograder.engine.watch'].CallWatch.note = print",
    "a patch by name": "from unittest import mock\n"
        "mock.patch('autograder.engine.watch.CallWatch.note').start()",
    "a name resolved": "import pkgutil\npkgutil.resolve_name('autograder.engine.watch:CallWatch').note = 1",
    "entering a mode": "m = torch.overrides.TorchFunctionMode\nm.__enter__ = lambda s: s\n"
        "m.__exit__ = lambda *a: None",
    "what modes do": "for c in torch.overrides.TorchFunctionMode.__subclasses__():\n"
        "    c.__torch_function__ = lambda s, f, t, a=(), k=None: f(*a, **(k or {}))",
    "the watch, by its class's parents": "for c in torch.overrides.TorchFunctionMode.__subclasses__():\n"
        "    c.note = c.note_operator = lambda *a: None",
    "the watch, found by gc": FOUND.format("CallWatch", "c.note = lambda *a: None"),
    "who is asked whose a call is": FOUND.format("Callers", "c.is_students = lambda *a: False"),
}  # fmt: skip
DEEP = "import sys\nsys.setrecursionlimit(200_000)"
SWALLOWED = """\
import gc
for c in gc.get_objects():
    if getattr(c, '__name__', '') == '_Worker':
        run = c._run
        c._run = lambda *a: {**run(*a), 'called': [], 'watched': True}
"""
CLEARED = soft(MADE, "y = getattr(F, n)(x, -1)", "import sys", "f = sys._getframe()", "while f:",
               "    for v in f.f_locals.values():", "        w = getattr(v, '_watch', None)",
               "        if w: w.seen.clear()", "    f = f.f_back", "return y")  # fmt: skip
FLOOD = "globals()\n" * 40 + "import gc; gc.get_objects()"

ATTACKS = [
    *(Attack(f"softmax by {name}", "only running it can tell", {"soft": source}, told=TOLD, seconds=20)
      for name, source in PLACES.items()),
    *(Attack(f"the derivative by {name}", "only running it can tell",
             {"soft_backward": slope("x = x.clone().requires_grad_()", *lines)})
      for name, lines in ENGINES.items()),
    *(Attack(f"blinds {name}", "the call is not seen", {"soft": soft(MADE, CALL, before=code)},
             earns={"soft_backward": 2})
      for name, code in BLINDS.items()),
    Attack("wipes out what was seen", "the call is forgotten", {"soft": CLEARED}, told=TOLD),
    Attack("nests a cell too deeply for the grader", "neither the tree nor a flag is left",
           {"soft": "_ = 1" + "+1" * 15_000 + soft(MADE, CALL)}, (DEEP,), told="nested too deeply"),
    Attack("hides a line among harmless ones", "the flags are full", {"soft": soft("return x", before=FLOOD)},
           flagged=r"look at gc\b"),
    Attack("spells a name in a pattern", "no flag", {"soft": soft("return x")},
           ("match 1:\n    case object(tb_frame=f): pass",), flagged="look at tb_frame"),
    Attack("spells a name in a text", "no flag", {"soft": soft("return x")},
           ("import operator\noperator.attrgetter('__globals__')(help.__class__.__call__)",),
           flagged="look at __globals__"),
    Attack("takes a name out of a namespace", "no flag", {"soft": soft("return x")},
           ("vars(torch)['re' + chr(108) + 'u']",), flagged="look at a name in a namespace"),
    # The one that is known to pay: the worker itself says that all is well. It is flagged.
    Attack("swallows the worker's report", "nobody is told of the call",
           {"soft": soft(MADE, CALL)}, (SWALLOWED,), earns={"soft": 2}, flagged="look at gc"),
    *(Attack(name, "nothing: it must get full marks", {"soft": source}, earns=ALL)
      for name, source in {
        "right, with a thread and a hook": kept("import threading",
            "def go():", "    e = (x - x.amax(-1, keepdim=True)).exp()",
            "    y.append(e / e.sum(-1, keepdim=True))",
            "t = threading.Thread(target=go); t.start(); t.join()",
            "z = torch.ones(2, requires_grad=True)",
            "z.register_hook(lambda g: g * 2)"),
        "right, on a kind of tensor of its own": "class T(torch.Tensor): pass\n" + soft(
            "e = (x - x.amax(-1, keepdim=True)).exp().as_subclass(T)",
            "return e / e.sum(-1, keepdim=True)"),
        "right, printed and inspected": soft("import inspect, gc; gc.collect()",
            "inspect.signature(soft); inspect.getsource(nn.Linear)", "print(x, repr(x), f'{x}')",
            "e = (x - x.amax(-1, keepdim=True)).exp()", "return e / e.sum(-1, keepdim=True)"),
        "right, as a module": "class Soft(nn.Module):\n    def forward(self, x):\n"
            "        e = (x - x.amax(-1, keepdim=True)).exp()\n"
            "        return e / e.sum(-1, keepdim=True)\nsoft = Soft()\n",
      }.items()),
]  # fmt: skip
