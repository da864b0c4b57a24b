"""Every setting of the server and its default, once. The command line and the documents read them from here."""

from dataclasses import dataclass, field
from pathlib import Path

from model import EMBEDDED
from server.engine.engine_config import EngineConfig


@dataclass(frozen=True)
class ServerConfig:
    """Settings of one server process."""

    host: str = "127.0.0.1"
    port: int = 8000
    model_dir: Path = EMBEDDED
    model_name: str = EMBEDDED.name
    api_keys: tuple[str, ...] = ()
    """Keys that clients may use; none means that anybody may, and then only on loopback."""
    log_level: str = "info"
    record: Path | None = None
    """Folder that every session is recorded into; None: nothing is recorded."""
    drain_s: float = 60.0
    """How long open sessions just go on once the server is told to stop; then each is ended between two turns."""
    engine: EngineConfig = field(default_factory=EngineConfig)
    engine_threads: int = 1
    """Threads of the engine's process: on two cores one is left for the gateway."""


@dataclass(frozen=True)
class Limits:
    """What one session may send and keep."""

    append_bytes: int = 15 * 1024 * 1024
    frame_bytes: int = 32 * 1024 * 1024
    json_depth: int = 64
    """How deeply a client event may be nested; deeper ones could not be echoed."""
    commit_ms: int = 100
    """The shortest turn that can be committed."""
    turn_ms: int = 50_000
    """The longest turn: with transcript and answer, more would not fit into a context of 2,048 tokens."""
    kept_turn_ms: int = 10_000
    """What is kept of a turn that grows longer although the client alone says when it ends."""
    detached_responses: int = 4
    """Responses outside the conversation that one session may have at once."""
    kept_audio_bytes: int = 64 * 1024 * 1024
    """Input audio kept for `conversation.item.retrieve`; the oldest is forgotten first."""
    session_s: int = 60 * 60


LIMITS = Limits()
