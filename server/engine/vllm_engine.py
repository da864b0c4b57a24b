"""Token engine on vLLM: the verbs of `token_interface.py`, served by vLLM's `AsyncLLM` from the same stock checkpoint.

Tokens are ours, vLLM only has a cache of them. Every request carries its sequence's whole prefix and is short; vLLM's
prefix cache makes that cheap. So rewinding is exact, an idle session holds nothing in vLLM, and when vLLM dies nothing
is lost but the cache. There are two kinds of request:

- *reading*: the tokens so far, one token asked for and ignored. After a heard code the log-probabilities of `<end>` and
  `<listen>` come back with it: the end-of-turn probability.
- *generating* one run of tokens under the same restriction (`Allowed.run`). Text and speech take turns by asking for
  the next run, not by a logits processor that follows along: vLLM's two model runners have different interfaces for
  those, and the newer one keeps the tokens on the GPU, where a rule in Python cannot see them. What stays the same
  during a request works on both (`vllm_ranges.py`). The price is that the first token of a run reads up to one cache
  block again. A token that has no alternative (a script to be read aloud) is not asked for at all.

Deadlines become vLLM's priorities, which order whatever waits for a place in its next step. That never waits for long:
vLLM has a place for every sequence, and one that idles takes none. Lengths and numbers are guarded here.
"""

import asyncio
import gc
import logging
import os
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from math import exp, inf
from pathlib import Path
from typing import Any

from model.checkpoint import transformer_config
from model.layout import TokenLayout
from server.engine.engine_config import EngineConfig
from server.engine.token_interface import Allowed, Sampled, Sequences, TokenSequence, TurnOpinion
from server.errors import EngineRestarted, EngineUnavailable, VllmMissing

_log = logging.getLogger("antiphon.engine")
_WAIT_S = 0.002  # how long a step waits for vLLM: new commands wait as long
_WATCH_S = 0.1  # how often vLLM is asked whether it lives
_DEATHS, _DEATHS_S = 3, 600.0  # so many deaths in so short a time are no accident
_NO_HURRY = 1 << 62  # vLLM's priority of a request that has no deadline; lower ones begin first
_FORK_BLOCKS = 8
_CPU_BLOCK_TOKENS = 32  # the smallest that vLLM's attention on the CPU has
_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "HF_HUB_OFFLINE": "1",
    # On the CPU: no thread is bound to a core that others use too.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_WAIT_POLICY": "PASSIVE",
}


@dataclass(eq=False, slots=True)
class Request:
    """A request that vLLM has and that still matters: what it answers belongs at the end of `sequence`."""

    sequence: TokenSequence
    prompt_tokens: int
    allowed: Allowed | None
    """What it generates; None: it only reads."""
    future: "Future[None]"


@dataclass(frozen=True, slots=True)
class Arrival:
    """Something vLLM said: new tokens of a request, its end, or (`error`) why it did not work."""

    number: int
    tokens: tuple[int, ...] = ()
    finished: bool = False
    turn_logit: float | None = None
    error: Exception | None = None


