"""What the first cell of every notebook calls once the environment has been found good."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

import torch

UNWRITTEN = (
    "✏️  This cell uses an exercise that is not written yet{where}. "
    "Write it, run its cell, then run this one again."
)

UNDEFINED = (
    "✏️  This cell uses `{name}`, which a cell above was to make. It stopped at an exercise that is "
    "not written yet: write that one, run the cells above, then run this one again."
)


def welcome(lesson: str) -> None:
    """Say what the notebook runs on, and make unwritten exercises fail softly.

    Args:
        lesson: the lesson's title, printed first.
    """
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none (not needed)"
    python = ".".join(str(part) for part in sys.version_info[:3])
    print(f"{lesson}: ready. Python {python}, PyTorch {torch.__version__}, GPU: {gpu}")
    shell = _shell()
    if shell is not None:
        shell.set_custom_exc((NotImplementedError, NameError), _explain_unwritten)


def _shell() -> Any:
    """Find the running IPython shell; None outside a notebook."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


def _explain_unwritten(
    shell: Any,
    kind: type[BaseException],
    error: BaseException,
    trace: TracebackType | None,
    tb_offset: int | None = None,
) -> None:
    """Say which exercise a cell lacks, in place of a traceback.

    A name that is not defined is softened likewise once an exercise was found unwritten: the
    cell that was to define it has stopped there. Any other gets IPython's own traceback.
    """
    if issubclass(kind, NotImplementedError):
        name = ""
        while trace is not None:
            name = trace.tb_frame.f_code.co_qualname
            trace = trace.tb_next
        where = f": `{name}`" if name and name != "<module>" else ""
        shell.user_ns_hidden["forwardpass_unwritten"] = True
        told = str(error)  # from another lesson's exercise, which says where it is
        print(f"✏️  {told}" if told else UNWRITTEN.format(where=where))
    elif shell.user_ns_hidden.get("forwardpass_unwritten"):
        print(UNDEFINED.format(name=getattr(error, "name", None) or error))
    else:
        shell.showtraceback((kind, error, trace), tb_offset=tb_offset)
