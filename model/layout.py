"""The one vocabulary and the one sequence: which token ids mean what, and in which order they may come.

    <system> text <end> <user> h h h … <end> <transcript> t t <end> <assistant> <speech> t t t t s×8 t t t s×8 … <end>
    … <assistant> <call> name {"argument": 1} <end> <result> text <end> <assistant> <speech> …
    … <assistant> <text> <thought> t t t <answer> t t t <end>

A thought is what the model writes down for itself before it answers: nobody reads or hears it. What is said aloud was
written down before, as an answer in text whose place the speech then takes.

Text pieces come first, then control tokens, heard codes and spoken codes. Pure data and arithmetic; no torch.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

# Text runs ahead of the speech it is spoken as: so many pieces before the first code, then so many per run of codes.
FIRST_TEXT_RUN, TEXT_RUN, SPEECH_RUN = 4, 3, 8
CONTROLS = (
    "<system>",
    "<user>",
    "<assistant>",
    "<transcript>",
    "<speech>",
    "<text>",
    "<end>",
    "<text_end>",
    "<listen>",
    "<call>",
    "<result>",
    "<thought>",
    "<answer>",
)


@dataclass(frozen=True)
class TokenLayout:
    """Where each kind of token lies in the vocabulary."""

    text: int = 2048
    controls: int = 16
    heard: int = 4096
    spoken: int = 4096

    @property
    def size(self) -> int:
        return self.text + self.controls + self.heard + self.spoken

    @property
    def heard_start(self) -> int:
        return self.text + self.controls

    @property
    def spoken_start(self) -> int:
        return self.heard_start + self.heard

    def control(self, name: str) -> int:
        """The id of a control token such as `<end>`."""
        return self.text + CONTROLS.index(name)

    def is_spoken(self, token: int) -> bool:
        return self.spoken_start <= token < self.size

    def is_heard(self, token: int) -> bool:
        return self.heard_start <= token < self.spoken_start

    def is_text(self, token: int) -> bool:
        return 0 <= token < self.text

    def to_json(self) -> dict[str, int]:
        return asdict(self)


class Interleaver:
    """Says of which kind the next token of a spoken answer must be: `text` or `speech`.

    Once the text has ended, everything up to `<end>` is speech.
    """

    def __init__(self) -> None:
        self.text_ended = False
        self._run = FIRST_TEXT_RUN
        self._kind = "text"

    @property
    def kind(self) -> str:
        return self._kind

    @property
    def left(self) -> int:
        """How many tokens of this kind are still to come in a row, while the text goes on."""
        return self._run

    def advance(self, text_ended: bool = False) -> None:
        """Count the token that was just added; `text_ended` where it was `<text_end>`."""
        if self.text_ended:
            return
        if text_ended:
            self.text_ended, self._kind = True, "speech"
            return
        self._run -= 1
        if self._run == 0:
            self._kind = "speech" if self._kind == "text" else "text"
            self._run = SPEECH_RUN if self._kind == "speech" else TEXT_RUN


def most_text(tokens: int) -> int:
    """How many of the first `tokens` of a spoken answer are text."""
    runs, rest = divmod(tokens - FIRST_TEXT_RUN, SPEECH_RUN + TEXT_RUN)
    return min(tokens, FIRST_TEXT_RUN + TEXT_RUN * runs + max(0, rest - SPEECH_RUN))


def interleave(layout: TokenLayout, text: Sequence[int], codes: Sequence[int]) -> list[int] | None:
    """Text ids and spoken codes (0-based) as one answer with its `<end>`; None if the speech is too short."""
    tokens: list[int] = []
    order = Interleaver()
    pieces, sounds = [*text, layout.control("<text_end>")], list(codes)
    t = s = 0
    while t < len(pieces) or s < len(sounds):
        if order.kind == "text":
            tokens.append(pieces[t])
            t += 1
            order.advance(text_ended=t == len(pieces))
        else:
            if s == len(sounds):
                return None
            tokens.append(layout.spoken_start + sounds[s])
            s += 1
            order.advance()
    return [*tokens, layout.control("<end>")]
