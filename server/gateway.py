"""The gateway: WebSockets in front of the speech engine. Reads frames, feeds the session's state machine, sends what
comes out. All decisions are made in `server.session`; all sound is made in the engine's process.
"""

import asyncio
import contextlib
import gc
import json
import logging
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse

import clients
from server import http_api, logs
from server.audio import Samples
from server.config import LIMITS, ServerConfig
from server.draining import Draining
from server.engine.interface import SpeechEngine
from server.engine.messages import CloseSession, OpenSession, ResponseDone
from server.errors import (
    RETRY_AFTER_S,
    AntiphonError,
    ClientError,
    EngineUnavailable,
    ImpossibleTools,
    InvalidKey,
    SequenceTooLong,
    ServerDraining,
    SessionExpired,
    SessionLost,
    wire_error,
)
from server.ids import new_id
from server.instructions import InstructionsLimit
from server.keys import Keys, key_of
from server.metrics import CONTENT_TYPE, Metrics, Playback
from server.recording import Recording
from server.session import Output, Session
from server.session_config import as_client_error
from server.turn_detection import WINDOW_SAMPLES, VoiceActivity, VoiceActivityNetwork
from server.window_batch import WindowBatch

_log = logging.getLogger("antiphon.gateway")
_NORMAL, _POLICY, _FAILED, _RESTART, _OVERLOADED = 1000, 1008, 1011, 1012, 1013
_TICK_S = 0.25
_PAGE = Path(clients.__file__).parent / "browser" / "index.html"
_FAREWELL_S = 1.0  # for the events that wait when a session fails
_MOST_WAITING = 16 * 1024 * 1024  # characters that may wait for a client who does not read
_PIECE_SAMPLES = 2 * WINDOW_SAMPLES  # of one look at turn detection; frames are mostly shorter


