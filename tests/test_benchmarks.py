"""Benchmarks against a scripted server: they count what happened, and their pictures hold together."""

import json
from pathlib import Path

import pytest

from benchmarks import compare, load, report, ttfa
from benchmarks.conversation import Session
from benchmarks.figures import percentiles, summary
from clients.realtime import Turn
from server.config import ServerConfig
from server.gateway import create_app
from tests.scripted_engine import ScriptedEngine
from tests.test_stock_clients import CallingEngine, serve

pytestmark = pytest.mark.anyio


def test_percentiles_are_those_of_the_sorted_values() -> None:
    assert percentiles([float(n) for n in range(100, 0, -1)]) == {"median": 50.5, "p90": 91, "p95": 96, "p99": 100}
    assert percentiles([]) == {}


def test_interrupted_answers_count_for_barge_in_and_for_nothing_else() -> None:
    interrupted = Turn(interrupted=True, barge_in_ms=120.0, status="cancelled")
    figures = summary([Session([interrupted])])
    assert (figures["turns"], figures["answered"], figures["barge_in_ms"]["median"]) == (1, 1, 120.0)
    assert figures["from_commit_ms"] == {}


def test_a_generator_that_lags_is_named() -> None:
    late, in_time = Turn(send_lags_ms=[60.0] * 10), Turn(send_lags_ms=[1.0] * 10)
    assert summary([Session([late])])["generator_was_too_slow"]
    assert not summary([Session([in_time])])["generator_was_too_slow"]


def test_refused_sessions_are_counted() -> None:
    assert summary([Session([], "no place"), Session()])["refused"] == 1


def _run(kind: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    main = {"ttfa": ttfa.main, "load": load.main, "compare": compare.main, "report": report.main}[kind]
    main(arguments)
    result: dict[str, object] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return result


async def test_every_benchmark_measures_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import asyncio

    async with serve(create_app(ServerConfig(), ScriptedEngine())) as port:
        url = f"ws://127.0.0.1:{port}/v1/realtime"
        common = ["--warmup", "0", "--turns", "1"]

        def measure(kind: str, *arguments: str) -> dict[str, object]:
            return _run(kind, [*arguments, *common], capsys)

        one = await asyncio.to_thread(measure, "ttfa", "--url", url, "--save", str(tmp_path / "ttfa.json"))
        assert (one["turns"], one["answered"]) == (1, 1)
        many = await asyncio.to_thread(
            measure, "load", "--url", url, "--sessions", "1", "3", "--mode", "server_vad", "--spread", "0.5",
            "--save", str(tmp_path / "load.json"),
        )  # fmt: skip
        assert [runs["turns"] for runs in many["runs"].values()] == [1, 3]  # type: ignore[attr-defined]
        both = await asyncio.to_thread(
            measure, "compare", "--server", f"a={url}", "--server", f"b={url}", "--rounds", "1"
        )
        assert set(both["ratios"]) == {"a", "b"}  # type: ignore[call-overload]
    pytest.importorskip("matplotlib")
    page = tmp_path / "report.html"
    done = _run("report", [str(tmp_path / "ttfa.json"), str(tmp_path / "load.json"), "--out", str(page)], capsys)
    assert done["results"] == 2
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 2
    assert "http://" not in text


async def test_an_interruption_is_timed() -> None:
    from clients import sound
    from clients.realtime import RealtimeClient

    first, second, *_ = (sound.read(path) for path in sound.questions())
    async with (
        serve(create_app(ServerConfig(), CallingEngine())) as port,
        RealtimeClient.connect(f"ws://127.0.0.1:{port}/v1/realtime") as client,
    ):
        await client.update(audio={"input": {"turn_detection": {"type": "server_vad"}}})
        before, after = await client.interrupt(first, second)
    assert before.interrupted
    assert before.barge_in_ms is not None
    assert after.status == "completed"
    assert after.pcm
