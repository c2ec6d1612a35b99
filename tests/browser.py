"""A real browser: Chromium without a window, driven over WebDriver (W3C) by its driver; `bin/browser` installs both."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

AXE = Path(__file__).parent / "vendor" / "axe-core-4.min.js"
_DEADLINE_S = 60.0  # of one command, on a busy machine
# A browser of a test's own speaks to nobody else: no updates, no safe browsing, no first run.
_OPTIONS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-default-apps",
    "--disable-dev-shm-usage",
]  # fmt: skip


class Browser:
    """One window; each method waits until what it asked for is done."""

    def __init__(self, driver: str, session: str) -> None:
        self._session = f"{driver}/session/{session}"

    def size(self, width: int, height: int) -> None:
        """Have the page's own window so large, whatever a window's frame takes."""
        self.tell("Emulation.setScrollbarsHidden", hidden=True)  # else a picture lacks what is beside it
        self.tell("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def dark(self, *, dark: bool) -> None:
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.tell("Emulation.setEmulatedMedia", features=[feature])

    def scripts(self, *, run: bool) -> None:
        self.tell("Emulation.setScriptExecutionDisabled", value=not run)

    def login(self, token: str) -> None:
        """Send a token as the password of HTTP Basic from now on."""
        word = base64.b64encode(f"test:{token}".encode()).decode()
        self.tell("Network.enable")
        self.tell("Network.setExtraHTTPHeaders", headers={"Authorization": f"Basic {word}"})

    def open(self, url: str) -> None:
        self._ask("POST", "/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """Return what a script of the test returns, which the page's policy does not concern."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def violations(self) -> list[str]:
        """Return what axe finds wrong with the page, by the rules of WCAG 2.2 AA and of good practice."""
        self.run(AXE.read_text(encoding="utf-8") + "; window.axe = axe;")
        found = self._ask(
            "POST",
            "/execute/async",
            {"script": "const done = arguments[0]; axe.run().then(found => done(found.violations))", "args": []},
        )
        return [f"{each['id']}: {node['html']}" for each in found for node in each["nodes"]]

    def press(self, key: str) -> None:
        actions = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
        self._ask("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def picture(self, file: Path) -> None:
        """Write the whole page as PNG."""
        shot = self.tell("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        file.write_bytes(base64.b64decode(shot["data"]))

    def tell(self, command: str, **parameters: Any) -> Any:
        """Send a command of Chromium's own protocol."""
        return self._ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def _ask(self, method: str, path: str, body: dict[str, Any]) -> Any:
        return _ask(method, self._session + path, body)

    def close(self) -> None:
        self._ask("DELETE", "", {})


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Give a browser whose profile is in a folder.

    Raises:
        AssertionError: There is none on this machine.
    """
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        raise AssertionError("there is no chromium with chromedriver here: run bin/browser")
    port = _free_port()
    with subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            _await_driver(address)
            options = {"binary": chromium, "args": [*_OPTIONS, f"--user-data-dir={folder / 'profile'}"]}
            wanted = {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}}
            made = Browser(address, _ask("POST", f"{address}/session", wanted)["sessionId"])
            try:
                yield made
            finally:
                made.close()
        finally:
            process.terminate()


def _await_driver(address: str) -> None:
    ends_s = time.monotonic() + _DEADLINE_S
    while True:
        try:
            if _ask("GET", f"{address}/status", None)["ready"]:
                return
        except OSError:
            assert time.monotonic() < ends_s, "chromedriver does not answer"
        time.sleep(0.05)


def _ask(method: str, url: str, body: dict[str, Any] | None) -> Any:
    content = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, content, headers, method=method)  # noqa: S310 - our own driver's
    try:
        with urllib.request.urlopen(request, timeout=_DEADLINE_S) as answer:  # noqa: S310 - the same
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        with error:
            raise AssertionError(json.load(error)["value"]["message"]) from None


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
