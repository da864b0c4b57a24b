"""Stages `text` and `transformer`: hearing, answering, reading aloud and knowing when to speak, all at once.

Codes are embedded as the sum of one learnt vector per FSQ digit and a small one of their own, so that rare codes learn
from their neighbours; on export the sums are folded into a stock embedding and output matrix.
"""

import collections
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from model.audio_tokenizer import FSQ
from model.layout import TokenLayout
from model.training import phones
from model.training.run import Graphs, Run, drawn, mixed_precision, on_gpu, rank
from model.training.sequences import GOES_ON, IS_OVER, SPEECH, TEXT, Sequence, Sequences
from model.transformer import SpeechTransformer, TransformerConfig

_LEVELS = (8, 8, 8, 8)
_BATCH_TOKENS, _GPU_BATCH_TOKENS = 3200, 51_200
_GPU_WORKERS = 14  # processes that put batches together for one GPU
_MISSPOKEN = 0.4
# Batches have one of these widths, so that few kinds of them occur.
_LENGTHS = (32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 800, 1024)
_NOT_ASKED = -100


class Question(NamedTuple):
    """What is asked of hidden states: how much it counts, and of how many tokens in a batch it may be asked."""

    weight: float
    share: float


QUESTIONS = {
    "text": Question(1.0, 0.45),
    "speech": Question(0.35, 0.62),
    "words": Question(0.5, 0.16),
    "sounds": Question(0.5, 0.62),
    "turn": Question(0.5, 1.0),
}
# A batch of which fewer tokens are asked something counts for less there: a few answers are a poor mean.
_FEW = 0.02


class FactoredCodes(nn.Module):
    """A table of vectors for FSQ codes: the sum of a vector per digit, and a remainder."""

    has: Tensor

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        fsq = FSQ(_LEVELS)
        codes = torch.arange(int(torch.tensor(_LEVELS).prod()))
        digits = codes.unsqueeze(1) // fsq.weights % fsq.levels + torch.arange(len(_LEVELS)) * max(_LEVELS)
        has = F.one_hot(digits, len(_LEVELS) * max(_LEVELS)).sum(1).float()
        self.register_buffer("has", has, persistent=False)  # [codes, digits]: ones and zeros
        self.factors = nn.Parameter(torch.randn(len(_LEVELS) * max(_LEVELS), width) * scale / 2)
        self.rest = nn.Parameter(torch.zeros(len(codes), width))

    def table(self) -> Tensor:
        """[codes, width]."""
        return self.has @ self.factors + self.rest

    @torch.no_grad()
    def become(self, table: Tensor) -> None:
        """Take the values of `table` [codes, width]: as much as possible by digit, the remainder by code."""
        self.factors.copy_(torch.linalg.lstsq(self.has, table, driver="gelsd").solution)
        self.rest.zero_()
        self.rest.copy_(table - self.table())


def misspoken(tokens: np.ndarray, layout: TokenLayout, rng: np.random.Generator) -> np.ndarray:
    """Sequences [B, T] in which up to `_MISSPOKEN` of the spoken codes are others from the same batch.

    A code foretells the next one so well that the text is hardly asked what comes; by itself the model then goes wrong
    at its first wrong code. So it learns to go on rightly after wrong ones (Bengio et al. 2015, arXiv 1506.03099).
    """
    spoken = tokens >= layout.spoken_start
    codes = tokens[spoken]
    share = np.broadcast_to(_MISSPOKEN * rng.random((len(tokens), 1)), tokens.shape)[spoken]
    said = tokens.copy()
    said[spoken] = np.where(rng.random(len(codes)) < share, rng.permutation(codes), codes)
    return said


def _ridge(x: Tensor, y: Tensor, penalty: float = 1.0) -> Tensor:
    """The linear map from x [N, F] to y [N, C], kept small."""
    solved: Tensor = torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1]), x.T @ y)
    return solved


# Rows and width of a batch, and of how many tokens each of the questions is asked.
Kind = tuple[int, ...]


