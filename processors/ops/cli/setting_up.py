"""Before the first command, and after an upgrade."""

from __future__ import annotations

from collections.abc import Callable

from processors.ops.cli.terminal import JsonOption, counting, print_json, say, settings
from processors.ops.setting_up import Count, Progress, initialize, migrate_schemas
from processors.settings import Settings


def init(*, as_json: JsonOption = False) -> None:
    """Make keys, topics, directory, databases and schemas, as far as they are missing. Safe to run twice."""
    _told(initialize, "ready", as_json=as_json)


def migrate(*, as_json: JsonOption = False) -> None:
    """Bring databases and archive to this release's schema. Safe to run twice.

    What of the service may run meanwhile depends on the release before: docs/operations.md, A new release.
    """
    _told(migrate_schemas, "up to date", as_json=as_json)


def _told(act: Callable[[Settings, Progress, Count], None], ready: str, *, as_json: bool) -> None:
    done: list[str] = []

    def note(line: str) -> None:
        done.append(line)
        say(line)

    with counting() as count:
        act(settings(), note, count)
    if as_json:
        print_json({"done": done})
    else:
        say(ready)
