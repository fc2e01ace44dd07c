"""How a parser may end, whatever it reads."""

from __future__ import annotations

from typing import Any

from confide.errors import FormatError


def parse_or_refuse(parse: Any) -> None:
    try:
        parse()
    except FormatError as error:
        assert str(error)
