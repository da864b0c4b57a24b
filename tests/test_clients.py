"""Clients: how time to first audio is counted, and that a client never pays for torch."""

import asyncio
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clients import local_server, sound, talk
from clients.keys import key_for
from clients.realtime import WIRE_HZ, RealtimeClient, RealtimeError, Turn, first_audible_ms, speech_end_ms
from server import serve


def _silence_then_tone(silence_ms: int) -> np.ndarray:
    tone = (8000 * np.sin(np.arange(WIRE_HZ // 5) * 0.1)).astype(np.int16)
    return np.concatenate([np.zeros(silence_ms * 24, dtype=np.int16), tone])


def test_leading_silence_is_not_audible() -> None:
    assert first_audible_ms(_silence_then_tone(70)) == 70
    assert first_audible_ms(np.zeros(2400, dtype=np.int16)) is None


def test_trailing_silence_is_no_speech() -> None:
    assert speech_end_ms(_silence_then_tone(0)) == 200
    assert speech_end_ms(np.concatenate([_silence_then_tone(0), np.zeros(2400, dtype=np.int16)])) == 200


def test_silence_that_plays_first_counts_as_waiting() -> None:
    turn = Turn(pcm=_silence_then_tone(70).tobytes(), speech_ended_s=1.0, committed_s=1.2, first_delta_s=1.3)
    turn.arrivals = [(1.3, 48 * 40), (1.31, 48 * 230)]
    assert turn.ttfa_from_speech_ms == pytest.approx(370)
    assert turn.ttfa_from_commit_ms == pytest.approx(170)


def test_a_chunk_that_comes_after_playback_needed_it_is_late() -> None:
    turn = Turn(arrivals=[(0.0, 4800), (0.05, 4800), (0.5, 4800)])
    assert turn.viability == pytest.approx(2 / 3)


def test_a_key_of_openai_goes_to_openai_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTIPHON_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "theirs")
    assert key_for("wss://api.openai.com/v1/realtime", None) == "theirs"
    assert key_for("ws://127.0.0.1:8000/v1/realtime", None) is None
    assert key_for("wss://api.openai.com.example.org/v1/realtime", None) is None
    monkeypatch.setenv("ANTIPHON_API_KEY", "ours")
    assert key_for("ws://127.0.0.1:8000/v1/realtime", None) == "ours"
    assert key_for("ws://127.0.0.1:8000/v1/realtime", "given") == "given"


@pytest.mark.anyio
async def test_a_server_on_this_machine_is_not_asked_for_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await asyncio.to_thread(local_server._healthy, f"http://127.0.0.1:{port}/health")
        with pytest.raises(RealtimeError, match="expected a WebSocket"):  # it was reached, and is none
            async with RealtimeClient.connect(f"ws://127.0.0.1:{port}/v1/realtime"):
                pass


def test_what_is_no_sound_is_said_before_anything_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.wav").write_text("not a sound")
    assert talk.main(["--url", "ws://127.0.0.1:1", "--file", str(tmp_path / "text.wav")]) == 1
    assert "text.wav: expected a sound file" in capsys.readouterr().err


def test_an_answer_is_kept_whatever_its_file_is_called(tmp_path: Path) -> None:
    tone = _silence_then_tone(0)
    for name in ("a.wav", "a.flac", "answer", "answer.pcm2"):
        sound.write(tmp_path / name, tone.tobytes())
        assert (
            np.array_equal(sound.read(tmp_path / name), tone)
            or np.abs(sound.read(tmp_path / name).astype(int) - tone).max() <= 1
        ), name


@pytest.mark.parametrize("arguments", [["replay", "{}/none.jsonl"], ["demo", "--url", "ws://127.0.0.1:1/v1/realtime"]])
def test_a_client_that_cannot_begin_says_why(arguments: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "server.cli", *(a.format(tmp_path) for a in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2)
    assert done.stderr.startswith(f"antiphon {arguments[0]}: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["talk", "demo"])
def test_a_client_imports_no_torch(command: str) -> None:
    code = f"import sys, clients.{command}; sys.exit('torch' in sys.modules or 'server.gateway' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "command", [[], ["serve"], ["talk"], ["demo"], ["deploy"], ["capacity"], ["bench", "ttfa"], ["bench", "load"]]
)
def test_every_command_explains_itself(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "server.cli", *command, "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "usage: antiphon" in done.stdout


def test_without_a_key_the_server_listens_on_loopback_only() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "server.cli", "serve", "--host", "0.0.0.0"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--api-key" in done.stderr


@pytest.mark.parametrize(
    "wrong", ["--slots=0", "--sessions=0", "--sessions=-1", "--length=x", "--length=100", "--record=README.md"]
)
def test_a_server_without_room_or_a_folder_to_record_into_does_not_start(
    wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        serve.main([wrong])
    assert "expected" in capsys.readouterr().err


def test_a_port_that_none_can_be_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert talk.main(["--url", "ws://127.0.0.1:80000/v1/realtime", "--file", str(sound.questions()[0])]) == 1
    assert "expected an address with a host and a port, got ws://127.0.0.1:80000" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["folder", "answer.raw", "answer.xyz"])
def test_sound_is_written_or_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    if name == "folder":
        with pytest.raises(sound.UnwritableSound, match="expected a file to write"):
            sound.write(tmp_path / name, bytes(480))
    else:
        sound.write(tmp_path / name, bytes(480))
        assert (tmp_path / name).read_bytes()[:4] == b"RIFF"


def test_the_own_server_asks_for_none_of_the_keys_that_others_must_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIPHON_API_KEYS", "secret")
    started: list[dict[str, str]] = []

    async def start(*_: str, env: dict[str, str]) -> None:
        started.append(env)
        raise OSError("enough")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)

    async def use() -> None:
        async with local_server.local_server():
            pass

    with pytest.raises(OSError, match="enough"):
        asyncio.run(use())
    assert "ANTIPHON_API_KEYS" not in started[0]
    assert started[0]["PATH"]


def test_an_address_of_another_kind_is_refused_with_the_kind_that_was_expected(
    capsys: pytest.CaptureFixture[str],
) -> None:
    question = str(sound.questions()[0])
    assert talk.main(["--url", "http://127.0.0.1:1/v1/realtime", "--file", question]) == 1
    assert "ws:// or wss://" in capsys.readouterr().err
