"""The processes: each alone, or all of them under one supervisor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from processors.ops import processes
from processors.ops.cli.stack import say
from processors.ops.cli.terminal import ShardOption, add_group, settings
from processors.ops.setting_up import initialize

_PANEL = "Processes"
Supervised = Annotated[bool, typer.Option("--supervised", hidden=True, help="Stop when standard input ends.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command(rich_help_panel=_PANEL)(up)
    for name, kind in processes.KINDS.items():
        run = _runner(name, per_shard=kind.per_shard)
        run.__doc__ = kind.what
        add_group(app, name, kind.what, {"run": run}, panel=_PANEL)


def up(
    *,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Shard workers of each shard; they share its lanes.")] = 1,
) -> None:
    """Run every process of the service under one supervisor, until Ctrl-C or SIGTERM; does what `init` does first."""
    chosen = settings()
    initialize(chosen, say)
    with processes.supervised(chosen, workers=workers) as supervisor:
        supervisor.stop_on_signals()
        say(f"logs are in {processes.log_folder(chosen)}; Ctrl-C stops all")
        supervisor.watch(say)


def _runner(kind: str, *, per_shard: bool) -> Callable[..., None]:
    def run_for_shard(*, shard: ShardOption = None, supervised: Supervised = False) -> None:
        chosen = settings()
        raise typer.Exit(processes.run(kind, chosen, shard or chosen.home_shard, supervised=supervised))

    def run_for_all(*, supervised: Supervised = False) -> None:
        raise typer.Exit(processes.run(kind, settings(), "", supervised=supervised))

    return run_for_shard if per_shard else run_for_all
