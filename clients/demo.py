"""`antiphon demo`: a server, the spoken questions of the repository asked in real time, and the answers as files."""

import argparse
import asyncio
import json
import sys
from pathlib import Path

from clients import sound
from clients.keys import KEY_HELP
from clients.local_server import ServerDidNotStart, serving
from clients.realtime import RealtimeClient, RealtimeError, Turn

_TRANSCRIPTION = {"transcription": {"model": "antiphon-nano"}}


def main(argv: list[str]) -> int:
    """Run the demo; 0 if every question was answered."""
    parser = argparse.ArgumentParser(prog="antiphon demo", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("out/demo"), help="folder for the answers (default: %(default)s)"
    )
    parser.add_argument("--url", help="use this server instead of starting one")
    parser.add_argument("--key", help=KEY_HELP)
    options = parser.parse_args(argv)
    try:
        return asyncio.run(_demo(options.out, options.url, options.key))
    except (RealtimeError, ServerDidNotStart, OSError) as error:
        print(f"antiphon demo: {error}", file=sys.stderr)
        return 1


async def _demo(out: Path, url: str | None, key: str | None) -> int:
    if url is None:
        print("Starting a server with the embedded model …", flush=True)
    async with serving(url) as reached:
        return await _ask_all(out, reached, key)


async def _ask_all(out: Path, url: str, key: str | None) -> int:
    turns: list[Turn] = []
    print(f"Asking at {url}. Time to first audio (TTFA) in ms, from the end of the speech and from the commit.\n")
    print(f"{'question':<24} {'turn':<8} {'speech':>7} {'commit':>7}  heard -> answered")
    questions = sound.questions()
    for manual in (True, False):
        async with RealtimeClient.connect(url, key) as client:
            detection = None if manual else {"type": "server_vad"}
            await client.update(audio={"input": {"turn_detection": detection, **_TRANSCRIPTION}})
            for path in questions if manual else questions[:3]:
                turn = await client.ask(sound.read(path), manual=manual)
                turns.append(turn)
                mode = "manual" if manual else "vad"
                sound.write(out / f"{path.stem}-{mode}.wav", turn.pcm)
                print(
                    f"{path.stem:<24} {mode:<8} {_ms(turn.ttfa_from_speech_ms):>7} {_ms(turn.ttfa_from_commit_ms):>7}"
                    f"  {turn.heard!r} -> {turn.answered!r}",
                    flush=True,
                )
    complete = sum(t.status == "completed" and bool(t.pcm) for t in turns)
    times = sorted(t.ttfa_from_commit_ms for t in turns if t.ttfa_from_commit_ms is not None)
    median = times[len(times) // 2] if times else None
    print(f"\n{complete} of {len(turns)} questions answered; the answers are in {out}/")
    print(
        json.dumps(
            {
                "command": "demo",
                "turns": len(turns),
                "answered": complete,
                "ttfa_from_commit_ms_median": median and round(median, 1),
            }
        )
    )
    return 0 if turns and complete == len(turns) else 1


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
