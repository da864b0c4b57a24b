"""HTTP beside the WebSocket, asked by the official client; and keys. The engine is scripted."""

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import soundfile

from server import sound_files
from server.config import ServerConfig
from server.engine.messages import AddText, CallDelta, CloseSession, Hear, Respond, ResponseDone, SetInstructions
from server.errors import ClientError, InvalidKey
from server.exchange import exchange
from server.gateway import create_app
from server.http_api import passages
from server.keys import Keys
from tests.scripted_engine import ANSWER, CHUNK_MS, CHUNKS, HEARD, ScriptedEngine

pytestmark = pytest.mark.anyio
SAMPLES = CHUNKS * CHUNK_MS * 24


@asynccontextmanager
async def asking(engine: ScriptedEngine, *keys: str, key: str = "none") -> AsyncIterator[openai.AsyncOpenAI]:
    app = create_app(ServerConfig(api_keys=keys), engine)
    await engine.start()
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport) as http:
        yield openai.AsyncOpenAI(base_url="http://test/v1", api_key=key, http_client=http, max_retries=0)
    await engine.stop()


def _question(seconds: float = 0.5) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(int(8000 * seconds)), 8000, format="WAV")
    return file.getvalue()


def _last(engine: ScriptedEngine, kind: type[Any]) -> Any:
    return [c for c in engine.commands if isinstance(c, kind)][-1]


async def test_a_body_of_another_shape_is_refused_as_openai_does() -> None:
    async with asking(ScriptedEngine()) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.audio.speech.create(model="antiphon-nano", voice="marin", input="")
        assert refused.value.param == "input"
        assert "at least 1 character" in refused.value.message
        long = {"instructions": "word " * 5000}
        with pytest.raises(openai.BadRequestError, match="instructions and tools of at most 760 tokens"):
            await client.realtime.client_secrets.create(session={"type": "realtime", **long})


async def test_models_are_listed() -> None:
    async with asking(ScriptedEngine()) as client:
        assert [m.id async for m in client.models.list()] == ["antiphon-nano"]
        assert (await client.models.retrieve("antiphon-nano")).owned_by == "antiphon"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("gpt-9")


async def test_a_file_is_transcribed() -> None:
    engine = ScriptedEngine()
    async with asking(engine) as client:
        file = ("question.wav", _question())
        done = await client.audio.transcriptions.create(model="antiphon-nano", file=file)
        assert done.text == HEARD
        assert len(_last(engine, Hear).pcm) == 16_000
        text = await client.audio.transcriptions.create(model="antiphon-nano", file=file, response_format="text")
        assert str(text).strip() == HEARD
        stream = await client.audio.transcriptions.create(model="antiphon-nano", file=file, stream=True)
        kinds = [event.type async for event in stream]
        assert kinds == ["transcript.text.delta", "transcript.text.done"]


@pytest.mark.parametrize("data", [b"no sound at all", _question(0.05), _question(130)])
async def test_what_cannot_be_transcribed_is_refused(data: bytes) -> None:
    async with asking(ScriptedEngine()) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.audio.transcriptions.create(model="antiphon-nano", file=("x.wav", data))
        assert refused.value.param == "file"


async def test_what_is_too_long_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_args, **_more: pytest.fail("unpacked"))
    with pytest.raises(ClientError, match="at most 1000 ms of audio, got 2000 ms"):
        sound_files.read(_question(2), most_ms=1000)


@pytest.mark.parametrize("shape", ["wav", "flac", "mp3", "opus", "pcm"])
async def test_a_text_is_read_aloud_in_every_format(shape: Any) -> None:
    engine = ScriptedEngine()
    async with asking(engine) as client:
        answer = await client.audio.speech.create(
            model="antiphon-nano", voice="marin", input="Read this.", response_format=shape
        )
        data = answer.content
    assert (_last(engine, Respond).script, _last(engine, Respond).speak) == ("Read this.", True)
    if shape == "pcm":
        assert len(data) == 2 * SAMPLES
    elif shape != "wav":  # the streamed wav does not know its length
        wave, rate = soundfile.read(io.BytesIO(data))
        assert len(wave) / rate == pytest.approx(SAMPLES / 24_000, abs=0.1)
    else:
        assert len(data) == 44 + 2 * SAMPLES


