"""Dialogues with function tools: the session's tools as text, what people want of them, the right call, its result.

A third of the training's tools are made up from verbs and nouns, so that the model learns to read a description
instead of knowing the tool; made-up tools of the held-out split have nouns that training never names.
"""

import json
import random
from typing import Any

from model.prompt import Tool, call_text, system_text
from model.training import facts
from model.training.more_wordings import MORE
from model.training.skills import any_single
from model.training.turns import HELDOUT, Dialogue, Turn, number_words, operand, sentence, wordings

_ROOMS = ("kitchen", "bedroom", "bathroom", "hall", "garage", "garden", "office", "cellar")
_DAYS = ("today", "tomorrow", *(d.lower() for d in facts.DAYS))
_NOTES = (
    "buy milk", "call Anna", "feed the cat", "water the flowers", "pay the rent", "book a table", "fix the door", "send the letter", "clean the car", "meet Tom at noon",
    "return the book", "bring an umbrella",
)  # fmt: skip
_NOUNS = (
    "heater", "fan", "blind", "door", "window", "radio", "oven", "pump", "gate", "screen", "alarm", "robot", "printer", "camera", "freezer", "speaker", "lamp", "engine",
    "boiler", "kettle", "mixer", "dryer", "washer", "sauna", "pool", "sprinkler", "mower", "projector", "scanner", "elevator",
)  # fmt: skip
# For measuring alone, beside those of the hash: words that training hears, and that none of its dialogues names.
_NOUNS_HELD_OUT = (
    "furnace", "tank", "shower", "bath", "roof", "ceiling", "battery", "signal", "cable", "curtain",
)  # fmt: skip
_LEVELS = ("low", "medium", "high")
_MODES = ("eco", "normal", "turbo", "silent", "auto")


_Use = tuple[Tool, str, dict[str, Any], str, str]  # tool, question, arguments, result, answer


def _lights(rng: random.Random, split: str) -> _Use:
    on, room = rng.random() < 0.5, rng.choice(_ROOMS)
    tool = Tool("set_light", (("room", "string"), ("on", "boolean")), "Switch the light of a room.")
    templates = (
        "Turn {o} the light in the {r}.", "Switch {o} the {r} light.", "Please turn {o} the lights in the {r}.", "Can you switch {o} the light in the {r}?",
        "Turn the {r} light {o}.", "Light {o} in the {r}, please.", "Could you turn the {r} lights {o}?", "I want the light in the {r} {o}.", "Please switch the {r} light {o}.",
        "Put the light {o} in the {r}.",
    )  # fmt: skip
    word = "on" if on else "off"
    question = rng.choice(wordings(split, templates, MORE["lights"])).format(o=word, r=room)
    return tool, question, {"room": room, "on": on}, '{"ok": true}', f"The light in the {room} is {word}."


def _timer(rng: random.Random, split: str) -> _Use:
    minutes = rng.randint(1, 60)
    tool = Tool("set_timer", (("minutes", "number"),), "Start a timer.")
    templates = (
        "Set a timer for {m}.", "Start a timer of {m}.", "Please set a timer for {m}.", "Can you set a timer for {m}?", "Timer, {m}.", "Wake me in {m}.",
        "Tell me when {m} are over.", "I need a timer for {m}.", "Start a {m} timer.", "Could you start a timer for {m}?",
    )  # fmt: skip
    said = f"{number_words(minutes)} minute{'s' * (minutes > 1)}"
    question = sentence(rng.choice(wordings(split, templates, MORE["timer"])).format(m=said))
    return tool, question, {"minutes": minutes}, '{"started": true}', f"Your timer is set for {said}."


def _weather(rng: random.Random, split: str) -> _Use:
    city, day = rng.choice(facts.PLACES), rng.choice(_DAYS)
    tool = Tool("get_weather", (("city", "string"), ("day", "string")), "The weather of a city on a day.")
    when = day if day in ("today", "tomorrow") else f"on {day.capitalize()}"
    templates = (
        "What's the weather in {c} {d}?", "How is the weather in {c} {d}?", "What will the weather be in {c} {d}?", "Tell me the weather in {c} {d}.", "Weather in {c} {d}, please.",
        "Is it sunny in {c} {d}?", "Do I need an umbrella in {c} {d}?", "What is the weather like in {c} {d}?", "Can you tell me the weather in {c} {d}?", "How warm is it in {c} {d}?",
    )  # fmt: skip
    sky, degrees = rng.choice(("sunny", "rainy", "cloudy", "windy", "snowy", "foggy")), rng.randint(1, 35)
    question = rng.choice(wordings(split, templates, MORE["weather"])).format(c=city, d=when)
    result = json.dumps({"sky": sky, "degrees": degrees})
    answer = f"It is {sky} in {city}, {number_words(degrees)} degrees."
    return tool, question, {"city": city, "day": day}, result, answer


