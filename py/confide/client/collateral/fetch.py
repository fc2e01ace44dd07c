"""Asks vendors over HTTPS: few times, with pauses, and never for long.

An answer has to come whole, within its size and time, from the very host that was asked: redirects
are not followed. A vendor that is busy or down is asked again after a pause that grows, with jitter
so that many clients do not come back at once, or after the pause that it wants (Retry-After).

Source: RFC 9110, 10.2.3 (Retry-After) and 15 (status codes); RFC 6585, 4 (429).
"""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Callable
from http.cookiejar import DefaultCookiePolicy

import requests
import urllib3

from confide.client.collateral.vendors import Answer, Request

CONNECT_SECONDS = 5.0
READ_SECONDS = 10.0
ANSWER_SECONDS = 30.0
"""For one whole answer, however slowly it comes."""
MAX_BODY = 2 << 20
ATTEMPTS = 3
FIRST_PAUSE = 1.0
MAX_PAUSE = 10.0
"""A vendor that wants a longer pause is not waited for now."""

DOWN_SECONDS = 60
REFUSED_SECONDS = 3600
MAX_RETRY_AFTER = 3600
_PIECE = 65536
_HEADERS = {"User-Agent": "confide", "Accept-Encoding": "identity"}


class NoAnswerError(Exception):
    """A vendor gave no good answer: `reason`, and for how many seconds not to ask again.

    `vendor_wide`: whether that goes for everything that the vendor has, not for this item alone.
    """

    def __init__(self, reason: str, seconds: int, *, vendor_wide: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.seconds = seconds
        self.vendor_wide = vendor_wide


class _BusyError(Exception):
    """Asking again may help, after the seconds that the vendor named, 0 if it named none."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


def _without_a_password(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class VendorSession(requests.Session):
    """A session that never looks at redirects, keeps no cookie and shows no password.

    `requests` reads the whole body of a redirect, without a limit, even if it does not follow it.

    The small calls of net/calls.py ignore the environment. Vendors are reached from a company's
    network through the proxies and by the CAs that the environment names, so they keep a session
    that looks at it. What vendors send is signed, so the carrier does not matter.
    """

    def __init__(self) -> None:
        super().__init__()
        # Without an `auth` of its own, a session sends what ~/.netrc has for a host.
        self.auth = _without_a_password
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """No answer is a redirect."""


class Fetcher:
    """Sends requests, one after the other. Not for several threads at once."""

    def __init__(
        self,
        session: requests.Session | None = None,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`jitter` gives numbers from 0 to 1, `clock` unix seconds."""
        self._session = session or VendorSession()
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._jitter = jitter

    def get(self, request: Request) -> Answer:
        """The answer to a request, asked at most `ATTEMPTS` times. Raises NoAnswerError."""
        pause = FIRST_PAUSE
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._ask(request)
            except _BusyError as error:
                if attempt == ATTEMPTS or error.pause > MAX_PAUSE:
                    seconds = max(int(error.pause), DOWN_SECONDS)
                    reason = f"{error}, asked {attempt} times" if attempt > 1 else str(error)
                    raise NoAnswerError(reason, seconds, vendor_wide=True) from error
                self._sleep(max(error.pause, pause * (0.5 + self._jitter() / 2)))
                pause *= 2
        raise AssertionError("the last attempt returns or raises")

    def _ask(self, request: Request) -> Answer:
        deadline = self._monotonic() + ANSWER_SECONDS
        headers = _HEADERS | ({"Content-Type": request.content_type} if request.body else {})
        try:
            with self._session.request(
                "GET" if request.body is None else "POST",
                request.url,
                data=request.body,
                headers=headers,
                timeout=(CONNECT_SECONDS, READ_SECONDS),
                allow_redirects=False,
                stream=True,
            ) as response:
                self._check_status(response)
                body = self._read(response, deadline)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise _BusyError(f"gives no answer ({type(error).__name__})") from error
        answer_headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(body, answer_headers, int(self._clock()))

    def _check_status(self, response: requests.Response) -> None:
        status = response.status_code
        if status == requests.codes.ok:
            return
        if status == requests.codes.too_many_requests or status >= 500:
            raise _BusyError(f"is busy or down (HTTP status {status})", self._pause(response))
        reason = f"does not have it (HTTP status {status})"
        if 300 <= status < 400:
            reason = f"redirects elsewhere (HTTP status {status}), which is not followed"
        raise NoAnswerError(reason, REFUSED_SECONDS, vendor_wide=False)

    def _read(self, response: requests.Response, deadline: float) -> bytes:
        parts: list[bytes] = []
        size = 0
        # read1 returns what has come: read would wait for all of a piece, however slowly it comes.
        while part := response.raw.read1(_PIECE):
            parts.append(part)
            size += len(part)
            if size > MAX_BODY:
                reason = f"answers with more than {MAX_BODY} bytes"
                raise NoAnswerError(reason, REFUSED_SECONDS, vendor_wide=False)
            if self._monotonic() > deadline:
                raise _BusyError(f"took more than {ANSWER_SECONDS:.0f} seconds for an answer")
        return b"".join(parts)

    def _pause(self, response: requests.Response) -> float:
        """Seconds that the vendor wants to be left alone, as a number or a date; else 0."""
        text = response.headers.get("Retry-After", "").strip()
        if text.isascii() and text.isdecimal():
            return min(float(text), MAX_RETRY_AFTER)
        try:
            date = email.utils.parsedate_to_datetime(text)
            return min(max(date.timestamp() - self._clock(), 0.0), MAX_RETRY_AFTER)
        except (ValueError, OverflowError):
            return 0.0
