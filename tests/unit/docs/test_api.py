"""docs/api.md is what the table of routes says."""

from __future__ import annotations

from confide.protocol.routes.table import ROUTES
from tests.support.api_page import PAGE, RENEW, page, rows


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), f"docs/api.md is old: run `{RENEW}`"


def test_the_page_has_each_field() -> None:
    said = page()
    for route in ROUTES:
        assert f"`{route.method} {route.path}`" in said
        for path, _ in rows(route.body) if route.body else ():
            assert f"| `{path}` |" in said
    for deep in ("/messages/*/content/*/text", "/tools/*/function/parameters"):
        assert f"| `{deep}` |" in said
