"""Token engine on torch: continuous batching of many token sequences over the slots of one static KV cache.

Four verbs over sequences (append, generate, rewind, close) and `step`, which does one round of work for everybody.
It knows which ids may come next, from the rule it was given; it knows nothing about audio or conversations.
"""

from collections.abc import Iterable

import torch

from model.cached_transformer import CachedTransformer, KVCache
from model.layout import TokenLayout
from model.transformer import SpeechTransformer
from server.engine.engine_config import EngineConfig
from server.engine.token_interface import Allowed, Rule, Sampled, Sampling, Sequences, TokenSequence, TurnOpinion

_FEW_OTHERS = 8  # ids beside a range that are worth a product each


class TorchTokenEngine(Sequences):
    """See the module, and `TokenEngine` for the verbs. Not thread-safe: one thread calls everything."""

    def __init__(self, transformer: SpeechTransformer, layout: TokenLayout, config: EngineConfig) -> None:
        super().__init__(layout, config)
        self._net = CachedTransformer(transformer, int8=config.weights == "int8")
        self._cache = KVCache(transformer.config, config.slots, config.length)
        head = self._net.head
        self._turn_direction = head[layout.control("<end>")] - head[layout.control("<listen>")]

    def generate(self, sequence: TokenSequence, rule: Rule, sampling: Sampling) -> None:
        """Generate from the next step on, until `rule` says it was the last token, or `stop`."""
        sequence.rule, sequence.sampling = rule, sampling
        sequence.random = torch.Generator().manual_seed(sampling.seed)

    @property
    def has_work(self) -> bool:
        return any(s.pending for s in self._open)

    @torch.inference_mode()
    def step(self, served: Iterable[TokenSequence] | None = None) -> list[Sampled | TurnOpinion]:
        """One round for some sequences or for all: who generates gets one token, who has more to read reads a piece."""
        ready = [s for s in (self._open if served is None else served) if s.pending]
        deciding = [s for s in ready if s.rule is not None and s.pending == 1]
        # Rows of one batch are padded to the longest: who has one token to read does not wait for a whole piece.
        single = [s for s in ready if s.rule is None and s.pending == 1]
        pieces = [s for s in ready if s.pending > 1]
        outputs: list[Sampled | TurnOpinion] = []
        for rows in (deciding, single, pieces):
            if rows:
                outputs += self._advance(rows)
        return outputs

    def _advance(self, rows: list[TokenSequence]) -> list[Sampled | TurnOpinion]:
        counts = [min(s.pending, self.config.prefill_tokens) for s in rows]
        pieces = [s.tokens[s.cached : s.cached + count] for s, count in zip(rows, counts, strict=True)]
        newest = self._net.read(pieces, [s.slot for s in rows], [s.cached for s in rows], self._cache)  # [B, C]
        outputs: list[Sampled | TurnOpinion] = []
        choosing: dict[Allowed, list[int]] = {}  # rows that choose among the same ids do so together
        for i, (sequence, count) in enumerate(zip(rows, counts, strict=True)):
            sequence.cached += count
            if sequence.pending:
                continue
            if sequence.rule is not None:
                choosing.setdefault(sequence.rule.allowed(), []).append(i)
            elif self.layout.is_heard(sequence.tokens[-1]):
                probability = float(torch.sigmoid(newest[i] @ self._turn_direction))
                outputs.append(TurnOpinion(sequence, probability, len(sequence.tokens)))
        for allowed, chosen in choosing.items():
            for i, token in zip(chosen, self._sample(newest[chosen], [rows[i] for i in chosen], allowed), strict=True):
                outputs.append(self._accept(rows[i], token))
        return outputs

    def _sample(self, hidden: torch.Tensor, sequences: list[TokenSequence], allowed: Allowed) -> list[int]:
        """One of the allowed ids for each row of hidden states [B, C]."""
        if len(allowed.also) > _FEW_OTHERS:  # all of them in one product, and what lies between them
            ids = [*range(allowed.start, allowed.stop), *allowed.also]
            first = min(ids)
            logits = self._net.scores(hidden, first, max(ids) + 1)[:, torch.tensor(ids) - first]
        else:
            others = [self._net.scores(hidden, token, token + 1) for token in allowed.also]
            logits = torch.cat([self._net.scores(hidden, allowed.start, allowed.stop), *others], 1)
        chosen = logits.argmax(1).tolist()
        for i, sequence in enumerate(sequences):
            temperature = sequence.sampling.temperature(allowed, self.layout)
            if temperature > 0:
                probabilities = torch.softmax(logits[i] / temperature, 0)
                chosen[i] = int(torch.multinomial(probabilities, 1, generator=sequence.random))
        span = allowed.stop - allowed.start
        return [allowed.start + c if c < span else allowed.also[c - span] for c in chosen]
