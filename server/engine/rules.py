"""What the model may say next: a transcript, an answer in text, one in text and speech in turns, a function call, and a
thought before an answer.
"""

from dataclasses import dataclass, field, replace

from model.layout import Interleaver, TokenLayout
from server.engine.token_interface import UNLIMITED, Allowed, Rule


class TextRule:
    """Text pieces up to `end`: transcripts, answers in text alone, thoughts."""

    def __init__(self, layout: TokenLayout, max_tokens: int | None = None, end: str = "<end>") -> None:
        self._end = layout.control(end)
        self._text = layout.text
        self._left = UNLIMITED if max_tokens is None else max_tokens

    def allowed(self) -> Allowed:
        return Allowed(0, self._text, (self._end,), run=self._left)

    def accept(self, token: int) -> bool:
        self._left -= 1
        return token == self._end or self._left == 0


@dataclass(slots=True)
class Script:
    """A text that is to be said."""

    pieces: list[int] = field(default_factory=list)
    """Those that are known and not said yet."""
    whole: bool = False
    """Whether no more will come."""


class SpeechRule:
    """Text and speech in turns, as `Interleaver` says; `<end>` only once the text has ended."""

    def __init__(self, layout: TokenLayout, max_tokens: int | None = None, script: Script | None = None) -> None:
        """With a `script` its pieces are the text, as they come, and only the speech is the model's own."""
        self._end, self._text_end = layout.control("<end>"), layout.control("<text_end>")
        self._script = script
        self._text, self._speech = layout.text, (layout.spoken_start, layout.size)
        self._order = Interleaver()
        self._left = UNLIMITED if max_tokens is None else max_tokens

    def allowed(self) -> Allowed | None:
        if self._order.text_ended:
            return Allowed(*self._speech, (self._end,), run=self._left)
        run = min(self._order.left, self._left)
        if self._order.kind == "speech":
            return Allowed(*self._speech, run=run)
        if self._script is None:
            return Allowed(0, self._text, (self._text_end,), run=run)
        if self._script.pieces:
            return Allowed(self._script.pieces[0], self._script.pieces[0] + 1)
        return Allowed(self._text_end, self._text_end + 1) if self._script.whole else None

    def accept(self, token: int) -> bool:
        self._left -= 1
        if self._script is not None and self._script.pieces and self._order.kind == "text":
            del self._script.pieces[0]
        if token != self._end:
            self._order.advance(text_ended=token == self._text_end)
        return token == self._end or self._left == 0


_LONGEST_THOUGHT = 100  # tokens: twelve steps of three numbers; nobody hears anything until it is over


class ThinkingRule:
    """An answer's rule, before which the model may write down a thought."""

    def __init__(self, layout: TokenLayout, answer: TextRule, max_tokens: int = UNLIMITED) -> None:
        self._begins = layout.control("<thought>")
        self._thought, self._answer = TextRule(layout, end="<answer>"), answer
        self._ends, self._thought_left = layout.control("<answer>"), _LONGEST_THOUGHT
        self._now: TextRule | None = None
        """None until the first token."""
        self._left = max_tokens

    def allowed(self) -> Allowed:
        if self._now is None:
            allowed = self._answer.allowed()
            return replace(allowed, also=(*allowed.also, self._begins), run=1)
        if self._now is self._thought and self._thought_left == 0:
            return Allowed(self._ends, self._ends + 1)
        allowed = self._now.allowed()
        most = min(self._left, self._thought_left) if self._now is self._thought else self._left
        return replace(allowed, run=min(allowed.run, most))

    def accept(self, token: int) -> bool:
        self._left -= 1
        over = False
        if self._now is None and token == self._begins:
            self._now = self._thought
        elif self._now is self._thought:
            self._thought_left -= 1
            if self._thought.accept(token):
                self._now = self._answer
        else:
            self._now = self._answer
            over = self._answer.accept(token)
        return over or self._left == 0


class ChoiceRule:
    """First the model chooses between an answer and a function call, then the chosen one's rule holds."""

    def __init__(
        self, layout: TokenLayout, mode: str, answer: Rule | None, call: Rule, must_call: bool = False
    ) -> None:
        """`answer` None: the choice of one is the last token."""
        self._mode, self._call_token = layout.control(mode), layout.control("<call>")
        self._answer, self._call = answer, call
        self._choice = Allowed(self._call_token, self._call_token + 1, () if must_call else (self._mode,))
        self._chosen: Rule | None = None

    def allowed(self) -> Allowed | None:
        return self._choice if self._chosen is None else self._chosen.allowed()

    def accept(self, token: int) -> bool:
        if self._chosen is None:
            self._chosen = self._call if token == self._call_token else self._answer
            return self._chosen is None
        return self._chosen.accept(token)
