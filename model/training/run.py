"""One training run: its folder, its checkpoint, its log and its curves. Every stage trains through `Run.steps`.

Knows nothing about what is trained.
"""

import copy
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import distributed, nn
from torch.multiprocessing.spawn import spawn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from tqdm import tqdm

_Batch = TypeVar("_Batch")
GPU_WORKERS = 12  # processes that put batches together for one GPU


def on_gpu() -> bool:
    """Whether training runs on a GPU: where torch's default device is one."""
    return torch.get_default_device().type == "cuda"


def mixed_precision() -> torch.autocast:
    """Matrix products in bfloat16 where the processor has instructions for it: twice as fast there."""
    if on_gpu():
        return torch.autocast("cuda", torch.bfloat16)
    supported = bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    return torch.autocast("cpu", torch.bfloat16, enabled=supported)


class _Drawn(IterableDataset[_Batch]):
    def __init__(self, batches: Callable[[int], Iterator[_Batch]]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[_Batch]:
        worker = get_worker_info()
        if worker is None:
            return self._batches(0)
        torch.set_num_threads(1)
        return self._batches(worker.id)


def drawn(batches: Callable[[int], Iterator[_Batch]], workers: int) -> Iterator[_Batch]:
    """The batches that `batches(number of the worker)` gives, put together on the CPU, by `workers` other processes."""
    ahead = max(2, 16 // workers) if workers else None
    with torch.device("cpu"):  # also in the processes that are forked here: they cannot use the GPU of their parent
        return iter(DataLoader(_Drawn(batches), batch_size=None, num_workers=workers, prefetch_factor=ahead))


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
        """`matrices` are optimised with Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon), the rest
        with AdamW."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.network, self.total = folder, network, steps
        self.log_every, self.save_every, self.warmup, self.peak = log_every, save_every, warmup, learning_rate
        chosen = {id(p) for p in matrices}
        rest = [p for p in network.parameters() if p.requires_grad and id(p) not in chosen]
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(rest, learning_rate, (0.9, 0.98), weight_decay=0.01, fused=True)
        ]
        if matrices:
            self.optimisers.append(
                torch.optim.Muon(matrices, learning_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
            )
        self.step = 0
        self._checkpoint = folder / "checkpoint.pt"
        self._hours = 0.0
        if self._checkpoint.exists():
            saved = torch.load(self._checkpoint, weights_only=True)
            network.load_state_dict(saved["network"])
            for optimiser, state in zip(self.optimisers, saved["optimisers"], strict=True):
                optimiser.load_state_dict(state)
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
        """The step numbers still to do; between two of them the caller calls `update`."""
        name, silent = self.folder.name, rank() > 0
        bar = tqdm(total=self.total, initial=self.step, desc=name, unit="step", mininterval=5, disable=silent)
        self._sums: dict[str, torch.Tensor | float] = {}
        self._counts = 0
        started = time.perf_counter()
        hours_before = self._hours
        while self.step < self.total:
            yield self.step
            bar.update()
            self._hours = hours_before + (time.perf_counter() - started) / 3600
            if rank() == 0 and (self.step % self.log_every == 0 or self.step == self.total):
                line = {k: round(float(v) / self._counts, 5) for k, v in self._sums.items()}
                with (self.folder / "log.jsonl").open("a") as log:
                    log.write(json.dumps({"step": self.step, "hours": round(self._hours, 4)} | line) + "\n")
                bar.set_postfix({k: f"{v:.3f}" for k, v in line.items()})
                self._sums, self._counts = {}, 0
            if self.step % self.save_every == 0:
                self.save()
        bar.close()
        self.save()

    def update(self, loss: torch.Tensor, losses: dict[str, torch.Tensor]) -> None:
        """One optimiser step; `losses` go into the log."""
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
            for group in optimiser.param_groups:
                group["lr"] = self._rate()
        loss.backward()
        self._average_gradients()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        if torch.isfinite(norm):  # a batch that blew up is left out, not learnt
            for optimiser in self.optimisers:
                optimiser.step()
        self.step += 1
        self._counts += 1
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.detach()

    def _average_gradients(self) -> None:
        """Over the processes; what a batch did not use counts as zero."""
        if self._processes == 1:
            return
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
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
