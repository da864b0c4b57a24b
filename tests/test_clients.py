"""Clients: how time to first audio is counted, and that a client never pays for torch."""

import subprocess
import sys

import numpy as np
import pytest

from clients.realtime import WIRE_HZ, Turn, first_audible_ms, speech_end_ms


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
