"""Attacks on what is secret: the reference, the hidden tests, other people's work."""

from autograder.attacks.attack import Attack

FAMILY = "reference"
REFUSED = "refused|denied|no such|not permitted|no module|not found|Errno"


def telling(code, exercise="centre"):
    """Run code that leaves what it found in `found`, and tell it in the student's own error."""
    body = "\n".join("        " + line for line in code.strip().split("\n"))
    return (
        "import gc, os, sys\nfound = []\n"
        f"def {exercise}(*args, **kwargs):\n    global found\n"
        f"    try:\n{body}\n"
        "    except BaseException as error:\n"
        "        found.append(f'refused: {error!r}'[:200])\n"
        "    raise RuntimeError('looted: ' + repr(found)[:500])\n"
    )


READS = {
    "the reference by its path": "@ROOT@/tests/attacks/attack_target/reference.py",
    "a hidden grader by its path": "@ROOT@/autograder/graders/ch15_gan/test_losses.py",
    "the source notebook": "@ROOT@/source/ch15_gan/losses.ipynb",
    "the gradebook": "@BAIT@/gradebook.db",
    "somebody else's notebook": "@BAIT@/submitted/somebody-else/lesson.ipynb",
    "the grader's environment": "/proc/@GRADER@/environ",
    "the grader's memory": "/proc/@GRADER@/mem",
    "the grader's maps": "/proc/@GRADER@/maps",
    "its own environment in /proc": "/proc/self/environ",
    "its own memory in /proc": "/proc/self/mem",
    "the zygote's memory": "/proc/1/mem",
    "the kernel's log": "/dev/kmsg",
    "the list of users": "/etc/passwd",
}
LOOTS = {
    "imports solutions": "import solutions.ch15_gan.losses as s\nfound.append(vars(s))",
    "imports after putting the path back": "sys.path.insert(0, '@ROOT@')\n"
    "import autograder.graders.ch15_gan.test_losses as t\nfound.append(vars(t))",
    "asks the import system for a file's source": "import importlib.machinery as m\n"
    "found.append(m.SourceFileLoader('x', '@BAIT@/solutions/reference.py').get_source('x'))",
    "looks in sys.modules": "found += [n for n in sys.modules if n.startswith(('solutions',"
    " 'attack_target', 'autograder.graders'))] or ['refused: nothing there']",
    "looks for the canary with gc": "seen = [o for o in gc.get_objects() if isinstance(o, str) "
    "and o.startswith('canary-')]\nfound += seen or ['refused: nothing there']",
    "reads the environment": "found += [v for v in os.environ.values() if 'canary' in v] "
    "or ['refused: nothing there']",
    "reads the environment that libc keeps": "import ctypes\n"
    "e = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), 'environ')\n"
    "i = 0\nwhile e and e[i]:\n    found.append(e[i]); i += 1\nfound.append('refused: that was all')",
    "reads inherited descriptors": "for fd in range(64):\n"
    "    try: found.append(os.pread(fd, 100, 0))\n    except OSError: pass\n"
    "found.append('refused: that was all')",
    "follows its descriptors' names": "found += [os.readlink(f'/proc/self/fd/{n}') "
    "for n in range(9)]",
    "looks through uninitialised memory": "import torch\n"
    "for n in (64, 4096, 1 << 20):\n    raw = bytes(torch.empty(n, dtype=torch.uint8).tolist())\n"
    "    found += [raw[i:i + 50] for i in [raw.find(b'canary-')] if i >= 0]\n"
    "found.append('refused: nothing there')",
    "lists the folder above its own": "found += os.listdir('..')",
    "looks for earlier submissions' files": "import glob\n"
    "found += glob.glob('/tmp/forwardpass-*/**', recursive=True) or ['refused: nothing there']",
    "walks up the frames": "f = sys._getframe()\nwhile f:\n"
    "    found += [k for k in f.f_globals if 'canary' in k.lower() or k in ('Mistake', 'judge')]\n"
    "    f = f.f_back\nfound.append('refused: nothing there')",
    "asks the scenario for its neighbours": "g = sys._getframe(1).f_globals\n"
    "found += [k for k in g if k in ('MISTAKES', 'oracle', 'soft_slope', 'centre', 'VALUES')]\n"
    "found.append('refused: nothing there')",
    "links the reference into its folder": "os.symlink('@BAIT@/solutions/reference.py', 'r')\n"
    "found.append(open('r').read())",
    "links it for good": "os.link('@BAIT@/solutions/reference.py', 'r')\nfound.append(open('r').read())",
    "climbs out of its folder": "found.append(open('../' * 12 + '@BAIT@'[1:] + '/gradebook.db').read())",
    "opens the gradebook with sqlite": "import sqlite3\n"
    "c = sqlite3.connect('@BAIT@/gradebook.db')\nfound.append(c.execute('select 1').fetchall())",
    "maps the reference with NumPy": "import numpy\n"
    "found.append(bytes(numpy.memmap('@BAIT@/solutions/reference.py', 'u1', 'r')))",
    "loads it with PyTorch": "import torch\nfound.append(torch.load('@BAIT@/gradebook.db', "
    "weights_only=False))",
    "reads it from a thread": "import threading\nt = threading.Thread(target=lambda: found.append("
    "open('@BAIT@/gradebook.db').read()))\nthreading.excepthook = lambda a: found.append(repr(a))\n"
    "t.start(); t.join()",
    "opens it by libc": "import ctypes\nfd = ctypes.CDLL(None, use_errno=True).open("
    "b'@BAIT@/gradebook.db', 0)\nfound.append(os.read(fd, 99))",
    "opens it by its handle": "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    "r = libc.name_to_handle_at(-100, b'@BAIT@/gradebook.db', b'\\0' * 200, b'\\0' * 8, 0)\n"
    "found.append(f'refused: {ctypes.get_errno()}' if r < 0 else 'a handle')",
}

ATTACKS = [
    *(
        Attack(f"reads {name}", "a file that is not for students",
               {"centre": telling(f"found.append(open({path!r}, 'rb').read(4096))")},
               told=f"looted:.*({REFUSED})")
        for name, path in READS.items()
    ),
    *(
        Attack(name, "a secret in this process or beside it", {"centre": telling(code)},
               told=r"looted: \[.{0,2}refused" if "nothing there" in code else f"looted:.*({REFUSED})")
        for name, code in LOOTS.items()
    ),
]  # fmt: skip
