"""The skills: for each, how people ask and what is right to answer.

A skill is a function of (random source, split) that draws one turn. Wordings come as lists, of which every fifth is
held out by its position; those of `more_wordings.py` are for training alone.
"""

import random
from collections.abc import Callable, Sequence

from model.training import facts
from model.training.more_wordings import ASK, MORE, OUTSIDE, RECEIVERS, SMALL_TALK
from model.training.turns import TRAIN, Turn, normalise, number_pattern, number_words, operand, sentence, wordings

Skill = Callable[[random.Random, str], Turn]

_ASK = (
    "What is {x}?", "What's {x}?", "Tell me {x}.", "Can you tell me {x}?", "Could you tell me {x}?", "Do you know {x}?",
    "Please tell me {x}.", "I'd like to know {x}.", "Hey, what is {x}?", "So, what's {x}?",
    "I want to know {x}.", "What would {x} be?", "Let me know {x}.", "Could you give me {x}?", "Any idea what {x} is?",
    "Can you work out {x}?", "Give me {x}.", "I need {x}.", "Help me with {x}.", "I was wondering what {x} is.",
)  # fmt: skip


def _one_of(rng: random.Random, split: str, templates: Sequence[str], more: Sequence[str] = (), **words: str) -> str:
    return sentence(rng.choice(wordings(split, templates, more)).format(**words))


# --- numbers -------------------------------------------------------------------------------------------------------


def _ask_for(x: str, ways: Sequence[str] = _ASK) -> tuple[str, ...]:
    return tuple(t.replace("{x}", x) for t in ways)


def _more(x: str, skill: str) -> tuple[str, ...]:
    """Wordings for training alone."""
    return (*_ask_for(x, ASK), *MORE[skill])


_OPERATIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "+": ("{a} plus {b}", (
        "How much is {x}?", "{x}?", "Add {a} and {b}.", "Please add {a} and {b}.", "What do you get if you add {a} and {b}?",
        "What is the sum of {a} and {b}?", "Calculate {x}.", "What does {x} make?", "How much are {a} and {b}?", "{x} is what?",
    )),
    "-": ("{a} minus {b}", (
        "How much is {x}?", "{x}?", "Subtract {b} from {a}.", "Take {b} away from {a}.", "What do you get if you subtract {b} from {a}?",
        "What is left if you take {b} from {a}?", "Calculate {x}.", "What does {x} make?", "What is the difference between {a} and {b}?", "{x} is what?",
    )),
    "*": ("{a} times {b}", (
        "How much is {x}?", "{x}?", "Multiply {a} by {b}.", "Please multiply {a} by {b}.", "What do you get if you multiply {a} by {b}?",
        "What is the product of {a} and {b}?", "Calculate {x}.", "What does {x} make?", "What is {a} multiplied by {b}?", "{x} is what?",
    )),
    "/": ("{a} divided by {b}", (
        "How much is {x}?", "{x}?", "Divide {a} by {b}.", "Please divide {a} by {b}.", "What do you get if you divide {a} by {b}?",
        "How many times does {b} go into {a}?", "Calculate {x}.", "What does {x} make?", "Can you divide {a} by {b}?", "{x} is what?",
    )),
}  # fmt: skip


def _in_words(*numbers: int) -> str:
    return " ".join(map(number_words, numbers))


def _column(sign: str, a: int, b: int) -> str:
    """Tens, then ones: `forty thirty seventy; seven eight fifteen`. What is borrowed is taken from the tens before."""
    (tens, ones), (other_tens, other_ones) = divmod(a, 10), divmod(b, 10)
    if sign == "-" and ones < other_ones:
        tens, ones = tens - 1, ones + 10
    columns = [(10 * tens, 10 * other_tens)] if tens or other_tens else []
    return "; ".join(_in_words(x, y, x + y if sign == "+" else x - y) for x, y in (*columns, (ones, other_ones)))


