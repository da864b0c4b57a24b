"""Stage `corpus`: texts -> speech. Speaks every question in many voices, every answer in the one output voice.

Recordings lie in shards: `<name>.i16` (raw mono samples, one after the other) and `<name>.jsonl` (a line per
recording). A shard is complete when its `.jsonl` exists, so a killed run resumes at the first missing one.
"""

import collections
import functools
import hashlib
import itertools
import json
import multiprocessing
import pickle
import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torchaudio.functional as AF
from tqdm import tqdm

from model.training import dialogues, voices
from model.training.turns import HELDOUT, TRAIN, Dialogue

_Job = TypeVar("_Job", bound=tuple[Any, ...])
HEARD_HZ, SPOKEN_HZ = 16_000, 24_000
_SHARD_RECORDINGS = 250
_WORDNET, _SCOWL = Path("/usr/share/wordnet"), Path("/usr/share/dict/scowl")
# How often each word is heard at least: those of questions, the 4,000 commonest ones of English, 8,000 more.
_ASKED, _COMMONEST, _COMMON = 60, 8, 3
_LIST_WORDS = 6
PUNCTUATION = ".,?!;:\"'"


class OtherAmounts(ValueError):
    """A folder has recordings of other texts than those that are asked for now."""


@dataclass(frozen=True)
class Recording:
    """One utterance: what was said, by whom, and where its samples lie in the shard."""

    text: str
    voice: str
    kind: str  # question | answer | free | words
    start: int
    samples: int
    rate_hz: int
    sounds: tuple[tuple[int, str], ...] = ()
    """Where each sound begins (sample of this recording, name), where the synthesiser told."""


@dataclass(frozen=True)
class Line:
    """One utterance to be spoken."""

    text: str
    voice: str
    kind: str
    rate: float
    rate_hz: int


# --- what is said --------------------------------------------------------------------------------------------------


# The free sentences that are for measuring only, as places in the shuffled list. Of another WordNet the list is
# another: what was trained with this one must be measured with this one.
_HELDOUT_FREE, _SENTENCES = slice(29_000, 30_000), 38_676


def expect_sentences() -> None:
    """Raises `FileNotFoundError` or `ValueError` where WordNet is not there, or not the one that was trained with."""
    found = sum(len(free_sentences(split)) for split in (TRAIN, HELDOUT))
    if found != _SENTENCES:
        raise ValueError(f"expected the WordNet with {_SENTENCES} sentences under {_WORDNET}, found {found}")


def _glosses() -> Iterator[str]:
    """What WordNet says of each meaning: its definition, then examples in quotes."""
    for part in ("noun", "verb", "adj", "adv"):
        for line in (_WORDNET / f"data.{part}").read_text(encoding="latin-1").splitlines():
            yield line.partition("|")[2]


def _is_speakable(text: str) -> bool:
    return 3 <= len(text.split()) <= 12 and re.fullmatch(r"[A-Za-z' ,-]+", text) is not None


def free_sentences(split: str = TRAIN) -> list[str]:
    """English sentences outside the skills: the usage examples of WordNet, always in the same random order."""
    found: set[str] = set()
    for gloss in _glosses():
        for example in re.findall(r'"([^"]+)"', gloss):
            text = example.split(";")[0].strip(" .,")
            if _is_speakable(text):
                found.add(text[0].upper() + text[1:] + ".")
    ordered = sorted(found)
    random.Random(7).shuffle(ordered)
    heldout = ordered[_HELDOUT_FREE]
    del ordered[_HELDOUT_FREE]
    return heldout if split == HELDOUT else ordered


@functools.cache
def definitions() -> list[str]:
    """English phrases for training: WordNet's definitions without rare words, always in the same random order.

    There are twice as many as free sentences, with other words in other orders.
    """
    found: set[str] = set()
    for gloss in _glosses():
        meaning = re.sub(r"\([^)]*\)", "", gloss.split('"')[0]).split(";")[0]
        text = " ".join(meaning.split()).strip(" .,:")
        if _is_speakable(text):
            found.add(text[0].upper() + text[1:] + ".")
    words = collections.Counter(word for text in found for word in set(text.lower().strip(".").split()))
    common = [text for text in found if all(words[word] >= 4 for word in text.lower().strip(".").split())]
    ordered = sorted(set(common) - set(free_sentences(HELDOUT)))
    random.Random(7).shuffle(ordered)
    return ordered


def common_words(size: int) -> list[str]:
    """English words of one of the sizes of SCOWL, the Spell-Checker Oriented Word Lists: 10 has the commonest ones."""
    words = (_SCOWL / f"english-words.{size}").read_text(encoding="latin-1").split()
    return [word for word in words if word.isalpha()]


