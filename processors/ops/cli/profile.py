"""Which profile of settings the commands read, as `--profile` named it."""

from __future__ import annotations

_named: list[str] = []


def use_profile(name: str | None) -> None:
    """Let ``named_profile`` answer with this; None leaves the choice to the environment."""
    _named[:] = [name] if name else []


def named_profile() -> str | None:
    """Return the profile that was named; None where none was."""
    return _named[0] if _named else None
