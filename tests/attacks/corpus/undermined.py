"""Attacks on what looks on while an answer runs: what it goes by, what it is told, where it looks."""

from autograder.attacks.attack import ALL, Attack

FAMILY = "shortcut"
TOLD = "which this exercise asks you to write yourself"
REFUSED = "is not to be had while this is graded"
MADE = "n = ''.join(map(chr, (115, 111, 102, 116, 109, 97, 120)))  # softmax"
C = "C = getattr(torch, chr(95) + 'C')"
BENEATH = "super(torch.Tensor, x).softmax(-1)"
KEYS = "C.DispatchKeySet(C.DispatchKey.CPU)"


def soft(*lines, before=""):
    body = "\n".join("    " + line for line in lines)
    return f"{before}\ndef soft(x):\n{body}\n"


def after(*lines):
    """An honest-looking call, after cells that change what looks on."""
    return soft(MADE, "return getattr(F, n)(x, -1)", before="\n".join(lines))


def slope(*lines):
    return "def soft_backward(grad, x):\n" + "\n".join("    " + line for line in lines) + "\n"


GOES_BY = {
    "the way in": after("import pickle", "old = pickle.loads",
        "pickle.loads = lambda b: {**old(b), 'forbidden': []}"),
    "the way out as JSON": after("import json", "d = json.dumps", "def dumps(v, **k):",
        "    for q in v[1]:", "        if q[0] == 'called': q[1] = ['list', []]",
        "    return d(v, **k)", "json.dumps = dumps"),
    "what encodes JSON": after("import json", "E = json.JSONEncoder", "d = E.encode",
        "def enc(s, v):", "    for q in v[1] if len(v) > 1 else ():",
        "        if type(q) is list and q and q[0] == 'called': q[1] = ['list', []]",
        "    return d(s, v)", "E.encode = enc"),
    "the way out as bytes": after("import os", "w = os.write",
        "N = b'[\"called\", [\"list\", [[\"str\", \"torch.nn.functional.softmax\"]]]]'",
        "O = b'[\"called\", [\"list\", []]]'.ljust(len(N))",
        "os.write = lambda fd, b: w(fd, bytes(b).replace(N, O))"),
    "isinstance": after("import builtins", "old = builtins.isinstance",
        "builtins.isinstance = lambda v, t: False if type(v) is list and v and type(v[0]) is str "
        "and v[0].startswith('torch.') else old(v, t)"),
    "the stack of contexts": soft(f"return {BENEATH}", before="import contextlib\n"
        "contextlib.ExitStack.enter_context = lambda s, c: c"),
    "contexts": soft(f"return {BENEATH}", before="import contextlib\n"
        "K = contextlib._GeneratorContextManager\na, b = K.__enter__, K.__exit__\n"
        "K.__enter__ = lambda s: None if 'watching' in s.gen.__qualname__ else a(s)\n"
        "K.__exit__ = lambda s, *e: None if 'watching' in s.gen.__qualname__ else b(s, *e)"),
    "the names of functions": soft(MADE,
        "t = getattr(torch, 'over' + 'rides'[:])._get_overridable_functions()[1]",
        "f = getattr(torch.Tensor.__base__, n); t.pop(f, 0)", "return f(x, -1)"),
    "a function equal to the forbidden one": soft(MADE, "f = getattr(torch.Tensor.__base__, n)",
        "class E:", "    __hash__ = lambda s: hash(f)", "    __eq__ = lambda s, o: True",
        "    __call__ = lambda s, *a, **k: 0",
        "getattr(torch, 'over' + n[:0] + 'rides').handle_torch_function(E(), (x,), x)",
        "return f(x, -1)"),
}  # fmt: skip
PAST = {
    "an operator's redispatch": soft(MADE, C, "op = getattr(torch.ops.aten, '_' + n).default",
        f"return op.redispatch({KEYS}, x, -1, False)"),
    "an operator's handle": soft(MADE, C, "op = getattr(torch.ops.aten, '_' + n).default",
        f"return op._handle.redispatch_boxed({KEYS}, x, -1, False)"),
    "an operator found by its schema": soft(MADE, C,
        "h = C._dispatch_find_schema_or_throw('aten::_' + n, '')",
        f"return h.redispatch_boxed({KEYS}, x, -1, False)"),
    "modes switched off": soft(MADE, C, "old = C._get_torch_function_state()",
        "C._set_torch_function_state(C._TorchFunctionState.ALL_DISABLED)",
        "p = [C.DispatchKey.Python, C.DispatchKey.PythonTLSSnapshot]",
        "[C._dispatch_tls_set_dispatch_key_excluded(k, True) for k in p]", f"y = {BENEATH}",
        "[C._dispatch_tls_set_dispatch_key_excluded(k, False) for k in p]",
        "C._set_torch_function_state(old)", "return y"),
    "modes taken off and put back": soft(MADE, C, "a = C._pop_torch_function_stack()",
        f"y = {BENEATH}", "C._push_on_torch_function_stack(a)", "return y"),
    "a device that is left without being entered": soft("import contextlib",
        "with contextlib.ExitStack() as s: s.push(torch.device('cpu'))", f"y = {BENEATH}",
        "contextlib.ExitStack().enter_context(torch.device('cpu'))", "return y"),
    "SciPy's own module": soft("import scipy.special as s",
        "return torch.from_numpy(s._logsumexp.softmax(x.numpy(), -1))"),
    "scikit-learn's": soft("import sklearn.utils.extmath as e",
        "return torch.from_numpy(e.softmax(x.numpy()))"),
    "a module with code named as PyTorch's": f"{MADE}\n"
        "code = 'def forward(self, x): return torch.' + n + '(x, -1)'\nns = dict(torch=torch)\n"
        "exec(compile(code, torch.__file__, 'exec'), ns)\nclass S(nn.Module): pass\n"
        "S.forward = ns['forward']\nsoft = S()\n",
    "frames by way of torch.sys": soft(MADE, "y = getattr(F, n)(x, -1)", "f = torch.sys._getframe()",
        "while f:", "    for v in f.f_locals.values():",
        "        if hasattr(v, '_watch'): v._watch.seen.clear()", "    f = f.f_back", "return y"),
    "a thread by way of torch.ctypes": soft("c = torch.ctypes", "y = []; import time",
        f"go = c.CFUNCTYPE(c.c_void_p, c.c_void_p)(lambda _: y.append({BENEATH}))",
        "t = c.c_ulong()", "c.CDLL(None).pthread_create(c.byref(t), None, go, None)",
        "time.sleep(0.3)", "return y[0]"),
    "what reports it": soft(MADE, "for k in getattr(vars(F)[n], '__clos' + 'ure__'[:]):",
        "    w = getattr(k.cell_contents, '__self__', None)",
        "    if hasattr(w, 'seen'): w._doors = {}; w._matched.clear(); w._operators = {}",
        "return vars(F)[n](x, -1)"),
}  # fmt: skip
WIPE = ["while f:", "    for v in getattr(f, 'f_' + chr(108) + 'ocals').values():",
        "        if hasattr(v, '_watch'): v._watch.seen.clear()",
        "    f = getattr(f, 'f_' + chr(98) + 'ack')", "return y"]  # fmt: skip
