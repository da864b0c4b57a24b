"""Ray Serve with real replicas of the embedded model: sessions spread, and one that is lost takes only its own along.

Skipped where Ray is not installed; `make test-ray` makes an environment for it.
"""

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from clients import sound
from clients.realtime import RealtimeClient, RealtimeError, Turn

# Read by Ray's processes when they start: a test has no time for averages over many seconds.
os.environ |= {
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
    "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore")]  # Ray's own warnings are not ours
MANUAL: dict[str, Any] = {"audio": {"input": {"turn_detection": None}}}
RAY_YAML = Path(__file__).parent.parent / "server" / "deploy" / "ray.yaml"
START_S = 120.0
LOST_S = 2.0
"""Within which a client must know that its replica is gone, and have a session with another one."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a Ray Serve instance on this machine, without an application."""
    from ray import serve

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free: int = probe.getsockname()[1]
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": free})
    yield free
    serve.shutdown()
    ray.shutdown()


async def deploy(**settings: Any) -> None:
    """Bring the application to these settings and wait until it serves."""
    from ray import serve

    from server.deploy.command import NAME
    from server.deploy.ray_app import app
    from server.deploy.ray_config import RayConfig

    config = RayConfig(cpus=1, look_back_s=11, upscale_delay_s=1, downscale_delay_s=2, **settings)
    await asyncio.to_thread(serve.run, app(config), name=NAME)


def replicas(state: str = "RUNNING") -> list[dict[str, Any]]:
    """The replicas in this state, as Ray's controller knows them."""
    from server.deploy.command import NAME

    controller = ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    details = ray.get(controller.get_serve_instance_details.remote())
    [deployment] = details["applications"][NAME]["deployments"].values()
    return [r for r in deployment["replicas"] if r["state"] == state]


def sessions(replica: dict[str, Any]) -> int:
    actor = ray.get_actor(replica["actor_name"], namespace="serve")
    return int(ray.get(actor.get_num_ongoing_requests.remote()))


async def wait_for_replicas(count: int, without: int | None = None) -> float:
    """Seconds until there are so many, one whose process is `without` not counted."""
    started_s = time.perf_counter()
    async with asyncio.timeout(START_S):
        while sum(r["pid"] != without for r in await asyncio.to_thread(replicas)) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    return time.perf_counter() - started_s


class Caller:
    """One client in a conversation that is ended by itself or by the loss of its replica."""

    def __init__(self, url: str, number: int) -> None:
        self.url, self.number = url, number
        self.turns: list[Turn] = []
        self.connected, self.answered = asyncio.Event(), asyncio.Event()
        self.lost_s = 0.0
        self.error: RealtimeError | None = None
        self.back_s = 0.0
        """Seconds from the loss until another replica had answered with a session."""

    async def talk(self, questions: int) -> None:
        try:
            async with RealtimeClient.connect(self.url) as client:
                await client.update(**MANUAL)
                self.connected.set()
                for k in range(questions):
                    files = sound.questions()
                    self.turns.append(await client.ask(sound.read(files[(self.number + k) % len(files)]), manual=True))
                    self.answered.set()
        except RealtimeError as error:
            self.error, self.lost_s = error, time.perf_counter()
            async with RealtimeClient.connect(self.url):
                self.back_s = time.perf_counter() - self.lost_s


async def test_a_lost_replica_takes_only_its_own_sessions_along(port: int) -> None:
    await deploy(min_replicas=2, max_replicas=2, sessions=8)
    await wait_for_replicas(2)
    url = f"ws://127.0.0.1:{port}/v1/realtime"
    callers = [Caller(url, n) for n in range(4)]
    talks = []
    for caller in callers:
        talks.append(asyncio.create_task(caller.talk(4)))
        await asyncio.wait_for(caller.connected.wait(), 30)
    found = await asyncio.to_thread(replicas)
    spread = [await asyncio.to_thread(sessions, replica) for replica in found]
    assert sum(spread) == 4
    assert min(spread) >= 1, f"expected sessions on both replicas, got {spread}"
    async with asyncio.timeout(60):
        await asyncio.gather(*(caller.answered.wait() for caller in callers))  # everybody is in mid-conversation
    victim = found[0]
    os.kill(victim["pid"], signal.SIGKILL)
    killed_s = time.perf_counter()
    replaced = asyncio.create_task(wait_for_replicas(2, without=victim["pid"]))
    await asyncio.gather(*talks)
    lost, kept = [c for c in callers if c.error], [c for c in callers if not c.error]
    assert len(lost) == spread[0]
    for caller in lost:
        assert caller.error is not None
        assert caller.error.code == "connection_closed"
        assert caller.lost_s - killed_s < LOST_S
        assert caller.back_s < LOST_S
    for caller in kept:
        assert [turn.status for turn in caller.turns] == ["completed"] * 4
        # Whether the audio came in time is printed: a new replica that loads its model here takes the same cores.
    figures = {
        "sessions on each replica": spread,
        "told after ms": [round(1000 * (c.lost_s - killed_s)) for c in lost],
        "new session after ms": [round(1000 * c.back_s) for c in lost],
        "turns of the others": [[round(t.ttfa_from_commit_ms or 0) for t in c.turns] for c in kept],
        "their viability": [[round(t.viability, 2) for t in c.turns] for c in kept],
        "two replicas again after s": round(await replaced, 1),
    }
    print(json.dumps(figures))


