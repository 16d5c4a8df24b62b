"""Every door out of a worker is shut; a missing layer refuses to grade."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from autograder.engine.hold import WorkerDied
from autograder.engine.spawner import ROOT, Policy, SandboxRefused, Zygote


@pytest.fixture
def worker(zygote):
    running = zygote.fork(megabytes=256)
    yield running
    running.end()


def outcome(worker, source, seconds=15.0):
    reply = worker.ask("cell", seconds, name="it", source=source)
    return reply["status"] if reply["status"] == "returned" else reply["error"]["type"]


SHUT = {
    "solutions": f"import os; os.listdir({str(ROOT / 'solutions')!r})",
    "a grader": f"open({str(ROOT / 'autograder/graders/ch15_gan/test_losses.py')!r})",
    "source": f"open({str(ROOT / 'source/ch15_gan/losses.ipynb')!r})",
    "home": "import os, pathlib; os.listdir(os.path.expanduser('~root'))",
    "passwords": "open('/etc/passwd')",
    "processes": "open('/proc/1/environ')",
    "its own maps": "open('/proc/self/maps')",
    "writing elsewhere": "open('/tmp/forwardpass-escape', 'w')",
    "a socket": "import socket; socket.socket()",
    "a Unix socket": "import socket; socket.socket(socket.AF_UNIX)",
    "a pair": "import socket; socket.socketpair()",
    "fork": "import os; os.fork()",
    "exec": "import os; os.execv('/bin/true', ['true'])",
    "a subprocess": "import subprocess; subprocess.run(['true'])",
    "killing the parent": "import os; os.kill(os.getppid(), 9)",
    "killing everything": "import os; os.kill(-1, 9)",
    "mode bits": "import os; os.chmod('.', 0o777)",
    "raising its limits": "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "priority": "import os; os.setpriority(os.PRIO_PROCESS, 0, 19)",
    "a device": "open('/dev/mem')",
    "disks": "open('/dev/vda')",
}


@pytest.mark.parametrize("door", SHUT)
def test_the_door_is_shut(worker, door):
    found = outcome(worker, SHUT[door])
    assert found in ("PermissionError", "FileNotFoundError", "OSError", "ValueError"), found


def test_solutions_and_graders_cannot_be_imported(worker):
    for module in ("solutions.ch15_gan.losses", "autograder.graders.ch15_gan.test_losses"):
        assert outcome(worker, f"import {module}") == "ModuleNotFoundError"


def test_nothing_secret_is_in_memory_or_environment(worker):
    source = (
        "import gc, os, sys\n"
        "assert not [m for m in sys.modules if m.startswith(('solutions', 'autograder'))]\n"
        "assert set(os.environ) <= {'HOME', 'TMPDIR', 'LC_CTYPE'}, dict(os.environ)\n"
        "assert not [o for o in gc.get_objects() if type(o).__name__ == 'Mistake']\n"
        "for fd in range(3, 64):\n"
        "    try: os.fstat(fd)\n"
        "    except OSError: continue\n"
        "    kinds = globals().setdefault('open_descriptors', []); kinds.append(fd)\n"
        "assert len(open_descriptors) == 1, open_descriptors\n"
    )
    reply = worker.ask("cell", 15, name="it", source=source)
    assert reply == {"status": "returned"}, reply


def test_ordinary_work_goes_on(worker):
    source = (
        "import threading, torch, tempfile, matplotlib.pyplot as plt\n"
        "from course.data import load_digits\n"
        "thread = threading.Thread(target=lambda: None); thread.start(); thread.join()\n"
        "torch.save(load_digits().x_train, 'digits.pt'); torch.load('digits.pt')\n"
        "with tempfile.TemporaryFile() as file: file.write(b'x')\n"
        "plt.plot([1, 2]); plt.savefig('plot.png')\n"
        "torch.nn.Linear(3, 2)(torch.ones(4, 3)).sum().backward()\n"
    )
    reply = worker.ask("cell", 60, name="it", source=source)
    assert reply == {"status": "returned"}, reply


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("while True: pass", "took longer than 1 s"),
        ("try:\n    while True: pass\nexcept BaseException: pass", "took longer than 1 s"),
        ("import os; os._exit(0)", "ended the Python process"),
        ("import os; os._exit(3)", "with status 3"),
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
        ("import os; [os.close(fd) for fd in range(3, 64)]", "ended the Python process"),
    ],
)
def test_a_worker_that_dies_says_how(worker, source, told):
    with pytest.raises(WorkerDied, match=told):
        worker.ask("cell", 1.0, name="it", source=source)
    assert not worker.alive


def test_memory_is_limited(worker):
    assert outcome(worker, "x = bytearray(400 << 20)") == "MemoryError"
    assert outcome(worker, "x = bytearray(40 << 20)") == "returned"


def test_forged_and_oversized_replies_end_the_worker(zygote):
    forge = (
        "import os, struct\n"
        "for fd in range(3, 64):\n"
        "    try: os.write(fd, {payload})\n"
        "    except OSError: pass\n"
    )
    for payload in ("struct.pack('>Q', 1 << 60)", "struct.pack('>Q', 12) + b'x' * 12", "b'x' * 64"):
        worker = zygote.fork(megabytes=256)
        with pytest.raises(WorkerDied):
            worker.ask("cell", 5.0, name="it", source=forge.format(payload=payload))
        assert not worker.alive


def test_scratch_folders_are_private_and_removed(zygote):
    first, second = zygote.fork(megabytes=256), zygote.fork(megabytes=256)
    first.ask("cell", 5, name="it", source="open('mine', 'w').write('secret')")
    folder = first._scratch
    for theirs in (
        "os.listdir('..')",
        f"os.listdir({str(folder)!r})",
        f"open({str(folder / 'mine')!r})",
    ):
        reply = second.ask("cell", 5, name="it", source=f"import os; {theirs}")
        assert reply["status"] == "raised"
    first.end()
    second.end()
    assert not folder.exists()


def test_the_layers_are_recorded(zygote):
    told = " ".join(zygote.layers)
    for layer in ("no_new_privs", "landlock", "seccomp", "rlimits", "no capabilities"):
        assert layer in told


def test_a_missing_layer_refuses_to_grade(zygote, monkeypatch):
    def confined(self, megabytes, forbidden, secrets_to_try):
        worker, record = original(self, megabytes, forbidden, secrets_to_try)
        record["missing"]["landlock"] = "this kernel has no Landlock"
        return worker, record

    original = Zygote._fork
    monkeypatch.setattr(Zygote, "_fork", confined)
    with pytest.raises(
        SandboxRefused, match=r"landlock .this kernel has no Landlock.*--without-layer landlock"
    ):
        zygote.fork(megabytes=64)


def test_an_open_door_refuses_to_grade(monkeypatch):
    monkeypatch.setattr("autograder.engine.spawner.readable_paths", lambda: [Path("/")])
    with pytest.raises(SandboxRefused, match="get past the sandbox by reading solutions"), Zygote():
        pass


def test_the_instructor_can_name_the_risk():
    with Zygote(Policy(without=("landlock",))) as zygote:
        assert zygote.missing["landlock"] == "left out by the instructor"
        assert not any(layer.startswith("landlock") for layer in zygote.layers)


def test_workers_end_with_the_grader():
    program = (
        "import os, sys\n"
        "from autograder.engine.spawner import Zygote\n"
        "zygote = Zygote().__enter__(); worker = zygote.fork(megabytes=64)\n"
        "print(zygote._process.pid, flush=True); os._exit(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )
    pid = int(done.stdout)
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            return
        os.sched_yield()
        __import__("time").sleep(0.1)
    pytest.fail("the zygote outlived its grader")
