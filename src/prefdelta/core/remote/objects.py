"""Objects below a URL: every operation is tried a bounded number of times, and refused in one sentence.

Anything that fsspec knows: ``s3://``, ``gs://``, ``file://``, ``memory://`` and others. No sentence holds what a
library says of an error, because that may repeat keys: only the kind of the error.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from prefdelta.core.errors import PrefdeltaError

Found = TypeVar("Found")

PAUSES = (0.5, 2.0, 5.0)
"""Seconds to wait between one try and the next."""

_CONNECT = 10  # seconds; s3fs and botocore would wait a minute, 25 times
_LOCAL = ("file", "local")
_CLOUD = ("s3", "s3a", "gs", "gcs")
_PACKAGES = {"s3": "prefdelta[remote]", "s3a": "prefdelta[remote]", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs"}
_NO_CREDENTIALS = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "ProfileNotFound",
    "DefaultCredentialsError",
    "RefreshError",
    "TokenRetrievalError",
    "SSOTokenLoadError",
    "UnauthorizedSSOTokenError",
)
_NO_ADDRESS = ("ParamValidationError", "InvalidBucketName", "InvalidEndpointURLError")


class Objects:
    """What lies below one URL. Names are relative to it, with slashes.

    Args:
        url: where.

    Raises:
        PrefdeltaError: what the address needs is not installed, or no file system has such addresses.
    """

    def __init__(self, url: str) -> None:
        self._local = url.split("://")[0] in _LOCAL
        self._system, root = _opened(url, shown(url))
        self._root = root.rstrip("/")
        self.address = f"file://{self._root}" if self._local else url
        """The address, wherever on a machine it is used."""
        self.url = shown(self.address)
        """The address without credentials, to be told."""

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Name -> bytes of all objects below a folder, at any depth."""

        def find() -> dict[str, int]:
            found = self._system.find(self._at(folder) if folder else self._root, detail=True)
            entries = {info["name"]: info for info in found.values() if info.get("type") == "file"}
            return {name[len(self._root) :].lstrip("/"): int(info["size"] or 0) for name, info in entries.items()}

        with suppress(FileNotFoundError):
            return self._tried("read", find)
        return {}

    def read(self, name: str) -> bytes | None:
        """An object's content, if it is there."""
        with suppress(FileNotFoundError):
            return bytes(self._tried("read", lambda: self._system.cat_file(self._at(name))))
        return None

    def write(self, name: str, content: bytes, *, tries: int = len(PAUSES) + 1) -> None:
        """Write an object, in one step."""

        def pipe() -> None:
            if self._local:
                with self._system.open(self._at(name), "wb", autocommit=False) as file:
                    file.write(content)
                file.commit()
            else:
                self._system.pipe_file(self._at(name), content)

        self._written(pipe, tries)

    def create(self, name: str, content: bytes) -> None:
        """Write an object that is not there; nothing happens if it is. Whether this one is there, a read tells.

        S3, Google Cloud Storage and local disks do it in one step; other file systems may look first and then write.
        """

        def pipe() -> None:
            if self._local:
                with self._system.open(self._at(name), "xb") as file:
                    file.write(content)
            else:
                self._system.pipe_file(self._at(name), content, mode="create")

        with suppress(FileExistsError):
            self._written(pipe)

    def put(self, path: Path, name: str) -> None:
        """Copy a file there."""
        self._written(lambda: self._system.put_file(str(path), self._at(name)))

    def get(self, name: str, path: Path) -> bool:
        """Copy an object here; false if it is not there."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            self._tried("read", lambda: self._system.get_file(self._at(name), str(path)))
            return True
        return False

    def remove(self, name: str) -> None:
        """Remove an object that may be there."""
        with suppress(FileNotFoundError):
            self._tried("change", lambda: self._system.rm_file(self._at(name)))

    def modified(self, name: str) -> datetime | None:
        """When an object was written, by the store's clock; ``None`` if it is not there or the store does not say."""
        with suppress(FileNotFoundError, NotImplementedError):
            return self._tried("read", lambda: self._system.modified(self._at(name)))
        return None

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _written(self, act: Callable[[], object], tries: int = len(PAUSES) + 1) -> None:
        try:
            self._tried("write to", act, tries)
        except FileNotFoundError as error:
            place = urlsplit(self.url)
            raise PrefdeltaError(
                f"cannot write to {self.url}: there is no {place.scheme}://{place.netloc}; make it first."
            ) from error
        except NotImplementedError as error:
            raise PrefdeltaError(f"cannot write to {self.url}: such an address can only be read.") from error

    def _tried(self, doing: str, act: Callable[[], Found], tries: int = len(PAUSES) + 1) -> Found:
        for number in range(tries):
            try:
                return act()
            except (FileNotFoundError, FileExistsError, NotImplementedError, TypeError, AttributeError):
                raise
            except Exception as error:  # every file system has errors of its own
                if _code(error) in ("PreconditionFailed", "ConditionalRequestConflict"):
                    raise FileExistsError from error
                reason, lasting = _reason(error)
                if lasting or number == tries - 1:
                    tried = "" if lasting else f", {tries} times"
                    raise PrefdeltaError(f"cannot {doing} {self.url}: {reason}{tried}.") from error
            time.sleep(PAUSES[number])
        raise AssertionError


