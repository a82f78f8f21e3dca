"""The report of a run: one self-contained HTML page, the picture of its result, and the merged adapter's card."""

from prefdelta.report.card import model_card
from prefdelta.report.contents import DeltaLineage, DomainLineage, Node, ReportInput, Transcript, pick_transcripts
from prefdelta.report.page import write_report
from prefdelta.report.picture import draw_result

__all__ = [
    "DeltaLineage",
    "DomainLineage",
    "Node",
    "ReportInput",
    "Transcript",
    "draw_result",
    "model_card",
    "pick_transcripts",
    "write_report",
]
