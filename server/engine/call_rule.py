"""Function calls that always parse: the model writes a name and arguments, and nothing that the schemas forbid.

Constrained decoding by llguidance (https://github.com/guidance-ai/llguidance), which knows the text pieces.
"""

import functools
import json

import numpy as np
from llguidance import LLMatcher, LLTokenizer

from model.layout import TokenLayout
from model.prompt import call_grammar
from model.text_tokenizer import TextTokenizer
from server.engine.messages import Function
from server.engine.token_interface import Allowed
from server.errors import ImpossibleTools

_KEPT = 64  # compiled grammars


class CallRule:
    """The pieces of one call, up to `<end>`."""

    def __init__(self, matcher: LLMatcher, layout: TokenLayout, max_tokens: int) -> None:
        self._matcher, self._end, self._left = matcher, layout.control("<end>"), max_tokens
        self._allowed: Allowed | None = None
        """Since the newest token, once somebody has asked."""

    def allowed(self) -> Allowed:
        if self._allowed is None:
            self._allowed = self._of_grammar()
        return self._allowed

    def _of_grammar(self) -> Allowed:
        if self._matcher.is_stopped():
            return Allowed(self._end, self._end + 1)
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        first, *others = np.flatnonzero(np.unpackbits(mask, bitorder="little")).tolist()
        return Allowed(first, first + 1, tuple(others))

    def accept(self, token: int) -> bool:
        self._left -= 1
        self._allowed = None
        if token != self._end:
            self._matcher.consume_token(token)
        return token == self._end or self._left == 0


class CallGrammar:
    """Makes the rules; one for all sessions."""

    def __init__(self, text: TextTokenizer, layout: TokenLayout) -> None:
        self._layout = layout
        # A session's tools stay as they are for many answers, and compiling them takes up to ten milliseconds.
        self._matchers = functools.lru_cache(_KEPT)(self._matcher)
        self._pieces = LLTokenizer(
            text.json_without_prefix(), n_vocab=layout.text + layout.controls, eos_token=layout.control("<end>")
        )

    def rule(self, functions: tuple[Function, ...], max_tokens: int) -> CallRule:
        """Raises `ImpossibleTools` where the schemas cannot be followed together; the gateway has looked at each."""
        return CallRule(self._matchers(functions).deep_copy(), self._layout, max_tokens)

    def _matcher(self, functions: tuple[Function, ...]) -> LLMatcher:
        grammar = call_grammar((f.name, json.loads(f.parameters)) for f in functions)
        matcher = LLMatcher(self._pieces, grammar)
        if matcher.is_error():
            raise ImpossibleTools(
                f"expected tools that can be followed together: {matcher.get_error().splitlines()[0]}"
            )
        return matcher
