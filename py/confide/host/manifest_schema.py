"""The JSON Schema of manifests, from their declaration.

`python -m confide.host.manifest_schema > py/confide/protocol/manifest.schema.json` renews the
committed schema.
"""

from __future__ import annotations

import json
import sys

from confide.protocol.manifest import Manifest
from measure.declare import json_schema


def schema_text() -> str:
    """What manifest.schema.json holds."""
    schema = json_schema(Manifest, id="urn:confide:manifest:4", title="Confide manifest, format 4")
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
