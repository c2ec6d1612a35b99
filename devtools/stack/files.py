"""Files of the stack that are there whole or not at all."""

from __future__ import annotations

from pathlib import Path


def write(file: Path, text: str, *, mode: int = 0o644) -> None:
    """Write a file beside its place, with its rights from the beginning, and rename it there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.new")
    new.unlink(missing_ok=True)
    new.touch(mode=mode)
    new.write_text(text, encoding="utf-8")
    new.rename(file)
