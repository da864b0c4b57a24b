"""An async client for any server that speaks the OpenAI Realtime protocol (GA) over WebSocket.

It streams audio at the pace of a microphone and notes when everything happened. Imports neither torch nor the server.
"""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from clients.keys import key_for

WIRE_HZ = 24_000
_BYTES_PER_MS = WIRE_HZ * 2 // 1000
CHUNK_MS = 20
# A 10 ms window counts as audible when it is within so many dB of the loudest one.
_AUDIBLE_DB = -40.0
_AT_ONCE_S = 20.0  # for what a server that lives says without thinking
Event = dict[str, Any]


class RealtimeError(Exception):
    """The server answered with an `error` event, or left in the middle of a turn."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


def _left(closed: ConnectionClosed) -> RealtimeError:
    """The server's close code, where it gave one, and its reason."""
    why = f"{closed.rcvd.code} {closed.rcvd.reason}" if closed.rcvd else "the connection was lost"
    return RealtimeError(f"expected an event, the server has left: {why}", "connection_closed")


def first_audible_ms(pcm: NDArray[np.int16]) -> float | None:
    """Where sound begins: the start of the first 10 ms window within 40 dB of the loudest; None if all is silent."""
    window = WIRE_HZ // 100
    count = len(pcm) // window
    if count == 0:
        return None
    energy = np.square(pcm[: count * window].reshape(count, window).astype(np.float64)).mean(axis=1)
    loud = np.flatnonzero(energy > energy.max() * 10 ** (_AUDIBLE_DB / 10))
    return float(loud[0] * 10) if energy.max() > 0 and len(loud) else None


def speech_end_ms(pcm: NDArray[np.int16]) -> float:
    """Where the last sound of a question ends, by the same measure."""
    reversed_start = first_audible_ms(pcm[::-1])
    return len(pcm) / WIRE_HZ * 1000 - (reversed_start or 0.0)


@dataclass
class Turn:
    """One question and its answer. Times are `time.perf_counter` seconds."""

    heard: str = ""
    heard_tokens: int | None = None
    """Pieces of text of what was heard, where the server tells."""
    answered: str = ""
    item_id: str = ""
    """Of the answer."""
    pcm: bytes = b""
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    """(arrival time, bytes) of each audio chunk."""
    speech_began_s: float | None = None
    speech_ended_s: float | None = None
    committed_s: float | None = None
    created_s: float | None = None
    first_delta_s: float | None = None
    status: str = ""
    premature: int = 0
    """Answers that turn detection began in a pause: taken back when the person went on, or all said before the end."""
    interrupted: bool = False
    barge_in_ms: float | None = None
    """Of an answer that was sounding when the person spoke again: from that sound to the last audio that came or, if
    that is later, to the server's saying that somebody speaks, at which a client falls silent."""
    refused_ms: float | None = None
    """Of an answer that failed: from the commit to the server's saying so."""
    send_lags_ms: list[float] = field(default_factory=list)
    """How late each chunk of the question was sent: the client's own share of every delay."""
    errors: list[Event] = field(default_factory=list)
    usage: Event | None = None
    server_timings_ms: dict[str, float] = field(default_factory=dict)

    @property
    def first_audible_s(self) -> float | None:
        """When the first audible sample could be played: its chunk's arrival, or later if silence plays before it."""
        start_ms = first_audible_ms(np.frombuffer(self.pcm, dtype="<i2"))
        if start_ms is None or self.first_delta_s is None:
            return None
        position, played = start_ms * _BYTES_PER_MS, 0
        for arrived_s, size in self.arrivals:
            played += size
            if played > position:
                return max(arrived_s, self.first_delta_s + start_ms / 1000)
        return None

    @property
    def began_early(self) -> bool:
        """Whether the answer began before the person had finished."""
        begun_s, ended_s = self.first_delta_s, self.speech_ended_s
        return begun_s is not None and ended_s is not None and begun_s < ended_s

    @property
    def playing_until_s(self) -> float | None:
        """When the answer has been played, if nothing cuts it."""
        if not self.arrivals:
            return None
        return self.arrivals[0][0] + sum(size for _, size in self.arrivals) / _BYTES_PER_MS / 1000

    @property
    def playing_left_s(self) -> float:
        """How long the answer would go on playing after its last chunk has arrived."""
        return max(0.0, (self.playing_until_s or 0.0) - self.arrivals[-1][0]) if self.arrivals else 0.0

    def _since(self, start_s: float | None) -> float | None:
        end_s = self.first_audible_s
        return None if start_s is None or end_s is None else (end_s - start_s) * 1000

    @property
    def ttfa_from_speech_ms(self) -> float | None:
        """Time to first audio, counted from the end of the person's speech."""
        return self._since(self.speech_ended_s)

    @property
    def ttfa_from_commit_ms(self) -> float | None:
        """Time to first audio, counted from the commit: ours, or the server's `committed` event."""
        return self._since(self.committed_s)

    @property
    def viability(self) -> float:
        """Share of audio chunks that arrived before playback, begun at the first one, needed them."""
        if not self.arrivals:
            return 0.0
        start_s, played, in_time = self.arrivals[0][0], 0, 0
        for arrived_s, size in self.arrivals:
            in_time += arrived_s <= start_s + played / _BYTES_PER_MS / 1000 + 1e-9
            played += size
        return in_time / len(self.arrivals)


