"""A server of one's own for as long as a command runs: `antiphon serve` as a child process on a free port."""

import asyncio
import contextlib
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

_START_TIMEOUT_S, _STOP_TIMEOUT_S = 120.0, 10.0


def directly(url: str, timeout_s: float) -> Any:
    """Open what runs on this machine, which is not behind the proxy that the environment may name."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=timeout_s)


class ServerDidNotStart(Exception):
    """The child ended, or never became healthy; its output tells more."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _healthy(url: str) -> bool:
    try:
        with directly(url, timeout_s=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@asynccontextmanager
async def child_server(module: str, *arguments: str) -> AsyncIterator[int]:
    """Run a module that serves on the port that follows `arguments`; yield the port. Raises `ServerDidNotStart`."""
    port = _free_port()
    command = [sys.executable, "-m", module, *arguments, str(port)]
    # It listens on loopback, for this process alone: keys that the environment asks others for are not asked for here.
    environment = {name: value for name, value in os.environ.items() if name != "ANTIPHON_API_KEYS"}
    child = await asyncio.create_subprocess_exec(*command, env=environment)
    try:
        deadline_s = time.perf_counter() + _START_TIMEOUT_S
        while not await asyncio.to_thread(_healthy, f"http://127.0.0.1:{port}/health"):
            if child.returncode is not None or time.perf_counter() > deadline_s:
                raise ServerDidNotStart(
                    f"expected a healthy server, got exit status {child.returncode}: {' '.join(command)}"
                )
            await asyncio.sleep(0.1)
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await child.wait()
        except TimeoutError:
            child.kill()
            await child.wait()


@asynccontextmanager
async def local_server(*arguments: str) -> AsyncIterator[str]:
    """Start a server and yield its WebSocket URL. Raises `ServerDidNotStart`."""
    async with child_server("server.cli", "serve", "--log-level", "warning", *arguments, "--port") as port:
        yield f"ws://127.0.0.1:{port}/v1/realtime"


@asynccontextmanager
async def serving(url: str | None, *arguments: str) -> AsyncIterator[str]:
    """The server at `url`, or one of one's own. Raises `ServerDidNotStart`."""
    if url is not None:
        yield url
        return
    async with local_server(*arguments) as own:
        yield own
