"""English outside the skills, heard and spoken: free text written down, text read aloud, and how the voice sounds.

The sentences are those that training keeps for measuring (`corpus.free_sentences`). The listener is Whisper-base.
"""

import re
from dataclasses import dataclass

import numpy as np
import torch
import torchaudio.functional as AF
from tqdm import tqdm

from model.evaluation.dialogues import MAX_TOKENS, run_until, strangers, word_error_rate
from model.training import corpus
from model.training.corpus import HEARD_HZ, SPOKEN_HZ, Line, speak
from model.training.turns import HELDOUT
from server.engine.messages import (
    AudioDelta,
    CloseSession,
    CommitTurn,
    Hear,
    OpenSession,
    Respond,
    ResponseDone,
    TranscriptDone,
)
from server.engine.speech_engine import SpeechEngine

_PEAK = 10 ** (-3 / 20)  # DistillMOS depends on the level


@dataclass(frozen=True)
class Spoken:
    """A text as the model said it."""

    text: str
    pcm: bytes

    def at(self, rate_hz: int) -> torch.Tensor:
        """Samples in [-1, 1]."""
        wave = torch.from_numpy(np.frombuffer(self.pcm, np.int16).astype(np.float32)) / 32768
        if not len(wave):  # nothing was said: a moment of silence
            return torch.zeros(rate_hz // 10)
        resampled: torch.Tensor = AF.resample(wave, SPOKEN_HZ, rate_hz)
        return resampled

    @property
    def babbles(self) -> bool:
        """Whether it goes on for far longer than its text takes: a calm voice needs 75 ms for a letter."""
        return len(self.pcm) / 2 / SPOKEN_HZ > 1.0 + 0.15 * len(self.text)


def transcribe(engine: SpeechEngine, count: int) -> float:
    """Word error rate of `count` free sentences, spoken by the held-out voices in turn."""
    names, pairs = strangers(), []
    for i, text in enumerate(tqdm(corpus.free_sentences(HELDOUT)[:count], desc="listening", unit="sentence")):
        pcm, _ = speak(Line(text, names[i % len(names)], "free", 1.0, HEARD_HZ))
        name = f"listen {i}"
        engine.receive(OpenSession(name))
        engine.receive(Hear(name, pcm.tobytes()))
        engine.receive(CommitTurn(name, "q"))
        events = run_until(engine, TranscriptDone, {name})[name]
        engine.receive(CloseSession(name))
        pairs.append((text, next(e.text for e in events if isinstance(e, TranscriptDone))))
    return word_error_rate(pairs)


def read_aloud(engine: SpeechEngine, count: int) -> list[Spoken]:
    """`count` free sentences as the model reads them."""
    said = []
    for i, text in enumerate(tqdm(corpus.free_sentences(HELDOUT)[-count:], desc="reading aloud", unit="sentence")):
        name = f"aloud {i}"
        engine.receive(OpenSession(name))
        engine.receive(Respond(name, "r", "r", max_tokens=MAX_TOKENS, script=text))
        events = run_until(engine, ResponseDone, {name})
        engine.receive(CloseSession(name))
        said.append(Spoken(text, b"".join(e.pcm for e in events[name] if isinstance(e, AudioDelta))))
    return said


class Listener:
    """Whisper-base and DistillMOS. Raises `ImportError` where the extra `eval` is not installed."""

    def __init__(self) -> None:
        import distillmos
        from whisper_normalizer.english import EnglishTextNormalizer

        from model.training.judge import Judge

        self._judge, self._plain = Judge(), EnglishTextNormalizer()
        self._opinion = distillmos.ConvTransformerSQAModel().eval()

    def words_wrong(self, said: list[Spoken], what: str) -> float:
        """Word error rate of what Whisper-base hears against the texts, both normalised."""
        return word_error_rate(
            (self._words(one.text), self._words(self._judge.transcribe(one.at(HEARD_HZ).numpy())))
            for one in tqdm(said, desc=f"judging {what}", unit="answer")
        )

    def _words(self, text: str) -> str:
        """Normalised, numbers digit by digit: of "four, nine" the normaliser makes 49 here and leaves "4, 9" there. So
        are letters: Whisper writes "S, P, R" as "SPR" at times.
        """
        spelt = re.sub(r"\b[A-Z]{2,}\b", lambda letters: " ".join(letters[0]), text)
        return re.sub(r"(?<=\d)(?=\d)", " ", self._plain(spelt))

    @torch.inference_mode()
    def naturalness(self, said: list[Spoken]) -> float:
        """Mean opinion score from 1 to 5 as DistillMOS (Stahl and Gamper 2025, arXiv 2502.05356) estimates it."""
        scores = []
        for one in tqdm(said, desc="naturalness", unit="answer"):
            wave = one.at(HEARD_HZ)
            scores.append(float(self._opinion((wave / wave.abs().max().clamp(min=1e-6) * _PEAK).unsqueeze(0))))
        return float(np.mean(scores))
