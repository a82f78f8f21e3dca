"""Agentic search: how a model asks for a search, what it is shown, and what is measured of the conversation."""

from prefdelta.search.environment import Environment
from prefdelta.search.protocols import PROTOCOLS, Action, Protocol

__all__ = ["PROTOCOLS", "Action", "Environment", "Protocol"]
