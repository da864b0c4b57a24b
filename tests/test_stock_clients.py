"""Stock clients, unmodified, against the gateway: they hold a conversation and none of their own checks complains.

Each speaks three turns, gets a function call and answers it, interrupts an answer, and cuts it where it was heard. It
does so twice: with a scripted engine, so that every number is known, and with the real one and the embedded model. The
first turn requires a call, the others allow none: what is tested is the clients, not the model's judgement.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI

from clients import sound
from server.config import ServerConfig
from server.engine.messages import SPOKEN_HZ, AudioDelta, CallDelta, Respond, ResponseDone, TextDelta, Usage
from server.engine.remote import RemoteEngine
from server.gateway import create_app
from tests.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio
CHUNK = 480
TURNS = [sound.read(path) for path in sound.questions()[:3]]
LIGHT = {
    "type": "object",
    "properties": {"room": {"type": "string", "maxLength": 20}, "on": {"type": "boolean"}},
    "required": ["room", "on"],
}
VAD = {"type": "server_vad", "silence_duration_ms": 600}


class CallingEngine(ScriptedEngine):
    """Calls the function first, then answers; its answers are long enough to be interrupted."""

    def __init__(self) -> None:
        super().__init__()
        self.called = False

    def _answer(self, request: Respond) -> None:
        session_id, response_id = request.session_id, request.response_id
        if request.calls and not self.called:
            self.called = True
            for piece in ('{"room": "kitchen"', ', "on": true}'):
                self.say(CallDelta(session_id, response_id, "set_light", piece))
            self.say(ResponseDone(session_id, response_id, "completed", Usage(3, 12, 0, 0, 4, 0)))
            return
        self.say(TextDelta(session_id, response_id, "This takes a while."))
        for _ in range(20):
            self.say(AudioDelta(session_id, response_id, bytes(2 * SPOKEN_HZ // 5)))
        self.say(ResponseDone(session_id, response_id, "completed", Usage(3, 12, 0, 0, 4, 100)))


@asynccontextmanager
async def serve(app: FastAPI) -> AsyncIterator[int]:
    """The app on a free port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", ws="websockets-sansio"))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.02)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


@dataclass(frozen=True)
class Server:
    """The gateway with one of the engines."""

    scripted: bool

    @property
    def patience_s(self) -> float:
        """How long to wait for an answer before the next question, which interrupts it."""
        return 0.0 if self.scripted else 4.0

    def serving(self) -> AbstractAsyncContextManager[int]:
        """The server on a free port."""
        config = ServerConfig()
        engine = CallingEngine() if self.scripted else RemoteEngine(config.model_dir, config.engine, 1)
        return serve(create_app(config, engine))


@pytest.fixture(params=["scripted", "embedded"])
def server(request: pytest.FixtureRequest) -> Server:
    return Server(request.param == "scripted")


async def speak(pcm: np.ndarray, push: Callable[[bytes], Any], silence_ms: int = 1500) -> None:
    """Say it, faster than a person would, with silence behind it."""
    wave = np.concatenate([pcm, np.zeros(24 * silence_ms, np.int16)])
    for first in range(0, len(wave), CHUNK):
        pushed = push(wave[first : first + CHUNK].tobytes())
        if asyncio.iscoroutine(pushed):
            await pushed
        await asyncio.sleep(0.002)


@pytest.mark.filterwarnings("default")
async def test_openai_agents_sdk(server: Server) -> None:
    pytest.importorskip("agents")
    from agents import function_tool
    from agents.realtime import RealtimeAgent, RealtimeRunner
    from agents.realtime.model_inputs import RealtimeModelSendSessionUpdate

    called: list[tuple[str, bool]] = []

    @function_tool
    async def set_light(room: str, on: bool) -> str:
        """Switch the light of a room."""
        called.append((room, on))
        free = RealtimeModelSendSessionUpdate(session_settings={**settings, "tool_choice": "none"})
        await session.model.send_event(free)
        return "ok"

    agent = RealtimeAgent(name="Test", instructions="Be kind.", tools=[set_light])
    settings = {"audio": {"input": {"turn_detection": VAD}}, "tool_choice": "required"}
    runner = RealtimeRunner(agent, config={"model_settings": settings, "tracing_disabled": True})
    seen: list[str] = []
    raw: list[str] = []
    async with server.serving() as port:
        url = f"ws://127.0.0.1:{port}/v1/realtime?model=antiphon-nano"
        async with await runner.run(model_config={"url": url, "api_key": "none"}) as session:

            async def converse() -> None:
                for pcm in TURNS:
                    await speak(pcm, session.send_audio)
                    await asyncio.sleep(server.patience_s)
                await asyncio.sleep(0.5)
                await session.interrupt()
                await asyncio.sleep(0.3)
                await session.close()

            talking = asyncio.create_task(converse())
            async with asyncio.timeout(60):
                async for event in session:
                    seen.append(event.type)
                    if event.type == "raw_model_event":
                        raw.append(event.data.type)
            await talking
    assert "error" not in seen
    assert not {"error", "exception"} & set(raw)
    assert seen.count("audio_end") >= 3
    assert len(called) == 1
    assert "audio_interrupted" in seen
    if server.scripted:
        assert called == [("kitchen", True)]