def word_lists(texts: list[str]) -> list[str]:
    """Words in a row, without any sense, so that beside `texts` each word is heard often enough.

    Sentences have the words that they have: of the names and countries that are asked for many were said once or twice,
    and common words not at all.
    """
    said, asked = collections.Counter[str](), dict[str, str]()
    for text in texts:
        for plain in (word.strip(PUNCTUATION) for word in text.split()):
            word = plain.lower()
            said[word] += 1
            asked[word] = min(plain, asked.get(word, plain), key=str.istitle)  # as within a sentence
    wanted = dict.fromkeys(common_words(20), _COMMON) | dict.fromkeys(common_words(10), _COMMONEST)
    wanted |= dict.fromkeys(asked, _ASKED)
    wanted.pop("", None)
    missing = [asked.get(word, word) for word, times in sorted(wanted.items()) for _ in range(times - said[word])]
    random.Random(4).shuffle(missing)
    rows = (" ".join(missing[first : first + _LIST_WORDS]) for first in range(0, len(missing), _LIST_WORDS))
    return [row[0].upper() + row[1:] + "." for row in rows]


def training_dialogues(count: int, seed: int = 1) -> list[Dialogue]:
    """Dialogues of the training split, the same ones for the same seed."""
    rng = random.Random(seed)
    return [dialogues.draw(rng, TRAIN) for _ in range(count)]


def kept_dialogues(folder: Path, count: int) -> list[Dialogue]:
    """The dialogues that were spoken into `folder`; drawn where there are none yet. Raises `OtherAmounts`.

    Later stages take them from there: new wordings in the code must not lose the recordings of the old ones.
    """
    path = folder / "dialogues.pickle"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_bytes(pickle.dumps(training_dialogues(count)))
        partial.rename(path)
    found: list[Dialogue] = pickle.loads(path.read_bytes())
    if len(found) != count:
        raise OtherAmounts(f"{path}: expected {count} dialogues, found {len(found)}: other amounts need another folder")
    if "thought" not in vars(found[0].turns[0]):
        raise OtherAmounts(f"{path}: expected turns with thoughts, found older ones: they need another folder")
    return found


def _tempo(rng: random.Random) -> float:
    return round(rng.uniform(0.85, 1.25), 2)


def heard_lines(dialogues: list[Dialogue], free_count: int) -> list[Line]:
    """Questions, free sentences and lists of words, each in a voice drawn by weight."""
    rng = random.Random(2)
    speakers = voices.of_split(TRAIN)
    weights = [v.weight for v in speakers]
    questions = [t.question for d in dialogues for t in d.turns]
    texts = [(q, "question") for q in questions]
    texts += [(s, "free") for s in free_sentences()[:free_count]]
    texts += [(w, "words") for w in word_lists(questions)]
    rng.shuffle(texts)
    return [Line(text, rng.choices(speakers, weights)[0].name, kind, _tempo(rng), HEARD_HZ) for text, kind in texts]


def spoken_lines(dialogues: list[Dialogue], free_count: int, definitions_count: int) -> list[Line]:
    """Every different answer, and English to read aloud, in the output voice at its own tempo."""
    answers = sorted({t.answer for d in dialogues for t in d.turns})
    # From the far end of the list, so that most sentences are either heard or spoken: more different texts.
    free = free_sentences()[::-1][:free_count] + definitions()[::-1][:definitions_count]
    lines = [(a, "answer") for a in answers] + [(f, "free") for f in free]
    random.Random(3).shuffle(lines)
    return [Line(text, voices.OUTPUT_VOICE, kind, 1.0, SPOKEN_HZ) for text, kind in lines]


# --- speaking it ---------------------------------------------------------------------------------------------------


def trimmed(wave: torch.Tensor, rate_hz: int, silent: float = 0.01) -> tuple[torch.Tensor, int]:
    """A wave [N] without silence, of less than a part of its peak, at both ends, but for 50 ms; peak at -3 dB. And how
    many samples were cut off before."""
    loud = torch.nonzero(wave.abs() > silent * wave.abs().max().clamp(min=1e-4)).flatten()
    if not loud.numel():
        return wave, 0
    pad = int(0.05 * rate_hz)
    first = max(0, int(loud[0]) - pad)
    wave = wave[first : int(loud[-1]) + pad]
    return wave / wave.abs().max() * 0.708, first


