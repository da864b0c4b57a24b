"""The command `antiphon`. Each subcommand imports what it needs, so that a client never pays for torch."""

import argparse
import importlib
import sys
from collections.abc import Callable

_EXAMPLES = """examples:
  antiphon serve                       serve the embedded model on ws://127.0.0.1:8000/v1/realtime
  antiphon talk --file question.wav    ask it
  antiphon bench ttfa                  measure its time to first audio
  antiphon capacity --total 1000       how many replicas so many sessions need
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    commands = {
        "serve": ("server.serve", "serve a model to Realtime clients"),
        "deploy": ("server.deploy.command", "serve a model on Ray Serve: many replicas, on one machine or many"),
        "capacity": (
            "server.deploy.capacity",
            "how many replicas a number of sessions needs, from measured step times",
        ),
        "talk": ("clients.talk", "ask a server with sound files or the microphone"),
        "demo": ("clients.demo", "start a server and ask it the questions that ship with the project"),
        "replay": ("clients.replay", "play a recorded conversation to a server and compare"),
        "bench": ("benchmarks.command", "measure a server: ttfa, load, overload, turns, gateway, engine, …"),
        "eval": ("model.evaluation.command", "measure a model's answers on held-out questions"),
    }
    parser = argparse.ArgumentParser(
        prog="antiphon",
        description="A low-latency speech-to-speech server that speaks the OpenAI Realtime protocol.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, (_, text) in commands.items():
        subparsers.add_parser(name, help=text, add_help=False)
    options, _ = parser.parse_known_args(arguments[:1] or ["--help"])
    run: Callable[[list[str]], int] = importlib.import_module(commands[options.command][0]).main
    try:
        return run(arguments[1:])
    except KeyboardInterrupt:
        return 130  # as a shell says of a command that was interrupted


if __name__ == "__main__":
    sys.exit(main())