@pytest.mark.filterwarnings("default")
async def test_livekit_agents(server: Server) -> None:
    pytest.importorskip("livekit.plugins.openai")
    import aiohttp
    from livekit import rtc
    from livekit.agents import llm
    from livekit.agents.llm import FunctionCallOutput
    from livekit.plugins import openai
    from openai.types.realtime.realtime_audio_input_turn_detection import ServerVad

    @llm.function_tool
    async def set_light(room: str, on: bool) -> str:
        """Switch the light of a room."""
        return "ok"

    async def take(generation: llm.GenerationCreatedEvent) -> list[Any]:
        """The function calls, and the (id, text, samples) of the messages, of one answer."""
        calls = [call async for call in generation.function_stream]
        messages = []
        async for message in generation.message_stream:
            samples = sum([frame.samples_per_channel async for frame in message.audio_stream])
            text = "".join([str(piece) async for piece in message.text_stream])
            messages.append((message.message_id, text, samples))
        return calls or messages

    errors: list[Any] = []
    kinds: list[str] = []
    async with server.serving() as port, aiohttp.ClientSession() as http:
        model = openai.realtime.RealtimeModel(
            base_url=f"http://127.0.0.1:{port}/v1", api_key="none", http_session=http, turn_detection=ServerVad(**VAD)
        )
        session = model.session()
        generations: asyncio.Queue[llm.GenerationCreatedEvent] = asyncio.Queue()
        session.on("generation_created", generations.put_nowait)
        session.on("error", errors.append)
        session.on("openai_server_event_received", lambda event: kinds.append(event["type"]))
        try:
            async with asyncio.timeout(60):
                await session.update_instructions("Be kind.")
                await session.update_tools([set_light])
                session.update_options(tool_choice="required")

                def push(data: bytes) -> None:
                    session.push_audio(rtc.AudioFrame(data, 24_000, 1, len(data) // 2))

                await speak(TURNS[0], push)
                [call] = await take(await generations.get())
                assert call.name == "set_light"
                assert json.loads(call.arguments).keys() == {"room", "on"}
                session.update_options(tool_choice="none")
                context = session.chat_ctx.copy()
                context.items.append(
                    FunctionCallOutput(name="set_light", call_id=call.call_id, output="ok", is_error=False)
                )
                await session.update_chat_ctx(context)
                [(_, text, samples)] = await take(await session.generate_reply())
                assert samples > 0
                if server.scripted:
                    assert call.arguments == '{"room": "kitchen", "on": true}'
                    assert (text, samples) == ("This takes a while.", 4 * SPOKEN_HZ)
                while not generations.empty():
                    generations.get_nowait()
                for pcm in TURNS[1:]:
                    await speak(pcm, push)
                    [(message_id, _, _)] = await take(await generations.get())
                    session.truncate(message_id=message_id, modalities=["audio"], audio_end_ms=80)
                while kinds.count("conversation.item.truncated") < 2:  # noqa: ASYNC110 - the client has no event for it
                    await asyncio.sleep(0.02)
        finally:
            await session.aclose()
            await model.aclose()
    assert not errors
    assert "error" not in kinds
    assert kinds.count("conversation.item.truncated") == 2


@pytest.mark.filterwarnings("default")
async def test_pipecat(server: Server) -> None:
    pytest.importorskip("pipecat.services.openai.realtime.llm")
    from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
    from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
    from pipecat.frames.frames import ErrorFrame, Frame, InputAudioRawFrame, LLMRunFrame, TTSAudioRawFrame
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.runner import PipelineRunner
    from pipecat.pipeline.task import PipelineParams, PipelineTask
    from pipecat.processors.aggregators.llm_context import LLMContext
    from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
    from pipecat.processors.frame_processor import FrameProcessor
    from pipecat.services.openai.realtime import events
    from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService

    called: list[Any] = []
    frames: list[Frame] = []

    class Tap(FrameProcessor):
        async def process_frame(self, frame: Frame, direction: Any) -> None:
            await super().process_frame(frame, direction)
            frames.append(frame)
            await self.push_frame(frame, direction)

    async def light(params: Any) -> None:
        called.append(params.arguments)
        free = events.SessionUpdateEvent(session=events.SessionProperties(tool_choice="none"))
        await service.send_client_event(free)
        await params.result_callback({"ok": True})

    async with server.serving() as port:
        heard = events.AudioInput(
            turn_detection=events.TurnDetection(silence_duration_ms=600), transcription=events.InputAudioTranscription()
        )
        properties = events.SessionProperties(audio=events.AudioConfiguration(input=heard), tool_choice="required")
        service = OpenAIRealtimeLLMService(
            api_key="none",
            base_url=f"ws://127.0.0.1:{port}/v1/realtime",
            settings=OpenAIRealtimeLLMService.Settings(
                model="antiphon-nano", system_instruction="Be kind.", session_properties=properties
            ),
        )
        service.register_function("set_light", light)
        schema = FunctionSchema(
            name="set_light",
            description="Switch the light of a room.",
            properties={"room": {"type": "string"}, "on": {"type": "boolean"}},
            required=["room", "on"],
        )
        aggregators = LLMContextAggregatorPair(LLMContext([], ToolsSchema(standard_tools=[schema])))
        pipeline = Pipeline([aggregators.user(), service, Tap(), aggregators.assistant()])
        task = PipelineTask(pipeline, params=PipelineParams(audio_in_sample_rate=24_000, audio_out_sample_rate=24_000))
        running = asyncio.create_task(PipelineRunner(handle_sigint=False).run(task))
        async with asyncio.timeout(60):
            await asyncio.sleep(0.5)
            await task.queue_frame(LLMRunFrame())

            async def push(data: bytes) -> None:
                await task.queue_frame(InputAudioRawFrame(audio=data, sample_rate=24_000, num_channels=1))

            for pcm in TURNS:
                await speak(pcm, push)
                await asyncio.sleep(server.patience_s)
            await asyncio.sleep(1)
            await task.cancel()
            await running
    assert not [f for f in frames if isinstance(f, ErrorFrame)]
    assert sum(isinstance(f, TTSAudioRawFrame) for f in frames) >= (3 * 20 if server.scripted else 3)
    assert len(called) == 1
    assert called[0].keys() == {"room", "on"}


async def test_openai_python(server: Server) -> None:
    from openai import AsyncOpenAI

    kinds: list[str] = []
    async with server.serving() as port:
        client = AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
        async with client.realtime.connect(model="antiphon-nano") as connection:
            await connection.session.update(
                session={
                    "type": "realtime",
                    "audio": {"input": {"turn_detection": None}},
                    "tools": [{"type": "function", "name": "set_light", "parameters": LIGHT}],
                    "tool_choice": "required",
                }
            )
            item_id = ""

            async def turn(interrupted: bool = False) -> str | None:
                nonlocal item_id
                await connection.response.create()
                if interrupted:
                    await connection.response.cancel()
                async for event in connection:
                    kinds.append(event.type)
                    assert event.type != "error", event
                    if event.type == "response.function_call_arguments.done":
                        await connection.conversation.item.create(
                            item={"type": "function_call_output", "call_id": event.call_id, "output": "ok"}
                        )
                        await connection.session.update(session={"type": "realtime", "tool_choice": "none"})
                    if event.type == "response.output_audio.delta":
                        item_id = event.item_id
                    if event.type == "response.done":
                        return event.response.status
                return None

            async with asyncio.timeout(60):
                for pcm in TURNS:
                    await speak(pcm, lambda data: connection.input_audio_buffer.append(audio=_base64(data)), 0)
                    await connection.input_audio_buffer.commit()
                    await turn()
                await connection.conversation.item.truncate(item_id=item_id, content_index=0, audio_end_ms=80)
                assert await turn(interrupted=True) == "cancelled"
                assert await turn() == "completed"
        await client.close()
    assert kinds.count("response.done") == 5
    assert "conversation.item.truncated" in kinds
    assert kinds.count("response.function_call_arguments.done") == 1


def _base64(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()


JAVASCRIPT = Path(__file__).parent / "js"


@pytest.mark.skipif(not (JAVASCRIPT / "node_modules").exists(), reason="`make test-js` installs its packages")
async def test_openai_agents_sdk_for_javascript(server: Server, tmp_path: Path) -> None:
    files = []
    for i, pcm in enumerate(TURNS):
        (tmp_path / f"{i}.raw").write_bytes(pcm.tobytes())
        files.append(str(tmp_path / f"{i}.raw"))
    async with server.serving() as port, asyncio.timeout(90):
        url = f"ws://127.0.0.1:{port}/v1/realtime?model=antiphon-nano"
        node = await asyncio.create_subprocess_exec(
            "node", "stock.mjs", url, str(server.patience_s), *files, cwd=JAVASCRIPT, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await node.communicate()
    seen = json.loads(output.decode().splitlines()[-1])
    assert seen["errors"] == []
    assert "error" not in seen["kinds"]
    assert seen["responses"] >= 4
    assert seen["audio"] > SPOKEN_HZ
    assert len(seen["calls"]) == 1
    if server.scripted:
        assert seen["calls"] == [["kitchen", True]]
