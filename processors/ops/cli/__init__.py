"""The command line ``balance``: starts each process, and holds the operators' tools. ``main`` is its entry."""

from processors.ops.crashes import end_unanswered

try:
    from processors.ops.cli.main import main
except KeyboardInterrupt:
    raise
except BaseException as trouble:  # noqa: BLE001 - whatever it is, the exit status would be 1
    end_unanswered(trouble)

__all__ = ["main"]
