"""A headless Chromium driven over its debugging pipe: pages opened, scripts run, keys pressed, requests listed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

_LEAVING = ("Cannot find context", "navigated or closed", "context was destroyed")
_KEYS = {"Enter": ("Enter", "\r"), "Escape": ("Escape", "")}


class _Leaving(AssertionError):
    """The page was left while it was asked."""


class Page:
    """One page of a browser.

    Attributes:
        complaints: what the page logged as an error or warning, and what it threw.
        requests: the addresses it asked for.
    """

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive = send, receive
        self._rest = b""
        self._number = 0
        self._session: str | None = None
        self.complaints: list[str] = []
        self.requests: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")
        self._call("Performance.enable", timeDomain="threadTicks")

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            reply = self._next()
            if reply.get("id") == self._number:
                if "error" in reply and any(word in reply["error"]["message"] for word in _LEAVING):
                    raise _Leaving(method, reply["error"])
                assert "error" not in reply, (method, reply["error"])
                return dict(reply["result"])
            self._note(reply)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            read = os.read(self._receive, 1 << 16)
            assert read, "the browser ended"
            self._rest += read
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, event: dict[str, Any]) -> None:
        method, told = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(told["exceptionDetails"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.complaints.append(told["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])

    def size(self, width: int, height: int) -> None:
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def dark(self, dark: bool) -> None:
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[feature])

    def open(self, page: Path, address: str = "") -> None:
        """Open a page afresh, whatever is shown now."""
        self.visit(page.as_uri() + address)

    def visit(self, address: str) -> None:
        """Open an address afresh."""
        self._call("Page.navigate", url="about:blank")
        self._call("Page.navigate", url=address)

    def run(self, script: str) -> Any:
        """The value of an expression, awaited if it is a promise."""
        done = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def wait(self, script: str, seconds: float = 60) -> Any:
        """The value of an expression as soon as it is true; a page that is just being left is asked again."""
        end = time.monotonic() + seconds
        while True:
            with suppress(_Leaving):
                if value := self.run(script):
                    return value
                assert time.monotonic() < end, f"never true: {script}\n{self.run('document.body?.innerText')}"
            time.sleep(0.03)

    def worked(self) -> float:
        """Seconds of processor time that the page's main thread has taken; other work on the machine adds nothing."""
        return next(
            float(metric["value"])
            for metric in self._call("Performance.getMetrics")["metrics"]
            if metric["name"] == "TaskDuration"
        )

    def press(self, key: str) -> None:
        """Press and release a key, as a user does."""
        name, text = _KEYS.get(key, (key, key))
        code = {"Enter": 13, "Escape": 27}.get(key, 0)
        event = {"key": name, "windowsVirtualKeyCode": code}
        self._call("Input.dispatchKeyEvent", type="keyDown", text=text, **event)
        self._call("Input.dispatchKeyEvent", type="keyUp", **event)

    def click(self, selector: str) -> None:
        """Click with the mouse on the middle of an element."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.wait(f"!!{found}")
        x, y = self.run(
            f"(() => {{ const e = {found}; e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect();"
            "return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def saves_to(self, folder: Path) -> None:
        """Where the page's downloads go."""
        self._call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def screenshot(self) -> str:
        """The page as it looks now, a PNG in base64."""
        return str(self._call("Page.captureScreenshot", format="png")["data"])


@contextmanager
def opened(profile: Path) -> Iterator[Page]:
    """A browser with one page; the test skips where there is none."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no chromium on this machine")
    to_browser, send = os.pipe()
    receive, from_browser = os.pipe()
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        f"--user-data-dir={profile}", "--remote-debugging-pipe",
    ]  # fmt: skip

    # Chromium reads from descriptor 3 and writes to 4.
    placed = ["bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "bash", *command]
    process = subprocess.Popen(
        placed, pass_fds=(to_browser, from_browser), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        yield Page(send, receive)
    finally:
        os.close(send)
        os.close(receive)
        process.terminate()
        process.wait(timeout=30)
