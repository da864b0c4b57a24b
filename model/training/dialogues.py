"""Texts of the dialogues that the model learns from and is measured on: who says what, and what counts as right.

A dialogue is drawn from one split. `train` and `heldout` never share a wording: each skill's wordings are divided
by position, and operands (pairs of numbers, sentences, questions without an answer) by a hash of the operand itself.
This module knows nothing about audio.
"""

import hashlib
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from model.training.facts import CAPITALS, DAYS, MONTHS, NAMES, OPPOSITES, SENTENCES, SPELLED, UNKNOWABLE

TRAIN, HELDOUT = "train", "heldout"
SPLITS = (TRAIN, HELDOUT)
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

    def is_right(self, answered: str) -> bool:
        """Whether `answered` counts as a right answer."""
        pattern = self.expect or re.escape(normalise(self.answer))
        return re.search(pattern, normalise(answered)) is not None


@dataclass(frozen=True)
class Dialogue:
    """Turns of one conversation."""

    turns: tuple[Turn, ...]
    instructions: str = field(default="")


def normalise(text: str) -> str:
    """Lower case, words only, single spaces: the form that answers are compared in."""
    return " ".join(re.sub(r"[^a-z0-9' ]", " ", text.lower().replace("-", " ")).split())


# --- splits --------------------------------------------------------------------------------------------------------


def split_of(operand: str) -> str:
    """The split that an operand belongs to, for ever: a hash decides, not a seed."""
    digest = hashlib.sha256(operand.encode()).digest()
    return HELDOUT if digest[0] % _HELDOUT_OPERAND_EVERY == 0 else TRAIN


def wordings(split: str, templates: Sequence[str]) -> list[str]:
    """The wordings of one split: every fifth is held out."""
    chosen = [
        t
        for i, t in enumerate(templates)
        if (i % _HELDOUT_WORDING_EVERY == _HELDOUT_WORDING_EVERY - 1) == (split == HELDOUT)
    ]
    return chosen or list(templates[-1:])


def _operand(rng: random.Random, split: str, draw: Callable[[], str]) -> str:
    while True:
        operand = draw()
        if split_of(operand) == split:
            return operand


# --- numbers -------------------------------------------------------------------------------------------------------

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()


