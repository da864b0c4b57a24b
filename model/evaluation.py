"""`antiphon eval`: does the model hear, answer and speak well? On wordings, operands and voices it never trained on.

Speaks held-out dialogues in held-out synthetic voices, puts them through the speech engine (no network between), and
counts right answers by skill and by voice. With `--judge`, Whisper-base listens to the answers.

Last line, JSON: `command`, `dialogues`, `right`, `by_skill`, `by_voice`, `hearing_wer`, `spoken_wer` (null
unless judged), `missing_end` (share of answers that did not end by themselves), `real_time_factor`.
"""

import argparse
import json
import random
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchaudio.functional as AF
from tqdm import tqdm

from model.checkpoint import EMBEDDED, load
from model.training import dialogues, voices
from model.training.corpus import HEARD_HZ, SPOKEN_HZ, Line, speak
from model.training.dialogues import SKILLS
from model.training.turns import HELDOUT, Dialogue, normalise
from server.engine.engine_config import EngineConfig
from server.engine.messages import (
    AudioDelta,
    CloseSession,
    CommitTurn,
    Event,
    Hear,
    OpenSession,
    Respond,
    ResponseDone,
    TextDelta,
    TranscriptDone,
)
from server.engine.speech_engine import SpeechEngine

_MAX_TOKENS = 600  # an answer that long has lost its end


@dataclass
class Answered:
    """One turn of the evaluation."""

    skill: str
    voice: str
    question: str
    heard: str
    answer: str
    right: bool
    ended: bool
    pcm: bytes


def word_errors(reference: str, said: str) -> tuple[int, int]:
    """(edit distance in words, words of the reference), both normalised."""
    a, b = normalise(reference).split(), normalise(said).split()
    row = list(range(len(b) + 1))
    for i, word in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (word != other))
    return row[-1], len(a)


def held_out(per_skill: int, seed: int = 11) -> list[tuple[Dialogue, str, str]]:
    """(dialogue, skill, voice): `per_skill` dialogues of each skill, voices in turn."""
    rng = random.Random(seed)
    names = [v.name for v in voices.of_split(HELDOUT)]
    return [
        (dialogues.draw(rng, HELDOUT, skill), skill, names[(i + j) % len(names)])
        for i, skill in enumerate(SKILLS)
        for j in range(per_skill)
    ]


def converse(engine: SpeechEngine, dialogue: Dialogue, voice: str, temperature: float) -> tuple[list[Answered], float]:
    """Hold one dialogue; returns its turns and the seconds the engine took."""
    engine.receive(OpenSession("eval"))
    turns, spent_s = [], 0.0
    for i, turn in enumerate(dialogue.turns):
        pcm = speak(Line(turn.question, voice, "question", 1.0, HEARD_HZ))[0].tobytes()
        started = time.perf_counter()
        engine.receive(Hear("eval", pcm))
        engine.receive(CommitTurn("eval", f"q{i}"))
        engine.receive(Respond("eval", f"r{i}", f"a{i}", max_tokens=_MAX_TOKENS, temperature=temperature))
        events: list[Event] = []
        while not any(isinstance(e, ResponseDone) for e in events):
            events += engine.step()
        spent_s += time.perf_counter() - started
        heard = next(e.text for e in events if isinstance(e, TranscriptDone))
        answer = "".join(e.text for e in events if isinstance(e, TextDelta))
        done = next(e for e in events if isinstance(e, ResponseDone))
        sound = b"".join(e.pcm for e in events if isinstance(e, AudioDelta))
        right = turn.is_right(answer)
        turns.append(
            Answered(turn.skill, voice, turn.question, heard, answer, right, done.status == "completed", sound)
        )
    engine.receive(CloseSession("eval"))
    return turns, spent_s


def judge(turns: list[Answered]) -> float:
    """Word error rate of the spoken answers against their transcripts, as Whisper-base hears them."""
    from model.training.judge import Judge

    listener, errors, words = Judge(), 0, 0
    for turn in tqdm(turns, desc="judging", unit="answer"):
        wave = torch.frombuffer(bytearray(turn.pcm), dtype=torch.int16).float() / 32768
        e, n = word_errors(turn.answer, listener.transcribe(AF.resample(wave, SPOKEN_HZ, HEARD_HZ).numpy()))
        errors, words = errors + e, words + n
    return errors / max(words, 1)


def main(argv: list[str]) -> int:
    """Run the evaluation and print its tables."""
    parser = argparse.ArgumentParser(
        prog="antiphon eval", description="Measure a model's answers on held-out questions."
    )
    parser.add_argument("--model-dir", type=Path, default=EMBEDDED)
    parser.add_argument("--per-skill", type=int, default=14, help="dialogues of each skill (default: %(default)s)")
    parser.add_argument(
        "--judge", type=int, default=0, metavar="N", help="let Whisper-base listen to N answers (extra: eval)"
    )
    parser.add_argument("--temperature", type=float, default=0.0, help="sampling temperature (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="print every wrong answer")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    engine = SpeechEngine(load(options.model_dir), EngineConfig(slots=1))
    turns: list[Answered] = []
    final: list[Answered] = []
    spent_s = 0.0
    plan = held_out(options.per_skill)
    for dialogue, _, voice in tqdm(plan, desc="asking", unit="dialogue"):
        answered, seconds = converse(engine, dialogue, voice, options.temperature)
        turns += answered
        spent_s += seconds
        # What counts is the last turn: of a memory dialogue, the one that has to remember.
        final.append(answered[-1])
    tables: dict[str, dict[str, list[bool]]] = {"by_skill": defaultdict(list), "by_voice": defaultdict(list)}
    for (_, skill, _), turn in zip(plan, final, strict=True):
        tables["by_skill"][skill].append(turn.right)
        tables["by_voice"][turn.voice].append(turn.right)
        if options.show and not turn.right:
            print(f"  {turn.voice}: {turn.question!r} heard {turn.heard!r} answered {turn.answer!r}")
    for title, table in tables.items():
        print(f"\n{title.replace('_', ' '):<16} right   of")
        for name, results in sorted(table.items()):
            print(f"{name:<16} {100 * np.mean(results):4.0f} % {len(results):4d}")
    heard = [word_errors(t.question, t.heard) for t in turns]
    audio_s = sum(len(t.pcm) for t in turns) / 2 / SPOKEN_HZ
    result = {
        "command": "eval",
        "dialogues": len(final),
        "right": round(float(np.mean([t.right for t in final])), 4),
        "by_skill": {k: round(float(np.mean(v)), 3) for k, v in sorted(tables["by_skill"].items())},
        "by_voice": {k: round(float(np.mean(v)), 3) for k, v in sorted(tables["by_voice"].items())},
        "hearing_wer": round(sum(e for e, _ in heard) / max(1, sum(n for _, n in heard)), 4),
        "spoken_wer": round(judge(turns[:: max(1, len(turns) // options.judge)]), 4) if options.judge else None,
        "missing_end": round(float(np.mean([not t.ended for t in turns])), 4),
        "real_time_factor": round(spent_s / max(audio_s, 1e-9), 3),
    }
    print(json.dumps(result))
    return 0
