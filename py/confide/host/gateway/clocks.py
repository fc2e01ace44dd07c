"""How far the clocks of a service's machines are from the gateway's own, for its operator.

Machines have no time service, so they drift, and past 300 s nobody takes them any more. The header
`Date` of their answers (RFC 9110, 6.6.1) is their clock. It is not authenticated: clients and nodes
look at the time that evidence binds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from confide.encoding.console import say
from confide.errors import ConfideError
from confide.net.calls import Caller
from confide.net.loops import every, start_loop
from confide.protocol.validity import CLOCK_TOLERANCE

LOOK_SECONDS = 60.0
"""Between two looks at all clocks. Drift takes days."""

MAX_HEALTH = 1 << 16
"""Bytes of an answer."""

WARN_SECONDS = 60
"""From here on the operator is told. A clock that is 50 ppm fast takes 14 days to get here."""


class Clocks:
    """The machines of one service: `urls` by name. `now` gives unix seconds."""

    def __init__(self, urls: Mapping[str, str], *, now: Callable[[], float] = time.time) -> None:
        self._machines = {
            name: Caller(url, connect_seconds=5.0, read_seconds=10.0, total_seconds=20.0)
            for name, url in urls.items()
        }
        self._now = now
        self._skew: dict[str, int] = {}
        self._stop = threading.Event()

    def start(self) -> None:
        """Look now, and then every LOOK_SECONDS, in a thread."""
        start_loop("the watch of clocks", every(LOOK_SECONDS, self.look), stop=self._stop)

    def stop(self) -> None:
        """End that thread."""
        self._stop.set()

    def skew(self) -> dict[str, int]:
        """Seconds by which the clock of each machine that answered is ahead of this one."""
        return dict(self._skew)

    def look(self) -> None:
        """Look at each clock once. A machine that does not answer keeps what was seen last."""
        for name, machine in self._machines.items():
            try:
                answer = machine.call("GET", "/healthz", limit=MAX_HEALTH)
            except ConfideError:
                continue
            if (seen := _seconds(answer.header("Date"))) is not None:
                self._note(name, machine.url, round(seen - self._now()))

    def _note(self, name: str, url: str, skew: int) -> None:
        before = self._skew.get(name, 0)
        self._skew[name] = skew
        if (abs(skew) >= WARN_SECONDS) == (abs(before) >= WARN_SECONDS):
            return
        where = "ahead" if skew > 0 else "behind"
        said = f"the clock of {name} ({url}) is {abs(skew)} s {where}"
        if abs(skew) >= WARN_SECONDS:
            said += f"; at {CLOCK_TOLERANCE} s it is refused: start that machine anew before then"
        say(said, program="gateway")


def _seconds(stated: str) -> float | None:
    """Unix seconds of a header `Date`; None if it is malformed."""
    try:
        date = parsedate_to_datetime(stated)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
