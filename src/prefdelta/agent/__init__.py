"""Agentic search: how a model asks for a search, what it is shown, and what is measured of the conversation."""

from prefdelta.agent.environment import Environment
from prefdelta.agent.protocols import Action, Protocol, protocol, protocol_of

__all__ = ["Action", "Environment", "Protocol", "protocol", "protocol_of"]
