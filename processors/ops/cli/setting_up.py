"""Before the first command, and after an upgrade."""

from __future__ import annotations

from collections.abc import Callable

from processors.ops.cli.terminal import JsonOption, print_json, say, settings
from processors.ops.setting_up import initialize, migrate_schemas
from processors.settings import Settings


def init(*, as_json: JsonOption = False) -> None:
    """Make keys, topics, directory, databases and schemas, as far as they are missing. Safe to run twice."""
    _told(initialize, "ready", as_json=as_json)


def migrate(*, as_json: JsonOption = False) -> None:
    """Bring databases and archive to this release's schema. Safe to run twice, and while the service runs."""
    _told(migrate_schemas, "up to date", as_json=as_json)


def _told(act: Callable[[Settings, Callable[[str], None]], None], ready: str, *, as_json: bool) -> None:
    done: list[str] = []

    def note(line: str) -> None:
        done.append(line)
        say(line)

    act(settings(), note)
    if as_json:
        print_json({"done": done})
    else:
        say(ready)
