"""`antiphon eval`: does the model hear, answer, speak and take turns well? On what it never trained on.

dialogues  held-out wordings and operands of every skill, in held-out voice families, on three kinds of line
listening  free English, written down
speaking   free English read aloud, and the answers of the dialogues; Whisper-base listens (extra: eval)
turns      questions with a pause in mid-sentence: taken for the end? and how long after the real one it is known

Last line, JSON: `command`, `dialogues`, `right` and `basic` (shares of right answers), `by_skill` and `by_voice`
(clean), `by_condition`, `arithmetic`, `memory` (over three or more turns), `hearing_wer` (clean questions),
`false_refusals`, `transcription_wer`, `spoken_wer`, `aloud_wer`, `naturalness`, `cut_offs`, `decision_ms` (median),
`unended` (share of spoken answers that babble or did not end by themselves), `size_mb`, `real_time_factor` (engine
seconds per second of answer, one session); null where it was not measured.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from model.checkpoint import EMBEDDED, load
from model.evaluation import speech, turn_taking
from model.evaluation.dialogues import CONDITIONS, Answered, Question, converse, held_out, word_errors
from model.evaluation.speech import Spoken
from model.evaluation.targets import ARITHMETIC, TARGETS
from model.training.corpus import SPOKEN_HZ
from model.training.dialogues import BASIC, SKILLS
from model.training.tokenizer import load_recogniser
from server.engine.engine_config import EngineConfig
from server.engine.speech_engine import SpeechEngine

PARTS = ("dialogues", "listening", "speaking", "turns")
_TIMED = 8  # dialogues held one after the other, for the real-time factor
_MAY_REFUSE = ("unknown", "declined")

Held = list[tuple[Question, list[Answered]]]


def hold(engine: SpeechEngine, asked: list[Question], side_by_side: int, temperature: float) -> tuple[Held, float]:
    """Hold all dialogues; returns their turns, and the engine's seconds per second of answer."""
    results: Held = []
    spent_s = 0.0
    with tqdm(total=len(asked), desc="asking", unit="dialogue") as bar:
        for first in range(0, len(asked), side_by_side):
            group = asked[first : first + side_by_side]
            held, seconds = converse(engine, group, temperature)
            results += zip(group, held, strict=True)
            spent_s += seconds
            bar.update(len(group))
    audio_s = sum(len(turn.pcm) for _, turns in results for turn in turns) / 2 / SPOKEN_HZ
    return results, spent_s / max(audio_s, 1e-9)


def share(results: list[bool]) -> float | None:
    """Of True; None where there is nothing."""
    return round(float(np.mean(results)), 4) if results else None


def by(results: Iterable[tuple[str, bool]]) -> dict[str, float | None]:
    """The share of each name, in the order in which names come."""
    named: dict[str, list[bool]] = {}
    for name, right in results:
        named.setdefault(name, []).append(right)
    return {name: share(rights) for name, rights in named.items()}


def dialogue_figures(results: Held) -> dict[str, Any]:
    """Right answers, in all and by kind. What counts is the last turn: in a memory dialogue, what was remembered."""
    final = [(question, turns[-1].right) for question, turns in results]
    clean = [(question, right) for question, right in final if question.condition == "clean"]
    heard = [word_errors(t.turn.question, t.heard) for q, turns in results if q.condition == "clean" for t in turns]
    refusals = [
        "sorry" in turns[-1].answer.lower()
        for q, turns in results
        if q.skill not in _MAY_REFUSE and q.condition == "clean"
    ]
    return {
        "dialogues": len(final),
        "right": share([right for _, right in final]),
        "basic": share([right for q, right in clean if q.skill in BASIC]),
        "by_skill": by((q.skill, right) for q, right in clean),
        "by_voice": by((q.voice, right) for q, right in clean),
        "by_condition": by((q.condition, right) for q, right in final),
        "arithmetic": share([right for q, right in clean if q.skill in ARITHMETIC]),
        "memory": share([right for q, right in clean if q.skill.startswith("memory") and len(q.dialogue.turns) > 2]),
        "hearing_wer": round(sum(e for e, _ in heard) / max(1, sum(n for _, n in heard)), 4),
        "false_refusals": share(refusals),
    }


def print_wrong(results: Held) -> None:
    """Every wrong answer, with what was asked and heard."""
    for question, turns in results:
        turn = turns[-1]
        if not turn.right:
            said = f"called {turn.call!r}" if turn.turn.call else f"answered {turn.answer!r}"
            print(f"  {question.voice} {question.condition}: {turn.turn.question!r} heard {turn.heard!r} {said}")