def speak(line: Line) -> tuple[np.ndarray, tuple[tuple[int, str], ...]]:
    """int16 samples at the line's rate, `trimmed`; and its sounds."""
    said = voices.voice(line.voice).speak(line.text, line.rate)
    whole = AF.resample(torch.from_numpy(np.ascontiguousarray(said.samples)), said.rate_hz, line.rate_hz)
    wave, first = trimmed(whole, line.rate_hz)
    sounds = tuple((round(at * line.rate_hz / said.rate_hz) - first, name) for at, name in said.sounds)
    return (wave * 32767).round().to(torch.int16).numpy(), sounds


def write_index(index: Path, recordings: Iterable[Recording]) -> None:
    """The index of a shard whose samples are there: then it is complete."""
    partial = index.with_suffix(".partial")
    partial.write_text("".join(json.dumps(asdict(recording)) + "\n" for recording in recordings))
    partial.rename(index)


def write_shard(index: Path, said: list[tuple[Recording, np.ndarray]]) -> None:
    """Recordings and their int16 samples, one after the other, wherever they started before. Raises `ValueError` where
    there are none."""
    starts = itertools.accumulate((len(pcm) for _, pcm in said), initial=0)
    np.concatenate([pcm for _, pcm in said]).tofile(index.with_suffix(".i16"))
    write_index(index, (replace(recording, start=start) for (recording, _), start in zip(said, starts, strict=False)))


def make_shards(make_one: Callable[[_Job], None], jobs: list[_Job], title: str, processes: int) -> None:
    """Call `make_one` for each job, whose first part is the file that completes a shard; those that exist are left."""
    todo = [job for job in jobs if not job[0].exists()]
    progress = tqdm(total=len(jobs), initial=len(jobs) - len(todo), desc=title, unit="shard")
    # Leaving the block ends the workers by force, which RHVoice's own thread needs.
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for _ in pool.imap_unordered(make_one, todo):
            progress.update()
    progress.close()


def _make_shard(job: tuple[Path, list[Line]]) -> None:
    index, lines = job
    torch.set_num_threads(1)
    said = []
    for line in lines:
        pcm, sounds = speak(line)
        if len(pcm) >= line.rate_hz // 5:  # else a voice that could not say it
            said.append((Recording(line.text, line.voice, line.kind, 0, len(pcm), line.rate_hz, sounds), pcm))
    write_shard(index, said)


def make(folder: Path, lines: list[Line], processes: int) -> None:
    """Speak `lines` into the shards of `folder`; shards that exist are left as they are.

    Raises `OtherAmounts` where they are of other lines.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digest, told = hashlib.sha256(repr(lines).encode()).hexdigest(), folder / "lines.sha256"
    if told.exists() and told.read_text() != digest:
        raise OtherAmounts(f"{folder}: expected the texts and voices of before: other ones need another folder")
    if not any(folder.glob("*.jsonl")):
        partial = told.with_suffix(".partial")
        partial.write_text(digest)
        partial.rename(told)
    jobs = [
        (folder / f"{first // _SHARD_RECORDINGS:05d}.jsonl", lines[first : first + _SHARD_RECORDINGS])
        for first in range(0, len(lines), _SHARD_RECORDINGS)
    ]
    make_shards(_make_shard, jobs, f"speaking {folder.name}", processes)


def joined(folder: Path) -> Path:
    """The samples of all recordings of `folder` as one file, made where it is not there yet."""
    path = folder / "joined.pcm"
    shards = [index.with_suffix(".i16") for index in sorted(folder.glob("*.jsonl"))]
    if not path.exists() or path.stat().st_size != sum(shard.stat().st_size for shard in shards):
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            for shard in shards:
                file.write(shard.read_bytes())
        partial.rename(path)
    return path


def padded(recordings: list[np.ndarray], samples: int) -> torch.Tensor:
    """int16 recordings as rows of [B, samples] in [-1, 1], silence behind."""
    wave = np.zeros((len(recordings), samples), np.int16)
    for row, pcm in enumerate(recordings):
        wave[row, : len(pcm)] = pcm
    return torch.from_numpy(wave).float() / 32768


def load_shard(index: Path) -> Iterator[tuple[Recording, np.ndarray]]:
    """The recordings of one shard, as int16 views on the mapped file."""
    pcm = np.memmap(index.with_suffix(".i16"), dtype=np.int16, mode="r")
    for row in index.read_text().splitlines():
        recording = Recording(**json.loads(row))
        yield recording, pcm[recording.start : recording.start + recording.samples]


def load(folder: Path) -> Iterator[tuple[Recording, np.ndarray]]:
    """All recordings of the complete shards of `folder`."""
    for index in sorted(folder.glob("*.jsonl")):
        yield from load_shard(index)
