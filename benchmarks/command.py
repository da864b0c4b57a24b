"""`antiphon bench`: measure a server."""

import argparse
import importlib
from collections.abc import Callable

from benchmarks import COMMANDS


def main(argv: list[str]) -> int:
    """Run one benchmark."""
    width = max(len(name) for name in COMMANDS) + 2
    parser = argparse.ArgumentParser(
        prog="antiphon bench",
        description="Measure a server; the last line of every benchmark is JSON, see docs/benchmarks.md.",
        epilog="kinds:\n" + "\n".join(f"  {name:<{width}}{text}" for name, text in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=not argv or argv[0] not in COMMANDS,
    )
    parser.add_argument("kind", choices=COMMANDS, metavar="kind", help="what to measure; `kind --help` tells more")
    options, rest = parser.parse_known_args(argv)
    measure: Callable[[list[str]], int] = importlib.import_module(f"benchmarks.{options.kind}").main
    return measure(rest)
