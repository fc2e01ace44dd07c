"""What evidence says of the manifest that a machine was launched for."""

from __future__ import annotations

import hashlib

import pytest

from confide.protocol import launch
from measure import binding
from measure.binding import HOST_DATA, MRCONFIGID

MANIFEST = b"some bytes\n"
DIGEST = hashlib.sha256(MANIFEST).digest()


def test_values_are_those_of_the_verifier() -> None:
    """Which are written apart from these."""
    assert HOST_DATA.value(MANIFEST, "m") == DIGEST
    assert MRCONFIGID.value(MANIFEST, "m") == launch.mrconfigid(DIGEST)
    assert binding.register_of(DIGEST) == launch.binding_pcr(DIGEST)
    assert launch.BINDING_PCR == binding.PCR


@pytest.mark.parametrize(
    ("note", "said"),
    [
        (HOST_DATA.note(DIGEST), f"launched for the manifest with SHA-256 {DIGEST.hex()}"),
        (HOST_DATA.note(bytes(32)), "launched for no manifest"),
        (MRCONFIGID.note(DIGEST + bytes(16)), f"manifest with SHA-256 {DIGEST.hex()}"),
        (MRCONFIGID.note(bytes(48)), "launched for no manifest"),
        (MRCONFIGID.note(DIGEST + bytes(15) + b"\1"), "is no manifest's"),
        (binding.register_note(None), "not in the quote"),
        (binding.register_note(bytes(32)), "did not say"),
        (binding.register_note(binding.register_of(bytes(32))), "launched for no manifest"),
        (binding.register_note(binding.register_of(DIGEST)), binding.register_of(DIGEST).hex()),
    ],
)
def test_notes(note: str, said: str) -> None:
    assert said in note
