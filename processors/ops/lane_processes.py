"""Works on lanes side by side, each in a process of its own: deciding is the interpreter's work, one core a lane."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from processors.faults import Fault, LaneStopped, StopCode, Unavailable, Undecodable

Tell = Callable[[Any], None]
END_S = 10.0  # a process that is to end rolls back one batch


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneWork:
    """What is done with a lane: ``work(*arguments, tell)``, in a process that inherits nothing but these.

    ``work`` is a function of a module. What it tells, and its arguments, go from process to process.
    """

    lane: int
    work: Callable[..., None]
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """The last that a process tells: how it ended. A fault goes as its class and what that is made of."""

    fault: tuple[type[Fault], tuple[Any, ...]] | None


def work_side_by_side(works: Iterable[LaneWork], *, processes_max: int, tell: Tell) -> None:
    """Do some work on lanes, at most so many at once, and pass on what they tell.

    If this process is killed, the others end with the next thing they would tell, since nobody listens: what they had
    not committed is rolled back.

    Args:
        works: A lane each.
        processes_max: How many at once; at least 1.
        tell: Told what they tell, in this thread.

    Raises:
        LaneStopped: Lanes stopped, each at a record that cannot be decided; all others were done first. It has the code
            of the first, and says of each which it is and why.
        Fault: The first one of another kind that a process met; the others are ended, wherever they are.
    """
    waiting = deque(works)
    lanes = len(waiting)
    stopped: list[LaneStopped] = []
    running: dict[Connection, tuple[int, BaseProcess]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < processes_max:
                running |= _begin(waiting.popleft())
            for listens in wait(list(running)):
                _hear(listens, running, tell, stopped)
    finally:
        for listens, (_, process) in running.items():
            process.kill()
            process.join(END_S)
            listens.close()
    if stopped:
        others = f"; the other {lanes - len(stopped)} lanes went on to their end" if len(stopped) < lanes else ""
        raise LaneStopped(stopped[0].code, "; ".join(each.detail for each in stopped) + others)


def _begin(of_lane: LaneWork) -> dict[Connection, tuple[int, BaseProcess]]:
    # Spawned: a fork would have the threads of no driver, and their locks.
    context = multiprocessing.get_context("spawn")
    listens, speaks = context.Pipe(duplex=False)
    process = context.Process(
        target=_run, args=(of_lane.work, of_lane.arguments, speaks), name=f"lane-{of_lane.lane}", daemon=True
    )
    process.start()
    speaks.close()  # so that its end is heard here
    return {listens: (of_lane.lane, process)}


def _run(work: Callable[..., None], arguments: tuple[Any, ...], speaks: Connection) -> None:
    try:
        work(*arguments, speaks.send)
    except Fault as fault:
        speaks.send(_Ended(fault=_portable(fault)))
    except BrokenPipeError:  # nobody listens any more
        return
    else:
        speaks.send(_Ended(fault=None))


def _portable(fault: Fault) -> tuple[type[Fault], tuple[Any, ...]]:
    match fault:
        case LaneStopped():
            return LaneStopped, (fault.code, fault.detail)
        case Undecodable():
            return Undecodable, (fault.cause, fault.detail)
        case _:
            return type(fault), (str(fault),)


def _hear(
    listens: object, running: dict[Connection, tuple[int, BaseProcess]], tell: Tell, stopped: list[LaneStopped]
) -> None:
    assert isinstance(listens, Connection)
    lane, process = running[listens]
    try:
        has_ended = _ended(listens, lane, process, tell)
    except LaneStopped as stop:  # a record of one lane says nothing of the others
        stopped.append(stop)
        has_ended = True
    if has_ended:
        process.join(END_S)
        listens.close()
        del running[listens]


def _ended(heard: Connection, lane: int, process: BaseProcess, tell: Tell) -> bool:
    """Take one thing that a lane's process told; say whether it was the last."""
    try:
        told = heard.recv()
    except EOFError:
        process.join(END_S)
        raise Unavailable(
            f"the process of lane {lane} ended with {process.exitcode}: run it again, it goes on where it was"
        ) from None
    if not isinstance(told, _Ended):
        tell(told)
        return False
    if told.fault is None:
        return True
    kind, made_of = told.fault
    if kind is LaneStopped:
        code, detail = made_of
        raise LaneStopped(StopCode(code), f"lane {lane}: {detail}")
    raise kind(*made_of)
