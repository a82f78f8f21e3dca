"""The viewer: a static folder that shows every item, every model's answer to it, the scales and the pairs.

``collect`` reads the typed results and records of any output of ours, ``two_runs_view`` those of two runs; ``folder``
writes what they found as scripts beside the page's own files in ``static``. See docs/viewer.md.
"""

from prefdelta.report.viewer.collect import collect
from prefdelta.report.viewer.comparing import two_runs_view
from prefdelta.report.viewer.folder import viewer_files, write_viewer
from prefdelta.report.viewer.live import LiveRun, serving
from prefdelta.report.viewer.view import RunView

__all__ = ["LiveRun", "RunView", "collect", "serving", "two_runs_view", "viewer_files", "write_viewer"]
