"""``python -m processors.ops.stack up|down|status|logs``: the stack for scripts that start before there is a CLI."""

from __future__ import annotations

import argparse
import sys

from processors.faults import Fault
from processors.ops import stack
from processors.settings import Settings, load_settings


def main() -> int:
    """Do what the arguments say. Return 0, or 3 on a fault."""
    parser = argparse.ArgumentParser(prog="python -m processors.ops.stack", description="Kafka, MySQL and Cassandra, native.")
    parser.add_argument("action", choices=["up", "down", "status", "logs"])
    parser.add_argument("server", nargs="?", choices=list(stack.Server), help="for logs")
    chosen = parser.parse_args()
    try:
        return _act(load_settings(), chosen.action, stack.Server(chosen.server or stack.Server.KAFKA))
    except Fault as fault:
        _say(str(fault))
        return 3


def _act(settings: Settings, action: str, server: stack.Server) -> int:
    match action:
        case "up":
            stack.up(settings, _say)
        case "down":
            stack.down(settings, _say)
        case "logs":
            sys.stdout.writelines(f"{line}\n" for line in stack.logs(settings, server))
        case _:
            states = stack.status(settings)
            sys.stdout.writelines(
                f"{each.server:<10} {each.address:<16} {'ready' if each.ready else 'not ready':<10} pid {each.pid}\n"
                for each in states
            )
            return 0 if all(each.ready for each in states) else 3
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
