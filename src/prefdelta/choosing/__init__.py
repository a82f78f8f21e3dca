"""Choosing what to merge, how, and how much of it, by the score on validation items."""

from prefdelta.choosing.adapters import RECORD_NAME, search_adapters
from prefdelta.choosing.candidate import Candidate
from prefdelta.choosing.command import search_command
from prefdelta.choosing.record import SearchRecord
from prefdelta.choosing.search import Space, search

__all__ = ["RECORD_NAME", "Candidate", "SearchRecord", "Space", "search", "search_adapters", "search_command"]
