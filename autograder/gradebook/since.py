"""Which submissions were handed in since a moment."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from autograder.gradebook.course import Handed

FORMS = "2026-03-01, '2026-03-01 18:00', '2026-03-01 18:00 +0100' or '… 18:00 Europe/Berlin'"


class UnfitMoment(ValueError):
    """What is asked for is no date and time, or one that is still to come."""


def moment(text: str) -> datetime:
    """A date, or a date and a time, with or without a zone.

    nbgrader's own reading would take a slip for another time: ``+0100`` for 100 seconds, an
    unknown zone for UTC.

    Returns:
        In UTC and without a zone, as nbgrader stores its timestamps. What names no zone is in
        UTC, too.

    Raises:
        UnfitMoment: it is none, or in the future.
    """
    try:
        found = _parsed(text.strip())
    except (ValueError, OverflowError, ZoneInfoNotFoundError):
        told = f"{text!r} is no date: write it as {FORMS} (UTC where no zone is named)"
        raise UnfitMoment(told) from None
    if found > datetime.now(UTC):
        raise UnfitMoment(f"{text!r} is still to come: it is {found:%Y-%m-%d %H:%M} UTC")
    return found.replace(tzinfo=None)


def handed_since(handed: Sequence[Handed], since: datetime) -> list[Handed]:
    """The submissions of that moment or later, and those that do not say when they are of.

    An unchanged one costs nothing, while one that is left out would be graded by nobody.
    """
    return [one for one in handed if one.timestamp is None or one.timestamp >= since]


def _parsed(text: str) -> datetime:
    zoned = re.fullmatch(r"([\d:. T-]+) ([A-Za-z][\w/+-]+)", text)
    if zoned:
        return datetime.fromisoformat(zoned[1]).replace(tzinfo=ZoneInfo(zoned[2])).astimezone(UTC)
    found = datetime.fromisoformat(re.sub(r" (?=[+-]\d)", "", text))
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