async def test_chat_in_text() -> None:
    engine = ScriptedEngine()
    async with asking(engine) as client:
        done = await client.chat.completions.create(
            model="antiphon-nano",
            messages=[{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello?"}],
        )
        assert done.choices[0].message.content == ANSWER
        assert done.usage is not None
        assert done.usage.total_tokens > 0
        stream = await client.chat.completions.create(
            model="antiphon-nano", messages=[{"role": "user", "content": "Hello?"}], stream=True
        )
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
        assert "".join(pieces) == ANSWER
    assert engine.commands[1] == SetInstructions(engine.commands[0].session_id, "Be kind.")
    assert (_last(engine, AddText).role, _last(engine, AddText).text) == ("user", "Hello?")


async def test_chat_in_sound() -> None:
    engine = ScriptedEngine()
    sound = {"data": base64.b64encode(_question()).decode(), "format": "wav"}
    async with asking(engine) as client:
        done = await client.chat.completions.create(
            model="antiphon-nano",
            modalities=["text", "audio"],
            audio={"voice": "marin", "format": "wav"},
            messages=[{"role": "user", "content": [{"type": "input_audio", "input_audio": sound}]}],  # type: ignore[list-item,misc]
        )
    audio = done.choices[0].message.audio
    assert audio is not None
    assert audio.transcript == ANSWER
    wave, _ = soundfile.read(io.BytesIO(base64.b64decode(audio.data)))
    assert len(wave) == SAMPLES
    assert len(_last(engine, Hear).pcm) == 16_000


async def test_chat_may_call_functions() -> None:
    class Calling(ScriptedEngine):
        def _answer(self, request: Respond) -> None:
            for piece in ('{"on": ', "true}"):
                self.say(CallDelta(request.session_id, request.response_id, "set_light", piece))
            self.say(ResponseDone(request.session_id, request.response_id, "completed"))

    function = {"name": "set_light", "parameters": {"type": "object", "properties": {"on": {"type": "boolean"}}}}
    engine = Calling()
    async with asking(engine) as client:
        done = await client.chat.completions.create(
            model="antiphon-nano",
            messages=[{"role": "user", "content": "Light!"}],
            tools=[{"type": "function", "function": function}],
        )
    assert done.choices[0].finish_reason == "tool_calls"
    [call] = done.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("set_light", '{"on": true}')
    assert engine.commands[1].text == "Tools: set_light(on: boolean)"  # type: ignore[union-attr]


async def test_without_the_key_nothing_is_answered() -> None:
    async with asking(ScriptedEngine(), "right", key="wrong") as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
    async with asking(ScriptedEngine(), "right", key="right") as client:
        assert (await client.models.list()).data


async def test_a_client_secret_carries_its_session() -> None:
    async with asking(ScriptedEngine(), "right", key="right") as client:
        made = await client.realtime.client_secrets.create(
            session={"type": "realtime", "instructions": "Be kind."},
            expires_after={"anchor": "created_at", "seconds": 60},
        )
        assert made.value.startswith("ek_")
        assert made.session.instructions == "Be kind."  # type: ignore[union-attr]
        with pytest.raises(openai.BadRequestError):
            await client.realtime.client_secrets.create(session={"type": "realtime", "output_modalities": ["smell"]})  # type: ignore[typeddict-item,list-item]
        no_schema = {"type": "function", "name": "fly", "parameters": {"type": "banana"}}
        with pytest.raises(openai.BadRequestError, match="JSON schema"):
            await client.realtime.client_secrets.create(session={"type": "realtime", "tools": [no_schema]})  # type: ignore[typeddict-item,list-item]


def test_client_secrets_expire_and_open_nothing_else() -> None:
    now = [1000.0]
    keys = Keys(("right",), lambda: now[0])
    secret = keys.issue({"instructions": "Be kind."}, 60)
    assert keys.check(secret.value) == {"instructions": "Be kind."}
    assert keys.check("right") == {}
    now[0] += 61
    for wrong in (secret.value, "wrong", ""):
        with pytest.raises(InvalidKey):
            keys.check(wrong)


async def test_the_demo_page_is_served_and_needs_nothing_from_elsewhere() -> None:
    engine = ScriptedEngine()
    await engine.start()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(ServerConfig(), engine))) as http:
        page = (await http.get("http://test/")).text
    assert "<title>Antiphon</title>" in page
    assert "https://" not in page


@pytest.mark.parametrize("path", ["calls", "calls/rtc_1/hangup", "sessions", "transcription_sessions"])
async def test_other_transports_are_refused_with_the_one_that_works(path: str) -> None:
    async with asking(ScriptedEngine()) as client:
        with pytest.raises(openai.BadRequestError, match="WebSocket") as refused:
            await client.post(f"/realtime/{path}", body={}, cast_to=object)
    assert refused.value.code == "unsupported_transport"


