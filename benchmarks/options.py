"""What the commands of `antiphon bench` have in common on the command line: a help that teaches, and a server."""

import argparse
import importlib
from pathlib import Path

from benchmarks import COMMANDS
from clients import sound
from clients.keys import KEY_HELP

MODES = ("manual", "server_vad", "semantic_vad")
EVERY_RESULT = {
    "command": "which benchmark made the result",
    "processor": "of the machine that ran the benchmark",
    "cores": "how many it has",
    "date": "when, as YYYY-MM-DD",
}
"""Keys of every last line."""


def benchmark(name: str, about: str | None, keys: dict[str, str]) -> argparse.ArgumentParser:
    """A parser whose help is the module's text `about` and what each key of the last line means."""
    width = max(len(key) for key in keys) + 2
    told = "\n".join(f"  {key:<{width}}{text}" for key, text in keys.items())
    parser = argparse.ArgumentParser(
        prog=f"antiphon bench {name}",
        description=about,
        epilog=f"the last line is JSON; its keys, besides {', '.join(EVERY_RESULT)}:\n{told}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the result there as well, for `bench report`")
    return parser


def add_server(parser: argparse.ArgumentParser) -> None:
    """The one server that is measured."""
    parser.add_argument("--url", help="server to measure (default: start one with the embedded model)")


def add_questions(parser: argparse.ArgumentParser) -> None:
    """What is said, and the key that lets one say it."""
    parser.add_argument("--key", help=KEY_HELP)
    parser.add_argument(
        "--files", type=Path, nargs="+", default=sound.questions(), help="questions (default: those that ship)"
    )


def add_conversation(parser: argparse.ArgumentParser, mode: str = "manual", warmup: int = 2) -> None:
    """What is said, how turns end, and which of them count."""
    add_questions(parser)
    parser.add_argument("--mode", choices=MODES, default=mode, help="how turns end (default: %(default)s)")
    parser.add_argument(
        "--warmup", type=int, default=warmup, help="turns of each session that are not counted (default: %(default)s)"
    )


def document() -> str:
    """docs/benchmarks.md: what each command measures, and every key of its last line."""
    parts = [_HEAD]
    for name, about in COMMANDS.items():
        module = importlib.import_module(f"benchmarks.{name}")
        rows = [f"| `{key}` | {text} |" for key, text in module.KEYS.items()]
        parts.append("\n".join([f"## antiphon bench {name}", "", f"{about.capitalize()}.", "", *_TABLE, *rows]))
    parts.append("\n".join(["## Every result", "", *_TABLE, *(f"| `{k}` | {t} |" for k, t in EVERY_RESULT.items())]))
    return "\n\n".join(parts) + "\n"


_TABLE = ("| key | meaning |", "|---|---|")
_HEAD = """# Benchmarks

`antiphon bench KIND --help` says what a benchmark does. Its last line is one JSON object with the keys below; they
stay as they are. `--save FILE` keeps it, with every turn by itself, for `antiphon bench report`. Without `--url` a
server with the embedded model is started. `make bench-all` runs all but `compare`.

Time to first audio is counted to the first *audible* sample, at the client: silence that an answer begins with counts
as waiting. Both clocks are always told: from the end of the real speech, and from the commit. `send_lag_ms` is what the
benchmark itself adds: the machine that runs it must have time to spare.

This page is made of the code's own tables: `python -m benchmarks.options > docs/benchmarks.md`."""


if __name__ == "__main__":
    print(document(), end="")
