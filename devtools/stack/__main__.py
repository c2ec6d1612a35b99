"""``python -m devtools.stack up|down|status|logs|with``: what the Makefile types for the native servers."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

from devtools import stack
from processors.faults import Fault
from processors.settings import SECURE_PROFILE, Settings, load_settings

FAULT = 3  # exit status, as everywhere in the command line


def main() -> int:
    """Do what the arguments say. Return 0, 3 on a fault, or the exit status of ``with``'s command."""
    chosen = read_arguments()
    try:
        return _act(load_settings(SECURE_PROFILE if chosen.secure else None), chosen.action, chosen.rest)
    except Fault as fault:
        _say(str(fault))
        return FAULT


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return ``action``, ``secure`` and ``rest``: the servers of ``logs``, the command of ``with``, else nothing.

    ``--secure`` may stand before or after the action; after ``with`` everything is the command's own.

    Args:
        arguments: Instead of the process's own.

    Raises:
        SystemExit: Wrong usage, with exit status 2; ``--help``.
    """
    parser = argparse.ArgumentParser(prog="python -m devtools.stack", description=__doc__)
    _take_secure(parser, default=False)
    actions = parser.add_subparsers(dest="action", metavar="up|down|status|logs|with", required=True)
    for action in ("up", "down", "status"):
        _take_secure(actions.add_parser(action), default=argparse.SUPPRESS)  # so that one before the action stays
    logs = actions.add_parser("logs")
    _take_secure(logs, default=argparse.SUPPRESS)
    logs.add_argument(
        "rest", metavar="SERVER", nargs="*", type=stack.Server, help="kafka, mysql, mysql-2 or cassandra; else all"
    )
    command = actions.add_parser("with")
    command.add_argument("rest", metavar="COMMAND ...", nargs=argparse.REMAINDER)
    chosen = parser.parse_args(arguments, argparse.Namespace(rest=[]))
    if chosen.action == "with" and not chosen.rest:
        command.error("type the command to run, and what belongs to it")
    return chosen


def _take_secure(parser: argparse.ArgumentParser, *, default: bool | str) -> None:
    explained = "the secured servers; down stops both kinds in any case"
    parser.add_argument("--secure", action="store_true", default=default, help=explained)


def _act(settings: Settings, action: str, rest: list[str]) -> int:
    match action:
        case "up":
            stack.up(settings, _say)
        case "down":
            stack.down(load_settings(SECURE_PROFILE), _say)
            stack.down(settings, _say)
        case "logs":
            for server in [stack.Server(name) for name in rest] or list(stack.Server):
                sys.stdout.writelines(f"{line}\n" for line in stack.logs(settings, server))
        case "with":
            return _run_with(settings, rest)
        case _:
            return _show(stack.status(settings))
    return 0


def _run_with(settings: Settings, command: list[str]) -> int:
    """Run a command while the servers are up; what was started for it is stopped, unless KEEP=1."""
    with stack.borrowed(settings, _say, keep=os.environ.get("KEEP") == "1"):
        try:
            return subprocess.run(command, check=False).returncode
        except KeyboardInterrupt:
            return 130  # as a shell reports it; the command got the same signal


def _show(states: list[stack.ServerState]) -> int:
    for each in states:
        sys.stdout.write(
            f"{each.server:<10} {each.address:<16} {'ready' if each.ready else 'down':<6} pid {each.pid}\n"
        )
    return 0 if all(each.ready for each in states) else FAULT


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
