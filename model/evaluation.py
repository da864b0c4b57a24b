"""`antiphon eval`: does the model hear, answer and speak well? On wordings, operands and voices it never trained on.

Speaks held-out dialogues in held-out synthetic voices, puts them through the speech engine (no network between), and
counts right answers by skill, by voice and by condition. With `--judge`, Whisper-base listens to the answers.

Last line, JSON: `command`, `dialogues`, `right`, `basic` (share of right answers among the basic skills), `by_skill`,
`by_voice`, `by_condition`, `hearing_wer` (clean), `spoken_wer` (null unless judged), `missing_end` (share of answers
that did not end by themselves), `false_refusals`, `real_time_factor` (engine seconds per second of answer).
"""

import argparse
import json
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchaudio.functional as AF
from tqdm import tqdm

from model.checkpoint import EMBEDDED, load
from model.prompt import call_text
from model.training import dialogues, voices
from model.training.corpus import HEARD_HZ, SPOKEN_HZ, Line, speak
from model.training.dialogues import BASIC, SKILLS
from model.training.turns import HELDOUT, Dialogue, Turn, normalise
from server.audio import FROM_LINEAR, TO_LINEAR, ULAW
from server.engine.engine_config import EngineConfig
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
    SetInstructions,
    TextDelta,
    TranscriptDone,
)
from server.engine.speech_engine import SpeechEngine

_MAX_TOKENS = 600  # an answer that long has lost its end


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
        """A turn that needs a function is right if it calls it with the right arguments."""
        return self.call == self.turn.call if self.turn.call else self.turn.is_right(self.answer)


def word_errors(reference: str, said: str) -> tuple[int, int]:
    """(edit distance in words, words of the reference), both normalised."""
    a, b = normalise(reference).split(), normalise(said).split()
    row = list(range(len(b) + 1))
    for i, word in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (word != other))
    return row[-1], len(a)


def held_out(per_skill: int, skills: tuple[str, ...], condition: str, seed: int = 11) -> list[Question]:
    """`per_skill` dialogues of each skill, voices in turn; the same ones for every condition."""
    rng = random.Random(seed)
    names = [v.name for v in voices.of_split(HELDOUT)]
    return [
        Question(dialogues.draw(rng, HELDOUT, skill), skill, names[(i + j) % len(names)], condition)
        for i, skill in enumerate(skills)
        for j in range(per_skill)
    ]


def disturbed(pcm: np.ndarray, condition: str, rng: np.random.Generator) -> np.ndarray:
    """int16 samples as they arrive: clean, with white noise at 10 dB, or over a telephone line (8 kHz, mu-law)."""
    if condition == "noise":
        level = float(np.sqrt(np.mean(pcm.astype(np.float64) ** 2))) * 10 ** (-10 / 20)
        return np.clip(pcm + rng.normal(0, level, len(pcm)), -32768, 32767).astype(np.int16)
    if condition == "telephone":
        wave = AF.resample(torch.from_numpy(pcm.astype(np.float32)), HEARD_HZ, 8000).clamp(-32768, 32767)
        coded = TO_LINEAR[ULAW][FROM_LINEAR[ULAW][wave.numpy().astype(np.int32) + 32768]]
        back = AF.resample(torch.from_numpy(coded.astype(np.float32)), 8000, HEARD_HZ)
        return back.clamp(-32768, 32767).numpy().astype(np.int16)
    return pcm


def _until_done(engine: SpeechEngine, wanted: set[str]) -> tuple[dict[str, list[Event]], float]:
    """Step until every session in `wanted` has its `ResponseDone`; returns events by session, and the seconds."""
    found: dict[str, list[Event]] = defaultdict(list)
    started, left = time.perf_counter(), set(wanted)
    while left:
        for event in engine.step():
            found[event.session_id].append(event)
            if isinstance(event, ResponseDone):
                left.discard(event.session_id)
    return found, time.perf_counter() - started


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
        events, seconds = _until_done(engine, {names[i] for i in now})
        spent_s += seconds
        calls = {i: _call(events[names[i]]) for i in now}
        called = [i for i in now if calls[i]]
        for i in called:
            result = questions[i].dialogue.turns[k].result or "{}"
            engine.receive(AddText(names[i], f"f{k}", "result", result))
            _respond(engine, names[i], f"b{k}", questions[i], temperature)
        after, seconds = _until_done(engine, {names[i] for i in called})
        spent_s += seconds
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
    engine.receive(Respond(name, item, item, max_tokens=_MAX_TOKENS, temperature=temperature, calls=calls))


def _call(events: list[Event]) -> str:
    """The function call among the events of an answer, as `Turn.call` writes it; empty if there is none."""
    deltas = [e for e in events if isinstance(e, CallDelta)]
    return call_text(deltas[0].name, "".join(e.arguments for e in deltas)) if deltas else ""


