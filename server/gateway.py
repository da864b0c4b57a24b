"""The gateway: WebSockets in front of the speech engine. Reads frames, feeds the session's state machine, sends what
comes out. All decisions are made in `server.session`; all sound is made in the engine's process.
"""

import asyncio
import contextlib
import hmac
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Response, WebSocket, WebSocketDisconnect

from server.audio import Samples
from server.config import LIMITS, ServerConfig
from server.engine.interface import SpeechEngine
from server.engine.messages import CloseSession, OpenSession
from server.errors import EngineUnavailable, SessionLost
from server.ids import new_id
from server.session import Output, Session
from server.turn_detection import WINDOW_SAMPLES, VoiceActivity, VoiceActivityNetwork

_log = logging.getLogger("antiphon.gateway")
_KEY_PROTOCOL = "openai-insecure-api-key."
_NORMAL, _POLICY, _FAILED, _OVERLOADED = 1000, 1008, 1011, 1013
_TICK_S = 0.25
_FAREWELL_S = 1.0  # for the events that wait when a session fails


class Connection:
    """One WebSocket and its session."""

    def __init__(self, socket: WebSocket, engine: SpeechEngine, network: VoiceActivityNetwork, model: str) -> None:
        self._socket, self._engine = socket, engine
        self._activity = VoiceActivity(network)
        self._session = Session(new_id("sess"), model)
        self._outgoing: asyncio.Queue[str] = asyncio.Queue()

    async def serve(self) -> None:
        """Until the client leaves or the session ends."""
        session_id = self._session.id
        self._engine.send(OpenSession(session_id))
        tasks = [asyncio.create_task(work) for work in (self._read(), self._listen(), self._write(), self._tick())]
        try:
            self._pass_on(self._session.opened())
            async with asyncio.timeout(LIMITS.session_s):
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            await self._socket.close(_NORMAL, "session expired")
        finally:
            for task in tasks:
                task.cancel()
            failures = [r for r in await asyncio.gather(*tasks, return_exceptions=True) if isinstance(r, BaseException)]
            with contextlib.suppress(EngineUnavailable):
                self._engine.send(CloseSession(session_id))
        faults = [f for f in failures if not isinstance(f, WebSocketDisconnect | asyncio.CancelledError)]
        for fault in faults:
            if isinstance(fault, EngineUnavailable | SessionLost):
                await self._say_farewell()
                raise fault
            _log.error("session %s failed", session_id, exc_info=fault)
        if faults:
            await self._say_farewell()
            await _close(self._socket, _FAILED, "internal error")

    async def _say_farewell(self) -> None:
        """Send what still waits, among it the error that says why."""
        with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
            async with asyncio.timeout(_FAREWELL_S):
                while not self._outgoing.empty():
                    await self._socket.send_text(self._outgoing.get_nowait())

    def _pass_on(self, output: Output) -> None:
        for command in output.commands:
            self._engine.send(command)
        for event in output.events:
            self._outgoing.put_nowait(json.dumps(event, separators=(",", ":"), ensure_ascii=False))

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            frame: str | bytes = message.get("text") or message.get("bytes") or ""
            output, samples = self._session.client_frame(frame)
            self._pass_on(output)
            if samples is not None:
                await self._detect(samples)

    async def _detect(self, samples: Samples) -> None:
        """Window by window, so that a long frame neither merges turns nor keeps other sessions waiting."""
        for first in range(0, len(samples), WINDOW_SAMPLES):
            if first:
                await asyncio.sleep(0)
            piece = samples[first : first + WINDOW_SAMPLES]
            self._pass_on(self._session.hear(piece))
            for probability in self._activity.push(piece):
                self._pass_on(self._session.speech_window(probability))

    async def _listen(self) -> None:
        async for event in self._engine.subscribe(self._session.id):
            output = self._session.engine_event(event)
            self._pass_on(output)
            if output.closes:
                raise SessionLost("the engine has no place for this session; try again later")
        raise EngineUnavailable("the engine has ended")  # only its death ends the events of an open session

    async def _write(self) -> None:
        while True:
            await self._socket.send_text(await self._outgoing.get())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self._pass_on(self._session.tick())


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    """Close a socket that the client may have left already, which Starlette reports as a `RuntimeError`."""
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        await socket.close(code, reason)


def _key_of(socket: WebSocket) -> str:
    """The key a client shows: in its bearer header, or, from a browser, among its subprotocols."""
    scheme, _, key = socket.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key:
        return key.strip()
    for protocol in socket.scope.get("subprotocols", []):
        if protocol.startswith(_KEY_PROTOCOL):
            return str(protocol.removeprefix(_KEY_PROTOCOL))
    return ""


def create_app(config: ServerConfig, engine: SpeechEngine) -> FastAPI:
    """The application; its lifespan starts and stops the engine."""
    network = VoiceActivityNetwork()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await engine.start()
        yield
        await engine.stop()

    app = FastAPI(title="Antiphon", lifespan=lifespan)

    @app.get("/health")
    async def health(response: Response) -> dict[str, str]:
        if engine.alive:
            return {"status": "ok"}
        response.status_code = 503
        return {"status": "the engine has ended"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": config.model_name, "object": "model", "owned_by": "antiphon"}]}

    @app.websocket("/realtime")
    @app.websocket("/v1/realtime")
    async def realtime(socket: WebSocket) -> None:
        key = _key_of(socket)
        offered = socket.scope.get("subprotocols", [])
        await socket.accept(subprotocol="realtime" if "realtime" in offered else None)
        if config.api_keys and not any(hmac.compare_digest(key.encode(), k.encode()) for k in config.api_keys):
            error = {
                "type": "invalid_request_error",
                "code": "invalid_api_key",
                "message": "expected a valid API key",
                "param": None,
            }
            await socket.send_text(json.dumps({"type": "error", "event_id": new_id("event"), "error": error}))
            await socket.close(_POLICY, "invalid_api_key")
            return
        try:
            await Connection(socket, engine, network, socket.query_params.get("model") or config.model_name).serve()
        except (EngineUnavailable, SessionLost) as error:
            await _close(socket, _OVERLOADED, str(error)[:120])

    return app


def run(config: ServerConfig) -> None:
    """Serve until interrupted."""
    from server.engine.remote import RemoteEngine

    logging.basicConfig(level=config.log_level.upper(), format="%(asctime)s %(name)s %(levelname)s %(message)s")
    engine = RemoteEngine(config.model_dir, config.engine, config.engine_threads)
    uvicorn.run(
        create_app(config, engine),
        host=config.host,
        port=config.port,
        log_level=config.log_level,
        ws="websockets-sansio",
        ws_max_size=LIMITS.frame_bytes,
        ws_per_message_deflate=False,
    )
