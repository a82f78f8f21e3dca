"""The lease of a run directory below a URL: one run writes, and what has died is followed."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from object_stores import FILE, MEMORY, S3, address
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.remote import lease
from prefdelta.core.remote.objects import Objects
from prefdelta.core.remote.store import RemoteStore
from whole_runs import forked

EVERYWHERE = pytest.mark.parametrize("url", [FILE, MEMORY, S3], indirect=True)
BETWEEN_PROCESSES = pytest.mark.parametrize("url", [FILE, S3], indirect=True)


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return address(request.param, tmp_path, monkeypatch)


@EVERYWHERE
def test_one_run_writes_and_the_other_is_told_who(url: str, tmp_path: Path) -> None:
    who = rf"{url} is held by .+@.+ \(process {os.getpid()}\) since .+; wait for it or stop it"
    with RemoteStore(url, tmp_path / "one").locked():
        for cache in ("one", "two"):  # on this machine, and on another
            with (
                pytest.raises(PrefdeltaError, match=who.replace("; wait", ".*; wait")),
                RemoteStore(url, tmp_path / cache).locked(),
            ):
                pytest.fail("both write")
    with RemoteStore(url, tmp_path / "two").locked():
        pass
    assert Objects(url).sizes(".lease") == {}


@BETWEEN_PROCESSES
def test_of_many_at_once_one_gets_the_lease(url: str, tmp_path: Path) -> None:
    got, refused = [], []
    start, done = threading.Barrier(8), threading.Barrier(8)

    def take(number: int) -> None:
        copy, place = tmp_path / str(number), Objects(url)
        copy.mkdir()
        start.wait()
        try:
            with lease.held(place, copy) as token:
                got.append(token)
                done.wait()
        except PrefdeltaError as error:
            refused.append(str(error))
            done.wait()

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 7)
    assert all("is held by" in sentence for sentence in refused)


@EVERYWHERE
def test_a_lease_is_renewed_and_a_stale_one_taken_over(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, first, second = Objects(url), tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    monkeypatch.setattr(lease, "RENEWED", 0.05)
    with lease.held(place, first):
        seen = {place.read(".lease/000001")}
        deadline = time.monotonic() + 60
        while len(seen) < 3:
            assert time.monotonic() < deadline, "it is not renewed"
            seen.add(place.read(".lease/000001"))
    monkeypatch.setattr(lease, "RENEWED", 1000.0)
    with lease.held(place, first) as token:
        with pytest.raises(PrefdeltaError, match=r"goes on 1.. s from now"), lease.held(place, second):
            pytest.fail("both write")
        monkeypatch.setattr(lease, "STALE", 1.0)
        with ExitStack() as stack:
            other = ""
            while not other:
                assert time.monotonic() < deadline + 60, "it is not taken over"
                with suppress(PrefdeltaError):
                    other = stack.enter_context(lease.held(place, second))
                time.sleep(0.1)
            lease.check(place, other)
            with pytest.raises(PrefdeltaError, match=r"is no longer this run's .*process"):
                lease.check(place, token)


@BETWEEN_PROCESSES
def test_a_killed_run_goes_on_at_once_on_its_own_machine(url: str, tmp_path: Path) -> None:
    def work(cache: str) -> None:
        with RemoteStore(url, tmp_path / cache).locked():
            os.kill(os.getpid(), signal.SIGKILL)

    assert forked(lambda: work("here")) == -signal.SIGKILL
    with pytest.raises(PrefdeltaError, match="is held by"), RemoteStore(url, tmp_path / "there").locked():
        pytest.fail("nobody knows there that it was killed")
    with RemoteStore(url, tmp_path / "here").locked():
        assert list(Objects(url).sizes(".lease")) == [".lease/000002"]