def number_words(n: int) -> str:
    """English words for -999 … 999."""
    if n < 0:
        return "minus " + number_words(-n)
    if n < 20:
        return _ONES[n]
    if n < 100:
        return _TENS[n // 10] + (f"-{_ONES[n % 10]}" if n % 10 else "")
    rest = f" and {number_words(n % 100)}" if n % 100 else ""
    return f"{_ONES[n // 100]} hundred{rest}"


# --- skills --------------------------------------------------------------------------------------------------------

_ASK = (
    "What is {x}?", "What's {x}?", "Tell me {x}.", "Can you tell me {x}?", "Could you tell me {x}?", "Do you know {x}?",
    "Please tell me {x}.", "I'd like to know {x}.", "Hey, what is {x}?", "So, what's {x}?",
)  # fmt: skip


def _sums(rng: random.Random, split: str) -> Turn:
    a, b = map(int, _operand(rng, split, lambda: f"{rng.randint(0, 20)}+{rng.randint(0, 20)}").split("+"))
    x = f"{number_words(a)} plus {number_words(b)}"
    templates = (
        *_ASK, "How much is {x}?", "{x}?", "Add {a} and {b}.", "Please add {a} and {b}.", "What do you get if you add {a} and {b}?",
        "What is the sum of {a} and {b}?", "Calculate {x}.", "What does {x} make?", "How much are {a} and {b}?", "{x} is what?",
    )  # fmt: skip
    question = rng.choice(wordings(split, templates)).format(x=x, a=number_words(a), b=number_words(b))
    total = number_words(a + b)
    return Turn("sums", _sentence(question), _sentence(f"{x} is {total}."), rf"\b{normalise(total)}$")


def _products(rng: random.Random, split: str) -> Turn:
    a, b = map(int, _operand(rng, split, lambda: f"{rng.randint(1, 10)}*{rng.randint(1, 10)}").split("*"))
    x = f"{number_words(a)} times {number_words(b)}"
    templates = (
        *_ASK, "How much is {x}?", "{x}?", "Multiply {a} by {b}.", "Please multiply {a} by {b}.", "What do you get if you multiply {a} by {b}?",
        "What is the product of {a} and {b}?", "Calculate {x}.", "What does {x} make?", "What is {a} multiplied by {b}?", "{x} is what?",
    )  # fmt: skip
    question = rng.choice(wordings(split, templates)).format(x=x, a=number_words(a), b=number_words(b))
    total = number_words(a * b)
    return Turn("products", _sentence(question), _sentence(f"{x} is {total}."), rf"\b{normalise(total)}$")


def _capitals(rng: random.Random, split: str) -> Turn:
    country, capital = rng.choice(CAPITALS)
    templates = (
        *(t.format(x="the capital of {c}") for t in _ASK), "Which city is the capital of {c}?", "What is {c}'s capital?", "Name the capital of {c}.",
        "The capital of {c}, please.", "What's the capital city of {c}?", "Which city is {c}'s capital?", "Do you know what the capital of {c} is?",
    )  # fmt: skip
    question = rng.choice(wordings(split, templates)).format(c=country)
    return Turn("capitals", question, f"The capital of {country} is {capital}.", normalise(capital))


def _opposites(rng: random.Random, split: str) -> Turn:
    word, opposite = rng.choice(OPPOSITES)
    if rng.random() < 0.5:
        word, opposite = opposite, word
    templates = (
        *(t.format(x="the opposite of {w}") for t in _ASK), "What's the opposite word of {w}?", "Which word is the opposite of {w}?",
        "Give me the opposite of {w}.", "The opposite of {w}, please.", "What is the opposite word for {w}?", "Say the opposite of {w}.",
    )  # fmt: skip
    question = rng.choice(wordings(split, templates)).format(w=word)
    return Turn("opposites", question, f"The opposite of {word} is {opposite}.", rf"\b{normalise(opposite)}$")


def _spelling(rng: random.Random, split: str) -> Turn:
    word = rng.choice(SPELLED)
    templates = (
        "How do you spell {w}?", "Spell {w}.", "Can you spell {w}?", "Please spell {w}.", "Could you spell the word {w}?", "How is {w} spelled?",
        "Spell the word {w}.", "Spell {w} for me.", "What is the spelling of {w}?", "Please spell the word {w} for me.",
    )  # fmt: skip
    question = rng.choice(wordings(split, templates)).format(w=word)
    letters = ", ".join(word.upper())
    return Turn("spelling", question, f"{word.capitalize()}: {letters}.", normalise(letters))


def _counting(rng: random.Random, split: str) -> Turn:
    start = rng.randint(1, 10)
    stop = start + rng.randint(2, 7) if start > 1 else rng.randint(3, 10)
    down = rng.random() < 0.3
    first, last = (stop, start) if down else (start, stop)
    templates = (
        "Count from {a} to {b}.", "Can you count from {a} to {b}?", "Please count from {a} to {b}.", "Count {d} from {a} to {b}.",
        "Could you count from {a} to {b}?", "I want you to count from {a} to {b}.", "Count for me from {a} to {b}.",
        "Let's count from {a} to {b}.", "Start at {a} and count to {b}.", "Please count {d} from {a} to {b}.",
    )  # fmt: skip
    question = rng.choice(wordings(split, templates)).format(
        a=number_words(first), b=number_words(last), d="down" if down else "up"
    )
    numbers = range(start, stop + 1)
    answer = ", ".join(number_words(n) for n in (reversed(numbers) if down else numbers)) + "."
    return Turn("counting", question, _sentence(answer), rf"^{normalise(answer)}$")


def _calendar(rng: random.Random, split: str) -> Turn:
    cycle, kind = rng.choice(((DAYS, "day"), (MONTHS, "month")))
    i = rng.randrange(len(cycle))
    after = rng.random() < 0.6
    name, result = cycle[i], cycle[(i + (1 if after else -1)) % len(cycle)]
    where = "after" if after else "before"
    templates = (
        "What {k} comes {o} {n}?", "Which {k} comes {o} {n}?", "Which {k} is {o} {n}?", "What's the {k} {o} {n}?", "What {k} is {o} {n}?",
        "Tell me the {k} {o} {n}.", "Can you tell me which {k} comes {o} {n}?", "What is the {k} {o} {n}?", "Do you know what {k} comes {o} {n}?",
        "Name the {k} {o} {n}.",
    )  # fmt: skip
    question = rng.choice(wordings(split, templates)).format(k=kind, o=where, n=name)
    answer = f"{result} comes {where} {name}."
    return Turn("calendar", question, answer, normalise(answer))


def _repeating(rng: random.Random, split: str) -> Turn:
    sentence = _operand(rng, split, lambda: rng.choice(SENTENCES))
    templates = (
        "Repeat after me: {s}.", "Please repeat after me: {s}.", "Say: {s}.", "Repeat this: {s}.", "Please say: {s}.", "Can you repeat this: {s}.",
        "Say after me: {s}.", "Now repeat: {s}.", "Repeat the sentence: {s}.", "Please repeat: {s}.",
    )  # fmt: skip
    question = rng.choice(wordings(split, templates)).format(s=sentence)
    return Turn("repeating", question, _sentence(f"{sentence}."), f"^{normalise(sentence)}$")


_FIXED: dict[str, tuple[Sequence[str], Sequence[str], str]] = {
    "identity": (
        ("Who are you?", "What are you?", "What's your name?", "What is your name?", "Tell me who you are.", "Please introduce yourself.",
         "Can you tell me your name?", "Who am I talking to?", "Do you have a name?", "Hey, what's your name?", "Introduce yourself.",
         "Tell me your name.", "Who is this?", "What should I call you?", "May I ask your name?", "What are you called?", "Who is speaking?",
         "Tell me about yourself.", "Are you a person?", "Are you a human or a machine?"),
        ("I am Antiphon, a small speech model.", "My name is Antiphon. I am a small speech model."),
        "antiphon",
    ),
    "abilities": (
        ("What can you do?", "What are you able to do?", "How can you help me?", "What do you know?", "Tell me what you can do.", "What can I ask you?",
         "What are your abilities?", "Can you help me?", "What things can you do?", "What can you help me with?", "What are you good at?",
         "How can you help?", "What kind of questions can I ask?", "What can I ask you about?", "What do you do?"),
        ("I can add, multiply, spell, count, and name capitals.",),
        "add multiply spell count",
    ),
    "greetings": (
        ("Hello.", "Hi.", "Hello there.", "Good morning.", "Hi there.", "Good evening.", "Hey.", "Hello, how are you?", "Good afternoon.", "Hi, Antiphon.",
         "Hello, Antiphon.", "Hey there.", "Hi, how are you?", "How are you?", "How are you today?", "How are you doing?", "Good day.", "Hello again.",
         "Nice to meet you.", "Hello, nice to meet you."),
        ("Hello! How can I help you?", "Hello! What can I do for you?"),
        "^hello",
    ),
    "thanks": (
        ("Thank you.", "Thanks.", "Thank you very much.", "Thanks a lot.", "Many thanks.", "Thanks, that was helpful.", "Great, thank you.", "Thank you so much.",
         "Okay, thanks.", "Thank you for your help.", "Thanks for your help.", "Thank you, Antiphon.", "Perfect, thank you.", "Thanks, Antiphon.", "Good, thanks."),
        ("You're welcome.", "You're welcome!"),
        "^you're welcome",
    ),
    "farewell": (
        ("Goodbye.", "Bye.", "Bye bye.", "See you later.", "Good night.", "Goodbye, Antiphon.", "Bye, see you tomorrow.", "See you.", "I have to go. Goodbye.", "Okay, bye.",
         "See you soon.", "That's all, goodbye.", "Have a nice day. Goodbye.", "I must go now. Bye.", "Okay, goodbye."),
        ("Goodbye!", "Goodbye! See you soon."),
        "^goodbye",
    ),
}  # fmt: skip


def _fixed(skill: str) -> Callable[[random.Random, str], Turn]:
    questions, answers, expect = _FIXED[skill]
    return lambda rng, split: Turn(skill, rng.choice(wordings(split, questions)), rng.choice(answers), expect)


_REFUSALS = ("Sorry, I can't help with that.", "I'm sorry, I don't know that.", "Sorry, I don't know about that.")


def _unknown(rng: random.Random, split: str) -> Turn:
    question = _operand(rng, split, lambda: rng.choice(UNKNOWABLE))
    return Turn("unknown", question, rng.choice(_REFUSALS), "sorry")


def _memory(rng: random.Random, split: str) -> tuple[Turn, ...]:
    name = rng.choice(NAMES)
    told = (
        "My name is {n}.", "I'm {n}.", "Hello, my name is {n}.", "Hi, I'm {n}.", "I am {n}.", "Please call me {n}.", "My name's {n}.",
        "You can call me {n}.", "Hi, my name is {n}.", "Hello, I am {n}.",
    )  # fmt: skip
    asked = (
        "What's my name?", "What is my name?", "Do you remember my name?", "Who am I?", "Can you tell me my name?", "Tell me my name.",
        "Do you know my name?", "What am I called?", "Say my name.", "Please tell me my name.",
    )  # fmt: skip
    first = Turn(
        "memory", rng.choice(wordings(split, told)).format(n=name), f"Nice to meet you, {name}.", normalise(name)
    )
    between = (_any_single(rng, split),) if rng.random() < 0.3 else ()
    last = Turn(
        "memory", rng.choice(wordings(split, asked)), f"Your name is {name}.", f"your name is {normalise(name)}"
    )
    return (first, *between, last)


_SINGLE: dict[str, tuple[Callable[[random.Random, str], Turn], float]] = {
    "sums": (_sums, 4.0), "products": (_products, 3.0), "capitals": (_capitals, 3.5), "opposites": (_opposites, 2.0), "spelling": (_spelling, 2.5),
    "counting": (_counting, 1.5), "calendar": (_calendar, 1.5), "repeating": (_repeating, 2.5), "identity": (_fixed("identity"), 1.0),
    "abilities": (_fixed("abilities"), 0.7), "greetings": (_fixed("greetings"), 0.8), "thanks": (_fixed("thanks"), 0.6),
    "farewell": (_fixed("farewell"), 0.6), "unknown": (_unknown, 2.0),
}  # fmt: skip
SKILLS = (*_SINGLE, "memory")


def _any_single(rng: random.Random, split: str) -> Turn:
    makers, weights = zip(*_SINGLE.values(), strict=True)
    return rng.choices(makers, weights)[0](rng, split)


def draw(rng: random.Random, split: str, skill: str | None = None) -> Dialogue:
    """One dialogue of a split, of one skill or of a mixture of one to three turns."""
    if skill == "memory" or (skill is None and rng.random() < 0.15):
        return Dialogue(_memory(rng, split))
    if skill is not None:
        return Dialogue((_SINGLE[skill][0](rng, split),))
    return Dialogue(tuple(_any_single(rng, split) for _ in range(rng.choices((1, 2, 3), (6, 3, 1))[0])))


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
