"""Turn detection of all sessions in batches, in a thread of its own: windows that are ready in the same round of the
event loop, or while the thread was busy, go through the network together. One session alone waits for nobody; many cost
half as much each as one by one, and the event loop goes on meanwhile.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from server.turn_detection import VoiceActivityNetwork

_MOST = 32  # in one batch, about a millisecond; larger ones cost no less for each
_Result = tuple[float, NDArray[np.float32]]


class WindowBatch:
    """Shared by all sessions of a gateway."""

    def __init__(self, network: VoiceActivityNetwork) -> None:
        self._network = network
        self._thread = ThreadPoolExecutor(1, "voice-activity")
        self._waiting: list[tuple[NDArray[np.float32], NDArray[np.float32], asyncio.Future[_Result]]] = []
        self._working: asyncio.Task[None] | None = None

    async def run(self, window: NDArray[np.float32], state: NDArray[np.float32]) -> _Result:
        """A session's window with context [576] and its state [2, 1, 128] -> probability and the next state."""
        result: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((window, state, result))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return await result

    async def _work(self) -> None:
        """Until nobody waits."""
        while self._waiting:
            batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
            windows, states, results = zip(*batch, strict=True)
            inputs = np.stack(windows), np.concatenate(states, axis=1)
            try:
                probabilities, new = await asyncio.get_running_loop().run_in_executor(
                    self._thread, self._network, *inputs
                )
            except Exception as error:  # noqa: BLE001 - each session whose window this was fails, no other
                for result in results:
                    if not result.done():
                        result.set_exception(error)
                continue
            for i, result in enumerate(results):
                if not result.done():  # else its session has left
                    result.set_result((float(probabilities[i]), new[:, i : i + 1].copy()))
