"""Dialogues that the model learns from and is measured on: turns of the skills, memory, instructions.

A dialogue is drawn from one split, `train` or `heldout`. This module knows nothing about audio.
"""

import functools
import random
import re
from dataclasses import replace

from model.training import facts, tools
from model.training.more_wordings import MORE
from model.training.skills import EXERCISES, SINGLE, any_single
from model.training.turns import (
    HELDOUT,
    HELDOUT_WORDINGS,
    TRAIN,
    Dialogue,
    Turn,
    normalise,
    number_pattern,
    number_words,
    pattern,
    sentence,
    wordings,
)

# --- remembering ---------------------------------------------------------------------------------------------------

_NAME_TOLD = (
    "My name is {x}.", "I'm {x}.", "Hello, my name is {x}.", "Hi, I'm {x}.", "I am {x}.", "Please call me {x}.", "My name's {x}.",
    "You can call me {x}.", "Hi, my name is {x}.", "Hello, I am {x}.",
)  # fmt: skip
_NAME_ASKED = (
    "What's my name?", "What is my name?", "Do you remember my name?", "Who am I?", "Can you tell me my name?", "Tell me my name.",
    "Do you know my name?", "What am I called?", "Say my name.", "Please tell me my name.",
)  # fmt: skip
_TOLD = (
    "My {k} is {x}.",
    "Remember that my {k} is {x}.",
    "Please remember, my {k} is {x}.",
    "I tell you my {k}: it is {x}.",
    "By the way, my {k} is {x}.",
)
_ASKED = (
    "What is my {k}?", "What's my {k}?", "Do you remember my {k}?", "Tell me my {k}.", "Can you tell me my {k}?", "Which is my {k}?", "Do you know my {k}?",
    "Please tell me my {k}.", "What was my {k}?", "Could you tell me my {k}?",
)  # fmt: skip
_LIST_TOLD = (
    "I need to buy {x}.", "My shopping list is {x}.", "Remember my list: {x}.", "On my list are {x}.", "Please remember {x}.", "I want to buy {x}.",
    "Put {x} on my list.", "My list: {x}.", "I have to buy {x}.", "Please note {x}.",
)  # fmt: skip
_LIST_ASKED = (
    "What do I need to buy?", "What is on my list?", "What's on my list?", "Read my list.", "What did I want to buy?", "Tell me my list.",
    "Do you remember my list?", "Can you tell me my list?", "Please read my list.", "What was on my list?",
)  # fmt: skip


def _told(rng: random.Random, split: str) -> tuple[Turn, Turn]:
    """Something to remember, and the question for it."""
    kind = rng.choices(("name", "favorite color", "favorite number", "city", "list"), (4, 1.5, 1.5, 1.5, 1.5))[0]
    told: tuple[str, ...]
    ways = {"name": "name ", "list": "list "}.get(kind, "")  # in `MORE`
    if kind == "name":
        x = rng.choice(facts.NAMES)
        told, asked = _NAME_TOLD, _NAME_ASKED
        noted, answer = f"Nice to meet you, {x}.", f"Your name is {x}."
    elif kind == "list":
        things = rng.sample(facts.THINGS, rng.randint(2, 3))
        x = ", ".join(things[:-1]) + " and " + things[-1]
        told, asked = _LIST_TOLD, _LIST_ASKED
        noted, answer = f"I noted {x}.", f"On your list are {x}."
    else:
        x = {
            "favorite color": lambda: rng.choice(facts.COLOURS),
            "favorite number": lambda: number_words(rng.randint(1, 99)),
            "city": lambda: rng.choice(facts.PLACES),
        }[kind]()
        told, asked = _TOLD, _ASKED
        noted, answer = f"I will remember that your {kind} is {x}.", f"Your {kind} is {x}."
    skill = "memory" if kind == "name" else "memory of more"
    right = number_pattern(x) if kind == "favorite number" else rf"\b{normalise(x)}"
    return (
        Turn(skill, rng.choice(wordings(split, told, MORE[f"{ways}told"])).format(k=kind, x=x), noted, normalise(x)),
        Turn(
            skill,
            rng.choice(wordings(split, asked, MORE[f"{ways}asked"])).format(k=kind),
            answer,
            f"{right}$",
            sentence(f"{x}."),
        ),
    )