class Learner(nn.Module):
    """The Transformer with factored code tables.

    `heard_prior` [codes, F] says what is known of each heard code already: the phones that the recogniser reads from
    it. A linear map of it is part of the code's embedding, so that the Transformer need not find out by itself.
    """

    heard_prior: Tensor

    def __init__(self, config: TransformerConfig, layout: TokenLayout, heard_prior: Tensor | None = None) -> None:
        super().__init__()
        self.layout = layout
        self.transformer = SpeechTransformer(config)
        for name, parameter in self.transformer.named_parameters():
            if parameter.ndim == 2:
                scale = 0.02 if "embed" in name or "lm_head" in name else parameter.shape[1] ** -0.5
                if "o_proj" in name or "down_proj" in name:
                    scale /= (2 * config.num_hidden_layers) ** 0.5
                nn.init.normal_(parameter, 0.0, scale)
        width = config.hidden_size
        self.heard, self.spoken = FactoredCodes(width, 0.02), FactoredCodes(width, 0.02)
        self.spoken_out = FactoredCodes(width, 0.02)
        prior = torch.zeros(layout.heard, 1) if heard_prior is None else heard_prior
        self.register_buffer("heard_prior", prior)
        self.from_prior = nn.Parameter(torch.randn(prior.shape[1], width) * 0.05)
        # The code ranges of the stock matrices are written on export only.
        self.transformer.model.embed_tokens.weight.requires_grad_(False)
        self.transformer.lm_head.weight.requires_grad_(False)
        self.pieces = nn.Parameter(torch.randn(layout.heard_start, width) * 0.02)
        # At the code with which a word has been heard, the word is asked for: so the Transformer learns early where in
        # the sound its transcript is. Before each spoken code the sound that it makes is asked for: so it learns where
        # in the text its speech is. Not part of the model that is exported.
        self.hint_out = nn.Parameter(torch.randn(layout.text + len(phones.SOUNDS), width) * 0.02)
        self.pieces_out = nn.Parameter(torch.randn(layout.heard_start, width) * 0.02)

    def begin_with(self, other: "Learner") -> None:
        """Take over what another run has learnt, but for the heard codes, which mean something else there."""
        weights = {k: v for k, v in other.state_dict().items() if not k.startswith(("heard", "from_prior"))}
        self.load_state_dict(weights, strict=False)

    def read(self, transformer: SpeechTransformer, spoken: bool, heard_prior: Tensor | None = None) -> None:
        """Take over what a finished model knows of language and, if its codes mean the same here, of speaking.

        `heard_prior` is that of its heard codes. As much as possible of their embeddings is explained by it, so that
        other codes for the same sounds begin with the same embeddings.
        """
        weights = {k: v for k, v in transformer.state_dict().items() if "embed" not in k and "lm_head" not in k}
        self.transformer.load_state_dict(weights, strict=False)
        table, pieces = transformer.model.embed_tokens.weight.detach(), len(self.pieces)
        with torch.no_grad():
            self.pieces.copy_(table[:pieces])
            self.pieces_out.copy_(transformer.lm_head.weight[:pieces])
            if spoken:
                self.spoken.become(table[self.layout.spoken_start :])
                self.spoken_out.become(transformer.lm_head.weight[self.layout.spoken_start :])
            if heard_prior is not None:
                heard = table[self.layout.heard_start : self.layout.spoken_start]
                self.from_prior.copy_(_ridge(heard_prior, heard))
                self.heard.become(heard - heard_prior @ self.from_prior)

    def embeddings(self) -> Tensor:
        heard = self.heard.table() + self.heard_prior @ self.from_prior
        return torch.cat([self.pieces, heard, self.spoken.table()])  # [V, C]

    def loss(self, kind: Kind, numbers: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """One of `batches` -> the weighted loss and its parts."""
        rows, width, *asked = kind
        said, *pairs = numbers.long().split([rows * width, *(n for count in asked for n in (count, count))])
        embedded = self.embeddings().index_select(0, said).view(rows, width, -1)
        hidden = self.transformer.hidden(embedded).flatten(0, 1)
        end, listen = (self.pieces_out[self.layout.control(name)].unsqueeze(0) for name in ("<end>", "<listen>"))
        classes = {
            "text": self.pieces_out,
            "speech": torch.cat([self.spoken_out.table(), end]),
            "words": self.hint_out,
            "sounds": self.hint_out,
            "turn": end - listen,
        }
        loss, parts = torch.zeros(()), {}
        for (name, question), places, wanted in zip(QUESTIONS.items(), pairs[::2], pairs[1::2], strict=True):
            states = hidden.index_select(0, places)
            known = wanted != _NOT_ASKED
            if name == "turn":
                score = (states @ classes[name].T).squeeze(1).float()
                losses = F.binary_cross_entropy_with_logits(score, wanted.float(), reduction="none")
                total = losses.masked_fill(~known, 0.0).sum()
            else:
                scores = (states @ classes[name].T).float()
                total = F.cross_entropy(scores, wanted, ignore_index=_NOT_ASKED, reduction="sum")
            parts[name] = total / known.sum().clamp(min=1)
            enough = (known.sum() / (_FEW * rows * width)).clamp(max=1.0)
            loss = loss + question.weight * enough * parts[name]
        return loss, parts

    @torch.no_grad()
    def export(self) -> SpeechTransformer:
        """The stock Transformer, with the code tables folded in."""
        self.transformer.model.embed_tokens.weight.copy_(self.embeddings())
        nothing = torch.zeros_like(self.heard.rest)  # heard codes are never said
        self.transformer.lm_head.weight.copy_(torch.cat([self.pieces_out, nothing, self.spoken_out.table()]))
        return self.transformer


def _asked(group: list[Sequence], width: int, layout: TokenLayout) -> tuple[np.ndarray, list[np.ndarray]]:
    """Tokens [B, T], and the wanted class at each of them for each of the questions [B T]."""
    tokens, targets, hints = (np.full((len(group), width), filler) for filler in (0, 0, -1))
    for row, sequence in enumerate(group):
        length = len(sequence.tokens)
        tokens[row, :length], targets[row, :length] = sequence.tokens, sequence.targets
        hints[row, :length] = sequence.hints
    following = np.roll(tokens, -1, 1)
    codes = np.where(following == layout.control("<end>"), layout.spoken, following - layout.spoken_start)
    word = (hints >= 0) & (hints < layout.text)
    turn = (targets == GOES_ON) | (targets == IS_OVER)
    wanted = {
        "text": np.where(targets == TEXT, following, _NOT_ASKED),
        "speech": np.where(targets == SPEECH, codes, _NOT_ASKED),
        "words": np.where(word, hints, _NOT_ASKED),
        "sounds": np.where(hints >= layout.text, hints, _NOT_ASKED),
        "turn": np.where(turn, targets == IS_OVER, _NOT_ASKED),
    }
    return tokens, [wanted[name].ravel() for name in QUESTIONS]


def batches(
    sequences: Sequences, seed: str, mix: dict[str, float], size: int, fixed: bool = False
) -> Iterator[tuple[Kind, Tensor]]:
    """Endless batches of `size` tokens: those said, and for each question the places where it is asked and the classes
    wanted there, all of them int32 in one dimension.

    `fixed`: room for the most places that a question is asked at, so that there is one kind for each width; what is
    beyond is left out. So are sequences longer than the widest.
    """
    rng, noise = random.Random(seed), np.random.default_rng(list(seed.encode()))
    waiting: dict[int, list[Sequence]] = collections.defaultdict(list)
    while True:
        sequence = sequences.draw(rng, mix)
        width = next((n for n in _LENGTHS if n >= len(sequence.tokens)), None)
        if width is None:
            continue
        waiting[width].append(sequence)
        rows = max(2, size // width)
        if len(waiting[width]) < rows:
            continue
        tokens, asked = _asked(waiting.pop(width), width, sequences.layout)
        parts, counts = [misspoken(tokens, sequences.layout, noise).ravel()], []
        for question, wanted in zip(QUESTIONS.values(), asked, strict=True):
            places, room = np.flatnonzero(wanted != _NOT_ASKED), int(question.share * wanted.size)
            if len(places) > room:
                places = np.sort(noise.choice(places, room, replace=False))
            counts.append(room if fixed else len(places))
            empty = counts[-1] - len(places)
            parts += [np.pad(places, (0, empty)), np.pad(wanted[places], (0, empty), constant_values=_NOT_ASKED)]
        yield (rows, width, *counts), torch.from_numpy(np.concatenate(parts).astype(np.int32))


def train(
    run_folder: Path,
    learner: Learner,
    sequences: Sequences,
    mix: dict[str, float],
    steps: int,
    learning_rate: float,
    seed: int = 0,
) -> Learner:
    """Train `learner` for `steps` batches of `mix`."""
    torch.manual_seed(1000 * seed + rank())
    # On a CPU, putting a batch together takes a fifth of the time of learning it: another process does so meanwhile.
    size, workers = (_GPU_BATCH_TOKENS, _GPU_WORKERS) if on_gpu() else (_BATCH_TOKENS, 1)
    weights = {name: question.weight for name, question in QUESTIONS.items()}
    settings = {"mix": mix, "seed": seed, "batch_tokens": size, "weights": weights, "misspoken": _MISSPOKEN}
    matrices = [p for p in learner.transformer.model.layers.parameters() if p.ndim == 2]
    run = Run(run_folder, learner, steps, learning_rate, settings, matrices=matrices)
    start, fixed = f"{seed} {run.step} {rank()}", on_gpu()  # a run that goes on must not draw again what it has learnt
    if shutil.which("g++") and not on_gpu():  # once compiled, for any length, a step takes three quarters of the time
        learner.transformer.hidden = torch.compile(learner.transformer.hidden, dynamic=True)  # type: ignore[method-assign]
    # On a CPU, over 170 tokens the fused attention takes four times as long to go backward as plain products do both
    # ways.
    attention = SDPBackend.FLASH_ATTENTION if on_gpu() else SDPBackend.MATH

    def learnt(kind: Kind, numbers: Tensor) -> Tensor:
        with mixed_precision(), sdpa_kernel(attention):
            loss, parts = learner.loss(kind, numbers)
        return run.learn(loss, parts)

    step = Graphs(learnt)
    source = drawn(lambda worker: batches(sequences, f"{start} {worker}", mix, size, fixed), workers)
    for _ in run.steps():
        run.count(step(*next(source)))
    return learner
