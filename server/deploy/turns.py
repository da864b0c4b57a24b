"""What questions and answers are made of: asked of a server, one after the other, and saved for `antiphon capacity`.

    python -m server.deploy.turns --out server/deploy/turns.json

The file has `turns` (see `simulation.Turn`), `outside_ms` (see `simulation.Talk`), and the machine and date. It depends
on the model and the questions; `outside_ms` also on the gateway and the network.
"""

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import machine
from clients import sound
from clients.local_server import serving
from clients.realtime import WIRE_HZ, RealtimeClient, Turn, first_audible_ms


def main(argv: list[str] | None = None) -> int:
    """Ask and save."""
    parser = argparse.ArgumentParser(prog="python -m server.deploy.turns", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", help="server to ask (default: start one with the embedded model)")
    parser.add_argument("--key", help="its API key")
    parser.add_argument("--rounds", type=int, default=3, help="times that each question is asked (default: 3)")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    found = asyncio.run(_ask_all(options.url, options.key, options.rounds))
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({k: v for k, v in found.items() if k != "turns"}))
    return 0


async def _ask_all(url: str | None, key: str | None, rounds: int) -> dict[str, Any]:
    turns: list[dict[str, float]] = []
    outside_ms: list[float] = []
    async with serving(url) as at:
        for number in range(rounds):
            # A conversation for each round, as short as those of `bench load`; the first one says what turns are.
            async with RealtimeClient.connect(at, key) as client:
                heard = {"turn_detection": None, "transcription": {"model": "whisper-1"}}
                await client.update(audio={"input": heard})
                for path in sound.questions():
                    pcm = sound.read(path)
                    turn = await client.ask(pcm, manual=True)
                    silence_ms = first_audible_ms(np.frombuffer(turn.pcm, dtype="<i2"))
                    if silence_ms is None or turn.usage is None or turn.heard_tokens is None:
                        continue
                    outside_ms.append(_outside_ms(turn))
                    if number:
                        continue
                    said = turn.usage["output_token_details"]
                    turns.append(
                        {
                            "question_ms": round(1000 * len(pcm) / WIRE_HZ),
                            "transcript_tokens": turn.heard_tokens + 1,  # and `<end>`
                            "untold_tokens": said.get("reasoning_tokens", 0),
                            "text_tokens": said["text_tokens"] - said.get("reasoning_tokens", 0) - 1,  # without `<end>`
                            "codes": said["audio_tokens"],
                            "silence_ms": silence_ms,
                        }
                    )
    return {"turns": turns, "outside_ms": sorted(outside_ms), **machine()}


def _outside_ms(turn: Turn) -> float:
    """From the commit to the first chunk of the answer, without what the engine says it took."""
    if turn.first_delta_s is None or turn.committed_s is None:
        return 0.0
    return round(1000 * (turn.first_delta_s - turn.committed_s) - turn.server_timings_ms["first_audio"], 1)


if __name__ == "__main__":
    raise SystemExit(main())