class VllmTokenEngine(Sequences):
    """See the module, and `TokenEngine` for the verbs. Not thread-safe: one thread calls everything."""

    # A request costs what many tokens do, and reads its newest cache block again: 320 ms of sound are read at once.
    worth_reading = 8

    def __init__(self, model_dir: Path, layout: TokenLayout, config: EngineConfig, threads: int = 1) -> None:
        """Returns when vLLM is ready. Raises `VllmMissing`, `EngineUnavailable` and `CheckpointError`."""
        super().__init__(layout, config)
        self._requests: dict[int, Request] = {}
        self._numbers: dict[int, int] = {}  # slot -> number of its request
        self._newest = 0
        self._deaths_s: list[float] = []
        self._vllm = VllmThread(model_dir, config, threads)
        self._vllm.wait()

    def shut_down(self) -> None:
        """End vLLM's processes."""
        self._vllm.shut_down()

    # --- the step --------------------------------------------------------------------------------------------------

    @property
    def died(self) -> bool:
        """vLLM is gone: the next step says so and starts it anew."""
        return self._vllm.died

    @property
    def has_work(self) -> bool:
        return self.died or super().has_work

    def step(self, served: Iterable[TokenSequence] | None = None) -> list[Sampled | TurnOpinion]:
        """One round: ask for whatever is not asked for yet, for some sequences or for all; take what has come."""
        if self.died:
            self._restart()
        served = self._open if served is None else list(served)
        outputs: list[Sampled | TurnOpinion] = []
        for sequence in served:
            if self._goes_on(sequence) and sequence.slot not in self._numbers:
                outputs += self._go_on(sequence)
        for arrival in self._vllm.arrivals(wait=bool(self._requests)):
            request = self._requests.get(arrival.number)
            if request is None:  # abandoned
                continue
            sequence = request.sequence
            outputs += self._receive(request, arrival)
            # The next run at once: in the time until the next step, vLLM would have nothing to do.
            mine = sequence.rule is not None and sequence in served
            if mine and sequence.slot not in self._numbers and self._goes_on(sequence):
                outputs += self._go_on(sequence)
        return outputs

    def _go_on(self, sequence: TokenSequence) -> list[Sampled | TurnOpinion]:
        """Ask for what is next; tokens without an alternative need nobody asked."""
        outputs: list[Sampled | TurnOpinion] = []
        while sequence.rule is not None and (allowed := sequence.rule.allowed()) is not None:
            if allowed.only is None:
                break
            outputs.append(self._accept(sequence, allowed.only))
        if self._goes_on(sequence) and (sequence.rule is not None or not outputs):
            self._ask(sequence)
        return outputs

    def _ask(self, sequence: TokenSequence) -> None:
        allowed = None if sequence.rule is None else sequence.rule.allowed()
        tokens, sampling = sequence.tokens, sequence.sampling
        options: dict[str, Any] = {"temperature": 0.0, "max_tokens": 1}
        if allowed is not None:
            left = self.config.length - self.config.prefill_tokens - len(tokens)
            options = {
                "temperature": sampling.temperature(allowed, self.layout),
                "max_tokens": max(1, min(allowed.run, left)),
                "stop_token_ids": list(allowed.also) if allowed.run > 1 else [],
                # Another for each run: with the same one every run would draw the same chances.
                "seed": sampling.seed + len(tokens),
            }
        elif self.layout.is_heard(tokens[-1]):
            options["logprob_token_ids"] = [self.layout.control("<end>"), self.layout.control("<listen>")]
        self._newest += 1
        priority = int(1000 * sequence.deadline_s) if sequence.deadline_s < inf else _NO_HURRY
        future = self._vllm.ask(self._newest, list(tokens), allowed, options, priority)
        self._requests[self._newest] = Request(sequence, len(tokens), allowed, future)
        self._numbers[sequence.slot] = self._newest

    def _abandon(self, sequence: TokenSequence) -> None:
        """Whatever vLLM is doing for this sequence is not wanted any more; what it still says is dropped."""
        number = self._numbers.pop(sequence.slot, None)
        if number is not None:
            self._requests.pop(number).future.cancel()

    def _receive(self, request: Request, arrival: Arrival) -> list[Sampled | TurnOpinion]:
        if arrival.error is not None:
            raise arrival.error
        sequence = request.sequence
        sequence.cached = max(sequence.cached, request.prompt_tokens)
        outputs: list[Sampled | TurnOpinion] = []
        if request.allowed is not None:
            if arrival.finished and not arrival.tokens:
                raise RuntimeError(f"vLLM ended request {arrival.number} without a token")
            for token in arrival.tokens:
                outputs.append(self._accept(sequence, token))
                sequence.cached = len(sequence.tokens) - 1
        elif arrival.turn_logit is not None:
            outputs.append(TurnOpinion(sequence, 1 / (1 + exp(-arrival.turn_logit)), request.prompt_tokens))
        if arrival.finished or (request.allowed is not None and sequence.rule is None):
            self._abandon(sequence)
        return outputs

    def _restart(self) -> None:
        """vLLM died: whatever it did is to be done again, once it is there again."""
        for sequence in self._open:
            self._abandon(sequence)
            sequence.cached = 0
        now_s = time.monotonic()
        self._deaths_s = [s for s in self._deaths_s if now_s - s < _DEATHS_S] + [now_s]
        if len(self._deaths_s) >= _DEATHS:
            raise EngineUnavailable(f"vLLM died {_DEATHS} times within {_DEATHS_S:.0f} s; its log says why")
        self._vllm.restart()
        raise EngineRestarted("vLLM died and is being started anew; the conversation stays, what was under way is lost")


