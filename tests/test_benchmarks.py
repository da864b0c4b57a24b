"""Benchmarks: their arithmetic on known inputs, and each of them against a scripted server."""

import asyncio
import base64
import importlib
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import benchmarks
from benchmarks import drawing, options, report, targets
from benchmarks.all import medians, together
from benchmarks.conversation import Session, carry_out, reach
from benchmarks.figures import percentiles, share_within, summary
from benchmarks.gateway import upward_ms
from benchmarks.load import largest
from benchmarks.overload import judged
from benchmarks.schedule import Question, Talk, plan, stream
from benchmarks.turns import compared
from clients.realtime import CHUNK_MS, WIRE_HZ, Turn
from server.config import ServerConfig
from server.engine.messages import AudioDelta, Event, OpenSession, Respond, ResponseDone, SessionFailed
from server.gateway import create_app
from tests.scripted_engine import ScriptedEngine
from tests.test_stock_clients import serve

pytestmark = pytest.mark.anyio
DOCUMENT = Path(__file__).parent.parent / "docs" / "benchmarks.md"
MEASURING = [importlib.import_module(f"benchmarks.{name}") for name in benchmarks.COMMANDS]


# --- turns to figures ----------------------------------------------------------------------------------------------


def test_percentiles_are_those_of_the_sorted_values() -> None:
    assert percentiles([float(n) for n in range(100, 0, -1)]) == {"median": 50.5, "p90": 91, "p95": 96, "p99": 100}
    assert percentiles([]) == {}


def _answered(ttfa_ms: float, **fields: Any) -> Turn:
    """A turn whose answer begins to sound so long after the end of the speech."""
    sound, at_s = np.full(WIRE_HZ // 10, 8000, dtype="<i2").tobytes(), 10 + ttfa_ms / 1000
    turn = Turn(speech_ended_s=10.0, committed_s=10.0, first_delta_s=at_s, pcm=sound, status="completed")
    turn.arrivals = [(at_s, len(sound))]
    for name, value in fields.items():
        setattr(turn, name, value)
    return turn


def test_an_answer_that_was_cut_before_it_sounded_was_no_answer() -> None:
    cut, silent = _answered(200, status="cancelled", interrupted=True, barge_in_ms=120.0), Turn(interrupted=True)
    figures = summary([Session([cut, silent])])
    assert (figures["turns"], figures["answered"], figures["barge_in_ms"]["median"]) == (2, 1, 120.0)
    assert figures["from_speech_ms"]["median"] == 200


def test_unanswered_turns_are_late_ones() -> None:
    sessions = [Session([_answered(300), _answered(500), _answered(700), Turn(status="failed")])]
    assert share_within(sessions, 600) == 0.5


def test_viability_counts_chunks_and_not_turns() -> None:
    one_late = _answered(0, arrivals=[(0.0, 480), (9.0, 480)])
    in_time = _answered(0, arrivals=[(0.0, 480_000)] + [(0.0, 480)] * 7)
    assert summary([Session([one_late, in_time])])["viability"] == 0.9


def test_a_generator_that_lags_is_named() -> None:
    late, in_time = Turn(send_lags_ms=[60.0] * 10), Turn(send_lags_ms=[1.0] * 10)
    assert summary([Session([late])])["generator_was_too_slow"]
    assert not summary([Session([in_time])])["generator_was_too_slow"]


def test_refused_sessions_and_responses_are_counted_and_timed() -> None:
    refused = Session([Turn()], error="no place", ended_ms=40.0)
    lost = Session([_answered(300), Turn()], error="left", ended_ms=9000.0)
    failed = Session([Turn(status="failed", refused_ms=80.0)])
    figures = summary([refused, lost, failed, Session([_answered(300)])])
    assert (figures["refused"], figures["lost"], figures["failed"]) == (1, 1, 1)
    assert (figures["refused_ms"]["median"], figures["turns"], figures["answered"]) == (60.0, 4, 2)


# --- load ----------------------------------------------------------------------------------------------------------

TONE = np.full(WIRE_HZ, 8000, dtype=np.int16)  # a second


def test_what_a_session_says_is_the_same_every_time_and_never_overlaps() -> None:
    once, again = (plan(3, [TONE, TONE[:-480]], 40, 0.3) for _ in range(2))
    assert [(q.start_ms, q.interrupts) for q in once] == [(q.start_ms, q.interrupts) for q in again]
    assert [q.start_ms for q in once] != [q.start_ms for q in plan(4, [TONE], 40, 0.3)]
    assert all(q.start_ms % CHUNK_MS == 0 for q in once)
    gaps = [(b.start_ms - a.end_ms, b.interrupts) for a, b in itertools.pairwise(once)]
    assert {interrupts for _, interrupts in gaps} == {True, False}
    assert all(gap < 1500 if interrupts else gap > 3000 for gap, interrupts in gaps)


def test_the_stream_has_speech_where_it_was_planned_and_silence_elsewhere() -> None:
    pcm = stream([Question(500, TONE), Question(2000, TONE)], 1000)
    loud = np.flatnonzero(np.diff(np.concatenate([[0], pcm != 0, [0]])))
    assert list(loud / 24) == [500, 1500, 2000, 3000]
    assert len(pcm) / 24 == 4000


def _event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, **fields}


