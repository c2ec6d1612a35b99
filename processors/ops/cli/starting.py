"""The processes: each alone, or all of them under one supervisor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from processors.ops import addresses, background, counts, local_service, process_kinds
from processors.ops.cli.terminal import ShardOption, counting, say, settings
from processors.ops.exits import EXIT_FAULT
from processors.ops.setting_up import initialize

Supervised = Annotated[
    Path | None,
    typer.Option("--supervised", hidden=True, help="Stop when standard input ends; note the health port in this file."),
]


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
    with counting() as count:
        initialize(counts.before_init(chosen, addresses.kafka_address(chosen)), say, count)
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


def run_router(*, supervised: Supervised = None) -> None:
    """Run a router until SIGTERM or Ctrl-C."""
    _run("router", "", supervised)


def run_shard(*, shard: ShardOption = None, supervised: Supervised = None) -> None:
    """Run a shard's worker until SIGTERM or Ctrl-C."""
    _run("shard", shard or settings().home_shard, supervised)


def run_expirer(*, shard: ShardOption = None, supervised: Supervised = None) -> None:
    """Run a shard's expirer until SIGTERM or Ctrl-C."""
    _run("expirer", shard or settings().home_shard, supervised)


def run_sink(*, supervised: Supervised = None) -> None:
    """Run a sink until SIGTERM or Ctrl-C."""
    _run("sink", "", supervised)


def run_recaller(*, supervised: Supervised = None) -> None:
    """Run a recaller until SIGTERM or Ctrl-C."""
    _run("recaller", "", supervised)


def run_remover(*, shard: ShardOption = None, supervised: Supervised = None) -> None:
    """Run a shard's remover until SIGTERM or Ctrl-C."""
    _run("remover", shard or settings().home_shard, supervised)


def run_auditor(*, shard: ShardOption = None, supervised: Supervised = None) -> None:
    """Run a shard's auditor until SIGTERM or Ctrl-C."""
    _run("auditor", shard or settings().home_shard, supervised)


def _run(kind: str, shard: str, supervised: Path | None) -> NoReturn:
    raise typer.Exit(process_kinds.run(kind, settings(), shard, supervised=supervised))
