"""Error codes of HTTP."""

from __future__ import annotations

from confide.encoding import codes as encoding
from confide.errors import (
    Code,
    ConfideError,
    ConfigError,
    FormatError,
    PolicyError,
    UnavailableError,
)
from confide.protocol import codes as protocol
from confide.vendors import codes as vendors
from confide.verify import codes as verify

CODES = {
    "answer-too-large": Code(
        "A peer's answer is larger than the limit.", FormatError, UnavailableError, status=502
    ),
    "bad-http": Code("The request is not HTTP.", FormatError, ConfideError, status=400),
    "bad-request": Code("The request is malformed.", FormatError, ConfideError, status=400),
    "bad-url": Code(
        "A peer's address is not usable. Write http://HOST:PORT or https://HOST:PORT.", ConfigError
    ),
    "busy": Code(
        "The program has as much work as it can carry. Send the request again later.",
        UnavailableError,
        retry_after=2,
    ),
    "cannot-listen": Code(
        "The program cannot listen on this address. Choose another port.", ConfigError
    ),
    "event-too-large": Code("An event of a stream is larger than the limit.", FormatError),
    "incomplete-body": Code(
        "The body of the request came too slowly or broke off. Send it again.",
        UnavailableError,
        status=408,
    ),
    "internal": Code(
        "The program has a defect. Its console shows the kind of error.", ConfideError
    ),
    "kem-key-gone": Code(
        "The machine does not have this KEM key, or has it no more. Fetch it again.",
        PolicyError,
        status=410,
    ),
    "method-not-allowed": Code(
        "The path exists, but not for this method.", ConfideError, status=405
    ),
    "not-confide": Code(
        "The peer does not speak Confide's protocol. Check the address.", UnavailableError
    ),
    "not-found": Code("There is no such path.", ConfideError, status=404),
    "peer-lost": Code(
        "The peer closed the connection or did not speak HTTP.", UnavailableError, status=502
    ),
    "peer-timeout": Code("The peer did not answer in time.", UnavailableError, status=504),
    "peer-unreachable": Code(
        "The peer is unreachable. Check that it runs, and its address.",
        UnavailableError,
        status=502,
    ),
    "request-entity-too-large": Code(
        "The body of the request is larger than the limit.", ConfideError, status=413
    ),
}

SHARED = encoding.CODES | vendors.CODES | protocol.CODES | verify.CODES | CODES
"""The codes of this room and of those below it."""
