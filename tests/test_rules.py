"""What rules promise to engines that generate several tokens at once."""

import random
from collections.abc import Callable

import pytest

from model.layout import TokenLayout
from server.engine.rules import ChoiceRule, SpeechRule, TextRule
from server.engine.token_interface import Allowed, Rule

LAYOUT = TokenLayout(text=280, controls=16, heard=256, spoken=256)
RULES: dict[str, Callable[[], Rule]] = {
    "text": lambda: TextRule(LAYOUT, 50),
    "text without a limit": lambda: TextRule(LAYOUT),
    "speech": lambda: SpeechRule(LAYOUT, 120),
    "speech of a script": lambda: SpeechRule(LAYOUT, 120, [5, 6, 7, 8, 9, 10]),
    "choice": lambda: ChoiceRule(LAYOUT, "<speech>", SpeechRule(LAYOUT, 40), TextRule(LAYOUT, 40)),
}


def _same(one: Allowed, other: Allowed) -> bool:
    return (one.start, one.stop, one.also) == (other.start, other.stop, other.also)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("seed", range(20))
def test_what_is_allowed_stays_for_a_run_unless_one_of_the_ids_beside_it_comes(name: str, seed: int) -> None:
    rng, rule = random.Random(seed), RULES[name]()
    for _ in range(40):
        allowed = rule.allowed()
        assert allowed.run >= 1
        for _ in range(allowed.run):
            assert _same(rule.allowed(), allowed)
            token = rng.choice(allowed.also) if allowed.also and rng.random() < 0.05 else allowed.start
            if rule.accept(token):
                return
            if token in allowed.also:
                break
