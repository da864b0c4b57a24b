"""`antiphon bench engine`: how long each step of the embedded engine takes, against what this machine could do at best.

The floor of a step is the larger of two times: reading its bytes (weights once, the KV cache of every row) at the
memory's measured speed, and doing its multiplications at the processor's measured speed.
"""

import time
from collections.abc import Callable
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import torch

from benchmarks.figures import finish
from benchmarks.options import benchmark
from model import EMBEDDED
from model.audio_tokenizer import TOKEN_SAMPLES
from model.cached_transformer import FEW, CachedTransformer, KVCache
from model.checkpoint import SpeechModel, load
from model.packed import PackedLinear, pack
from model.streaming import State
from model.transformer import SpeechTransformer
from server.engine.engine_config import EngineConfig
from server.engine.messages import AddText, Hear, OpenSession, Respond
from server.engine.speech_engine import SpeechEngine

_CONTEXT, _LONG_CONTEXT = 300, 1200  # tokens that each sequence holds already
_SIZES = (1, 2, 4, 8, 16)
KEYS = {
    "threads": "of torch",
    "mixed": "whether each step followed one of every kind, as in the engine",
    "cpu_time": "whether processor time was counted",
    "gigabytes_per_s": "what this machine reads",
    "gigaflops": "what it multiplies, in single precision",
    "decode": "for each number of rows: ms, floor_ms, and times the floor",
    "prefill": "the same for each number of tokens",
    "hear": "for each number of sessions: ms to tokenise 80 ms; one_ms: 40 ms",
    "say": "for each number of sessions: ms to make 160 ms of sound; one_ms: 40 ms",
    "step": "for each number of sessions: ms of a whole step of the engine in which all of them answer",
    "speak": "the same, where each has a new code and says it at once",
    "listen": "for each number of sessions: ms of a whole step of the engine in which 40 ms of each are heard and read",
    "context": "tokens that each sequence held; `long_ms` of decode and prefill: with long_context of them",
    "long_context": "see context",
    "spread": "how single times lie around their medians: the mean ratio of each twentieth of them",
}


