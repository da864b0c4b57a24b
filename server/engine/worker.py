"""The speech engine's own process: commands from a pipe, one step after the other, events back into the pipe.

Sleeps while there is nothing to do. Knows nothing about the gateway.
"""

import contextlib
import logging
import signal
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from server import logs
from server.engine.engine_config import EngineConfig
from server.engine.messages import (
    FRAME_MS,
    HEARD_HZ,
    SPOKEN_HZ,
    AddText,
    AudioDelta,
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
from server.errors import EngineUnavailable

if TYPE_CHECKING:  # importing it loads torch, which only the child process may pay for
    from server.engine.speech_engine import SpeechEngine

_log = logging.getLogger("antiphon.engine")
READY = "ready"
_IDLE_S = 0.5  # how often an engine without work is asked whether it still lives
# The trial that capacity is measured by, and how much of the engine's time conversations may take: it must also have
# an answer ready at once when many people stop speaking together. With 0.6 (25 conversations where 21 kept their p95
# below 600 ms) it was 1.6 times as long with all of them as with 21.
_TRIAL_SESSIONS, _TRIAL_FRAMES, _USED_SHARE = 8, 50, 0.5


def run(pipe: Connection, model_dir: Path, config: EngineConfig, threads: int, log_level: int) -> None:
    """The process's main function: load, warm up, say that it is ready, then work until the pipe closes."""
    logs.configure(log_level)
    import torch

    from model.checkpoint import CheckpointError, load
    from server.engine.speech_engine import SpeechEngine

    torch.set_num_threads(threads)
    signal.signal(signal.SIGTERM, _leave)
    with contextlib.ExitStack() as stack:
        try:
            model = load(model_dir, transformer=config.kind == "torch")
            context = model.transformer.config.max_position_embeddings
            if context < config.length:
                raise CheckpointError(
                    f"{model_dir}: expected room for {config.length} tokens, config.json has {context}"
                )
            if config.kind == "vllm":
                from server.engine.vllm_engine import VllmTokenEngine

                tokens = VllmTokenEngine(model_dir, model.layout, config, threads)
                stack.callback(tokens.shut_down)
                engine = SpeechEngine(model, config, tokens=tokens)
            else:
                engine = SpeechEngine(model, config)
        except (CheckpointError, EngineUnavailable) as error:
            pipe.send(str(error))
            return
        warm_up(engine)
        if config.sessions is None:
            engine.capacity = measured_capacity(engine)
        pipe.send(READY)
        _serve(pipe, engine)


def _leave(*_: object) -> NoReturn:
    """What a token engine keeps in other processes is cleaned up on the way out."""
    raise SystemExit(0)


def _serve(pipe: Connection, engine: "SpeechEngine") -> None:
    try:
        while True:
            for command in _commands(pipe, engine):
                if failures := receive(engine, command):
                    pipe.send(failures)
            if events := step(engine):
                pipe.send(events)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        _log.info("the gateway closed the pipe")
    except EngineUnavailable as error:
        _log.error("%s", error)  # the end of this process is how the gateway learns of it


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
    except EngineUnavailable:
        raise
    except Exception:  # noqa: BLE001 - the outermost edge of one step
        _log.exception("a step failed; every session is lost")
        return engine.reset("the engine failed and was restarted")


def _commands(pipe: Connection, engine: "SpeechEngine") -> Iterable[Command]:
    """What has come; waits for something where the engine has nothing to do."""
    while not engine.has_work and not pipe.poll(_IDLE_S):
        pass
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


def measured_capacity(engine: "SpeechEngine", clock: Callable[[], float] = time.perf_counter) -> int:
    """How many conversations this machine can hold at once.

    Some are held as fast as they go: everybody asks for two seconds, frame by frame as it comes from a microphone, and
    is answered. What they took of the engine's time, with a reserve, says how many it could hold in real time.
    """
    names = [f"capacity {i}" for i in range(min(_TRIAL_SESSIONS, engine.capacity))]
    own_clock, ahead_s = engine.clock, 0.0
    # Between two frames a microphone takes its time; without it the engine would wait to hear several at once.
    engine.clock = lambda: own_clock() + ahead_s
    started_s = clock()
    for name in names:
        engine.receive(OpenSession(name))
    for _ in range(_TRIAL_FRAMES):
        for name in names:
            engine.receive(Hear(name, bytes(2 * HEARD_HZ * FRAME_MS // 1000)))
        ahead_s += FRAME_MS / 1000
        while engine.has_work:
            engine.step()
    for name in names:
        engine.receive(CommitTurn(name, "heard"))
        engine.receive(Respond(name, name, "said", max_tokens=_TRIAL_FRAMES))
    events: list[Event] = []
    while sum(isinstance(e, ResponseDone) for e in events) < len(names):
        events += engine.step()
    for name in names:
        engine.receive(CloseSession(name))
    spent_s = clock() - started_s
    engine.clock = own_clock
    said_s = sum(len(e.pcm) for e in events if isinstance(e, AudioDelta)) / 2 / SPOKEN_HZ
    talked_s = len(names) * _TRIAL_FRAMES * FRAME_MS / 1000 + said_s
    found = max(1, min(engine.config.slots, int(_USED_SHARE * talked_s / spent_s)))
    _log.info("room for %d conversations: %.1f s of talk took %.2f s", found, talked_s, spent_s)
    return found
