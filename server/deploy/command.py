"""`antiphon deploy`: start Antiphon on Ray Serve, here or on a cluster."""

import argparse
import os

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from server.config import ServerConfig
from server.deploy.ray_config import RayConfig
from server.options import add_listening, further_setting, listening_keys

NAME = "antiphon"
_EXAMPLES = """examples:
  antiphon deploy --max-replicas 2 --cpus 1        two replicas at most, on this machine, until Ctrl-C
  antiphon deploy --min-replicas 0                 none while nobody talks
  RAY_ADDRESS=auto antiphon deploy                 on this machine's Ray cluster; returns once it serves
  antiphon deploy --gpus 1 --engine kind=vllm      on GPUs: vLLM alone computes there
  antiphon deploy --engine slots=64 --dry-run      only print the settings, for a Serve config file (ray.yaml)

On a cluster every machine needs Antiphon installed and the model directory in the same place. How many sessions a
replica can serve in time: `antiphon capacity`. More: docs/deploy.md.
"""
_BY_HAND = ("api_keys", "server", "engine")


def main(argv: list[str]) -> int:
    """Run the command; 1 if Ray is not installed."""
    parser = argparse.ArgumentParser(
        prog="antiphon deploy",
        description="Serve a model on Ray Serve: as many replicas as the sessions need, each a gateway and an engine.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_listening(parser, ServerConfig())
    for name, field in RayConfig.model_fields.items():
        if name not in _BY_HAND:
            text = f"{field.description} (default: {field.default})".replace("%", "%%")
            parser.add_argument(f"--{name.replace('_', '-')}", metavar=name.rpartition("_")[2].upper(), help=text)
    for name in ("server", "engine"):
        text = f"{RayConfig.model_fields[name].description}; repeatable"
        parser.add_argument(
            f"--{name}", type=further_setting, action="append", default=[], metavar="FIELD=JSON", help=text
        )
    parser.add_argument("--dry-run", action="store_true", help="print the settings as JSON and start nothing")
    options = parser.parse_args(argv)
    given = {n: v for n in RayConfig.model_fields if n not in _BY_HAND and (v := getattr(options, n)) is not None}
    keys = listening_keys(parser, options)
    further = {"server": dict(options.server), "engine": dict(options.engine)}
    try:
        config = RayConfig.model_validate(given | further | {"api_keys": keys})
        config.server_config()
    except ValidationError as error:
        parser.error("; ".join(map(_expected, error.errors(include_url=False))))
    except (ValueError, TypeError) as error:
        parser.error(str(error))
    if options.dry_run:
        print(config.model_dump_json(exclude_unset=True, exclude={"api_keys"}))
        return 0
    return _run(config, options.host, options.port)


def _expected(found: ErrorDetails) -> str:
    """What pydantic found, in terms of the command line."""
    if not found["loc"]:  # of several settings together
        return str(found["ctx"]["error"])
    return f"--{str(found['loc'][0]).replace('_', '-')}: {found['msg']}, got {found['input']!r}"


def _run(config: RayConfig, host: str, port: int) -> int:
    try:
        import ray
        from ray import serve
    except ModuleNotFoundError:
        print("expected Ray Serve to be installed: pip install -e '.[deploy]'")
        return 1
    from server.deploy.ray_app import app

    on_cluster = bool(os.environ.get("RAY_ADDRESS"))
    if on_cluster:
        ray.init()
    else:
        ray.init(address="local", include_dashboard=False)
    serve.start(proxy_location="EveryNode", http_options={"host": host, "port": port})
    print(f"Replicas load the model; then clients connect to ws://{host}:{port}/v1/realtime", flush=True)
    serve.run(app(config), name=NAME, blocking=not on_cluster)
    return 0
