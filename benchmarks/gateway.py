"""`antiphon bench gateway`: what the gateway adds to every chunk, and what a session costs, without any model.

A gateway whose engine answers at once (`benchmarks.instant_engine`) runs in a process of its own. First it keeps idle
sessions, then all of them stream speech and silence at the pace of microphones, and hear answers.

- `up_ms`: from the moment that a client sends a chunk to the moment that the engine has its samples.
- `down_ms`: from the engine's chunk to the client's having received it.

Both include the sockets and this benchmark's own process, whose lateness is told apart as `send_lag_ms`.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import time
from dataclasses import dataclass, field

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from benchmarks import instant_engine
from benchmarks.conversation import carry_out
from benchmarks.figures import finish, percentiles, too_slow
from benchmarks.options import benchmark
from benchmarks.progress import Progress
from benchmarks.targets import Figures, must
from clients import sound
from clients.local_server import child_server, directly
from clients.realtime import WIRE_HZ

LIMIT_MS, LIMIT_KB = must("gateway_up_p99_ms"), must("gateway_idle_kb")
_CYCLE_S = 6.0  # a question, and silence until the next
_SETTLING_S = 0.3
_HEARD_BYTES_PER_MS = 32
_DELTA = '{"type":"response.output_audio.delta"'
KEYS = {
    "sessions": "sessions that streamed",
    "chunk_ms": "audio in each chunk of a client",
    "idle_session_kb": "memory of the gateway for each session that is open and silent",
    "streaming_session_kb": "the same after streaming: the audio that clients may ask for is kept",
    "up_ms": "client's chunk -> engine; median, p90, p95, p99",
    "down_ms": "engine's chunk -> client; median, p90, p95, p99",
    "chunks": "how many of each were timed",
    "send_lag_ms": "how late this benchmark sent its chunks",
    "generator_was_too_slow": "whether p95 of that is over 20 ms",
    "gateway_cpu": "share of one core that the gateway needed while all streamed",
    "generator_cpu": "share of one core that this benchmark needed meanwhile",
    "met": f"whether both p99 are within {LIMIT_MS:g} ms and an idle session within {LIMIT_KB:g} kB",
}


@dataclass
class _Stream:
    """One client: what it sent when, and what came when."""

    socket: ClientConnection
    id: str
    sent_s: list[float] = field(default_factory=list)
    down_ms: list[float] = field(default_factory=list)
    turn_starts_ms: list[float] = field(default_factory=list)
    """Where in the stream each turn began."""

    async def listen(self) -> None:
        """Until the server leaves."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                text = await self.socket.recv()
                now_s = time.perf_counter()
                assert isinstance(text, str)
                if text.startswith(_DELTA):
                    head = base64.b64decode(json.loads(text)["delta"][:16])
                    self.down_ms.append(1000 * (now_s - instant_engine.STAMP.unpack_from(head)[0]))
                elif text.startswith('{"type":"input_audio_buffer.speech_started"'):
                    self.turn_starts_ms.append(json.loads(text)["audio_start_ms"])


def main(argv: list[str]) -> int:
    """Run the benchmark; 0 if the gateway stays within its limits."""
    parser = benchmark("gateway", __doc__, KEYS)
    parser.add_argument("--sessions", type=int, default=200, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=9.0, help="time that is counted (default: %(default)s)")
    parser.add_argument("--warmup", type=float, default=4.0, help="seconds before, not counted (default: %(default)s)")
    parser.add_argument("--chunk-ms", type=int, default=40, help="audio in each chunk (default: %(default)s)")
    parser.add_argument("--manual", action="store_true", help="without turn detection: no answers, no voice activity")
    chosen = parser.parse_args(argv)
    return carry_out(_run(chosen))


async def _run(chosen: argparse.Namespace) -> int:
    async with child_server("benchmarks.instant_engine") as port:
        figures = await measure(port, chosen)
    print(f"{'ms':<28}{'median':>9}{'p95':>9}{'p99':>9}")
    for name, title in (("up_ms", "client's chunk -> engine"), ("down_ms", "engine's chunk -> client")):
        found = figures[name]
        print(f"{title:<28}" + "".join(f"{found.get(share, '-')!s:>9}" for share in ("median", "p95", "p99")))
    print(f"idle session: {figures['idle_session_kb']} kB; gateway: {figures['gateway_cpu']:.2f} of a core")
    return finish({"command": "bench gateway", **figures}, chosen) or int(not figures["met"])