def _is_here(url: str) -> bool:
    """Whether an address is this machine, which no proxy can reach."""
    host = urlsplit(url).hostname or ""
    return host == "localhost" or host.startswith("127.") or host == "::1"


class RealtimeClient:
    """A connection and its session. Use `RealtimeClient.connect`."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.session: Event = {}

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, url: str, api_key: str | None = None, model: str | None = None
    ) -> AsyncIterator["RealtimeClient"]:
        """Connect and wait for `session.created`. Without `api_key` that of the environment is shown (`key_for`).

        Raises `RealtimeError` if the server says something else, `OSError` if there is none.
        """
        try:
            parts = urlsplit(url)
            _ = parts.port  # one that is no number up to 65535 is found out only here
        except ValueError as wrong:
            raise RealtimeError(
                f"expected an address with a host and a port, got {url}: {wrong}", "invalid_url"
            ) from wrong
        if model:
            query = urlencode(dict(parse_qsl(parts.query)) | {"model": model})
            url = urlunsplit(parts._replace(query=query))
        key = key_for(url, api_key)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            proxy: Literal[True] | None = None if _is_here(url) else True  # True: the one that the environment names
            socket = await connect(url, additional_headers=headers, compression=None, max_size=None, proxy=proxy)
        except InvalidURI as wrong:
            raise RealtimeError(
                f"expected an address that begins with ws:// or wss://, got {url}", "invalid_url"
            ) from wrong
        except InvalidHandshake as refusal:
            raise RealtimeError(f"expected a WebSocket at {url}: {refusal}", "refused") from refusal
        async with socket:
            client = cls(socket)
            event = await client._answered_at_once("session.created", client.receive())
            if event["type"] != "session.created":
                error = event.get("error", {})
                raise RealtimeError(
                    error.get("message", f"expected session.created, got {event['type']}"), error.get("code")
                )
            client.session = event["session"]
            yield client

    async def send(self, kind: str, **fields: Any) -> None:
        """Send any client event. Raises `RealtimeError` if the server has left."""
        try:
            await self._socket.send(json.dumps({"type": kind, **fields}))
        except ConnectionClosed as closed:
            raise _left(closed) from closed

    async def receive(self) -> Event:
        """The next server event. Raises `RealtimeError` if the server has left."""
        try:
            event: Event = json.loads(await self._socket.recv())
        except ConnectionClosed as closed:
            raise _left(closed) from closed
        return event

    async def update(self, **session: Any) -> None:
        """`session.update`; waits for the server's answer. Raises `RealtimeError` if it refuses."""
        await self.send("session.update", session={"type": "realtime", **session})
        self.session = (await self._answered_at_once("session.updated", self._updated()))["session"]

    async def _updated(self) -> Event:
        while (event := await self.receive())["type"] != "session.updated":
            if event["type"] == "error":
                raise RealtimeError(event["error"]["message"], event["error"].get("code"))
        return event

    async def _answered_at_once(self, expected: str, waiting: Coroutine[Any, Any, Event]) -> Event:
        """What a server says as soon as it can. Raises `RealtimeError` if it does not."""
        try:
            return await asyncio.wait_for(waiting, _AT_ONCE_S)
        except TimeoutError as error:
            raise RealtimeError(f"expected {expected} within {_AT_ONCE_S:g} s, got nothing", "timeout") from error

    async def append(self, pcm: bytes) -> None:
        await self.send("input_audio_buffer.append", audio=base64.b64encode(pcm).decode())

    async def commit(self) -> None:
        await self.send("input_audio_buffer.commit")

    async def clear(self) -> None:
        await self.send("input_audio_buffer.clear")

    async def create_response(self, **response: Any) -> None:
        await self.send("response.create", **({"response": response} if response else {}))

    async def cancel(self) -> None:
        await self.send("response.cancel")

    async def truncate(self, item_id: str, audio_end_ms: int) -> None:
        await self.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=audio_end_ms)

    async def add_text(self, text: str, role: str = "user") -> None:
        part = {"type": "output_text" if role == "assistant" else "input_text", "text": text}
        await self.send("conversation.item.create", item={"type": "message", "role": role, "content": [part]})

    # --- a whole turn ----------------------------------------------------------------------------------------------

    async def ask(
        self,
        pcm: NDArray[np.int16],
        manual: bool,
        timeout_s: float = 60.0,
        speed: float = 1.0,
    ) -> Turn:
        """Say `pcm` (24 kHz) at the pace of speech, or `speed` times as fast, and collect the answer.

        `manual`: commit and ask for a response at the end; else go on sending silence until the server's turn
        detection answers. An answer that came before the end is none: the person speaks on. Raises `RealtimeError` if
        the server refuses or leaves, or has not answered `timeout_s` after the question could have been said.
        """
        turn = Turn()
        end_ms = speech_end_ms(pcm)
        tail = np.zeros(0 if manual else round(timeout_s * speed * WIRE_HZ), dtype=np.int16)
        sender = asyncio.create_task(self._speak(np.concatenate([pcm, tail]), end_ms, manual, turn, speed))
        try:
            async with asyncio.timeout(timeout_s + len(pcm) / WIRE_HZ / speed):
                await self._collect(turn, manual)
        except TimeoutError as error:
            raise RealtimeError(f"expected an answer within {timeout_s:g} s, got none", "timeout") from error
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
        return turn

    async def _speak(self, pcm: NDArray[np.int16], end_ms: float, manual: bool, turn: Turn, speed: float) -> None:
        started_s = time.perf_counter()
        size = CHUNK_MS * WIRE_HZ // 1000
        turn.speech_began_s = started_s + (first_audible_ms(pcm) or 0.0) / 1000 / speed
        turn.speech_ended_s = started_s + end_ms / 1000 / speed
        for first in range(0, len(pcm), size):
            # A microphone hands over a chunk when its last sample has been spoken.
            due_s = started_s + min(first + size, len(pcm)) / WIRE_HZ / speed
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            turn.send_lags_ms.append(1000 * (time.perf_counter() - due_s))
            await self.append(pcm[first : first + size].tobytes())
        if manual:
            await self.commit()
            turn.committed_s = time.perf_counter()
            await self.create_response()

    async def _collect(self, turn: Turn, manual: bool) -> None:
        pcm = bytearray()
        transcript_wanted = self.session.get("audio", {}).get("input", {}).get("transcription") is not None
        heard = not transcript_wanted
        while not (turn.status and heard):
            event = await self.receive()
            now_s = time.perf_counter()
            match event["type"]:
                case "error":
                    turn.errors.append(event["error"])
                    raise RealtimeError(event["error"]["message"], event["error"].get("code"))
                case "input_audio_buffer.committed" if not manual:
                    turn.committed_s = now_s
                case "response.created":
                    turn.created_s = now_s
                case "response.output_audio.delta" if turn.created_s is not None:
                    data = base64.b64decode(event["delta"])
                    turn.first_delta_s = turn.first_delta_s or now_s
                    turn.item_id = event["item_id"]
                    turn.arrivals.append((now_s, len(data)))
                    pcm += data
                case "response.output_audio_transcript.delta" | "response.output_text.delta":
                    turn.answered += event["delta"]
                case "conversation.item.input_audio_transcription.completed":
                    turn.heard, heard = f"{turn.heard} {event['transcript']}".strip(), True
                    turn.heard_tokens = (event.get("usage") or {}).get("output_tokens")
                case "conversation.item.input_audio_transcription.failed":
                    heard = True
                case "response.done" if turn.created_s is not None:  # else it is the end of the answer before
                    turn.status = event["response"]["status"]
                    if not manual and (turn.status == "cancelled" or turn.began_early):  # the person had not finished
                        turn.premature += 1
                        turn.status, turn.answered, turn.created_s = "", "", None
                        turn.first_delta_s, turn.arrivals = None, []
                        pcm.clear()
                        continue
                    turn.usage = event["response"].get("usage")
                    turn.server_timings_ms = event["response"].get("timings_ms", {})
                    if turn.status == "failed":
                        heard = True
                        turn.errors.append((event["response"].get("status_details") or {}).get("error") or {})
                        turn.refused_ms = None if turn.committed_s is None else 1000 * (now_s - turn.committed_s)
                case _:
                    pass
        turn.pcm = bytes(pcm)
