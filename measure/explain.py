"""Says which component makes a boot differ from a prediction. (Filled in next.)"""
from __future__ import annotations
from typing import Any
from measure import eventlog
def summary(event: eventlog.Event) -> str:
    return ""
def explain(log: eventlog.EventLog, measured: dict[str, Any], file: str, line: str | None) -> list[Any]:
    return []
def diff(a: dict[str, Any], b: dict[str, Any], fa: str, fb: str) -> list[Any]:
    return []
def render(found: list[Any]) -> str:
    return ""
