"""English sentences and their German translations, put together from a small grammar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch

T = TypeVar("T")

# English, German, gender (masculine, feminine, neuter), and whether it can act.
NOUNS = (
    ("man", "Mann", "m", True),
    ("dog", "Hund", "m", True),
    ("king", "König", "m", True),
    ("woman", "Frau", "f", True),
    ("cat", "Katze", "f", True),
    ("queen", "Königin", "f", True),
    ("child", "Kind", "n", True),
    ("girl", "Mädchen", "n", True),
    ("horse", "Pferd", "n", True),
    ("apple", "Apfel", "m", False),
    ("letter", "Brief", "m", False),
    ("lamp", "Lampe", "f", False),
    ("flower", "Blume", "f", False),
    ("book", "Buch", "n", False),
    ("picture", "Bild", "n", False),
)
# English, the stem of the German.
ADJECTIVES = (
    ("old", "alt"),
    ("small", "klein"),
    ("big", "groß"),
    ("new", "neu"),
    ("white", "weiß"),
    ("beautiful", "schön"),
)
# English: he …, to …, he has …; German: er …, er will …, er hat …
VERBS = (
    ("sees", "see", "seen", "sieht", "sehen", "gesehen"),
    ("finds", "find", "found", "findet", "finden", "gefunden"),
    ("draws", "draw", "drawn", "zeichnet", "zeichnen", "gezeichnet"),
    ("takes", "take", "taken", "nimmt", "nehmen", "genommen"),
    ("carries", "carry", "carried", "trägt", "tragen", "getragen"),
    ("paints", "paint", "painted", "malt", "malen", "gemalt"),
    ("loves", "love", "loved", "liebt", "lieben", "geliebt"),
    ("seeks", "seek", "sought", "sucht", "suchen", "gesucht"),
)
MODALS = (("wants to", "will"), ("must", "muss"), ("can", "kann"))
TIMES = (("today", "heute"), ("now", "jetzt"), ("here", "hier"))
CLAUSES = (("i know that", "ich weiß , dass"), ("she says that", "sie sagt , dass"))

# The German article and the ending of the adjective after it, by gender and case.
ARTICLES = {
    "the": {
        "subject": {"m": ("der", "e"), "f": ("die", "e"), "n": ("das", "e")},
        "object": {"m": ("den", "en"), "f": ("die", "e"), "n": ("das", "e")},
    },
    "a": {
        "subject": {"m": ("ein", "er"), "f": ("eine", "e"), "n": ("ein", "es")},
        "object": {"m": ("einen", "en"), "f": ("eine", "e"), "n": ("ein", "es")},
    },
}


def english_german(n: int, *, seed: int = 0) -> list[tuple[str, str]]:
    """Make sentences in English and in German, all different, in a random order.

    A sentence has a subject, a verb, an object, and perhaps a time or place in front of it. The
    verb stands alone, or with "has", or with a modal verb. Where German says it in another order,
    so does the translation: an infinitive or participle goes to the end of the sentence, a time
    in front pushes the subject behind the verb, and in a clause after "dass" every verb goes to
    the end. Articles and adjectives agree with their noun in gender and case, so that "the"
    may be der, die, das or den.

    Args:
        n: how many pairs, at most 200,000.
        seed: of the draw.

    Returns:
        Pairs of an English and a German sentence, words separated by single spaces; the English
        in lower case, the German with its capital nouns and its comma.

    Raises:
        ValueError: ``n`` is negative or too large.
    """
    if not 0 <= n <= 200_000:
        raise ValueError(f"n must be between 0 and 200000, but is {n}")
    generator = torch.Generator().manual_seed(seed)
    pairs: dict[str, str] = {}
    while len(pairs) < n:
        dice = torch.rand(n, 13, generator=generator, dtype=torch.float64)
        for row in dice.tolist():
            english, german = _sentence(row)
            pairs[english] = german
    return list(pairs.items())[:n]


def _sentence(dice: list[float]) -> tuple[str, str]:
    kind, modal, verb, front, which, *nouns = dice
    subject, der_subject = _noun_phrase(nouns[:4], "subject")
    thing, den_thing = _noun_phrase(nouns[4:], "object")
    he, to, has, er, infinitive, participle = _pick(VERBS, verb)
    if kind < 1 / 3:
        finite, rest, helper, last = he, [thing], er, [den_thing]
    elif kind < 2 / 3:
        finite, rest, helper, last = "has", [has, thing], "hat", [den_thing, participle]
    else:
        finite, helper = _pick(MODALS, modal)
        rest, last = [to, thing], [den_thing, infinitive]
    english, german = [subject, finite, *rest], [der_subject, helper, *last]
    if front < 0.4:
        time, zeit = _pick(TIMES, which)
        english, german = [time, *english], [zeit, helper, der_subject, *last]
    elif front < 0.7:
        clause, satz = _pick(CLAUSES, which)
        english, german = [clause, *english], [satz, der_subject, *last, helper]
    return " ".join(english), " ".join(german)


def _noun_phrase(dice: list[float], case: str) -> tuple[str, str]:
    article, noun, described, adjective = dice
    nouns = [row for row in NOUNS if row[3]] if case == "subject" else list(NOUNS)
    english, german, gender, _ = _pick(nouns, noun)
    the = "the" if article < 0.6 else "a"
    der, ending = ARTICLES[the][case][gender]
    if described >= 0.5:
        word, wort = _pick(ADJECTIVES, adjective)
        english, german = f"{word} {english}", f"{wort}{ending} {german}"
    if the == "a" and english[0] in "aeiou":
        the = "an"
    return f"{the} {english}", f"{der} {german}"


def _pick(options: Sequence[T], dice: float) -> T:
    return options[int(dice * len(options))]
