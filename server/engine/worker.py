"""The speech engine's own process: commands from a pipe, one step after the other, events back into the pipe.

Sleeps while there is nothing to do. Knows nothing about the gateway.
"""

import logging
import time
from collections.abc import Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from server.engine.engine_config import EngineConfig
from server.engine.messages import (
    AddText,
    CloseSession,
    Command,
    CommitTurn,
    Event,
    Hear,
    OpenSession,
    Respond,
    ResponseDone,
    SessionFailed,
)

if TYPE_CHECKING:  # importing it loads torch, which only the child process may pay for
    from server.engine.speech_engine import SpeechEngine

_log = logging.getLogger("antiphon.engine")
READY = "ready"


def run(pipe: Connection, model_dir: Path, config: EngineConfig, threads: int) -> None:
    """The process's main function: load, warm up, say that it is ready, then work until the pipe closes."""
    import torch

    from model.checkpoint import CheckpointError, load
    from server.engine.speech_engine import SpeechEngine

    torch.set_num_threads(threads)
    try:
        engine = SpeechEngine(load(model_dir), config)
    except CheckpointError as error:
        pipe.send(str(error))
        return
    warm_up(engine)
    pipe.send(READY)
    try:
        while True:
            for command in _commands(pipe, wait=not engine.has_work):
                if failures := receive(engine, command):
                    pipe.send(failures)
            if events := step(engine):
                pipe.send(events)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        _log.info("the gateway closed the pipe")


def receive(engine: "SpeechEngine", command: Command) -> list[Event]:
    """Carry out a command. One that breaks the engine's code fails its own session, never the process."""
    try:
        engine.receive(command)
    except Exception:  # noqa: BLE001 - the outermost edge of one command
        _log.exception("session %s: %s failed", command.session_id, type(command).__name__)
        return [SessionFailed(command.session_id, f"the engine failed on {type(command).__name__}; its log says why")]
    return []


def step(engine: "SpeechEngine") -> list[Event]:
    """One step. One that breaks loses every conversation, but not the engine: the next sessions are served."""
    try:
        return engine.step()
    except Exception:  # noqa: BLE001 - the outermost edge of one step
        _log.exception("a step failed; every session is lost")
        return engine.reset("the engine failed and was restarted")


def _commands(pipe: Connection, wait: bool) -> Iterable[Command]:
    if wait:
        yield pipe.recv()
    while pipe.poll():
        yield pipe.recv()


def warm_up(engine: "SpeechEngine") -> None:
    """One short exchange, so that the first real one finds pages, threads and kernels ready."""
    started = time.perf_counter()
    engine.receive(OpenSession("warm-up"))
    engine.receive(Hear("warm-up", bytes(32_000)))
    engine.receive(CommitTurn("warm-up", "heard"))
    engine.receive(AddText("warm-up", "typed", "user", "Hello."))
    engine.receive(Respond("warm-up", "answer", "said", max_tokens=64))
    events: list[Event] = []
    while not any(isinstance(e, ResponseDone) for e in events):
        events = engine.step()
    engine.receive(CloseSession("warm-up"))
    _log.info("warm-up took %.1f s", time.perf_counter() - started)
