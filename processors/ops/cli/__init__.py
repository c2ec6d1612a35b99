"""The command line ``balance``: starts each process, and holds the operators' tools. ``main`` is its entry."""

from processors.ops.exits import lacking

try:
    from processors.ops.cli.main import main
except ModuleNotFoundError as missing:
    raise SystemExit(lacking(missing)) from None

__all__ = ["main"]
