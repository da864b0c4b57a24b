"""The command `antiphon`. Each subcommand imports what it needs, so that a client never pays for torch."""

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

_EXAMPLES = """examples:
  antiphon serve                       serve the embedded model on ws://127.0.0.1:8000/v1/realtime
  antiphon talk --file question.wav    ask it
  antiphon bench ttfa                  measure its time to first audio
  antiphon capacity --total 1000       how many replicas so many sessions need
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    commands: dict[str, tuple[Callable[[list[str]], int], str]] = {
        "serve": (_serve, "serve a model to Realtime clients"),
        "deploy": (_deploy, "serve a model on Ray Serve: many replicas, on one machine or many"),
        "capacity": (_capacity, "how many replicas a number of sessions needs, from measured step times"),
        "talk": (_talk, "ask a server with sound files or the microphone"),
        "demo": (_demo, "start a server and ask it the questions that ship with the project"),
        "replay": (_replay, "play a recorded conversation to a server and compare"),
        "bench": (_bench, "measure a server: ttfa, load, overload, turns, gateway, engine, …"),
        "eval": (_eval, "measure a model's answers on held-out questions"),
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
    return commands[options.command][0](arguments[1:])


def _serve(argv: list[str]) -> int:
    from server.config import LOOPBACK_HOSTS, ServerConfig, api_keys, further_setting
    from server.engine.engine_config import KINDS
    from server.errors import VllmMissing

    defaults = ServerConfig()
    parser = argparse.ArgumentParser(prog="antiphon serve", description="Serve a model to Realtime clients.")
    parser.add_argument("--host", default=defaults.host, help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=defaults.port, help="port (default: %(default)s)")
    parser.add_argument(
        "--model-dir", type=Path, default=defaults.model_dir, help="model directory (default: the embedded one)"
    )
    parser.add_argument(
        "--engine", choices=KINDS, default=defaults.engine.kind, help="what computes the model (default: %(default)s)"
    )
    parser.add_argument(
        "--slots",
        type=int,
        default=defaults.engine.slots,
        help="conversations at once that the engine has room for (default: %(default)s)",
    )
    parser.add_argument(
        "--vllm-arg",
        type=further_setting,
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="a setting of vLLM's own, such as tensor_parallel_size=2; repeatable",
    )
    parser.add_argument(
        "--engine-threads",
        type=int,
        default=defaults.engine_threads,
        help="threads of the engine (default: %(default)s)",
    )
    parser.add_argument(
        "--sessions",
        type=int,
        metavar="N",
        help="conversations at once; more are refused with close code 1013 (default: what is measured at start-up)",
    )
    parser.add_argument(
        "--api-key",
        action="append",
        default=[],
        help="key that clients must show; repeatable (default: $ANTIPHON_API_KEYS, comma-separated)",
    )
    parser.add_argument(
        "--record", type=Path, metavar="FOLDER", help="record every session into this folder (default: none is)"
    )
    parser.add_argument(
        "--drain-s",
        type=float,
        default=defaults.drain_s,
        metavar="SECONDS",
        help="how long open sessions just go on after SIGTERM; then each ends between two turns (default: %(default)g)",
    )
    parser.add_argument("--log-level", default=defaults.log_level, choices=("debug", "info", "warning", "error"))
    options = parser.parse_args(argv)
    keys = api_keys(options.api_key)
    if options.host not in LOOPBACK_HOSTS and not keys:
        parser.error(
            f"expected an --api-key to listen on {options.host}: without one, anybody who reaches it could talk"
        )
    if options.engine == "vllm" and importlib.util.find_spec("vllm") is None:
        parser.error(str(VllmMissing()))
    from server.gateway import run

    run(
        ServerConfig(
            host=options.host,
            port=options.port,
            model_dir=options.model_dir,
            model_name=options.model_dir.name,
            api_keys=keys,
            log_level=options.log_level,
            record=options.record,
            engine=replace(
                defaults.engine,
                kind=options.engine,
                slots=options.slots,
                sessions=options.sessions,
                vllm=dict(options.vllm_arg),
            ),
            drain_s=options.drain_s,
            engine_threads=options.engine_threads,
        )
    )
    return 0


def _deploy(argv: list[str]) -> int:
    from server.deploy.command import main as deploy

    return deploy(argv)


def _capacity(argv: list[str]) -> int:
    from server.deploy.capacity import main as capacity

    return capacity(argv)


def _talk(argv: list[str]) -> int:
    from clients.talk import main as talk

    return talk(argv)


def _replay(argv: list[str]) -> int:
    from clients.replay import main as replay

    return replay(argv)


def _demo(argv: list[str]) -> int:
    from clients.demo import main as demo

    return demo(argv)


def _eval(argv: list[str]) -> int:
    from model.evaluation.command import main as evaluate

    return evaluate(argv)


def _bench(argv: list[str]) -> int:
    from benchmarks import COMMANDS

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


if __name__ == "__main__":
    sys.exit(main())
