"""`antiphon eval`: does the model hear, answer, speak and take turns well? On what it never trained on.

dialogues  held-out wordings and operands of every skill, in held-out voice families, on three kinds of line
listening  free English, written down
speaking   free English read aloud, and the answers of the dialogues; Whisper-base listens (extra: eval)
turns      questions with a pause in mid-sentence: taken for the end? and how long after the real one it is known
ears       phones of free English, read by the recogniser that the ears were taught in

It needs the synthesisers and texts that training listens to (`make apt`), and takes about twenty minutes.

    antiphon eval                                          everything, against what is wanted
    antiphon eval --part dialogues --skill sums --show     one skill, with every wrong answer
    antiphon eval --card                                   everything, and the model's card says so

Last line, JSON: `command`, `seed`, `hypotheses`, `dialogues`, `right` and `basic` (shares of right answers),
`by_skill` and `by_voice` (clean), `by_condition`, `arithmetic`, `memory` (over three or more turns), `hearing_wer`
(clean questions), `calls` (of dialogues that need one), `false_refusals`, `transcription_wer`, `spoken_wer`,
`aloud_wer`, `naturalness`, `cut_offs`, `decision_ms` (median of the turns that were not cut off), `unended` (share of
spoken answers that babble or did not end by themselves), `phones_wrong` (by condition and voice), `size_mb`,
`real_time_factor` (engine seconds per second of answer, one session); what was not measured is missing.
"""

import argparse
import json
import math
import subprocess
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.targets import table
from model import EMBEDDED
from model.checkpoint import CheckpointError, load
from model.evaluation import card, ears, speech, turn_taking
from model.evaluation.dialogues import CONDITIONS, Answered, Question, converse, held_out, strangers, word_error_rate
from model.evaluation.speech import Spoken
from model.evaluation.targets import ARITHMETIC, TARGETS
from model.training import corpus, phones, voices
from model.training.align import sounds_of
from model.training.corpus import SPOKEN_HZ
from model.training.dialogues import BASIC, SKILLS
from model.training.tokenizer import load_recogniser
from server.engine.engine_config import EngineConfig
from server.engine.speech_engine import SpeechEngine
from server.options import positive

PARTS = ("dialogues", "listening", "speaking", "turns", "ears")
_TIMED = 8  # dialogues held one after the other, for the real-time factor
_RATED = 20  # answers whose naturalness is estimated: 0.3 s each
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


def hold_all(engine: SpeechEngine, asked: list[Question], side_by_side: int, temperature: float) -> tuple[Held, float]:
    """Hold all dialogues, then a few of them one after the other, for the real-time factor of one session."""
    held, _ = hold(engine, asked, side_by_side, temperature)
    _, factor = hold(engine, spread(asked, _TIMED), 1, temperature)
    return held, factor


def share(results: list[bool]) -> float | None:
    """Of True; None where there is nothing."""
    return round(float(np.mean(results)), 4) if results else None


def shares(results: Iterable[tuple[str, bool]]) -> dict[str, float | None]:
    """The share of each name, in the order in which names come."""
    named: dict[str, list[bool]] = {}
    for name, right in results:
        named.setdefault(name, []).append(right)
    return {name: share(rights) for name, rights in named.items()}


def dialogue_figures(results: Held) -> dict[str, Any]:
    """Right answers, in all and by kind. What counts is the last turn: in a memory dialogue, what was remembered."""
    final = [(question, turns[-1].right) for question, turns in results]
    heard = [(t.turn.question, t.heard) for q, turns in results if q.condition == "clean" for t in turns]
    last = [(q, turns[-1]) for q, turns in results if q.condition == "clean"]
    clean = [(q, turn.right) for q, turn in last]
    known = [t for q, t in last if q.skill not in _MAY_REFUSE and "sorry" not in t.turn.answer.lower()]
    return {
        "dialogues": len(final),
        "right": share([right for _, right in final]),
        "basic": share([right for q, right in clean if q.skill in BASIC]),
        "by_skill": shares((q.skill, right) for q, right in clean),
        "by_voice": shares((q.voice, right) for q, right in clean),
        "by_condition": shares((q.condition, right) for q, right in final),
        "arithmetic": share([right for q, right in clean if q.skill in ARITHMETIC]),
        "memory": share([right for q, right in clean if q.skill.startswith("memory") and len(q.dialogue.turns) > 2]),
        "hearing_wer": round(word_error_rate(heard), 4) if heard else None,
        "calls": shares((q.skill, t.right) for q, t in last if t.turn.call),
        "false_refusals": share(["sorry" in t.answer.lower() for t in known]),
    }


def spoken_answers(results: Held) -> tuple[list[Spoken], float | None]:
    """Every answer that was spoken, and the share of them that babbles or did not end by itself."""
    answers = [turn for _, turns in results for turn in turns if turn.answer]
    said = [Spoken(turn.answer, turn.pcm) for turn in answers]
    return said, share([s.babbles or not (t.ended and t.pcm) for s, t in zip(said, answers, strict=True)])


def speaking_figures(listener: speech.Listener, aloud: list[Spoken], answers: list[Spoken]) -> dict[str, Any]:
    """What a listener makes of sentences that were read aloud, and of answers (which may be none)."""
    figures = {"aloud_wer": round(listener.words_wrong(aloud, "sentences"), 4)}
    if answers:
        figures["spoken_wer"] = round(listener.words_wrong(answers, "answers"), 4)
    sounding = [one for one in answers or aloud if one.pcm]
    return figures | {"naturalness": round(listener.naturalness(spread(sounding, _RATED)), 2)}


