"""What the embedded model is to reach, and where in the result of `antiphon eval` each figure is found."""

from collections.abc import Callable

from benchmarks.targets import Figures, Target, at

ARITHMETIC = (
    "sums", "products", "larger sums", "differences", "larger differences", "larger products", "quotients",
)  # fmt: skip


def _percent(*path: str) -> Callable[[Figures], float | None]:
    find = at(*path)

    def percent(result: Figures) -> float | None:
        value = find(result)
        return None if value is None else 100 * value

    return percent


def _worst_skill(result: Figures) -> float | None:
    by_skill = result.get("by_skill")  # of clean speech: empty where only other conditions were asked for
    return 100 * min(by_skill.values()) if by_skill else None


def _more(key: str, measure: str, find: Callable[[Figures], float | None], must: float, aim: float) -> Target:
    return Target(key, measure, "eval", find, must, aim, "%", more_is_better=True)


def _less(key: str, measure: str, must: float, aim: float, unit: str = "%") -> Target:
    return Target(key, measure, "eval", _percent(key) if unit == "%" else at(key), must, aim, unit)


TARGETS = (
    _more("clean", "right answers, clean", _percent("by_condition", "clean"), 90, 97),
    _more("worst_skill", "the skill with the fewest", _worst_skill, 75, 90),
    _more("noise", "right answers, noise at 10 dB", _percent("by_condition", "noise"), 80, 92),
    _more("telephone", "right answers, telephone band", _percent("by_condition", "telephone"), 82, 93),
    _more("basic", "right answers, basic skills", _percent("basic"), 80, 97),
    _more("arithmetic", "arithmetic on operand pairs never seen", _percent("arithmetic"), 80, 95),
    _more("memory", "memory over three or more turns", _percent("memory"), 85, 95),
    _more("tools", "calls of known functions, exact", _percent("calls", "tools"), 92, 98),
    _more("made_up_tools", "calls of unseen functions, exact", _percent("calls", "made-up tools"), 70, 90),
    _more("unknown", "outside its knowledge: says so", _percent("by_skill", "unknown"), 85, 95),
    _less("false_refusals", "says so where it should know", 4, 1),
    _less("transcription_wer", "free English written down: words wrong", 20, 8),
    _less("spoken_wer", "spoken answer against its transcript: words wrong", 8, 3),
    _less("aloud_wer", "free English read aloud: words wrong", 15, 6),
    Target(
        "naturalness",
        "naturalness of the voice, DistillMOS",
        "eval",
        at("naturalness"),
        3.0,
        3.7,
        "",
        more_is_better=True,
    ),
    _less("cut_offs", "cut off in a pause of 0.3 to 1 s", 5, 2),
    _less("decision_ms", "end of the turn decided, median", 200, 120, "ms"),
    _less("unended", "babble or a missing end", 1, 0.1),
    _less("size_mb", "size on disk", 60, 40, "MB"),
    _less("real_time_factor", "seconds per second of answer, one session", 0.3, 0.15, ""),
)
