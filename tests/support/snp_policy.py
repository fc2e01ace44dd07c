"""What the simulated chip is asked: report data, and a policy in which everything has a value."""

from __future__ import annotations

from typing import Any

from confide.encoding.messages import from_map
from confide.protocol.policy.snp import SnpPolicy

REPORT_DATA = bytes(range(64))
_FOUR = {"bootloader": 1, "tee": 2, "snp": 3, "microcode": 4}
MINIMUM_TCB = {"milan": _FOUR, "genoa": _FOUR, "turin": {"fmc": 9, **_FOUR}}


def products_json(**changes: object) -> dict[str, Any]:
    """What simulated chips of each product fulfil, with other values where `changes` has some."""
    return {
        product: {
            "minimum_tcb": minimum,
            "mitigations": 0,
            "guest_policy": [["smt"]],
            "platform_info": [["smt", "ecc", "alias-check"]],
        }
        | changes
        for product, minimum in MINIMUM_TCB.items()
    }


def policy_json(**changes: object) -> dict[str, Any]:
    """What the simulated chip fulfils, with other values where `changes` has some."""
    return {
        "products": products_json(),
        "vmpl": 0,
        "minimum_guest_svn": 3,
        "id_key_digests": ["00" * 48],
        "author_key_digests": ["00" * 48],
        "family_ids": ["00" * 16],
        "image_ids": ["00" * 16],
        "chip_ids": [bytes(range(1, 65)).hex()],
        "csp_ids": ["CN=simulated.cloud"],
        "opt_outs": [],
    } | changes


def policy(**changes: object) -> SnpPolicy:
    """The same, read."""
    return from_map(SnpPolicy, policy_json(**changes), "policy")


def policy_of_products(**changes: object) -> SnpPolicy:
    """The same, with other values in the policy of each product."""
    return policy(products=products_json(**changes))