def _thought(sign: str, a: int, b: int) -> str:
    """What is written down between an exercise and its result.

    Which product a pair of numbers has cannot be inferred from those of other pairs, but how to count by sevens can be:
    products are counted up to in steps of the larger factor, quotients down from in steps of the divisor. Products tell
    how many steps are left and quotients how many there were, so that the last one is known by itself, by its one or its
    zero. Where the pair had to be remembered to know it, no pair that had been held out ever stopped in time.
    """
    if sign in "+-":
        return _column(sign, a, b)
    if 1 in (a, b):
        return ""
    if sign == "*":
        step, steps = max(a, b), min(a, b)
        return "; ".join(_in_words(steps - n, n * step + step) for n in range(steps))
    return "; ".join(_in_words(n, a - n * b) for n in range(1, a // b + 1))


def _arithmetic(skill: str, sign: str, draw: Callable[[random.Random], tuple[int, int]]) -> Skill:
    spoken, templates = _OPERATIONS[sign]
    results = {
        "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a // b,
    }  # fmt: skip

    def unordered(pair: str) -> str:
        return sign.join(sorted(pair.split(sign))) if sign in "+*" else pair

    def drawn_for(rng: random.Random, split: str) -> str:
        while True:
            a, b = draw(rng)
            # An exercise of one column is a column of others: it would not be one that training never meets.
            if split == TRAIN or sign in "*/" or ";" in _thought(sign, a, b):
                return f"{a}{sign}{b}"

    def make(rng: random.Random, split: str) -> Turn:
        drawn = operand(rng, split, lambda: drawn_for(rng, split), unordered)
        a, b = map(int, drawn.split(sign))
        first, second = number_words(a), number_words(b)
        x = spoken.format(a=first, b=second)
        question = _one_of(rng, split, (*_ASK, *templates), (*ASK, *MORE[sign]), x=x, a=first, b=second)
        total = number_words(results[sign](a, b))
        right = rf"{number_pattern(total)}$"
        answer = sentence(f"{x} is {total}.")
        return Turn(skill, question, answer, right, thought=_thought(sign, a, b), short=sentence(f"{total}."))

    return make


def _small(most: int, least: int = 0) -> Callable[[random.Random], tuple[int, int]]:
    return lambda rng: (rng.randint(least, most), rng.randint(least, most))


def _difference(most: int) -> Callable[[random.Random], tuple[int, int]]:
    def draw(rng: random.Random) -> tuple[int, int]:
        a, b = sorted((rng.randint(0, most), rng.randint(0, most)), reverse=True)
        return a, b

    return draw


def _quotient(rng: random.Random) -> tuple[int, int]:
    b, result = rng.randint(1, 12), rng.randint(1, 12)
    return b * result, b


def _long_product(rng: random.Random) -> tuple[int, int]:
    a, b = rng.sample((rng.randint(2, 12), rng.randint(2, 19)), 2)
    return a, b


def _long_quotient(rng: random.Random) -> tuple[int, int]:
    b, result = rng.randint(2, 19), rng.randint(2, 12)
    return b * result, b


def _larger_sum(rng: random.Random) -> tuple[int, int]:
    return rng.choice(((rng.randint(10, 99), rng.randint(1, 20)), (rng.randint(10, 99), rng.randint(10, 99))))


def _comparing(rng: random.Random, split: str) -> Turn:
    a, b = rng.sample(range(1, 100), 2)
    larger = rng.random() < 0.6
    kind = rng.choice(("larger", "bigger", "greater") if larger else ("smaller", "less"))
    templates = (
        "Which is {k}, {a} or {b}?", "What is {k}, {a} or {b}?", "Which number is {k}, {a} or {b}?", "Is {a} or {b} {k}?", "Tell me which is {k}, {a} or {b}.",
        "Which one is {k}, {a} or {b}?", "Can you tell me which is {k}, {a} or {b}?", "{a} or {b}, which is {k}?", "Do you know which is {k}, {a} or {b}?",
        "What number is {k}, {a} or {b}?", "What's {k}, {a} or {b}?", "Of {a} and {b}, which is {k}?", "Between {a} and {b}, which is {k}?",
        "I'd like to know which is {k}, {a} or {b}.", "Find the {k} one, {a} or {b}.", "Which of these is {k}, {a} or {b}?", "Say which is {k}, {a} or {b}.",
        "Here are {a} and {b}. Which is {k}?", "Take {a} and {b}. Which one is {k}?", "I have {a} and {b}. Which is {k}?",
    )  # fmt: skip
    question = _one_of(rng, split, templates, MORE["comparing"], k=kind, a=number_words(a), b=number_words(b))
    result = number_words(max(a, b) if larger else min(a, b))
    answer = sentence(f"{result} is {kind}.")
    return Turn("comparing", question, answer, f"^{normalise(result)}( is|$)", sentence(f"{result}."))


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
    words = {"a": number_words(first), "b": number_words(last), "d": "down" if down else "up"}
    question = _one_of(rng, split, templates, MORE["counting"], **words)
    numbers = range(start, stop + 1)
    answer = ", ".join(number_words(n) for n in (reversed(numbers) if down else numbers)) + "."
    return Turn("counting", question, sentence(answer), rf"^{normalise(answer)}$")


def _steps(rng: random.Random, split: str) -> Turn:
    step = rng.choice((2, 3, 5, 10))
    start = step * rng.randint(1, 3)
    numbers = [start + step * i for i in range(rng.randint(3, 6))]
    templates = (
        "Count from {a} to {b} in steps of {s}.", "Count in steps of {s} from {a} to {b}.", "Count by {s} from {a} to {b}.", "Please count from {a} to {b} by {s}.",
        "Can you count from {a} to {b} in steps of {s}?", "Go from {a} to {b} in steps of {s}.", "Count up from {a} to {b} in steps of {s}.",
        "In steps of {s}, count from {a} to {b}.", "Could you count by {s} from {a} to {b}?", "Please count in steps of {s} from {a} to {b}.",
    )  # fmt: skip
    words = {"a": number_words(numbers[0]), "b": number_words(numbers[-1]), "s": number_words(step)}
    question = _one_of(rng, split, templates, MORE["steps"], **words)
    answer = ", ".join(map(number_words, numbers)) + "."
    return Turn("steps", question, sentence(answer), rf"^{normalise(answer)}$")


# --- the world -----------------------------------------------------------------------------------------------------


def _country(rng: random.Random) -> str:
    if rng.random() < 0.5:
        return rng.choice(facts.WELL_KNOWN)
    return rng.choice(facts.CAPITALS)[0]


def _capitals(rng: random.Random, split: str) -> Turn:
    country = _country(rng)
    capital = dict(facts.CAPITALS)[country]
    templates = (
        *_ask_for("the capital of {c}"), "Which city is the capital of {c}?", "What is {c}'s capital?", "Name the capital of {c}.",
        "The capital of {c}, please.", "What's the capital city of {c}?", "Which city is {c}'s capital?", "Do you know what the capital of {c} is?",
        "Which is the capital of {c}?", "{c} has which capital?",
    )  # fmt: skip
    answer = f"The capital of {country} is {capital}."
    more = _more("the capital of {c}", "capitals")
    question = _one_of(rng, split, templates, more, c=country)
    return Turn("capitals", question, answer, rf"(^|\bis ){normalise(capital)}$", f"{capital}.")


def _continents(rng: random.Random, split: str) -> Turn:
    country = _country(rng)
    continent = dict(facts.CONTINENTS)[country]
    templates = (
        "Which continent is {c} in?", "What continent is {c} in?", "On which continent is {c}?", "Where is {c}?", "In which part of the world is {c}?",
        "Tell me the continent of {c}.", "Which continent does {c} belong to?", "What continent is {c} on?", "Do you know which continent {c} is in?",
        "Can you tell me where {c} is?", "Where in the world is {c}?", "In which continent is {c}?", "{c} is in which continent?", "What is {c}'s continent?",
        "Is {c} in Europe, in Asia or in Africa?", "{c} belongs to which continent?", "What continent is {c} part of?", "Where can I find {c}?",
        "On what continent do I find {c}?", "Where does {c} lie?",
    )  # fmt: skip
    answer = sentence(f"{country} is in {continent}.")
    right = rf"\b(is )?in {normalise(continent)}$|^{normalise(continent)}$"
    question = _one_of(rng, split, templates, MORE["continents"], c=country)
    return Turn("continents", question, answer, right, f"{continent}.")


def _planets(rng: random.Random, split: str) -> Turn:
    i = rng.randrange(len(facts.PLANETS))
    planet = facts.PLANETS[i]
    if rng.random() < 0.3:
        kind, planet = rng.choice(
            (("biggest", "Jupiter"), ("largest", "Jupiter"), ("smallest", "Mercury"), ("closest", "Mercury"), ("red", "Mars"))
        )  # fmt: skip
        x = f"the {kind} planet" + (" to the sun" if kind == "closest" else "")
        answer = f"{planet} is {x}."
    else:
        x = f"the {facts.ORDINALS[i]} planet from the sun"
        answer = f"{planet} is {x}."
    templates = (
        *_ask_for("{x}"),
        "Which planet is {x}?",
        "Name {x}.",
        "Which is {x}?",
        "What do you call {x}?",
        "Give me the name of {x}.",
    )
    question = _one_of(rng, split, templates, (*ASK, *MORE["planets"]), x=x)
    return Turn("planets", question, answer, f"^{normalise(planet)}", f"{planet}.")


def _elements(rng: random.Random, split: str) -> Turn:
    element, symbol = rng.choice(facts.ELEMENTS)
    templates = (
        *_ask_for("the symbol of {e}"), "What is the chemical symbol for {e}?", "Which symbol stands for {e}?", "What's the symbol for {e}?",
        "The chemical symbol of {e}, please.", "How is {e} written in chemistry?",
    )  # fmt: skip
    letters = ", ".join(symbol.upper())
    answer = f"The symbol of {element} is {letters}."
    question = _one_of(rng, split, templates, _more("the symbol of {e}", "elements"), e=element)
    return Turn("elements", question, answer, rf"(^|\bis ){normalise(letters)}$", f"{letters}.")


def _units(rng: random.Random, split: str) -> Turn:
    parts, whole, count = rng.choice(facts.UNITS)
    verb = "does {w} have" if rng.random() < 0.4 else "are in {w}"
    templates = (
        "How many {p} " + verb + "?", "Do you know how many {p} are in {w}?", "Tell me how many {p} are in {w}.", "Can you tell me how many {p} {w} has?",
        "What is the number of {p} in {w}?", "Please tell me how many {p} are in {w}.", "{w} has how many {p}?", "So, how many {p} are in {w}?",
        "How many {p} are there in {w}?", "How many {p} make {w}?", "How many {p} will I find in {w}?", "What number of {p} does {w} have?", "Count the {p} in {w}.",
        "How many {p} belong to {w}?", "How many {p} do you get in {w}?",
    )  # fmt: skip
    answer = sentence(f"{whole} has {number_words(count)} {parts}.")
    number = number_words(count)
    question = _one_of(rng, split, templates, MORE["units"], p=parts, w=whole)
    return Turn("units", question, answer, number_pattern(number), sentence(f"{number}."))


def _calendar(rng: random.Random, split: str) -> Turn:
    cycle, kind = rng.choice(((facts.DAYS, "day"), (facts.MONTHS, "month")))
    i = rng.randrange(len(cycle))
    after = rng.random() < 0.6
    name, result = cycle[i], cycle[(i + (1 if after else -1)) % len(cycle)]
    where = "after" if after else "before"
    templates = (
        "What {k} comes {o} {n}?", "Which {k} comes {o} {n}?", "Which {k} is {o} {n}?", "What's the {k} {o} {n}?", "What {k} is {o} {n}?",
        "Tell me the {k} {o} {n}.", "Can you tell me which {k} comes {o} {n}?", "What is the {k} {o} {n}?", "Do you know what {k} comes {o} {n}?",
        "Name the {k} {o} {n}.",
    )  # fmt: skip
    question = _one_of(rng, split, templates, MORE["calendar"], k=kind, o=where, n=name)
    answer = f"{result} comes {where} {name}."
    return Turn("calendar", question, answer, rf"^{normalise(result)}\b", f"{result}.")


def _month_days(rng: random.Random, split: str) -> Turn:
    i = rng.randrange(12)
    month, days = facts.MONTHS[i], number_words(facts.MONTH_DAYS[i])
    if rng.random() < 0.5:
        templates: tuple[str, ...] = (
            "How many days does {m} have?", "How many days are in {m}?", "How long is {m}?", "Tell me how many days {m} has.", "Do you know how many days {m} has?",
            "How many days are there in {m}?", "What is the number of days in {m}?", "Please tell me the number of days in {m}.", "{m} has how many days?",
            "Can you tell me how many days are in {m}?",
        )  # fmt: skip
        question = _one_of(rng, split, templates, MORE["month days"], m=month)
        return Turn("months", question, f"{month} has {days} days.", number_pattern(days), sentence(f"{days}."))
    ordinal = facts.ORDINALS[i]
    templates = (
        *_ask_for("the {o} month"), "Which month is the {o}?", "What is the {o} month of the year?", "Which is the {o} month of the year?", "Name the {o} month.",
    )  # fmt: skip
    more = _more("the {o} month", "months")
    question = _one_of(rng, split, templates, more, o=ordinal)
    return Turn("months", question, f"The {ordinal} month is {month}.", f"{month.lower()}$", f"{month}.")


def _clock(rng: random.Random, split: str) -> Turn:
    now, hours = rng.randint(1, 12), rng.randint(1, 6)
    later = rng.random() < 0.65
    then = (now + (hours if later else -hours) - 1) % 12 + 1
    words = {"n": number_words(now), "h": f"{number_words(hours)} hour{'s' * (hours > 1)}"}
    templates = (
        "It is {n} o'clock. What time is it in {h}?", "What time is {h} after {n} o'clock?", "What time is it {h} after {n}?", "It's {n} o'clock. What time will it be in {h}?",
        "What is {h} after {n} o'clock?", "Tell me the time {h} after {n} o'clock.", "If it is {n} o'clock, what time is it in {h}?", "What time is it {h} later than {n} o'clock?",
        "Which hour is {h} after {n} o'clock?", "What time comes {h} after {n} o'clock?",
        "Now it is {n} o'clock. What time is it {h} later?", "{h} after {n} o'clock is what time?", "What is the time {h} after {n}?",
        "What time do we have {h} after {n} o'clock?", "What time will it be {h} after {n} o'clock?",
    ) if later else (
        "It is {n} o'clock. What time was it {h} ago?", "What time is {h} before {n} o'clock?", "What time is it {h} before {n}?", "It's {n} o'clock. What time was it {h} ago?",
        "What is {h} before {n} o'clock?", "Tell me the time {h} before {n} o'clock.", "If it is {n} o'clock, what time was it {h} ago?", "What time is it {h} earlier than {n} o'clock?",
        "Which hour is {h} before {n} o'clock?", "What time comes {h} before {n} o'clock?",
        "Now it is {n} o'clock. What time was it {h} earlier?", "{h} before {n} o'clock is what time?", "What is the time {h} before {n}?",
        "What time did we have {h} before {n} o'clock?", "What time was it {h} before {n} o'clock?",
    )  # fmt: skip
    result = f"{number_words(then)} o'clock"
    question = _one_of(rng, split, templates, MORE["later" if later else "earlier"], **words)
    return Turn("clock", question, sentence(f"{result}."), f"^{result}$")


# --- words ---------------------------------------------------------------------------------------------------------


def _opposites(rng: random.Random, split: str) -> Turn:
    word, opposite = rng.choice(facts.OPPOSITES)
    if rng.random() < 0.5:
        word, opposite = opposite, word
    templates = (
        *_ask_for("the opposite of {w}"), "What's the opposite word of {w}?", "Which word is the opposite of {w}?",
        "Give me the opposite of {w}.", "The opposite of {w}, please.", "What is the opposite word for {w}?", "Say the opposite of {w}.",
    )  # fmt: skip
    answer = f"The opposite of {word} is {opposite}."
    more = _more("the opposite of {w}", "opposites")
    question = _one_of(rng, split, templates, more, w=word)
    return Turn("opposites", question, answer, rf"\b{normalise(opposite)}$", sentence(f"{opposite}."))


def _plurals(rng: random.Random, split: str) -> Turn:
    word, plural = rng.choice(facts.PLURALS)
    templates = (
        *_ask_for("the plural of {w}"), "What do you call more than one {w}?", "Which word is the plural of {w}?", "Give me the plural of {w}.",
        "The plural of {w}, please.", "Say the plural of {w}.",
    )  # fmt: skip
    answer = f"The plural of {word} is {plural}."
    more = _more("the plural of {w}", "plurals")
    question = _one_of(rng, split, templates, more, w=word)
    return Turn("plurals", question, answer, rf"\b{plural}$", sentence(f"{plural}."))


def _rhymes(rng: random.Random, split: str) -> Turn:
    group = rng.choice(facts.RHYMES)
    i = rng.randrange(len(group))
    word, rhyme = group[i], group[(i + 1) % len(group)]
    templates = (
        "What rhymes with {w}?", "Which word rhymes with {w}?", "Tell me a word that rhymes with {w}.", "Give me a rhyme for {w}.", "Find a rhyme for {w}.",
        "Do you know a word that rhymes with {w}?", "Can you give me a rhyme for {w}?", "Say a word that rhymes with {w}.", "I need a rhyme for {w}.",
        "Name a word that rhymes with {w}.",
    )  # fmt: skip
    right = rf"\b({'|'.join(other for other in group if other != word)}) rhymes with"
    question = _one_of(rng, split, templates, MORE["rhymes"], w=word)
    return Turn("rhymes", question, sentence(f"{rhyme} rhymes with {word}."), right)


def _letters(rng: random.Random, split: str) -> Turn:
    word, first = rng.choice(facts.SPELLED), rng.random() < 0.6
    which = "first" if first else "last"
    templates = (
        *_ask_for("the {k} letter of {w}"), "Which letter is the {k} letter of {w}?", "What letter does {w} {v} with?", "Which letter does {w} {v} with?",
        "The {k} letter of {w}, please.", "Name the {k} letter of {w}.",
    )  # fmt: skip
    letter = word[0 if first else -1].upper()
    more = _more("the {k} letter of {w}", "letters")
    question = _one_of(rng, split, templates, more, k=which, w=word, v="begin" if first else "end")
    return Turn(
        "letters", question, f"The {which} letter of {word} is {letter}.", rf"(^|\bis ){letter.lower()}$", f"{letter}."
    )


def _spelling(rng: random.Random, split: str) -> Turn:
    word = rng.choice(facts.SPELLED)
    templates = (
        "How do you spell {w}?", "Spell {w}.", "Can you spell {w}?", "Please spell {w}.", "Could you spell the word {w}?", "How is {w} spelled?",
        "Spell the word {w}.", "Spell {w} for me.", "What is the spelling of {w}?", "Please spell the word {w} for me.",
    )  # fmt: skip
    question = _one_of(rng, split, templates, MORE["spelling"], w=word)
    letters = ", ".join(word.upper())
    return Turn("spelling", question, f"{word.capitalize()}: {letters}.", f"^{word} {normalise(letters)}$")


def _reversing(rng: random.Random, split: str) -> Turn:
    word = rng.choice([w for w in facts.SPELLED if len(w) <= 6])
    templates = (
        "Spell {w} backwards.", "How do you spell {w} backwards?", "Can you spell {w} backwards?", "Please spell {w} backwards.", "Spell the word {w} backwards.",
        "What is {w} spelled backwards?", "Could you spell {w} backwards?", "Spell {w} in reverse.", "Now spell {w} backwards.", "Please spell the word {w} in reverse.",
    )  # fmt: skip
    letters = ", ".join(reversed(word.upper()))
    question = _one_of(rng, split, templates, MORE["reversing"], w=word)
    return Turn("reversing", question, f"{letters}.", f"^{normalise(letters)}$", thought=" ".join(word.upper()))


_WHO = "the old man|my little sister|a young doctor|the black cat|our new teacher|the tall woman|his best friend|the brown dog|a small child|the king|my uncle|the farmer|the girl next door|a tired driver|every student|nobody here".split(
    "|"
)
_DID = "found|bought|painted|lost|wanted|carried|watched|opened|remembered|washed|forgot|needed|sold|closed|cleaned|broke|dropped|hid".split(
    "|"
)
_WHAT = "a red boat|the big window|two green apples|an old book|the garden gate|a silver ring|the morning train|a warm coat|some fresh bread|the last ticket|three yellow birds|my blue bicycle|the front door|a bag of flour|the long letter|her new shoes".split(
    "|"
)
_WHEN = ("", "", "", " yesterday", " last night", " in the garden", " before lunch", " near the river", " on Monday", " with a smile")  # fmt: skip


def _repeating(rng: random.Random, split: str) -> Turn:
    def draw() -> str:
        if rng.random() < 0.2:
            return rng.choice(facts.SENTENCES)
        return f"{rng.choice(_WHO)} {rng.choice(_DID)} {rng.choice(_WHAT)}{rng.choice(_WHEN)}"

    said = operand(rng, split, draw)
    templates = (
        "Repeat after me: {s}.", "Please repeat after me: {s}.", "Say: {s}.", "Repeat this: {s}.", "Please say: {s}.", "Can you repeat this: {s}.",
        "Say after me: {s}.", "Now repeat: {s}.", "Repeat the sentence: {s}.", "Please repeat: {s}.",
    )  # fmt: skip
    question = _one_of(rng, split, templates, MORE["repeating"], s=said)
    return Turn("repeating", question, sentence(f"{said}."), f"^{normalise(said)}$")


# --- manners and limits --------------------------------------------------------------------------------------------

_FIXED: dict[str, tuple[Sequence[str], Sequence[str], str]] = {
    "identity": (
        ("Who are you?", "What are you?", "What's your name?", "What is your name?", "Tell me who you are.", "Please introduce yourself.",
         "Can you tell me your name?", "Who am I talking to?", "Do you have a name?", "Hey, what's your name?", "Introduce yourself.",
         "Tell me your name.", "Who is this?", "What should I call you?", "May I ask your name?", "What are you called?", "Who is speaking?",
         "Tell me about yourself.", "Are you a person?", "Are you a human or a machine?",
         "Please tell me who you are.", "And who are you?", "What is this?", "Say your name.", "Please tell me your name.", "So who are you?", "Can you introduce yourself?",
         "Are you a robot?", "Are you a computer?", "What kind of thing are you?", "Could you tell me who you are?", "Do you know who you are?",
         "I want to know who you are.", "I'd like to know your name.", "Which model are you?"),
        ("I am Antiphon, a small speech model.", "My name is Antiphon. I am a small speech model."),
        "antiphon",
    ),
    "abilities": (
        ("What can you do?", "What are you able to do?", "How can you help me?", "What do you know?", "Tell me what you can do.", "What can I ask you?",
         "What are your abilities?", "Can you help me?", "What things can you do?", "What can you help me with?", "What are you good at?",
         "How can you help?", "What kind of questions can I ask?", "What can I ask you about?", "What do you do?",
         "Tell me your abilities.", "What do you know about?", "What are you made for?", "Please tell me what you can do.", "Could you help me?", "What are you for?",
         "Tell me what you know.", "What can I do with you?", "I want to know what you can do.", "Which questions can you answer?"),
        ("I can add, multiply, spell, count, and name capitals.",),
        "add multiply spell count",
    ),
    "greetings": (
        ("Hello.", "Hi.", "Hello there.", "Good morning.", "Hi there.", "Good evening.", "Hey.", "Hello again, Antiphon.", "Good afternoon.", "Hi, Antiphon.",
         "Hello, Antiphon.", "Hey there.", "Hello, good morning.", "Hi, good evening.", "Hello, is anybody there?", "Greetings.", "Good day.", "Hello again.",
         "Nice to meet you.", "Hello, nice to meet you.",
         "Hello, hello.", "Hi, good morning.", "Hello, good evening.", "Hello my friend.", "Hey, good morning.", "Hello, it's me.", "Hi again.", "Hey, Antiphon.",
         "Good morning, Antiphon.", "Good evening, Antiphon.", "Hi, nice to meet you.", "Pleased to meet you.", "Well, hello.", "Hello you.", "Welcome."),
        ("Hello! How can I help you?", "Hello! What can I do for you?"),
        "^hello",
    ),
    "thanks": (
        ("Thank you.", "Thanks.", "Thank you very much.", "Thanks a lot.", "Many thanks.", "Thanks, that was helpful.", "Great, thank you.", "Thank you so much.",
         "Okay, thanks.", "Thank you for your help.", "Thanks for your help.", "Thank you, Antiphon.", "Perfect, thank you.", "Thanks, Antiphon.", "Good, thanks.",
         "That's great, thanks.", "Thank you, that's all I wanted.", "Thanks so much.", "I thank you.", "Great, thanks a lot.", "Thank you again.", "That helped, thank you.",
         "Thanks, you helped me.", "Very good, thank you.", "Wonderful, thanks."),
        ("You're welcome.", "You're welcome!"),
        "^you're welcome",
    ),
    "farewell": (
        ("Goodbye.", "Bye.", "Bye bye.", "See you later.", "Good night.", "Goodbye, Antiphon.", "Bye, see you tomorrow.", "See you.", "I have to go. Goodbye.", "Okay, bye.",
         "See you soon.", "That's all, goodbye.", "Have a nice day. Goodbye.", "I must go now. Bye.", "Okay, goodbye.",
         "Bye for now.", "Talk to you later.", "See you tomorrow.", "Bye, Antiphon.", "Goodbye for now.", "Well, goodbye.", "Good night, Antiphon.", "I'm leaving now. Goodbye.",
         "So long.", "Goodbye, see you soon.", "That's it, bye.", "Goodbye and good night.", "See you again.", "I'm going now, bye.", "Until tomorrow."),
        ("Goodbye!", "Goodbye! See you soon."),
        "^goodbye",
    ),
}  # fmt: skip


def _fixed(skill: str) -> Callable[[random.Random, str], Turn]:
    questions, answers, expect = _FIXED[skill]
    return lambda rng, split: Turn(
        skill, rng.choice(wordings(split, questions, MORE[skill])), rng.choice(answers), expect
    )


def _small_talk(rng: random.Random, split: str) -> Turn:
    (said, answers), more = rng.choice(list(zip(facts.SMALL_TALK, SMALL_TALK, strict=True)))
    expect = "|".join(f"^{normalise(a)}" for a in answers)
    return Turn("small talk", rng.choice(wordings(split, said, more)), rng.choice(answers), expect)


_REFUSALS = (
    "Sorry, I can't help with that.", "I'm sorry, I don't know that.", "Sorry, I don't know about that.", "Sorry, that is more than I know.",
    "I'm sorry, I can't do that.",
)  # fmt: skip
_DECLINED = (
    (facts.SPEAKER_IDENTITY, MORE["speaker identity"], "Sorry, I can't recognize people by their voice."),
    (facts.IMITATION, MORE["imitation"], "Sorry, I can't imitate voices. I only have my own."),
    (facts.HARMFUL, MORE["harmful"], "Sorry, I won't help with anything harmful."),
)
_ONE_BY_ONE = 0.4  # the share of the listed questions outside what is taught; the others are put together


def _outside(rng: random.Random) -> str:
    """A question outside what is taught, for training alone."""
    ways, things = rng.choice(OUTSIDE)
    return rng.choice(ways).format(x=rng.choice(things), y=rng.choice(RECEIVERS))


def _unknown(rng: random.Random, split: str) -> Turn:
    if split == TRAIN and rng.random() > _ONE_BY_ONE:
        question = operand(rng, split, lambda: _outside(rng))
    else:
        question = operand(rng, split, lambda: rng.choice(facts.UNKNOWABLE))
    return Turn("unknown", question, rng.choice(_REFUSALS), "sorry")


def _declined(rng: random.Random, split: str) -> Turn:
    questions, more, answer = rng.choice(_DECLINED)
    return Turn("declined", rng.choice(wordings(split, questions, more)), answer, "sorry")


# How often each is drawn.
SINGLE: dict[str, tuple[Skill, float]] = {
    "sums": (_arithmetic("sums", "+", _small(20)), 4.0),
    "products": (_arithmetic("products", "*", _small(10, 1)), 3.0),
    "capitals": (_capitals, 4.5),
    "opposites": (_opposites, 2.0),
    "spelling": (_spelling, 2.5),
    "counting": (_counting, 1.5),
    "calendar": (_calendar, 1.5),
    "repeating": (_repeating, 3.0),
    "identity": (_fixed("identity"), 1.0),
    "abilities": (_fixed("abilities"), 0.7),
    "greetings": (_fixed("greetings"), 0.8),
    "thanks": (_fixed("thanks"), 0.6),
    "farewell": (_fixed("farewell"), 0.6),
    "unknown": (_unknown, 2.0),
    "larger sums": (_arithmetic("larger sums", "+", _larger_sum), 2.5),
    "differences": (_arithmetic("differences", "-", _difference(30)), 2.0),
    "larger differences": (_arithmetic("larger differences", "-", _difference(99)), 2.0),
    "larger products": (_arithmetic("larger products", "*", _small(12, 2)), 1.0),
    "quotients": (_arithmetic("quotients", "/", _quotient), 1.5),
    "comparing": (_comparing, 1.2),
    "steps": (_steps, 1.0),
    "continents": (_continents, 2.0),
    "planets": (_planets, 0.8),
    "elements": (_elements, 1.0),
    "units": (_units, 1.0),
    "months": (_month_days, 1.0),
    "clock": (_clock, 1.5),
    "plurals": (_plurals, 1.0),
    "rhymes": (_rhymes, 1.0),
    "letters": (_letters, 1.2),
    "reversing": (_reversing, 1.2),
    "small talk": (_small_talk, 1.0),
    "declined": (_declined, 1.0),
}

# What may be drilled. The longer ones are for training alone: how to count by steps is the same for other steps, too.
EXERCISES: dict[str, Skill] = {
    **{name: skill for name, (skill, _) in SINGLE.items()},
    "longer products": _arithmetic("longer products", "*", _long_product),
    "longer quotients": _arithmetic("longer quotients", "/", _long_quotient),
}


def any_single(rng: random.Random, split: str) -> Turn:
    """A turn of any skill, by weight."""
    makers, weights = zip(*SINGLE.values(), strict=True)
    turn: Turn = rng.choices(makers, weights)[0](rng, split)
    return turn