def test_the_config_file_is_what_ray_takes() -> None:
    from ray.serve.schema import ServeDeploySchema

    from server.deploy.ray_app import app
    from server.deploy.ray_config import RayConfig

    found = ServeDeploySchema.model_validate(yaml.safe_load(RAY_YAML.read_text()))
    [application] = found.applications
    assert application.import_path == f"{app.__module__}:{app.__name__}"
    assert app(RayConfig.model_validate(application.args))


async def test_a_full_cluster_says_so(port: int) -> None:
    await deploy(min_replicas=1, max_replicas=1, sessions=1)
    url = f"ws://127.0.0.1:{port}/v1/realtime"
    async with RealtimeClient.connect(url), connect(url) as refused:
        events = []
        with pytest.raises(ConnectionClosed) as closed:
            await _collect(refused, events)
        [error] = [event["error"] for event in events if event["type"] == "error"]
        assert error["code"] == "server_overloaded"
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013


async def _collect(socket: Any, events: list[dict[str, Any]]) -> None:
    while True:
        events.append(json.loads(await asyncio.wait_for(socket.recv(), 30)))


async def test_an_update_cuts_no_answer(port: int) -> None:
    await deploy(min_replicas=1, max_replicas=1, sessions=8, drain_s=0)
    async with RealtimeClient.connect(f"ws://127.0.0.1:{port}/v1/realtime") as client:
        await client.update(**MANUAL)
        update = asyncio.create_task(deploy(min_replicas=1, max_replicas=1, sessions=9, drain_s=0))
        turns, events = [], []
        with pytest.raises(RealtimeError, match="server_draining"):
            await _ask_until_it_leaves(client, turns, events)
    await update
    assert turns
    assert {turn.status for turn in turns} == {"completed"}
    print(json.dumps({"answers before it left": len(turns), "said goodbye": True}))


async def _ask_until_it_leaves(client: RealtimeClient, turns: list[Turn], events: list[dict[str, Any]]) -> None:
    async with asyncio.timeout(START_S):
        while True:
            turn = await client.ask(sound.read(sound.questions()[1]), manual=True, aside=events.append)
            turns.append(turn)
            # As a person would: hears the answer, then waits a moment. A draining replica leaves now.
            async with asyncio.timeout(turn.playing_left_s + 2.0):
                while True:
                    events.append(await client.receive())


async def test_scale_to_zero_and_back_and_up(port: int) -> None:
    url = f"ws://127.0.0.1:{port}/v1/realtime"
    await deploy(min_replicas=0, max_replicas=2, sessions=8, target_share=0.2)  # 1.6 sessions for each replica
    await wait_for_replicas(0)
    started_s = time.perf_counter()
    async with connect(url, open_timeout=START_S, compression=None, max_size=None) as socket:
        first = json.loads(await asyncio.wait_for(socket.recv(), 30))
        cold_s = time.perf_counter() - started_s
        assert first["type"] == "session.created"
        assert len(await asyncio.to_thread(replicas)) == 1
        async with RealtimeClient.connect(url) as client:
            await client.update(**MANUAL)
            turn = await client.ask(sound.read(sound.questions()[1]), manual=True)
            assert turn.status == "completed"
            up_s = await wait_for_replicas(2)
        one_s = await wait_for_replicas(1)
        await asyncio.sleep(6)  # longer than the autoscaler takes to remove it: a quiet session keeps its replica
        assert len(await asyncio.to_thread(replicas)) == 1
    zero_s = await wait_for_replicas(0)
    figures = {"first session from zero after s": cold_s, "two replicas for two sessions after s": up_s}
    figures |= {"one again after s": one_s, "none again after s": zero_s}
    print(json.dumps({name: round(value, 1) for name, value in figures.items()}))