LOOKED_FOR = {
    "a frame": ["f = getattr(torch.sys, '_get' + chr(102) + 'rame')()", *WIPE],
    "an error's frame": ["try: 1 / 0", "except Exception as e:",
        "    f = getattr(e.__traceback__, 'tb_' + chr(102) + 'rame')", *WIPE],
    "a generator's frame": ["f = getattr((i for i in ()), 'gi_' + chr(102) + 'rame')", *WIPE],
    "the current frame": ["import importlib", "i = importlib.import_module('in' + 'spect')",
        "f = getattr(i, 'current' + chr(102) + 'rame')()", *WIPE],
    "all objects": ["import gc", "for o in getattr(gc, 'get_' + chr(111) + 'bjects')():",
        "    if type(o).__name__ == 'CallWatch': o.seen.clear()", "return y"],
    "memory": ["import importlib", "c = importlib.import_module('cty' + chr(112) + 'es')",
        "c.CDLL(None)", "return y"],
    "a trace": ["import sys", "def trace(*a): sys.settrace(None)", "sys.settrace(trace)",
                "return y"],
}  # fmt: skip
FORWARD = ["out = []", "for i in range(x.numel()):",
           "    t = torch.zeros(x.numel(), dtype=x.dtype); t[i] = 1", "    l = C._enter_dual_level()",
           "    y = torch._unpack_dual(soft(torch._make_dual(x, t.reshape(x.shape), level=l)), level=l)[1]",
           "    C._exit_dual_level(level=l)", "    out.append((y * grad).sum())",
           "return torch.stack(out).reshape(x.shape)"]  # fmt: skip

ATTACKS = [
    *(Attack(f"undermines {name}", "the call is not told of", {"soft": source}, told=TOLD)
      for name, source in GOES_BY.items()),
    *(Attack(f"softmax past {name}", "nobody sees the call", {"soft": source}, told=TOLD, seconds=20)
      for name, source in PAST.items()),
    *(Attack(f"looks for {name}", "what was seen is wiped out",
             {"soft": soft(MADE, "y = getattr(F, n)(x, -1)", *lines)}, told=REFUSED)
      for name, lines in LOOKED_FOR.items()),
    Attack("the derivative by forward mode's own functions", "the derivative is not written out",
           {"soft_backward": slope(C, *FORWARD)}, told=TOLD),
    Attack("the derivative by the operator past the modes", "the derivative is not written out",
           {"soft_backward": slope(C, "o = getattr(torch.ops.aten, '_softmax_back' + chr(119) + 'ard_data')",
                                   f"return o.default.redispatch({KEYS}, grad, soft(x), -1, x.dtype)")},
           told=TOLD),
    *(Attack(name, "nothing: it must get full marks", {"soft": source}, earns=ALL)
      for name, source in {
        "right, with a default device": soft("torch.set_default_device('cpu')",
            "e = (x - x.amax(-1, keepdim=True)).exp()", "return e / e.sum(-1, keepdim=True)"),
        "right, logged, timed, warned and traced": soft("import logging, traceback, warnings, gc",
            "logging.basicConfig(format='%(funcName)s'); logging.warning('x')",
            "warnings.warn('w', stacklevel=2); gc.collect()",
            "try: 1 / 0", "except ZeroDivisionError: traceback.format_exc()",
            "from collections import namedtuple; namedtuple('P', 'a b')(1, 2)",
            "from dataclasses import dataclass", "@dataclass", "class Q:", "    a: int = 1", "Q()",
            "import enum; enum.Enum('E', 'a b')", "x.numpy().ctypes.data",
            "with torch.device('cpu'): torch.ones(1)",
            "e = (x - x.amax(-1, keepdim=True)).exp()", "return e / e.sum(-1, keepdim=True)"),
        "right, printing a parameter": soft("print(nn.Parameter(torch.ones(1)))",
            "e = (x - x.amax(-1, keepdim=True)).exp()", "return e / e.sum(-1, keepdim=True)"),
        "right, by an iterator and a coroutine": soft("def rows():", "    for r in x:",
            "        e = (r - r.max()).exp(); yield e / e.sum()", "async def f(): return 1",
            "f().close()", "return torch.stack(list(rows()))"),
      }.items()),
]  # fmt: skip
