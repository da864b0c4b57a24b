"""Stage 4: recordings -> codes -> training sequences for the Transformer.

A sequence is a list of token ids with, for each position, what its *next* token is: nothing to learn, text, speech, or
the question whether the turn is over. Dialogues are put together anew every time one is drawn.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchaudio.functional as AF
from tqdm import tqdm

from model.audio_tokenizer import DELAY_TOKENS, TOKEN_SAMPLES
from model.layout import TokenLayout, interleave
from model.text_tokenizer import TextTokenizer
from model.training import augment, corpus
from model.training.dialogues import Dialogue, Turn
from model.training.speaker import LEAD_CUT_SAMPLES, Speaker, latents_of
from model.training.tokenizer import Recogniser

NOTHING, TEXT, SPEECH, GOES_ON, IS_OVER = range(5)
# The turn counts as over from this many tokens after the last sound.
_OVER_AFTER_TOKENS = 3


@dataclass
class Sequence:
    """Token ids, and what is to be learnt at each: `targets[i]` is about `tokens[i + 1]`."""

    tokens: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)

    def given(self, *tokens: int) -> None:
        """Tokens that somebody else says."""
        for token in tokens:
            self.tokens.append(token)
            self.targets.append(NOTHING)

    def learnt(self, tokens: list[int], layout: TokenLayout) -> None:
        """Tokens that the model says: the position before each learns it."""
        ended = False
        for token in tokens:
            spoken = layout.is_spoken(token) or (ended and token == layout.control("<end>"))
            self.targets[-1] = SPEECH if spoken else TEXT
            ended = ended or token == layout.control("<text_end>")
            self.tokens.append(token)
            self.targets.append(NOTHING)


@torch.inference_mode()
def encode_heard(data: Path, recogniser: Recogniser, copies: int, seed: int = 5, limit: int | None = None) -> Path:
    """Heard recordings -> codes in several conditions: `heard_codes.pt`, rows of (text, kind, codes, end of speech)."""
    path = data / "heard_codes.pt"
    rng = random.Random(seed)
    torch.manual_seed(seed)
    tokenizer = recogniser.tokenizer.eval()
    rows = []
    recordings = list(corpus.load(data / "heard"))[:limit]
    for copy in range(copies):
        for recording, samples in tqdm(recordings, desc=f"hearing, pass {copy + 1}", unit="recording", mininterval=5):
            lead, tail = int(16000 * rng.uniform(0, 0.4)), int(16000 * rng.uniform(0.1, 0.8))
            pcm = torch.from_numpy(samples.astype(np.float32))[None] / 32768
            pcm = F.pad(pcm, (lead, tail))
            if copy or rng.random() < 0.4:
                pcm = augment.noise(augment.speed(pcm, rng), rng)
            end = int((pcm.shape[1] - tail) / TOKEN_SAMPLES) + 1
            codes = tokenizer.encode(F.pad(pcm, (0, DELAY_TOKENS * TOKEN_SAMPLES)))[0]
            rows.append((recording.text, recording.kind, codes.to(torch.int16), end))
    torch.save(rows, path)
    return path


@torch.inference_mode()
def encode_spoken(data: Path, speaker: Speaker) -> Path:
    """Recordings of the output voice -> codes: `spoken_codes.pt`, a list of (text, kind, codes)."""
    path = data / "spoken_codes.pt"
    recogniser = speaker.recogniser.eval()
    rows = []
    for recording, samples in tqdm(
        list(corpus.load(data / "spoken")), desc="speaking", unit="recording", mininterval=5
    ):
        pcm = torch.from_numpy(samples[LEAD_CUT_SAMPLES:].astype(np.float32))[None] / 32768
        pcm = AF.resample(pcm, corpus.SPOKEN_HZ, corpus.HEARD_HZ)
        pcm = F.pad(pcm, (0, -pcm.shape[1] % TOKEN_SAMPLES))
        codes = recogniser.tokenizer.fsq.codes(latents_of(recogniser, pcm))[0]
        rows.append((recording.text, recording.kind, codes.to(torch.int16)))
    torch.save(rows, path)
    return path


class Sequences:
    """Draws training sequences from encoded recordings."""

    def __init__(
        self, data: Path, layout: TokenLayout, text: TextTokenizer, dialogues: list[Dialogue], speak: bool
    ) -> None:
        self.layout, self.text, self.dialogues = layout, text, dialogues
        self.heard: dict[str, list[tuple[list[int], int]]] = {}
        self.free: list[str] = []
        for line, kind, codes, end in torch.load(data / "heard_codes.pt", weights_only=True):
            if kind == "free" and line not in self.heard:
                self.free.append(line)
            self.heard.setdefault(line, []).append((codes.tolist(), end))
        self.spoken: dict[str, list[int]] = {}
        self.aloud: list[str] = []
        if speak:
            for line, kind, codes in torch.load(data / "spoken_codes.pt", weights_only=True):
                self.spoken[line] = codes.tolist()
                if kind == "free":
                    self.aloud.append(line)

    def _c(self, name: str) -> int:
        return self.layout.control(name)

    def _hear(self, sequence: Sequence, line: str, rng: random.Random) -> None:
        codes, end = rng.choice(self.heard[line])
        sequence.given(self._c("<user>"))
        for i, code in enumerate(codes):
            sequence.given(self.layout.heard_start + code)
            sequence.targets[-1] = IS_OVER if i >= end + _OVER_AFTER_TOKENS else GOES_ON
        sequence.given(self._c("<end>"), self._c("<transcript>"))
        sequence.learnt([*self.text.encode(line), self._c("<end>")], self.layout)

    def _answer(self, sequence: Sequence, line: str, speak: bool) -> bool:
        pieces = self.text.encode(line)
        sequence.given(self._c("<assistant>"), self._c("<speech>" if speak else "<text>"))
        tokens = interleave(self.layout, pieces, self.spoken[line]) if speak else [*pieces, self._c("<end>")]
        if tokens is not None:
            sequence.learnt(tokens, self.layout)
        return tokens is not None

    def _turn(self, sequence: Sequence, turn: Turn, rng: random.Random, typed: float, speak: bool) -> bool:
        if turn.question not in self.heard or rng.random() < typed:
            sequence.given(self._c("<user>"), self._c("<text>"), *self.text.encode(turn.question), self._c("<end>"))
        else:
            self._hear(sequence, turn.question, rng)
        return self._answer(sequence, turn.answer, speak and turn.answer in self.spoken)

    def draw(self, rng: random.Random, mix: dict[str, float]) -> Sequence:
        """One sequence; `mix` weighs `dialogue`, `typed`, `transcribe` and `aloud`."""
        while True:
            sequence = Sequence()
            kind = rng.choices(list(mix), list(mix.values()))[0]
            whole = True
            if kind == "transcribe":
                self._hear(sequence, rng.choice(self.free), rng)
            elif kind == "aloud":
                whole = self._answer(sequence, rng.choice(self.aloud), speak=True)
            else:
                speak = bool(self.spoken) and kind == "dialogue" and rng.random() < 0.92
                for turn in rng.choice(self.dialogues).turns:
                    whole = whole and self._turn(sequence, turn, rng, 1.0 if kind == "typed" else 0.0, speak)
            if whole:
                return sequence
