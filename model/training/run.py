"""One training run: its folder, its checkpoint, its log and its curves. Every stage trains through `Run.steps`.

Knows nothing about what is trained.
"""

import collections
import copy
import json
import math
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import spawn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from tqdm import tqdm

_Batch = TypeVar("_Batch")
_AHEAD = 6  # steps that a GPU may be asked for before it has done them: their times are what the log and bar tell


def on_gpu() -> bool:
    """Whether training runs on a GPU: where torch's default device is one."""
    return torch.get_default_device().type == "cuda"


def product_type() -> torch.dtype:
    """What matrix products are computed in: bfloat16 where the processor has instructions for it, twice as fast there.

    Elsewhere they take thirty times as long as those of float32.
    """
    fast = on_gpu() or torch.cpu.get_capabilities().get("avx512_bf16")
    return torch.bfloat16 if fast else torch.float32


def mixed_precision() -> torch.autocast:
    """Matrix products of 32-bit numbers in `product_type`."""
    device = torch.get_default_device().type
    return torch.autocast(device, torch.bfloat16, enabled=product_type() == torch.bfloat16)


class _Drawn(IterableDataset[_Batch]):
    def __init__(self, batches: Callable[[int], Iterator[_Batch]]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[_Batch]:
        torch.set_num_threads(1)
        worker = get_worker_info()
        assert worker is not None
        return self._batches(worker.id)


def _as_it_is(batch: _Batch) -> _Batch:
    return batch


def drawn(batches: Callable[[int], Iterator[_Batch]], workers: int) -> Iterator[_Batch]:
    """The batches that `batches(number of the worker)` gives, put together on the CPU, by `workers` other processes."""
    ahead = max(2, 16 // workers)
    with torch.device("cpu"):  # also in the processes that are forked here: they cannot use the GPU of their parent
        # Forked, so that they need not be sent what they draw from.
        drawing = DataLoader(
            _Drawn(batches),
            batch_size=None,
            collate_fn=_as_it_is,  # the default makes lists of tuples
            num_workers=workers,
            prefetch_factor=ahead,
            multiprocessing_context="fork",
        )
        return iter(drawing)


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) over all matrices of one shape at a time.

    What `torch.optim.Muon` does with `adjust_lr_fn="match_rms_adamw"`, in a twentieth of its operations, each of which
    a GPU takes as long to start as to do.
    """

    _MOMENTUM, _STEPS, _A, _B, _C = 0.95, 5, 3.4445, -4.7750, 2.0315

    def __init__(self, matrices: Sequence[nn.Parameter], lr: float | Tensor, weight_decay: float = 0.05) -> None:
        shapes: dict[torch.Size, list[nn.Parameter]] = {}
        for matrix in matrices:
            shapes.setdefault(matrix.shape, []).append(matrix)
        groups = [{"params": same} for same in shapes.values()]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Every matrix has a gradient."""
        products = product_type()
        for group in self.param_groups:
            matrices, rate = group["params"], group["lr"]
            gradients = torch.stack([matrix.grad for matrix in matrices])  # [K, M, N]
            state = self.state[matrices[0]]
            if not state:
                state["momentum"] = torch.zeros_like(gradients)
            state["momentum"].lerp_(gradients, 1 - self._MOMENTUM)
            update = gradients.lerp(state["momentum"], self._MOMENTUM).to(products)
            tall = update.shape[1] > update.shape[2]
            if tall:
                update = update.transpose(1, 2)
            update = update / update.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
            for _ in range(self._STEPS):  # Newton-Schulz: singular values go to one
                gram = update @ update.transpose(1, 2)
                polynomial = torch.baddbmm(gram, gram, gram, beta=self._B, alpha=self._C)
                update = torch.baddbmm(update, polynomial, update, beta=self._A)
            if tall:
                update = update.transpose(1, 2)
            scale = 0.2 * max(update.shape[1:]) ** 0.5
            torch._foreach_mul_(matrices, 1 - rate * group["weight_decay"])
            torch._foreach_sub_(matrices, list((update.float() * (rate * scale)).unbind(0)))


class Graphs:
    """A step on a GPU as one CUDA graph for each kind of batch: a small network's thousand operations take longer to
    start one by one than to do.

    `step(kind, numbers)` learns from the batch that `numbers` on the device describe, in operations that wait for
    nothing and allocate what they need, and gives a tensor. On a CPU it is simply called.
    """

    def __init__(self, step: Callable[[Any, Tensor], Tensor]) -> None:
        self._step = step
        self._buffers: dict[Hashable, Tensor] = {}
        self._graphs: dict[Hashable, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self._met: collections.Counter[Hashable] = collections.Counter()
        if on_gpu():
            self._pool = torch.cuda.graph_pool_handle()
            self._stream = torch.cuda.Stream()

    def __call__(self, kind: Hashable, numbers: Tensor) -> Tensor:
        """The same tensor is written again at the next step."""
        if not on_gpu():
            return self._step(kind, numbers)
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            found = self._run(kind, numbers)
        torch.cuda.current_stream().wait_stream(self._stream)
        return found

    def _run(self, kind: Hashable, numbers: Tensor) -> Tensor:
        if kind not in self._buffers:
            self._buffers[kind] = torch.empty_like(numbers, device=torch.get_default_device())
        buffer = self._buffers[kind]
        buffer.copy_(numbers.pin_memory(), non_blocking=True)
        if kind not in self._graphs:
            self._met[kind] += 1
            # The libraries choose their algorithms, and optimisers make their state, where nothing is recorded.
            if self._met[kind] <= (1 if self._graphs else 2):
                return self._step(kind, buffer)
            graph = torch.cuda.CUDAGraph()
            # Other threads may ask for pinned memory meanwhile.
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                found = self._step(kind, buffer)
            self._graphs[kind] = graph, found
        graph, found = self._graphs[kind]
        graph.replay()
        return found


def by_length(lengths: Sequence[float], budget: float) -> list[list[int]]:
    """Indices of things of similar length, together; a group padded to its longest stays within `budget`."""
    groups: list[list[int]] = [[]]
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if groups[-1] and lengths[i] * (len(groups[-1]) + 1) > budget:
            groups.append([])
        groups[-1].append(i)
    return groups


def rank() -> int:
    """Which of the processes that train together this is."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def in_parallel(processes: int, train: Callable[..., Any], *arguments: Any) -> None:
    """Call `train(*arguments)` in so many processes of one thread each, whose `Run` is one: a step learns from the
    batches of all. Two threads of one process are a tenth faster than one, two processes seven tenths.

    `train` draws other batches on every `rank()`; what it learnt is in the checkpoint of its run.
    """
    with tempfile.TemporaryDirectory() as meeting:
        spawn(_process, (processes, f"file://{meeting}/all", train, arguments), processes)


def apart(train: Callable[..., Any], each: Sequence[Sequence[Any]]) -> None:
    """Call `train(*arguments)` for each of these arguments in a process of one thread of its own, all at once.

    They know nothing of each other: what they learn is for `mean_of`.
    """
    spawn(_alone, (train, each), len(each))


def _alone(number: int, train: Callable[..., Any], each: Sequence[Sequence[Any]]) -> None:
    torch.set_num_threads(1)
    train(*copy.deepcopy(each[number]))


def mean_of(weights: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of the weights of networks that began with the same ones: better than each (Wortsman et al. 2022, arXiv
    2203.05482), and than what they began with, of which it forgets less."""
    return {name: torch.stack([each[name] for each in weights]).mean(0) for name in weights[0]}


def _process(number: int, processes: int, meeting: str, train: Callable[..., Any], arguments: Sequence[Any]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", meeting, rank=number, world_size=processes)
    train(*copy.deepcopy(arguments))  # what was sent shares its memory with the other processes
    distributed.destroy_process_group()


class Run:
    """A resumable loop over steps, of one process or of several `in_parallel`.

    `folder` receives `checkpoint.pt` (weights, optimiser, step), `log.jsonl` (a line every `log_every` steps) and
    `settings.json` (whatever the stage says it used).
    """

    def __init__(
        self,
        folder: Path,
        network: nn.Module,
        steps: int,
        learning_rate: float,
        settings: dict[str, Any],
        warmup: int = 100,
        log_every: int = 20,
        save_every: int = 200,
        matrices: Sequence[nn.Parameter] = (),
    ) -> None:
        """`matrices` are optimised with Muon, the rest with AdamW."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.network, self.total = folder, network, steps
        self.log_every, self.save_every, self.warmup, self.peak = log_every, save_every, warmup, learning_rate
        chosen = {id(p) for p in matrices}
        rest = [p for p in network.parameters() if p.requires_grad and id(p) not in chosen]
        rate: float | Tensor = torch.tensor(0.0) if on_gpu() else 0.0  # a graph reads it where it lies
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(rest, rate, (0.9, 0.98), weight_decay=0.01, fused=True, capturable=on_gpu())
        ]
        if matrices:
            self.optimisers.append(Muon(matrices, rate))
        self._parameters = [*rest, *matrices]
        self._names: list[str] = []
        self._sums: Tensor | float = 0.0
        self._counts = 0
        self._started: collections.deque[torch.cuda.Event] = collections.deque()
        self.step = 0
        self._checkpoint = folder / "checkpoint.pt"
        self._hours = 0.0
        if self._checkpoint.exists():
            saved = torch.load(self._checkpoint, map_location="cpu", weights_only=True)
            network.load_state_dict(saved["network"])
            for optimiser, state in zip(self.optimisers, saved["optimisers"], strict=True):
                optimiser.load_state_dict(state)
                for group in optimiser.param_groups:
                    group["lr"] = rate
                    if "capturable" in group:  # it may go on where it did not begin
                        group["capturable"] = on_gpu()
            self.step, self._hours = saved["step"], saved["hours"]
        self._processes = distributed.get_world_size() if distributed.is_initialized() else 1
        self._settings = settings | {
            "steps": steps,
            "learning_rate": learning_rate,
            "torch_seed": torch.initial_seed(),
            "processes": self._processes,
        }
        self._write_settings()

    def _write_settings(self) -> None:
        if rank():
            return
        text = json.dumps(self._settings | {"steps_done": self.step, "hours": round(self._hours, 3)}, indent=1)
        (self.folder / "settings.json").write_text(text + "\n")

    def _rate(self) -> float:
        if self.step < self.warmup:
            return self.peak * (self.step + 1) / self.warmup
        progress = min(1.0, (self.step - self.warmup) / max(1, self.total - self.warmup))
        return self.peak * (0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2)

    def steps(self) -> Iterator[int]:
        """The step numbers still to do; between two of them the caller calls `update`, or `learn` and `count`."""
        name, silent = self.folder.name, rank() > 0
        bar = tqdm(total=self.total, initial=self.step, desc=name, unit="step", mininterval=5, disable=silent)
        started = time.perf_counter()
        hours_before = self._hours
        while self.step < self.total:
            rate = self._rate()
            for group in (group for optimiser in self.optimisers for group in optimiser.param_groups):
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate
            yield self.step
            bar.update()
            self._hours = hours_before + (time.perf_counter() - started) / 3600
            if rank() == 0 and (self.step % self.log_every == 0 or self.step == self.total):
                sums: list[float] = self._sums.tolist() if isinstance(self._sums, Tensor) else []
                line = {k: round(v / self._counts, 5) for k, v in zip(self._names, sums, strict=bool(sums))}
                with (self.folder / "log.jsonl").open("a") as log:
                    log.write(json.dumps({"step": self.step, "hours": round(self._hours, 4)} | line) + "\n")
                bar.set_postfix({k: f"{v:.3f}" for k, v in line.items()})
                self._sums, self._counts = 0.0, 0
            if self.step % self.save_every == 0:
                self.save()
        bar.close()
        self.save()

    def update(self, loss: Tensor, losses: dict[str, Tensor]) -> None:
        """One optimiser step; `losses` go into the log."""
        self.count(self.learn(loss, losses))

    def learn(self, loss: Tensor, losses: dict[str, Tensor]) -> Tensor:
        """One optimiser step, which may be part of a graph; `losses`, the same ones every time, are for `count`."""
        self._names = list(losses)
        for p in self._parameters:
            p.grad = None
        loss.backward()
        self._average_gradients()
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = torch.stack(torch._foreach_norm(gradients)).norm()
        # From a batch that blew up nothing is learnt but what those before it have set in motion.
        scale = (1.0 / (norm + 1e-6)).clamp(max=1.0).masked_fill(~torch.isfinite(norm), 0.0)
        torch._foreach_mul_(gradients, scale)
        for gradient in gradients:
            gradient.nan_to_num_(0.0, 0.0, 0.0)
        for optimiser in self.optimisers:
            optimiser.step()
        return torch.stack([losses[name].detach().float() for name in self._names])

    def count(self, losses: Tensor) -> None:
        """After each step: the losses that `learn` gave."""
        self.step += 1
        self._counts += 1
        self._sums = self._sums + losses
        if on_gpu():  # so that the clock tells what was done, not what was asked for
            self._started.append(torch.cuda.Event())
            self._started[-1].record()
            if len(self._started) > _AHEAD:
                self._started.popleft().synchronize()

    def _average_gradients(self) -> None:
        """Over the processes. What a batch did not use counts as zero."""
        parameters = self._parameters
        for p in parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        if self._processes == 1:
            return
        flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        distributed.all_reduce(flat)
        flat /= self._processes
        for p, gradient in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            p.grad = gradient.view_as(p)

    def save(self) -> None:
        """Write the checkpoint so that a kill at any moment leaves a whole one."""
        if rank():
            return
        partial = self._checkpoint.with_suffix(".partial")
        torch.save(
            {
                "network": self.network.state_dict(),
                "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
                "step": self.step,
                "hours": self._hours,
            },
            partial,
        )
        partial.rename(self._checkpoint)
        self._write_settings()


def draw_curves(folder: Path, title: str) -> Path:
    """Draw every logged loss of a run over its steps; returns the picture's path."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    names = [n for n in lines[-1] if n not in ("step", "hours")]
    figure, axes = plt.subplots(1, len(names), figsize=(3.2 * len(names), 2.6), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        axis.plot([x["step"] for x in lines if name in x], [x[name] for x in lines if name in x], linewidth=1)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("step", fontsize=8)
        axis.grid(alpha=0.3)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    path = folder / "curves.png"
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
