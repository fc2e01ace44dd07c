"""Certificate chains as PEM text, in exactly one spelling: RFC 7468, section 3, 64 columns.

No signature covers the text. If a chain had two spellings, anybody could change the bytes.
"""

from __future__ import annotations

import binascii
import re

from confide.errors import FormatError

_BEGIN = b"-----BEGIN CERTIFICATE-----\n"
_END = b"-----END CERTIFICATE-----\n"
_BLOCK = re.compile(_BEGIN + rb"([A-Za-z0-9+/=\n]+)" + _END)
_COLUMNS = 64


def read_chain(data: bytes, what: str, *, max_certificates: int) -> tuple[bytes, ...]:
    """The DER certificates of a chain, in the order in which they stand.

    The last line may lack its newline, and a single NUL may end it all: Intel's libraries count the
    C string's end as part of the text. Nothing else may differ from what `write_chain` writes.
    Raises FormatError.
    """
    text = data.removesuffix(b"\0")
    text += b"" if text.endswith(b"\n") else b"\n"
    blocks = _BLOCK.findall(text)
    try:
        chain = tuple(map(binascii.a2b_base64, blocks))
    except binascii.Error as error:
        raise FormatError("bad-pem", f"the {what} is not base64") from error
    if not 1 <= len(chain) <= max_certificates or write_chain(chain) != text:
        raise FormatError(
            "bad-pem",
            f"the {what} is not a chain of certificates in PEM",
            expected=f"1 to {max_certificates} certificates in lines of {_COLUMNS} characters, "
            "and nothing else",
            seen=f"{len(chain)} certificates in {len(data)} bytes",
        )
    return chain


def write_chain(chain: tuple[bytes, ...]) -> bytes:
    """The chain as PEM text; the inverse of `read_chain`."""
    return b"".join(_BEGIN + _lines(der) + _END for der in chain)


def _lines(der: bytes) -> bytes:
    text = binascii.b2a_base64(der, newline=False)
    return b"".join(text[at : at + _COLUMNS] + b"\n" for at in range(0, len(text), _COLUMNS))
