"""One session of a benchmark that keeps its own times (open loop): all that it will say is laid out before it begins,
and it speaks when the time has come, whether the server has answered or not. A slow server is talked over, not spared.

With turn detection the microphone is open all the time: speech and silence are one stream. In manual mode the chunks of
a question are followed by a commit and a request for an answer.
"""

import asyncio
import base64
import contextlib
import random
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.conversation import Session, settings
from clients.realtime import (
    CHUNK_MS,
    WIRE_HZ,
    Event,
    RealtimeClient,
    RealtimeError,
    Turn,
    first_audible_ms,
    speech_end_ms,
)

_ANSWER_S = 3.0  # what the schedule allows for an answer before the next question
_THINKING_S = (0.2, 1.0)
_UNNOTICED_MS = 200  # speech this short is not noticed yet
# A person who interrupts begins so long after the end of their question, when the answer should be sounding.
_INTERRUPTING_S = (0.5, 1.4)
_PATIENCE_S = 15.0  # for answers that are still being given when everything has been said
_SAMPLES_PER_MS = WIRE_HZ // 1000


@dataclass(frozen=True)
class Question:
    """Something that will be said."""

    start_ms: int
    """Where it begins in the session's stream."""
    pcm: NDArray[np.int16]
    interrupts: bool = False
    """Whether it is meant to cut the answer before it."""

    @property
    def end_ms(self) -> int:
        return self.start_ms + len(self.pcm) // _SAMPLES_PER_MS


def plan(number: int, files: list[NDArray[np.int16]], turns: int, interruptions: float) -> list[Question]:
    """What session `number` says; the same for the same arguments. `interruptions`: the share that cuts an answer."""
    rng = random.Random(number)
    start_s, made = rng.uniform(0, 0.5), list[Question]()
    for k in range(turns):
        interrupts = k > 0 and rng.random() < interruptions
        if k:
            pause = rng.uniform(*_INTERRUPTING_S) if interrupts else _ANSWER_S + rng.uniform(*_THINKING_S)
            start_s = made[-1].end_ms / 1000 + pause
        start_ms = round(1000 * start_s / CHUNK_MS) * CHUNK_MS
        made.append(Question(start_ms, files[(number * 3 + k) % len(files)], interrupts))
    return made


def stream(questions: list[Question], after_ms: int) -> NDArray[np.int16]:
    """Everything that the microphone hears: the questions, silence between them, and `after_ms` of it at the end."""
    pcm = np.zeros((questions[-1].end_ms + after_ms) * _SAMPLES_PER_MS, dtype=np.int16)
    for question in questions:
        first = question.start_ms * _SAMPLES_PER_MS
        pcm[first : first + len(question.pcm)] = question.pcm
    return pcm


