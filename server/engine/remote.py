"""The speech engine as the gateway sees it: a child process behind a pipe, with two threads that never let the event
loop wait. Imports no torch; the child does.
"""

import asyncio
import logging
import multiprocessing
import queue
import threading
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection
from pathlib import Path

from server.engine import worker
from server.engine.engine_config import EngineConfig
from server.engine.inboxes import Inboxes
from server.engine.messages import CloseSession, Command, Event, OpenSession
from server.errors import EngineUnavailable

_log = logging.getLogger("antiphon.engine")
_STOP_S = 10


class RemoteEngine:
    """Starts and speaks to the engine's process."""

    def __init__(self, model_dir: Path, config: EngineConfig, threads: int) -> None:
        self._model_dir, self._config, self._threads = model_dir, config, threads
        self._outbox: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self._inboxes = Inboxes()
        self._pipe: Connection | None = None
        self._process: multiprocessing.process.BaseProcess | None = None
        self._alive = False

    async def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=worker.run,
            args=(theirs, self._model_dir, self._config, self._threads, logging.getLogger().level),
            daemon=self._config.kind != "vllm",  # vLLM has processes of its own, and daemons must not have any
            name="antiphon-engine",
        )
        self._process.start()
        theirs.close()
        try:
            answer = await asyncio.to_thread(self._pipe.recv)
        except EOFError as error:
            raise EngineUnavailable("the engine's process ended while it was starting; its log says why") from error
        if answer != worker.READY:
            raise EngineUnavailable(answer)
        self._alive = True
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, args=(self._pipe, loop), daemon=True, name="engine-events").start()
        threading.Thread(target=self._write, args=(self._pipe,), daemon=True, name="engine-commands").start()

    async def stop(self) -> None:
        self._alive = False
        self._outbox.put(None)
        if self._process is not None:
            self._process.terminate()
            await asyncio.to_thread(self._process.join, _STOP_S)
            self._process.kill()

    @property
    def alive(self) -> bool:
        return self._alive

    def send(self, command: Command) -> None:
        if not self._alive:
            raise EngineUnavailable("the engine's process has ended")
        if isinstance(command, OpenSession):
            self._inboxes.open(command.session_id)
        self._outbox.put(command)
        if isinstance(command, CloseSession):
            self._inboxes.close(command.session_id)

    def subscribe(self, session_id: str) -> AsyncIterator[Event]:
        return self._inboxes.events(session_id)

    def _write(self, pipe: Connection) -> None:
        while (command := self._outbox.get()) is not None:
            try:
                pipe.send(command)
            except (BrokenPipeError, OSError):
                return

    def _read(self, pipe: Connection, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while True:
                loop.call_soon_threadsafe(self._dispatch, pipe.recv())
        except (EOFError, OSError, RuntimeError):
            if self._alive:
                _log.error("the engine's process has ended")
                loop.call_soon_threadsafe(self._died)

    def _dispatch(self, events: list[Event]) -> None:
        for event in events:
            self._inboxes.put(event)

    def _died(self) -> None:
        self._alive = False
        self._inboxes.fail("the engine's process has ended")
