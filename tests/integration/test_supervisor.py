"""The supervisor with real child processes: small Python programs instead of the service's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from processors.ops import supervisor
from processors.ops.supervisor import Child, Condition, KeepsFailing, Program, Supervisor, read_states
from tests.clock import Clock
from tests.waiting import eventually

OBEDIENT = """
    import signal, sys, time
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    time.sleep(60)
"""
DEAF = """
    import signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf", flush=True)
    time.sleep(60)
"""
SUPERVISED = """
    import os, time
    from processors.ops.supervisor import end_with_parent
    end_with_parent(lambda: os._exit(0))
    time.sleep(60)
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def waits_for_its_next_start(child: Child) -> bool:
    child.look()
    return child.condition is Condition.WAITING


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[..., Supervisor]]:
    made: list[Supervisor] = []

    def make(*codes: str, stop_deadline_s: float = 5.0) -> Supervisor:
        programs = [Program(name=f"p{number}", command=python(code)) for number, code in enumerate(codes)]
        made.append(Supervisor(programs, tmp_path / "logs", stop_deadline_s=stop_deadline_s))
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_killed_process_is_started_again(supervise: Callable[..., Supervisor]) -> None:
    supervised = supervise(OBEDIENT, OBEDIENT)
    first, second = supervised.children
    killed, other = first.pid, second.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)

    def back() -> bool:
        supervised.look()
        return first.pid not in {None, killed}

    eventually(back, "it is back")
    assert first.restarts == 1
    assert second.pid == other
    assert supervised.status_line() == "p0 running (restart 1)  p1 running"


def test_a_process_that_ends_again_and_again_is_tried_on_and_the_others_go_on(
    supervise: Callable[..., Supervisor], tmp_path: Path
) -> None:
    supervised = supervise("raise SystemExit(7)", OBEDIENT)
    failing, other = supervised.children
    log_file, pid = tmp_path / "logs" / "p0.log", other.pid
    failing.restarts = supervisor.FAILING_AFTER - 1

    eventually(lambda: waits_for_its_next_start(failing), "it waits for its next start")
    assert supervised.status_line() == (
        f"p0 waiting (failing: {supervisor.FAILING_AFTER} restarts, exit status 7, see {log_file})  p1 running"
    )
    assert other.pid == pid
    assert [state.name for state in supervised.failing()] == ["p0"]
    with pytest.raises(KeepsFailing, match=f"p0 ended {supervisor.FAILING_AFTER} times in a row, .* exit status 7"):
        supervised.insist()


SAYS_WHY = """
    import sys
    print('{"level": "error", "event": "process_failed", "fault": "Misconfigured", "detail": "there is no topic t"}')
    print('{"level": "info", "event": "process_ended", "status": 3}')
    sys.exit(3)
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (SAYS_WHY, "exit status 3: Misconfigured: there is no topic t"),
        ("raise AssertionError('a bug')", "exit status 1: AssertionError: a bug"),
        ("raise SystemExit(3)", "exit status 3"),
    ],
)
def test_a_process_that_ends_is_shown_with_its_last_error(
    supervise: Callable[..., Supervisor], code: str, said: str
) -> None:
    (child,) = supervise(code).children

    eventually(lambda: waits_for_its_next_start(child), "it waits for its next start")

    assert child.state.last_end == said


def test_the_wait_between_two_starts_is_a_minute_at_most_and_never_ends(clock: Clock, tmp_path: Path) -> None:
    program = Program(name="p0", command=python("raise SystemExit(1)"))
    child = Child(program, tmp_path, clock)
    child.start()
    waits = []
    for _ in range(len(supervisor.BACKOFF_S) + 2):
        eventually(lambda: waits_for_its_next_start(child), "it waits for its next start")
        began_s = clock()
        while child.condition is Condition.WAITING:
            clock.now_s += 0.1
            child.look()
        waits.append(clock() - began_s)
    child.end(clock() + 5)

    assert waits == pytest.approx([*supervisor.BACKOFF_S, 60.0, 60.0], abs=0.2)


def test_a_process_that_is_well_for_a_while_is_failing_no_more(clock: Clock, tmp_path: Path) -> None:
    child = Child(Program(name="p0", command=python(OBEDIENT)), tmp_path, clock)
    child.restarts = supervisor.FAILING_AFTER
    child.start()
    child.look()
    before = child.state.failing

    clock.now_s += supervisor.WELL_AFTER_S
    child.look()
    assert (before, child.state.failing) == (True, False)
    child.terminate()
    child.end(clock() + 5)


def test_others_can_read_how_the_processes_are(tmp_path: Path) -> None:
    state_file = tmp_path / "local.json"
    assert read_states(state_file) == []
    supervised = Supervisor([Program(name="p0", command=python(OBEDIENT))], tmp_path, state_file=state_file)
    supervised.start()
    supervised.look()
    assert read_states(state_file) == [supervised.children[0].state]

    supervised.close()


def test_what_stops_in_time_is_not_killed_and_what_does_not_is(
    supervise: Callable[..., Supervisor], tmp_path: Path
) -> None:
    supervised = supervise(OBEDIENT, DEAF, stop_deadline_s=8.0)
    pids = [child.pid for child in supervised.children]
    eventually(lambda: "deaf" in (tmp_path / "logs" / "p1.log").read_text(), "it runs")

    assert supervised.close() == ["p1"]
    assert not any(alive(pid) for pid in pids if pid)


def test_no_process_is_left_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    program = f"""
        import sys, time
        from pathlib import Path
        from processors.ops.supervisor import Program, Supervisor
        program = Program(name="p0", command=[sys.executable, "-c", {textwrap.dedent(SUPERVISED)!r}])
        supervised = Supervisor([program], Path({str(tmp_path)!r}))
        supervised.start()
        print(supervised.children[0].pid, flush=True)
        time.sleep(60)
    """
    with subprocess.Popen(python(program), stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.kill()

    eventually(lambda: not alive(child), "the child has ended")
