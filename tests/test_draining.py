"""Draining: a server that is told to stop takes no new session, and cuts no answer."""

import asyncio
import base64
import json
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from clients.realtime import RealtimeClient, RealtimeError
from server.config import ServerConfig
from server.draining import Draining
from server.engine.messages import SPOKEN_HZ, AudioDelta, ResponseDone, TranscriptDone
from server.errors import ServerDraining
from server.gateway import create_app
from server.metrics import Metrics, Playback
from server.session import Session
from tests.scripted_engine import ScriptedEngine
from tests.test_stock_clients import serve


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_sessions_may_go_on_for_a_while_and_the_last_one_ends_the_draining() -> None:
    clock = Clock()
    draining = Draining(30.0, clock)
    draining.check()
    with draining.session():
        draining.begin()
        with pytest.raises(ServerDraining):
            draining.check()
        assert (draining.closing, draining.done) == (False, False)
        clock.now_s += 30
        draining.begin()
        assert draining.closing
    assert draining.done


def test_a_turn_is_not_over_before_it_is_written_down() -> None:
    session = Session("sess", "model", {"type": "transcription", "audio": {"input": {"turn_detection": None}}})
    session.opened()
    audio = base64.b64encode(bytes(48 * 500)).decode()
    session.client_frame(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
    output, _ = session.client_frame(json.dumps({"type": "input_audio_buffer.commit"}))
    assert not session.between_turns
    session.engine_event(TranscriptDone("sess", output.events[0]["item_id"], "Hi.", 1, 1))
    assert session.between_turns


def test_a_session_is_between_turns_once_its_answer_has_been_played() -> None:
    clock = Clock()
    session = Session("sess", "model", {"type": "realtime", "audio": {"input": {"turn_detection": None}}}, clock)
    session.opened()
    assert session.between_turns
    output, _ = session.client_frame(json.dumps({"type": "response.create"}))
    [response_id] = [e["response"]["id"] for e in output.events if e["type"] == "response.created"]
    assert not session.between_turns
    session.engine_event(AudioDelta("sess", response_id, bytes(2 * SPOKEN_HZ * 3)))
    session.engine_event(ResponseDone("sess", response_id, "completed"))
    assert not session.between_turns
    clock.now_s += 3.1
    assert session.between_turns
    session.client_frame(json.dumps({"type": "input_audio_buffer.append", "audio": "AAAA" * 3000}))
    assert not session.between_turns


def test_slack_is_what_was_sent_and_not_yet_played() -> None:
    clock = Clock()
    playback, metrics = Playback(clock), Metrics(clock)
    second = AudioDelta("sess", "resp", bytes(2 * SPOKEN_HZ))
    assert playback.audio(second) is None
    clock.now_s += 0.25
    assert playback.audio(second) == pytest.approx(0.75)
    clock.now_s += 2.0
    assert playback.audio(second) == pytest.approx(-0.25)
    assert metrics.late_share() == 0.0
    for slack_s in (0.75, 0.5, 0.2, -0.25):
        metrics.slack(slack_s)
    assert metrics.late_share() == 0.25
    clock.now_s += 60
    assert metrics.late_share() == 0.0
    for _ in range(1000):  # of all that is sent in an hour only the newest is kept
        clock.now_s += 1
        metrics.slack(0.5)
    assert len(metrics._recent_slack) < 100


@pytest.mark.anyio
async def test_a_draining_gateway_refuses_and_ends_sessions_between_turns() -> None:
    app = create_app(ServerConfig(drain_s=0.0), ScriptedEngine())
    async with serve(app) as port:
        url = f"ws://127.0.0.1:{port}/v1/realtime"
        async with RealtimeClient.connect(url) as client:
            await client.update(audio={"input": {"turn_detection": None}})
            await client.append(bytes(48 * 200))  # a turn is open: it and its answer are waited for
            app.state.draining.begin()
            await asyncio.sleep(0.6)
            async with connect(url) as refused:
                assert json.loads(await refused.recv())["error"]["code"] == "server_draining"
                with pytest.raises(ConnectionClosed) as closed:
                    await refused.recv()
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1012
            status = await asyncio.to_thread(_status, f"http://127.0.0.1:{port}/ready")
            assert (status, await asyncio.to_thread(_status, f"http://127.0.0.1:{port}/health")) == (503, 200)
            await client.commit()
            await client.create_response()
            seen = [await asyncio.wait_for(client.receive(), 10)]
            while seen[-1]["type"] != "error":
                seen.append(await asyncio.wait_for(client.receive(), 10))
            assert "response.done" in [e["type"] for e in seen]
            assert seen[-1]["error"]["code"] == "server_draining"
            with pytest.raises(RealtimeError, match="server_draining"):
                await client.receive()
        assert app.state.draining.done


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.anyio
async def test_a_server_that_gets_sigterm_waits_for_its_sessions(tiny_dir: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["-m", "server.cli", "serve", "--port", str(port), "--model-dir", str(tiny_dir), "--log-level", "warning"]
    child = await asyncio.create_subprocess_exec(sys.executable, *command)
    try:
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(_answers, f"http://127.0.0.1:{port}/ready"):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.2)
        async with RealtimeClient.connect(f"ws://127.0.0.1:{port}/v1/realtime") as client:
            child.terminate()
            await asyncio.sleep(0.5)
            assert await asyncio.to_thread(_status, f"http://127.0.0.1:{port}/ready") == 503
            await client.update(audio={"input": {"turn_detection": None}})  # it still works
        assert await asyncio.wait_for(child.wait(), 15) == 0
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


def _answers(url: str) -> bool:
    try:
        return _status(url) == 200
    except OSError:
        return False
