"""The processes: each alone, or all of them under one supervisor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from processors.ops import addresses, background, counts, local_service, process_kinds
from processors.ops.cli.stack import say
from processors.ops.cli.terminal import ShardOption, add_command, add_group, settings
from processors.ops.result_text import EXIT_FAULT
from processors.ops.setting_up import initialize

_PANEL = "Processes"
Supervised = Annotated[
    Path | None,
    typer.Option("--supervised", hidden=True, help="Stop when standard input ends; note the health port in this file."),
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    add_command(app, up, panel=_PANEL)
    add_command(app, down, panel=_PANEL)
    for name, kind in process_kinds.KINDS.items():
        run = _runner(name, per_shard=kind.per_shard)
        run.__doc__ = kind.what
        add_group(app, name, kind.what, {"run": run}, panel=_PANEL)


def up(
    *,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Shard workers of each shard; they share its lanes.")] = 1,
    detach: Annotated[
        bool, typer.Option("--detach", help="Leave them running in the background, once all are ready.")
    ] = False,
) -> None:
    """Run every process of the service under one supervisor, until Ctrl-C or SIGTERM; does what `init` does first.

    A process that ends is started again, for ever; exit status 3 if one kept failing at the end.
    """
    chosen = settings()
    # The service's counts, whatever the settings say by now (W3): each process names those that do not count.
    initialize(counts.before_init(chosen, addresses.kafka_address(chosen)), say)
    if detach:
        background.start(chosen, workers=workers, say=say)
        return
    with local_service.supervised(chosen, workers=workers) as supervisor:
        supervisor.stop_on_signals()
        say(f"logs are in {local_service.log_folder(chosen)}; Ctrl-C stops all")
        supervisor.watch(say)
        failing = supervisor.failing()
    if failing:
        raise typer.Exit(EXIT_FAULT)


def down() -> None:
    """Stop what `up` started, in the background or in another terminal; the servers stay."""
    if not background.stop(settings(), say=say):
        say("no process of the service runs here")


def _runner(kind: str, *, per_shard: bool) -> Callable[..., None]:
    def run_for_shard(*, shard: ShardOption = None, supervised: Supervised = None) -> None:
        chosen = settings()
        raise typer.Exit(process_kinds.run(kind, chosen, shard or chosen.home_shard, supervised=supervised))

    def run_for_all(*, supervised: Supervised = None) -> None:
        raise typer.Exit(process_kinds.run(kind, settings(), "", supervised=supervised))

    return run_for_shard if per_shard else run_for_all
