"""The command line ``balance``: starts each process, and holds the operators' tools. ``main`` is its entry."""

try:
    from processors.ops.cli.main import main
except ModuleNotFoundError as missing:
    if str(missing.name).startswith("processors"):
        raise
    raise SystemExit(
        f"the command line needs {missing.name}, which the client does not bring: pip install -e 'CHECKOUT[service]'"
    ) from None

__all__ = ["main"]
