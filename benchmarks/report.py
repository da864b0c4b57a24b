"""`antiphon bench report`: one self-contained HTML page with pictures of results that `--save` or `bench all` has kept.

What was promised and what was reached, the distribution of the times to first audio, times and viability against the
number of sessions, the stages of a turn, and the timeline of a session.

    antiphon bench ttfa --save out/ttfa.json
    antiphon bench report out/ttfa.json --out out/report.html
"""

import html
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.drawing import COLOURS, Plot, bar, label, picture, rule, ticks
from benchmarks.figures import TARGET_MS, finish
from benchmarks.options import benchmark
from benchmarks.targets import Figures, name_of, scorecard

KEYS = {"results": "how many results are on the page", "page": "where it is"}
_TIMELINE_S = 45.0  # more would be too small to read
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.6rem} h2{font-size:1.15rem;margin:2.2rem 0 .3rem;border-top:1px solid #ddd;padding-top:1rem}
p{margin:.3rem 0 .6rem;color:#555} table{border-collapse:collapse;margin:.5rem 0;font-size:14px}
td,th{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #e5e5e5;font-variant-numeric:tabular-nums}
td:first-child,th:first-child{text-align:left} th{font-weight:600;color:#555} td{white-space:nowrap}
.missed{color:#b00020;font-weight:600} .met{color:#00703c} .none{color:#999}
svg{max-width:100%;height:auto;margin:.3rem .6rem .3rem 0;vertical-align:top}
svg text{font:11px system-ui,sans-serif;fill:#444}
svg .title{font-size:13px;font-weight:600;fill:#222} svg .inside{fill:#fff} svg .limit{fill:#b00020}
.grid{stroke:#e4e4e4} line.limit{stroke:#b00020;stroke-dasharray:4 3} .axis{stroke:#999}"""


def main(argv: list[str]) -> int:
    """Write the page."""
    parser = benchmark("report", __doc__, KEYS)
    parser.add_argument("results", type=Path, nargs="+", help="files that `--save` or `bench all` wrote")
    parser.add_argument("--out", type=Path, default=Path("out/report.html"), help="(default: %(default)s)")
    chosen = parser.parse_args(argv)
    try:
        results = [result for path in chosen.results for result in read(path)]
    except (OSError, ValueError, KeyError) as error:
        print(f"expected results of antiphon bench, got: {error}", file=sys.stderr)
        return 2
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(page(results), encoding="utf-8")
    return finish({"command": "bench report", "results": len(results), "page": str(chosen.out)}, chosen)


def read(path: Path) -> list[Figures]:
    """The results in a file, which `bench all` fills with many. Raises `OSError`, `ValueError` or `KeyError`."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    results = kept["results"] if isinstance(kept.get("results"), list) else [kept]
    if not all(str(result["command"]).startswith("bench ") for result in results):
        raise ValueError(f"{path} holds something else")
    return list(results)


def page(results: list[Figures]) -> str:
    """The whole page."""
    parts = ['<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">']
    parts += ["<title>Antiphon: benchmarks</title>", f"<style>{_STYLE}</style>", "<h1>Antiphon: benchmarks</h1>"]
    wheres = {f"{r['processor']}, {r['cores']} cores, {r['date']}" for r in results}
    parts.append(f"<p>{html.escape('; '.join(sorted(wheres)))}. Times are in ms.</p>")
    parts.append(_scorecard(results))
    for result in sorted(results, key=lambda result: not runs(result)):  # conversations first
        parts += _section(result)
    return "\n".join([part for part in parts if part] + ["</html>"])


def runs(result: Figures) -> dict[str, Figures]:
    """The single measurements of conversations in a result, by a name for each."""
    if "runs" in result:
        return {f"{count} sessions": figures for count, figures in result["runs"].items()}
    if "servers" in result:
        return dict(result["servers"])
    return {name_of(result): result} if "from_commit_ms" in result else {}


def _section(result: Figures) -> list[str]:
    """One result."""
    repeats = f", medians of {result['repeats']} runs" if result.get("repeats", 1) > 1 else ""
    told = f"turns end by {result['mode']}; " if "mode" in result else ""
    counted = f"{result['answered']} of {result['turns']} turns answered" if "answered" in result else ""
    parts = [
        f"<h2>{html.escape(name_of(result))}{repeats}</h2>",
        f"<p>{html.escape((told + counted).rstrip('; '))}</p>",
    ]
    if result.get("generator_was_too_slow"):
        parts.append('<p class="missed">The load generator itself was too slow: these figures are an upper bound.</p>')
    measured = runs(result)
    if measured:
        parts += [_table(measured), _pictures(measured, result.get("mode", ""))]
    if "tokens_each" in result:
        parts.append(_long_conversation(result))
    if "decode" in result:
        parts.append(_engine(result))
    if "up_ms" in result:
        parts.append(_gateway(result))
    return parts


# --- tables --------------------------------------------------------------------------------------------------------


def _rows(head: tuple[str, ...], rows: list[list[str]]) -> str:
    """A table; cells are HTML."""
    lines = ["<table><tr>" + "".join(f"<th>{html.escape(h)}</th>" for h in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    return "\n".join([*lines, "</table>"])


def _number(value: float | None, limit: float | None = None) -> str:
    if value is None:
        return '<span class="none">-</span>'
    return f'<span class="missed">{value:g}</span>' if limit is not None and value > limit else f"{value:g}"


def _scorecard(results: list[Figures]) -> str:
    rows = []
    for target, value in scorecard(results):
        if value is not None:
            verdict = target.verdict(value)
            shown = f'<span class="{"missed" if verdict == "missed" else "met"}">{verdict}</span>'
            unit = f" {target.unit}".rstrip()
            rows.append([html.escape(target.measure), f"{value:g}{unit}", f"{target.must:g}", f"{target.aim:g}", shown])
    return _rows(("promised", "reached", "must", "aim", ""), rows) if rows else ""


def _table(measured: dict[str, Figures]) -> str:
    head = (
        "",
        "commit, median",
        "p95",
        "p99",
        "speech, median",
        "p95",
        "p99",
        "barge-in, p95",
        "in time",
        "refused",
        "own lag, p95",
    )
    rows = []
    for name, figures in measured.items():
        commit, speech = figures["from_commit_ms"], figures["from_speech_ms"]
        cells = [
            _number(clock.get(share), TARGET_MS if share == "median" else None)
            for clock in (commit, speech)
            for share in ("median", "p95", "p99")
        ]
        cells += [_number(figures["barge_in_ms"].get("p95")), f"{100 * figures['viability']:.1f} %"]
        cells.append(_number(figures.get("refused", 0) + figures.get("failed", 0)))
        rows.append([html.escape(name), *cells, _number(figures["send_lag_ms"].get("p95"))])
    return _rows(head, rows)


def _engine(result: Figures) -> str:
    rows = [
        [f"{kind} {size}", *(_number(row.get(key)) for key in ("ms", "floor_ms", "times"))]
        for kind in ("decode", "prefill", "hear", "say")
        for size, row in result[kind].items()
    ]
    return _rows(("step and size", "ms", "floor", "times"), rows)


def _gateway(result: Figures) -> str:
    names = {"up_ms": "client's chunk → engine", "down_ms": "engine's chunk → client"}
    shares = ("median", "p90", "p95", "p99")
    rows = [[title, *(_number(result[key].get(share)) for share in shares)] for key, title in names.items()]
    told = (
        f"{result['sessions']:g} sessions streaming chunks of {result['chunk_ms']:g} ms; an idle session takes "
        f"{result['idle_session_kb']:g} kB, one that has talked {result['streaming_session_kb']:g} kB; the gateway "
        f"needed {result['gateway_cpu']:g} of a core, this benchmark {result['generator_cpu']:g}."
    )
    return f"<p>{told}</p>" + _rows(("", *shares), rows)


# --- pictures ------------------------------------------------------------------------------------------------------


def _pictures(measured: dict[str, Figures], mode: str) -> str:
    clock = "from_commit_ms" if mode == "manual" else "from_speech_ms"
    since = "commit" if mode == "manual" else "end of speech"
    drawn = [_distribution(measured, clock, since)]
    if len(measured) > 1 and all(name.endswith(" sessions") for name in measured):
        drawn += _against_sessions(measured, clock, since)
    turns = [turn for figures in measured.values() for turn in figures.get("raw", [])]
    drawn += [_waterfall(turns, clock), _timeline(list(measured.values())[-1].get("raw", []))]
    return "\n".join(part for part in drawn if part)


def _distribution(measured: dict[str, Figures], clock: str, since: str) -> str:
    series = {name: sorted(t[clock] for t in f.get("raw", []) if t[clock] is not None) for name, f in measured.items()}
    series = {name: values for name, values in series.items() if values}
    if not series:
        return ""
    most = max(TARGET_MS * 1.3, *(values[-1] for values in series.values()))
    plot = Plot("Distribution of time to first audio", f"ms from {since}", "share of turns, %", (0, most), (0, 100))
    plot.limit(TARGET_MS, f"{TARGET_MS:g} ms", vertical=True)
    for name, values in series.items():
        steps, before = [(0.0, 0.0)], 0.0
        for i, value in enumerate(values):
            after = 100 * (i + 1) / len(values)
            steps += [(value, before), (value, after)]
            before = after
        plot.line([*steps, (most, 100.0)], name)
    return plot.svg()


def _against_sessions(measured: dict[str, Figures], clock: str, since: str) -> list[str]:
    counts = {int(name.split()[0]): figures for name, figures in measured.items()}
    most = max(TARGET_MS * 1.3, *(f[clock].get("p95", 0) for f in counts.values()))
    places = sorted(counts)
    axis = (0.0, max(places) * 1.05)
    times = Plot(
        "Time to first audio against sessions", "sessions", f"ms from {since}", axis, (0, most * 1.25), places, True
    )
    times.limit(TARGET_MS, f"{TARGET_MS:g} ms")
    for share in ("median", "p95"):
        points = [(float(n), counts[n][clock][share]) for n in places if share in counts[n][clock]]
        times.line(points, share, dots=True)
    viable = [(float(n), 100 * counts[n]["viability"]) for n in places]
    low = min(90.0, *(share for _, share in viable))
    in_time = Plot("Streaming viability against sessions", "sessions", "chunks in time, %", axis, (low, 100.5), places)
    in_time.limit(99, "99 %")
    in_time.line(viable, "", dots=True)
    return [times.svg(), in_time.svg()]


def stages(turn: Figures, clock: str) -> list[tuple[str, float, float]]:
    """(stage, begin, end) of a turn in ms from the end of the speech or the commit, whichever `clock` says.

    The server's own stages count from its request for an answer, which is the commit but for microseconds.
    """
    decided = 0.0
    if clock == "from_speech_ms" and turn["from_commit_ms"] is not None:
        decided = max(0.0, turn["from_speech_ms"] - turn["from_commit_ms"])
    found, before = ([("turn decided", 0.0, decided)] if decided else []), decided
    for name, ms in sorted(turn["timings_ms"].items(), key=lambda stage: stage[1]):
        if before <= decided + ms <= turn[clock]:
            found.append((name.replace("_", " "), before, decided + ms))
            before = decided + ms
    return [*found, ("heard at the client", before, turn[clock])]


def _waterfall(turns: list[Figures], clock: str) -> str:
    """The stages of the turn whose time is the median."""
    told = sorted((t for t in turns if t["timings_ms"] and t[clock] is not None), key=lambda t: t[clock])
    if not told:
        return ""
    drawn = stages(told[len(told) // 2], clock)
    left, right, height = 130, 60, 22
    width, total = 440.0, max(end for _, _, end in drawn)
    scale = (width - left - right) / (total or 1)
    bottom = 34 + height * len(drawn)
    parts = []
    for value in ticks(0, total):
        x = left + value * scale
        parts += [rule(x, 30, x, bottom, "grid"), label(x, bottom + 15, f"{value:g}")]
    for row, (name, begin, end) in enumerate(drawn):
        y = 34 + height * row
        shown = f"{end - begin:.1f} ms" if end - begin < 10 else f"{end - begin:.0f} ms"
        parts.append(
            bar(left + begin * scale, y + 3, (end - begin) * scale, height - 6, COLOURS[row % 7], f"{name}: {shown}")
        )
        parts += [label(left - 8, y + 15, name, "end"), label(left + end * scale + 5, y + 15, shown, "start")]
    parts.append(label((left + width - right) / 2, bottom + 32, "ms"))
    return picture(width, bottom + 40, parts, "Waterfall of the median turn")


def _timeline(turns: list[Figures]) -> str:
    """Who spoke when in one session, and how long each answer was waited for."""
    said = [t for t in turns if t.get("session") == 0 and t.get("said_s") and None not in t["said_s"]]
    if not said:
        return ""
    start_s: float = max(0.0, said[0]["said_s"][0] - 0.5)
    said = [t for t in said if t["said_s"][1] < start_s + _TIMELINE_S]
    ends = [t["said_s"][1] for t in said] + [t["played_s"][1] for t in said if t["played_s"][1] is not None]
    end_s: float = min(max(ends), start_s + _TIMELINE_S) + 0.5
    width, left, lanes = 900.0, 64, {"person": 42, "server": 78}
    scale = (width - left - 16) / (end_s - start_s)

    def x(at_s: float) -> float:
        return left + (min(at_s, end_s) - start_s) * scale

    parts = []
    for value in ticks(0, end_s - start_s, most=12):
        parts += [rule(x(start_s + value), 32, x(start_s + value), 114, "grid")]
        parts += [label(x(start_s + value), 128, f"{value:g}")]
    parts += [label(left - 8, y + 17, name, "end") for name, y in lanes.items()]
    for turn, after in zip(said, [*said[1:], None], strict=True):
        begin, end = turn["said_s"]
        parts.append(bar(x(begin), lanes["person"], (end - begin) * scale, 26, COLOURS[0], "the person speaks"))
        sounds, until = turn["played_s"]
        if sounds is None:
            parts.append(label(x(end) + 4, lanes["server"] + 17, "no answer", "start", "limit"))
            continue
        cut = turn.get("interrupted") and after is not None
        stop = min(until, after["said_s"][0]) if cut and after else until
        title = f"answer after {1000 * (sounds - end):.0f} ms" + (", cut by the person" if cut else "")
        parts.append(bar(x(sounds), lanes["server"], x(stop) - x(sounds), 26, COLOURS[1], title))
        if x(stop) - x(sounds) > 44:
            parts.append(
                label(
                    (x(sounds) + x(stop)) / 2,
                    lanes["server"] + 17,
                    f"{1000 * (sounds - end):.0f} ms",
                    "middle",
                    "inside",
                )
            )
        if cut:
            parts.append(rule(x(stop), lanes["person"], x(stop), lanes["server"] + 26, "limit"))
    parts.append(
        label(left + (width - left) / 2, 144, "seconds; in each answer the wait for it, dashed where the person cut it")
    )
    return picture(width, 152, parts, "Timeline of a session")


def _long_conversation(result: Figures) -> str:
    times = [(float(i + 1), t["from_commit_ms"]) for i, t in enumerate(result.get("raw", [])) if t["from_commit_ms"]]
    read: list[Any] = result["tokens_each"]
    parts = [
        f"<p>Turns 2 …: {_number(result['early_ms'])} ms; turns 50 …: {_number(result['late_ms'])} ms; ratio "
        f"{_number(result['ratio'])}. At most {result['tokens_most']:g} tokens were read, of {result['tokens']:g}.</p>"
    ]
    if times:
        axis = (0.0, times[-1][0] + 1)
        plot = Plot(
            "Time to first audio along a conversation", "turn", "ms from commit", axis, (0, max(y for _, y in times))
        )
        plot.line(times, "", dots=True)
        parts.append(plot.svg())
    if read:
        most = max([*read, result["tokens"]]) * 1.1
        plot = Plot("Tokens that each answer read", "turn", "tokens", (0.0, len(read) + 1.0), (0, most))
        plot.limit(result["tokens"], "the session's rule")
        plot.line([(float(i + 1), float(n)) for i, n in enumerate(read)], "")
        parts.append(plot.svg())
    return "\n".join(parts)
