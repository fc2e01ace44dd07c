"""`confide site add` in an empty folder, of SIMULATED machines that were launched for no manifest.

The folder has the files of a release that accepts them, and all their collateral.
"""

from __future__ import annotations

import copy
import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from confide.client.collateral.finder import Finder
from confide.commands.cli import main
from confide.host.inventory import Inventory
from confide.host.policy_file import PolicyFile, Source, floors
from confide.host.references import References
from confide.protocol.binding import inventory_report_data
from confide.protocol.evidence import Evidence
from confide.protocol.launch import UNBOUND, mrconfigid
from confide.protocol.manifest import Platforms, RoleReferences
from confide.protocol.roles import Role
from tests.support import intel_certificates
from tests.support.production import Production, manifest
from tests.support.simulated_amd import NOW
from tests.support.simulated_intel import EVENT_LOG, REPORT

NONCE = bytes(range(32))
DATA = inventory_report_data(NONCE)
CHIP = bytes(range(1, 65)).hex()
INSTANCE = intel_certificates.INSTANCE.hex()
OTHER = "ee" * 64
SITE = Path("site.json")


def unbound(production: Production) -> Production:
    """The same machines, launched for no manifest."""
    made = copy.copy(production)
    made.binding = UNBOUND
    made.chip = made.chip.but(host_data=UNBOUND)
    return made


def td(production: Production, **changes: Any) -> Evidence:
    """Evidence of the unbound TD with other values in its report."""
    report = replace(REPORT, **({"report_data": DATA, "mrconfigid": mrconfigid(UNBOUND)} | changes))
    return Evidence("tdx", production.intel.quote(report), (), EVENT_LOG)


def at(monkeypatch: pytest.MonkeyPatch, now: int) -> None:
    """It is this time (Unix seconds)."""
    monkeypatch.setattr(time, "time", lambda: float(now))
    clocked = partial(Finder, clock=lambda: float(now))
    monkeypatch.setattr("confide.client.collateral.finder.Finder", clocked)


def write_release(production: Production) -> None:
    """references.json (without the coordinator, so that no role has to be there), policy.json and
    the bundle `collateral`.
    """
    roles: dict[Role, RoleReferences] = {
        role: RoleReferences(entry.vtpm, entry.snp, entry.tdx)
        for role, entry in manifest().roles.items()
        if role != Role.COORDINATOR
    }
    Path("references.json").write_bytes(References(NOW, roles).encode())
    Path("collateral").write_bytes(production.bundle().encode())
    write_policy()


def write_policy(*without: str, **of_snp: Any) -> None:
    """policy.json for both platforms but those in `without`, with other values for SEV-SNP."""
    both = manifest().platforms
    assert both.snp is not None and both.tdx is not None
    snp = replace(both.snp, **({"chip_ids": (), "csp_ids": ()} | of_snp))
    tdx = replace(both.tdx, platform_instances=())
    platforms = Platforms(
        snp=None if "snp" in without else snp, tdx=None if "tdx" in without else tdx
    )
    sources = {
        name: {floor: Source(value, "2026-01-01", "a bulletin") for floor, value in each.items()}
        for name, each in floors(platforms).items()
    }
    Path("policy.json").write_bytes(PolicyFile("2026-01-01", platforms, {}, sources).encode())


def add(source: Evidence | str, *options: str, collateral: str = "collateral") -> int:
    """Add the machine of this evidence, which answers `NONCE`; or of an address or a file."""
    if isinstance(source, Evidence):
        Path("inventory").write_bytes(Inventory(NONCE, source).encode())
        source = "inventory"
    given = ["--references", "references.json", "--policy", "policy.json"]
    return main(["site", "add", source, *given, "--collateral", collateral, "--offline", *options])


def write_site(**fields: Any) -> bytes:
    """Writes a site file, not in the canonical layout; returns its bytes."""
    data = json.dumps({"format": "confide-site/1", **fields}).encode()
    SITE.write_bytes(data)
    return data


def listed() -> dict[str, Any]:
    """What the site file says."""
    value: dict[str, Any] = json.loads(SITE.read_bytes())
    return value


def site_bytes() -> bytes | None:
    """The bytes of the site file, None before it exists."""
    return SITE.read_bytes() if SITE.exists() else None


def failed_names(shown: str) -> list[str]:
    """The names of the checks that failed, in what --json printed."""
    return [check["name"] for check in json.loads(shown)["checks"] if not check["passed"]]
