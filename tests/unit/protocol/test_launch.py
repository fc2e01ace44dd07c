"""protocol/launch.py: the launch values that a manifest's bytes give."""

from __future__ import annotations

from hashlib import sha256

from confide.protocol.launch import UNBOUND, binding_pcr, mrconfigid

BINDING = sha256(b"manifest").digest()


def test_tdx_pads_the_binding_with_zeros() -> None:
    assert mrconfigid(BINDING) == BINDING + bytes(16)
    assert mrconfigid(UNBOUND) == bytes(48)


def test_vtpm_extends_the_binding_once() -> None:
    assert binding_pcr(BINDING) == sha256(bytes(32) + BINDING).digest()
    assert binding_pcr(UNBOUND) != bytes(32)
