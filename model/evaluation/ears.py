"""What the recogniser makes of strangers' phones, before any Transformer expects something: how well the ears hear.

The sentences are free English that training keeps for measuring, read by voices that it never hears.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from rapidfuzz.distance import Levenshtein
from tqdm import tqdm

from model.audio_tokenizer import DELAY_TOKENS, TOKEN_SAMPLES
from model.evaluation.dialogues import disturbed, strangers
from model.training import corpus, phones
from model.training.corpus import HEARD_HZ, Line, speak
from model.training.tokenizer import Recogniser
from model.training.turns import HELDOUT

_NOT_SAID = {i for i, symbol in enumerate(phones.SYMBOLS, 1) if symbol in " ,"}


def plain(ids: Iterable[int]) -> list[int]:
    """Phones without the borders of words and sentences, which nobody says."""
    return [i for i in ids if i not in _NOT_SAID]


def decoded(best: list[int]) -> list[int]:
    """The likeliest class of each frame -> phones: what CTC says once, without its blanks."""
    return [i for before, i in zip([phones.BLANK, *best], best, strict=False) if i not in (before, phones.BLANK)]


@torch.inference_mode()
def phones_of(recogniser: Recogniser, pcm: np.ndarray) -> list[int]:
    """Phones that are heard in int16 samples."""
    samples = len(pcm) + DELAY_TOKENS * TOKEN_SAMPLES
    wave = torch.from_numpy(pcm.astype(np.float32)) / 32768
    wave = F.pad(wave, (0, samples + -samples % TOKEN_SAMPLES - len(pcm)))[None]
    log_mel = recogniser.tokenizer.log_mel
    mel = log_mel(wave, log_mel.initial_state(1))[0]
    read = recogniser.read(recogniser.quantise(mel))[1].phones[0]
    return plain(decoded(read.argmax(-1).tolist()))


def phones_wrong(recogniser: Recogniser, count: int, conditions: Sequence[str]) -> dict[str, dict[str, float]]:
    """For each condition and held-out voice the edit distance between what is heard of `count` sentences and what they
    say, as a share of their phones."""
    noise = np.random.default_rng(0)
    sentences = corpus.free_sentences(HELDOUT)[:count]
    errors = {condition: dict.fromkeys(strangers(), 0) for condition in conditions}
    wanted = [plain(phones.phone_ids(text)) for text in sentences]
    with tqdm(total=count * len(strangers()), desc="phones", unit="sentence") as bar:
        for voice in strangers():
            for text, ids in zip(sentences, wanted, strict=True):
                pcm, _ = speak(Line(text, voice, "free", 1.0, HEARD_HZ))
                for condition in conditions:
                    heard = phones_of(recogniser, disturbed(pcm, condition, noise))
                    errors[condition][voice] += Levenshtein.distance(heard, ids)
                bar.update()
    said = sum(map(len, wanted))
    return {line: {voice: round(n / said, 4) for voice, n in of.items()} for line, of in errors.items()}
