"""A recorded conversation holds everything, and a server answers its replay as it answered then."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients import replay
from clients.realtime import RealtimeClient
from server.config import ServerConfig
from server.gateway import create_app
from server.recording import Recording
from tests.scripted_engine import ANSWER, ScriptedEngine
from tests.test_stock_clients import serve

pytestmark = pytest.mark.anyio


async def _talk(port: int) -> None:
    async with RealtimeClient.connect(f"ws://127.0.0.1:{port}/v1/realtime") as client:
        await client.update(audio={"input": {"turn_detection": None}})
        turn = await client.ask(np.zeros(24_00 * 2, np.int16), manual=True)
        assert turn.answered == ANSWER
        await client.truncate(turn.item_id, 400)
        assert (await client.receive())["type"] == "conversation.item.truncated"


async def test_a_recording_can_be_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serve(create_app(ServerConfig(record=tmp_path), ScriptedEngine())) as port:
        await _talk(port)
    [path] = tmp_path.glob("*.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    kinds = [line["event"]["type"] for line in lines]
    assert {"session.created", "input_audio_buffer.append", "response.output_audio.delta"} <= set(kinds)
    assert [line["at_s"] for line in lines] == sorted(line["at_s"] for line in lines)
    async with serve(create_app(ServerConfig(), ScriptedEngine())) as port:
        parser_arguments = [str(path), "--url", f"ws://127.0.0.1:{port}/v1/realtime", "--speed", "4"]
        assert await replay.run(parser_arguments) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["same"]
    assert result["answers"][0]["now"] == {"status": "completed", "text": ANSWER}


async def test_nothing_is_recorded_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with serve(create_app(ServerConfig(), ScriptedEngine())) as port:
        await _talk(port)
    assert not list(tmp_path.rglob("*"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
async def test_a_disk_that_is_full_ends_the_recording_and_its_thread(caplog: pytest.LogCaptureFixture) -> None:
    recording = Recording(Path("/dev/full"))
    recording.server("{}")
    recording.close()
    recording._thread.join(5)
    assert not recording._thread.is_alive()
    assert "expected to record into" in caplog.text


async def test_where_nothing_can_be_recorded_the_session_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    async with serve(create_app(ServerConfig(record=tmp_path / "file"), ScriptedEngine())) as port:
        await _talk(port)
    assert "expected to record into" in caplog.text


@pytest.mark.parametrize("text", ["RIFF\xff", "{}", "[1]", '{"at_s": 1}\n'])
async def test_what_is_no_recording_is_not_replayed(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recording"
    path.write_bytes(text.encode("latin-1"))
    assert await replay.run([str(path)]) == 2
    assert "expected a recording" in capsys.readouterr().err


def test_ids_are_matched_among_their_own_kind() -> None:
    def added(item_id: str, role: str) -> dict[str, Any]:
        return {"type": "conversation.item.added", "item": {"id": item_id, "type": "message", "role": role}}

    ids = replay._Ids([added("item_00000001", "user"), added("item_00000002", "assistant")])
    for event in (added("item_0000000a", "user"), added("item_0000000b", "user"), added("item_0000000c", "assistant")):
        ids.see(event)
    told = ids.translate({"item_id": "item_00000002", "previous_item_id": "item_00000001"})
    assert told == {"item_id": "item_0000000c", "previous_item_id": "item_0000000a"}
