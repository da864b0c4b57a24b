"""`antiphon replay`: play a recorded conversation (`antiphon serve --record`) to a server, and compare what it says.

Client events are sent at the times they were sent then. Ids that the server gave are replaced by those it gives now.

Last line, JSON: `command`, `sent`, `events` (of the server), `same` (whether the kinds of the events of each answer
are those of the recording), `answers`: for each response the status and text, then and now.
"""

import argparse
import asyncio
import collections
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from clients.keys import KEY_HELP
from clients.realtime import Event, RealtimeClient, RealtimeError
from server.options import more_than_nothing

_ID = re.compile(r"\b(?:item|resp|call|sess|conv|event)_[0-9a-f]{8,}\b")
_LAST_WORDS_S = 20.0  # for answers that are still being given when everything has been sent


def main(argv: list[str]) -> int:
    """Replay; 0 if every response that was completed then is completed now."""
    return asyncio.run(run(argv))


async def run(argv: list[str]) -> int:
    """The same, where an event loop runs already."""
    parser = argparse.ArgumentParser(
        prog="antiphon replay", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recording", type=Path, help="a `sess_….jsonl` that `antiphon serve --record FOLDER` wrote")
    parser.add_argument("--url", default="ws://127.0.0.1:8000/v1/realtime", help="(default: %(default)s)")
    parser.add_argument("--key", help=KEY_HELP)
    parser.add_argument("--speed", type=more_than_nothing, default=1.0, help="times as fast (default: %(default)s)")
    options = parser.parse_args(argv)
    try:
        return await _replay(_read(options.recording), options)
    except (RealtimeError, OSError, ValueError) as error:
        print(f"antiphon replay: {error}", file=sys.stderr)
        return 2


def _read(path: Path) -> list[dict[str, Any]]:
    """The lines of a recording. Raises `OSError` and `ValueError`."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for line in lines:
            line["at_s"], line["by"], line["event"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected a recording of `antiphon serve --record`, got {error!r}") from error
    return lines


class _Ids:
    """Ids of the recording and those of now: the third answer then is the third answer now, whatever came between."""

    def __init__(self, then: list[Event]) -> None:
        self._then: dict[str, list[str]] = collections.defaultdict(list)
        self._now: dict[str, list[str]] = collections.defaultdict(list)
        for event in then:
            self._note(event, self._then)

    @staticmethod
    def _note(event: Event, ids: dict[str, list[str]]) -> None:
        match event["type"]:
            case "conversation.item.added":
                item = event["item"]
                ids[f"{item['type']} {item.get('role')}"].append(item["id"])
                if item["type"] == "function_call":
                    ids["call"].append(item["call_id"])
            case "response.created":
                ids["response"].append(event["response"]["id"])

    def see(self, event: Event) -> None:
        self._note(event, self._now)

    def translate(self, event: Event) -> Event:
        pairs = (zip(then, self._now[kind], strict=False) for kind, then in self._then.items())
        known = {old: new for same in pairs for old, new in same}
        translated: Event = json.loads(_ID.sub(lambda m: known.get(m.group(), m.group()), json.dumps(event)))
        return translated


def _responses(events: list[Event]) -> list[dict[str, Any]]:
    """Status and words of each response, in order."""
    found = []
    for event in events:
        if event["type"] == "response.done":
            output = event["response"]["output"]
            parts = [p for item in output for p in item.get("content", [])]
            words = " ".join(p.get("transcript") or p.get("text") or "" for p in parts)
            calls = " ".join(f"{i['name']} {i['arguments']}" for i in output if i["type"] == "function_call")
            found.append({"status": event["response"]["status"], "text": (words + calls).strip()})
    return found


def _shape(events: list[Event]) -> list[str]:
    """The kinds of events, deltas once: how many pieces an answer comes in is nobody's promise."""
    kinds = [e["type"] for e in events if e["type"].startswith("response.")]
    return [k for i, k in enumerate(kinds) if not k.endswith(".delta") or k not in kinds[max(0, i - 2) : i]]


async def _replay(lines: list[dict[str, Any]], options: argparse.Namespace) -> int:
    then = [line["event"] for line in lines if line["by"] == "server"]
    to_send = [line for line in lines if line["by"] == "client"]
    now: list[Event] = []
    ids = _Ids(then)
    async with RealtimeClient.connect(options.url, options.key) as client:
        wanted, answered = len(_responses(then)), asyncio.Event()

        async def listen() -> None:
            ended = 0
            while True:
                event = await client.receive()
                now.append(event)
                ids.see(event)
                ended += event["type"] == "response.done"
                if ended >= wanted:
                    answered.set()

        listening = asyncio.create_task(listen())
        started_s = time.perf_counter()
        for line in to_send:
            due_s = started_s + line["at_s"] / options.speed
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            if isinstance(line["event"], dict):
                event = ids.translate(line["event"])
                await client.send(event.pop("type", ""), **event)
        last = asyncio.create_task(answered.wait())
        await asyncio.wait({last, listening}, timeout=_LAST_WORDS_S, return_when=asyncio.FIRST_COMPLETED)
        last.cancel()
        if listening.done():  # the server has left
            listening.result()
        listening.cancel()
    pairs = [{"then": a, "now": b} for a, b in zip(_responses(then), _responses(now), strict=False)]
    for pair in pairs:
        for when, answer in pair.items():
            print(f"{when + ':':<6} {answer['status']}: {answer['text']}")
    complete = [pair["now"]["status"] for pair in pairs if pair["then"]["status"] == "completed"]
    result = {
        "command": "replay",
        "sent": len(to_send),
        "events": len(now),
        "same": _shape(then) == _shape(now),
        "answers": pairs,
    }
    print(json.dumps(result))
    return 0 if len(pairs) == len(_responses(then)) and set(complete) <= {"completed"} else 1
