"""The SEV-SNP policy of a manifest: all of it, in one encoding, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from confide.encoding.messages import from_map, to_map
from confide.errors import FormatError
from confide.protocol.policy.snp import OptOut, SnpPolicy, SnpReference
from confide.vendors.amd.report import GuestPolicy, PlatformInfo, Product, Tcb
from tests.support.snp_policy import MINIMUM_TCB, policy, policy_json, products_json


def test_round_trip() -> None:
    for value in (
        policy_json(),
        policy_json(chip_ids=[], opt_outs=[option.value for option in OptOut]),
        policy_json(products={}, csp_ids=[], family_ids=["ab" * 16, "cd" * 16]),
    ):
        assert to_map(from_map(SnpPolicy, value, "policy")) == value


def test_the_manifest_s_own_hash_cannot_be_listed() -> None:
    """HOST_DATA follows from the manifest's bytes; a policy of before then is refused by name."""
    with pytest.raises(FormatError, match="host_data"):
        policy(host_data=["00" * 32])


def test_values() -> None:
    read = policy()
    assert list(read.products) == list(Product)
    turin = read.products[Product.TURIN]
    assert turin.minimum_tcb == Tcb(Product.TURIN, (9, 1, 2, 3, 4))
    assert turin.guest_policy == (GuestPolicy.SMT,)
    assert turin.platform_info == (PlatformInfo.SMT | PlatformInfo.ECC | PlatformInfo.ALIAS_CHECK,)
    assert turin.mitigations == 0
    assert read.opt_outs == frozenset()


def test_reference() -> None:
    value = {"shape": "qemu-4", "launch_digest": "ab" * 48}
    reference = from_map(SnpReference, value, "reference")
    assert reference == SnpReference("qemu-4", b"\xab" * 48)
    assert to_map(reference) == value
    for bad in ({"shape": "qemu-4"}, value | {"launch_digest": "ab" * 32}, value | {"more": 1}):
        with pytest.raises(FormatError):
            from_map(SnpReference, bad, "reference")


MILAN = products_json()["milan"]
FOUR = MINIMUM_TCB["milan"]


def milan(**changes: object) -> dict[str, Any]:
    """A policy for Milan alone, with these values."""
    return {"products": {"milan": MILAN | changes}}


@pytest.mark.parametrize(
    "bad",
    [
        {"more": 1},
        {"vmpl": 4},
        {"vmpl": None},
        {"vmpl": True},
        {"minimum_guest_svn": -1},
        {"products": None},
        {"products": {"rome": MILAN}},
        {"products": {"milan": {name: MILAN[name] for name in MILAN if name != "mitigations"}}},
        {"products": {"turin": MILAN}},
        milan(more=1),
        milan(mitigations="0x1"),
        milan(minimum_tcb=FOUR | {"fmc": 1}),
        milan(minimum_tcb={"bootloader": 1, "tee": 2, "snp": 3}),
        milan(minimum_tcb=FOUR | {"snp": 256}),
        milan(platform_info=["smt"]),
        milan(platform_info=[["smt"], ["smt"]]),
        milan(platform_info=[["ecc"], ["smt"]]),
        milan(platform_info=[["ecc", "smt"]]),
        milan(platform_info=[["smt", "smt"]]),
        milan(platform_info=[["debug"]]),
        milan(platform_info=None),
        milan(guest_policy=[["debug"]]),
        milan(guest_policy=[["migration-agent"]]),
        milan(guest_policy=[["smt", "page-swap-disabled"], ["smt"]]),
        {"id_key_digests": ["00" * 32]},
        {"id_key_digests": ["AB" * 48]},
        {"id_key_digests": [0]},
        {"family_ids": ["00" * 16, "00" * 16]},
        {"family_ids": None},
        {"chip_ids": ["00" * 8]},
        {"chip_ids": ["00" * 64]},  # masked
        {"csp_ids": [b"cloud"]},
        {"opt_outs": ["insecure_anything"]},
        {"opt_outs": ["insecure_allow_migration_agent", "insecure_allow_debug"]},
        {"opt_outs": ["insecure_any_chip"]},  # and a list of chips
        {"opt_outs": None},
    ],
)
def test_bad_policies(bad: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        policy(**bad)


def test_every_opt_out_says_what_it_is() -> None:
    assert all(option.value.startswith("insecure_") for option in OptOut)