def turn_figures(decisions: list[turn_taking.Decision]) -> dict[str, Any]:
    """How often a pause was taken for the end, and how long after the real one it was known, where it was not."""
    delay_ms = median([d.delay_ms for d in decisions if not d.cut_off] or [math.inf])
    return {
        "cut_offs": share([d.cut_off for d in decisions]),
        "decision_ms": round(delay_ms) if delay_ms < math.inf else None,
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
    for line, by_voice in result.get("phones_wrong", {}).items():
        print(f"\n{f'phones, {line}':<20} wrong")
        for voice, wrong in by_voice.items():
            print(f"{voice:<20} {100 * wrong:4.0f} %")
    print(f"\n{table((target, target.find(result)) for target in TARGETS)}")


def spread(items: list[Any], count: int) -> list[Any]:
    """`count` of the items, evenly from all of them."""
    return [items[i * len(items) // count] for i in range(min(count, len(items)))]


def main(argv: list[str]) -> int:
    """Run the evaluation and print its tables."""
    parser = argparse.ArgumentParser(
        prog="antiphon eval", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model-dir", type=Path, default=EMBEDDED, help="(default: the embedded model)")
    parser.add_argument("--part", choices=PARTS, action="append", help="only these parts (default: all)")
    parser.add_argument(
        "--per-skill", type=positive, default=30, help="clean dialogues of each skill (default: %(default)s)"
    )
    parser.add_argument(
        "--disturbed",
        type=positive,
        default=6,
        help="so many of them in noise, and as many on the telephone (default: %(default)s)",
    )
    parser.add_argument(
        "--skill", choices=SKILLS, action="append", metavar="SKILL", help="only these skills, e.g. sums (default: all)"
    )
    parser.add_argument("--basic", action="store_true", help="only the basic skills")
    parser.add_argument("--condition", choices=CONDITIONS, action="append", help="kinds of line (default: all)")
    parser.add_argument("--sentences", type=positive, default=60, help="free sentences to hear (default: %(default)s)")
    parser.add_argument(
        "--judge", type=positive, default=100, help="answers and sentences to judge (default: %(default)s)"
    )
    parser.add_argument("--pauses", type=positive, default=60, help="hesitant questions (default: %(default)s)")
    parser.add_argument("--temperature", type=float, default=0.0, help="sampling temperature (default: %(default)s)")
    parser.add_argument("--threads", type=positive, default=1, help="of the model (default: %(default)s)")
    parser.add_argument(
        "--sessions", type=positive, default=4, help="dialogues held side by side (default: %(default)s)"
    )
    parser.add_argument(
        "--hypotheses",
        type=positive,
        default=EngineConfig().hypotheses,
        help="ways of writing down what was heard that are followed at once (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=11, help="another one asks other held-out questions (default: %(default)s)"
    )
    parser.add_argument("--show", action="store_true", help="print every wrong answer")
    parser.add_argument(
        "--card", action="store_true", help="also write the tables into the model's README.md, between its two marks"
    )
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    parts = options.part or PARTS
    # Whatever may be missing is looked for before the long work.
    try:
        for name in strangers():
            voices.voice(name).speak("One.", 1.0)
        if "turns" in parts:
            sounds_of("One.")
        if "ears" in parts:
            phones.phone_ids("One.")
        if {"listening", "speaking", "ears"} & set(parts):
            corpus.expect_sentences()
        listener = speech.Listener() if "speaking" in parts else None
    except ImportError as error:
        parser.error(f"{error}: pip install -e '.[eval,train]'")
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        parser.error(f"expected the synthesisers and texts of model/training/apt.txt (`make apt`): {error}")
    if options.card:
        try:
            card.parts_of(options.model_dir / "README.md")
        except (OSError, ValueError) as error:
            parser.error(f"--card: {error}")
    try:
        recogniser = load_recogniser(options.model_dir) if {"turns", "ears"} & set(parts) else None
        engine = SpeechEngine(
            load(options.model_dir), EngineConfig(slots=options.sessions, hypotheses=options.hypotheses)
        )
    except (CheckpointError, FileNotFoundError) as error:
        parser.error(f"--model-dir: {error}")
    skills = tuple(options.skill or (BASIC if options.basic else SKILLS))
    lines = options.condition or CONDITIONS
    size = sum(file.stat().st_size for file in options.model_dir.iterdir()) / 1e6
    result: dict[str, Any] = {"command": "eval", "seed": options.seed, "size_mb": round(size, 1)}
    result["hypotheses"] = options.hypotheses
    said: list[Spoken] = []
    if "dialogues" in parts:
        counts = {line: options.per_skill if line == "clean" else options.disturbed for line in lines}
        asked = [q for line, count in counts.items() for q in held_out(count, skills, line, options.seed)]
        held, factor = hold_all(engine, asked, options.sessions, options.temperature)
        if options.show:
            print_wrong(held)
        said, unended = spoken_answers(held)
        result |= dialogue_figures(held) | {"real_time_factor": round(factor, 3), "unended": unended}
    if "listening" in parts:
        result["transcription_wer"] = round(speech.transcribe(engine, options.sentences), 4)
    if listener is not None:
        result |= speaking_figures(listener, speech.read_aloud(engine, options.judge), spread(said, options.judge))
    if recogniser is not None and "turns" in parts:
        most = -(-options.pauses // len(skills))
        questions = spread(held_out(most, skills, "clean", options.seed + 1), options.pauses)
        result |= turn_figures(turn_taking.take_turns(engine, turn_taking.hesitant_questions(recogniser, questions)))
    if recogniser is not None and "ears" in parts:
        result["phones_wrong"] = ears.phones_wrong(recogniser, options.sentences, lines)
    print_tables(result)
    if options.card:
        card.write(options.model_dir / "README.md", result)
    print(json.dumps(result))
    return 0
