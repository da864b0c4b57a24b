"""Spoken dialogues with the speech engine (no network between): did it hear, and answer right?

Wordings, operands and voice families are those of the held-out split, which training never meets.
"""

import json
import random
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torchaudio.functional as AF

from model.prompt import call_text
from model.training import dialogues, voices
from model.training.corpus import HEARD_HZ, Line, speak
from model.training.turns import HELDOUT, Dialogue, Turn, normalise
from server.audio import FROM_LINEAR, TO_LINEAR, ULAW
from server.engine.messages import (
    AddText,
    AudioDelta,
    CallDelta,
    Calls,
    CloseSession,
    CommitTurn,
    Event,
    Function,
    Hear,
    OpenSession,
    Respond,
    ResponseDone,
    SessionFailed,
    SetInstructions,
    TextDelta,
    TranscriptDone,
)
from server.engine.speech_engine import SpeechEngine

MAX_TOKENS = 600  # an answer that long has lost its end


CONDITIONS = ("clean", "noise", "telephone")


@dataclass(frozen=True)
class Question:
    """One dialogue to be held: of which skill, in which voice, on what kind of line."""

    dialogue: Dialogue
    skill: str
    voice: str
    condition: str


@dataclass
class Answered:
    """One turn of the evaluation."""

    turn: Turn
    heard: str
    answer: str
    call: str
    ended: bool
    pcm: bytes

    @property
    def right(self) -> bool:
        """A turn that needs a function is right if it calls it with the right arguments; no other may call any."""
        return self.call == self.turn.call and (bool(self.call) or self.turn.is_right(self.answer))


def word_errors(reference: str, said: str) -> tuple[int, int]:
    """(edit distance in words, words of the reference), both normalised."""
    a, b = normalise(reference).split(), normalise(said).split()
    row = list(range(len(b) + 1))
    for i, word in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (word != other))
    return row[-1], len(a)


def word_error_rate(pairs: Iterable[tuple[str, str]]) -> float:
    """Share of the words of the references that is wrong, over all pairs of (reference, said)."""
    counts = [word_errors(reference, said) for reference, said in pairs]
    return sum(errors for errors, _ in counts) / max(1, sum(words for _, words in counts))


def strangers() -> list[str]:
    """The voices that training never hears."""
    return [voice.name for voice in voices.of_split(HELDOUT)]


def held_out(per_skill: int, skills: tuple[str, ...], condition: str, seed: int) -> list[Question]:
    """`per_skill` dialogues of each skill, voices in turn; the first ones of them are the same for every condition and
    number."""
    names, questions = strangers(), []
    for i, skill in enumerate(skills):
        rng = random.Random(f"{seed} {skill}")
        for j in range(per_skill):
            dialogue = dialogues.draw(rng, HELDOUT, skill)
            questions.append(Question(dialogue, skill, names[(i + j) % len(names)], condition))
    return questions


def disturbed(pcm: np.ndarray, condition: str, rng: np.random.Generator) -> np.ndarray:
    """int16 samples as they arrive: clean, with white noise at 10 dB, or over a telephone line (8 kHz, mu-law)."""
    if condition == "noise":
        level = float(np.sqrt(np.mean(pcm.astype(np.float64) ** 2))) * 10 ** (-10 / 20)
        return np.clip(pcm + rng.normal(0, level, len(pcm)), -32768, 32767).astype(np.int16)
    if condition == "telephone":
        wave = AF.resample(torch.from_numpy(pcm.astype(np.float32)), HEARD_HZ, 8000).clamp(-32768, 32767)
        coded = TO_LINEAR[ULAW][FROM_LINEAR[ULAW][wave.numpy().astype(np.int32) + 32768]]
        back = AF.resample(torch.from_numpy(coded.astype(np.float32)), 8000, HEARD_HZ)
        heard: np.ndarray = back.clamp(-32768, 32767).numpy().astype(np.int16)
        return heard
    return pcm


def run_until(engine: SpeechEngine, kind: type[Event], wanted: set[str]) -> dict[str, list[Event]]:
    """Step until every session in `wanted` has had an event of that kind; returns the events by session.

    Raises `RuntimeError` if the engine fails one of them.
    """
    found: dict[str, list[Event]] = defaultdict(list)
    left = set(wanted)
    while left:
        for event in engine.step():
            if isinstance(event, SessionFailed):
                raise RuntimeError(f"expected the engine to go on, got: {event.message}")
            found[event.session_id].append(event)
            if isinstance(event, kind):
                left.discard(event.session_id)
    return found


def converse(engine: SpeechEngine, questions: list[Question], temperature: float) -> tuple[list[list[Answered]], float]:
    """Hold dialogues side by side; returns the turns of each, and the seconds the engine took."""
    noise = np.random.default_rng(0)
    names = [str(i) for i in range(len(questions))]
    held: list[list[Answered]] = [[] for _ in questions]
    spent_s = 0.0
    for name, question in zip(names, questions, strict=True):
        engine.receive(OpenSession(name))
        engine.receive(SetInstructions(name, question.dialogue.instructions))
    for k in range(max(len(q.dialogue.turns) for q in questions)):
        now = [i for i, q in enumerate(questions) if k < len(q.dialogue.turns)]
        for i in now:
            question = questions[i]
            spoken, _ = speak(Line(question.dialogue.turns[k].question, question.voice, "question", 1.0, HEARD_HZ))
            engine.receive(Hear(names[i], disturbed(spoken, question.condition, noise).tobytes()))
            engine.receive(CommitTurn(names[i], f"q{k}"))
            _respond(engine, names[i], f"a{k}", questions[i], temperature)
        started = time.perf_counter()
        events = run_until(engine, ResponseDone, {names[i] for i in now})
        spent_s += time.perf_counter() - started
        calls = {i: _call(events[names[i]]) for i in now}
        called = [i for i in now if calls[i]]
        for i in called:
            result = questions[i].dialogue.turns[k].result or "{}"
            engine.receive(AddText(names[i], f"f{k}", "result", result))
            _respond(engine, names[i], f"b{k}", questions[i], temperature)
        started = time.perf_counter()
        after = run_until(engine, ResponseDone, {names[i] for i in called})
        spent_s += time.perf_counter() - started
        for i in now:
            turn_events = events[names[i]] + after[names[i]]
            held[i].append(
                Answered(
                    questions[i].dialogue.turns[k],
                    next(e.text for e in turn_events if isinstance(e, TranscriptDone)),
                    "".join(e.text for e in turn_events if isinstance(e, TextDelta)),
                    calls[i],
                    [e for e in turn_events if isinstance(e, ResponseDone)][-1].status == "completed",
                    b"".join(e.pcm for e in turn_events if isinstance(e, AudioDelta)),
                )
            )
    for name in names:
        engine.receive(CloseSession(name))
    return held, spent_s


def _respond(engine: SpeechEngine, name: str, item: str, question: Question, temperature: float) -> None:
    functions = tuple(Function(t.name, json.dumps(t.schema())) for t in question.dialogue.tools)
    calls = Calls(functions) if functions else None
    engine.receive(Respond(name, item, item, max_tokens=MAX_TOKENS, temperature=temperature, calls=calls))


def _call(events: list[Event]) -> str:
    """The function call among the events of an answer, as `Turn.call` writes it; empty if there is none."""
    deltas = [e for e in events if isinstance(e, CallDelta)]
    return call_text(deltas[0].name, "".join(e.arguments for e in deltas)) if deltas else ""
