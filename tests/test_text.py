"""Texts: any text encodes, dialogues of the two splits share nothing, answers count as right."""

import random
import re

import pytest

from model.checkpoint import SpeechModel
from model.evaluation.targets import ARITHMETIC
from model.layout import TokenLayout, interleave
from model.training import dialogues, more_wordings, tools, voices
from model.training.dialogues import SKILLS
from model.training.skills import EXERCISES
from model.training.turns import HELDOUT, HELDOUT_WORDINGS, TRAIN, normalise, number_words, pattern


@pytest.mark.parametrize("text", ["hello there", "Ünïcödé 漢字 🙂", "line\nbreak\ttab", "<end> is only text"])
def test_any_text_encodes_and_comes_back(tiny: SpeechModel, text: str) -> None:
    ids = tiny.text.encode(text)
    assert all(tiny.layout.is_text(i) for i in ids)
    assert tiny.text.decode(ids).strip() == text.replace("<", "‹")


def _questions(split: str) -> set[str]:
    rng = random.Random(split)
    return {t.question for skill in SKILLS for _ in range(300) for t in dialogues.draw(rng, split, skill).turns}


def test_no_question_of_the_evaluation_is_in_training() -> None:
    assert not _questions(TRAIN) & _questions(HELDOUT)


@pytest.mark.parametrize("skill", ["sums", "products", "larger sums", "larger products"])
def test_no_sum_of_the_evaluation_is_in_training_the_other_way_round(skill: str) -> None:
    def pairs(split: str) -> set[frozenset[str]]:
        rng = random.Random(split)
        answers = (dialogues.draw(rng, split, skill).turns[0].answer.lower() for _ in range(1500))
        exercises = (re.split(" is |:", answer)[0] for answer in answers)
        return {frozenset(re.split(" plus | times ", exercise)) for exercise in exercises}

    assert not pairs(TRAIN) & pairs(HELDOUT)


def test_a_varied_question_is_never_worded_as_one_of_the_evaluation() -> None:
    _questions(HELDOUT)  # every skill has been drawn: all its wordings are known
    kept = [pattern(wording) for wording in HELDOUT_WORDINGS]
    assert any(p.fullmatch(normalise("So, what's ten plus five?")) for p in kept)
    rng = random.Random(1)
    changed = 0
    for skill in SKILLS:
        for _ in range(150):
            question = dialogues.draw(rng, TRAIN, skill).turns[0].question
            other = dialogues.varied(question, rng)
            changed += other != question
            assert other == question or not any(p.fullmatch(normalise(other)) for p in kept)
    assert changed > 1000


def test_no_wording_for_training_alone_is_or_contains_one_of_the_evaluation() -> None:
    _questions(HELDOUT)
    kept = [pattern(wording) for wording in HELDOUT_WORDINGS]
    # Of three words and more, and not a field with a word or two, which many contain.
    said = {f" {_filled(wording)} " for wording in HELDOUT_WORDINGS if len(wording.split()) > 2 and wording[0] != "{"}
    said -= {" i am seven ", " you are seven "}
    outside = [ways for ways, _ in more_wordings.OUTSIDE]
    skills = [more_wordings.ASK, *more_wordings.MORE.values(), *more_wordings.SMALL_TALK, *outside]
    alone = [wording for wordings in skills for wording in wordings]
    assert len(alone) > 400
    for wording in alone:
        assert not any(p.fullmatch(_filled(wording)) for p in kept), wording
        assert not any(heldout in f" {_filled(wording)} " for heldout in said), wording


def _filled(wording: str) -> str:
    return normalise(re.sub(r"\{\w+\}", "seven", wording))


def test_no_voice_family_of_the_evaluation_is_in_training() -> None:
    families = {split: {v.family for v in voices.of_split(split)} for split in (TRAIN, HELDOUT)}
    assert families[TRAIN]
    assert families[HELDOUT]
    assert not families[TRAIN] & families[HELDOUT]


