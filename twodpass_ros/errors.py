"""What goes wrong with a node, for the programs that start one."""

from __future__ import annotations

from twodpass_core.errors import TwodpassError


class NodeError(TwodpassError):
    """The node does not do what it is there for."""