def shown(url: str) -> str:
    """A URL as it may be printed: without what stands before an @ or after a question mark."""
    scheme, _, rest = url.partition("://")
    place, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path}".rstrip("/")


def _opened(url: str, told: str) -> tuple[Any, str]:
    scheme = url.partition("://")[0]
    try:
        import fsspec
    except ImportError as error:
        raise PrefdeltaError(f"{told} needs fsspec: pip install 'prefdelta[remote]'.") from error
    options: dict[str, Any] = {"auto_mkdir": True} if scheme in _LOCAL else {"use_listings_cache": False}
    if scheme in _CLOUD and "@" in urlsplit(url).netloc:
        raise PrefdeltaError(
            f"an address of {scheme}:// holds no keys; give {told}, and keys as its own tools take them."
        )
    if scheme in ("s3", "s3a"):
        options["skip_instance_cache"] = True  # its settings are changed below
        options["config_kwargs"] = {"connect_timeout": _CONNECT, "retries": {"max_attempts": 1}}
    try:
        system, root = fsspec.url_to_fs(url, **options)
    except ImportError as error:
        package = _PACKAGES.get(scheme)
        needed = f"{package.replace('prefdelta[remote]', 's3fs')}: pip install '{package}'" if package else str(error)
        raise PrefdeltaError(f"{told} needs {needed}.") from error
    except ValueError as error:
        raise PrefdeltaError(f"{told} is no address of a store: fsspec does not know {scheme}://.") from error
    if scheme in ("s3", "s3a"):
        system.retries = 1  # all tries are counted here
    return system, root


def _reason(error: BaseException) -> tuple[str, bool]:
    """Why an operation failed, and whether it would fail again."""
    kinds = {type(each).__name__ for each in _causes(error)}
    code = _code(error)
    name = code or type(error).__name__
    if kinds.intersection(_NO_CREDENTIALS):
        return f"no credentials were found ({name}); log in, or set the variables that the store's own tools read", True
    if kinds.intersection(_NO_ADDRESS) or code in _NO_ADDRESS:
        return f"the address is not valid ({name})", True
    if isinstance(error, PermissionError):
        return f"access is denied ({name}); check the credentials and what they allow", True
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOTDIR):
        return str(error.strerror), True
    return f"it does not answer as it should ({name})", False


def _code(error: BaseException) -> str | None:
    """The store's own name of an error, where it has one."""
    for each in _causes(error):
        answer = getattr(each, "response", None)
        if isinstance(answer, dict):
            return str(answer.get("Error", {}).get("Code"))
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
