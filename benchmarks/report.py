"""`antiphon bench report`: one self-contained HTML page with pictures of results that `--save` has kept.

Distribution of the times to first audio, times and viability against the number of sessions, and the stages of a turn.
Pictures are drawn with matplotlib (`pip install 'antiphon[train]'`) and put into the page.

Last line, JSON: `command`, `results`, `page`.
"""

import argparse
import base64
import html
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.figures import TARGET_MS, Figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STAGES = ("heard", "transcribed", "first_token", "first_code", "first_audio")
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}img{max-width:100%}.missed{color:#b00}"""


def main(argv: list[str]) -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(prog="antiphon bench report", description="A page with pictures of saved results.")
    parser.add_argument("results", type=Path, nargs="+", help="files that `--save` of the other benchmarks wrote")
    parser.add_argument("--out", type=Path, default=Path("out/report.html"), help="(default: %(default)s)")
    chosen = parser.parse_args(argv)
    results = [json.loads(path.read_text()) for path in chosen.results]
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(page(results))
    print(json.dumps({"command": "bench report", "results": len(results), "page": str(chosen.out)}))
    return 0


def runs(result: Figures) -> dict[str, Figures]:
    """The single measurements of a result, by a name for each."""
    if "runs" in result:
        return {f"{count} sessions": figures for count, figures in result["runs"].items()}
    return dict(result["servers"]) if "servers" in result else {result["mode"]: result}


def page(results: list[Figures]) -> str:
    """The whole page."""
    parts = [f"<!doctype html><meta charset=utf-8><title>Antiphon: benchmarks</title><style>{_STYLE}</style>"]
    parts.append("<h1>Time to first audio</h1>")
    for result in results:
        where = f"{result['processor']}, {result['cores']} cores, {result['date']}"
        parts.append(f"<h2>{html.escape(result['command'])}, turns end by {html.escape(result['mode'])}</h2>")
        parts.append(f"<p>{html.escape(where)}; {result['answered']} of {result['turns']} turns answered.</p>")
        parts += [_table(runs(result)), _pictures(result)]
    return "\n".join(parts)


def _table(measured: dict[str, Figures]) -> str:
    head = ("", "commit, median", "p95", "speech, median", "p95", "barge-in, p95", "viability")
    lines = ["<table><tr>" + "".join(f"<th>{h}</th>" for h in head) + "</tr>"]
    for name, figures in measured.items():
        commit, speech, barge = figures["from_commit_ms"], figures["from_speech_ms"], figures["barge_in_ms"]
        cells = [commit.get("median"), commit.get("p95"), speech.get("median"), speech.get("p95"), barge.get("p95")]
        shown = [_cell(value) for value in cells] + [f"<td>{100 * figures['viability']:.1f} %</td>"]
        lines.append(f"<tr><td>{html.escape(name)}</td>{''.join(shown)}</tr>")
    return "\n".join([*lines, "</table>"])


def _cell(ms: float | None) -> str:
    if ms is None:
        return "<td>-</td>"
    return f'<td class="missed">{ms}</td>' if ms > TARGET_MS else f"<td>{ms}</td>"


def _pictures(result: Figures) -> str:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    measured = runs(result)
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6))
    start = "from_commit_ms" if result["mode"] == "manual" else "from_speech_ms"
    _distribution(axes[0], measured, start)
    _against_sessions(axes[1], measured, start)
    _waterfall(axes[2], next(iter(measured.values())))
    figure.tight_layout()
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=110)
    plt.close(figure)
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(target.getvalue()).decode()}">'


def _distribution(axis: "Axes", measured: dict[str, Figures], start: str) -> None:
    for name, figures in measured.items():
        values = sorted(t[start] for t in figures["raw"] if t[start] is not None)
        if values:
            axis.step(values, [(i + 1) / len(values) for i in range(len(values))], where="post", label=name)
    axis.axvline(TARGET_MS, color="#b00", linewidth=1, linestyle="--")
    axis.set(title="share of turns that began within …", xlabel="ms", ylim=(0, 1.02), xlim=(0, None))
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8)
    axis.grid(alpha=0.3)


def _against_sessions(axis: "Axes", measured: dict[str, Figures], start: str) -> None:
    names = list(measured)
    for share in ("median", "p95"):
        axis.plot(names, [measured[n][start].get(share, float("nan")) for n in names], marker="o", label=share)
    axis.axhline(TARGET_MS, color="#b00", linewidth=1, linestyle="--")
    axis.set(title="time to first audio", ylabel="ms", ylim=(0, None))
    axis.legend(fontsize=8, loc="upper left")
    axis.grid(alpha=0.3)
    other: Any = axis.twinx()
    other.plot(names, [100 * measured[n]["viability"] for n in names], color="#777", marker="s", linewidth=1)
    other.set(ylabel="chunks in time, %", ylim=(50, 101))


def _waterfall(axis: "Axes", figures: Figures) -> None:
    stages = [(name, figures["stages_ms"][name]) for name in _STAGES if name in figures["stages_ms"]]
    before = 0.0
    for i, (_, ms) in enumerate(stages):
        axis.barh(i, max(0.0, ms - before), left=before, color="#4878a8")
        axis.text(ms, i, f" {ms:.0f}", va="center", fontsize=8)
        before = max(before, ms)
    axis.set_yticks(range(len(stages)), [name for name, _ in stages])
    axis.invert_yaxis()
    axis.set(title="a turn in the engine, medians", xlabel="ms after the request")
