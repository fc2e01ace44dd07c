"""The device chains of real GPUs and switches, by the X.509 verifier of pyca/cryptography too."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from confide.vendors.nvidia.rim import load_rim_xml, signing_certificates
from confide.verify.nvidia.chain import Chain, check_chain, load_chain
from confide.verify.roots import NVIDIA_DEVICE, NVIDIA_RIM
from tests.support.nvidia_vectors import FILES, PINNED, SWITCHES, recorded

BEFORE_ANY = 1_500_000_000  # 2017
DEVICES = {**FILES, **SWITCHES}


def peer_accepts(chain: Chain, root: x509.Certificate, now: int) -> bool:
    """With NVIDIA's extensions allowed: its own profile is the web's, with names of servers."""
    anything = ExtensionPolicy.permit_all()
    ca = anything.require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
    builder = PolicyBuilder().store(Store([root])).time(datetime.fromtimestamp(now, UTC))
    builder = builder.max_chain_depth(len(chain))
    verifier = builder.extension_policies(ee_policy=anything, ca_policy=ca).build_client_verifier()
    try:
        verifier.verify(chain[0], list(chain[1:]))
    except VerificationError:
        return False
    return True


def we_accept(chain: Chain, now: int) -> bool:
    return all(check.passed for check in check_chain("GPU", chain, NVIDIA_DEVICE, now))


@pytest.mark.parametrize("name", DEVICES)
def test_both_accept_and_both_refuse(vectors: Path, name: str) -> None:
    chain = load_chain(recorded(vectors, DEVICES[name]).certificates, "GPU's")
    other = load_chain(recorded(vectors, DEVICES["hopper-550"]).certificates, "GPU's")
    if name in ("hopper-550", "trustee"):
        other = load_chain(recorded(vectors, DEVICES["hopper"]).certificates, "GPU's")
    root = chain[-1]
    assert peer_accepts(chain, root, PINNED)
    assert we_accept(chain, PINNED)
    assert not peer_accepts(chain, root, BEFORE_ANY)
    assert not we_accept(chain, BEFORE_ANY)
    for spoiled in (
        (other[0], *chain[1:]),
        (chain[0], other[1], *chain[2:]),
        (*chain[:2], *chain[3:]),
        (*chain[:1], *chain[2:]),
    ):
        assert not peer_accepts(spoiled, root, PINNED)
        assert not we_accept(spoiled, PINNED)


def test_the_peer_cannot_read_the_dates_of_rim_signers(vectors: Path) -> None:
    """They are GeneralizedTime before 2050, against RFC 5280, 4.1.2.5, which it holds against them.

    So chains are not left to it. The date is the same, and signed, in either form.
    """
    xml = (vectors / "nvtrust/1010_0200_882_96005E0001_PROD.swidtag").read_bytes()
    chain = load_chain(signing_certificates(load_rim_xml(xml)), "RIM signer's")
    assert all(check.passed for check in check_chain("RIM", chain, NVIDIA_RIM, PINNED))
    assert not peer_accepts(chain, chain[-1], PINNED)