class Connection:
    """One WebSocket and its session."""

    def __init__(
        self,
        socket: WebSocket,
        engine: SpeechEngine,
        windows: WindowBatch,
        model: str,
        preset: dict[str, Any],
        record: Path | None,
        metrics: Metrics,
        draining: Draining,
        limit: InstructionsLimit,
    ) -> None:
        self._socket, self._engine, self._draining = socket, engine, draining
        self._windows, self._activity = windows, VoiceActivity()
        self._session = Session(new_id("sess"), model, preset, room_ms=limit.room_ms)
        self._recording = None if record is None else Recording(record / f"{self._session.id}.jsonl")
        self._metrics, self._playback = metrics, Playback()
        self._outgoing: asyncio.Queue[str] = asyncio.Queue()
        self._waiting = 0
        """Characters in it."""
        self._has_room = asyncio.Event()
        self._count_waiting(0)

    async def serve(self) -> None:
        """Until the client leaves or the session ends."""
        session_id = self._session.id
        try:
            self._engine.send(OpenSession(session_id))
        except EngineUnavailable as error:
            self._tell(error)
            await self._say_farewell()
            self._end_recording()
            raise
        expired = False
        tasks = [asyncio.create_task(work) for work in (self._read(), self._listen(), self._write(), self._tick())]
        self._metrics.sessions.inc()
        try:
            self._pass_on(self._session.opened())
            async with asyncio.timeout(LIMITS.session_s):
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            expired = True
            self._tell(SessionExpired(f"expected a session of at most {LIMITS.session_s} s; connect again to go on"))
        finally:
            self._metrics.sessions.dec()
            for task in tasks:
                task.cancel()
            failures = [r for r in await asyncio.gather(*tasks, return_exceptions=True) if isinstance(r, BaseException)]
            with contextlib.suppress(EngineUnavailable):
                self._engine.send(CloseSession(session_id))
            self._end_recording()
        if expired:
            await self._say_farewell()
            await _close(self._socket, _NORMAL, "session expired")
            return
        faults = [f for f in failures if not isinstance(f, WebSocketDisconnect | asyncio.CancelledError)]
        for fault in faults:
            if isinstance(fault, EngineUnavailable | SessionLost | ServerDraining):
                await self._say_farewell()
                raise fault
            _log.error("session %s failed", session_id, exc_info=fault)
        if faults:
            await self._say_farewell()
            await _close(self._socket, _FAILED, "internal error")

    def _end_recording(self) -> None:
        if self._recording is not None:
            self._recording.close()

    async def _say_farewell(self) -> None:
        """Send what still waits, among it the error that says why."""
        with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
            async with asyncio.timeout(_FAREWELL_S):
                while not self._outgoing.empty():
                    await self._socket.send_text(self._outgoing.get_nowait())

    def _pass_on(self, output: Output) -> None:
        for shown in output.shown:
            if isinstance(shown, ResponseDone):
                self._metrics.response(shown)
            elif (slack_s := self._playback.audio(shown)) is not None:
                self._metrics.slack(slack_s)
        for event in output.events:
            self._say(json.dumps(event, separators=(",", ":"), ensure_ascii=False))
        for command in output.commands:  # last: that the engine has ended must not keep the client from what happened
            self._engine.send(command)
            self._metrics.command(command)

    def _tell(self, error: AntiphonError) -> None:
        """The last event of a session that the server ends."""
        self._say(_error_event(error))

    def _say(self, event: str) -> None:
        self._outgoing.put_nowait(event)
        self._count_waiting(len(event))
        if self._recording is not None:
            self._recording.server(event)

    def _count_waiting(self, more: int) -> None:
        self._waiting += more
        if self._waiting > _MOST_WAITING:
            self._has_room.clear()
        else:
            self._has_room.set()

    async def _read(self) -> None:
        while True:
            await self._has_room.wait()  # who does not take what was asked for is not served more
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            frame: str | bytes = message.get("text") or message.get("bytes") or ""
            if self._recording is not None:
                self._recording.client(frame)
            output, samples = self._session.client_frame(frame)
            self._pass_on(output)
            if samples is not None:
                await self._detect(samples)

    async def _detect(self, samples: Samples) -> None:
        """Piece by piece, so that a long frame neither merges turns nor keeps other sessions waiting."""
        for first in range(0, len(samples), _PIECE_SAMPLES):
            piece = samples[first : first + _PIECE_SAMPLES]
            self._pass_on(self._session.hear(piece))
            for window in self._activity.windows(piece):
                probability, self._activity.state = await self._windows.run(window, self._activity.state)
                self._pass_on(self._session.speech_window(probability))

    async def _listen(self) -> None:
        async for event in self._engine.subscribe(self._session.id):
            output = self._session.engine_event(event)
            self._pass_on(output)
            if output.closes:
                raise SessionLost("the engine has no place for this session; try again later")
        raise EngineUnavailable("the engine has ended")  # only its death ends the events of an open session

    async def _write(self) -> None:
        """Until the client has left; Starlette reports that as a `RuntimeError` to whoever still sends."""
        with contextlib.suppress(RuntimeError):
            while True:
                event = await self._outgoing.get()
                await self._socket.send_text(event)
                self._count_waiting(-len(event))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self._pass_on(self._session.tick())
            if self._draining.closing and self._session.between_turns:
                error = ServerDraining("this server is about to stop; connect again to go on with another one")
                self._tell(error)
                raise error


def _error_event(error: AntiphonError) -> str:
    return json.dumps({"type": "error", "event_id": new_id("event"), "error": wire_error(error)})


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    """Close a socket that the client may have left already, which Starlette reports as a `RuntimeError`."""
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        await socket.close(code, reason)