class VllmThread:
    """vLLM's `AsyncLLM` in an asyncio loop in a thread of its own, behind calls that never wait for it."""

    def __init__(self, model_dir: Path, config: EngineConfig, threads: int) -> None:
        """Begins to start vLLM. Raises `VllmMissing` and `CheckpointError`."""
        os.environ.update({k: v for k, v in _ENVIRONMENT.items() if k not in os.environ})
        os.environ["OMP_NUM_THREADS"] = str(threads)
        self._view = _transformer_alone(model_dir)
        try:
            self._arguments = _arguments(Path(self._view.name), config)
        except ImportError as error:
            raise VllmMissing from error
        self.died = False
        self._llm: Any = None
        self._arrivals: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._up = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="vllm")
        self._thread.start()
        self._starting = asyncio.run_coroutine_threadsafe(self._start(), self._loop)

    def wait(self) -> None:
        """Return when vLLM is ready. Raises `EngineUnavailable`."""
        self._starting.result()
        if self.died:
            self.shut_down()
            raise EngineUnavailable("vLLM did not start; its log says why")

    def restart(self) -> None:
        self.died = False
        self._starting = asyncio.run_coroutine_threadsafe(self._start(), self._loop)

    def shut_down(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._view.cleanup()

    def ask(
        self, number: int, tokens: list[int], allowed: Allowed | None, options: dict[str, Any], priority: int
    ) -> "Future[None]":
        """A request about `tokens`. Its answers arrive under its number; cancelling the future aborts it."""
        return asyncio.run_coroutine_threadsafe(self._answer(number, tokens, allowed, options, priority), self._loop)

    def arrivals(self, wait: bool) -> list[Arrival]:
        """What has come since the last call; `wait`: for a moment, where there is nothing."""
        found: list[Arrival] = []
        try:
            if wait:
                found.append(self._arrivals.get(timeout=_WAIT_S))
            while True:
                found.append(self._arrivals.get_nowait())
        except queue.Empty:
            return found

    # --- in the thread ---------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        from vllm.v1.engine.async_llm import AsyncLLM

        await self._stop()
        try:
            vllm_config = self._arguments.create_engine_config()
            if vllm_config.use_v2_model_runner:  # never the case on a CPU: not run where this was written
                vllm_config.model_config.logits_processors = ["server.engine.vllm_ranges:AllowedRanges"]
            self._llm = AsyncLLM.from_vllm_config(vllm_config, disable_log_stats=True)
        except Exception:  # noqa: BLE001 - whatever it is, there is no vLLM then
            _log.exception("vLLM did not start")
            self.died = True
            return
        self._up.set()
        self._watching = asyncio.create_task(self._watch(self._llm))

    async def _stop(self) -> None:
        self._up.clear()
        if self._llm is not None:
            self._watching.cancel()
            self._llm.shutdown()
            self._llm = None
            gc.collect()  # its parts refer to each other, and hold sockets until they are collected

    async def _watch(self, llm: Any) -> None:
        while not llm.errored:  # noqa: ASYNC110 - vLLM has no event for it
            await asyncio.sleep(_WATCH_S)
        self.died = True

    async def _answer(
        self, number: int, tokens: list[int], allowed: Allowed | None, options: dict[str, Any], priority: int
    ) -> None:
        from vllm import SamplingParams
        from vllm.inputs.engine import tokens_input
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineDeadError

        await self._up.wait()
        options |= {"detokenize": False, "output_kind": RequestOutputKind.DELTA, "ignore_eos": True, "skip_clone": True}
        if allowed is not None:
            options |= self._restriction(allowed)
        try:
            answers = self._llm.generate(
                tokens_input(tokens), SamplingParams(**options), str(number), priority=priority
            )
            async for answer in answers:
                new = answer.outputs[0]
                turn_logit = None
                if "logprob_token_ids" in options:
                    end, listen = (new.logprobs[0][i].logprob for i in options["logprob_token_ids"])
                    turn_logit = end - listen
                self._arrivals.put(Arrival(number, tuple(new.token_ids), answer.finished, turn_logit))
        except EngineDeadError:
            return  # `_watch` tells
        except Exception as error:  # noqa: BLE001 - the outermost edge of a request; the engine's thread raises it
            self._arrivals.put(Arrival(number, error=error))

    def _restriction(self, allowed: Allowed) -> dict[str, Any]:
        """How each of vLLM's model runners is told what it may sample."""
        if self._llm.vllm_config.use_v2_model_runner:
            return {"extra_args": {"allowed": [allowed.start, allowed.stop, *allowed.also]}}
        return {"allowed_token_ids": [*range(allowed.start, allowed.stop), *allowed.also]}


def _transformer_alone(model_dir: Path) -> "tempfile.TemporaryDirectory[str]":
    """The Transformer's files without the audio networks': vLLM reads every weight that it finds in a folder."""
    view = tempfile.TemporaryDirectory(prefix="antiphon-vllm-")
    for file in (model_dir / "config.json", *model_dir.glob("model*.safetensors*")):
        (Path(view.name) / file.name).symlink_to(file.resolve())
    return view


def _arguments(folder: Path, config: EngineConfig) -> Any:
    """vLLM's `AsyncEngineArgs`. Raises `EngineUnavailable` for a setting it does not know."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform

    sizes = transformer_config(folder)
    ours: dict[str, object] = {
        "model": str(folder),
        "dtype": sizes.torch_dtype,
        "skip_tokenizer_init": True,
        "generation_config": "vllm",
        "max_model_len": config.length,
        # A sequence never has two requests, and an idle one has none; but each may have a fork.
        "max_num_seqs": 2 * config.slots,
        "long_prefill_token_threshold": config.prefill_tokens,
        "enable_prefix_caching": True,
        "scheduling_policy": "priority",
    }
    if current_platform.is_cpu():
        # A fork has the blocks of what it was forked from, and a few of its own.
        blocks = config.slots * (-(-config.length // _CPU_BLOCK_TOKENS) + 1 + _FORK_BLOCKS)
        ours |= {
            "enforce_eager": shutil.which("g++") is None,  # compiled steps take a quarter less
            "block_size": _CPU_BLOCK_TOKENS,
            "kv_cache_memory_bytes": blocks * _CPU_BLOCK_TOKENS * sizes.cache_bytes_per_token,
        }
        if config.vllm.get("tensor_parallel_size", 1) == 1:
            # One process less, and one hop less in every step. vLLM grants it only so; `AsyncLLM` ignores the variable.
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
            ours["distributed_executor_backend"] = "uni"
    settings = ours | dict(config.vllm)
    if settings.get("enforce_eager"):  # some of vLLM's own functions compile themselves all the same, when first called
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    try:
        return AsyncEngineArgs(**settings)
    except TypeError as error:
        raise EngineUnavailable(f"expected settings that vLLM has: {error}") from error
