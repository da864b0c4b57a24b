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
        self._busy = False
        self._waiting: list[tuple[NDArray[np.float32], NDArray[np.float32], asyncio.Future[_Result]]] = []

    async def run(self, window: NDArray[np.float32], state: NDArray[np.float32]) -> _Result:
        """A session's window with context [576] and its state [2, 1, 128] -> probability and the next state."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[_Result] = loop.create_future()
        self._waiting.append((window, state, result))
        if not self._busy:
            self._busy = True
            loop.call_soon(self._next)
        return await result

    def _next(self) -> None:
        batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
        self._busy = bool(batch)
        if not batch:
            return
        windows, states, results = zip(*batch, strict=True)
        inputs = np.stack(windows), np.concatenate(states, axis=1)
        done = asyncio.get_running_loop().run_in_executor(self._thread, self._network, *inputs)
        done.add_done_callback(lambda done: self._answer(done, results))

    def _answer(
        self,
        done: "asyncio.Future[tuple[NDArray[np.float32], NDArray[np.float32]]]",
        results: "tuple[asyncio.Future[_Result], ...]",
    ) -> None:
        if error := done.exception():
            for result in results:
                if not result.done():
                    result.set_exception(error)
        else:
            probabilities, new = done.result()
            for i, result in enumerate(results):
                if not result.done():  # else its session has left
                    result.set_result((float(probabilities[i]), new[:, i : i + 1].copy()))
        self._next()
