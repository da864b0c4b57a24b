"""What the model may say next: a transcript, an answer in text, one in interleaved text and speech, a function call."""

from model.layout import Interleaver, TokenLayout
from server.engine.token_interface import UNLIMITED, Allowed, Rule


class TextRule:
    """Text pieces up to `<end>`: transcripts and answers in text alone."""

    def __init__(self, layout: TokenLayout, max_tokens: int | None = None) -> None:
        self._end = layout.control("<end>")
        self._text = layout.text
        self._left = UNLIMITED if max_tokens is None else max_tokens

    def allowed(self) -> Allowed:
        return Allowed(0, self._text, (self._end,), run=self._left)

    def accept(self, token: int) -> bool:
        self._left -= 1
        return token == self._end or self._left == 0


class SpeechRule:
    """Text and speech in turns, as `Interleaver` says; `<end>` only once the text has ended."""

    def __init__(self, layout: TokenLayout, max_tokens: int | None = None, script: list[int] | None = None) -> None:
        """With a `script` its pieces are the text, and only the speech is the model's own."""
        self._end, self._text_end = layout.control("<end>"), layout.control("<text_end>")
        self._script = None if script is None else [*script, self._text_end]
        self._text, self._speech = layout.text, (layout.spoken_start, layout.size)
        self._order = Interleaver()
        self._left = UNLIMITED if max_tokens is None else max_tokens

    def allowed(self) -> Allowed:
        if self._order.text_ended:
            return Allowed(*self._speech, (self._end,), run=self._left)
        run = min(self._order.left, self._left)
        if self._order.kind == "speech":
            return Allowed(*self._speech, run=run)
        if self._script is not None:
            return Allowed(self._script[0], self._script[0] + 1)
        return Allowed(0, self._text, (self._text_end,), run=run)

    def accept(self, token: int) -> bool:
        self._left -= 1
        if self._script and self._order.kind == "text":
            del self._script[0]
        if token != self._end:
            self._order.advance(text_ended=token == self._text_end)
        return token == self._end or self._left == 0


class ChoiceRule:
    """First the model chooses between an answer and a function call, then the chosen one's rule holds."""

    def __init__(self, layout: TokenLayout, mode: str, answer: Rule, call: Rule, must_call: bool = False) -> None:
        self._mode, self._call_token = layout.control(mode), layout.control("<call>")
        self._answer, self._call = answer, call
        self._choice = Allowed(self._call_token, self._call_token + 1, () if must_call else (self._mode,))
        self._chosen: Rule | None = None

    def allowed(self) -> Allowed:
        return self._choice if self._chosen is None else self._chosen.allowed()

    def accept(self, token: int) -> bool:
        if self._chosen is None:
            self._chosen = self._call if token == self._call_token else self._answer
            return False
        return self._chosen.accept(token)
