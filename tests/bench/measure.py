"""What a process costs, as the kernel accounts it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """Return the CPU seconds a process has used, all threads, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def memory_mb(pid: int) -> int:
    """Return a process's resident memory in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) // 1024
    return 0


@dataclass(slots=True)
class CpuClock:
    """CPU seconds of some processes between two moments."""

    pids: dict[str, int]

    def __post_init__(self) -> None:
        self._began = {name: cpu_s(pid) for name, pid in self.pids.items()}

    _began: dict[str, float] = None  # type: ignore[assignment]

    def us_per(self, count: int) -> dict[str, int]:
        """Return microseconds a command of each process since the beginning."""
        return {name: int((cpu_s(pid) - self._began[name]) * 1e6 / count) for name, pid in self.pids.items()}


def quantile_ms(values_s: list[float], q: float) -> float:
    """Return a quantile of some durations, in ms, one decimal."""
    ordered = sorted(values_s)
    return round(ordered[min(len(ordered) - 1, int(q * len(ordered)))] * 1000, 1)