def _heard(talk: Talk, item: str, end_ms: int, now_s: float) -> None:
    talk.event(_event("input_audio_buffer.speech_stopped", item_id=item, audio_end_ms=end_ms), now_s)
    talk.event(_event("input_audio_buffer.committed", item_id=item), now_s)


def test_a_question_that_begins_in_the_silence_at_the_end_of_another_is_not_what_ended() -> None:
    talk = Talk([Question(0, TONE), Question(1560, TONE)], 100.0)
    _heard(talk, "item", 1600, 101.6)
    assert talk.turns[0].committed_s == 101.6
    assert talk.turns[1].committed_s is None


def _says(talk: Talk, response: str, now_s: float) -> None:
    delta = base64.b64encode(TONE[:4800].tobytes()).decode()
    talk.event(_event("response.output_audio.delta", response_id=response, delta=delta), now_s)


def _done(talk: Talk, response: str, status: str, now_s: float, **fields: Any) -> None:
    talk.event(_event("response.done", response={"id": response, "status": status, **fields}), now_s)


def _created(talk: Talk, response: str, now_s: float) -> None:
    talk.event(_event("response.created", response={"id": response}), now_s)


def test_an_answer_is_counted_to_the_question_whose_speech_it_follows() -> None:
    talk = Talk([Question(0, TONE), Question(3000, TONE)], 100.0)
    _heard(talk, "a", 1000, 101.3)
    _created(talk, "r", 101.3)
    _says(talk, "r", 101.5)
    _done(talk, "r", "completed", 101.9)
    _heard(talk, "b", 4000, 104.4)
    _created(talk, "s", 104.4)
    _says(talk, "s", 104.6)
    assert not talk.complete
    _done(talk, "s", "completed", 104.7)
    assert talk.complete
    assert [round(t.ttfa_from_speech_ms or 0) for t in talk.turns] == [500, 600]
    assert [round(t.ttfa_from_commit_ms or 0) for t in talk.turns] == [200, 200]
    assert [t.barge_in_ms for t in talk.turns] == [None, None]


def test_barge_in_counts_from_the_onset_to_the_last_audio_that_came() -> None:
    talk = Talk([Question(0, TONE), Question(2000, TONE)], 100.0)
    _heard(talk, "a", 1000, 101.3)
    _created(talk, "r", 101.3)
    for now_s in (101.5, 101.9, 102.1):
        _says(talk, "r", now_s)
    _done(talk, "r", "cancelled", 102.2)
    first, second = talk.turns
    assert first.interrupted
    assert first.barge_in_ms == pytest.approx(100)
    assert second.barge_in_ms is None


