"""One connection over a real socket, with a scripted engine: faults, closing, and fairness between sessions."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import uvicorn
from fastapi import WebSocket
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from server import gateway
from server.config import LIMITS, ServerConfig
from server.engine.messages import AudioDelta, CloseSession, OpenSession, Respond, ResponseDone
from server.gateway import create_app
from server.session import Session
from tests.scripted_engine import ANSWER, CHUNK_MS, CHUNKS, HEARD, ScriptedEngine

pytestmark = pytest.mark.anyio
OFFICIAL: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
TIMEOUT_S = 30.0  # a guard against hanging, not a measure
DEEP = '{"type": "session.update", "session": {"tools": [' + '{"a":' * 300 + "1" + "}" * 300 + "]}}"
MANUAL = {"input": {"turn_detection": None, "transcription": {"model": "whisper-1"}}}


@asynccontextmanager
async def serving(engine: ScriptedEngine) -> AsyncIterator[str]:
    config = uvicorn.Config(
        create_app(ServerConfig(), engine),
        port=0,
        log_level="warning",
        ws="websockets-sansio",
        ws_max_size=LIMITS.frame_bytes,
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        if task.done():
            task.result()
            raise RuntimeError("the server ended while it was starting")
        await asyncio.sleep(0.02)
    try:
        yield f"ws://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1/realtime"
    finally:
        server.should_exit = True
        await task


async def _say(socket: ClientConnection, kind: str, **fields: Any) -> None:
    await socket.send(json.dumps({"type": kind, **fields}))


async def _until(socket: ClientConnection, kind: str) -> list[dict[str, Any]]:
    """Events up to the first of `kind`, each of them an official one."""
    events: list[dict[str, Any]] = []
    while not events or events[-1]["type"] != kind:
        events.append(json.loads(await asyncio.wait_for(socket.recv(), TIMEOUT_S)))
        OFFICIAL.validate_python(events[-1])
    return events


async def _ask(socket: ClientConnection) -> list[dict[str, Any]]:
    """A manual turn; the events of its answer."""
    await _say(socket, "session.update", session={"type": "realtime", "audio": MANUAL})
    await _say(socket, "input_audio_buffer.append", audio=base64.b64encode(bytes(48 * 200)).decode())
    await _say(socket, "input_audio_buffer.commit")
    await _say(socket, "response.create")
    return await _until(socket, "response.done")


async def test_a_turn_brings_the_transcript_and_every_sample_of_the_answer() -> None:
    async with serving(ScriptedEngine()) as url, connect(url, max_size=None) as socket:
        assert (await _until(socket, "session.created"))[0]["type"] == "session.created"
        events = await _ask(socket)
        [heard] = [e for e in events if e["type"] == "conversation.item.input_audio_transcription.completed"]
        [said] = [e for e in events if e["type"] == "response.output_audio_transcript.done"]
        audio = b"".join(base64.b64decode(e["delta"]) for e in events if e["type"] == "response.output_audio.delta")
        assert (heard["transcript"], said["transcript"]) == (HEARD, ANSWER)
        assert len(audio) == CHUNKS * CHUNK_MS * 48


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param('{"type": "x", "event_id": "\\ud800"}', id="half a surrogate pair"),
        pytest.param('{"type": "x", "n": ' + "1" * 5000 + "}", id="a number of thousands of digits"),
        pytest.param(DEEP, id="deep"),
        pytest.param(b"\xed\xa0\x80", id="not UTF-8"),
        pytest.param("", id="empty"),
    ],
)
async def test_a_hostile_frame_is_answered_and_the_session_goes_on(frame: str | bytes) -> None:
    async with serving(ScriptedEngine()) as url, connect(url, max_size=None) as socket:
        await socket.send(frame)
        await _until(socket, "error")
        assert (await _ask(socket))[-1]["response"]["status"] == "completed"


async def test_deleting_the_answer_that_is_being_given_keeps_the_session() -> None:
    engine = ScriptedEngine(hold_answers=True)
    async with serving(engine) as url, connect(url, max_size=None) as socket:
        await _say(socket, "response.create")
        await _until(socket, "response.content_part.added")
        [request] = [c for c in engine.commands if isinstance(c, Respond)]
        await _say(socket, "conversation.item.delete", item_id=request.item_id)
        await _until(socket, "conversation.item.deleted")
        engine.say(AudioDelta(request.session_id, request.response_id, bytes(4800)))
        engine.say(ResponseDone(request.session_id, request.response_id, "cancelled"))
        await _say(socket, "session.update", session={"type": "realtime"})
        assert [e["type"] for e in await _until(socket, "session.updated")] == ["session.updated"]


async def test_when_the_engine_dies_every_client_is_told_and_asked_to_come_back() -> None:
    engine = ScriptedEngine()
    async with serving(engine) as url, connect(url) as one, connect(url) as two:
        for socket in (one, two):
            await _until(socket, "session.created")
        engine.die()
        for socket in (one, two):
            await _until(socket, "error")
            with pytest.raises(ConnectionClosed) as closed:
                await asyncio.wait_for(socket.recv(), TIMEOUT_S)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1013


async def test_when_the_engine_dies_in_an_answer_the_client_hears_how_it_ended() -> None:
    engine = ScriptedEngine(hold_answers=True)
    async with serving(engine) as url, connect(url) as socket:
        await _say(socket, "response.create")
        await _until(socket, "response.content_part.added")
        engine.die()
        events = await _until(socket, "response.done")
        assert "error" in [e["type"] for e in events]
        assert events[-1]["response"]["status"] == "failed"


async def test_whoever_comes_when_the_engine_has_died_is_told_so() -> None:
    engine = ScriptedEngine()
    async with serving(engine) as url:
        engine.die()
        async with connect(url) as socket:
            [event] = await _until(socket, "error")
            assert event["error"]["code"] == "engine_unavailable"


async def test_who_reads_nothing_is_not_served_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "_MOST_WAITING", 10_000)
    taken = asyncio.Event()
    send_text = WebSocket.send_text

    async def slow(self: WebSocket, text: str) -> None:
        await taken.wait()
        await send_text(self, text)

    handled: list[str] = []
    client_frame = Session.client_frame

    def counted(self: Session, frame: str | bytes) -> Any:
        handled.append(str(frame))
        return client_frame(self, frame)

    monkeypatch.setattr(Session, "client_frame", counted)
    monkeypatch.setattr(WebSocket, "send_text", slow)
    async with serving(ScriptedEngine()) as url, connect(url) as socket:
        for _ in range(100):
            await _say(socket, "session.update", session={"type": "realtime"})
        await asyncio.sleep(0.3)
        assert 0 < len(handled) < 100
        taken.set()
        for _ in range(100):
            await _until(socket, "session.updated")
        assert len(handled) == 100


async def test_a_fault_of_ours_is_logged_and_closes_the_socket_as_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(Session, "client_frame", broken)
    async with serving(ScriptedEngine()) as url, connect(url) as socket:
        await _until(socket, "session.created")
        await socket.send("{}")
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), TIMEOUT_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1011
    assert any(r.exc_info and r.exc_info[0] is ZeroDivisionError for r in caplog.records)


async def test_a_client_that_leaves_in_the_middle_of_an_answer_is_no_fault_of_ours(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def gone(*_: Any) -> None:
        raise RuntimeError("what Starlette raises after the socket has closed")

    engine = ScriptedEngine()
    async with serving(engine) as url, connect(url) as socket:
        await _until(socket, "session.created")
        monkeypatch.setattr(WebSocket, "send_text", gone)
        await _say(socket, "response.create")
        await asyncio.wait_for(engine.session_closed.wait(), TIMEOUT_S)
    assert not [r for r in caplog.records if r.name == "antiphon.gateway"]


async def test_a_client_that_leaves_closes_its_session_in_the_engine() -> None:
    engine = ScriptedEngine()
    async with serving(engine) as url:
        async with connect(url) as socket:
            await _until(socket, "session.created")
        await asyncio.wait_for(engine.session_closed.wait(), TIMEOUT_S)
    opened, closed = ([c.session_id for c in engine.commands if isinstance(c, k)] for k in (OpenSession, CloseSession))
    assert opened == closed


async def test_a_long_frame_of_one_session_does_not_hold_up_another() -> None:
    async with serving(ScriptedEngine()) as url, connect(url) as one, connect(url) as two:
        for socket in (one, two):
            await _until(socket, "session.created")
        minute = base64.b64encode(np.zeros(60 * 24_000, dtype="<i2").tobytes()).decode()
        await _say(one, "input_audio_buffer.append", audio=minute)
        await _say(one, "session.update", session={"type": "realtime"})  # answered once the minute has been heard
        slow = asyncio.create_task(_until(one, "session.updated"))
        replies = 0
        while not slow.done():
            await _say(two, "session.update", session={"type": "realtime"})
            await _until(two, "session.updated")
            replies += 1
        assert replies > 10


async def test_metrics_count_what_happened() -> None:
    import httpx

    async with serving(ScriptedEngine()) as url, connect(url) as socket:
        await _until(socket, "session.created")
        await _say(socket, "response.create")
        await _until(socket, "response.done")
        async with httpx.AsyncClient() as http:
            page = (await http.get(url.replace("ws://", "http://").replace("/v1/realtime", "/metrics"))).text
    assert "antiphon_sessions 1.0" in page
    assert 'antiphon_responses_total{status="completed"} 1.0' in page
    assert 'antiphon_stage_seconds_count{stage="first_audio"} 1.0' in page


async def test_a_session_that_has_lasted_too_long_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.LIMITS", replace(LIMITS, session_s=1))
    engine = ScriptedEngine()
    async with serving(engine) as url, connect(url) as socket:
        *_, error = await _until(socket, "error")
        assert error["error"]["code"] == "session_expired"
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1000
        await asyncio.wait_for(engine.session_closed.wait(), TIMEOUT_S)
