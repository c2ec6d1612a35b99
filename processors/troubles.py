"""What goes wrong in this process now: logged once, then every 30 s with a count; told on ``/readyz`` until it is over.

A fault of a server is waited out by whoever meets it, again and again; this is how it is heard of without filling the
log. Every process tells of its faults here and nowhere else.
"""

from __future__ import annotations

import re
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from processors.faults import Fault, Misconfigured, Refused
from processors.metrics import FAULTS
from processors.telemetry import get_logger

log = get_logger(__name__)

# Seldom enough to read the log beside it, often enough that whoever looks sees at once that it is still so.
REPEAT_S = 30.0
# Longer than any pause between two tries with the try itself (MySQL 30 s, Kafka 30 s, a backoff of 10 s): who has not
# met his fault for so long has it no more.
QUIET_S = 60.0
# Different faults remembered at once; a text has its numbers taken out, so that only another fault is another text.
KINDS_MAX = 200
_DRIVERS = frozenset({"MySQLdb", "confluent_kafka", "cimpl", "cassandra"})
_NUMBERS = re.compile(r"(?<!error )(?<!\d)\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A fault that is met now. ``subject`` is what it is about ("lane 3"); ``loud``: somebody must look."""

    process: str
    subject: str
    fault: str
    detail: str
    times: int
    for_s: int
    loud: bool


@dataclass(slots=True)
class _Kind:
    fault: str
    detail: str
    loud: bool
    since_s: float
    met_s: float
    told_s: float
    times: int = 0  # since it began
    untold: int = 0  # since the last line
    is_now: bool = True
    end_is_news: bool = True


class Troubles:
    """The faults of one process, by what they are about. For any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with none.

        Args:
            clock: Seconds that never go back.
        """
        self._clock = clock
        self._lock = threading.Lock()
        self._kinds: dict[tuple[str, str, str], _Kind] = {}  # by process, subject, event with fault and text

    def met(
        self,
        process: str,
        fault: Exception,
        *,
        subject: str = "",
        event: str = "fault",
        loud: bool | None = None,
        as_error: bool = False,
        advice: str = "",
    ) -> None:
        """Tell of a fault or a bug, each time it is met.

        Args:
            process: ``shard``, ``router``, ...; as in the metric ``balance_faults_total``.
            fault: What was met; a bug's traceback is logged with its first line.
            subject: What it is about, where a process has several of them.
            event: The log line's name.
            loud: Somebody must look: an error in the log, and ``/readyz`` says 503; where None, a refusal, a wrong
                setting or a bug is.
            as_error: An error in the log, though ``/readyz`` says nothing of it.
            advice: What somebody does about it, as it is typed.
        """
        FAULTS.labels(process, type(fault).__name__).inc()
        is_loud = needs_somebody(fault) if loud is None else loud
        with self._lock:
            kind, is_new = self._count(process, subject, event, fault, loud=is_loud)
            now_s = self._clock()
            if not is_new and now_s - kind.told_s < REPEAT_S:
                return
            times, kind.untold, kind.told_s, kind.end_is_news = kind.untold, 0, now_s, True
        fields: dict[str, object] = {"fault": kind.fault, "detail": kind.detail, "times": times}
        if subject:
            fields["about"] = subject
        if advice:
            fields["next"] = advice
        if is_new and (trace := _trace_of(fault)):
            fields["exception"] = trace
        (log.error if is_loud or as_error else log.warning)(event, **fields)

    def over(self, process: str, *, subject: str = "") -> None:
        """Say that all is well again with a subject; costs nothing where nothing was wrong."""
        if not self._kinds:
            return
        with self._lock:
            ended = [kind for key, kind in self._kinds.items() if key[:2] == (process, subject) and self._is_now(kind)]
            news = [kind for kind in ended if kind.end_is_news]
            for kind in ended:
                kind.is_now = kind.end_is_news = False
            now_s = self._clock()
        for kind in news:
            lasted_s = round(now_s - kind.since_s, 1)
            log.info("fault_over", about=subject, fault=kind.fault, times=kind.times, lasted_s=lasted_s)

    def clear(self) -> None:
        """Forget all of them, for whoever begins anew in the same process."""
        with self._lock:
            self._kinds.clear()

    def now(self) -> list[Trouble]:
        """Return what goes wrong now, the oldest first."""
        with self._lock:
            now_s = self._clock()
            found = [(key, kind) for key, kind in self._kinds.items() if self._is_now(kind)]
            return [
                Trouble(
                    process=process,
                    subject=subject,
                    fault=kind.fault,
                    detail=kind.detail,
                    times=kind.times,
                    for_s=round(now_s - kind.since_s),
                    loud=kind.loud,
                )
                for (process, subject, _), kind in sorted(found, key=lambda each: each[1].since_s)
            ]

    def _is_now(self, kind: _Kind) -> bool:
        return kind.is_now and self._clock() - kind.met_s <= QUIET_S

    def _count(self, process: str, subject: str, event: str, fault: Exception, *, loud: bool) -> tuple[_Kind, bool]:
        now_s, detail = self._clock(), _words_of(fault)
        key = (process, subject, f"{event} {type(fault).__name__} {_NUMBERS.sub('#', detail)}")
        kind = self._kinds.pop(key, None)
        is_new = kind is None
        if kind is None:
            kind = _Kind(type(fault).__name__, detail, loud, now_s, now_s, now_s)
        if not self._is_now(kind):
            kind.since_s, kind.times, kind.is_now = now_s, 0, True
        kind.detail, kind.loud, kind.met_s = detail, loud, now_s
        kind.times += 1
        kind.untold += 1
        self._kinds[key] = kind  # at the end: the first is the one that was not met for longest
        while len(self._kinds) > KINDS_MAX:
            del self._kinds[next(iter(self._kinds))]
        return kind, is_new


def needs_somebody(fault: BaseException) -> bool:
    """Say whether somebody must look: a server refuses us, a setting is wrong, or it is a bug; as a cause, too."""
    if not isinstance(fault, Fault):
        return True
    return any(isinstance(each, (Refused, Misconfigured)) for each in _chain(fault))


def _trace_of(fault: BaseException) -> str:
    """Return the traceback of the bug that a fault was made of; empty where it is none.

    Without a driver's own error below it: that one quotes rows. One that nobody made a fault of is a bug, too.
    """
    ours = [each for each in _chain(fault) if not _is_drivers(each)]
    if not ours:
        return "".join(traceback.format_tb(fault.__traceback__))
    return "" if isinstance(ours[-1], Fault) else "".join(traceback.format_exception(ours[-1], chain=False))


def _words_of(fault: BaseException) -> str:
    """Return what a fault says; of a driver's own error its number, or Kafka's error: what follows may quote rows."""
    return str(fault.args[0]) if _is_drivers(fault) and fault.args else str(fault)


def _is_drivers(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in _DRIVERS


def _chain(fault: BaseException) -> list[BaseException]:
    """Return a fault and what it was made of; a stop that is raised again has itself as cause."""
    found = [fault]
    while (before := found[-1].__cause__) is not None and before not in found:
        found.append(before)
    return found


TROUBLES = Troubles()
