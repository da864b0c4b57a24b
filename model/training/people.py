"""Recordings of people, to learn to hear them: actors in two adventure games, freeware that Debian distributes.

Nobody has written down what they say, so Whisper-base does; what it is not sure of is left out. They are for hearing
alone: no voice of theirs is learnt.
"""

import functools
import io
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numba
import numpy as np
import soundfile
import torch
import torchaudio.functional as AF
from numpy.typing import NDArray

from model.training.corpus import HEARD_HZ, Recording, make_shards, trimmed, write_shard
from model.training.judge import Judge
from model.training.voices import CACHE

FAMILY = "people"
_PACKAGES = {"sky": "beneath-a-steel-sky", "queen": "flight-of-the-amazon-queen"}
_FOLDER = CACHE / "people"
_RATE_HZ = 11_025
_SKY_SPEECH = range(50_000, 60_000)  # numbers of the files that are speech
_SILENT = 0.03  # a part of the peak: these recordings have a noise of their own
_SHORTEST_S, _LONGEST_S = 0.5, 12.0
_WINDOW_S, _GAP_S = 28.0, 0.5  # Whisper takes as long for a second as for thirty: clips are written down together
_SHARD_WINDOWS = 25  # a minute of work, and never so few clips that none is understood
_SURE, _LEAST_SURE = 0.7, 0.15  # the mean probability of the words of a clip, and that of each

_Window = list[tuple[str, NDArray[np.float32]]]
"""Clips that are written down together, and who speaks."""


def fetch() -> None:
    """Fetch the games from Debian, if they are not there yet. Raises `CalledProcessError`."""
    for name, package in _PACKAGES.items():
        target = _FOLDER / name
        if target.exists():
            continue
        _FOLDER.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_FOLDER) as scratch:
            subprocess.run(["apt-get", "download", package], cwd=scratch, check=True, capture_output=True)
            [archive] = Path(scratch).glob("*.deb")
            subprocess.run(["dpkg-deb", "-x", archive, Path(scratch) / name], check=True)
            (Path(scratch) / name).rename(target)


# --- the games' files ----------------------------------------------------------------------------------------------


@numba.njit
def _bits(packed: np.ndarray, state: np.ndarray, count: int) -> int:
    """The next bits; `state`: where the next word lies, the bits of the last one that are left, and how many."""
    while state[2] < count:
        word = np.int64(0)
        if state[0] + 1 < len(packed):
            word = np.int64(packed[state[0]]) | np.int64(packed[state[0] + 1]) << 8
        state[1] |= word << state[2]
        state[0] += 2
        state[2] += 16
    found = state[1] & ((1 << count) - 1)
    state[1] >>= count
    state[2] -= count
    return int(found)


@numba.njit
def _value(packed: np.ndarray, state: np.ndarray, lengths: np.ndarray) -> int:
    """A number in a canonical Huffman code of these lengths, and the bits behind its first one."""
    code, first, length = 0, 0, 0
    while length < 16:
        length += 1
        code = code << 1 | _bits(packed, state, 1)
        first <<= 1
        count = 0
        for symbol in range(len(lengths)):
            if lengths[symbol] == length:
                if first + count == code:
                    return symbol if symbol < 2 else 1 << (symbol - 1) | _bits(packed, state, symbol - 1)
                count += 1
        first += count
    return -1


@numba.njit
def _unpacked(packed: np.ndarray, size: int, blocks: int) -> np.ndarray:
    """What Rob Northen compression (method 1) made of `size` bytes; zeros from where the file is broken."""
    out, end = np.zeros(size, np.uint8), 0
    state = np.zeros(3, np.int64)
    _bits(packed, state, 2)
    lengths = np.zeros((3, 31), np.int64)  # of literals, of distances, of matches
    for _ in range(blocks):
        lengths[:] = 0
        for table in range(3):
            for symbol in range(_bits(packed, state, 5)):
                lengths[table, symbol] = _bits(packed, state, 4)
        runs = _bits(packed, state, 16)
        for run in range(runs):
            literals = _value(packed, state, lengths[0])
            # Literals begin at the next byte that no word has been read from; bits that are left belong before them.
            start = state[0]
            if literals < 0 or end + literals > size or start + literals > len(packed):
                return out
            out[end : end + literals] = packed[start : start + literals]
            end += literals
            state[0] += literals
            if run + 1 < runs:
                back = _value(packed, state, lengths[1]) + 1
                count = _value(packed, state, lengths[2]) + 2
                if back < 1 or back > end or end + count > size:
                    return out
                for _ in range(count):
                    out[end] = out[end - back]
                    end += 1
    return out