@pytest.mark.parametrize("skill", SKILLS)
def test_the_right_answer_counts_as_right_and_another_ones_does_not(skill: str) -> None:
    rng = random.Random(1)
    turns = [dialogues.draw(rng, TRAIN, skill).turns[-1] for _ in range(50)]
    assert all(t.is_right(t.answer) for t in turns)
    assert not any(t.is_right("Bananas are yellow fruit.") for t in turns)


@pytest.mark.parametrize("skill", [*ARITHMETIC, "longer products", "longer quotients"])
def test_a_thought_comes_to_what_the_answer_says(skill: str) -> None:
    rng, numbers = random.Random(2), {number_words(n): n for n in range(1000)}
    number = re.compile("|".join(sorted(numbers, key=len, reverse=True)))
    for _ in range(500):
        turn = EXERCISES[skill](rng, rng.choice((TRAIN, HELDOUT)))
        a, b, total = (numbers[found] for found in number.findall(turn.answer.lower()))
        steps = [[numbers[found] for found in number.findall(step)] for step in turn.thought.split(";")]
        if " plus " in turn.answer or " minus " in turn.answer:
            assert [sum(column) for column in zip(*steps, strict=True)] == [a, b, total]
        elif 1 in (a, b):
            assert steps == [[]]
        elif " times " in turn.answer:
            assert steps[-1] == [1, total]
            assert total == a * b
            assert len(steps) == min(a, b)
        else:
            assert steps[-1] == [total, 0]
            assert total * b == a


@pytest.mark.parametrize(
    ("skill", "right", "wrong"),
    [
        ("months", "June has thirty days.", "June has thirty-one days."),
        ("units", "An hour has sixty minutes.", "An hour has sixty-five minutes."),
        ("units", "A kilometer has one thousand meters.", "A kilometer has one hundred meters."),
        ("capitals", "The capital of Tunisia is Tunis.", "The capital of Tunisia is Tripoli."),
        ("spelling", "Rain: R, A, I, N.", "Train: T, R, A, I, N."),
        ("elements", "The symbol of carbon is C.", "The symbol of carbon is A, C."),
        ("sums", "Two plus five is seven.", "Two plus five is twenty-seven."),
        ("sums", "Ten plus ten is twenty.", "Ten plus ten is one hundred and twenty."),
    ],
)
def test_an_answer_that_only_contains_the_right_one_is_wrong(skill: str, right: str, wrong: str) -> None:
    rng = random.Random(1)
    turns = (dialogues.draw(rng, TRAIN, skill).turns[-1] for _ in range(20_000))
    turn = next(t for t in turns if t.answer == right)
    assert turn.is_right(right)
    assert not turn.is_right(wrong)


def test_tools_of_the_evaluation_are_about_things_that_no_dialogue_of_the_training_names() -> None:
    said: dict[str, set[str]] = {}
    for split in (TRAIN, HELDOUT):
        rng = random.Random(1)
        drawn = [dialogues.draw(rng, split, skill) for skill in SKILLS for _ in range(300)]
        said[split] = {word for d in drawn for t in d.turns for word in normalise(f"{t.question} {t.answer}").split()}
    nouns = set(tools._NOUNS_HELD_OUT)
    assert nouns <= said[HELDOUT]
    assert not nouns & said[TRAIN]


def test_no_two_tools_of_a_session_do_the_same() -> None:
    rng = random.Random(1)
    for _ in range(2000):
        listed = dialogues.draw(rng, HELDOUT, "made-up tools").tools
        assert len({tool.description for tool in listed}) == len(listed)


def test_interleaving_keeps_all_text_and_all_speech_in_order() -> None:
    layout = TokenLayout()
    tokens = interleave(layout, list(range(9)), list(range(40)))
    assert tokens is not None
    assert [t for t in tokens if layout.is_text(t)] == list(range(9))
    assert [t - layout.spoken_start for t in tokens if layout.is_spoken(t)] == list(range(40))
    assert tokens[-1] == layout.control("<end>")
    assert interleave(layout, list(range(30)), [1, 2]) is None


def test_half_a_character_does_not_stop_an_engine(tiny: SpeechModel) -> None:
    assert tiny.text.decode(tiny.text.encode("a \ud800 b")).strip() == "a ? b"
