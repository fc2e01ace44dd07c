"""What the simulated chip is asked: report data, and a policy in which everything has a value."""

from __future__ import annotations

from typing import Any

from confide.encoding.messages import from_map
from confide.protocol.policy.snp import SnpPolicy

REPORT_DATA = bytes(range(64))


def policy_json(**changes: object) -> dict[str, Any]:
    """What the simulated chip fulfils, with other values where `changes` has some."""
    four = {"bootloader": 1, "tee": 2, "snp": 3, "microcode": 4}
    return {
        "minimum_tcb": {"milan": four, "genoa": four, "turin": {"fmc": 9, **four}},
        "guest_policy": {
            "set": ["smt"],
            "clear": [
                "single-socket",
                "cxl",
                "aes-256-xts",
                "rapl-disabled",
                "ciphertext-hiding",
                "page-swap-disabled",
            ],
            "insecure_any": [],
        },
        "platform_info": {
            "set": ["smt", "ecc", "alias-check"],
            "clear": ["tsme", "rapl-disabled", "ciphertext-hiding", "iommu-write-safe", "tio"],
            "insecure_any": [],
        },
        "vmpl": 0,
        "minimum_guest_svn": 3,
        "mitigations": 0,
        "id_key_digests": ["00" * 48],
        "author_key_digests": ["00" * 48],
        "family_ids": ["00" * 16],
        "image_ids": ["00" * 16],
        "host_data": ["00" * 32],
        "chip_ids": [bytes(range(1, 65)).hex()],
        "csp_ids": ["CN=simulated.cloud"],
        "opt_outs": [],
    } | changes


def policy(**changes: object) -> SnpPolicy:
    """The same, read."""
    return from_map(SnpPolicy, policy_json(**changes), "policy")