def create_app(config: ServerConfig, engine: SpeechEngine) -> FastAPI:
    """The application; its lifespan starts and stops the engine.

    Whoever runs it finds its `Metrics` and its `Draining` in `app.state.metrics` and `app.state.draining`.
    """
    windows = WindowBatch(VoiceActivityNetwork())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await engine.start()
        yield
        await engine.stop()

    app = FastAPI(title="Antiphon", lifespan=lifespan, openapi_url=None)
    keys = Keys(config.api_keys, time.time)
    metrics, draining = Metrics(), Draining(config.drain_s)
    limit = InstructionsLimit(config.model_dir, config.engine)
    app.state.metrics, app.state.draining = metrics, draining
    page = _PAGE.read_text(encoding="utf-8")
    app.include_router(http_api.router(config, engine, keys, limit))

    @app.exception_handler(AntiphonError)
    async def refused(_: Request, error: AntiphonError) -> JSONResponse:
        status = _status_of(error)
        later = {"Retry-After": str(RETRY_AFTER_S)} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
        return JSONResponse({"error": wire_error(error)}, status, later)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        _, *location = first["loc"]  # behind the part of the request that it is in
        return await refused(request, as_client_error(first, error.body, tuple(location)))

    @app.get("/health")
    async def health(response: Response) -> dict[str, str]:
        if engine.alive:
            return {"status": "ok"}
        response.status_code = 503
        return {"status": "the engine has ended"}

    @app.get("/ready")
    async def ready(response: Response) -> dict[str, str]:
        """Unlike `/health`, whether new sessions are welcome: a server that drains is healthy and not ready."""
        if draining.begun:
            response.status_code = 503
            return {"status": "draining"}
        return await health(response)

    @app.get("/", response_class=HTMLResponse)
    async def demo_page() -> str:
        return page

    @app.get("/metrics")
    async def prometheus() -> Response:
        return Response(metrics.page(), media_type=CONTENT_TYPE)

    @app.websocket("/realtime")
    @app.websocket("/v1/realtime")
    async def realtime(socket: WebSocket) -> None:
        offered = tuple(socket.scope.get("subprotocols", []))
        await socket.accept(subprotocol="realtime" if "realtime" in offered else None)
        try:
            preset = keys.check(key_of(socket.headers, offered))
            draining.check()
        except (InvalidKey, ServerDraining) as error:
            await socket.send_text(_error_event(error))
            await socket.close(_POLICY if isinstance(error, InvalidKey) else _RESTART, error.code)
            return
        try:
            model = socket.query_params.get("model") or config.model_name
            if socket.query_params.get("intent") == "transcription":
                preset = {"type": "transcription", **preset}
            with draining.session():
                connection = Connection(socket, engine, windows, model, preset, config.record, metrics, draining, limit)
                await connection.serve()
        except ServerDraining as error:
            await _close(socket, _RESTART, error.code)
        except (EngineUnavailable, SessionLost) as error:
            await _close(socket, _OVERLOADED, str(error)[:120])

    return app


def _status_of(error: AntiphonError) -> int:
    """The HTTP status of an error."""
    match error:
        case InvalidKey():
            return HTTPStatus.UNAUTHORIZED
        case ClientError(code="model_not_found"):
            return HTTPStatus.NOT_FOUND
        case ClientError() | SequenceTooLong() | ImpossibleTools():
            return HTTPStatus.BAD_REQUEST
        case EngineUnavailable() | SessionLost() | ServerDraining():
            return HTTPStatus.SERVICE_UNAVAILABLE
        case _:
            return HTTPStatus.INTERNAL_SERVER_ERROR


def run(config: ServerConfig) -> None:
    """Serve until interrupted."""
    from server.engine.remote import RemoteEngine

    logs.configure(config.log_level)
    serve(create_app(config, RemoteEngine(config.model_dir, config.engine, config.engine_threads)), config)


class _Server(uvicorn.Server):
    """On SIGTERM it drains first; on a second one, or Ctrl-C, it stops at once."""

    def __init__(self, config: uvicorn.Config, draining: Draining) -> None:
        super().__init__(config)
        self._draining = draining

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGTERM and not self._draining.begun:
            self._draining.begin()
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._draining.done


def serve(app: FastAPI, config: ServerConfig) -> None:
    """Serve an application of `create_app` until interrupted."""
    # What has been imported stays: a full collection need not walk through it, which stops every session for 60 ms.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 100)  # seldom, because one with 200 sessions takes 30 ms
    settings = uvicorn.Config(
        app,
        host=config.host,
        port=config.port,
        log_level=config.log_level,
        ws="websockets-sansio",
        ws_max_size=LIMITS.frame_bytes,
        ws_per_message_deflate=False,
    )
    _Server(settings, app.state.draining).run()
