"""Antiphon on Ray Serve: replicas that each hold a gateway and an engine, as many as the sessions need.

    client ──WebSocket──▶ Ray's proxy ──▶ a replica with few sessions: gateway ─▶ engine (child process)

A session stays with its replica for as long as its connection lasts. A replica is what `antiphon serve` runs, behind
another front door; this module knows nothing about models or the protocol.
"""

import asyncio
import logging

import ray
from fastapi import FastAPI
from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

from server import logs
from server.deploy.autoscaling import LATE_SHARE, ReplicasWanted
from server.deploy.ray_config import RayConfig
from server.engine.remote import RemoteEngine
from server.errors import EngineUnavailable
from server.gateway import create_app

_log = logging.getLogger("antiphon.deploy")
_WATCH_S = 2.0
# What a session may still need once the time for draining is over: a turn of 50 s, its answer and its playback.
_LAST_TURN_S = 240.0


class Replica:
    """A gateway and its engine. Ray calls every method."""

    def __init__(self, config: RayConfig) -> None:
        settings = config.server_config()
        logs.configure(settings.log_level)
        self._engine = RemoteEngine(settings.model_dir, settings.engine, settings.engine_threads)
        self._app = create_app(settings, self._engine)

    def __serve_build_asgi_app__(self) -> FastAPI:
        self._watching = asyncio.create_task(self._drain_when_stopping())
        return self._app

    async def check_health(self) -> None:
        """Ray replaces a replica whose engine has died. Raises `EngineUnavailable`."""
        if not self._engine.alive:
            raise EngineUnavailable("the engine's process has ended")

    async def record_autoscaling_stats(self) -> dict[str, float]:
        return {LATE_SHARE: self._app.state.metrics.late_share()}

    async def _drain_when_stopping(self) -> None:
        """Begin to drain as soon as Ray takes this replica out of service.

        Ray then sends it no new sessions and waits for the open ones, but tells it nothing before they are over; one
        session of an hour would keep it for that hour. So the replica asks.
        """
        me = serve.get_replica_context().replica_id
        controller = ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
        while True:
            await asyncio.sleep(_WATCH_S)
            try:
                details = await controller.get_serve_instance_details.remote()
            except ray.exceptions.RayError:  # the controller is being restarted
                continue
            deployments = details["applications"].get(me.deployment_id.app_name, {}).get("deployments", {})
            for replica in deployments.get(me.deployment_id.name, {}).get("replicas", []):
                if replica["replica_id"] == me.unique_id and replica["state"] == "STOPPING":
                    _log.info("draining, with %d sessions", self._app.state.draining.sessions)
                    self._app.state.draining.begin()
                    return


def app(config: RayConfig) -> serve.Application:
    """The application, for `antiphon deploy`, `serve run server.deploy.ray_app:app` and config files."""
    scaling = AutoscalingConfig(
        min_replicas=config.min_replicas,
        max_replicas=config.max_replicas,
        target_ongoing_requests=config.target_share * config.sessions,
        upscale_delay_s=config.upscale_delay_s,
        downscale_delay_s=config.downscale_delay_s,
        look_back_period_s=config.look_back_s,
        policy=AutoscalingPolicy(policy_function=ReplicasWanted, policy_kwargs={"late_share": config.late_share}),
    )
    deployment = serve.deployment(
        # Ray can refuse a WebSocket with a bare HTTP 500 only. So a full replica is offered some sessions more than it
        # has places: its engine refuses those with an error event that says why and a close code to try again on.
        max_ongoing_requests=config.sessions + max(4, config.sessions // 4),
        max_queued_requests=4 * config.sessions,  # where there is no replica yet, they wait
        autoscaling_config=scaling,
        graceful_shutdown_timeout_s=config.drain_s + _LAST_TURN_S,
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=2.0,
        ray_actor_options={"num_cpus": config.cpus, "num_gpus": config.gpus},
    )(serve.ingress()(Replica))
    return deployment.bind(config)