def test_an_answer_that_was_sent_ahead_sounds_until_the_client_is_told_that_somebody_speaks() -> None:
    talk = Talk([Question(0, TONE), Question(1500, TONE), Question(4000, TONE)], 100.0)
    _heard(talk, "a", 1000, 101.3)
    _created(talk, "r", 101.3)
    for _ in range(5):  # half a second of audio at once
        _says(talk, "r", 101.4)
    _done(talk, "r", "completed", 101.4)
    for now_s in (101.65, 101.9):  # the second is a pause in the same question
        talk.event(_event("input_audio_buffer.speech_started"), now_s)
    _heard(talk, "b", 2500, 102.8)
    _created(talk, "s", 102.8)
    _says(talk, "s", 103.0)
    _done(talk, "s", "completed", 103.0)
    talk.event(_event("input_audio_buffer.speech_started"), 104.2)  # over silence
    assert talk.turns[0].barge_in_ms == pytest.approx(150)
    assert talk.turns[1].barge_in_ms is None


def test_an_answer_in_a_pause_of_a_question_is_premature_and_not_the_answer() -> None:
    talk = Talk([Question(0, TONE), Question(9000, TONE)], 100.0)
    for item, status, at_s in (("a", "cancelled", 100.4), ("b", "completed", 100.7), ("c", "completed", 101.4)):
        _heard(talk, item, 400, at_s)
        _created(talk, item, at_s)
        _says(talk, item, at_s + 0.1)
        _done(talk, item, status, at_s + 0.2)
    turn = talk.turns[0]
    assert (turn.premature, turn.status, turn.interrupted) == (2, "completed", False)
    assert turn.ttfa_from_speech_ms == pytest.approx(500)
    assert len(turn.pcm) == 2 * 4800


def test_an_answer_said_before_the_end_of_the_last_question_is_none() -> None:
    talk = Talk([Question(0, TONE)], 100.0)
    for item, at_s in (("a", 100.4), ("b", 101.4)):
        assert not talk.complete
        _heard(talk, item, 400, at_s)
        _created(talk, item, at_s)
        _says(talk, item, at_s + 0.1)
        _done(talk, item, "completed", at_s + 0.2)
    assert talk.complete
    assert talk.turns[0].premature == 1
    assert talk.turns[0].ttfa_from_speech_ms == pytest.approx(500)


def test_a_response_that_fails_is_timed_from_its_commit() -> None:
    talk = Talk([Question(0, TONE)], 100.0)
    talk.committed(0, 101.0)
    _created(talk, "r", 101.0)
    _done(talk, "r", "failed", 101.1, status_details={"error": {"code": "server_overloaded"}})
    assert talk.turns[0].refused_ms == pytest.approx(100)
    assert talk.turns[0].errors == [{"code": "server_overloaded"}]


def test_an_answer_that_never_ended_still_began() -> None:
    talk = Talk([Question(0, TONE)], 100.0)
    talk.committed(0, 101.0)
    _created(talk, "r", 101.0)
    _says(talk, "r", 101.25)
    talk.close()
    assert talk.turns[0].ttfa_from_speech_ms == pytest.approx(250)
    assert summary([Session(talk.turns)])["answered"] == 0


def test_an_error_instead_of_a_response_is_a_refusal_and_a_mistake_of_the_client_is_none() -> None:
    talk = Talk([Question(0, TONE), Question(3000, TONE)], 100.0)
    talk.committed(0, 101.0)
    talk.event(_event("error", error={"type": "invalid_request_error"}), 101.05)
    assert talk.turns[0].status == ""
    talk.event(_event("error", error={"type": "server_error", "code": "server_overloaded"}), 101.1)
    assert talk.turns[0].status == "failed"
    assert talk.turns[0].refused_ms == pytest.approx(100)
    assert talk.turns[1].status == ""


@pytest.mark.parametrize(("capacity", "first", "found"), [(12, 4, 12), (5, 4, 5), (3, 4, 3), (0, 4, 0), (100, 4, 64)])
async def test_the_largest_count_that_holds_is_found(capacity: int, first: int, found: int) -> None:
    tried: list[int] = []

    async def holds(count: int) -> bool:
        tried.append(count)
        return count <= capacity

    assert await largest(holds, first, 64) == found
    assert len(tried) == len(set(tried)) <= 7