def _memory(rng: random.Random, split: str, wanted: str | None = None) -> Dialogue:
    while True:
        told, asked = _told(rng, split)
        if wanted in (None, told.skill):
            break
    between = tuple(any_single(rng, split) for _ in range(rng.choices((0, 1, 2), (5, 4, 2))[0]))
    return Dialogue((told, *between, asked))


# --- the session's instructions ------------------------------------------------------------------------------------

_NAMED = (
    "Your name is {x}.",
    "You are called {x}.",
    "You are {x}, a helpful assistant.",
    "Your name is {x}. Be kind.",
    "You are {x}.",
)
_ROLE = ("You are {x}.", "You work as {x}.", "Act as {x}.", "You are {x} who helps people.", "Your job: {x}.")
_WORK_ASKED = (
    "What is your job?", "What do you do for a living?", "What's your job?", "What is your profession?", "What work do you do?", "Tell me what you do.", "What is your work?",
    "Do you have a job?", "What do you work as?", "What is it that you do?",
)  # fmt: skip
_NAME_WANTED = (
    "What's your name?",
    "What is your name?",
    "Who are you?",
    "Can you tell me your name?",
    "Tell me who you are.",
    "Tell me your name.",
    "Do you have a name?",
)
_BRIEF = (
    "Answer briefly.",
    "Be brief.",
    "Use as few words as possible.",
    "Keep your answers short.",
    "Short answers only.",
)
_ALWAYS = (
    "Always end with: {x}",
    'End every answer with "{x}"',
    "Finish each answer with: {x}",
    "Close every answer with: {x}",
    'Always say "{x}" at the end.',
)


def _instructed(rng: random.Random, split: str) -> Dialogue:
    kind = rng.choice(("name", "role", "brief", "end"))
    if kind == "name":
        x = rng.choice(facts.NAMES)
        told, answer = rng.choice(wordings(split, _NAMED)).format(x=x), f"My name is {x}."
        return Dialogue((Turn("instructions", rng.choice(wordings(split, _NAME_WANTED)), answer, normalise(x)),), told)
    if kind == "role":
        x = rng.choice(facts.ROLES)
        told, answer = rng.choice(wordings(split, _ROLE)).format(x=x), f"I am {x}."
        return Dialogue((Turn("instructions", rng.choice(wordings(split, _WORK_ASKED)), answer, f"{x}$"),), told)
    turn = any_single(rng, split)
    while kind == "brief" and not turn.short:
        turn = any_single(rng, split)
    if kind == "brief":
        brief = replace(turn, skill="instructions", answer=turn.short, expect=f"^{normalise(turn.short)}$", short="")
        return Dialogue((brief,), rng.choice(wordings(split, _BRIEF)))
    x = rng.choice(facts.CLOSINGS)
    ended = replace(turn, skill="instructions", answer=f"{turn.answer} {x}", expect=f"{normalise(x)}$", short="")
    return Dialogue((ended,), rng.choice(wordings(split, _ALWAYS)).format(x=x))


# --- drawing -------------------------------------------------------------------------------------------------------

BASIC = (
    "sums", "products", "capitals", "opposites", "spelling", "counting", "calendar", "repeating", "identity", "abilities", "greetings", "thanks", "farewell",
    "unknown", "memory",
)  # fmt: skip
SKILLS = (*SINGLE, "memory", "memory of more", "instructions", "tools", "made-up tools")
# Those of which every case has several things to be understood, so that there are more cases than of the others.
_MANY_CASES = {
    "tools": 4.0,
    "made-up tools": 3.0,
    "memory of more": 3.0,
    "memory": 2.0,
    "instructions": 2.0,
    "unknown": 3.0,
    "declined": 1.5,
}


def some_skill(rng: random.Random) -> str:
    """One of the skills, each about as often: some have so few questions that they would soon be mistaken for others."""
    return rng.choices(SKILLS, [_MANY_CASES.get(skill, 1.0) for skill in SKILLS])[0]


