"""Verification is a state that expires, never a flag that stays set.

States: *verified* (there is an `Established` younger than LIFETIME_SECONDS, and its manifest is
valid) and *not verified* (with the reason). Rules:

* Only a complete handshake makes the state *verified*, and nothing extends it.
* After three quarters of that time a new handshake runs in the background. If the service is
  unreachable, the old state stays until it expires. If a check fails, the state ends at once.
* A request in the state *not verified* tries one handshake itself, at most every RETRY_SECONDS.
* So does one to which the gateway shows only machines of another mesh, at most every
  AGAIN_SECONDS: the coordinator was started anew, or the gateway lies.
* One handshake runs at a time, and no lock is held while it does. Who needs its result waits.
* Time is the boot-time clock, which goes on while the machine sleeps.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future

from confide.client.proxy.handshake import Established
from confide.errors import ConfideError, UnavailableError
from confide.net.boot_clock import boot_seconds
from confide.net.loops import every, start_loop
from confide.protocol.keyexchange import KEY_LIFETIME, KEY_REPLACE_AFTER

LIFETIME_SECONDS = KEY_LIFETIME
RENEW_AFTER = KEY_REPLACE_AFTER / KEY_LIFETIME
RETRY_SECONDS = 5
AGAIN_SECONDS = 10
_LOOK_SECONDS = 5.0


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
        self._lock = threading.Lock()
        self._running: Future[Established] | None = None
        self._established: Established | None = None
        self._began = float("-inf")
        self._failure: ConfideError | None = None
        self._failed_at = float("-inf")
        self._again_at = float("-inf")
        self._stop = threading.Event()

    def establish(self) -> Established:
        """The first handshake. Raises what it raises, and reports nothing."""
        return self._run(first=True)

    def current(self) -> Established:
        """The verified state.

        Raises:
            UnavailableError: "not-verified", with the reason.
        """
        return self._live() or self._run_again()

    def again(self, stale: Established) -> bool:
        """Verify again, because the gateway shows machines that another coordinator certified.

        Returns whether there is another state than `stale` now. Anybody on the way can cause this,
        so it happens at most once in AGAIN_SECONDS.
        """
        with self._lock:
            if self._live() is not stale:
                return True
            if self._running is None:
                if self._clock() < self._again_at + AGAIN_SECONDS:
                    return False
                self._again_at = self._clock()
        with contextlib.suppress(ConfideError):
            self._run_again(renew=True)
        return self._live() is not stale

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
        with contextlib.suppress(ConfideError):
            self._run_again(renew=True)

    def _lifetime(self) -> float:
        established = self._established
        return min(LIFETIME_SECONDS, established.seconds) if established else 0.0

    def _live(self) -> Established | None:
        established = self._established
        return established if self.seconds_left() > 0 else None

    def _run_again(self, *, renew: bool = False) -> Established:
        """Run a handshake, or wait for the one that runs. With `renew` also if the state stands."""
        with self._lock:
            established = None if renew else self._live()
            if established is not None:
                return established
            running, failure = self._running, self._failure
            if running is None:
                if failure is not None and self._clock() < self._failed_at + RETRY_SECONDS:
                    raise _not_verified(failure) from failure
                ours = self._running = Future[Established]()
        if running is None:
            running = ours
            try:
                ours.set_result(self._run())
            except BaseException as error:
                ours.set_exception(error)
            finally:
                with self._lock:
                    self._running = None
        try:
            return running.result()
        except ConfideError as error:
            raise _not_verified(error) from error

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


def _not_verified(failure: ConfideError) -> UnavailableError:
    return UnavailableError(
        "not-verified",
        "the service is not verified, so nothing is sent to it",
        expected=f"a complete verification in the last {LIFETIME_SECONDS // 60} minutes",
        seen=str(failure),
        next="wait: the proxy tries again by itself, and its output shows each failed check",
    )
