"""The figures of `antiphon eval`: counted from what happened, and compared with what was promised."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rapidfuzz.distance import Levenshtein

from clients import sound
from model import EMBEDDED
from model.checkpoint import load
from model.evaluation import card, ears, speech, turn_taking
from model.evaluation.command import dialogue_figures, speaking_figures, spoken_answers, turn_figures
from model.evaluation.dialogues import Answered, Question, held_out, word_error_rate, word_errors
from model.evaluation.speech import Spoken
from model.evaluation.targets import TARGETS
from model.evaluation.turn_taking import Decision
from model.training import phones
from model.training.tokenizer import load_recogniser
from model.training.turns import Dialogue, Turn
from server.engine.engine_config import EngineConfig
from server.engine.speech_engine import SpeechEngine
from server.engine.token_engine import TorchTokenEngine
from server.turn_detection import VoiceActivityNetwork


def _held(skill: str, condition: str, answer: str, turns: int = 1) -> tuple[Question, list[Answered]]:
    turn = Turn(skill, "What is two plus two?", "That is four.", "four$")
    answered = Answered(turn, "What is two plus you?", answer, "", True, b"")
    return Question(Dialogue((turn,) * turns), skill, "pico-en-US", condition), [answered] * turns


def test_shares_are_of_what_was_asked_on_that_kind_of_line() -> None:
    held = [
        _held("sums", "clean", "That is four."),
        _held("sums", "clean", "That is five."),
        _held("capitals", "clean", "Sorry, I do not know."),
        _held("memory", "clean", "four", turns=3),
        _held("memory", "clean", "five", turns=2),
        _held("sums", "noise", "five"),
        _held("unknown", "clean", "Sorry, I cannot help."),
        _held("unknown", "clean", "sorry four"),
        _held("memory", "clean", "five", turns=4),
    ]
    figures = dialogue_figures(held)
    assert figures["by_skill"] == {"sums": 0.5, "capitals": 0, "memory": 0.3333, "unknown": 0.5}
    assert figures["by_condition"] == {"clean": 0.375, "noise": 0}
    assert figures["arithmetic"] == 0.5
    assert figures["memory"] == 0.5
    assert figures["false_refusals"] == 0.1667  # one of six; where it may refuse, it is none
    assert figures["hearing_wer"] == 0.2
    assert figures["dialogues"] == 9


def _phones(symbols: str) -> list[int]:
    return [phones.SYMBOLS.index(symbol) + 1 for symbol in symbols]


def test_phones_are_counted_once_each_and_without_the_borders_of_words() -> None:
    b, d, space = _phones("bd ")
    assert ears.decoded([0, b, b, 0, b, d, d, space, 0]) == [b, b, d, space]
    assert ears.plain([b, space, d]) == [b, d]


def test_the_recogniser_reads_the_phones_of_a_question_and_few_of_them_in_noise() -> None:
    recogniser, wanted = load_recogniser(EMBEDDED), _phones("plizspɛlðəwɜɹdɡɑɹdənfɔɹmi")
    question, _ = soundfile.read(sound.questions()[4], dtype="int16")  # Please spell the word garden for me.
    noise = np.random.default_rng(0).normal(0, 3000, len(question)).astype(np.int16)
    wrong = [Levenshtein.distance(ears.phones_of(recogniser, heard), wanted) for heard in (question, noise)]
    assert wrong[0] < len(wanted) / 3 < len(wanted) / 2 < wrong[1]


def test_every_promise_is_kept_or_missed_by_what_was_measured() -> None:
    good = {"by_condition": {"clean": 0.95}, "by_skill": {"tools": 0.75, "sums": 0.7}, "aloud_wer": 0.05, "size_mb": 61}
    good["calls"] = {"tools": 0.95}
    verdicts = {t.key: t.verdict(value) for t in TARGETS if (value := t.find(good)) is not None}
    missed = {key for key, verdict in verdicts.items() if verdict == "missed"}
    assert missed == {"worst_skill", "size_mb"}
    assert verdicts["clean"] == verdicts["tools"] == "met"
    assert verdicts["aloud_wer"] == "aim met"


def test_an_answer_that_goes_on_after_its_words_babbles() -> None:
    assert not Spoken("Good morning.", bytes(2 * 24_000)).babbles
    assert Spoken("Good morning.", bytes(2 * 24_000 * 4)).babbles


def test_words_are_counted_wrong_whatever_their_capitals() -> None:
    assert word_errors("What is two plus two?", "what is too plus") == (2, 5)


class _Deaf:
    """A listener who hears the same words in everything; counts what it was given."""

    def __init__(self) -> None:
        self.judged: dict[str, int] = {}

    def words_wrong(self, said: list[Spoken], what: str) -> float:
        self.judged[what] = len(said)
        return word_error_rate((one.text, "good morning") for one in said)

    def naturalness(self, said: list[Spoken]) -> float:
        self.judged["naturalness"] = len(said)
        return 3.456


def test_answers_and_sentences_are_judged_each_for_themselves() -> None:
    listener, answers = _Deaf(), [Spoken("Good morning.", bytes(48_000))] * 30
    aloud = [Spoken("Bad morning", bytes(48_000))]
    figures = speaking_figures(listener, aloud, answers)
    assert figures == {"aloud_wer": 0.5, "spoken_wer": 0.0, "naturalness": 3.46}
    assert listener.judged == {"sentences": 1, "answers": 30, "naturalness": 20}
    assert set(speaking_figures(listener, aloud, [])) == {"aloud_wer", "naturalness"}  # nothing was asked


def test_a_turn_that_was_cut_off_says_nothing_about_the_delay() -> None:
    decisions = [Decision(False, 100), Decision(False, 200), Decision(False, 300), Decision(True, 9000)]
    assert turn_figures(decisions) == {"cut_offs": 0.25, "decision_ms": 200}
    assert turn_figures([Decision(True, 100)]) == {"cut_offs": 1.0, "decision_ms": None}


def test_an_answer_that_was_stopped_counts_as_unended() -> None:
    held = [_held("sums", "clean", "That is four.", turns=2)]
    question, [first, second] = held[0]
    held = [(question, [replace(first, pcm=bytes(48_000)), replace(second, pcm=bytes(48_000), ended=False)])]
    said, unended = spoken_answers(held)
    assert [one.text for one in said] == ["That is four."] * 2
    assert unended == 0.5
    assert spoken_answers([_held("sums", "clean", "four")])[1] == 1.0  # nobody heard it
    assert spoken_answers([_held("sums", "clean", "")]) == ([], None)  # a call alone


def test_free_english_is_heard_and_read_through_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded model on one sentence: what was heard is a transcript, what was read is sound."""
    monkeypatch.setattr(speech.corpus, "free_sentences", lambda *_: ["One."])
    monkeypatch.setattr(speech, "strangers", lambda: ["a voice"])
    tone = (8000 * np.sin(np.arange(16_000) / 10)).astype(np.int16)
    monkeypatch.setattr(speech, "speak", lambda line: (tone, ()))
    engine = SpeechEngine(load(EMBEDDED), EngineConfig(slots=1))
    assert speech.transcribe(engine, 1) > 0  # a tone is no word
    [said] = speech.read_aloud(engine, 1)
    assert said.text == "One."
    assert 0.2 < len(said.pcm) / 2 / 24_000 < 5