_DRILLED = {
    "sums": 2.0, "larger sums": 3.0, "differences": 2.0, "larger differences": 3.0, "products": 2.5, "larger products": 2.5, "quotients": 4.0, "comparing": 1.5,
    "steps": 1.0, "clock": 1.5, "longer products": 1.5, "longer quotients": 2.5, "reversing": 1.0,
}  # fmt: skip


def drill(rng: random.Random, most: int = 4) -> Dialogue:
    """One to so many exercises in arithmetic for training: rules of which every case needs many examples."""
    skills = rng.choices(list(_DRILLED), list(_DRILLED.values()), k=rng.randint(1, most))
    return Dialogue(tuple(EXERCISES[skill](rng, TRAIN) for skill in skills))


_OPENINGS = (
    "Okay, ", "So, ", "Well, ", "Hey, ", "Um, ", "Now, ", "Oh, ", "And ", "Please, ", "Antiphon, ", "Right, ", "Hi, ", "Listen, ", "Hello, ", "But ", "Then, ", "Sorry, ",
    "Good, ", "Fine, ", "Yes, ", "No, ", "Excuse me, ", "One more thing, ", "Next, ", "By the way, ", "Alright, ", "Thanks, and ", "Look, ", "You know, ", "I say, ",
)  # fmt: skip
_CLOSINGS = (
    ", please", ", okay", " now", ", Antiphon", " then", " for me", ", if you can", ", if you know", ", my friend", ", all right", ", will you",
)  # fmt: skip


@functools.cache
def _kept_for_measuring() -> re.Pattern[str]:
    """What a normalised question matches that is worded as only those of the held-out split are."""
    rng = random.Random(0)
    for skill in SKILLS:  # so that `wordings` has met all of them
        for _ in range(200):
            draw(rng, HELDOUT, skill)
    whole = {SINGLE["unknown"][0](rng, HELDOUT).question for _ in range(1000)}  # there the question is the operand
    return re.compile("|".join(pattern(wording).pattern for wording in sorted(HELDOUT_WORDINGS | whole)))


def is_kept_for_measuring(question: str) -> bool:
    """Whether it is worded as only questions of the held-out split are."""
    return _kept_for_measuring().fullmatch(normalise(question)) is not None


def varied(question: str, rng: random.Random) -> str:
    """A question as somebody might also put it: with an opening or a closing word, or one word of it lost.

    Where that would be worded as in the held-out split, the question itself.
    """
    other = question
    if rng.random() < 0.3:
        opening = rng.choice(_OPENINGS)
        kept = other.startswith(("I ", "I'")) or (other.split()[0].strip(",.?!") in facts.NAMES)
        other = opening + (other if kept else other[0].lower() + other[1:])
    if rng.random() < 0.2 and other[-1] in ".?!" and ": " not in other:  # else it belonged to what is repeated
        other = other[:-1] + rng.choice(_CLOSINGS) + other[-1]
    words = other.split()
    if rng.random() < 0.1 and len(words) > 4:  # as if it had been misheard
        del words[rng.randrange(2)]
        other = sentence(" ".join(words))
    return question if is_kept_for_measuring(other) else other


def draw(rng: random.Random, split: str, skill: str | None = None) -> Dialogue:
    """One dialogue of a split, of one skill or of a mixture of one to three turns."""
    kinds = ("single", "memory", "instructions", "tools", "made-up tools")
    kind = rng.choices(kinds, (0.52, 0.22, 0.10, 0.09, 0.07))[0] if skill is None else skill
    if kind in ("memory", "memory of more"):
        return _memory(rng, split, None if skill is None else skill)
    if kind == "instructions":
        return _instructed(rng, split)
    if kind in ("tools", "made-up tools"):
        return tools.draw(rng, split, made_up=kind == "made-up tools")
    if skill is not None:
        return Dialogue((SINGLE[skill][0](rng, split),))
    return Dialogue(tuple(any_single(rng, split) for _ in range(rng.choices((1, 2, 3), (7, 2, 1))[0])))
