"""A lease: one run at a time writes below a URL, on whichever machine it is.

The lease is an object ``.lease/N`` that its holder writes again every :data:`RENEWED` seconds. Where there is none, a
run creates number 1. Where the highest number has not been renewed for :data:`STALE` seconds, by the store's own clock,
a run takes over by creating the next number. Creating fails if the object is there, so of two runs one gets it; the
holder of a lower number finds a higher one when it renews or uploads next, and ends. Stores that cannot refuse to
overwrite let two runs that begin at the same moment both go on, until the one whose object was overwritten sees it.
"""

from __future__ import annotations

import getpass
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import digest, to_json
from prefdelta.core.remote.objects import Objects

RENEWED = 20.0
STALE = 120.0

_FOLDER = ".lease"
_PATIENCE = 30.0  # seconds for a renewal that is under way when the run ends


@dataclass(frozen=True)
class Lease:
    """Who writes.

    Attributes:
        token: of this holder alone.
        who: user, machine and process, for people.
        copy: the working copy, which its holder has locked; as long as somebody else can lock it, it is not held.
        since: seconds since 1970 when it was taken, by the holder's clock.
        renewed: likewise, when it was last renewed.
    """

    token: str
    who: str
    copy: str
    since: float
    renewed: float


@contextmanager
def held(objects: Objects, copy: Path) -> Iterator[str]:
    """Hold the lease and renew it from a thread; gives its token.

    Args:
        objects: what is written.
        copy: the working copy, which the caller has locked.

    Raises:
        PrefdeltaError: somebody else holds it.
    """
    lease = Lease(uuid.uuid4().hex, _me(), _identity(copy), time.time(), time.time())
    name = _taken(objects, lease)
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(RENEWED):
            with suppress(PrefdeltaError):  # an upload that cannot be made tells it, or finds who took over
                check(objects, lease.token)
                objects.write(name, _text(replace(lease, renewed=time.time())), tries=1)

    heart = threading.Thread(target=renew, daemon=True)
    heart.start()
    try:
        yield lease.token
    finally:
        ended.set()
        heart.join(_PATIENCE)
        with suppress(PrefdeltaError):  # if not, it grows stale
            check(objects, lease.token)
            objects.remove(name)


def check(objects: Objects, token: str) -> None:
    """Refuse to go on where somebody else has taken over.

    Raises:
        PrefdeltaError: the lease is no longer that of ``token``.
    """
    found = _highest(objects)
    if found is None or found[1] is None or found[1].token != token:
        who = found[1].who if found and found[1] else "somebody"
        raise PrefdeltaError(
            f"the lease of {objects.url} is no longer this run's ({who} took over, as it was not renewed for "
            f"{STALE:g} s, or removed it); this run ends."
        )


def holder(objects: Objects) -> str | None:
    """Who holds the lease, for people, if anybody does."""
    found = _highest(objects)
    return None if found is None else _who(found[1])


def _taken(objects: Objects, lease: Lease) -> str:
    """Create the lease; returns its object's name."""
    found = _highest(objects)
    number = 0
    if found is not None:
        number, other = found
        age = _age(objects, _name(number), other)
        # Its working copy is locked by this process, so whoever held it has ended.
        if age < STALE and (other is None or other.copy != lease.copy):
            raise PrefdeltaError(_refusal(objects, other, age))
    name = _name(number + 1)
    objects.create(name, _text(lease))
    winner = _parsed(objects.read(name))
    if winner is None or winner.token != lease.token:
        raise PrefdeltaError(_refusal(objects, winner, 0.0))
    for old in objects.sizes(_FOLDER):
        if _number(old) <= number:
            objects.remove(old)
    return name


def _refusal(objects: Objects, lease: Lease | None, age: float) -> str:
    return (
        f"{objects.url} is held by {_who(lease)}, renewed {age:.0f} s ago; wait for it or stop it. If it has died, "
        f"this command goes on {max(0.0, STALE - age):.0f} s from now."
    )


def _who(lease: Lease | None) -> str:
    if lease is None:
        return "a run whose lease cannot be read"
    return f"{lease.who} since {datetime.fromtimestamp(lease.since, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _age(objects: Objects, name: str, lease: Lease | None) -> float:
    """Seconds since a lease was written, by the store's clock where it has one, else by those of both machines."""
    written = objects.modified(name)
    if written is None:
        return time.time() - lease.renewed if lease else 0.0
    probe = f".clock/{uuid.uuid4().hex}"
    objects.write(probe, b"")
    now = objects.modified(probe)
    objects.remove(probe)
    return ((now or datetime.now(UTC)) - written).total_seconds()


def _highest(objects: Objects) -> tuple[int, Lease | None] | None:
    """The highest number and its lease, ``None`` if that cannot be read."""
    numbers = [number for name in objects.sizes(_FOLDER) if (number := _number(name))]
    if not numbers:
        return None
    return max(numbers), _parsed(objects.read(_name(max(numbers))))


def _name(number: int) -> str:
    return f"{_FOLDER}/{number:06d}"


def _number(name: str) -> int:
    last = name.rpartition("/")[2]
    return int(last) if last.isdecimal() else 0


def _text(lease: Lease) -> bytes:
    return (to_json(asdict(lease)) + "\n").encode()


def _parsed(text: bytes | None) -> Lease | None:
    with suppress(ValueError, TypeError):
        return Lease(**json.loads(text or b""))
    return None


def _me() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without a name for its user
        user = str(os.getuid())
    return f"{user}@{platform.node()} (process {os.getpid()})"


def _identity(copy: Path) -> str:
    """What names a folder among those of all machines: the running system, and the folder in it."""
    try:
        system = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        system = platform.node()
    place = copy.stat()
    return digest([system, place.st_dev, place.st_ino])
