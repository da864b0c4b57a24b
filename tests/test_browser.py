"""The page that the server serves, in a real browser: it hears a microphone, plays answers, and is interrupted.

`make test-browser`; skipped where Chromium or Playwright is missing. What the microphone hears is a file.
"""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from clients import sound
from server.config import ServerConfig
from server.engine.messages import SPOKEN_HZ
from server.engine.remote import RemoteEngine
from server.gateway import create_app
from tests.test_stock_clients import serve

if TYPE_CHECKING:
    from playwright.async_api import Page, WebSocket

pytestmark = pytest.mark.anyio
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(SPOKEN_HZ * seconds), np.int16)


class Frames:
    """What goes over the page's WebSockets, by type."""

    def __init__(self, page: "Page") -> None:
        self.sent: list[dict[str, object]] = []
        self.received: list[dict[str, Any]] = []
        page.on("websocket", self._follow)

    def _follow(self, socket: "WebSocket") -> None:
        socket.on("framesent", lambda frame: self.sent.append(json.loads(frame)))
        socket.on("framereceived", lambda frame: self.received.append(json.loads(frame)))

    def kinds(self) -> set[object]:
        return {event["type"] for event in self.sent + self.received}


@pytest.mark.filterwarnings("default")
async def test_page_talks_and_is_interrupted(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.async_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    first, second = (sound.read(path) for path in sound.questions()[:2])
    # The second question comes while the first one is being answered.
    heard = np.concatenate([silence(2), first, silence(1.2), second, silence(20)])
    soundfile.write(tmp_path / "microphone.wav", heard, SPOKEN_HZ)
    config = ServerConfig()
    app = create_app(config, RemoteEngine(config.model_dir, config.engine, 1))
    flags = [
        "--no-sandbox",
        "--autoplay-policy=no-user-gesture-required",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={tmp_path / 'microphone.wav'}%noloop",
    ]
    async with serve(app) as port, playwright.async_playwright() as browsers:
        browser = await browsers.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = await browser.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        frames = Frames(page)
        await page.goto(f"http://127.0.0.1:{port}/")
        await page.click("#switch")
        await page.wait_for_function("document.querySelectorAll('#talk li.answer small').length >= 2", timeout=60_000)
        await page.wait_for_function("document.querySelector('#state').textContent === 'connected'", timeout=60_000)
        assert "conversation.item.truncate" in frames.kinds(), "the answer was not interrupted"
        await page.fill("#text", "Count from one to twenty.")  # long enough to be cut
        await page.press("#text", "Enter")
        await page.wait_for_function("document.querySelectorAll('#talk li.answer small').length >= 3", timeout=60_000)
        await page.fill("#text", "What is three plus three?")  # in the middle of the answer
        await page.press("#text", "Enter")
        await page.wait_for_function("document.querySelectorAll('#talk li.answer small').length >= 4", timeout=60_000)
        assert "response.cancel" in frames.kinds()
        lines = await page.locator("#talk li").all_inner_texts()
        await page.click("#switch")
        await page.wait_for_function("document.querySelector('#state').textContent === 'not connected'", timeout=10_000)
        await page.screenshot(path=str(tmp_path / "page.png"))
        await browser.close()
    assert problems == []
    errors = [event["error"] for event in frames.received if event["type"] == "error"]
    # An answer may end while its cancellation is on its way; the page says nothing of that.
    assert [error for error in errors if error["code"] != "response_cancel_not_active"] == []
    assert len(lines) >= 8
    assert all(text.strip() for text in lines)