async def test_a_long_text_is_read_to_its_end() -> None:
    engine = ScriptedEngine()
    text = "This is one sentence of many. " * 60
    async with asking(engine) as client:
        answer = await client.audio.speech.create(
            model="antiphon-nano", voice="marin", input=text, response_format="pcm"
        )
    scripts = [c.script for c in engine.commands if isinstance(c, Respond)]
    assert " ".join(str(s) for s in scripts) == text.strip()
    assert len(answer.content) == 2 * SAMPLES * len(scripts)


@pytest.mark.parametrize("text", ["Short.", "word " * 300, "x" * 1000, "One. Two! Three? " * 50])
def test_passages_are_short_and_lose_nothing(text: str) -> None:
    found = passages(text, 100)
    assert all(len(p) <= 100 for p in found)
    assert "".join("".join(found).split()) == "".join(text.split())


@pytest.mark.parametrize("shape", ["pcm", "mp3"])
async def test_what_the_engine_cannot_say_is_an_error_and_no_sound(shape: Any) -> None:
    engine = ScriptedEngine(failing=True)
    async with asking(engine) as client:
        with pytest.raises(openai.InternalServerError) as failed:
            await client.audio.speech.create(model="antiphon-nano", voice="x", input="Hello.", response_format=shape)
        assert failed.value.status_code == 503
        for stream in (False, True):
            with pytest.raises(openai.InternalServerError):
                await client.chat.completions.create(
                    model="antiphon-nano", messages=[{"role": "user", "content": "Hello?"}], stream=stream
                )


@pytest.mark.parametrize(
    ("code", "status"),
    [("server_overloaded", 503), ("invalid_function_parameters", 400), ("context_length_exceeded", 400)],
)
async def test_why_the_engine_refused_is_told(code: str, status: int) -> None:
    class Refusing(ScriptedEngine):
        def _answer(self, request: Respond) -> None:
            self.say(ResponseDone(request.session_id, request.response_id, "failed", error="no", code=code))

    async with asking(Refusing()) as client:
        with pytest.raises(openai.APIStatusError) as failed:
            await client.chat.completions.create(
                model="antiphon-nano", messages=[{"role": "user", "content": "Hello?"}]
            )
    assert failed.value.status_code == status
    assert failed.value.code == code


async def test_a_client_that_reads_slowly_keeps_no_place_in_the_engine() -> None:
    engine = ScriptedEngine()
    await engine.start()
    async with exchange(engine) as talk:
        events = talk.answer(speak=True)
        await anext(events)
        await asyncio.sleep(0)
        assert isinstance(engine.commands[-1], CloseSession)
        assert isinstance([event async for event in events][-1], ResponseDone)
    assert sum(isinstance(command, CloseSession) for command in engine.commands) == 1


async def test_a_page_of_all_routes_is_not_served() -> None:
    async with asking(ScriptedEngine()) as client:
        for path in ("/docs", "/redoc", "/openapi.json"):
            assert (await client._client.get(f"http://test{path}")).status_code == 404


async def test_a_message_may_say_something_and_call_several_functions() -> None:
    engine = ScriptedEngine()
    functions = [{"name": name, "arguments": "{}"} for name in ("light", "timer")]
    called = [{"id": f"c{i}", "type": "function", "function": f} for i, f in enumerate(functions)]
    messages: Any = [
        {"role": "user", "content": "Both."},
        {"role": "assistant", "content": "Here you are.", "tool_calls": called},
        {"role": "tool", "tool_call_id": "c0", "content": "on"},
        {"role": "tool", "tool_call_id": "c1", "content": ""},
    ]
    async with asking(engine) as client:
        await client.chat.completions.create(model="antiphon-nano", messages=messages)
    said = [(c.role, c.text) for c in engine.commands if isinstance(c, AddText)]
    assert said[:2] == [("user", "Both."), ("assistant", "Here you are.")]
    assert [role for role, _ in said[2:4]] == ["call", "call"]
    assert said[4][0] == "result"


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "tool_calls": ["x"]},
        {"role": "assistant", "tool_calls": [{"function": None}]},
        {"role": "user", "content": 5},
    ],
)
async def test_a_message_that_is_wrong_inside_is_refused(message: Any) -> None:
    async with asking(ScriptedEngine()) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model="antiphon-nano", messages=[message])
        assert str(refused.value.param).startswith("messages[0]")
