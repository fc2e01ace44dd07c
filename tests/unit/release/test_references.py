"""What is committed in release/ fits together: a site's manifest can be made of it."""

from __future__ import annotations

import json
from pathlib import Path

from confide.host.manifest_builder import Policy, build_manifest
from confide.host.references import References
from confide.host.site import Site
from confide.protocol.manifest import Manifest
from confide.protocol.roles import Role
from confide.protocol.validity import DAY, DEFAULT_DAYS

RELEASE = Path(__file__).resolve().parents[3] / "release"
REFERENCES = References.read(RELEASE / "references.json")


def test_every_role_on_every_platform() -> None:
    assert set(REFERENCES.roles) == set(Role)
    for role, references in REFERENCES.roles.items():
        assert references.vtpm and references.snp and references.tdx, role


def test_one_time_of_release() -> None:
    released = json.loads((RELEASE / "released").read_bytes())
    assert REFERENCES.released == released
    development = Manifest.parse((RELEASE / "development.json").read_bytes())
    assert development.released == released
    assert development.expires == released + DEFAULT_DAYS * DAY
    assert released % DAY == 0, "a day, so that a release made again on that day is the same"


def test_the_policy_says_nothing_of_machines_and_a_manifest_can_be_made() -> None:
    policy = Policy.read(RELEASE / "policy.json").of_site(Site(), any_chip=True, any_platform=True)
    manifest = Manifest.parse(build_manifest(REFERENCES, [], policy))
    assert set(manifest.roles) == set(Role)
    assert not (set(manifest.opt_outs) - {"insecure_any_chip", "insecure_any_platform"})


def test_references_have_one_encoding() -> None:
    data = (RELEASE / "references.json").read_bytes()
    assert References.parse(data).encode() == data
