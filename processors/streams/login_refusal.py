"""What brokers refuse, in their own words: a login, a certificate, its name.

A refused client tries again for ever, and its caller hears only that the time ran out. The reason it says besides that,
to nobody in particular. So the last such reason of all clients of this process is kept here: faults carry it, and the
process tells of it (``tell``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from processors.faults import Refused, Unavailable

# A client tries again within a second where it has something to do; one that has nothing looks around every 30 s
# (`topic.metadata.refresh.interval.ms`). That it works again nobody tells: what was not said for longer is over.
LASTS_S = 35.0
# An attempt that is under way when a new password is given ends within a second, and speaks of the old one.
ECHO_S = 2.0


class LoginRefusal:
    """The brokers' last word on why they do not let this process in, or why it does not trust them. For any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with none.

        Args:
            clock: Seconds that never go back.
        """
        self._clock = clock
        self._lock = threading.Lock()
        self._said: tuple[float, str] | None = None
        self._deaf_until_s = -ECHO_S
        self.tell: Callable[[Refused | None], None] = lambda _refused: None  # None: it is over

    def hear(self, text: str) -> None:
        """Take up a client's word, each time it is said."""
        with self._lock:
            now_s = self._clock()
            if now_s < self._deaf_until_s:
                return
            self._said = (now_s, text)
        self.tell(Refused(f"Kafka: {text}"))

    def now(self) -> str:
        """Return the last word, empty where all is well."""
        with self._lock:
            if self._said is None or self._clock() - self._said[0] > LASTS_S:
                return ""
            return self._said[1]

    def forget(self, *, echo_s: float = ECHO_S) -> None:
        """Take the refusal for over: there is another password now, and soon it shows whether it is the right one.

        Args:
            echo_s: What is said within it is said of the old one.
        """
        with self._lock:
            self._said = None
            self._deaf_until_s = self._clock() + echo_s
        self.tell(None)


LOGIN_REFUSAL = LoginRefusal()


def unanswered(text: str) -> Unavailable:
    """Return the fault of who waited in vain: what the brokers refuse, where that is why."""
    said = LOGIN_REFUSAL.now()
    if not said:
        return Unavailable(text)
    return Refused(text if said in text else f"{text}; refused: {said}")
