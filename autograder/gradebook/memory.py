"""How much memory a submission may use, as instructors write it: ``2GiB``."""

from __future__ import annotations

import re

LEAST = 64
MEBIBYTE = 1 << 20
UNITS = {
    "MB": 10**6, "GB": 10**9, "MIB": MEBIBYTE, "GIB": 1 << 30, "M": MEBIBYTE, "G": 1 << 30,
}  # fmt: skip


class UnfitMemory(ValueError):
    """What is asked for is no amount of memory, or too little to grade with."""


def mebibytes(text: str) -> int | None:
    """How many mebibytes a text such as ``2GiB`` or ``512MB`` means; None where it is empty.

    Raises:
        UnfitMemory: it is not a number with a unit, or less than any submission needs.
    """
    if not text.strip():
        return None
    found = re.fullmatch(r"\s*(\d{1,6}(?:\.\d+)?)\s*([MG](?:I?B)?)\s*", text.upper())
    if found is None:
        raise UnfitMemory(f"{text!r} is no amount of memory: write it as 512MiB or 2GiB")
    amount = int(float(found[1]) * UNITS[found[2]]) // MEBIBYTE
    if amount < LEAST:
        raise UnfitMemory(f"{text} is too little to grade with: at least {LEAST}MiB are needed")
    return amount
