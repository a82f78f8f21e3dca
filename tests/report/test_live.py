"""A run at work in the browser: what is new is shown, nobody else is answered, and Ctrl-C ends it."""

from __future__ import annotations

import http.client
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from browser import Page
from prefdelta.cli import main
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.store import Store
from prefdelta.report.viewer import LiveRun, serving


@pytest.fixture
def at_work(tmp_path: Path) -> Path:
    """A run folder with an adapter at work, whose log ends in half a line."""
    folder = tmp_path / "run" / "search" / "adapters" / "0" / ".elm.partial"
    folder.mkdir(parents=True)
    (folder / ".key").write_text("key")
    (folder / "metrics.jsonl").write_text('{"loss": 0.693, "step": 1}\n{"loss": 0.5, "step": 2}\n{"lo')
    Store(tmp_path / "run").log(event="started", recipe="run")
    return tmp_path / "run"


def files_of(viewer: Path) -> Iterator[tuple[str, bytes]]:
    for path in viewer.parent.rglob("*"):
        if path.is_file():
            yield path.relative_to(viewer.parent).as_posix(), path.read_bytes()


def asked(address: str, path: str | None = None, method: str = "GET", **headers: str) -> int:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    connection.putrequest(method, path or parts.path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    status = connection.getresponse().status
    connection.close()
    return status


def test_only_its_own_page_is_answered(at_work: Path) -> None:
    with serving(LiveRun(at_work, lambda root: ())) as address:
        parts = urlsplit(address)
        assert parts.hostname == "127.0.0.1"
        own = f"localhost:{parts.port}"
        assert asked(address) == asked(address, Host=own, Origin=f"http://{own}", Sec_Fetch_Site="same-origin") == 200
        assert asked(address, Host="evil.example") == asked(address, Host=f"evil.example:{parts.port}") == 403
        assert asked(address, Origin="https://evil.example") == asked(address, Origin="null") == 403
        assert asked(address, Sec_Fetch_Site="cross-site") == asked(address, Sec_Fetch_Site="same-site") == 403
        secret = parts.path.split("/")[1]
        for path in ("/", "/index.html", "/wrong/index.html", f"/{secret}/../journal.jsonl", f"/{secret}//etc/passwd"):
            assert asked(address, path) == 404, path
        assert asked(address, method="POST") == 501


def test_a_port_that_is_taken_is_told(at_work: Path) -> None:
    with serving(LiveRun(at_work, lambda root: ())) as address:
        port = urlsplit(address).port or 0
        second = serving(LiveRun(at_work, lambda root: ()), port)
        with pytest.raises(PrefdeltaError, match=f"cannot serve on 127.0.0.1, port {port}"), second:
            pass


def test_the_page_follows_a_run_to_its_end(browser: Page, viewer: Path, at_work: Path) -> None:
    browser.complaints.clear()
    browser.requests.clear()
    with serving(LiveRun(at_work, lambda root: files_of(viewer))) as address:
        browser.visit(address)
        browser.wait("document.querySelector('#live')?.textContent.includes('At work: search/adapters/0/elm (')")
        browser.wait("document.querySelector('tbody td')?.textContent === '2'")  # the last whole line's step
        log = at_work / "search" / "adapters" / "0" / ".elm.partial" / "metrics.jsonl"
        log.write_text(log.read_text() + 'ss": 0.4, "step": 3}\n')
        browser.wait("document.querySelector('tbody td')?.textContent === '3'")
        assert browser.run("document.querySelector('h1').textContent") == "run"
        (at_work / "results.json").write_text("{}")
        Store(at_work).log(event="finished", recipe="run")
        browser.wait("document.querySelector('#count')?.textContent === '900 rows'")
        assert browser.complaints == []
        begin = address.rpartition("/")[0]
        assert all(asked_for.startswith((begin, "about:")) for asked_for in browser.requests)


def test_ctrl_c_ends_it(at_work: Path, tmp_path: Path) -> None:
    said = tmp_path / "said"

    def work() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts behind it ignores the signal
        sys.argv = ["prefdelta", "view", str(at_work), "--live"]
        with said.open("w", buffering=1) as sys.stdout:
            main()

    process = multiprocessing.get_context("fork").Process(target=work)  # importing everything again takes seconds
    process.start()
    end = time.monotonic() + 60
    while not (said.is_file() and "Ctrl-C" in said.read_text()):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert asked(said.read_text().splitlines()[0].removeprefix("viewer: ")) == 200
    os.kill(process.pid or 0, signal.SIGINT)
    process.join(60)
    assert process.exitcode == 0
    assert said.read_text().endswith("ended\n")
