"""JSON of somebody else's, counted before it is parsed.

An empty list is two bytes on the wire and some hundred in memory, so a limit on bytes does not
bound what parsing costs. So brackets and commas outside of texts are counted first: a document has
no more values than opening brackets and commas, and one.

Up to its first error a parser and the count here find the same texts, so nothing that is parsed was
left out of the count.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from confide.errors import FormatError

MAX_VALUES = 65_536
"""Opening brackets and commas of one document at most."""

MAX_DEPTH = 64
"""How deep brackets nest at most."""

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{},]', re.DOTALL)
# Between two texts stands a colon or a comma, so valid JSON has no more tokens than this.
_MAX_TOKENS = 4 * MAX_VALUES
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


def parse_object(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object in these bytes; `what` names them in errors ("the body of the request").

    Raises FormatError `bad-json`, also for a name that is there twice, for NaN and for a byte order
    mark, and what `require_small` raises.
    """
    if data.startswith(_MARKS):
        raise FormatError(
            "bad-json",
            f"{what} begins with a byte order mark",
            expected="UTF-8 without a byte order mark",
        )
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise FormatError("bad-json", f"{what} is not UTF-8") from error
    require_small(data, what)
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise FormatError("bad-json", f"{what} is not JSON", expected="a JSON object") from error
    if not isinstance(value, dict):
        raise FormatError("bad-json", f"{what} is not a JSON object", seen=type(value).__name__)
    return value


def require_small(data: bytes, what: str) -> int:
    """Count opening brackets and commas outside of texts. Returns that number or a larger one.

    Raises FormatError `too-deep` or `too-large`.
    """
    openings = data.count(b"[") + data.count(b"{")
    count = openings + data.count(b",")
    if count <= MAX_VALUES and openings <= MAX_DEPTH:
        return count  # those within texts are counted too, which saves the search for texts
    count = depth = 0
    for tokens, match in enumerate(_TOKEN.finditer(data)):
        match data[match.start()]:
            case 0x5B | 0x7B:  # [ {
                count, depth = count + 1, depth + 1
            case 0x5D | 0x7D:  # ] }
                depth -= 1
            case 0x2C:  # ,
                count += 1
        if depth > MAX_DEPTH:
            raise FormatError(
                "too-deep", f"{what} nests too deep", expected=f"at most {MAX_DEPTH} levels"
            )
        if count > MAX_VALUES or tokens > _MAX_TOKENS:
            raise FormatError(
                "too-large",
                f"{what} has too many values",
                expected=f"at most {MAX_VALUES} brackets and commas",
            )
    return count


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise FormatError("bad-json", "an object of the request has a name twice")
    return value


def _refuse(number: str) -> NoReturn:
    raise ValueError(f"{number} is not JSON")
