"""When each sound begins, for voices whose synthesiser does not tell: forced alignment by the recogniser itself.

espeak-ng says which sounds a text has; the recogniser, trained so far on espeak-ng's own timings, says how likely each
is at every moment; the best path through both (Viterbi 1967) gives the times. Silence may lie between any two sounds.
"""

import functools
import json
import multiprocessing
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from model.audio_tokenizer import TOKEN_SAMPLES
from model.training import corpus, phones, voices
from model.training.corpus import Recording
from model.training.recordings import FRAME_SAMPLES
from model.training.tokenizer import DELAY, FRAMES_PER_TOKEN, Recogniser

_SILENCE = phones.sound_id("_")
_BATCH = 25
_READER = "espeak-us"  # whose pronunciation is taken


def best_path(log_probs: NDArray[np.float32], sounds: list[int]) -> list[tuple[int, int]]:
    """Log-probabilities [frames, sounds] and the sounds in order -> (first frame, sound) of everything, silence too.

    Raises ValueError if there are fewer frames than sounds.
    """
    frames = len(log_probs)
    if frames < len(sounds):
        raise ValueError(f"expected at least {len(sounds)} frames, got {frames}")
    states = np.full(2 * len(sounds) + 1, _SILENCE)
    states[1::2] = sounds
    emitted = log_probs[:, states]  # [frames, states]
    score = np.full(len(states), -np.inf, np.float32)
    score[:2] = emitted[0, :2]
    came = np.zeros((frames, len(states)), np.int8)  # how many states back the best path came from
    is_sound = np.arange(len(states)) % 2 == 1
    for t in range(1, frames):
        options = np.full((3, len(states)), -np.inf, np.float32)
        options[0] = score
        options[1, 1:] = score[:-1]
        options[2, 2:] = np.where(is_sound[2:], score[:-2], -np.inf)  # over a silence that is not there
        came[t] = options.argmax(0)
        score = options.max(0) + emitted[t]
    state = len(states) - 1 if score[-1] > score[-2] else len(states) - 2
    path = [state]
    for t in range(frames - 1, 0, -1):
        state -= int(came[t, state])
        path.append(state)
    path.reverse()
    return [(t, int(states[s])) for t, s in enumerate(path) if t == 0 or s != path[t - 1]]


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
    read = recogniser.read(recogniser.quantise(mel))[1].sounds[:, DELAY * FRAMES_PER_TOKEN :].numpy()
    found: list[tuple[tuple[int, str], ...]] = []
    for row, (recording, _) in zip(read, pairs, strict=True):
        try:
            path = best_path(row[: -(-recording.samples // FRAME_SAMPLES)], sounds_of(recording.text))
        except ValueError:
            path = []
        found.append(tuple((t * FRAME_SAMPLES, phones.SOUNDS[s]) for t, s in path))
    return found


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
    partial = index.with_suffix(".partial")
    partial.write_text("".join(json.dumps(asdict(r)) + "\n" for r in rows))
    partial.rename(index)


def align(folder: Path, recogniser: Recogniser, processes: int) -> None:
    """Give every recording of `folder` its sounds."""
    recogniser = recogniser.eval().requires_grad_(False)
    jobs = [(index, recogniser) for index in sorted(folder.glob("*.jsonl"))]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for _ in tqdm(pool.imap_unordered(_align_shard, jobs), desc="aligning", total=len(jobs), unit="shard"):
            pass
