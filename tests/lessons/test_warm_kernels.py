"""A kernel forked from a warm process is like one that was started, and as apart from all others."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from warm_kernels import NEEDED, WarmProcess

LOOK = """
import json, os, sys, threading
matplotlib.pyplot.figure()
print(json.dumps({
    "arguments": [arg for arg in sys.argv if not arg.endswith(".json")],
    "path": sys.path,
    "folder": os.getcwd(),
    "environment": {k: v for k, v in os.environ.items() if k != "JPY_PARENT_PID"},
    "flags": str(sys.flags),
    "main": sys.modules["__main__"].__name__,
    "threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
    "Python's threads": threading.active_count(),
    "leads its group": os.getpgid(0) == os.getsid(0) == os.getpid(),
    "backend": matplotlib.get_backend(),
    "settings": {name: str(value) for name, value in matplotlib.rcParams.items()},
    "course": [name for name in sys.modules if name.startswith(("course", "autograder"))],
}))
"""
DRAW = "import random, numpy, torch; print(random.random(), numpy.random.rand(), torch.rand(1))"
# As a test does it, in a process that its own notebook kills.
KILLED = """
import os, sys, nbformat
from nbclient import NotebookClient
from warm_kernels import WarmProcess
os.environ["TESTER"] = str(os.getpid())
with WarmProcess(modules=[]) as process:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(sys.argv[1])])
    kernels = process.kernel_manager()
    NotebookClient(notebook, kernel_manager_class=kernels).execute(cwd=sys.argv[2])
"""
KILL = """
import json, os, pathlib, signal, subprocess
child = subprocess.Popen(["sleep", "600"])
pathlib.Path("processes").write_text(json.dumps([os.getppid(), os.getpid(), child.pid]))
os.kill(int(os.environ["TESTER"]), signal.SIGKILL)
"""


@pytest.fixture
def run(warm_kernels, tmp_path):
    def said(*sources, kernels=warm_kernels):
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        folder = {"metadata": {"path": str(tmp_path)}}
        node = nbformat.v4.new_notebook(cells=cells)
        NotebookClient(node, kernel_manager_class=kernels, resources=folder, timeout=60).execute()
        return "".join(output.text for cell in node.cells for output in cell.outputs
                       if output.get("name") == "stdout")  # fmt: skip

    return said


def test_it_is_like_one_that_was_started(run):
    cells = f"import {', '.join(NEEDED)}", LOOK
    assert json.loads(run(*cells)) == json.loads(run(*cells, kernels=AsyncKernelManager))


def test_what_is_not_seeded_differs(run):
    first, second = run(DRAW).split(), run(DRAW).split()
    assert not {*first} & {*second}


def test_an_error_ends_the_notebook(run):
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        run("1 / 0", "print('not reached')")


def test_a_kernel_that_dies_is_noticed(run):
    with pytest.raises(DeadKernelError):
        run("import os; os._exit(1)")


def test_nothing_is_left_for_the_next(run):
    run("import os, torch; torch.relu = None; os.environ['LEFT'] = 'behind'; torch.manual_seed(0)")
    assert run("import os, torch; print(torch.relu(torch.ones(1)), 'LEFT' in os.environ)") == (
        "tensor([1.]) False\n"
    )


def test_what_is_not_installed_is_left_for_the_notebook_to_tell(run):
    look = "import importlib.util; print(importlib.util.find_spec('not_installed'))"
    with WarmProcess(modules=["not_installed"]) as process:
        assert run(look, kernels=process.kernel_manager()) == "None\n"


def running(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_no_process_outlives_the_tests(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    tester = subprocess.run(
        [sys.executable, "-c", KILLED, KILL, str(tmp_path)], env=environment, timeout=120
    )
    assert tester.returncode == -signal.SIGKILL
    processes = json.loads((tmp_path / "processes").read_text())
    deadline = time.monotonic() + 20
    while any(map(running, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [p for p in processes if running(p)] == []