@pytest.mark.parametrize("pause_s", [0.0, 1.5])
def test_a_turn_ends_after_its_question_or_in_a_long_pause(pause_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a model that always thinks that the turn is over: then any pause ends it, and the decision says which."""
    model, config = load(EMBEDDED), EngineConfig(slots=1)
    tokens = TorchTokenEngine(model.transformer, model.layout, config)
    monkeypatch.setattr(tokens, "_turn_direction", tokens._turn_direction * 0)  # a probability of one half
    monkeypatch.setattr("server.input_audio._EAGERNESS", {"auto": (0.4, 4000)})
    engine = SpeechEngine(model, config, tokens=tokens)
    question, _ = soundfile.read(sound.questions()[2], dtype="int16")
    loud = np.flatnonzero(np.abs(question) > 0.02 * np.abs(question).max())
    question = np.concatenate([question[loud[0] : loud[-1]], np.zeros(800, np.int16)])
    said = np.concatenate([question, np.zeros(int(16_000 * pause_s), np.int16), question]) if pause_s else question
    decision = turn_taking.decide(engine, VoiceActivityNetwork(), "s", said)
    assert decision.cut_off == (pause_s > 0)
    assert 160 <= decision.delay_ms <= 260  # the shortest pause that may end a turn, and what it takes to notice


def test_the_first_questions_are_the_same_for_any_number_and_condition() -> None:
    skills = ("sums", "memory")
    many, few = held_out(5, skills, "clean", 1), held_out(2, skills, "noise", 1)
    assert [replace(q, condition="noise") for q in many if q in (*many[:2], *many[5:7])] == few


def test_the_card_says_what_was_measured_between_its_marks(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("# A model\n")
    with pytest.raises(ValueError, match="expected the two lines"):
        card.write(path, {"seed": 1})
    path.write_text(f"# A model\n{card.MARKS[0]}\nold\n{card.MARKS[1]}\nThe end.\n")
    held = [_held("sums", "clean", "That is four."), _held("capitals", "clean", "That is five.")]
    result = {"seed": 1, "aloud_wer": 0.301, "phones_wrong": {"clean": {"pico-en-US": 0.25}}} | dialogue_figures(held)
    card.write(path, result)
    card.write(path, result)  # once more changes nothing
    text = path.read_text()
    assert text.startswith("# A model\n<!--")
    assert text.endswith("-->\nThe end.\n")
    assert "old" not in text
    assert text.count("| right answers, clean | **50 %** | at least 90 | 97 | **missed** |") == 1
    assert "| free English read aloud: words wrong | **30.1 %** | at most 15 | 6 | **missed** |" in text
    assert "| sums | 100 % | capitals | 0 % |" in text
    assert "- clean: pico-en-US 25 %" in text
    assert "2 dialogues, seed 1" in text


def test_a_call_that_nobody_needed_is_wrong_and_only_those_that_were_are_counted_as_calls() -> None:
    asked = Turn("tools", "What is two plus two?", "That is four.", "four$")
    needed = Turn("tools", "Light on.", "It is on.", call='light {"on": true}')
    question = Question(Dialogue((asked,)), "tools", "pico-en-US", "clean")
    held = [
        (question, [Answered(asked, "", "That is four.", 'light {"on": true}', True, b"")]),
        (question, [Answered(asked, "", "That is four.", "", True, b"")]),
        (question, [Answered(needed, "", "It is on.", 'light {"on": true}', True, b"")]),
        (question, [Answered(needed, "", "It is on.", 'light {"on": false}', True, b"")]),
    ]
    assert [turns[-1].right for _, turns in held] == [False, True, True, False]
    figures = dialogue_figures(held)
    assert figures["calls"] == {"tools": 0.5}
    assert figures["by_skill"] == {"tools": 0.5}


def test_a_right_answer_that_is_sorry_is_no_needless_refusal() -> None:
    sad = Turn("small talk", "My dog is ill.", "I'm sorry to hear that.")
    question = Question(Dialogue((sad,)), "small talk", "pico-en-US", "clean")
    held = [(question, [Answered(sad, "", "I'm sorry to hear that.", "", True, b"")])]
    held.append(_held("sums", "clean", "Sorry, I do not know."))
    assert dialogue_figures(held)["false_refusals"] == 1.0


def test_a_condition_by_itself_has_no_worst_skill() -> None:
    [target] = [t for t in TARGETS if t.key == "worst_skill"]
    assert target.find({"by_skill": {}}) is None


def test_another_seed_asks_other_questions_and_the_same_one_the_same() -> None:
    asked, again, others = (held_out(4, ("sums", "capitals"), "clean", seed) for seed in (1, 1, 2))
    assert asked == again
    assert asked != others
    assert [(q.skill, q.voice) for q in asked] == [(q.skill, q.voice) for q in others]