def print_tables(result: dict[str, Any]) -> None:
    """Right answers by kind, then every promise with what was reached."""
    for title in [t for t in ("by_skill", "by_voice", "by_condition") if result.get(t)]:
        print(f"\n{title.replace('_', ' '):<20} right")
        for name, right in result[title].items():
            print(f"{name:<20} {100 * right:4.0f} %")
    print(f"\n{'measure':<52} {'reached':>8} {'must':>6} {'aim':>6}")
    for target in TARGETS:
        value = target.find(result)
        reached, verdict = ("-", "not measured") if value is None else (f"{value:.3g}", target.verdict(value))
        limits = f"{target.must:>6g} {target.aim:>6g} {target.unit:<2}"
        print(f"{target.measure:<52} {reached:>8} {limits} {verdict}")


def main(argv: list[str]) -> int:
    """Run the evaluation and print its tables."""
    parser = argparse.ArgumentParser(
        prog="antiphon eval", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model-dir", type=Path, default=EMBEDDED, help="(default: the embedded model)")
    parser.add_argument("--part", choices=PARTS, action="append", help="only these parts (default: all)")
    parser.add_argument("--per-skill", type=int, default=6, help="dialogues of each skill (default: %(default)s)")
    parser.add_argument("--skill", choices=SKILLS, action="append", help="only these skills (default: all)")
    parser.add_argument("--basic", action="store_true", help="only the basic skills")
    parser.add_argument("--condition", choices=CONDITIONS, action="append", help="kinds of line (default: all)")
    parser.add_argument("--sentences", type=int, default=60, help="free sentences to hear (default: %(default)s)")
    parser.add_argument("--judge", type=int, default=40, help="answers and sentences to judge (default: %(default)s)")
    parser.add_argument("--pauses", type=int, default=60, help="hesitant questions (default: %(default)s)")
    parser.add_argument("--temperature", type=float, default=0.0, help="sampling temperature (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sessions", type=int, default=8, help="dialogues held side by side (default: %(default)s)")
    parser.add_argument("--show", action="store_true", help="print every wrong answer")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    parts = options.part or PARTS
    engine = SpeechEngine(load(options.model_dir), EngineConfig(slots=options.sessions))
    skills = tuple(options.skill or (BASIC if options.basic else SKILLS))
    size = sum(file.stat().st_size for file in options.model_dir.iterdir()) / 1e6
    result: dict[str, Any] = {"command": "eval", "by_skill": {}, "size_mb": round(size, 1)}
    said: list[Spoken] = []
    unended: list[bool] = []
    if "dialogues" in parts:
        asked = [q for c in options.condition or CONDITIONS for q in held_out(options.per_skill, skills, c)]
        held, _ = hold(engine, asked, options.sessions, options.temperature)
        _, factor = hold(engine, asked[:: max(1, len(asked) // _TIMED)][:_TIMED], 1, options.temperature)
        result |= dialogue_figures(held) | {"real_time_factor": round(factor, 3)}
        if options.show:
            print_wrong(held)
        for turn in [turn for _, turns in held for turn in turns if turn.pcm]:
            said.append(Spoken(turn.answer, turn.pcm))
            unended.append(said[-1].babbles or not turn.ended)
        result["unended"] = share(unended)
    if "listening" in parts:
        result["transcription_wer"] = round(speech.transcribe(engine, options.sentences), 4)
    if "speaking" in parts:
        aloud = speech.read_aloud(engine, options.judge)
        result["aloud_wer"] = round(speech.judged(aloud, "sentences"), 4)
        chosen = said[:: max(1, len(said) // options.judge)][: options.judge]
        if chosen:
            result["spoken_wer"] = round(speech.judged(chosen, "answers"), 4)
        result["naturalness"] = round(speech.naturalness((chosen or aloud)[:20]), 2)
    if "turns" in parts:
        questions = held_out(-(-options.pauses // len(skills)), skills, "clean", seed=12)[: options.pauses]
        recordings = turn_taking.hesitant_questions(load_recogniser(options.model_dir), questions)
        decisions = turn_taking.take_turns(engine, recordings)
        delays = [d.delay_ms for d in decisions if d.delay_ms is not None and not d.cut_off]
        result["cut_offs"] = share([d.cut_off for d in decisions])
        result["decision_ms"] = round(median(delays)) if delays else None
    print_tables(result)
    print(json.dumps(result))
    return 0
