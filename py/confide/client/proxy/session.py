"""Verification is a state that expires, never a flag that stays set.

States: *verified* (there is an `Established` younger than LIFETIME_SECONDS, and its manifest is
valid) and *not verified* (with the reason). Rules:

* Only a complete handshake makes the state *verified*, and nothing extends it.
* After three quarters of that time a new handshake runs in the background. If the service is
  unreachable, the old state stays until it expires. If a check fails, the state ends at once.
* A request in the state *not verified* tries one handshake itself, at most every RETRY_SECONDS.
* Time is the boot-time clock, which goes on while the machine sleeps.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from confide.client.proxy.handshake import Established
from confide.errors import ConfideError, UnavailableError
from confide.net.loops import every, start_loop
from confide.protocol.keyexchange import KEY_LIFETIME, KEY_REPLACE_AFTER

LIFETIME_SECONDS = KEY_LIFETIME
RENEW_AFTER = KEY_REPLACE_AFTER / KEY_LIFETIME
RETRY_SECONDS = 5
_LOOK_SECONDS = 5.0
# On macOS the monotonic clock goes on while the machine sleeps; on Linux only this one does.
_BOOT_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_seconds() -> float:
    """Seconds since boot, time asleep included."""
    return time.clock_gettime(_BOOT_CLOCK)


class Session:
    """Holds the state. Safe to use from any thread."""

    def __init__(
        self,
        handshake: Callable[[], Established],
        *,
        clock: Callable[[], float] = boot_seconds,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`report` gets one line when verification is lost, and when it is back."""
        self._handshake = handshake
        self._clock = clock
        self._report = report
        self._turn = threading.Lock()
        self._established: Established | None = None
        self._began = float("-inf")
        self._failure: ConfideError | None = None
        self._failed_at = float("-inf")
        self._stop = threading.Event()

    def establish(self) -> Established:
        """The first handshake. Raises what it raises, and reports nothing."""
        with self._turn:
            return self._run(first=True)

    def current(self) -> Established:
        """The verified state.

        Raises:
            UnavailableError: "not-verified", with the reason.
        """
        established = self._live()
        if established is not None:
            return established
        with self._turn:
            return self._live() or self._run_again()

    def seconds_left(self) -> float:
        """How long the state stays verified without a new handshake; 0 if it is not."""
        return max(0.0, self._began + self._lifetime() - self._clock())

    def keep_fresh(self) -> None:
        """Start the thread that renews in time."""
        renew = every(_LOOK_SECONDS, self.renew_if_due)
        start_loop("the renewal of the verification", renew, stop=self._stop)

    def stop(self) -> None:
        """End that thread."""
        self._stop.set()

    def renew_if_due(self) -> None:
        """One step of that thread."""
        if self._clock() < self._began + RENEW_AFTER * self._lifetime():
            return
        # self._failure keeps a failure, and it was reported.
        with self._turn, contextlib.suppress(ConfideError):
            self._run_again()

    def _lifetime(self) -> float:
        established = self._established
        return min(LIFETIME_SECONDS, established.seconds) if established else 0.0

    def _live(self) -> Established | None:
        established = self._established
        return established if self.seconds_left() > 0 else None

    def _run_again(self) -> Established:
        failure = self._failure
        if failure is None or self._clock() >= self._failed_at + RETRY_SECONDS:
            try:
                return self._run()
            except ConfideError as error:
                failure = error
        raise UnavailableError(
            "not-verified",
            "the service is not verified, so nothing is sent to it",
            expected=f"a complete verification in the last {LIFETIME_SECONDS // 60} minutes",
            seen=str(failure),
            next="wait: the proxy tries again by itself, and its output shows each failed check",
        ) from failure

    def _run(self, *, first: bool = False) -> Established:
        began = self._clock()
        try:
            established = self._handshake()
        except ConfideError as error:
            if not isinstance(error, UnavailableError):
                self._established = None
            if not first and (self._failure is None or self._failure.code != error.code):
                self._report(f"verification failed: {error}")
            self._failure, self._failed_at = error, self._clock()
            raise
        if self._failure is not None:
            self._report("verified again")
        self._failure = None
        # Readers take no lock: an old start with a new state only shortens its life.
        self._established, self._began = established, began
        return established
