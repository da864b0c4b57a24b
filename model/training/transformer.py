"""Stages `text` and `transformer`: hearing, answering, reading aloud and knowing when to speak, all at once.

Codes are embedded as the sum of one learnt vector per FSQ digit and a small one of their own, so that rare codes learn
from their neighbours; on export the sums are folded into a stock embedding and output matrix.
"""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from model.audio_tokenizer import FSQ
from model.layout import TokenLayout
from model.training import phones
from model.training.run import GPU_WORKERS, Run, by_length, drawn, mixed_precision, on_gpu, rank
from model.training.sequences import GOES_ON, IS_OVER, SPEECH, TEXT, Sequences
from model.transformer import SpeechTransformer, TransformerConfig

_LEVELS = (8, 8, 8, 8)
_BATCH_TOKENS, _GPU_BATCH_TOKENS = 3200, 25_600
_MISSPOKEN = 0.4
_SPEECH_WEIGHT, _TURN_WEIGHT, _WORD_WEIGHT, _SOUND_WEIGHT = 0.35, 0.5, 0.5, 0.5


class FactoredCodes(nn.Module):
    """A table of vectors for FSQ codes: the sum of a vector per digit, and a remainder."""

    digits: Tensor

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        fsq = FSQ(_LEVELS)
        codes = torch.arange(int(torch.tensor(_LEVELS).prod()))
        digits = codes.unsqueeze(1) // fsq.weights % fsq.levels + torch.arange(len(_LEVELS)) * max(_LEVELS)
        self.register_buffer("digits", digits, persistent=False)  # [codes, D]
        self.factors = nn.Parameter(torch.randn(len(_LEVELS) * max(_LEVELS), width) * scale / 2)
        self.rest = nn.Parameter(torch.zeros(len(codes), width))

    def table(self) -> Tensor:
        """[codes, width]."""
        return F.embedding(self.digits, self.factors).sum(1) + self.rest

    @torch.no_grad()
    def become(self, table: Tensor) -> None:
        """Take the values of `table` [codes, width]: as much as possible by digit, the remainder by code."""
        ones = F.one_hot(self.digits, len(self.factors)).sum(1).float()  # [codes, digits]
        self.factors.copy_(torch.linalg.lstsq(ones, table, driver="gelsd").solution)
        self.rest.zero_()
        self.rest.copy_(table - self.table())


def misspoken(tokens: Tensor, layout: TokenLayout) -> Tensor:
    """Sequences [B, T] in which up to `_MISSPOKEN` of the spoken codes are others from the same batch.

    A code foretells the next one so well that the text is hardly asked what comes; by itself the model then goes wrong
    at its first wrong code. So it learns to go on rightly after wrong ones (Bengio et al. 2015, arXiv 1506.03099).
    """
    spoken = tokens >= layout.spoken_start
    codes = tokens[spoken]
    share = _MISSPOKEN * torch.rand(len(tokens), 1, device=tokens.device).expand(tokens.shape)[spoken]
    wrong = codes[torch.randperm(len(codes), device=tokens.device)]
    said = tokens.clone()
    said[spoken] = torch.where(torch.rand(len(codes), device=tokens.device) < share, wrong, codes)
    return said


