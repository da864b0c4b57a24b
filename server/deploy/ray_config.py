"""Every setting of a deployment on Ray Serve, once: the command line, config files and the application read them here.

Imports no Ray, so that `antiphon deploy --help` needs none.
"""

from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from server.config import ServerConfig
from server.engine.engine_config import EngineConfig
from server.logs import Level

_SERVER = ServerConfig()


class RayConfig(BaseModel):
    """Settings of the application; also the arguments of a Serve config file."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    min_replicas: int = Field(1, ge=0, description="replicas that are always there; with 0 the first session waits")
    max_replicas: int = Field(4, ge=1, description="replicas that there may be")
    sessions: int = Field(
        12,
        ge=1,
        description="sessions that one replica takes: as many as it serves in time, which `antiphon capacity` says",
    )
    target_share: float = Field(
        0.75, gt=0, le=1, description="how full replicas may be on average before another one starts"
    )
    late_share: float = Field(
        0.01, ge=0, description="one replica more than that where a larger share of the audio came after it was needed"
    )
    upscale_delay_s: float = Field(5.0, ge=0, description="seconds that this must last before replicas are added")
    downscale_delay_s: float = Field(300.0, ge=0, description="seconds that fewer must do before replicas are removed")
    # Ray wants it to be longer than the ten seconds between two reports of a replica.
    look_back_s: float = Field(15.0, gt=10, description="seconds over which sessions and late audio are averaged")
    drain_s: float = Field(
        _SERVER.drain_s,
        ge=0,
        description="seconds for which the sessions of a replica that is no longer needed just go on; "
        "then each ends between two turns",
    )
    cpus: float = Field(2.0, ge=0, description="cores that Ray reserves for a replica: for its gateway and its engine")
    gpus: float = Field(0.0, ge=0, description="GPUs that Ray reserves for a replica")
    model_dir: Path = Field(_SERVER.model_dir, description="model directory, on every machine")
    engine_threads: int = Field(_SERVER.engine_threads, ge=1, description="threads of each engine")
    log_level: Level = Field("info", description=f"one of {', '.join(get_args(Level))}")
    api_keys: tuple[str, ...] = Field((), description="keys that clients must show")
    record: Path | None = Field(_SERVER.record, description="folder that every session is recorded into")
    server: dict[str, Any] = Field({}, description="further fields of `ServerConfig`, as they are")
    engine: dict[str, Any] = Field({}, description="further fields of `EngineConfig`, as they are")

    @model_validator(mode="after")
    def _replicas_are_a_range(self) -> "RayConfig":
        if self.min_replicas > self.max_replicas:
            most = self.max_replicas
            raise ValueError(f"min_replicas: expected at most max_replicas={most}, got {self.min_replicas}")
        return self

    @model_validator(mode="after")
    def _gpus_are_used(self) -> "RayConfig":
        kind = self.engine.get("kind", EngineConfig().kind)
        if self.gpus and kind != "vllm":
            raise ValueError(f"gpus: expected engine kind=vllm with them, got {kind}, which computes on CPUs only")
        return self

    def server_config(self) -> ServerConfig:
        """The settings of each replica's server. Raises `TypeError` where `server` or `engine` has a field too many."""
        return ServerConfig(
            model_dir=self.model_dir,
            model_name=self.model_dir.name,
            api_keys=self.api_keys,
            log_level=self.log_level,
            drain_s=self.drain_s,
            record=self.record,
            engine=EngineConfig(**({"slots": self.sessions, "sessions": self.sessions} | self.engine)),
            engine_threads=self.engine_threads,
            **self.server,
        )
