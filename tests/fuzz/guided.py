"""Coverage-guided fuzzing of the reply decoder and the notebook reader, by Atheris.

    python tests/fuzz/guided.py replies -max_total_time=600
    python tests/fuzz/guided.py notebooks -max_total_time=600

What follows the target is libFuzzer's; a folder among it keeps the corpus. It ends with status
0 where nothing was found, and else with the input in a file that it names.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["autograder.engine", "autograder.gradebook.repair"]):
    from autograder.engine import codec, notebook  # noqa: F401
    from autograder.gradebook import repair  # noqa: F401

import torch
from lies import check_reply
from plans import check_notebook

REPLIES = (
    {"status": "returned", "value": torch.arange(6.0).reshape(2, 3), "called": []},
    [torch.ones(2, dtype=torch.bool), 3, (1.5, None, "x"), codec.Opaque("a.b")],
    {"a": {"b": torch.empty(0, 3)}, "c": float("nan"), "d": torch.ones((), dtype=torch.float16)},
)
NOTEBOOKS = (
    '{"nbformat": 4, "cells": [{"cell_type": "code", "id": "losses-03", "source": ["x = 1"], '
    '"metadata": {"nbgrader": {"grade_id": "generator_loss"}, "forwardpass": {}}}]}',
    '{"nbformat": 4, "cells": [{"cell_type": "markdown", "source": "<b>", "metadata": []}]}',
)


def reply(data: bytes) -> None:
    check_reply(data)


def text(data: bytes) -> None:
    """Every other input is a text; the rest are cells, which mutated JSON hardly ever makes."""
    if data[:1] < b"\x80":
        check_notebook(data.decode("utf-8", "surrogateescape"), validate=False)
        return
    provider = atheris.FuzzedDataProvider(data[1:])
    cells = [_cell(provider) for _ in range(provider.ConsumeIntInRange(0, 5))]
    check_notebook(json.dumps({"nbformat": 4, "cells": cells}), validate=False)


def _cell(provider: atheris.FuzzedDataProvider) -> dict[str, Any]:
    def pick(*choices: Any) -> Any:
        return choices[provider.ConsumeIntInRange(0, len(choices) - 1)]

    told = provider.ConsumeUnicode(provider.ConsumeIntInRange(0, 40))
    name = pick("generator_loss", "generator_loss_tests", told, None, 7)
    source = pick(told, [told, "\n", told], f"def generator_loss(x):\n  {told}", f"%%{told}", 7)
    role = pick("exercise", "tests", "setup", told)
    metadata = pick({}, told, {"nbgrader": {"grade_id": name}}, {"forwardpass": {"role": role}})
    kind = pick("code", "markdown", told, None)
    return {"cell_type": kind, "id": name, "metadata": metadata, "source": source}


def main() -> None:
    target = {"replies": reply, "notebooks": text}[sys.argv.pop(1)]
    with tempfile.TemporaryDirectory() as folder:
        seeds = [codec.encode(value) for value in REPLIES]
        if target is text:
            seeds = [one.encode() for one in NOTEBOOKS] + [bytes([200, *range(100)])]
        for number, seed in enumerate(seeds):
            Path(folder, str(number)).write_bytes(seed)
        atheris.Setup([*sys.argv, folder], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
