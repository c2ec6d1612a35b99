"""Before the first command, and after an upgrade."""

from __future__ import annotations

import typer

from processors.ops.cli.stack import say
from processors.ops.cli.terminal import settings
from processors.ops.setting_up import initialize, migrate_schemas


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (init, migrate):
        app.command(rich_help_panel="Operating")(command)


def init() -> None:
    """Make keys, topics, directory, databases and schemas, as far as they are missing. Safe to run twice."""
    initialize(settings(), say)
    say("ready")


def migrate() -> None:
    """Bring databases and archive to this release's schema. Safe to run twice, and while the service runs."""
    migrate_schemas(settings(), say)
    say("up to date")
