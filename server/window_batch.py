"""Turn detection of all sessions in batches: windows that are ready in the same round of the event loop go through the
network together. One session alone waits for nobody; many cost half as much each as one by one.
"""

import asyncio

import numpy as np
from numpy.typing import NDArray

from server.turn_detection import VoiceActivityNetwork

_MOST = 32  # in one batch, about a millisecond: others wait for the event loop meanwhile
_Result = tuple[float, NDArray[np.float32]]


class WindowBatch:
    """Shared by all sessions of a gateway."""

    def __init__(self, network: VoiceActivityNetwork) -> None:
        self._network = network
        self._waiting: list[tuple[NDArray[np.float32], NDArray[np.float32], asyncio.Future[_Result]]] = []

    async def run(self, window: NDArray[np.float32], state: NDArray[np.float32]) -> _Result:
        """A session's window with context [576] and its state [2, 1, 128] -> probability and the next state."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._step)
        result: asyncio.Future[_Result] = loop.create_future()
        self._waiting.append((window, state, result))
        return await result

    def _step(self) -> None:
        batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._step)
        windows, states, results = zip(*batch, strict=True)
        probabilities, new = self._network(np.stack(windows), np.concatenate(states, axis=1))
        for i, result in enumerate(results):
            if not result.done():  # else its session has left
                result.set_result((float(probabilities[i]), new[:, i : i + 1].copy()))