class Stopwatch:
    """Times pieces of work by a clock, and remembers how single times lay around their medians.

    `between` is done before each of them and not counted.
    """

    def __init__(
        self, clock: Callable[[], float] = time.perf_counter, between: Callable[[], object] = lambda: None
    ) -> None:
        self._clock, self._between = clock, between
        self._ratios: list[float] = []

    def ms(self, work: Callable[[], object], rounds: int = 40, warmup: int = 5) -> float:
        """Median time of one call, in milliseconds."""
        times = []
        for i in range(warmup + rounds):
            self._between()
            started = self._clock()
            work()
            if i >= warmup:
                times.append(1000 * (self._clock() - started))
        median = sorted(times)[len(times) // 2]
        self._ratios += [ms / median for ms in times]
        return median

    def spread(self) -> list[float]:
        """The mean ratio of each twentieth of all times to their medians, in order."""
        ordered = sorted(self._ratios)
        bounds = [i * len(ordered) // 20 for i in range(21)]
        return [round(sum(ordered[a:b]) / (b - a), 3) for a, b in pairwise(bounds)]


def machine(watch: Stopwatch) -> tuple[float, float]:
    """(gigabytes a second that can be read, gigaflops of single-precision products), with the threads torch has now."""
    big = torch.ones(64 << 20)  # 256 MB: more than any cache
    read_ms = watch.ms(big.sum, rounds=5, warmup=1)
    a, product = torch.randn(1024, 1024), PackedLinear(torch.randn(1024, 1024))
    product_ms = watch.ms(lambda: product(a), rounds=10, warmup=2)
    return big.numel() * 4 / read_ms / 1e6, 2 * 1024**3 / product_ms / 1e6


def floor_ms(net: SpeechTransformer, rows: int, tokens: int, speed: tuple[float, float]) -> float:
    """The least time of one `extend` of `rows` sequences by `tokens` each."""
    config = net.config
    weights = sum(p.numel() for p in net.model.layers.parameters())
    cached = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * _CONTEXT
    weight_bytes = 1 if rows * tokens <= FEW else 4
    read = (weight_bytes * weights + 4 * rows * cached) / speed[0] / 1e6
    attention = 2 * 2 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * _CONTEXT
    done = rows * tokens * (2 * weights + attention) / speed[1] / 1e6
    return max(read, done)


def transformer_steps(model: SpeechModel, speed: tuple[float, float], watch: Stopwatch) -> dict[str, dict[str, Any]]:
    """Decoding one token for each of several rows, and prefilling one row with several tokens."""
    net = CachedTransformer(model.transformer)
    cache = KVCache(net.config, max(_SIZES), _LONG_CONTEXT + 128)
    found: dict[str, dict[str, Any]] = {"decode": {}, "prefill": {}}
    for name, shapes in (("decode", [(n, 1) for n in _SIZES]), ("prefill", [(1, n) for n in (2, 8, 32, 128)])):
        for rows, width in shapes:
            tokens, slots = torch.zeros(rows, width, dtype=torch.long), torch.arange(rows)
            short, long = torch.full((rows,), _CONTEXT), torch.full((rows,), _LONG_CONTEXT)
            ms, long_ms = (
                watch.ms(lambda t=tokens, s=slots, n=held: net.extend(t, s, n, cache))  # type: ignore[misc]
                for held in (short, long)
            )
            least = floor_ms(model.transformer, rows, width, speed)
            found[name][str(rows * width)] = {
                "ms": round(ms, 2),
                "floor_ms": round(least, 2),
                "times": round(ms / least, 1),
                "long_ms": round(long_ms, 2),
            }
    return found


def audio_steps(model: SpeechModel, watch: Stopwatch) -> dict[str, dict[str, Any]]:
    """Tokenising 80 and 40 ms for several sessions at once, and detokenising 160 and 40; their states lie apart."""

    def batched(net: Callable[[torch.Tensor, State], tuple[torch.Tensor, State]], x: torch.Tensor, one: State) -> float:
        def work() -> None:
            _, state = net(x, [torch.cat([part] * len(x)) for part in one])
            for i in range(len(x)):
                [part[i : i + 1] for part in state]

        return round(watch.ms(work), 2)

    found: dict[str, dict[str, Any]] = {"hear": {}, "say": {}}
    ear, mouth = model.tokenizer.initial_state(1), model.detokenizer.initial_state(1)
    for n in _SIZES:
        pcm, codes = torch.zeros(n, 2 * TOKEN_SAMPLES), torch.zeros(n, 4, dtype=torch.long)
        heard = {"ms": pcm, "one_ms": pcm[:, :TOKEN_SAMPLES]}
        said = {"ms": codes, "one_ms": codes[:, :1]}
        found["hear"][str(n)] = {key: batched(model.tokenizer, x, ear) for key, x in heard.items()}
        found["say"][str(n)] = {key: batched(model.detokenizer, x, mouth) for key, x in said.items()}
    return found


def whole_steps(
    model: SpeechModel, clock: Callable[[], float], between: Callable[[], object]
) -> dict[str, dict[str, Any]]:
    """Steps of the whole engine with sampling and bookkeeping, in which every session does the same: decodes a token,
    does that and says the code, or hears and reads one.
    """
    found: dict[str, dict[str, Any]] = {"step": {}, "speak": {}, "listen": {}}
    typed = "please " * (_CONTEXT - 60)  # a piece each; with the steps that are timed, the context is as elsewhere
    for n in _SIZES:
        sessions = list(map(str, range(n)))
        for name, table in found.items():
            # Where time stands still, it is always ahead of its listeners, so three steps in four say nothing; where it
            # rushes, they have always heard all, each code is said at once, and nobody waits to be heard with others.
            moments = count(step=0 if name == "step" else 1)
            engine = SpeechEngine(model, EngineConfig(), lambda moments=moments: float(next(moments)))  # type: ignore[misc]
            for session in sessions:
                engine.receive(OpenSession(session))
                engine.receive(AddText(session, "typed", "user", typed))
            while engine.has_work:
                engine.step()
            for session in sessions:
                if name != "listen":
                    engine.receive(Respond(session, session, "said", script="one two three four five six seven " * 8))

            def feed(
                engine: SpeechEngine = engine, listeners: list[str] = sessions if name == "listen" else []
            ) -> None:
                between()
                for session in listeners:
                    engine.receive(Hear(session, bytes(2 * TOKEN_SAMPLES)))

            table[str(n)] = {"ms": round(Stopwatch(clock, feed).ms(engine.step, rounds=100, warmup=10), 2)}
    return found


def one_of_each(model: SpeechModel) -> Callable[[], None]:
    """Decoding, tokenising and detokenising for one session: what follows finds little of its own in the caches."""
    net = CachedTransformer(model.transformer)
    cache = KVCache(net.config, 1, _CONTEXT + 1)
    token, slot, held = torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, dtype=torch.long), torch.tensor([_CONTEXT])
    pcm, codes = torch.zeros(1, 2 * TOKEN_SAMPLES), torch.zeros(1, 4, dtype=torch.long)
    ear, mouth = model.tokenizer.initial_state(1), model.detokenizer.initial_state(1)

    def work() -> None:
        net.extend(token, slot, held, cache)
        model.tokenizer(pcm, ear)
        model.detokenizer(codes, mouth)

    return work


@torch.inference_mode()
def steps(
    model: SpeechModel, speed: tuple[float, float], clock: Callable[[], float] = time.perf_counter, mixed: bool = False
) -> dict[str, Any]:
    """All tables, with what the sizes in them mean. `mixed`: each step follows one of every kind, as in the engine."""
    pack(model.tokenizer)
    pack(model.detokenizer)
    between = one_of_each(model) if mixed else lambda: None
    watch = Stopwatch(clock, between)
    found: dict[str, Any] = {"context": _CONTEXT, "long_context": _LONG_CONTEXT}
    found |= transformer_steps(model, speed, watch) | audio_steps(model, watch)
    return found | {"spread": watch.spread()} | whole_steps(model, clock, between)


def main(argv: list[str]) -> int:
    """Run the benchmark."""
    parser = benchmark("engine", __doc__, KEYS)
    parser.add_argument("--model-dir", type=Path, default=EMBEDDED)
    parser.add_argument("--mixed", action="store_true", help="other steps in between, as in the engine")
    parser.add_argument("--cpu-time", action="store_true", help="count processor time, for a machine in use")
    parser.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    speed = machine(Stopwatch())
    print(f"this machine: {speed[0]:.0f} GB/s, {speed[1]:.0f} gigaflops with {options.threads} thread(s)\n")
    clock = time.thread_time if options.cpu_time else time.perf_counter
    found = steps(load(options.model_dir), speed, clock, options.mixed)
    titles = {"decode": "decode: rows", "prefill": "prefill: tokens", "hear": "hear 80 ms: sessions"}
    titles |= {"say": "say 160 ms: sessions", "step": "whole step: sessions"}
    titles |= {"speak": "the same, saying 40 ms", "listen": "heard and read: sessions"}
    for name, title in titles.items():
        print(f"{title:<24} {'ms':>8} {'floor':>8} {'times':>6}")
        for size, row in found[name].items():
            print(f"{size:<24} {row['ms']:>8} {row.get('floor_ms', ''):>8} {row.get('times', ''):>6}")
    result = {
        "command": "bench engine",
        "threads": options.threads,
        "mixed": options.mixed,
        "cpu_time": options.cpu_time,
    }
    result |= {"gigabytes_per_s": round(speed[0], 1), "gigaflops": round(speed[1], 1)}
    return finish({**result, **found}, options)