class Talk:
    """The turns of a session, made of the server's events. No I/O; times are given."""

    def __init__(self, questions: list[Question], started_s: float) -> None:
        """`started_s`: when the stream began."""
        self.started_s = started_s
        self.onsets_s = [started_s + (q.start_ms + (first_audible_ms(q.pcm) or 0.0)) / 1000 for q in questions]
        ends_s = [started_s + (q.start_ms + speech_end_ms(q.pcm)) / 1000 for q in questions]
        self.turns = [Turn(speech_began_s=a, speech_ended_s=b) for a, b in zip(self.onsets_s, ends_s, strict=True)]
        self._asked: int | None = None  # the question that was committed last
        self._items: dict[str, int] = {}  # item that turn detection found -> question
        self._answers: dict[str, int] = {}  # response -> question
        self._pcm: dict[int, bytearray] = {}
        self._told: set[int] = set()  # questions that turn detection has noticed the beginning of

    @property
    def complete(self) -> bool:
        """Whether every question has had its answer, or failed to."""
        return all(turn.status for turn in self.turns)

    def committed(self, question: int, now_s: float) -> None:
        """A question has been handed over, by the client or by turn detection."""
        if self.turns[question].status:  # turn detection took a pause for the end, and was answered meanwhile
            self._take_back(question)
        self._asked = question
        self.turns[question].committed_s = now_s

    def event(self, event: Event, now_s: float) -> None:
        """A server event came."""
        match event["type"]:
            case "input_audio_buffer.speech_started":
                self._noticed(self._question_at(now_s), now_s)
            case "input_audio_buffer.speech_stopped":
                # The end is that of the silence: the next question may have begun in it, too late to be noticed.
                at_ms = event["audio_end_ms"] - _UNNOTICED_MS
                self._items[event["item_id"]] = self._question_at(self.started_s + at_ms / 1000)
            case "input_audio_buffer.committed" if event["item_id"] in self._items:
                self.committed(self._items[event["item_id"]], now_s)
            case "response.created" if self._asked is not None:
                self._answers[event["response"]["id"]] = self._asked
                self.turns[self._asked].created_s = now_s
            case "response.output_audio.delta" if event["response_id"] in self._answers:
                self._audio(self._answers[event["response_id"]], base64.b64decode(event["delta"]), now_s)
            case "response.done" if event["response"]["id"] in self._answers:
                self._done(self._answers.pop(event["response"]["id"]), event["response"], now_s)
            case "error":
                self._error(event["error"], now_s)
            case _:
                pass

    def _question_at(self, at_s: float) -> int:
        """The question that was being asked then, or the last one before."""
        return max(0, sum(onset_s <= at_s for onset_s in self.onsets_s) - 1)

    def _next_onset_s(self, question: int) -> float:
        return self.onsets_s[question + 1] if question + 1 < len(self.onsets_s) else float("inf")

    def _noticed(self, question: int, now_s: float) -> None:
        """Turn detection says that somebody speaks: the client silences what still sounds of the answer before."""
        if question == 0 or question in self._told:
            return
        self._told.add(question)
        turn, onset_s = self.turns[question - 1], self.onsets_s[question]
        if (turn.playing_until_s or 0.0) > onset_s:
            turn.barge_in_ms = max(turn.barge_in_ms or 0.0, 1000 * (now_s - onset_s))

    def _audio(self, question: int, data: bytes, now_s: float) -> None:
        turn, onset_s = self.turns[question], self._next_onset_s(question)
        if now_s > onset_s:
            turn.barge_in_ms = max(turn.barge_in_ms or 0.0, 1000 * (now_s - onset_s))
        turn.first_delta_s = turn.first_delta_s or now_s
        turn.arrivals.append((now_s, len(data)))
        self._pcm.setdefault(question, bytearray()).extend(data)

    def _done(self, question: int, response: dict[str, Any], now_s: float) -> None:
        turn, onset_s = self.turns[question], self._next_onset_s(question)
        cancelled = response["status"] == "cancelled"
        if (cancelled and now_s <= onset_s) or turn.began_early:  # turn detection took a pause for the end
            self._take_back(question)
            return
        turn.status, turn.interrupted = response["status"], cancelled
        turn.pcm = bytes(self._pcm.pop(question, b""))
        turn.usage = response.get("usage")
        turn.server_timings_ms = response.get("timings_ms") or {}
        if turn.status == "failed":
            turn.errors.append((response.get("status_details") or {}).get("error") or {})
            turn.refused_ms = None if turn.committed_s is None else 1000 * (now_s - turn.committed_s)

    def close(self) -> None:
        """Nothing more will come: answers that did not end are what was heard of them."""
        for question, pcm in self._pcm.items():
            self.turns[question].pcm = bytes(pcm)

    def _error(self, error: Event, now_s: float) -> None:
        turn = self.turns[self._asked or 0]
        turn.errors.append(error)
        # A server may refuse an answer without a response that could fail.
        if error.get("type") == "server_error" and turn.committed_s and turn.created_s is None and not turn.status:
            turn.status, turn.refused_ms = "failed", 1000 * (now_s - turn.committed_s)

    def _take_back(self, question: int) -> None:
        """An answer in the middle of a question is none."""
        turn = self.turns[question]
        turn.premature += 1
        turn.created_s = turn.first_delta_s = turn.barge_in_ms = None
        turn.status, turn.pcm, turn.arrivals = "", b"", []
        self._pcm.pop(question, None)


async def hold(
    url: str, key: str | None, mode: str, questions: list[Question], uncounted: int, start_s: float = 0.0
) -> Session:
    """Say everything at its time. The first `uncounted` turns are warm-up and not in the result."""
    await asyncio.sleep(start_s)
    session = Session()
    try:
        async with RealtimeClient.connect(url, key) as client:
            await client.update(**settings(mode))
            talk = Talk(questions, time.perf_counter())
            session.turns = talk.turns[uncounted:]
            speaking = asyncio.create_task(_speak(client, mode, questions, talk))
            try:
                await _listen(client, talk, questions[-1].end_ms / 1000 + _PATIENCE_S)
            finally:
                talk.close()
                speaking.cancel()
                with contextlib.suppress(asyncio.CancelledError, RealtimeError):  # what it met, listening meets too
                    await speaking
    except (RealtimeError, OSError) as error:
        session.end(error)
    return session


async def _listen(client: RealtimeClient, talk: Talk, patience_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            while not talk.complete:
                event = await client.receive()
                talk.event(event, time.perf_counter())


async def _speak(client: RealtimeClient, mode: str, questions: list[Question], talk: Talk) -> None:
    pcm, size, number = stream(questions, round(1000 * _PATIENCE_S)), CHUNK_MS * _SAMPLES_PER_MS, 0
    for first in range(0, len(pcm), size):
        at_ms = first // _SAMPLES_PER_MS
        if number + 1 < len(questions) and at_ms >= questions[number + 1].start_ms:
            number += 1
        question, turn = questions[number], talk.turns[number]
        if mode != "manual" or question.start_ms <= at_ms < question.end_ms:
            # A microphone hands over a chunk when its last sample has been spoken.
            due_s = talk.started_s + (at_ms + CHUNK_MS) / 1000
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            turn.send_lags_ms.append(1000 * (time.perf_counter() - due_s))
            await client.append(pcm[first : first + size].tobytes())
        elif at_ms >= question.end_ms and turn.committed_s is None:
            if number and not talk.turns[number - 1].status:
                await client.cancel()  # the answer before is late; the person asks on
            await client.commit()
            talk.committed(number, time.perf_counter())
            await client.create_response()
