"""Every attack of the corpus is held, and every honest oddity gets full marks."""

from collections import Counter

import pytest

from autograder.attacks.attack import ALL
from autograder.attacks.corpus import corpus

ATTACKS = corpus()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.key)
def test_it_is_held(arena, attack):
    outcome = arena.attempt(attack)
    assert not outcome.broken, "\n".join(outcome.broken)


def test_the_corpus_is_whole():
    families = Counter(attack.family for attack in ATTACKS)
    assert set(families) == {
        "verdict", "reference", "channel", "escape", "resources", "notebook", "shortcut", "honest",
    }  # fmt: skip
    assert min(families.values()) >= 20
    assert len(ATTACKS) >= 300
    assert all(attack.earns == ALL for attack in ATTACKS if attack.family == "honest")
    assert all(attack.name and attack.tries for attack in ATTACKS)