# --- the other benchmarks ------------------------------------------------------------------------------------------


def test_late_turns_are_compared_with_the_early_ones_that_asked_the_same() -> None:
    times = [999.0, 100.0, 110.0, *[500.0] * 46, 200.0, 220.0]
    turns = [_answered(ms, usage={"input_tokens": 10 * i}) for i, ms in enumerate(times)]
    found = compared(turns, window=2, tokens=500, hour=False)
    assert (found["early_ms"], found["late_ms"], found["ratio"]) == (105, 210, 2.0)
    assert (found["tokens_most"], found["met"]) == (500, False)
    assert compared(turns[:40], window=2, tokens=500, hour=False)["ratio"] is None


def _run(p95: float, **fields: Any) -> dict[str, Any]:
    counted = {"turns": 8, "answered": 8, "failed": 0, "refused": 0, "refused_ms": {}}
    return counted | {"from_speech_ms": {"p95": p95}} | fields


def test_overload_wants_the_served_undisturbed_and_the_others_told_at_once() -> None:
    base, told = _run(400), {"refused": 4, "refused_ms": {"p95": 90.0}}
    kept = judged(base, _run(500, **told))
    assert (kept["met"], kept["ratio"], kept["refused"]) == (True, 1.25, 4)
    assert not judged(base, _run(700, **told))["met"]
    assert not judged(base, _run(500, refused=4, refused_ms={"p95": 900.0}))["met"]
    assert not judged(base, _run(500, answered=7))["met"]
    assert judged(base, _run(500, answered=7, failed=1, refused_ms={"p95": 90.0}))["met"]


def test_a_chunk_is_found_again_in_the_audio_that_the_engine_got() -> None:
    """20 ms chunks sent at 0, 20, … ms; the turn begins at 100 ms and each chunk comes 3 ms late, 2 ms of it kept."""
    sent_s = [0.02 * k for k in range(20)]
    heard = [[[sent_s[k] + 0.003, (20 * (k + 1) - 100 - 2) * 32] for k in range(9, 20)]]
    assert upward_ms(sent_s, [100.0], heard, 20, 0) == pytest.approx([3.0] * 10)
    assert len(upward_ms(sent_s, [100.0], heard, 20, first=15)) == 5


def test_medians_go_into_results_and_leave_words_alone() -> None:
    results = [
        {"command": "bench ttfa", "mode": "manual", "a": {"p95": n}, "met": n < 4, "raw": [n]} for n in (3.0, 5.0, 1.0)
    ]
    assert medians(results) == {"command": "bench ttfa", "mode": "manual", "a": {"p95": 3.0}, "met": True, "raw": [3.0]}
    assert [each["a"]["p95"] for each in together(results)["each"]] == [3.0, 5.0, 1.0]
    assert all("raw" not in each for each in together(results)["each"])


def test_a_high_percentile_is_that_of_the_turns_of_all_runs() -> None:
    """The medians of three runs would be 20 and 21; one turn in six took 90."""
    runs = [[10.0, 11.0], [20.0, 21.0], [30.0, 90.0]]
    results = [
        {
            "runs": {
                "8": {
                    "from_speech_ms": percentiles(times),
                    "barge_in_ms": {},
                    "raw": [{"from_speech_ms": ms} for ms in [*times, None]],
                }
            }
        }
        for times in runs
    ]
    [run] = medians(results)["runs"].values()
    assert run["from_speech_ms"] == {"median": 20.5, "p90": 90.0, "p95": 90.0, "p99": 90.0}
    assert run["raw"] == results[0]["runs"]["8"]["raw"]


