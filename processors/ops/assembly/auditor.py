"""Puts a shard's auditor together."""

from __future__ import annotations

import threading
from functools import partial

from processors.ops.assembly.proving import verify_shard
from processors.recovery.checks import Check
from processors.recovery.verify import Progressing
from processors.settings import Settings
from processors.workers import auditor


def run(settings: Settings, shard: str, stopping: threading.Event) -> int:
    """Run one shard's auditor until ``stopping``, and return 0.

    Raises:
        Misconfigured: The database or the archive is not of this release, or is another shard's.
    """
    auditor.run(
        shard,
        partial(prove_once, settings, shard),
        stopping,
        interval_ms=settings.auditor.interval_ms,
        load_percent=settings.auditor.load_percent,
    )
    return 0


def prove_once(settings: Settings, shard: str, on_progress: Progressing) -> list[Check]:
    """Prove what is not proven yet of a shard."""
    return verify_shard(settings, shard, on_progress=on_progress)
