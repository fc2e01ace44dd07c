"""The SEV-SNP policy of a manifest: all of it, in one encoding, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from confide.encoding.messages import from_map, to_map
from confide.errors import FormatError
from confide.protocol.policy.snp import OptOut, SnpPolicy, SnpReference
from confide.vendors.amd.report import GuestPolicy, PlatformInfo, Product, Tcb
from tests.support.snp_policy import policy, policy_json


def test_round_trip() -> None:
    for value in (
        policy_json(),
        policy_json(chip_ids=[], opt_outs=[option.value for option in OptOut]),
        policy_json(minimum_tcb={}, csp_ids=[], host_data=["ab" * 32, "cd" * 32]),
    ):
        assert to_map(from_map(SnpPolicy, value, "policy")) == value


def test_values() -> None:
    read = policy()
    assert read.minimum_tcb[Product.TURIN] == Tcb(Product.TURIN, (9, 1, 2, 3, 4))
    assert read.guest_policy.set == GuestPolicy.SMT
    assert read.platform_info.set == PlatformInfo.SMT | PlatformInfo.ECC | PlatformInfo.ALIAS_CHECK
    assert read.platform_info.insecure_any == PlatformInfo(0)
    assert read.opt_outs == frozenset()


def test_reference() -> None:
    value = {"shape": "qemu-4", "launch_digest": "ab" * 48}
    reference = from_map(SnpReference, value, "reference")
    assert reference == SnpReference("qemu-4", b"\xab" * 48)
    assert to_map(reference) == value
    for bad in ({"shape": "qemu-4"}, value | {"launch_digest": "ab" * 32}, value | {"more": 1}):
        with pytest.raises(FormatError):
            from_map(SnpReference, bad, "reference")


ALL_BITS = policy_json()["platform_info"]
MILAN = {"bootloader": 1, "tee": 2, "snp": 3, "microcode": 4}


@pytest.mark.parametrize(
    "bad",
    [
        {"more": 1},
        {"vmpl": 4},
        {"vmpl": None},
        {"vmpl": True},
        {"minimum_guest_svn": -1},
        {"mitigations": "0x1"},
        {"minimum_tcb": {"rome": MILAN}},
        {"minimum_tcb": {"milan": MILAN | {"fmc": 1}}},
        {"minimum_tcb": {"turin": MILAN}},
        {"minimum_tcb": {"milan": {"bootloader": 1, "tee": 2, "snp": 3}}},
        {"minimum_tcb": {"milan": MILAN | {"snp": 256}}},
        {"platform_info": ALL_BITS | {"clear": ["tsme"]}},
        {"platform_info": ALL_BITS | {"insecure_any": ["smt"]}},
        {"platform_info": ALL_BITS | {"set": ["alias-check", "ecc", "smt"]}},
        {"platform_info": ALL_BITS | {"set": ["smt", "smt", "ecc", "alias-check"]}},
        {"platform_info": ALL_BITS | {"set": ["smt", "ecc", "alias-check", "debug"]}},
        {"platform_info": ALL_BITS | {"more": []}},
        {"platform_info": {"set": [], "clear": []}},
        {"guest_policy": policy_json()["guest_policy"] | {"insecure_any": ["debug"]}},
        {"guest_policy": policy_json()["guest_policy"] | {"insecure_any": ["migration-agent"]}},
        {"id_key_digests": ["00" * 32]},
        {"id_key_digests": ["AB" * 48]},
        {"id_key_digests": [0]},
        {"host_data": ["00" * 32, "00" * 32]},
        {"host_data": None},
        {"chip_ids": ["00" * 8]},
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
