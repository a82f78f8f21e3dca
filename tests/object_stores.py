"""Addresses of stores to test on: fsspec's local and memory file systems, and a real S3 server where there is one."""

from __future__ import annotations

import importlib.util
import urllib.request
import uuid
from functools import cache
from pathlib import Path

import pytest

from prefdelta.core.manifests import MANIFEST, damage
from prefdelta.core.remote.objects import Objects

HAS_S3 = all(importlib.util.find_spec(name) for name in ("s3fs", "moto"))
SECRET = "never-to-be-printed"

FILE = pytest.param("file")
MEMORY = pytest.param("memory")
S3 = pytest.param(
    "s3",
    marks=pytest.mark.skipif(
        not HAS_S3, reason="s3fs and moto are not installed; `make test-s3` does it in an environment of its own"
    ),
)


def address(kind: str, folder: Path, patch: pytest.MonkeyPatch) -> str:
    """The address of a run that is not there yet."""
    if kind == "file":
        return f"file://{folder}/bucket/run"
    if kind == "memory":
        return f"memory://{uuid.uuid4().hex}/run"
    for name, value in credentials().items():
        patch.setenv(name, value)
    import boto3

    bucket = uuid.uuid4().hex
    boto3.client("s3").create_bucket(Bucket=bucket)
    return f"s3://{bucket}/some/run"


@cache
def credentials() -> dict[str, str]:
    """What S3's tools read, of a server that lives as long as the tests."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    return {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def ask_for_keys(allowed: str) -> None:
    """Have the server look at keys after so many requests; ``inf`` for never."""
    body, kind = allowed.encode(), {"Content-Type": "text/plain"}
    asked = urllib.request.Request(f"{credentials()['AWS_ENDPOINT_URL']}/moto-api/reset-auth", body, kind)
    urllib.request.urlopen(asked).read()


def tree(objects: Objects) -> dict[str, bytes]:
    """All that people see below an address, but the journal."""
    names = [name for name in objects.sizes() if not name.startswith(".") and name != "journal.jsonl"]
    return {name: objects.read(name) or b"" for name in names}


def half_artifacts(objects: Objects, folder: Path) -> list[str]:
    """What is wrong with the artifacts whose manifest is there, looked at in copies in ``folder``."""
    found, names = [], objects.sizes()
    for manifest in [name for name in names if name.endswith(f"/{MANIFEST}")]:
        place = manifest.removesuffix(MANIFEST)
        copy = folder / uuid.uuid4().hex
        for name in names:
            if name.startswith(place):
                objects.get(name, copy / name.removeprefix(place))
        found += damage(copy)
    return found