async def measure(port: int, chosen: argparse.Namespace) -> Figures:
    """Idle sessions first, then streaming ones."""
    url = f"ws://127.0.0.1:{port}/v1/realtime"
    # What the first sessions bring into memory is paid once: code, thread pools, buffers of the allocator.
    for stream in await _open(url, 8, chosen.manual):
        await stream.socket.close()
    empty = await _measured(port)
    streams = await _open(url, chosen.sessions, chosen.manual)
    idle = await _measured(port)
    listening = [asyncio.create_task(stream.listen()) for stream in streams]
    await _stream(streams, chosen.warmup, chosen.chunk_ms, "warm-up")
    first = len(streams[0].sent_s)
    # Asking collects garbage and halts the gateway for up to 60 ms: nothing that is counted may be on its way then.
    before = await _measured(port)
    await asyncio.sleep(_SETTLING_S)
    for stream in streams:
        stream.down_ms.clear()
    busy_s, started_s = time.process_time(), time.perf_counter()
    lags = await _stream(streams, chosen.seconds, chosen.chunk_ms, "streaming")
    wall_s = time.perf_counter() - started_s
    busy_s = time.process_time() - busy_s
    await asyncio.sleep(_SETTLING_S)
    down = [ms for s in streams for ms in s.down_ms]
    after = await _measured(port, heard=True)
    for stream in streams:
        await stream.socket.close()
    await asyncio.gather(*listening)
    up = [
        ms
        for s in streams
        for ms in upward_ms(s.sent_s, s.turn_starts_ms, after["heard"].get(s.id, []), chosen.chunk_ms, first)
    ]
    found: Figures = {
        "sessions": len(streams),
        "chunk_ms": chosen.chunk_ms,
        "idle_session_kb": _kb(idle, empty, len(streams)),
        "streaming_session_kb": _kb(after, empty, len(streams)),
        "up_ms": percentiles(up),
        "down_ms": percentiles(down),
        "chunks": {"up": len(up), "down": len(down)},
        "gateway_cpu": round((after["cpu_s"] - before["cpu_s"]) / wall_s, 3),
        "generator_cpu": round(busy_s / wall_s, 3),
        "send_lag_ms": percentiles(lags),
        "generator_was_too_slow": too_slow(lags),
    }
    within = all(p["p99"] <= LIMIT_MS for p in (found["up_ms"], found["down_ms"]) if p)
    return found | {"met": within and found["idle_session_kb"] <= LIMIT_KB}


def upward_ms(
    sent_s: list[float], turn_starts_ms: list[float], heard: list[list[list[float]]], chunk_ms: int, first: int
) -> list[float]:
    """How long each chunk of a client, from its `first`, was on its way to the engine.

    `heard`: for each turn (time, bytes of the turn so far). A turn's first audio is older than the turn: what had been
    kept before speech was found. All that follows comes at once, so the length so far tells which chunk brought it; the
    resampler keeps a few samples back, which rounding takes care of.
    """
    found = []
    for start_ms, turn in zip(turn_starts_ms, heard, strict=False):
        for came_s, size in turn[1:]:
            chunk = round((start_ms + size / _HEARD_BYTES_PER_MS) / chunk_ms) - 1
            if first <= chunk < len(sent_s):
                found.append(1000 * (came_s - sent_s[chunk]))
    return found


def _kb(now: Figures, then: Figures, sessions: int) -> float:
    return round(float(now["resident_bytes"] - then["resident_bytes"]) / 1000 / sessions, 1)


async def _open(url: str, count: int, manual: bool) -> list[_Stream]:
    streams = []
    for _ in range(count):
        socket = await connect(url, compression=None, max_size=None, proxy=None)
        created = json.loads(await socket.recv())
        stream = _Stream(socket, created["session"]["id"], turn_starts_ms=[0.0] if manual else [])
        detection = None if manual else {"type": "server_vad"}
        session = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
        await socket.send(json.dumps({"type": "session.update", "session": session}))
        await socket.recv()
        streams.append(stream)
    return streams


async def _measured(port: int, heard: bool = False) -> Figures:
    def ask() -> Figures:
        url = f"http://127.0.0.1:{port}/measured?heard={str(heard).lower()}"
        with directly(url, timeout_s=60) as answer:
            found: Figures = json.load(answer)
            return found

    return await asyncio.to_thread(ask)


def _frames(chunk_ms: int) -> list[list[str]]:
    """For each question the client events of one cycle, ready to be sent: making them must not cost the generator."""
    size, cycle = chunk_ms * WIRE_HZ // 1000, round(_CYCLE_S * 1000 / chunk_ms)
    made = []
    for path in sound.questions():
        pcm = np.zeros(cycle * size, dtype=np.int16)
        question = sound.read(path)[: len(pcm)]
        pcm[: len(question)] = question
        chunks = [base64.b64encode(pcm[i : i + size].tobytes()).decode() for i in range(0, len(pcm), size)]
        made.append([json.dumps({"type": "input_audio_buffer.append", "audio": chunk}) for chunk in chunks])
    return made


async def _stream(streams: list[_Stream], seconds: float, chunk_ms: int, title: str) -> list[float]:
    """Every client sends its next `seconds` of audio in real time; returns how late each chunk was, ms."""
    frames = _frames(chunk_ms)
    cycle, done = len(frames[0]), len(streams[0].sent_s)
    lags: list[float] = []
    started_s = time.perf_counter() + 0.1
    chunks = round(seconds * 1000 / chunk_ms)
    with Progress(title, chunks) as progress:
        for k in range(chunks):
            for n, stream in enumerate(streams):
                due_s = started_s + (k + n / len(streams)) * chunk_ms / 1000  # clients keep no common time
                wait_s = due_s - time.perf_counter()
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                # Each is somewhere else in its cycle.
                frame = frames[n % len(frames)][(done + k + n * cycle // len(streams)) % cycle]
                now_s = time.perf_counter()
                lags.append(1000 * max(0.0, now_s - due_s))
                stream.sent_s.append(now_s)
                await stream.socket.send(frame)
            progress.advance()
    return lags
