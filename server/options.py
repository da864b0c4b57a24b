"""What the commands that start a server have in common on their command lines."""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from server.config import ServerConfig

LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")


def add_listening(parser: argparse.ArgumentParser, defaults: ServerConfig) -> None:
    """Where to listen, and the keys that clients must show."""
    parser.add_argument("--host", default=defaults.host, help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=defaults.port, help="port (default: %(default)s)")
    parser.add_argument(
        "--api-key",
        action="append",
        type=_api_key,
        default=[],
        help="key that clients must show; repeatable (default: $ANTIPHON_API_KEYS, comma-separated)",
    )


def listening_keys(parser: argparse.ArgumentParser, options: argparse.Namespace) -> tuple[str, ...]:
    """The keys that were given; ends the command where strangers could connect without any."""
    keys = api_keys(options.api_key)
    if options.host not in LOOPBACK_HOSTS and not keys:
        parser.error(
            f"expected an --api-key to listen on {options.host}: without one, anybody who reaches it could talk"
        )
    return keys


def api_keys(given: list[str]) -> tuple[str, ...]:
    """The keys of a command line, or else those of `$ANTIPHON_API_KEYS`, comma-separated."""
    keys = given or os.environ.get("ANTIPHON_API_KEYS", "").split(",")
    return tuple(key.strip() for key in keys if key.strip())


def _api_key(text: str) -> str:
    """An empty key, as of a variable that is not set, would let everybody in."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a key, got an empty one")
    return text


def positive(text: str) -> int:
    """A number of things of which there must be one."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1, got {text!r}")
    return int(text)


def more_than_nothing(text: str) -> float:
    """How many times as fast, and the like."""
    try:
        if (number := float(text)) > 0:
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")


def expect_writable(parser: argparse.ArgumentParser, option: str, folder: Path) -> None:
    """Make a folder for results; ends the command, before its work, where nothing could be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        parser.error(f"{option}: expected a folder to write into, got: {error}")


def further_setting(text: str) -> tuple[str, Any]:
    """`NAME=JSON`; what is not JSON is a word."""
    name, found, value = text.partition("=")
    if not found:
        raise argparse.ArgumentTypeError(f"expected NAME=JSON, got {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
