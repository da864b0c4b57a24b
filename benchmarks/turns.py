"""`antiphon bench turns`: whether a long conversation answers as fast as a young one.

One session, turns ended by hand. Turns 2 to 5 and 50 to 53 ask the same questions at the pace of speech; those between
are said many times faster, to get there. The session's truncation rule forgets the oldest items beyond `--tokens`, and
every answer's own count of input tokens is held against it. `--hour` goes on, quickly, to an hour of conversation.

    antiphon bench turns
    antiphon bench turns --hour
"""

import argparse
import asyncio
import random
import statistics

from benchmarks.conversation import Session, carry_out, measured, settings
from benchmarks.figures import SUMMARY, finish, raw, summary
from benchmarks.options import add_questions, add_server, benchmark
from benchmarks.progress import Progress
from benchmarks.targets import Figures, must
from clients import sound
from clients.realtime import WIRE_HZ, RealtimeClient, RealtimeError, Turn

EARLY, LATE = 2, 50
_HURRY = 20.0  # times as fast as speech
_HOUR_S = 3600.0
LIMIT = must("turn_50_ratio")
KEYS = {
    "mode": "how turns ended: manual",
    "early_ms": "median time from commit to first audible sample in turns 2 to 5",
    "late_ms": "the same in turns 50 to 53, which ask the same questions",
    "ratio": "late over early",
    "hour_ms": "the same after an hour of conversation (`--hour`)",
    "hour_ratio": "that over early",
    "conversation_s": "length of the conversation, questions and answers as they sound",
    "tokens": "the rule: the most tokens of the conversation before the oldest are forgotten",
    "tokens_most": "the most input tokens that any answer read",
    "tokens_each": "input tokens of each answer",
    "met": f"whether the ratio is within {LIMIT:g} and no answer read more than the rule allows",
    **SUMMARY,
}


def main(argv: list[str]) -> int:
    """Run the benchmark; 0 if every turn was answered."""
    parser = benchmark("turns", __doc__, KEYS)
    add_server(parser)
    add_questions(parser)
    parser.add_argument("--window", type=int, default=4, help="turns compared early and late (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=1500, help="the truncation rule's limit (default: %(default)s)")
    parser.add_argument("--hour", action="store_true", help="go on to an hour of conversation")
    chosen = parser.parse_args(argv)

    async def run() -> int:
        async with measured(chosen) as url:
            session, seconds = await _talk(url, chosen)
        if session.error:
            print(f"The session ended early: {session.error}")
        figures = compared(session.turns, chosen.window, chosen.tokens, chosen.hour)
        print(f"turns {EARLY} …: {figures['early_ms']} ms; {LATE} …: {figures['late_ms']} ms; ratio {figures['ratio']}")
        if chosen.hour:
            print(f"after {seconds / 60:.0f} minutes: {figures['hour_ms']} ms; ratio {figures['hour_ratio']}")
        print(f"most tokens read: {figures['tokens_most']} of {chosen.tokens}")
        result = {"command": "bench turns", "mode": "manual", "conversation_s": round(seconds, 1), **figures}
        return finish(result | summary([session]) | {"raw": raw([session])}, chosen) or int(bool(session.error))

    return carry_out(run())


def compared(turns: list[Turn], window: int, tokens: int, hour: bool) -> Figures:
    """Early turns against late ones (turns are counted from 1), and the rule of `tokens` against what was read."""

    def median_ms(first: int) -> float | None:
        times = [t.ttfa_from_commit_ms for t in turns[first - 1 : first - 1 + window]]
        known = [ms for ms in times if ms is not None]
        return round(statistics.median(known), 1) if len(known) == window else None

    def ratio(later_ms: float | None) -> float | None:
        return round(later_ms / early, 3) if early and later_ms else None

    early, late = median_ms(EARLY), median_ms(LATE)
    last = median_ms(len(turns) - window + 1) if hour else None
    read = [t.usage["input_tokens"] for t in turns if t.usage]
    slower = ratio(late)
    within = slower is not None and slower <= LIMIT and max(read, default=0) <= tokens
    return {
        "early_ms": early,
        "late_ms": late,
        "ratio": slower,
        "tokens": tokens,
        "tokens_most": max(read, default=0),
        "tokens_each": read,
        "met": within,
        **({"hour_ms": last, "hour_ratio": ratio(last)} if hour else {}),
    }


async def _talk(url: str, chosen: argparse.Namespace) -> tuple[Session, float]:
    """The session, and the seconds that all of its questions and answers sound."""
    rng, session, files = random.Random(0), Session(), [sound.read(path) for path in chosen.files]
    limits = {"post_instructions": chosen.tokens}
    rule = {"type": "retention_ratio", "retention_ratio": 0.5, "token_limits": limits}
    seconds, wanted = 0.0, LATE - 1 + chosen.window
    try:
        async with RealtimeClient.connect(url, chosen.key) as client:
            await client.update(**settings("manual"), truncation=rule)

            async def ask(question: int, paced: bool) -> float:
                pcm = files[question % len(files)]
                turn = await client.ask(pcm, manual=True, speed=1.0 if paced else _HURRY)
                session.turns.append(turn)
                if paced:
                    await asyncio.sleep(rng.uniform(0.2, 0.6))
                return (len(pcm) + len(turn.pcm) / 2) / WIRE_HZ

            with Progress("turns", wanted) as progress:
                for number in range(1, wanted + 1):
                    question = number if number < LATE else number - LATE + EARLY
                    seconds += await ask(question, 0 <= question - EARLY < chosen.window)
                    progress.advance()
            if chosen.hour:
                with Progress("minutes of conversation", 60) as progress:
                    while seconds < _HOUR_S:
                        seconds += await ask(len(session.turns), False)
                        progress.reach(int(seconds // 60))
                for number in range(chosen.window):  # what the early turns asked
                    seconds += await ask(EARLY + number, True)
    except (RealtimeError, OSError) as error:
        session.end(error)
    return session, seconds