def _note(rng: random.Random, split: str) -> _Use:
    text = rng.choice(_NOTES)
    tool = Tool("add_note", (("text", "string"),), "Write a note.")
    templates = (
        "Make a note: {t}.", "Note: {t}.", "Write down: {t}.", "Please note: {t}.", "Add a note: {t}.", "Remind me: {t}.", "Take a note: {t}.", "Please write down: {t}.",
        "New note: {t}.", "Can you note this: {t}.",
    )  # fmt: skip
    question = rng.choice(wordings(split, templates, MORE["note"])).format(t=text)
    return tool, question, {"text": text}, '{"saved": true}', f"I noted: {text}."


def _made_up(rng: random.Random, split: str) -> _Use:
    kept = rng.choice(_NOUNS_HELD_OUT) if split == HELDOUT and rng.random() < 0.9 else None
    noun = kept or operand(rng, split, lambda: rng.choice(_NOUNS))
    kind = rng.choice(("level", "on", "mode", "place"))
    if kind == "level":
        name, argument = rng.choice(
            (("temperature", "degrees"), ("level", "level"), ("power", "percent"), ("speed", "value"))
        )
        value = rng.randint(1, 60)
        tool = Tool(f"set_{noun}_{name}", ((argument, "number"),), f"Set the {name} of the {noun}.")
        templates = (
            "Set the {n} {p} to {v}.",
            "Put the {p} of the {n} to {v}.",
            "Please set the {p} of the {n} to {v}.",
            "Change the {n} {p} to {v}.",
            "Set the {p} of the {n} to {v}.",
        )
        question = rng.choice(wordings(split, templates, MORE["level"])).format(n=noun, p=name, v=number_words(value))
        return tool, question, {argument: value}, '{"ok": true}', f"The {name} of the {noun} is {number_words(value)}."
    if kind == "on":
        on, (verb, argument) = (
            rng.random() < 0.5,
            rng.choice((("switch", "on"), ("control", "active"), ("toggle", "running"))),
        )
        tool = Tool(f"{verb}_{noun}", ((argument, "boolean"),), f"Turn the {noun} on or off.")
        word = "on" if on else "off"
        templates = (
            "Turn {o} the {n}.",
            "Switch the {n} {o}.",
            "Please turn the {n} {o}.",
            "Can you turn {o} the {n}?",
            "Turn the {n} {o}.",
        )
        question = rng.choice(wordings(split, templates, MORE["on"])).format(o=word, n=noun)
        return tool, question, {argument: on}, '{"ok": true}', f"The {noun} is {word}."
    if kind == "mode":
        mode = rng.choice(_MODES if rng.random() < 0.5 else _LEVELS)
        values = "|".join(_MODES if mode in _MODES else _LEVELS)
        tool = Tool(f"set_{noun}_mode", (("mode", values),), f"Choose the mode of the {noun}.")
        templates = (
            "Set the {n} to {m}.",
            "Put the {n} on {m}.",
            "Please set the {n} to {m} mode.",
            "Switch the {n} to {m}.",
            "The {n} on {m}, please.",
        )
        question = rng.choice(wordings(split, templates, MORE["mode"])).format(n=noun, m=mode)
        return tool, question, {"mode": mode}, '{"ok": true}', f"The {noun} is on {mode}."
    room = rng.choice(_ROOMS)
    tool = Tool(f"find_{noun}", (("room", "string"),), f"Look for the {noun} in a room.")
    found = rng.random() < 0.5
    templates = (
        "Is the {n} in the {r}?",
        "Look for the {n} in the {r}.",
        "Find the {n} in the {r}.",
        "Is there a {n} in the {r}?",
        "Can you find the {n} in the {r}?",
    )
    question = rng.choice(wordings(split, templates, MORE["place"])).format(n=noun, r=room)
    answer = f"{'Yes, the' if found else 'No, the'} {noun} is {'' if found else 'not '}in the {room}."
    return tool, question, {"room": room}, json.dumps({"found": found}), answer


_KNOWN = (_lights, _timer, _weather, _note)


def draw(rng: random.Random, split: str, made_up: bool) -> Dialogue:
    """A session with one to four tools, in which one is needed, or now and then none."""
    needed, *others = (
        _made_up(rng, split) if made_up else rng.choice(_KNOWN)(rng, split) for _ in range(rng.randint(1, 4))
    )
    tool, question, arguments, result, answer = needed
    # No two that do the same: calling the other one would be as right.
    listed = list(({other.description: other for other, *_ in others} | {tool.description: tool}).values())
    rng.shuffle(listed)
    if rng.random() < 0.15:  # a question that no tool is for
        return Dialogue((any_single(rng, split),), system_text("", listed), tools=tuple(listed))
    skill = "made-up tools" if made_up else "tools"
    turn = Turn(skill, question, answer, call=call_text(tool.name, json.dumps(arguments)), result=result)
    return Dialogue((turn,), system_text("", listed), tools=tuple(listed))
