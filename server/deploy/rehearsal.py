"""Is the simulation right? The same people talk to the real engine, in simulated time: a check of `simulation.py`.

    python -m server.deploy.rehearsal --sessions 1 2 4 8
    python -m server.deploy.rehearsal --counts

Every step of the engine is really done and lasts as long as its processor time, as if it had a core of its own; so the
result holds on a machine that others use as well. What is outside of the engine takes no time here.
With `--counts` a step lasts as long as the simulation thinks; then both must do the same work in the same batches, on
whatever machine, and what differs is printed.

Last line, JSON: `command`, `compared` and `within`, as those of `antiphon capacity --compare`, `processor` and `date`.
With `--counts`: `command`, `within`, and `counted`: for each number of sessions how often each kind of work was done
(by the engine, by the simulation), and how many batches of one differ from those of the other.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
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
from model import EMBEDDED
from model.checkpoint import SpeechModel, load
from server.deploy import capacity
from server.deploy.simulation import CHUNK_MS, Person, Replica, StepTimes, Talk, Turn
from server.engine.engine_config import EngineConfig
from server.engine.messages import (
    FRAME_MS,
    HEARD_HZ,
    SPOKEN_HZ,
    AudioDelta,
    CommitTurn,
    Hear,
    OpenSession,
    Respond,
    ResponseDone,
    TranscriptDone,
)
from server.engine.speech_engine import SpeechEngine
from server.engine.token_engine import TorchTokenEngine
from server.engine.token_interface import Sampled, TokenSequence, TurnOpinion

_CHUNK_BYTES, _FRAME = 2 * HEARD_HZ * CHUNK_MS // 1000, HEARD_HZ * FRAME_MS // 1000
_COUNTED = 3  # answers of each session whose work is compared: people ask so many questions that are only theirs


def main(argv: list[str] | None = None) -> int:
    """Compare; 1 if a ratio is not within 20 %."""
    parser = argparse.ArgumentParser(
        prog="python -m server.deploy.rehearsal", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 2, 4, 8], help="(default: %(default)s)")
    parser.add_argument("--answers", type=int, default=8, help="counted answers of each session (default: %(default)s)")
    parser.add_argument("--model-dir", type=Path, default=EMBEDDED)
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the measured step times there")
    parser.add_argument("--counts", action="store_true", help="compare what is done, not how long it takes")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    model = load(options.model_dir)
    questions = [_heard(path) for path in sound.questions()]
    if options.counts:
        times = StepTimes.read(json.loads(capacity.STEPS.read_text()))
        counted = {str(n): compare_counts(model, questions, times, n) for n in options.sessions}
        within = not any(found["differ"] for found in counted.values())
        print(json.dumps({"command": "rehearsal", "counted": counted, "within": within}))
        return 0 if within else 1
    tables = steps(model, machine(Stopwatch()), time.thread_time, mixed=True)
    if options.save is not None:
        about = {"command": "bench engine", "threads": 1, "mixed": True, "cpu_time": True}
        options.save.write_text(json.dumps(about | tables | this_machine()) + "\n")
    times = StepTimes.read(tables)
    talk = capacity.read_talk(json.loads(capacity.TURNS.read_text()) | {"outside_ms": [0.0]}, (0.2, 1.0))
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


def compare_counts(model: SpeechModel, questions: list[bytes], times: StepTimes, sessions: int) -> dict[str, Any]:
    """What engine and simulation did, where a step of either lasts as long as the simulation thinks."""
    asked = [Turn(1000 * len(pcm) / (2 * HEARD_HZ), 0, 0, 0) for pcm in questions]
    # How many hypotheses of a transcript there are at each moment nobody knows beforehand.
    config = EngineConfig(slots=sessions, hypotheses=1)
    real = Rehearsal(model, questions, times, Talk(tuple(asked)), sessions, _COUNTED, 0, config, measure=False)
    real.run()
    # The simulation gets the very turns that the engine made: each question of each person is one of its own.
    made = [
        replace(real.made[n, k], question_ms=asked[(3 * n + k) % len(asked)].question_ms)
        for n in range(sessions)
        for k in range(_COUNTED)
    ]
    simulated = Replica(times, Talk(tuple(made)), sessions, _COUNTED, warmup=0, config=config)
    simulated.run()
    did, thought = real.counts, simulated.counts
    for batch in sorted(did.keys() | thought.keys()):
        if did[batch] != thought[batch]:
            kind, rows, size = batch
            print(f"{sessions} sessions, {kind} {rows} x {size}: engine {did[batch]}, simulation {thought[batch]}")
    kinds = {kind for kind, _, _ in did}
    done = {kind: [sum(n for b, n in c.items() if b[0] == kind) for c in (did, thought)] for kind in sorted(kinds)}
    same_times = [a.ttfa_ms for a in real.answered] == [a.ttfa_ms for a in simulated.answered]
    return {**done, "differ": (did - thought).total() + (thought - did).total(), "same_times": same_times}


class _Watched(TorchTokenEngine):
    """A token engine that tells of each batch before it is done."""

    tell: Callable[[Sequence[TokenSequence]], None]

    def _advance(self, rows: Sequence[TokenSequence]) -> list[Sampled | TurnOpinion]:
        self.tell(rows)
        return super()._advance(rows)


class Rehearsal(Replica):
    """A `Replica` whose engine is the real one. `measure`: a step lasts as long as it did, not as the table says."""

    def __init__(
        self,
        model: SpeechModel,
        questions: list[bytes],
        times: StepTimes,
        talk: Talk,
        sessions: int,
        answers: int,
        warmup: int = 2,
        config: EngineConfig | None = None,
        measure: bool = True,
    ) -> None:
        config = config or EngineConfig(slots=sessions)
        tokens = _Watched(model.transformer, model.layout, config)
        tokens.tell = self._advances
        self._model, self._measure = model, measure
        self._engine = SpeechEngine(model, config, self._clock, tokens)
        self._questions, self._ids = questions, count()
        self._left: dict[str, bytes] = {}
        self._pcm: dict[str, bytes] = {}
        self._step_began_s = 0.0
        self.made: dict[tuple[int, int], Turn] = {}
        """What the questions and answers of each person consisted of."""
        super().__init__(times, talk, sessions, answers, warmup=warmup, config=config)
        self._by_id = {str(person.number): person for person in self._people}
        for session_id in self._by_id:
            self._engine.receive(OpenSession(session_id))

    def run(self) -> "Rehearsal":
        watched = [
            self._model.tokenizer.register_forward_pre_hook(
                lambda _, x: self._hears(len(x[0]), x[0].shape[1] // _FRAME)
            ),
            self._model.detokenizer.register_forward_pre_hook(lambda _, x: self._says(*x[0].shape)),
        ]
        super().run()
        for hook in watched:
            hook.remove()
        return self

    def _clock(self) -> float:
        """Seconds: of the simulation, and in a step those that it has taken so far."""
        if not self._measure:
            return (self.now + self._spent_ms) / 1000
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

    def _advances(self, rows: Sequence[TokenSequence]) -> None:
        """The token engine begins a batch."""
        slots, held = [s.slot for s in rows], max(s.cached for s in rows)
        if rows[0].rule is not None and rows[0].pending == 1:
            self._decides(slots, held + 1)
        else:
            self._reads(slots, max(min(s.pending, self._piece) for s in rows), held)

    def _step(self) -> None:
        self._step_began_s = time.thread_time()
        events = self._engine.step()
        if self._measure:
            self._spent_ms = 1000 * (time.thread_time() - self._step_began_s)
        self._step_began_s = 0.0
        ends = self.now + self._spent_ms
        for event in events:
            person = self._by_id[event.session_id]
            if isinstance(event, AudioDelta):
                self._pcm[event.session_id] += event.pcm
                person.arrivals.append((ends, 1000 * len(event.pcm) / (2 * SPOKEN_HZ)))
            elif isinstance(event, TranscriptDone):
                person.turn = replace(person.turn, transcript_tokens=event.text_tokens + 1)  # and `<end>`
            elif isinstance(event, ResponseDone):
                silence_ms = first_audible_ms(np.frombuffer(self._pcm[event.session_id], dtype="<i2")) or 0.0
                said = event.usage
                self.made[person.number, person.asked - 1] = replace(
                    person.turn,
                    text_tokens=said.output_text - said.untold - 1,
                    codes=said.output_audio,
                    silence_ms=silence_ms,
                    untold_tokens=said.untold,
                )
                self._heard_all(person, ends, silence_ms)


if __name__ == "__main__":
    raise SystemExit(main())
