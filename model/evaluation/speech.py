"""English outside the skills, heard and spoken: free text written down, text read aloud, and how the voice sounds.

The sentences are those that training keeps for measuring (`corpus.free_sentences`). The listener is Whisper-base.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torchaudio.functional as AF
from tqdm import tqdm

from model.evaluation.dialogues import until_done, word_errors
from model.training import corpus, voices
from model.training.corpus import HEARD_HZ, SPOKEN_HZ, Line, speak
from model.training.turns import HELDOUT
from server.engine.messages import AudioDelta, CloseSession, CommitTurn, Hear, OpenSession, Respond, TranscriptDone
from server.engine.speech_engine import SpeechEngine

_MAX_TOKENS = 600
_PEAK = 10 ** (-3 / 20)  # DistillMOS depends on the level


@dataclass(frozen=True)
class Spoken:
    """A text as the model said it."""

    text: str
    pcm: bytes

    def at(self, rate_hz: int) -> torch.Tensor:
        """Samples in [-1, 1]."""
        wave = torch.frombuffer(bytearray(self.pcm), dtype=torch.int16).float() / 32768
        return AF.resample(wave, SPOKEN_HZ, rate_hz)

    @property
    def babbles(self) -> bool:
        """Whether it goes on for far longer than its text takes: a calm voice needs 75 ms for a letter."""
        return len(self.pcm) / 2 / SPOKEN_HZ > 1.0 + 0.15 * len(self.text)


def transcribe(engine: SpeechEngine, count: int) -> float:
    """Word error rate of `count` free sentences, spoken by the held-out voices in turn."""
    names, errors, words = [v.name for v in voices.of_split(HELDOUT)], 0, 0
    for i, text in enumerate(tqdm(corpus.free_sentences(HELDOUT)[:count], desc="listening", unit="sentence")):
        pcm, _ = speak(Line(text, names[i % len(names)], "free", 1.0, HEARD_HZ))
        name = f"listen {i}"
        engine.receive(OpenSession(name))
        engine.receive(Hear(name, pcm.tobytes()))
        engine.receive(CommitTurn(name, "q"))
        heard = None
        while heard is None:
            heard = next((e.text for e in engine.step() if isinstance(e, TranscriptDone)), None)
        engine.receive(CloseSession(name))
        e, n = word_errors(text, heard)
        errors, words = errors + e, words + n
    return errors / max(words, 1)


def read_aloud(engine: SpeechEngine, count: int) -> list[Spoken]:
    """`count` free sentences as the model reads them."""
    said = []
    for i, text in enumerate(tqdm(corpus.free_sentences(HELDOUT)[-count:], desc="reading aloud", unit="sentence")):
        name = f"aloud {i}"
        engine.receive(OpenSession(name))
        engine.receive(Respond(name, "r", "r", max_tokens=_MAX_TOKENS, script=text))
        events, _ = until_done(engine, {name})
        engine.receive(CloseSession(name))
        said.append(Spoken(text, b"".join(e.pcm for e in events[name] if isinstance(e, AudioDelta))))
    return said


def judged(said: list[Spoken], what: str) -> float:
    """Word error rate of what Whisper-base hears against the texts, both normalised."""
    from whisper_normalizer.english import EnglishTextNormalizer

    from model.training.judge import Judge

    listener, plain, errors, words = Judge(), EnglishTextNormalizer(), 0, 0
    for one in tqdm(said, desc=f"judging {what}", unit="answer"):
        e, n = word_errors(plain(one.text), plain(listener.transcribe(one.at(HEARD_HZ).numpy())))
        errors, words = errors + e, words + n
    return errors / max(words, 1)


@torch.inference_mode()
def naturalness(said: list[Spoken]) -> float:
    """Mean opinion score from 1 to 5 as DistillMOS (Stahl and Gamper 2025, arXiv 2502.05356) estimates it."""
    import distillmos

    judge = distillmos.ConvTransformerSQAModel().eval()
    scores = []
    for one in tqdm(said, desc="naturalness", unit="answer"):
        wave = one.at(HEARD_HZ)
        scores.append(float(judge((wave / wave.abs().max().clamp(min=1e-6) * _PEAK).unsqueeze(0))))
    return float(np.mean(scores))
