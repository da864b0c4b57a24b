"""`antiphon talk`: ask a server with sound files, or with the microphone."""

import argparse
import asyncio
import base64
import contextlib
import queue
import sys
from pathlib import Path
from typing import Any

from clients import sound
from clients.keys import KEY_HELP
from clients.realtime import WIRE_HZ, RealtimeClient, RealtimeError, Turn

_EXAMPLES = """examples:
  antiphon talk                                         talk with the microphone (needs the extra mic)
  antiphon talk --file question.wav --out answer.wav    ask with a file, keep the answer
  antiphon talk --turns semantic_vad --file q.wav       the model itself says when the question is over
  antiphon talk --file a.wav --file b.wav --out answers one conversation of two turns; answers/a.wav, answers/b.wav
"""


def main(argv: list[str]) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="antiphon talk",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--url", default="ws://127.0.0.1:8000/v1/realtime", help="server (default: %(default)s)")
    parser.add_argument("--key", help=KEY_HELP)
    parser.add_argument("--model", help="model to ask for")
    parser.add_argument(
        "--file", type=Path, action="append", default=[], help="spoken question; may be given several times"
    )
    parser.add_argument("--out", type=Path, help="where the answer goes: a file for one question, a folder for several")
    parser.add_argument(
        "--turns",
        choices=("manual", "server_vad", "semantic_vad"),
        help="what ends a turn: a commit (files only), a silence, or that what was said is complete "
        "(default: manual for files, server_vad for the microphone)",
    )
    parser.add_argument("--instructions", help="system text of the session")
    options = parser.parse_args(argv)
    if options.turns == "manual" and not options.file:
        parser.error("expected --turns server_vad or semantic_vad with the microphone, got manual")
    try:
        return asyncio.run(_ask_files(options) if options.file else _microphone(options))
    except (RealtimeError, OSError) as error:
        print(f"antiphon talk: {error}", file=sys.stderr)
        return 1


def _settings(options: argparse.Namespace, turns: str) -> dict[str, Any]:
    detection = None if turns == "manual" else {"type": turns}
    settings: dict[str, Any] = {
        "audio": {"input": {"turn_detection": detection, "transcription": {"model": "antiphon-nano"}}}
    }
    return settings | ({"instructions": options.instructions} if options.instructions else {})


async def _ask_files(options: argparse.Namespace) -> int:
    turns = options.turns or "manual"
    questions = [(path, sound.read(path)) for path in options.file]
    async with RealtimeClient.connect(options.url, options.key, options.model) as client:
        await client.update(**_settings(options, turns))
        for path, question in questions:
            turn = await client.ask(question, manual=turns == "manual")
            _print(turn)
            if turn.status != "completed":
                reasons = "; ".join(error.get("message", "") for error in turn.errors)
                raise RealtimeError(f"expected an answer to {path}, got one that is {turn.status}: {reasons}")
            if options.out is not None:
                sound.write(options.out / f"{path.stem}.wav" if len(options.file) > 1 else options.out, turn.pcm)
    return 0


def _print(turn: Turn) -> None:
    print(f"heard:    {turn.heard}\nanswered: {turn.answered}")
    for name, value in (("the end of the speech", turn.ttfa_from_speech_ms), ("the commit", turn.ttfa_from_commit_ms)):
        if value is not None:
            print(f"first audio {value:.0f} ms after {name}")


async def _microphone(options: argparse.Namespace) -> int:
    try:
        import sounddevice
    except (ImportError, OSError) as missing:  # the package, or the library PortAudio that it looks for
        print(
            f"antiphon talk: {missing}: the microphone needs the extra mic (pip install -e '.[mic]') and, on Linux, "
            "the package libportaudio2; or ask with --file",
            file=sys.stderr,
        )
        return 2
    loop = asyncio.get_running_loop()
    recorded: asyncio.Queue[bytes] = asyncio.Queue()
    to_play: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    playing = bytearray()
    played = [0]

    def on_input(data: Any, _frames: int, _time: Any, _status: Any) -> None:
        loop.call_soon_threadsafe(recorded.put_nowait, bytes(data))

    def on_output(out: Any, frames: int, _time: Any, _status: Any) -> None:
        with contextlib.suppress(queue.Empty):
            while len(playing) < 2 * frames:
                playing.extend(to_play.get_nowait())
        piece = bytes(playing[: 2 * frames])
        del playing[: len(piece)]
        played[0] += len(piece)
        out[:] = piece + bytes(2 * frames - len(piece))

    async with RealtimeClient.connect(options.url, options.key, options.model) as client:
        await client.update(**_settings(options, options.turns or "server_vad"))

        async def speak() -> None:
            while True:
                await client.append(await recorded.get())

        common: dict[str, Any] = {"samplerate": WIRE_HZ, "channels": 1, "dtype": "int16", "blocksize": WIRE_HZ // 50}
        speaking = asyncio.create_task(speak())
        item_id = ""
        print("Speak; Ctrl-C ends.")
        try:
            with (
                sounddevice.RawInputStream(callback=on_input, **common),
                sounddevice.RawOutputStream(callback=on_output, **common),
            ):
                while True:
                    event = await client.receive()
                    match event["type"]:
                        case "response.output_audio.delta":
                            if event["item_id"] != item_id:
                                item_id, played[0] = event["item_id"], 0
                            to_play.put(base64.b64decode(event["delta"]))
                        case "input_audio_buffer.speech_started" if item_id and (len(playing) or not to_play.empty()):
                            with contextlib.suppress(queue.Empty):
                                while True:
                                    to_play.get_nowait()
                            playing.clear()
                            await client.truncate(item_id, played[0] * 1000 // (2 * WIRE_HZ))
                        case "conversation.item.input_audio_transcription.completed":
                            print(f"heard:    {event['transcript']}")
                        case "response.output_audio_transcript.done":
                            print(f"answered: {event['transcript']}")
                        case "error":
                            print(f"error:    {event['error']['message']}", file=sys.stderr)
                        case _:
                            pass
        except sounddevice.PortAudioError as error:
            print(
                f"antiphon talk: expected a microphone and a loudspeaker: {error}; or ask with --file", file=sys.stderr
            )
            return 2
        finally:
            speaking.cancel()
