"""Is the simulation right? The same people talk to the real engine, in simulated time: a check of `simulation.py`.

    python -m server.deploy.rehearsal --sessions 1 2 4 8

Every step of the engine is really done and lasts as long as its processor time, as if it had a core of its own; so the
result holds on a machine that others use as well. What is outside of the engine takes no time here.

Last line, JSON: `command`, `compared` and `within`, as those of `antiphon capacity --compare`, `processor` and `date`.
"""

import argparse
import json
import time
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch

from benchmarks.engine import Stopwatch, machine, steps
from benchmarks.figures import machine as this_machine
from benchmarks.figures import percentiles
from clients import sound
from clients.realtime import WIRE_HZ, first_audible_ms
from model.checkpoint import EMBEDDED, SpeechModel, load
from server.deploy import capacity
from server.deploy.simulation import CHUNK_MS, Person, Replica, StepTimes, Talk
from server.engine.engine_config import EngineConfig
from server.engine.messages import HEARD_HZ, SPOKEN_HZ, AudioDelta, CommitTurn, Hear, OpenSession, Respond, ResponseDone
from server.engine.speech_engine import SpeechEngine

_CHUNK_BYTES = 2 * HEARD_HZ * CHUNK_MS // 1000


def main(argv: list[str] | None = None) -> int:
    """Compare; 1 if a ratio is not within 20 %."""
    parser = argparse.ArgumentParser(
        prog="python -m server.deploy.rehearsal", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 2, 4, 8], help="(default: %(default)s)")
    parser.add_argument("--answers", type=int, default=8, help="counted answers of each session (default: %(default)s)")
    parser.add_argument("--model-dir", type=Path, default=EMBEDDED)
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the measured step times there")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    model = load(options.model_dir)
    tables = steps(model, machine(Stopwatch()), time.thread_time, mixed=True)
    if options.save is not None:
        about = {"command": "bench engine", "threads": 1, "mixed": True, "cpu_time": True}
        options.save.write_text(json.dumps(about | tables | this_machine()) + "\n")
    times = StepTimes.read(tables)
    talk = capacity.read_talk(json.loads(capacity.TURNS.read_text()) | {"outside_ms": [0.0]}, (0.2, 1.0))
    questions = [_heard(path) for path in sound.questions()]
    runs: dict[str, dict[str, Any]] = {}
    for sessions in options.sessions:
        real = Rehearsal(model, questions, times, talk, sessions, options.answers)
        real.run()
        waits = percentiles([answer.ttfa_ms for answer in real.answered])
        runs[str(sessions)] = {"turns": sessions * options.answers, "from_commit_ms": waits}
    return capacity.compare(times, talk, {"runs": runs}, 0, this_machine())


def _heard(path: Path) -> bytes:
    """A question as the engine gets it."""
    samples = sound.read(path).astype(np.float32) / 32768
    return np.asarray(soxr.resample(samples, WIRE_HZ, HEARD_HZ) * 32767, dtype="<i2").tobytes()


class Rehearsal(Replica):
    """A `Replica` whose engine is the real one."""

    def __init__(
        self, model: SpeechModel, questions: list[bytes], times: StepTimes, talk: Talk, sessions: int, answers: int
    ) -> None:
        self._engine = SpeechEngine(model, EngineConfig(slots=sessions), self._clock)
        self._questions, self._ids = questions, count()
        self._left: dict[str, bytes] = {}
        self._pcm: dict[str, bytes] = {}
        self._step_began_s = 0.0
        super().__init__(times, talk, sessions, answers, config=EngineConfig(slots=sessions))
        self._by_id = {str(person.number): person for person in self._people}
        for session_id in self._by_id:
            self._engine.receive(OpenSession(session_id))

    def _clock(self) -> float:
        """Seconds: of the simulation, and in a step those that it has taken so far."""
        in_step_s = time.thread_time() - self._step_began_s if self._step_began_s else 0.0
        return self.now / 1000 + in_step_s

    def _chunk(self, person: Person) -> None:
        session_id = str(person.number)
        question = self._left.get(session_id) or self._questions[person.question]
        self._engine.receive(Hear(session_id, question[:_CHUNK_BYTES]))
        self._left[session_id] = question[_CHUNK_BYTES:]

    def _commit(self, person: Person) -> None:
        session_id = str(person.number)
        self._left[session_id] = self._pcm[session_id] = b""
        self._engine.receive(CommitTurn(session_id, f"heard-{next(self._ids)}"))
        self._engine.receive(Respond(session_id, f"response-{next(self._ids)}", f"said-{next(self._ids)}"))

    @property
    def has_work(self) -> bool:
        return self._engine.has_work

    def _step(self) -> float:
        self._step_began_s = time.thread_time()
        events = self._engine.step()
        spent_ms = 1000 * (time.thread_time() - self._step_began_s)
        self._step_began_s = 0.0
        ends = self.now + spent_ms
        for event in events:
            person = self._by_id[event.session_id]
            if isinstance(event, AudioDelta):
                self._pcm[event.session_id] += event.pcm
                person.arrivals.append((ends, 1000 * len(event.pcm) / (2 * SPOKEN_HZ)))
            elif isinstance(event, ResponseDone):
                said = np.frombuffer(self._pcm[event.session_id], dtype="<i2")
                self._heard_all(person, ends, first_audible_ms(said) or 0.0)
        return spent_ms


if __name__ == "__main__":
    raise SystemExit(main())