def _groups(questions: list[Question], size: int) -> Iterator[list[Question]]:
    for first in range(0, len(questions), size):
        yield questions[first : first + size]


def judge(turns: list[Answered]) -> float:
    """Word error rate of the spoken answers against their transcripts, as Whisper-base hears them, both normalised."""
    from whisper_normalizer.english import EnglishTextNormalizer

    from model.training.judge import Judge

    listener, plain, errors, words = Judge(), EnglishTextNormalizer(), 0, 0
    for turn in tqdm(turns, desc="judging", unit="answer"):
        wave = torch.frombuffer(bytearray(turn.pcm), dtype=torch.int16).float() / 32768
        said = listener.transcribe(AF.resample(wave, SPOKEN_HZ, HEARD_HZ).numpy())
        e, n = word_errors(plain(turn.answer), plain(said))
        errors, words = errors + e, words + n
    return errors / max(words, 1)


def _percent(results: list[bool]) -> float:
    return round(float(np.mean(results)), 4) if results else 0.0


def main(argv: list[str]) -> int:
    """Run the evaluation and print its tables."""
    parser = argparse.ArgumentParser(
        prog="antiphon eval", description="Measure a model's answers on held-out questions."
    )
    parser.add_argument("--model-dir", type=Path, default=EMBEDDED)
    parser.add_argument("--per-skill", type=int, default=14, help="dialogues of each skill (default: %(default)s)")
    parser.add_argument("--skill", choices=SKILLS, action="append", help="only these skills (default: all)")
    parser.add_argument("--basic", action="store_true", help="only the basic skills")
    parser.add_argument("--condition", choices=CONDITIONS, action="append", help="kinds of line (default: clean)")
    parser.add_argument(
        "--judge", type=int, default=0, metavar="N", help="let Whisper-base listen to N answers (extra: eval)"
    )
    parser.add_argument("--temperature", type=float, default=0.0, help="sampling temperature (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sessions", type=int, default=8, help="dialogues held side by side (default: %(default)s)")
    parser.add_argument("--show", action="store_true", help="print every wrong answer")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    engine = SpeechEngine(load(options.model_dir), EngineConfig(slots=options.sessions))
    skills = tuple(options.skill or (BASIC if options.basic else SKILLS))
    asked = [q for c in options.condition or CONDITIONS[:1] for q in held_out(options.per_skill, skills, c)]
    results: list[tuple[Question, list[Answered]]] = []
    spent_s = 0.0
    with tqdm(total=len(asked), desc="asking", unit="dialogue") as bar:
        for group in _groups(asked, options.sessions):
            held, seconds = converse(engine, group, options.temperature)
            results += zip(group, held, strict=True)
            spent_s += seconds
            bar.update(len(group))
    # What counts is the last turn: of a memory dialogue, the one that has to remember.
    final = [(question, turns[-1]) for question, turns in results]
    tables = {
        "by_skill": {s: [t.right for q, t in final if q.skill == s] for s in skills},
        "by_voice": {v: [t.right for q, t in final if q.voice == v] for v in sorted({q.voice for q, _ in final})},
        "by_condition": {
            c: [t.right for q, t in final if q.condition == c] for c in {q.condition: 0 for q, _ in final}
        },
    }
    for question, turn in final:
        if options.show and not turn.right:
            said = f"called {turn.call!r}" if turn.turn.call else f"answered {turn.answer!r}"
            print(f"  {question.voice} {question.condition}: {turn.turn.question!r} heard {turn.heard!r} {said}")
    for title, table in tables.items():
        print(f"\n{title.replace('_', ' '):<20} right   of")
        for name, right in table.items():
            print(f"{name:<20} {100 * _percent(right):4.0f} % {len(right):4d}")
    every = [turn for _, turns in results for turn in turns]
    heard = [word_errors(t.turn.question, t.heard) for q, turns in results if q.condition == "clean" for t in turns]
    audio_s = sum(len(t.pcm) for t in every) / 2 / SPOKEN_HZ
    may_refuse = ("unknown", "declined")
    result = {
        "command": "eval",
        "dialogues": len(final),
        "right": _percent([t.right for _, t in final]),
        "basic": _percent([t.right for q, t in final if q.skill in BASIC]),
        **{title: {name: _percent(right) for name, right in table.items()} for title, table in tables.items()},
        "hearing_wer": round(sum(e for e, _ in heard) / max(1, sum(n for _, n in heard)), 4),
        "spoken_wer": round(judge(every[:: max(1, len(every) // options.judge)]), 4) if options.judge else None,
        "missing_end": _percent([not t.ended for t in every]),
        "false_refusals": _percent(["sorry" in t.answer.lower() for q, t in final if q.skill not in may_refuse]),
        "real_time_factor": round(spent_s / max(audio_s, 1e-9), 3),
    }
    print(json.dumps(result))
    return 0
