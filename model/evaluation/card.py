"""The figures of a model's card, from a result of `antiphon eval`: nobody copies a figure by hand."""

from collections.abc import Iterable
from datetime import date
from itertools import zip_longest
from pathlib import Path

from benchmarks.targets import Figures, Target
from model.evaluation.targets import TARGETS

MARKS = "<!-- figures: antiphon eval --card -->", "<!-- end of figures -->"


def parts_of(path: Path) -> tuple[str, str]:
    """A card up to its first mark, and from its second one on. Raises `OSError`, and `ValueError` without marks."""
    text = path.read_text()
    before, first, rest = text.partition(MARKS[0])
    _, second, after = rest.partition(MARKS[1])
    if not (first and second):
        raise ValueError(f"{path}: expected the two lines {MARKS[0]} and {MARKS[1]}")
    return before, after


def write(path: Path, result: Figures) -> None:
    """Put the tables of `result` between the marks of a card."""
    before, after = parts_of(path)
    path.write_text(f"{before}{MARKS[0]}\n\n{tables(result)}\n{MARKS[1]}{after}")


def tables(result: Figures) -> str:
    """Every promise with what was reached, and shares by skill, voice and condition, in Markdown."""
    measured = [(target, value) for target in TARGETS if (value := target.find(result)) is not None]
    asked = f"{result['dialogues']} dialogues, " if "dialogues" in result else ""
    parts = [
        f"{date.today()}, {asked}seed {result['seed']}:\n",
        "| measure | reached | must | aim | |\n|---|---|---|---|---|",
        *(_row(target, value) for target, value in measured),
        "",
    ]
    if by_skill := result.get("by_skill"):
        parts += ["Right answers by skill, clean:\n", "| skill | right | skill | right |\n|---|---|---|---|"]
        cells = [f"{name} | {100 * right:.0f} %" for name, right in by_skill.items()]
        half = (len(cells) + 1) // 2
        parts += [f"| {a} | {b} |" for a, b in zip_longest(cells[:half], cells[half:], fillvalue=" | ")]
        voices = _told(result["by_voice"].items())
        parts += ["", f"By voice, clean: {voices}. Words misheard: {100 * result['hearing_wer']:.0f} %.", ""]
    if wrong := result.get("phones_wrong"):
        parts += ["Phones of free English that the ears misread:", ""]
        parts += [f"- {line}: {_told(by_voice.items())}" for line, by_voice in wrong.items()]
        parts.append("")
    return "\n".join(parts)


def _row(target: Target, value: float) -> str:
    verdict = target.verdict(value)
    limit = "at least" if target.more_is_better else "at most"
    shown = f"{value:.3g} {target.unit}".strip()
    said = f"**{verdict}**" if verdict == "missed" else verdict
    return f"| {target.measure} | **{shown}** | {limit} {target.must:g} | {target.aim:g} | {said} |"


def _told(shares: Iterable[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares)
