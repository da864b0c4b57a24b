"""Token engine on torch: continuous batching of many token sequences over the slots of one static KV cache.

Verbs over sequences (fork, append, generate, rewind, close) and `step`, which does one round of work for everybody.
It knows which ids may come next, from the rule it was given; it knows nothing about audio or conversations.
"""

from collections.abc import Iterable, Sequence

import torch

from model.cached_transformer import FEW, CachedTransformer, KVCache
from model.layout import TokenLayout
from model.transformer import SpeechTransformer
from server.engine.beam_search import BeamSearch, Hypothesis
from server.engine.engine_config import EngineConfig
from server.engine.token_interface import Allowed, Rule, Sampled, Sampling, Sequences, TokenSequence, TurnOpinion

_SEARCHES = 4  # at once, for which there are rows; whoever comes then takes the likeliest tokens until there is room
_FEW_OTHERS = 8  # ids beside a range that are worth a product each


class TorchTokenEngine(Sequences):
    """See the module, and `TokenEngine` for the verbs. Not thread-safe: one thread calls everything."""

    def __init__(self, transformer: SpeechTransformer, layout: TokenLayout, config: EngineConfig) -> None:
        super().__init__(layout, config)
        self._net = CachedTransformer(transformer, int8=config.weights == "int8")
        searches = min(_SEARCHES, config.slots) if config.hypotheses > 1 else 0
        rows = 2 * config.slots + searches * config.hypotheses  # every sequence may have a fork
        self._spare = list(range(2 * config.slots, rows))
        """Rows of the cache that no search uses now."""
        self._searches: dict[int, BeamSearch] = {}
        """By the slot of the sequence that is searched for."""
        self._cache = KVCache(transformer.config, rows, config.length)
        head = self._net.head
        self._turn_direction = head[layout.control("<end>")] - head[layout.control("<listen>")]

    def fork(self, sequence: TokenSequence, length: int) -> TokenSequence:
        fork = super().fork(sequence, length)
        self._cache.copy(sequence.slot, fork.slot, 0, fork.cached)
        return fork

    def generate(self, sequence: TokenSequence, rule: Rule, sampling: Sampling) -> None:
        """Generate from the next step on, until `rule` says it was the last token, or `stop`."""
        super().generate(sequence, rule, sampling)
        sequence.random = torch.Generator().manual_seed(sampling.seed)

    @torch.inference_mode()
    def step(self, served: Iterable[TokenSequence] | None = None) -> list[Sampled | TurnOpinion]:
        """One round for some sequences or for all: who generates gets one token, or a search goes one token further;
        who has more to read reads a piece.
        """
        ready = list(filter(self._goes_on, self._open if served is None else served))
        searched = [s for s in ready if s.slot in self._searches]
        hypotheses: list[TokenSequence] = [one for s in searched for one in self._searches[s.slot].hypotheses]
        ready = [s for s in ready if s.slot not in self._searches]
        deciding = [s for s in ready if s.rule is not None and s.pending == 1]
        # Rows of one batch are padded to the longest: who has one token to read does not wait for a whole piece.
        single = [s for s in ready if s.rule is None and s.pending == 1]
        pieces = [s for s in ready if s.pending > 1]
        choosing = [[*deciding, *hypotheses]] if len(deciding) + len(hypotheses) <= FEW else [deciding, hypotheses]
        outputs: list[Sampled | TurnOpinion] = []
        for rows in (*choosing, single, pieces):
            if rows:
                outputs += self._advance(rows)
        for search in [search for search in self._searches.values() if search.has_read]:
            outputs += self._searched(search)
        return outputs

    def _advance(self, rows: Sequence[TokenSequence]) -> list[Sampled | TurnOpinion]:
        counts = [min(s.pending, self.config.prefill_tokens) for s in rows]
        pieces = [s.tokens[s.cached : s.cached + count] for s, count in zip(rows, counts, strict=True)]
        newest = self._net.read(pieces, [s.slot for s in rows], [s.cached for s in rows], self._cache)  # [B, C]
        outputs: list[Sampled | TurnOpinion] = []
        choosing: dict[Allowed, list[int]] = {}  # rows that choose among the same ids do so together
        for i, (sequence, count) in enumerate(zip(rows, counts, strict=True)):
            sequence.cached += count
            if sequence.pending:
                continue
            if sequence.rule is not None and (allowed := sequence.rule.allowed()) is not None:
                choosing.setdefault(allowed, []).append(i)
            elif self.layout.is_heard(sequence.tokens[-1]):
                probability = float(torch.sigmoid(newest[i] @ self._turn_direction))
                outputs.append(TurnOpinion(sequence, probability, len(sequence.tokens)))
        for allowed, chosen in choosing.items():
            for i, logits in zip(chosen, self._logits(newest[chosen], allowed), strict=True):
                sequence = rows[i]
                if isinstance(sequence, Hypothesis):
                    sequence.consider(allowed, logits)
                elif 1 < sequence.sampling.hypotheses <= len(self._spare):
                    self._begin_search(sequence).consider(allowed, logits)
                else:
                    outputs.append(self._accept(sequence, self._sample(sequence, allowed, logits)))
        return outputs

    def _logits(self, hidden: torch.Tensor, allowed: Allowed) -> torch.Tensor:
        """Hidden states [B, C] -> logits of the allowed ids [B, N], in the order of `Allowed.token`."""
        if len(allowed.also) > _FEW_OTHERS:  # all of them in one product, and what lies between them
            ids = [*range(allowed.start, allowed.stop), *allowed.also]
            first = min(ids)
            return self._net.scores(hidden, first, max(ids) + 1)[:, torch.tensor(ids) - first]
        others = [self._net.scores(hidden, token, token + 1) for token in allowed.also]
        return torch.cat([self._net.scores(hidden, allowed.start, allowed.stop), *others], 1)

    def _sample(self, sequence: TokenSequence, allowed: Allowed, logits: torch.Tensor) -> int:
        """One of the allowed ids, with these logits [N]."""
        temperature = sequence.sampling.temperature(allowed, self.layout)
        if temperature == 0:
            return allowed.token(int(logits.argmax()))
        probabilities = torch.softmax(logits / temperature, 0)
        return allowed.token(int(torch.multinomial(probabilities, 1, generator=sequence.random)))

    # --- searching -------------------------------------------------------------------------------------------------

    def _begin_search(self, sequence: TokenSequence) -> Hypothesis:
        """Its first hypothesis: the sequence as it is. Without enough rows the likeliest tokens are taken instead."""
        count = sequence.sampling.hypotheses
        rows, self._spare = self._spare[:count], self._spare[count:]
        longest = self.config.length - self.config.prefill_tokens
        search = self._searches[sequence.slot] = BeamSearch(sequence, rows, self._cache, longest)
        sequence.cached -= 1  # as long as the search goes on, something is pending
        return search.hypotheses[0]

    def _searched(self, search: BeamSearch) -> list[Sampled | TurnOpinion]:
        """The whole text, once it is found."""
        sequence = search.sequence
        found = search.choose()
        if found is None:
            return []
        self._abandon(sequence)
        outputs: list[Sampled | TurnOpinion] = [self._accept(sequence, token) for token in found]
        sequence.cached = len(sequence.tokens) - 1
        return outputs

    def _abandon(self, sequence: TokenSequence) -> None:
        search = self._searches.pop(sequence.slot, None)
        if search is not None:
            self._spare += search.rows
