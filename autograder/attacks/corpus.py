"""The attacks, as the files beside the tests declare them: a family a file."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

from autograder.attacks.attack import Attack
from autograder.attacks.target import CORPUS

FAMILIES = CORPUS / "corpus"


def corpus(folder: Path = FAMILIES) -> list[Attack]:
    """Every attack of every family, in the files' order.

    Raises:
        ValueError: two attacks of a family have the same name.
    """
    found: dict[str, Attack] = {}
    for path in sorted(folder.glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"attacks_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for declared in module.ATTACKS:
            attack = replace(declared, family=module.FAMILY)
            if attack.key in found:
                raise ValueError(f"{path}: two attacks are called {attack.key!r}")
            found[attack.key] = attack
    return list(found.values())
