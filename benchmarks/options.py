"""What the commands of `antiphon bench` have in common on the command line: a help that teaches, and a server."""

import argparse
from pathlib import Path

from clients import sound

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
    parser.add_argument("--key", help="API key of the server")
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
