"""`antiphon serve`: serve a model to Realtime clients, and a page that talks to it, until interrupted."""

import argparse
import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import get_args

from server.config import ServerConfig
from server.engine.engine_config import KINDS, WEIGHTS
from server.errors import VllmMissing
from server.logs import Level
from server.options import add_listening, expect_writable, further_setting, listening_keys, positive

_EXAMPLES = """examples:
  antiphon serve                                      ws://127.0.0.1:8000/v1/realtime, a page at http://127.0.0.1:8000/
  antiphon serve --host 0.0.0.0 --api-key SECRET      for others, who show the key
  antiphon serve --sessions 4                         four conversations at once and no more
  antiphon serve --record sessions                    keep every event and all audio; `antiphon replay` plays them
  antiphon serve --engine vllm --model-dir DIR --vllm-arg tensor_parallel_size=2

docs/protocol.md lists every event, field and HTTP route.
"""


def _parser(defaults: ServerConfig) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="antiphon serve",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_listening(parser, defaults)
    parser.add_argument(
        "--model-dir", type=Path, default=defaults.model_dir, help="model directory (default: the embedded one)"
    )
    parser.add_argument(
        "--engine", choices=KINDS, default=defaults.engine.kind, help="what computes the model (default: %(default)s)"
    )
    parser.add_argument(
        "--weights",
        choices=WEIGHTS,
        default=defaults.engine.weights,
        help="how our own engine keeps them: with 8 bits a step for one conversation takes a third of the time, with "
        "float32 an answer is the same whoever else is served (default: %(default)s)",
    )
    parser.add_argument(
        "--slots",
        type=positive,
        default=defaults.engine.slots,
        help="conversations at once that the engine has room for (default: %(default)s)",
    )
    parser.add_argument(
        "--length",
        type=positive,
        default=defaults.engine.length,
        help="tokens of a conversation before its oldest items are forgotten; no more than the model was made for "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--hypotheses",
        type=positive,
        default=defaults.engine.hypotheses,
        help="ways of writing down what was heard that our own engine follows at once; with 1 a turn takes a little "
        "less time and more of its words are misheard (default: %(default)s)",
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
        type=positive,
        default=defaults.engine_threads,
        help="threads of the engine (default: %(default)s)",
    )
    parser.add_argument(
        "--sessions",
        type=positive,
        metavar="N",
        help="conversations at once, at most --slots, an HTTP request being one; more are refused with close code 1013 "
        "(default: what is measured at start-up)",
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
    parser.add_argument(
        "--log-level",
        default=defaults.log_level,
        choices=get_args(Level),
        help="what goes to stderr (default: %(default)s)",
    )
    return parser


def main(argv: list[str]) -> int:
    """Run the command."""
    defaults = ServerConfig()
    parser = _parser(defaults)
    options = parser.parse_args(argv)
    keys = listening_keys(parser, options)
    if options.engine == "vllm" and importlib.util.find_spec("vllm") is None:
        parser.error(str(VllmMissing()))
    if options.record is not None:
        expect_writable(parser, "--record", options.record)
    try:
        engine = replace(
            defaults.engine,
            kind=options.engine,
            weights=options.weights,
            slots=options.slots,
            length=options.length,
            sessions=options.sessions,
            hypotheses=options.hypotheses,
            vllm=dict(options.vllm_arg),
        )
    except ValueError as error:
        parser.error(f"--{error}")
    from server.gateway import run  # loads what only a server pays for

    run(
        ServerConfig(
            host=options.host,
            port=options.port,
            model_dir=options.model_dir,
            model_name=options.model_dir.name,
            api_keys=keys,
            log_level=options.log_level,
            record=options.record,
            engine=engine,
            drain_s=options.drain_s,
            engine_threads=options.engine_threads,
        )
    )
    return 0
