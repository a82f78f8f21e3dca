"""A run at work in a browser of this machine: its state is read anew whenever the page asks, over loopback only.

The server answers GET alone, under a path that nobody can guess, and only requests that name it by its own address and
come from its own pages: a site that is open in the same browser can neither read from it nor reach it by another name.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.store import JOURNAL
from prefdelta.evaluation.results import RESULTS
from prefdelta.report.viewer.folder import page_files, state_file, unfinished_index, units_file
from prefdelta.report.viewer.process import collect_process, run_state

Files = Iterable[tuple[str, bytes]]

_HOST = "127.0.0.1"  # other machines cannot reach it
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".json": "application/json"}
_STATE = "data/state.js"
_UNITS = "data/units.js"


class LiveRun:
    """The viewer's files of a run that may still be at work.

    Args:
        root: the run folder.
        finished: gives the files of the viewer of a finished run; called once it is finished, and again when its
            results have changed.
    """

    def __init__(self, root: Path, finished: Callable[[Path], Files]) -> None:
        self._root, self._finished = root, finished
        self._lock = Lock()
        self._kept = tempfile.TemporaryDirectory()
        self._known: dict[str, Path] = {}
        self._written = 0

    def read(self, name: str) -> bytes | None:
        """A file of the viewer; ``None`` if there is none of this name."""
        with self._lock:
            finished = self._is_finished()
            if name == _STATE:
                return state_file(run_state(self._root, finished=finished))[1]
            if name == _UNITS and not finished:
                return units_file(collect_process(self._root))[1]
            if not finished:
                index = unfinished_index(self._root.resolve().name, run_state(self._root, finished=False))
                return dict([*page_files(), index]).get(name)
            self._refresh()
            path = self._known.get(name)
            return path.read_bytes() if path else None

    def close(self) -> None:
        """Remove what was kept of the finished run."""
        self._kept.cleanup()

    def _is_finished(self) -> bool:
        """Whether nothing was begun after the results that are there."""
        journal = self._root / JOURNAL
        lines = journal.read_text(encoding="utf-8").splitlines() if journal.is_file() else []
        return (self._root / RESULTS).is_file() and bool(lines) and '"event":"finished"' in lines[-1]

    def _refresh(self) -> None:
        written = (self._root / RESULTS).stat().st_mtime_ns
        if written == self._written:
            return
        self._known = {}
        for name, content in self._finished(self._root):
            path = Path(self._kept.name) / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            self._known[name] = path
        self._written = written


@contextmanager
def serving(run: LiveRun, port: int = 0) -> Iterator[str]:
    """Serve a run in a thread until the context ends, at a port or a free one (0); gives the address of its page.

    Raises:
        PrefdeltaError: the port is taken.
    """
    secret = secrets.token_urlsafe(16)
    try:
        server = ThreadingHTTPServer((_HOST, port), _handler(run, secret))
    except OSError as error:
        raise PrefdeltaError(f"cannot serve on {_HOST}, port {port}: {error.strerror or error}.") from error
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield f"http://{_HOST}:{server.server_port}/{secret}/index.html"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        run.close()


def _handler(run: LiveRun, secret: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self._from_own_page():
                self._answer(HTTPStatus.FORBIDDEN, b"", "text/plain")
                return
            begin, _, name = self.path.partition("?")[0].removeprefix("/").partition("/")
            try:
                content = run.read(name) if secrets.compare_digest(begin.encode(), secret.encode()) else None
            except PrefdeltaError as error:
                self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, str(error).encode(), "text/plain")
                return
            except OSError:  # a folder was replaced while it was read; the page asks again
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, b"", "text/plain")
                return
            if content is None:
                self._answer(HTTPStatus.NOT_FOUND, b"", "text/plain")
            else:
                self._answer(HTTPStatus.OK, content, _TYPES.get(Path(name).suffix, "text/plain"))

        def _from_own_page(self) -> bool:
            port = self.connection.getsockname()[1]
            own = {f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"}
            origin = self.headers.get("Origin")
            site = self.headers.get("Sec-Fetch-Site", "none")
            return (
                self.headers.get("Host") in own
                and (origin is None or origin in {f"http://{name}" for name in own})
                and site in ("none", "same-origin")
            )

        def _answer(self, status: HTTPStatus, content: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            for header, value in (
                ("Cache-Control", "no-store"),
                ("Cross-Origin-Resource-Policy", "same-origin"),
                ("X-Content-Type-Options", "nosniff"),
                ("X-Frame-Options", "DENY"),
                ("Referrer-Policy", "no-referrer"),
            ):
                self.send_header(header, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing: the secret is in every path."""

    return Handler
