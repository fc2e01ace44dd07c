"""The JSON Schemas that Confide publishes."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

MANIFEST_SCHEMA: dict[str, Any] = json.loads(
    (files("confide.protocol") / "manifest.schema.json").read_text()
)
