"""What a turn and a dialogue are, what counts as right, and what belongs to which split.

`train` and `heldout` never share a wording: each skill's wordings are divided by position, and operands (pairs of
numbers, sentences, questions without an answer) by a hash of the operand itself.
"""

import hashlib
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from model.prompt import Tool

TRAIN, HELDOUT = "train", "heldout"
# One wording in five, and one operand in seven, is kept for measuring.
_HELDOUT_WORDING_EVERY, _HELDOUT_OPERAND_EVERY = 5, 7


@dataclass(frozen=True)
class Turn:
    """What a person says, what the model should answer, and which answers count as right."""

    skill: str
    question: str
    answer: str
    expect: str = ""
    """A regular expression that a right answer's normalised text contains; empty: the answer itself."""
    short: str = ""
    """The answer in as few words as there are, where that differs."""
    call: str = ""
    """The function call that comes before the answer, and what it gives."""
    result: str = ""
    thought: str = ""
    """What the model writes down for itself before it answers."""

    def is_right(self, answered: str) -> bool:
        """Whether `answered` counts as a right answer."""
        pattern = self.expect or re.escape(normalise(self.answer))
        return re.search(pattern, normalise(answered)) is not None


@dataclass(frozen=True)
class Dialogue:
    """Turns of one conversation, and the session's instructions."""

    turns: tuple[Turn, ...]
    instructions: str = ""
    tools: tuple[Tool, ...] = ()
    """The function tools that the instructions list."""


def normalise(text: str) -> str:
    """Lower case, words only, single spaces: the form that answers are compared in."""
    return " ".join(re.sub(r"[^a-z0-9' ]", " ", text.lower().replace("-", " ")).split())


# --- splits --------------------------------------------------------------------------------------------------------


def split_of(operand: str) -> str:
    """The split that an operand belongs to, for ever: a hash decides, not a seed."""
    digest = hashlib.sha256(operand.encode()).digest()
    return HELDOUT if digest[0] % _HELDOUT_OPERAND_EVERY == 0 else TRAIN


HELDOUT_WORDINGS: set[str] = set()
"""Every held-out wording that `wordings` has met."""


def wordings(split: str, templates: Sequence[str], more: Sequence[str] = ()) -> list[str]:
    """The wordings of one split: every fifth of `templates` is held out, and `more` are for training alone."""
    kept = templates[_HELDOUT_WORDING_EVERY - 1 :: _HELDOUT_WORDING_EVERY]
    HELDOUT_WORDINGS.update(kept)
    chosen = list(kept) if split == HELDOUT else [*(t for t in templates if t not in kept), *more]
    return chosen or list(templates[-1:])


def pattern(template: str) -> re.Pattern[str]:
    """What a normalised question matches that is worded by `template`, whatever stands in its fields."""
    marked = normalise(re.sub(r"\{\w+\}", " qqq ", template))
    return re.compile(re.escape(marked).replace("qqq", ".+"))


def operand(rng: random.Random, split: str, draw: Callable[[], str], named: Callable[[str], str] = str) -> str:
    """An operand of `split` from those that `draw` gives. `named` gives those that are one question the same name."""
    while True:
        drawn = draw()
        if split_of(named(drawn)) == split:
            return drawn


# --- numbers -------------------------------------------------------------------------------------------------------

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()


def number_words(n: int) -> str:
    """English words for -999 … 1000."""
    if n == 1000:
        return "one thousand"
    if n < 0:
        return "minus " + number_words(-n)
    if n < 20:
        return _ONES[n]
    if n < 100:
        return _TENS[n // 10] + (f"-{_ONES[n % 10]}" if n % 10 else "")
    rest = f" and {number_words(n % 100)}" if n % 100 else ""
    return f"{_ONES[n // 100]} hundred{rest}"


def number_pattern(words: str) -> str:
    """A regular expression of a number in normalised text, where it is not a part of another one."""
    number = normalise(words)
    units = "|".join(_ONES[1:10])
    return rf"(?<!ty )(?<!hundred )(?<!and )\b{number}\b(?! (?:{units}|hundred|thousand|and)\b)"


def sentence(text: str) -> str:
    """With a capital letter at the beginning."""
    return text[0].upper() + text[1:]
