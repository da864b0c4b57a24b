"""Manifests and deployment settings hold together with the code: ports, probes, image, options."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from fastapi.routing import APIRoute

from server.config import ServerConfig
from server.deploy.autoscaling import LATE_SHARE, ReplicasWanted
from server.deploy.command import main
from server.deploy.ray_config import RayConfig
from server.gateway import create_app
from server.options import LOOPBACK_HOSTS
from tests.scripted_engine import ScriptedEngine

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "server" / "deploy"
LAST_TURN_S = 240.0  # see server/deploy/ray_app.py


def _manifest(kind: str) -> Any:
    documents = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    [found] = [document for document in documents if document["kind"] == kind]
    return found


def _pod() -> Any:
    return _manifest("Deployment")["spec"]["template"]["spec"]


def _option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def _known_options() -> str:
    command = [sys.executable, "-m", "server.cli", "serve", "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_probes_and_ports_are_those_of_the_gateway() -> None:
    [container] = _pod()["containers"]
    routes = {r.path for r in create_app(ServerConfig(), ScriptedEngine()).routes if isinstance(r, APIRoute)}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["path"] in routes
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    [port] = container["ports"]
    assert port["containerPort"] == ServerConfig().port == int(_option(container["args"], "--port"))
    [served] = _manifest("Service")["spec"]["ports"]
    assert (served["targetPort"], served["port"]) == (port["name"], port["containerPort"])
    annotations = _manifest("Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(port["containerPort"])
    assert annotations["prometheus.io/path"] in routes


def test_everything_selects_the_same_pods() -> None:
    labels = _manifest("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert _manifest("Service")["spec"]["selector"] == labels
    assert _manifest("Deployment")["spec"]["selector"]["matchLabels"] == labels
    assert _manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    target = _manifest("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert target["name"] == _manifest("Deployment")["metadata"]["name"]


def test_image_and_options_exist() -> None:
    [container] = _pod()["containers"]
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["antiphon"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert container["image"] == compose["image"] == f"{project['name']}:{project['version']}"
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert f" AS {compose['build']['target']}\n" in dockerfile
    assert (DEPLOY / compose["build"]["context"]).resolve() == ROOT
    assert '"serve", "--host", "0.0.0.0"]' in dockerfile
    known = _known_options()
    for argument in [*container["args"], *compose["command"]]:
        if argument.startswith("--"):
            assert f"{argument} " in known
    assert "ANTIPHON_API_KEYS" in compose["environment"]
    assert compose["ports"] == [f"{ServerConfig().port}:{ServerConfig().port}"]


def test_nobody_is_killed_while_draining() -> None:
    [container] = _pod()["containers"]
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["antiphon"]
    assert _pod()["terminationGracePeriodSeconds"] > float(_option(container["args"], "--drain-s")) + LAST_TURN_S
    grace_s = float(compose["stop_grace_period"].removesuffix("s"))
    assert grace_s > float(_option(compose["command"], "--drain-s")) + LAST_TURN_S


def test_the_ray_config_file_has_settings_that_exist() -> None:
    found = yaml.safe_load((DEPLOY / "ray.yaml").read_text())
    [application] = found["applications"]
    config = RayConfig.model_validate(application["args"])
    assert config.api_keys or found["http_options"]["host"] in LOOPBACK_HOSTS
    assert found["http_options"]["port"] == ServerConfig().port
    module, _, name = application["import_path"].partition(":")
    assert f"def {name}(config: RayConfig)" in (ROOT / f"{module.replace('.', '/')}.py").read_text()


@pytest.mark.parametrize("name", ["kubernetes.yaml", "compose.yaml", "ray.yaml"])
def test_files_are_tidy(name: str) -> None:
    pytest.importorskip("yamllint")
    rules = "{extends: default, rules: {line-length: {max: 120}, document-start: disable}}"
    command = [sys.executable, "-m", "yamllint", "--strict", "-d", rules, str(DEPLOY / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_manifest_is_what_kubernetes_takes() -> None:
    validator = pytest.importorskip("kubernetes_validate")
    for document in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()):
        validator.validate(document, validator.latest_version(), strict=True)


def test_the_compose_file_is_what_compose_takes() -> None:
    pytest.importorskip("check_jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(DEPLOY / "compose.yaml")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_settings_are_passed_through_and_checked(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--sessions=6", "--gpus=1", "--engine=kind=vllm", "--engine=length=1024", "--server=port=1"]
    assert main([*given, "--dry-run"]) == 0
    config = RayConfig.model_validate(json.loads(capsys.readouterr().out))
    server = config.server_config()
    assert (server.engine.slots, server.engine.length, server.port, config.gpus) == (6, 1024, 1, 1.0)
    assert server.engine.sessions == 6  # what scaling counts with, not what a replica measures for itself
    for wrong in (
        "--engine=slotz=1",
        "--engine=slots=0",
        "--sessions=0",
        "--min-replicas=x",
        "--min-replicas=9",
        "--log-level=loud",
        "--host=0.0.0.0",
        "--gpus=1",
    ):
        with pytest.raises(SystemExit):
            main([wrong, "--dry-run"])
    told = capsys.readouterr().err
    assert "error: gpus: expected engine kind=vllm with them, got torch" in told
    assert "error: --min-replicas: Input should be a valid integer" in told
    assert "error: slots: expected at least 1, got 0" in told
    assert "error: min_replicas: expected at most max_replicas=4, got 9" in told
    assert "pydantic" not in told


def test_a_folder_to_record_into_is_a_path() -> None:
    assert RayConfig.model_validate({"record": "sessions"}).server_config().record == Path("sessions")


def _context(requests: float, replicas: int, late: dict[str, float]) -> Any:
    config = SimpleNamespace(get_target_ongoing_requests=lambda: 24.0)
    return SimpleNamespace(
        total_num_requests=requests,
        current_num_replicas=replicas,
        aggregated_metrics={LATE_SHARE: late} if late else None,
        config=config,
    )


def test_replicas_follow_sessions_and_late_audio() -> None:
    policy = ReplicasWanted(late_share=0.01)
    assert policy(_context(48, 2, {})) == (2.0, {})
    assert policy(_context(60, 2, {"a": 0.0}))[0] == 2.5
    assert policy(_context(12, 2, {"a": 0.0, "b": 0.3}))[0] == 3
    assert policy(_context(0, 1, {"a": 0.0}))[0] == 0
