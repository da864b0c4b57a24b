"""When each sound begins, for voices whose synthesiser does not tell: forced alignment by the recogniser itself.

espeak-ng says which sounds a text has; the recogniser, trained so far on espeak-ng's own timings, says how likely each
is at every moment; the best path through both (Viterbi 1967) gives the times. Silence may lie between any two sounds.
"""

import functools
import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from model.audio_tokenizer import TOKEN_SAMPLES
from model.training import corpus, phones, voices
from model.training.corpus import Recording
from model.training.recordings import FRAME_SAMPLES
from model.training.tokenizer import DELAY, FRAMES_PER_TOKEN, Recogniser

_SILENCE = phones.sound_id("_")
_NEVER = -1e30
_BATCH = 25
_READER = "espeak-us"  # whose pronunciation is taken


@torch.no_grad()
def best_paths(log_probs: Tensor, frames: Tensor, sounds: list[list[int]]) -> list[list[tuple[int, int]]]:
    """Log-probabilities [B, T, sounds], of which `frames` [B] count, and the sounds of each row in order -> (first
    frame, sound) of everything in each row, silence too; nothing where there are fewer frames than sounds."""
    rows, length, _ = log_probs.shape
    counts = torch.tensor([2 * len(of_row) + 1 for of_row in sounds])
    states = torch.full((rows, max(3, int(counts.max()))), _SILENCE)  # a silence before each sound, and one at the end
    for row, of_row in enumerate(sounds):
        states[row, 1 : 2 * len(of_row) : 2] = torch.tensor(of_row, dtype=torch.long)
    number = torch.arange(states.shape[1])
    absent = number >= counts[:, None]
    emitted = log_probs.gather(2, states[:, None].expand(-1, length, -1)).masked_fill(absent[:, None], _NEVER)
    may_skip = torch.where((number % 2 == 1) & (number > 1), 0.0, _NEVER)  # over a silence that is not there
    score = emitted[:, 0].masked_fill(number > 1, _NEVER)
    came = torch.zeros(length, *states.shape, dtype=torch.int8)  # how many states back the best path came from
    last = score.clone()  # at the last frame that counts
    for t in range(1, length):
        options = torch.stack(
            [score, F.pad(score, (1, 0), value=_NEVER)[:, :-1], F.pad(score, (2, 0), value=_NEVER)[:, :-2] + may_skip]
        )
        best, back = options.max(0)
        came[t] = back
        score = best + emitted[:, t]
        last = torch.where((t < frames)[:, None], score, last)
    ends = torch.stack([counts - 2, counts - 1], 1)  # in the last sound, or in the silence behind it
    at = ends.gather(1, last.gather(1, ends.clamp(min=0)).argmax(1, keepdim=True)).squeeze(1)
    visited = torch.zeros(length, rows, dtype=torch.long)
    for t in range(length - 1, -1, -1):
        visited[t] = at
        step = came[t].gather(1, at[:, None]).squeeze(1).long()
        at = torch.where(t < frames, at - step, at)
    named = states.gather(1, visited.T).tolist()
    paths: list[list[tuple[int, int]]] = []
    for of_row, of_states, count, wanted in zip(named, visited.T.tolist(), frames.tolist(), sounds, strict=True):
        if not wanted or count < len(wanted):
            paths.append([])
            continue
        changes = (t for t in range(count) if t == 0 or of_states[t] != of_states[t - 1])
        paths.append([(t, of_row[t]) for t in changes])
    return paths


@functools.cache
def sounds_of(text: str) -> list[int]:
    """The sounds of a text, without silence."""
    named = (phones.sound_id(name) for _, name in voices.voice(_READER).speak(text, 1.0).sounds)
    return [sound for sound in named if sound not in (_SILENCE, phones.UNKNOWN_SOUND)]


@torch.inference_mode()
def sounds_in(recogniser: Recogniser, pairs: list[tuple[Recording, np.ndarray]]) -> list[tuple[tuple[int, str], ...]]:
    """The sounds of recordings of similar length; none where the text does not fit in."""
    longest = max(recording.samples for recording, _ in pairs) + (DELAY + 1) * TOKEN_SAMPLES
    wave = corpus.padded([pcm for _, pcm in pairs], longest + -longest % TOKEN_SAMPLES)
    log_mel = recogniser.tokenizer.log_mel
    mel = log_mel(wave, log_mel.initial_state(len(pairs)))[0]
    read = recogniser.read(recogniser.quantise(mel))[1].sounds[:, DELAY * FRAMES_PER_TOKEN :]
    frames = torch.tensor([-(-recording.samples // FRAME_SAMPLES) for recording, _ in pairs])
    paths = best_paths(read, frames, [sounds_of(recording.text) for recording, _ in pairs])
    return [tuple((t * FRAME_SAMPLES, phones.SOUNDS[s]) for t, s in path) for path in paths]


def _align_shard(job: tuple[Path, Recogniser]) -> None:
    index, recogniser = job
    torch.set_num_threads(1)
    pairs = list(corpus.load_shard(index))
    rows = [recording for recording, _ in pairs]
    todo = [i for i, recording in enumerate(rows) if not recording.sounds]
    todo.sort(key=lambda i: rows[i].samples)
    for first in range(0, len(todo), _BATCH):
        batch = todo[first : first + _BATCH]
        for i, sounds in zip(batch, sounds_in(recogniser, [pairs[i] for i in batch]), strict=True):
            rows[i] = replace(rows[i], sounds=sounds)
    corpus.write_index(index, rows)


def align(folder: Path, recogniser: Recogniser, processes: int) -> None:
    """Give every recording of `folder` its sounds."""
    recogniser = recogniser.eval().requires_grad_(False)
    jobs = [(index, recogniser) for index in sorted(folder.glob("*.jsonl"))]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for _ in tqdm(pool.imap_unordered(_align_shard, jobs), desc="aligning", total=len(jobs), unit="shard"):
            pass
