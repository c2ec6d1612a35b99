"""The command line ``balance``: starts each process, and holds the operators' tools. ``main`` is its entry."""

from processors.ops.cli.main import main

__all__ = ["main"]
