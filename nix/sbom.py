"""Write an image's bill of materials: SPDX 2.3, as JSON, the same bytes for the same image.

Listed is each Debian package and Python wheel of which at least one file is in the image, with the
version and SHA-256 that nix/lock/ names and Nix checked when it took the file in.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import tree

# Fixed name space of the document identifiers, which are made of name and root hashes.
NAMESPACE = uuid.UUID("c0f1de00-0000-4000-8000-00000000005b")


def _package(spdx_id: str, name: str, version: str, **more: object) -> dict[str, Any]:
    fixed = {"downloadLocation": "NOASSERTION", "filesAnalyzed": False}
    return {"SPDXID": spdx_id, "name": name, "versionInfo": version, **fixed, **more}


def _locked(entry: dict[str, Any]) -> dict[str, Any]:
    wheel = "filename" in entry
    own = not wheel and "/" not in entry["path"]  # of a driver that NVIDIA has packaged
    kind = "pypi" if wheel else "deb/nvidia" if own else "deb/debian"
    name, version = entry["name"], entry["version"]
    purl = f"pkg:{kind}/{quote(name, safe='')}@{quote(version, safe='')}"
    reference = {
        "referenceCategory": "PACKAGE-MANAGER",
        "referenceType": "purl",
        "referenceLocator": purl if wheel else purl + "?arch=amd64",
    }
    label = f"{'wheel' if wheel else 'deb'}-{name}-{version}"
    spdx_id = "SPDXRef-" + re.sub("[^A-Za-z0-9.-]", "-", label)
    checksum = {"algorithm": "SHA256", "checksumValue": entry["sha256"]}
    return _package(spdx_id, name, version, checksums=[checksum], externalRefs=[reference])


def _store_name(path: str) -> str:
    """How nix/sources.nix names a locked file in the store."""
    return re.sub("[~%]", "_", os.path.basename(path))


def document(
    image: str, layers: list[dict[str, Any]], brought: Iterable[str], lock: list[dict[str, Any]]
) -> dict[str, Any]:
    """The bill of materials of an image.

    `brought` are store names (hash-file) of what went in, `lock` the entries of nix/lock/. Raises
    BuildError for a file that the lock does not name.
    """
    known = {}
    for entry in lock:
        known[_store_name(entry.get("filename") or entry["path"])] = entry
    parts = {}
    for store_name in brought:
        file = store_name.partition("-")[2]
        if file not in known:
            raise tree.BuildError(f"{file} is in the image {image} but not in the lock")
        package = _locked(known[file])
        parts[package["SPDXID"]] = package
    hashes = ",".join(f"{layer['name']}={layer['root_hash']}" for layer in layers)
    created = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC)
    purpose = {"primaryPackagePurpose": "OPERATING-SYSTEM"}
    top = _package("SPDXRef-image", f"confide-{image}", hashes, **purpose)
    described = {"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES"}
    contains = {"spdxElementId": "SPDXRef-image", "relationshipType": "CONTAINS"}
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"confide-{image}",
        "documentNamespace": f"urn:uuid:{uuid.uuid5(NAMESPACE, f'{image},{hashes}')}",
        "creationInfo": {
            "created": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": ["Tool: confide nix/sbom.py"],
        },
        "packages": [top, *(parts[key] for key in sorted(parts))],
        "relationships": [{**described, "relatedSpdxElement": "SPDXRef-image"}]
        + [{**contains, "relatedSpdxElement": key} for key in sorted(parts)],
    }


def write(
    target: Path, image: str, layers: list[dict[str, Any]], folders: Iterable[Path], lock: Path
) -> None:
    """Write the document; `folders` have a packages.txt each."""
    brought = {p for f in folders for p in (f / "packages.txt").read_text().splitlines()}
    # The stub is in the unified kernel image, but comes with the tools.
    locked = json.loads(lock.read_text())
    stub = next(entry["path"] for entry in locked if entry["name"] == "systemd-boot-efi")
    brought.add("stub-" + _store_name(stub))
    made = document(image, layers, brought, locked)
    target.write_text(json.dumps(made, indent=2, sort_keys=True) + "\n")
