"""What rules promise to engines that generate several tokens at once."""

import random
from collections.abc import Callable

import pytest

from model.layout import SPEECH_RUN, TokenLayout
from server.engine.rules import ChoiceRule, Script, SpeechRule, TextRule, ThinkingRule
from server.engine.token_interface import Allowed, Rule

LAYOUT = TokenLayout(text=280, controls=16, heard=256, spoken=256)
RULES: dict[str, Callable[[], Rule]] = {
    "text": lambda: TextRule(LAYOUT, 50),
    "text without a limit": lambda: TextRule(LAYOUT),
    "speech": lambda: SpeechRule(LAYOUT, 120),
    "speech of a script": lambda: SpeechRule(LAYOUT, 120, Script([5, 6, 7, 8, 9, 10], whole=True)),
    "thinking": lambda: ThinkingRule(LAYOUT, TextRule(LAYOUT, 120), 120),
    "thinking in a few tokens": lambda: ThinkingRule(LAYOUT, TextRule(LAYOUT, 7), 7),
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
        assert allowed is not None
        assert allowed.run >= 1
        for _ in range(allowed.run):
            again = rule.allowed()
            assert again is not None
            assert _same(again, allowed)
            beside = allowed.run == 1 or rng.random() < 0.05
            token = rng.choice(allowed.also) if allowed.also and beside else allowed.start
            if rule.accept(token):
                return
            if token in allowed.also:
                break


def test_a_script_is_said_as_it_comes() -> None:
    script, text_end = Script(), LAYOUT.control("<text_end>")
    rule = SpeechRule(LAYOUT, 120, script)
    assert rule.allowed() is None  # nobody knows yet
    script.pieces += [5, 6, 7, 8, 9]
    for piece in (5, 6, 7, 8):
        assert rule.allowed() == Allowed(piece, piece + 1)
        rule.accept(piece)
    for _ in range(SPEECH_RUN):
        rule.accept(LAYOUT.spoken_start)
    rule.accept(9)
    assert rule.allowed() is None
    script.whole = True
    assert rule.allowed() == Allowed(text_end, text_end + 1)


# --- a thought before an answer ------------------------------------------------------------------------------------


def _said(rule: ThinkingRule, tokens: list[int]) -> list[bool]:
    ends = []
    for token in tokens:
        allowed = rule.allowed()
        assert allowed.start <= token < allowed.stop or token in allowed.also
        ends.append(rule.accept(token))
    return ends


def test_a_thought_comes_first_or_not_at_all() -> None:
    layout = LAYOUT
    thought, answer, end = map(layout.control, ("<thought>", "<answer>", "<end>"))
    for tokens in ([thought, 1, 2, answer, 3, end], [3, 4, end], [thought, answer, end]):
        rule = ThinkingRule(layout, TextRule(layout), 100)
        assert _said(rule, tokens) == [False] * (len(tokens) - 1) + [True]
    late = ThinkingRule(layout, TextRule(layout), 100)
    assert late.allowed().run == 1  # whoever generates several tokens at once would begin a thought later
    late.accept(3)
    assert thought not in late.allowed().also
    again = ThinkingRule(layout, TextRule(layout), 100)
    _said(again, [thought, 1, answer])
    assert thought not in again.allowed().also


def test_a_thought_counts_among_the_tokens_of_an_answer() -> None:
    thought, answer = map(LAYOUT.control, ("<thought>", "<answer>"))
    rule = ThinkingRule(LAYOUT, TextRule(LAYOUT, 5), 5)
    assert _said(rule, [thought, 1, answer, 3, 4]) == [False] * 4 + [True]
    cut = ThinkingRule(LAYOUT, TextRule(LAYOUT, 3), 3)
    assert _said(cut, [thought, 1, 2]) == [False, False, True]


def test_a_thought_that_does_not_end_is_ended() -> None:
    thought, answer = map(LAYOUT.control, ("<thought>", "<answer>"))
    rule = ThinkingRule(LAYOUT, TextRule(LAYOUT), 1000)
    rule.accept(thought)
    pieces = 0
    while rule.allowed().only is None:
        rule.accept(5)
        pieces += 1
    assert rule.allowed().only == answer
    assert pieces == 100
    rule.accept(answer)
    assert rule.allowed().only is None
