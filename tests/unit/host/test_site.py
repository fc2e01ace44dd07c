"""Whose machines: a production manifest lists them, or somebody spelled out that it does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from confide.encoding.canonical import json_encode
from confide.errors import ConfideError, ConfigError
from confide.host.manifest_builder import Policy, build_manifest, stamp
from confide.host.policy_file import PolicyFile, Source, floors
from confide.host.references import References
from confide.host.site import Site
from confide.protocol.manifest import Manifest, Platforms, RoleReferences
from confide.protocol.policy import snp, tdx
from confide.protocol.roles import Role
from confide.protocol.validity import DAY
from tests.support import production

RELEASED = 1_800_000_000
CHIP, OTHER_CHIP = "aa" * 64, "bb" * 64
INSTANCE = "cc" * 16


def accepted(*platforms: str) -> Platforms:
    """The simulated policy of these platforms; it lists no machine."""
    both = production.manifest().platforms
    assert both.snp is not None and both.tdx is not None
    return Platforms(
        snp=replace(both.snp, chip_ids=(), csp_ids=()) if "snp" in platforms else None,
        tdx=replace(both.tdx, platform_instances=()) if "tdx" in platforms else None,
    )


@pytest.fixture
def policy() -> Policy:
    gpus = production.manifest().role(Role.WORKER_GPU).gpus
    assert gpus is not None
    return Policy("production", accepted("snp", "tdx"), {Role.WORKER_GPU: gpus})


@pytest.fixture
def references() -> References:
    roles = {
        role: RoleReferences(entry.vtpm, entry.snp, entry.tdx)
        for role, entry in production.manifest().roles.items()
    }
    return References(RELEASED, roles)


def site(tmp_path: Path, **fields: Any) -> Site:
    path = tmp_path / "site.json"
    path.write_text(json.dumps({"format": "confide-site/1", **fields}))
    return Site.read(path)


def build(references: References, policy: Policy) -> Manifest:
    return Manifest.parse(build_manifest(references, [], policy))


def test_machines_of_both_platforms(policy: Policy, references: References, tmp_path: Path) -> None:
    own = site(tmp_path, chip_ids=[OTHER_CHIP, CHIP], platform_instances=[INSTANCE])
    manifest = build(references, policy.of_site(own))
    assert manifest.platforms.snp and manifest.platforms.tdx
    assert [chip.hex() for chip in manifest.platforms.snp.chip_ids] == [CHIP, OTHER_CHIP]
    assert [i.hex() for i in manifest.platforms.tdx.platform_instances] == [INSTANCE]
    assert all(not entry.chip_ids for entry in manifest.roles.values())
    assert manifest.opt_outs == ()
    assert (manifest.released, manifest.expires) == (RELEASED, RELEASED + 180 * DAY)


def test_a_platform_without_machines_is_left_out(
    policy: Policy, references: References, tmp_path: Path
) -> None:
    manifest = build(references, policy.of_site(site(tmp_path, platform_instances=[INSTANCE])))
    assert manifest.platforms.snp is None
    assert all(entry.tdx and not entry.snp for entry in manifest.roles.values())


def test_a_role_with_machines_of_its_own(
    policy: Policy, references: References, tmp_path: Path
) -> None:
    roles = {"coordinator": {"chip_ids": [OTHER_CHIP]}}
    manifest = build(references, policy.of_site(site(tmp_path, chip_ids=[CHIP], roles=roles)))
    assert manifest.platforms.snp
    assert [chip.hex() for chip in manifest.platforms.snp.chip_ids] == [CHIP, OTHER_CHIP]
    own = {role: [chip.hex() for chip in e.chip_ids] for role, e in manifest.roles.items()}
    assert own == {
        "coordinator": [OTHER_CHIP],
        "secret-service": [CHIP],
        "worker-gpu": [CHIP],
    }


def test_a_role_without_machines_takes_none_of_another_role(
    policy: Policy, references: References, tmp_path: Path
) -> None:
    only = site(
        tmp_path,
        platform_instances=[INSTANCE],
        roles={"coordinator": {"chip_ids": [CHIP]}},
    )
    manifest = build(references, policy.of_site(only))
    assert [role for role, entry in manifest.roles.items() if entry.snp] == ["coordinator"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"roles": {"coordinator": {"chip_ids": [CHIP]}}},
        {"roles": {"coordinator": {"platform_instances": [INSTANCE]}}},
    ],
)
def test_nothing_is_accepted_by_silence(
    policy: Policy, references: References, tmp_path: Path, fields: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError) as caught:
        build(references, policy.of_site(site(tmp_path, **fields)))
    assert caught.value.code == "no-machines"
    assert "--insecure-any-chip" in caught.value.next


def test_no_site_at_all(policy: Policy, references: References) -> None:
    with pytest.raises(ConfigError) as caught:
        build(references, policy)
    assert caught.value.code == "no-machines"


def test_the_opt_outs_are_in_the_manifest(policy: Policy, references: References) -> None:
    manifest = build(references, policy.of_site(Site(), any_chip=True, any_platform=True))
    assert manifest.opt_outs == ("insecure_any_chip", "insecure_any_platform")
    manifest = build(references, policy.of_site(Site(), any_platform=True))
    assert manifest.opt_outs == ("insecure_any_platform",)
    assert manifest.platforms.snp is None


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"chip_ids": [CHIP]}, {"any_chip": True}),
        ({"platform_instances": [INSTANCE]}, {"any_platform": True}),
    ],
)
def test_a_list_beside_its_opt_out(
    policy: Policy,
    references: References,
    tmp_path: Path,
    fields: dict[str, Any],
    options: dict[str, bool],
) -> None:
    with pytest.raises(ConfideError, match="an empty list, because of insecure_"):
        build(references, policy.of_site(site(tmp_path, **fields), **options))


@pytest.mark.parametrize(
    "fields",
    [
        {"chip_ids": ["00" * 64]},
        {"chip_ids": []},
        {"chip_ids": [CHIP, CHIP]},
        {"chip_ids": [CHIP[:-2]]},
        {"chip_ids": [CHIP.upper()]},
        {"platform_instances": [CHIP]},
        {"roles": {"gateway": {"chip_ids": [CHIP]}}},
        {"roles": {}},
        {"roles": {"coordinator": {"chip": [CHIP]}}},
        {"chips": [CHIP]},
        {"format": "confide-site/2"},
    ],
)
def test_a_wrong_site(
    policy: Policy, references: References, tmp_path: Path, fields: dict[str, Any]
) -> None:
    with pytest.raises(ConfideError):
        build(references, policy.of_site(site(tmp_path, **fields)))


@pytest.mark.parametrize("text", ["", "{", '{"format": "x", "format": "confide-site/1"}', "[]"])
def test_a_site_file_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "site.json"
    path.write_text(text)
    with pytest.raises(ConfideError):
        Site.read(path)


@pytest.mark.parametrize("platform", ["snp", "tdx"])
@pytest.mark.parametrize("what", ["listed", "opt-out"])
def test_a_policy_file_does_not_say_whose_machines(
    tmp_path: Path, platform: str, what: str
) -> None:
    platforms = accepted(platform)
    assert platforms.snp or platforms.tdx
    if platforms.snp and what == "listed":
        platforms = Platforms(snp=replace(platforms.snp, chip_ids=(bytes.fromhex(CHIP),)))
    elif platforms.snp:
        platforms = Platforms(snp=replace(platforms.snp, opt_outs=frozenset({snp.OptOut.ANY_CHIP})))
    elif platforms.tdx and what == "listed":
        listed = (bytes.fromhex(INSTANCE),)
        platforms = Platforms(tdx=replace(platforms.tdx, platform_instances=listed))
    elif platforms.tdx:
        opt_outs = frozenset({tdx.OptOut.ANY_PLATFORM})
        platforms = Platforms(tdx=replace(platforms.tdx, opt_outs=opt_outs))
    path = tmp_path / "policy.json"
    sources = {
        name: {floor: Source(value, "2026-01-01", "a bulletin") for floor, value in each.items()}
        for name, each in floors(platforms).items()
    }
    path.write_bytes(PolicyFile("2026-01-01", platforms, {}, sources).encode())
    with pytest.raises(ConfigError) as caught:
        Policy.read(path)
    assert caught.value.code == "policy-machines"


def test_only_some_roles(policy: Policy, references: References, tmp_path: Path) -> None:
    chosen = references.only(["coordinator", "secret-service"])
    manifest = build(chosen, policy.of_site(site(tmp_path, chip_ids=[CHIP])))
    assert list(manifest.roles) == ["coordinator", "secret-service"]
    with pytest.raises(ConfigError) as caught:
        references.only(["worker-cpu"])
    assert caught.value.code == "unknown-role"


def test_stamping_changes_the_times_alone() -> None:
    data = json_encode(production.manifest_value())
    now = RELEASED + 5
    value = json.loads(stamp(data, now=now))
    assert value == json.loads(data) | {"released": now, "expires": now + 180 * DAY}
