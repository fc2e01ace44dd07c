"""The GPU policy of a manifest: all of it, in one encoding, and nothing else."""

from __future__ import annotations

import pytest

from confide.encoding.canonical import Json, json_decode, json_encode
from confide.encoding.messages import from_map, to_map
from confide.errors import FormatError
from confide.protocol.policy.gpu import GpuPolicy, version_parts
from tests.support.simulated_gpu import policy

POLICY = to_map(policy())


def test_policy_round_trip() -> None:
    every = policy(
        insecure_ignored_measurements=[9, 0],
        insecure_revoked_grace_hours=24,
        opt_outs=["insecure_accept_unstated_mode", "insecure_accept_certificate_hold"],
        architectures={"hopper": {"driver": {"exact": ["1.2"]}, "vbios": {"minimum": "96.0A"}}},
        maximum_count=8,
    )
    for one in (every, policy()):
        text = json_encode(to_map(one))
        assert from_map(GpuPolicy, json_decode(text, what="policy"), "test") == one


@pytest.mark.parametrize("name", list(POLICY))
def test_unset_is_an_error(name: str) -> None:
    with pytest.raises(FormatError, match="no field"):
        from_map(GpuPolicy, {k: v for k, v in POLICY.items() if k != name}, "test")


RULES: Json = {"driver": {"minimum": "1.0"}, "vbios": {"minimum": "96.0"}}


@pytest.mark.parametrize(
    "changes",
    [
        {"more": 1},
        {"minimum_count": 0},
        {"minimum_count": 2},
        {"maximum_count": 17},
        {"minimum_count": True},
        {"modes": ["protected-pcie"]},
        {"modes": ["unstated"]},
        {"modes": ["single-gpu", "single-gpu"]},
        {"modes": [1]},
        {"modes": ["multi-gpu", "single-gpu"]},
        {"opt_outs": ["insecure_accept_anything"]},
        {"opt_outs": [1]},
        {"opt_outs": ["insecure_accept_ocsp_unknown", "insecure_accept_unstated_mode"]},
        {"insecure_revoked_grace_hours": -1},
        {"insecure_revoked_grace_hours": 24 * 90 + 1},
        {"insecure_ignored_measurements": [256]},
        {"insecure_ignored_measurements": [-1]},
        {"insecure_ignored_measurements": [True]},
        {"insecure_ignored_measurements": [1, 1]},
        {"architectures": {"ampere": RULES}},
        {"architectures": {"hopper": {"driver": {"minimum": "1.0"}}}},
        {"architectures": {"hopper": {"driver": {}, "vbios": {"minimum": "96.0"}}}},
        {
            "architectures": {
                "hopper": {
                    "driver": {"minimum": "1.0", "exact": []},
                    "vbios": {"minimum": "96.0"},
                }
            }
        },
        {"architectures": {"hopper": {"driver": {"minimum": "5"}, "vbios": {"minimum": "9.0"}}}},
        {"architectures": {"hopper": {"driver": {"minimum": ""}, "vbios": {"minimum": "9.0"}}}},
        {"architectures": {"hopper": {"driver": {"exact": ["1.A"]}, "vbios": {"minimum": "9.0"}}}},
        {"architectures": {"hopper": {"driver": {"exact": [1]}, "vbios": {"minimum": "9.0"}}}},
        {"architectures": {"hopper": {"driver": {"minimum": "1.0"}, "vbios": {"minimum": "9.a"}}}},
    ],
)
def test_policy_that_is_none(changes: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        from_map(GpuPolicy, {**POLICY, **changes}, "test")


@pytest.mark.parametrize(
    "version", ["", ".", "1", "1.", ".1", "1..2", "1.-2", "1.0x", "1.2.3.4.5.6.7"]
)
def test_versions_that_are_none(version: str) -> None:
    assert version_parts(version, 10) is None
    assert version_parts(version, 16) is None
    rule = policy().architectures["hopper"].driver
    assert not rule.accepts(version)
