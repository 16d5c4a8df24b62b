"""Attacks on everybody's time and space: what hangs, floods, crashes or stays behind."""

from autograder.attacks.attack import Attack

FAMILY = "resources"


def doing(code, exercise="centre"):
    body = "\n".join("    " + line for line in code.strip().split("\n"))
    return (
        f"import os, signal, sys, threading, time\ndef {exercise}(*a, **k):\n{body}\n    return 0\n"
    )


ENDS = {
    "an endless loop": "while True: pass",
    "an endless loop that catches everything": "while True:\n    try:\n"
    "        while True: pass\n    except BaseException: pass",
    "a loop in C": "sum(range(10**12))",
    "a regular expression": "import re\nre.match('(a+)+$', 'a' * 60 + 'b')",
    "a deadlock": "lock = threading.Lock()\nlock.acquire(); lock.acquire()",
    "a sleep": "time.sleep(999)",
    "waiting for input": "input()\nsys.stdin.read()\nos.read(0, 1)\nsignal.pause()",
    "stopping itself": "os.kill(os.getpid(), signal.SIGSTOP)",
    "ignoring every signal": "for s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n"
    "    except (OSError, ValueError): pass\nwhile True: time.sleep(9)",
    "an object that is never printed": "class E(Exception):\n    def __str__(self):\n"
    "        while True: pass\nraise E",
    "threads that go on": "def burn():\n    while True: pass\n"
    "for _ in range(8): threading.Thread(target=burn, daemon=True).start()",
    "threads without number": "threading.stack_size(32768)\n"
    "for _ in range(100_000): threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
    "threads of hashes": "import hashlib\ntry:\n    for _ in range(200): threading.Thread(target="
    "lambda: hashlib.pbkdf2_hmac('sha256', b'x', b'y', 10**8), daemon=True).start()\n"
    "except RuntimeError: pass",
    "a fork bomb": "while True:\n    try: os.fork()\n    except OSError: time.sleep(0.01)",
    "os._exit": "os._exit(0)",
    "sys.exit": "sys.exit(0)",
    "an exit from a thread": "threading.Thread(target=os._exit, args=(0,)).start()\ntime.sleep(1)",
    "a segmentation fault": "import ctypes\nctypes.string_at(0)",
    "an abort": "os.abort()",
    "a signal to itself": "os.kill(os.getpid(), signal.SIGKILL)",
    "a stack that overflows": "sys.setrecursionlimit(10**9)\ndef f(): return f()\nf()",
    "recursion": "def f(): return f()\nf()",
    "atexit": "import atexit\natexit.register(time.sleep, 999)\nsys.exit()",
    "closing stdin, stdout and stderr": "os.closerange(0, 3)",
    "memory": "x = []\nwhile True: x.append(bytearray(1 << 20))",
    "a huge tensor": "import torch\ntorch.zeros(10**12)",
    "a huge integer": "10 ** 10 ** 9",
    "memory in files without a name": "fds = []\nwhile True:\n"
    "    fds.append(os.memfd_create('x')); os.write(fds[-1], bytes(60 << 20))",
    "memory in pipes": "import fcntl\np = []\nwhile True:\n    p.append(os.pipe())\n"
    "    fcntl.fcntl(p[-1][1], 1031, 1 << 20); os.write(p[-1][1], bytes(1 << 20))",
    "one large file": "with open('x', 'wb') as f:\n    while True: f.write(bytes(1 << 20))",
    "many large files": "for i in range(10**6):\n    with open(f'x{i}', 'wb') as f: f.write(bytes(8 << 20))",
    "files without number": "for i in range(10**7): open(f'x{i}', 'w').close()",
    "a sparse file": "os.truncate(os.open('x', os.O_CREAT | os.O_WRONLY), 1 << 50)",
    "folders in folders": "for i in range(3000):\n    os.mkdir('d'); os.chdir('d')",
    "folders that cannot be entered": "os.umask(0o777)\nfor i in range(99): os.makedirs(f'd{i}')",
    "a FIFO in its folder": "os.mkfifo('x')\nopen('x')",
    "a link to itself": "os.symlink('x', 'x')\nopen('x')",
    "open files": "f = []\nwhile True: f.append(open('/dev/null'))",
    "a flood of output": "while True: os.write(1, bytes(1 << 20)); print('x' * 10**6)",
    "a flood of warnings": "import warnings\nfor i in range(10**7): warnings.warn(str(i))",
    "a callback of the collector": "import gc\ngc.callbacks.append(lambda *a: time.sleep(9))\n"
    "gc.collect()",
    "a trace function": "sys.settrace(lambda *a: time.sleep(9))\n(lambda: 0)()",
    "a patched open": "import builtins\nbuiltins.open = builtins.print = lambda *a, **k: os._exit(3)\n"
    "raise ValueError",
    "broken imports": "import builtins\ndel builtins.__import__\nimport json",
}
AT_IMPORT = {
    "a cell that hangs": "while True: pass",
    "a cell that ends the process": "import os; os._exit(0)",
    "a cell with a huge allocation": "x = [bytearray(1 << 26) for _ in range(99)]",
    "a cell that exits later": "import os, threading\nthreading.Timer(0.3, os._exit, (0,)).start()",
    "a cell that deletes the builtins": "import builtins\nfor n in dir(builtins):\n    delattr(builtins, n)",
    "a cell that empties sys.modules": "import sys; sys.modules.clear()",
    "a cell that changes the folder": "import os\nos.mkdir('d'); os.chdir('d'); os.rmdir('../d')",
    "a cell that changes PyTorch's defaults": "import torch\ntorch.set_default_dtype(torch.float16)\n"
    "torch.set_grad_enabled(False); torch.manual_seed(1); torch.set_num_threads(64)",
    "a cell that hangs in its decorator": "@(lambda f: [0 for _ in iter(int, 1)])\ndef f(): pass",
}
TIMERS = """\
import ctypes
t, libc = ctypes.c_void_p(), ctypes.CDLL(None)
n = sum(libc.timer_create(1, None, ctypes.byref(t)) == 0 for _ in range(5000))
raise RuntimeError('refused' if n < 5000 else 'all were made')
"""
MANY_EXITS = tuple(f"x{i} = 1" if i % 2 else "import os; os._exit(0)" for i in range(60))
MANY_HANGS = tuple("import time; time.sleep(1.0)" for i in range(30))
EVERY = ("centre", "soft", "soft_backward", "count", "jitter")

ATTACKS = [
    *(
        Attack(name, "the class waits, or the machine fills up", {"centre": doing(code)},
               seconds=20)
        for name, code in ENDS.items()
    ),
    *(
        Attack(name, "every exercise behind it suffers, or everybody's", before=(code,), seconds=20)
        for name, code in AT_IMPORT.items()
    ),
    Attack("timers without number", "nobody of the same user can make one", {"centre": doing(TIMERS)},
           told="RuntimeError: refused"),
    Attack("a hanging answer to every exercise", "minutes for each",
           {name: doing("while True: pass", name) for name in EVERY}, seconds=25),
    Attack("sixty cells of which half end the process", "each costs a new worker and all others",
           before=MANY_EXITS, seconds=20),
    Attack("thirty cells that each nearly take too long", "their times add up",
           before=MANY_HANGS, seconds=20),
]  # fmt: skip