def test_the_scorecard_finds_what_was_reached_and_judges_it() -> None:
    results: list[dict[str, Any]] = [
        {"command": "bench load", "find": True, "holds": 13},
        {"command": "bench ttfa", "mode": "manual", "from_commit_ms": {"median": 60.0, "p99": 221.0}},
        {"command": "bench gateway", "sessions": 20, "up_ms": {"p99": 1.0}, "idle_session_kb": 300},
    ]
    card = {t.key: (value, value is not None and t.verdict(value)) for t, value in targets.scorecard(results)}
    assert card["sessions_held"] == (13, "met")
    assert card["manual_median_ms"] == (60, "aim met")
    assert card["manual_p99_ms"] == (221, "missed")
    assert card["gateway_up_p99_ms"] == (None, False)  # 20 sessions tell nothing of 200
    assert card["gateway_idle_kb"] == (300, "met")
    assert card["turn_50_ratio"] == (None, False)


# --- pictures ------------------------------------------------------------------------------------------------------


def test_ticks_are_round_and_few() -> None:
    assert drawing.ticks(0, 600) == [0, 100, 200, 300, 400, 500, 600]
    assert drawing.ticks(90, 100.5, 5) == [90, 95, 100]
    assert drawing.ticks(0, 0.3) == [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]


def test_a_waterfall_goes_without_gaps_from_the_end_of_speech_to_the_first_sound() -> None:
    turn = {
        "from_speech_ms": 300.0,
        "from_commit_ms": 100.0,
        "timings_ms": {"first_audio": 90, "heard": 5, "done": 800},
    }
    found = report.stages(turn, "from_speech_ms")
    assert [(name, end) for name, _, end in found] == [
        ("turn decided", 200),
        ("heard", 205),
        ("first audio", 290),
        ("heard at the client", 300),
    ]
    assert [begin for _, begin, _ in found] == [0, 200, 205, 290]


# --- against a server ----------------------------------------------------------------------------------------------


