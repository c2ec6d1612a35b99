"""What a process costs, as the kernel accounts it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """Return the CPU seconds a process has used, all threads, user and system."""
    return _cpu_s(Path(f"/proc/{pid}/stat"))[1]


def python_cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process's threads but those of the Kafka client, which names its own ``rdk:``."""
    threads = (_cpu_s(thread / "stat") for thread in Path(f"/proc/{pid}/task").iterdir())
    return sum(used_s for name, used_s in threads if not name.startswith("rdk:"))


def _cpu_s(stat: Path) -> tuple[str, float]:
    """Return the name of a process or thread, and its CPU seconds."""
    before, _, after = stat.read_text().rpartition(")")
    fields = after.split()
    return before.partition("(")[2], (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def memory_mb(pid: int) -> int:
    """Return a process's resident memory in MB."""
    return _status_mb(pid, "VmRSS:")


def peak_memory_mb(pid: int) -> int:
    """Return the most resident memory that a process had so far, in MB."""
    return _status_mb(pid, "VmHWM:")


def _status_mb(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) // 1024
    return 0


class CpuClock:
    """CPU seconds of some processes from now on, until ``stop`` or until it is asked.

    ``used_s`` says which of a process's: all, or those of some of its threads.
    """

    def __init__(self, pids: dict[str, int], used_s: Callable[[int], float] = cpu_s) -> None:
        self._pids = pids
        self._used_s = used_s
        self._began = {name: used_s(pid) for name, pid in pids.items()}
        self._ended: dict[str, float] | None = None

    def stop(self) -> None:
        """Count no further."""
        self._ended = {name: self._used_s(pid) for name, pid in self._pids.items()}

    def us_per(self, count: int) -> dict[str, float]:
        """Return microseconds a command of each process, one decimal."""
        if self._ended is None:
            self.stop()
        ended = self._ended or {}
        return {name: round((ended[name] - began) * 1e6 / count, 1) for name, began in self._began.items()}


def mean_us(turns: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the means of what each process took in several turns.

    >>> mean_us([{"router": 12.0}, {"router": 13.0}])
    {'router': 12.5}
    """
    return {name: round(sum(turn[name] for turn in turns) / len(turns), 1) for name in turns[0]}


def with_sum(us: Mapping[str, float]) -> dict[str, float]:
    """Return what some processes and servers take each, and all of them together.

    >>> with_sum({"router": 4.5, "mysql": 30.0})
    {'router': 4.5, 'mysql': 30.0, 'all': 34.5}
    """
    return {**us, "all": round(sum(us.values()), 1)}


def quantile_ms(values_s: list[float], q: float) -> float:
    """Return a quantile of some durations, in ms, one decimal."""
    ordered = sorted(values_s)
    return round(ordered[min(len(ordered) - 1, int(q * len(ordered)))] * 1000, 1)
