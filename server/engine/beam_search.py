"""Beam search: the likeliest text that a few hypotheses find, where taking each likeliest piece goes wrong for good.

A transcript that has one wrong word goes on from it: "What do you have" is hardly followed by "add four and twenty".
Each hypothesis has a row of the KV cache, into which the beginning that the sequence gave it is copied:
for a conversation of 300 tokens that is 2.5 MB, as much as a fifth of what one step reads of the weights. It knows
which ids may come from the sequence's rule, and nothing about what they mean.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from model.cached_transformer import KVCache
from server.engine.token_interface import Allowed, TokenSequence

_HOPELESS = 2.0  # nats: what is so much less likely than the best is not followed


@dataclass(eq=False, slots=True)
class Hypothesis(TokenSequence):
    """One hypothesis: a sequence that nobody opened."""

    score: float = 0.0
    """Log-probability of what it has added."""
    allowed: Allowed | None = None
    likely: torch.Tensor | None = None
    """Log-probabilities of those ids, once it has read its newest token."""

    def consider(self, allowed: Allowed, logits: torch.Tensor) -> None:
        """What may come next, and how likely."""
        self.allowed, self.likely = allowed, torch.log_softmax(logits, 0)


class BeamSearch:
    """The search for what `sequence` says next, up to the end that its rule sees."""

    def __init__(self, sequence: TokenSequence, rows: Iterable[int], cache: KVCache, longest: int) -> None:
        """`rows` of the cache are lent to the search: as many as it follows hypotheses, beside the sequence's own.

        The sequence has been read to its end. A hypothesis ends where it is `longest` tokens long.
        """
        self.sequence, self.rows, self._longest = sequence, list(rows), longest
        self._cache, self._start = cache, len(sequence.tokens)
        self._filled = {sequence.slot}
        """Rows that hold the sequence's beginning."""
        self.hypotheses = [self._hypothesis(sequence, 0.0)]
        self._best: Hypothesis | None = None

    def _hypothesis(self, parent: TokenSequence, score: float) -> Hypothesis:
        return Hypothesis(
            parent.slot, list(parent.tokens), len(parent.tokens), rule=copy.copy(parent.rule), score=score
        )

    @property
    def has_read(self) -> bool:
        """Whether it is known of every hypothesis what may come next."""
        return all(hypothesis.likely is not None for hypothesis in self.hypotheses)

    def choose(self) -> list[int] | None:
        """Go on with the likeliest hypotheses of those that every one of them could become.

        Returns the tokens of the likeliest text once no other can become likelier; their keys and values, but for the
        last one's, are then in the sequence's row.
        """
        width = len(self.rows)
        found = []
        for hypothesis in self.hypotheses:
            assert hypothesis.allowed is not None
            assert hypothesis.likely is not None
            best = hypothesis.likely.topk(min(width + 1, len(hypothesis.likely)))  # one of them may be the end
            found += [
                (hypothesis.score + score, hypothesis, hypothesis.allowed.token(i))
                for score, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            ]
        found.sort(key=lambda one: -one[0])
        going_on: list[tuple[Hypothesis, Hypothesis]] = []
        for score, parent, token in found:
            if len(going_on) == width or score < found[0][0] - _HOPELESS:
                break
            if self._best is not None and score <= self._best.score:
                break
            child = self._hypothesis(parent, score)
            child.tokens.append(token)
            assert child.rule is not None
            if child.rule.accept(token) or len(child.tokens) >= self._longest:
                self._best = child
            else:
                going_on.append((parent, child))
        if not going_on:
            return self._finish()
        self._place(going_on)
        self.hypotheses = [child for _, child in going_on]
        return None

    def _place(self, going_on: list[tuple[Hypothesis, Hypothesis]]) -> None:
        """A row for each child: its parent's for the first, and for the others one that nobody needs any more."""
        kept = {parent.slot for parent, _ in going_on}
        if self._best is not None:
            kept.add(self._best.slot)
        free = [row for row in (self.sequence.slot, *self.rows) if row not in kept]
        taken: set[int] = set()
        for parent, child in going_on:
            if parent.slot in taken:
                child.slot = free.pop()
                self._copy(parent.slot, child.slot, len(parent.tokens))
            taken.add(child.slot)

    def _copy(self, source: int, target: int, stop: int) -> None:
        start = self._start if target in self._filled else 0
        self._filled.add(target)
        self._cache.copy(source, target, start, stop)

    def _finish(self) -> list[int]:
        best, own = self._best, self.sequence.slot
        assert best is not None
        if best.slot != own:
            self._copy(best.slot, own, len(best.tokens) - 1)
        return best.tokens[self._start :]
