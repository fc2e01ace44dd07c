"""Each opt-out of a manifest needs the same word from the person who uses the manifest."""

from __future__ import annotations

import json
import re

import pytest

from confide.encoding.canonical import json_encode
from confide.errors import FormatError, PolicyError
from confide.protocol.manifest import Manifest
from confide.protocol.opt_outs import OPT_OUTS, named_in, require_given
from tests.support.production import manifest, manifest_value
from tests.support.schemas import MANIFEST_SCHEMA
from tests.support.snp_policy import policy_json


def test_every_opt_out_of_the_schema_is_known() -> None:
    """Else no option could name it, and a manifest with it could not be used."""
    named = set(re.findall(r'"(insecure_[a-z_]+)"', json.dumps(MANIFEST_SCHEMA)))
    assert named and named <= set(OPT_OUTS)


def test_a_manifest_without_opt_outs_has_none() -> None:
    assert manifest().opt_outs == ()


def test_all_opt_outs_are_found_wherever_they_are() -> None:
    value = manifest_value()
    value["platforms"]["sev-snp"] = policy_json(chip_ids=[], opt_outs=["insecure_any_chip"])
    value["platforms"]["tdx"] |= {
        "platform_instances": [],
        "opt_outs": ["insecure_any_platform"],
    }
    value["roles"]["worker-gpu"]["gpus"] |= {
        "insecure_revoked_grace_hours": 1,
        "insecure_ignored_measurements": [0],
        "opt_outs": ["insecure_without_vbios_rim"],
    }
    assert Manifest.parse(json_encode(value)).opt_outs == (
        "insecure_any_chip",
        "insecure_any_platform",
        "insecure_ignored_measurements",
        "insecure_revoked_grace_hours",
        "insecure_without_vbios_rim",
    )


def test_a_field_that_is_empty_is_no_opt_out() -> None:
    value = {"insecure_ignored_measurements": [], "insecure_revoked_grace_hours": 0}
    assert [*named_in([value, {"a": {"insecure_x": 1}}])] == ["insecure_x"]


def test_each_word_is_needed() -> None:
    require_given((), ())
    require_given((), ["insecure_any_chip"])
    require_given(["insecure_any_chip"], ["insecure_any_chip", "insecure_any_platform"])
    with pytest.raises(PolicyError) as caught:
        require_given(["insecure_any_chip", "insecure_any_platform"], ["insecure_any_chip"])
    assert caught.value.code == "opt-out-not-given"
    assert "--insecure-any-platform" in caught.value.next
    assert "--insecure-any-chip" not in caught.value.next


@pytest.mark.parametrize(
    ("field", "own"), [("chip_ids", "ee" * 64), ("platform_instances", "ee" * 16)]
)
def test_a_role_s_own_machines_are_among_those_of_the_platform(field: str, own: str) -> None:
    value = manifest_value()
    value["roles"]["coordinator"] = value["roles"]["coordinator"] | {field: [own]}
    with pytest.raises(FormatError) as caught:
        Manifest.parse(json_encode(value))
    assert caught.value.code == "manifest-machines"


def test_a_masked_chip_id_is_never_listed() -> None:
    value = manifest_value()
    value["platforms"]["sev-snp"] = policy_json(chip_ids=["00" * 64])
    with pytest.raises(FormatError) as caught:
        Manifest.parse(json_encode(value))
    assert caught.value.code == "bad-snp-policy" and "masks" in str(caught.value)