def _ridge(x: Tensor, y: Tensor, penalty: float = 1.0) -> Tensor:
    """The linear map from x [N, F] to y [N, C], kept small."""
    solved: Tensor = torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1]), x.T @ y)
    return solved


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

    def loss(self, tokens: Tensor, targets: Tensor, hints: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """tokens, targets, hints [B, T] -> the weighted loss and its parts.

        Which positions are asked what is found out where the batch was put together: a GPU need not be waited for.
        """
        layout, device = self.layout, self.pieces.device
        said = misspoken(tokens, layout).to(device)
        hidden = self.transformer.hidden(F.embedding(said, self.embeddings()))[:, :-1].flatten(0, 1)
        following, targets, hints = tokens[:, 1:].flatten(), targets[:, :-1].flatten(), hints[:, :-1].flatten()

        def asked(where: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
            """Hidden states where something is asked, and what it is."""
            at = where.nonzero().squeeze(1)
            return hidden[at.to(device)], classes[at].to(device)

        states, wanted = asked(targets == TEXT, following)
        text_loss = F.cross_entropy(states @ self.pieces_out.T, wanted)
        loss = text_loss
        parts = {"text": text_loss}
        speech = targets == SPEECH
        if bool(speech.any()):
            end = layout.control("<end>")
            codes = torch.where(following == end, layout.spoken, following - layout.spoken_start)
            states, wanted = asked(speech, codes)
            logits = states @ torch.cat([self.spoken_out.table(), self.pieces_out[end].unsqueeze(0)]).T
            parts["speech"] = F.cross_entropy(logits, wanted)
            loss = loss + _SPEECH_WEIGHT * parts["speech"]
        for name, weight, where in (
            ("words", _WORD_WEIGHT, (hints >= 0) & (hints < layout.text)),
            ("sounds", _SOUND_WEIGHT, hints >= layout.text),
        ):
            if bool(where.any()):
                states, wanted = asked(where, hints)
                parts[name] = F.cross_entropy(states @ self.hint_out.T, wanted)
                loss = loss + weight * parts[name]
        turn = (targets == GOES_ON) | (targets == IS_OVER)
        if bool(turn.any()):
            states, wanted = asked(turn, (targets == IS_OVER).float())
            direction = self.pieces_out[layout.control("<end>")] - self.pieces_out[layout.control("<listen>")]
            parts["turn"] = F.binary_cross_entropy_with_logits(states @ direction, wanted)
            loss = loss + _TURN_WEIGHT * parts["turn"]
        return loss, parts

    @torch.no_grad()
    def export(self) -> SpeechTransformer:
        """The stock Transformer, with the code tables folded in."""
        self.transformer.model.embed_tokens.weight.copy_(self.embeddings())
        nothing = torch.zeros_like(self.heard.rest)  # heard codes are never said
        self.transformer.lm_head.weight.copy_(torch.cat([self.pieces_out, nothing, self.spoken_out.table()]))
        return self.transformer


def batches(sequences: Sequences, rng: random.Random, mix: dict[str, float], size: int) -> Iterator[tuple[Tensor, ...]]:
    """Endless batches of similar length and at most `size` tokens: tokens, targets and hints [B, T]."""
    while True:
        pool = [sequences.draw(rng, mix) for _ in range(size // 20)]
        groups = by_length([len(s.tokens) for s in pool], size)
        rng.shuffle(groups)
        for chosen in groups:
            group = [pool[i] for i in chosen]
            width = max(len(s.tokens) for s in group)
            tokens, targets, hints = (np.full((len(group), width), filler) for filler in (0, 0, -1))
            for row, sequence in enumerate(group):
                length = len(sequence.tokens)
                tokens[row, :length], targets[row, :length] = sequence.tokens, sequence.targets
                hints[row, :length] = sequence.hints
            yield torch.from_numpy(tokens), torch.from_numpy(targets), torch.from_numpy(hints)


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
    weights = {"speech": _SPEECH_WEIGHT, "turn": _TURN_WEIGHT, "words": _WORD_WEIGHT, "sounds": _SOUND_WEIGHT}
    # On a CPU, putting a batch together takes a fifth of the time of learning it: another process does so meanwhile.
    size, workers = (_GPU_BATCH_TOKENS, GPU_WORKERS) if on_gpu() else (_BATCH_TOKENS, 1)
    settings = {"mix": mix, "seed": seed, "batch_tokens": size, "weights": weights, "misspoken": _MISSPOKEN}
    matrices = [p for p in learner.transformer.model.layers.parameters() if p.ndim == 2]
    run = Run(run_folder, learner, steps, learning_rate, settings, matrices=matrices)
    start = f"{seed} {run.step} {rank()}"  # a run that goes on must not draw again what it has learnt from
    if shutil.which("g++") and not on_gpu():  # once compiled, for any length, a step takes three quarters of the time
        learner.transformer.hidden = torch.compile(learner.transformer.hidden, dynamic=True)  # type: ignore[method-assign]
    # On a CPU, over 170 tokens the fused attention takes four times as long to go backward as plain products do both
    # ways.
    attention = SDPBackend.FLASH_ATTENTION if on_gpu() else SDPBackend.MATH
    source = drawn(lambda worker: batches(sequences, random.Random(f"{start} {worker}"), mix, size), workers)
    for _ in run.steps():
        batch = next(source)
        with mixed_precision(), sdpa_kernel(attention):
            loss, parts = learner.loss(*batch)
        run.update(loss, parts)
    return learner