class SpeakingEngine(ScriptedEngine):
    """Its answers can be heard: the scripted second of silence has no first audible sample."""

    def say(self, event: Event) -> None:
        if isinstance(event, AudioDelta):
            event = AudioDelta(event.session_id, event.response_id, b"\x00\x20" * (len(event.pcm) // 2))
        super().say(event)


class FullEngine(SpeakingEngine):
    """Has no room for the fourth session: the first one looks whether there is a server, the next is alone."""

    def send(self, command: Any) -> None:
        super().send(command)
        if isinstance(command, OpenSession) and sum(isinstance(c, OpenSession) for c in self.commands) == 4:
            self.say(SessionFailed(command.session_id, "no room", "server_overloaded", fatal=True))


class RefusingEngine(SpeakingEngine):
    """Lets everybody in, and fails every response."""

    def _answer(self, request: Respond) -> None:
        self.say(ResponseDone(request.session_id, request.response_id, "failed", error="no time; try again in 2 s"))


def _measure(name: str, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit status and last line of a benchmark; it has the keys that its help promises and no others."""
    module = importlib.import_module(f"benchmarks.{name}")
    status = module.main(list(arguments))
    result: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    promised = set(module.KEYS) | set(options.EVERY_RESULT)
    assert set(result) == promised - {"hour_ms", "hour_ratio"}  # those come with `turns --hour` alone
    return status, result


@asynccontextmanager
async def _server(engine: ScriptedEngine, **config: Any) -> AsyncIterator[str]:
    async with serve(create_app(ServerConfig(**config), engine)) as port:
        yield f"ws://127.0.0.1:{port}/v1/realtime"


async def test_every_benchmark_of_conversations_measures_a_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one_turn = ["--warmup", "0", "--turns", "1"]
    saved = [str(tmp_path / name) for name in ("ttfa.json", "load.json")]
    async with _server(SpeakingEngine()) as url:

        async def measure(name: str, *arguments: str) -> tuple[int, dict[str, Any]]:
            return await asyncio.to_thread(_measure, name, capsys, *arguments)

        status, one = await measure("ttfa", "--url", url, *one_turn, "--save", saved[0])
        assert (status, one["turns"], one["answered"]) == (0, 1, 1)
        arguments = ["--url", url, *one_turn, "--mode", "server_vad", "--spread", "0.5"]
        status, many = await measure("load", *arguments, "--sessions", "1", "3", "--save", saved[1])
        assert [runs["answered"] for runs in many["runs"].values()] == [1, 3]
        _, both = await measure("compare", "--server", f"a={url}", "--server", f"b={url}", "--rounds", "1", *one_turn)
        assert set(both["ratios"]) == {"a", "b"}
    page = tmp_path / "report.html"
    status, done = await asyncio.to_thread(_measure, "report", capsys, *saved, "--out", str(page))
    assert (status, done["results"]) == (0, 2)
    text = page.read_text()
    for picture in ("Distribution of time", "against sessions", "Viability", "Waterfall", "Timeline of a session"):
        assert picture.lower() in text.lower()
    assert "http://" not in text
    assert "src=" not in text


async def test_load_by_hand_commits_every_question(capsys: pytest.CaptureFixture[str]) -> None:
    async with _server(SpeakingEngine()) as url:
        arguments = ["--url", url, "--mode", "manual", "--warmup", "0", "--turns", "2", "--sessions", "2"]
        _, found = await asyncio.to_thread(_measure, "load", capsys, *arguments, "--spread", "0")
    [run] = found["runs"].values()
    assert (run["turns"], run["answered"]) == (4, 4)
    assert run["from_commit_ms"]


@pytest.mark.parametrize(("engine", "refused"), [(FullEngine, 1), (RefusingEngine, 2)])
async def test_who_is_refused_at_the_door_or_at_the_response_is_counted(
    engine: type[ScriptedEngine], refused: int, capsys: pytest.CaptureFixture[str]
) -> None:
    async with _server(engine()) as url:
        arguments = ["--url", url, "--mode", "manual", "--warmup", "0", "--turns", "1", "--capacity", "1"]
        _, found = await asyncio.to_thread(_measure, "overload", capsys, *arguments, "--spread", "0")
    assert (found["refused"], found["unanswered"]) == (refused, 0)
    assert found["refused_ms"]["p99"] > 0


async def test_a_long_conversation_is_measured_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    async with _server(SpeakingEngine()) as url:
        status, found = await asyncio.to_thread(_measure, "turns", capsys, "--url", url, "--window", "1")
    assert (status, found["turns"], found["tokens_each"]) == (0, 50, [15] * 50)
    assert found["ratio"] == pytest.approx(found["late_ms"] / found["early_ms"], abs=0.01)


async def test_the_gateway_is_measured_with_an_engine_that_answers_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--sessions", "3", "--seconds", "7", "--warmup", "0.2"]
    _, found = await asyncio.to_thread(_measure, "gateway", capsys, *arguments)
    assert found["chunks"]["up"] > 100
    assert found["chunks"]["down"] > 10
    assert found["gateway_cpu"] > 0


async def test_no_server_and_a_refused_key_are_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert await asyncio.to_thread(carry_out, reach_status("ws://127.0.0.1:9/", None)) == 2
    assert "expected a Realtime server" in capsys.readouterr().out
    async with _server(ScriptedEngine(), api_keys=("right",)) as url:
        assert await asyncio.to_thread(carry_out, reach_status(url, "right")) == 0
        assert await asyncio.to_thread(carry_out, reach_status(url, "wrong")) == 2
    assert "--key" in capsys.readouterr().out


async def reach_status(url: str, key: str | None) -> int:
    await reach(url, key)
    return 0


# --- words ---------------------------------------------------------------------------------------------------------


def test_the_document_names_every_key() -> None:
    assert options.document() == DOCUMENT.read_text(encoding="utf-8"), "python -m benchmarks.options writes it"


@pytest.mark.parametrize("module", MEASURING, ids=lambda module: module.__name__)
def test_every_benchmark_explains_itself(module: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        module.main(["--help"])
    shown = capsys.readouterr().out
    assert shown.startswith("usage: antiphon bench")
    assert all(key in shown for key in module.KEYS)