def _sky(folder: Path) -> Iterator[NDArray[np.float32]]:
    """The speech of *Beneath a Steel Sky*, 8 bits a sample."""
    [index_path], [path] = folder.rglob("sky.dnr"), folder.rglob("sky.dsk")
    index, disk = index_path.read_bytes(), path.read_bytes()
    for at in range(4, 4 + 8 * int.from_bytes(index[:4], "little"), 8):
        number, place, size = (int.from_bytes(index[at + a : at + b], "little") for a, b in ((0, 2), (2, 5), (5, 8)))
        if number not in _SKY_SPEECH:
            continue
        start = (place & 0x7FFFFF) * (16 if place & 0x800000 else 1)
        file = disk[start : start + (size & 0x3FFFFF)][22:]
        if file[:4] == b"RNC\1":
            unpacked = int.from_bytes(file[4:8], "big")
            samples = _unpacked(np.frombuffer(file[18:], np.uint8), unpacked, file[17])
            yield (samples.astype(np.float32) - 128) / 128


def _queen(folder: Path) -> Iterator[NDArray[np.float32]]:
    """The speech of *Flight of the Amazon Queen*, MP3."""
    [path] = folder.rglob("queen.1c")
    data = path.read_bytes()
    for entry in range(15, 15 + 21 * int.from_bytes(data[13:15], "big"), 21):
        name = data[entry : entry + 12].split(b"\0")[0].decode("latin-1")
        if name[0].isdigit() and name.endswith(".SB"):
            start, size = (int.from_bytes(data[entry + a : entry + a + 4], "big") for a in (13, 17))
            yield soundfile.read(io.BytesIO(data[start : start + size]), dtype="float32")[0]


def clips() -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The voice's name and the 16 kHz samples of everything that is said in the games, peak at -3 dB."""
    for name, read in (("sky", _sky), ("queen", _queen)):
        for samples in read(_FOLDER / name):
            if not _SHORTEST_S <= len(samples) / _RATE_HZ <= _LONGEST_S or np.abs(samples).max() < 0.02:
                continue
            wave, _ = trimmed(AF.resample(torch.from_numpy(samples), _RATE_HZ, HEARD_HZ), HEARD_HZ, _SILENT)
            yield f"{FAMILY}-{name}", wave.numpy()


# --- what is said --------------------------------------------------------------------------------------------------


def _is_english(text: str) -> bool:
    return re.fullmatch(r"[A-Z][A-Za-z' ,.!?-]*", text) is not None


def written_down(judge: Judge, waves: list[NDArray[np.float32]]) -> list[str]:
    """What is said in each of some 16 kHz clips, of `_WINDOW_S` together; empty where Whisper is not sure of it."""
    starts, parts, at = [], [], 0
    for wave in waves:
        starts.append(at / HEARD_HZ)
        parts += [wave, np.zeros(int(_GAP_S * HEARD_HZ), np.float32)]
        at += len(wave) + len(parts[-1])
    said: list[list[tuple[str, float]]] = [[] for _ in waves]
    for middle, word, probability in judge.words(np.concatenate(parts)):
        said[int(np.searchsorted(starts, middle + _GAP_S / 2, side="right")) - 1].append((word, probability))
    texts = []
    for words in said:
        sure = words and np.mean([p for _, p in words]) >= _SURE and min(p for _, p in words) >= _LEAST_SURE
        text = "".join(word for word, _ in words).strip()
        texts.append(text if sure and _is_english(text) else "")
    return texts


def _windows() -> Iterator[_Window]:
    waiting: _Window = []
    for name, wave in clips():
        together = sum(len(w) / HEARD_HZ + _GAP_S for _, w in waiting)
        if waiting and together + len(wave) / HEARD_HZ > _WINDOW_S:
            yield waiting
            waiting = []
        waiting.append((name, wave))
    if waiting:
        yield waiting


@functools.cache
def _judge() -> Judge:
    return Judge()


def _make_shard(job: tuple[Path, list[_Window]]) -> None:
    index, windows = job
    torch.set_num_threads(1)
    said = []
    for window in windows:
        texts = written_down(_judge(), [wave for _, wave in window])
        for (name, wave), text in zip(window, texts, strict=True):
            if text:
                recording = Recording(text, name, "free", 0, len(wave), HEARD_HZ)
                said.append((recording, (wave * 32767).round().astype(np.int16)))
    write_shard(index, said)


def make(folder: Path, processes: int) -> None:
    """Shards of what people say, as those of `corpus.make`, in the same folder; those that exist are left as they
    are."""
    fetch()
    folder.mkdir(parents=True, exist_ok=True)
    windows = list(_windows())
    jobs = [
        (folder / f"{FAMILY}-{first // _SHARD_WINDOWS:04d}.jsonl", windows[first : first + _SHARD_WINDOWS])
        for first in range(0, len(windows), _SHARD_WINDOWS)
    ]
    make_shards(_make_shard, jobs, "writing down people", processes)
