"""The gateway over a real socket, with the real engine process on a small random model.

Every server event is checked against the types of the official `openai` package.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from clients.realtime import RealtimeClient
from model.checkpoint import save
from server.config import ServerConfig
from server.engine.engine_config import EngineConfig
from server.engine.remote import RemoteEngine
from server.errors import EngineUnavailable
from server.gateway import create_app
from server.protocol_table import TIMINGS
from tests.tiny_model import wavering_model

pytestmark = pytest.mark.anyio
OFFICIAL: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
NOISE = np.random.default_rng(0).normal(0, 3000, 12_000).astype("<i2")


@asynccontextmanager
async def serving(model_dir: Path, **settings: Any) -> AsyncIterator[str]:
    config = ServerConfig(engine=EngineConfig(slots=6, length=1024, answer_tokens=80), model_dir=model_dir, **settings)
    app = create_app(config, RemoteEngine(config.model_dir, config.engine, 1))
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_level="warning", ws="websockets-sansio", ws_max_size=32 * 1024 * 1024)
    )
    task = asyncio.create_task(server.serve())
    while not server.started:
        if task.done():
            task.result()
            raise RuntimeError("the server ended while it was starting")
        await asyncio.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"ws://127.0.0.1:{port}/v1/realtime"
    finally:
        server.should_exit = True
        await task


async def _manual(client: RealtimeClient) -> None:
    await client.update(audio={"input": {"turn_detection": None, "transcription": {"model": "whisper-1"}}})


async def test_a_whole_conversation_consists_of_official_events(tiny_dir: Path) -> None:
    async with serving(tiny_dir) as url, connect(url, max_size=None) as socket:
        say = lambda kind, **fields: socket.send(json.dumps({"type": kind, **fields}))  # noqa: E731
        seen = []

        async def until(kind: str) -> dict[str, Any]:
            while True:
                event = json.loads(await asyncio.wait_for(socket.recv(), 30))
                OFFICIAL.validate_python(event)
                seen.append(event["type"])
                if event["type"] == kind:
                    return event

        await until("session.created")
        await say(
            "session.update",
            session={
                "type": "realtime",
                "audio": {"input": {"turn_detection": None, "transcription": {"model": "whisper-1"}}},
            },
        )
        await until("session.updated")
        await say("input_audio_buffer.append", audio=base64.b64encode(NOISE.tobytes()).decode())
        await say("input_audio_buffer.commit")
        await say("response.create", response={"metadata": {"client_event_id": "m"}})
        done = await until("response.done")
        assert done["response"]["metadata"] == {"client_event_id": "m"}
        assert "first_audio" in done["response"]["timings_ms"]
        assert set(done["response"]["timings_ms"]) <= set(TIMINGS)
        item_id = done["response"]["output"][0]["id"]
        await say("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=80)
        await until("conversation.item.truncated")
        await say("conversation.item.retrieve", item_id=item_id)
        await until("conversation.item.retrieved")
        await say("response.create", response={"output_modalities": ["text"], "max_output_tokens": 8})
        await until("response.done")
        await say("response.cancel")
        await until("error")
        for kind in ("response.output_audio.delta", "conversation.item.input_audio_transcription.completed"):
            assert kind in seen


async def test_sessions_at_once_keep_apart(tmp_path: Path) -> None:
    save(tmp_path, wavering_model())

    async def talk(url: str, text: str) -> tuple[str, tuple[str, int]]:
        async with RealtimeClient.connect(url) as client:
            await _manual(client)
            await client.add_text(text)
            sound = b""
            await client.create_response(max_output_tokens=60)
            while (event := await client.receive())["type"] != "response.done":
                if event["type"] == "response.output_audio.delta":
                    sound += base64.b64decode(event["delta"])
            # How the sound is cut into pieces depends on time, and so do its last bits.
            return text, (event["response"]["output"][0]["content"][0]["transcript"], len(sound))

    async with serving(tmp_path) as url:
        texts = ["hello there", "small words know a tokenizer", "it", "this is very few", "x"]
        together = dict(await asyncio.gather(*(talk(url, text) for text in texts)))
        alone = dict([await talk(url, text) for text in texts])
        assert together == alone
        assert len(set(together.values())) > 1


async def test_turn_detection_answers_by_itself_and_barge_in_interrupts(tiny_dir: Path) -> None:
    from clients import sound

    question = sound.read(sound.questions()[1])
    async with serving(tiny_dir) as url, RealtimeClient.connect(url) as client:
        detection = {"type": "server_vad", "silence_duration_ms": 200}
        await client.update(audio={"input": {"turn_detection": detection}})
        turn = await client.ask(question, manual=False)
        assert turn.status in ("completed", "incomplete")
        assert turn.pcm
        for _ in range(2):  # the second question comes while the first is being answered
            for first in range(0, len(question), 2400):
                await client.append(question[first : first + 2400].tobytes())
            await client.append(bytes(2 * 24 * 400))
        statuses = []
        while len(statuses) < 2:
            event = await asyncio.wait_for(client.receive(), 30)
            if event["type"] == "response.done":
                statuses.append(
                    (event["response"]["status"], (event["response"]["status_details"] or {}).get("reason"))
                )
        assert statuses[0] == ("cancelled", "turn_detected")
        assert statuses[1][0] in ("completed", "incomplete")


async def test_bad_frames_are_answered_and_the_session_goes_on(tiny_dir: Path) -> None:
    async with serving(tiny_dir) as url, connect(url, max_size=None) as socket:
        await socket.recv()
        for frame in (
            "{",
            b"\xff\xfe",
            "[]",
            '{"type":"x"}',
            json.dumps({"type": "input_audio_buffer.append", "audio": "A" * 22_000_000}),
        ):
            await socket.send(frame)
            assert json.loads(await asyncio.wait_for(socket.recv(), 30))["type"] == "error"
        await socket.send(json.dumps({"type": "session.update", "session": {"type": "realtime"}}))
        assert json.loads(await socket.recv())["type"] == "session.updated"


async def test_keys_are_taken_from_the_header_and_from_a_browsers_subprotocols(tiny_dir: Path) -> None:
    async with serving(tiny_dir, api_keys=("sk-right",)) as url:
        async with RealtimeClient.connect(url, "sk-right"):
            pass
        async with connect(url, subprotocols=["realtime", "openai-insecure-api-key.sk-right"]) as socket:  # type: ignore[list-item]
            assert socket.subprotocol == "realtime"
            assert json.loads(await socket.recv())["type"] == "session.created"
        async with connect(url, additional_headers={"Authorization": "Bearer sk-wrong"}) as socket:
            assert json.loads(await socket.recv())["error"]["code"] == "invalid_api_key"
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1008


async def test_a_model_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    engine = RemoteEngine(tmp_path / "nothing", EngineConfig(), 1)
    with pytest.raises(EngineUnavailable, match="expected a model directory"):
        await engine.start()
    await engine.stop()
