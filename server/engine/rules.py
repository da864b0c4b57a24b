"""What the model may say next: a transcript, an answer in text, or an answer in interleaved text and speech."""

from model.layout import Interleaver, TokenLayout
from server.engine.token_engine import Allowed


class TextRule:
    """Text pieces up to `<end>`: transcripts and answers in text alone."""

    def __init__(self, layout: TokenLayout, max_tokens: int | None = None) -> None:
        self._end = layout.control("<end>")
        self._allowed = Allowed(0, layout.text, (self._end,))
        self._left = max_tokens
        self.complete = False

    def allowed(self) -> Allowed:
        return self._allowed

    def accept(self, token: int) -> bool:
        if self._left is not None:
            self._left -= 1
        self.complete = token == self._end
        return self.complete or self._left == 0


class SpeechRule:
    """Text and speech in turns, as `Interleaver` says; `<end>` only once the text has ended."""

    def __init__(self, layout: TokenLayout, max_tokens: int | None = None) -> None:
        self._end, self._text_end = layout.control("<end>"), layout.control("<text_end>")
        self._text = Allowed(0, layout.text, (self._text_end,))
        self._speech = Allowed(layout.spoken_start, layout.size)
        self._closing = Allowed(layout.spoken_start, layout.size, (self._end,))
        self._order = Interleaver()
        self._left = max_tokens
        self.complete = False

    def allowed(self) -> Allowed:
        if self._order.kind == "text":
            return self._text
        return self._closing if self._order.text_ended else self._speech

    def accept(self, token: int) -> bool:
        if self._left is not None:
            self._left -= 1
        if token == self._end:
            self.complete = True
        else:
            self._order.advance(text_ended=token == self._text_end)
        return self.complete or self._left == 0
