"""The first cell of every notebook: is everything here, and if not, what to do."""

from __future__ import annotations

TEMPLATE = """\
# Run this cell first: it checks that everything the lesson needs is here.
import importlib.util
import sys

needed = {{"course": "forwardpass", "torch": "torch", "matplotlib": "matplotlib",
          "numpy": "numpy", "sklearn": "scikit-learn"}}
missing = [package for module, package in needed.items() if not importlib.util.find_spec(module)]
if sys.version_info < (3, 11):
    raise RuntimeError(f"Python 3.11 or newer is needed; this is {{sys.version.split()[0]}}. "
                       "In JupyterLab, choose another kernel; in Colab, another runtime type.")
if missing:
    where = ("the Files panel on the left" if "google.colab" in sys.modules
             else "the folder of this notebook")
    raise ModuleNotFoundError(
        f"Missing: {{', '.join(missing)}}. In a new cell, run\\n"
        f"    %pip install {{' '.join(missing)}}\\n"
        "then restart the kernel and run this cell again. If your instructor gave you a file "
        f"forwardpass-….whl, put it into {{where}} and give its name in place of forwardpass."
    )
from course import welcome

welcome({title!r})
"""


def environment_cell(title: str) -> str:
    """The cell's source, for a lesson of this title."""
    return TEMPLATE.format(title=title)
