"""OpenSSL's verdict on AMD's published chains, and on tampered ones, is ours.

(The X.509 verifier of `cryptography` refuses RSASSA-PSS, which all of these are signed with.)
"""

from __future__ import annotations

import subprocess
from itertools import product
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import SignatureAlgorithmOID

from confide.vendors.amd.certificates import EndorsementKey
from confide.verify.snp.chain import check_chain, load_chain
from confide.verify.snp.collateral import SnpCollateral
from confide.verify.x509 import check_crl, load_crl
from tests.support.simulated_amd import NOW, intermediate, make_authority, make_crl, root, rsa_key

KEYS = (
    "go-sev-guest/vcek.testcer",
    "trustee/snp/test-vcek.der",
    "trustee/snp/test-vcek-invalid-legacy.der",
    "trustee/snp/test-vcek-invalid-new.der",
    "trustee/snp/test-vlek.der",
    "virtee-sev/vcek_milan.der",
    "virtee-sev/vcek_turin.der",
)
CHAINS = (
    "go-sev-guest/ask_ark_milan.pem",
    "go-sev-guest/ask_ark_milan_vlek.pem",
    "go-sev-guest/ask_ark_genoa.pem",
    "go-sev-guest/ask_ark_turin_vcek.pem",
)
TIMES = {"2020": 1_577_836_800, "2025": 1_750_000_000, "2046": 2_400_000_000}
GOOD = {
    ("go-sev-guest/vcek.testcer", CHAINS[0], "2025"),
    ("trustee/snp/test-vcek.der", CHAINS[0], "2025"),
    ("trustee/snp/test-vlek.der", CHAINS[1], "2025"),
    ("virtee-sev/vcek_milan.der", CHAINS[0], "2025"),
    ("virtee-sev/vcek_turin.der", CHAINS[3], "2025"),
}


def openssl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)


def pem(folder: Path, name: str, certificate: x509.Certificate) -> str:
    path = folder / name
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    return str(path)


@pytest.mark.parametrize(("key", "chain", "at"), list(product(KEYS, CHAINS, TIMES)))
def test_chain(vectors: Path, tmp_path: Path, key: str, chain: str, at: str) -> None:
    leaf = x509.load_der_x509_certificate((vectors / key).read_bytes())
    above = x509.load_pem_x509_certificates((vectors / chain).read_bytes())[:2]
    theirs = openssl(
        "verify",
        "-attime",
        str(TIMES[at]),
        "-CAfile",
        pem(tmp_path, "root.pem", above[1]),
        "-untrusted",
        pem(tmp_path, "intermediate.pem", above[0]),
        pem(tmp_path, "leaf.pem", leaf),
    )
    parsed = EndorsementKey.parse(leaf.public_bytes(Encoding.DER))
    ours = check_chain(load_chain(parsed, above, SnpCollateral()), TIMES[at])
    # OpenSSL trusts the root that it is given; ours has to be the one of the product
    passed = all(check.passed for check in ours if check.name != "root")
    assert passed == (theirs.returncode == 0), theirs.stderr
    assert passed == ((key, chain, at) in GOOD)


@pytest.mark.parametrize("issuer", ["root", "intermediate", "look-alike"])
def test_revocation_list(tmp_path: Path, issuer: str) -> None:
    """SIMULATED: no list of AMD's was published with a report."""
    look_alike = make_authority("SIMULATED ARK milan", rsa_key("stranger"))
    signer = {"root": root(), "intermediate": intermediate(), "look-alike": look_alike}[issuer]
    der = make_crl(issuer=signer)
    (tmp_path / "crl.der").write_bytes(der)
    anchor = pem(tmp_path, "root.pem", root().certificate)
    theirs = openssl(
        "crl", "-inform", "DER", "-in", str(tmp_path / "crl.der"), "-CAfile", anchor, "-noout"
    )
    pss = SignatureAlgorithmOID.RSASSA_PSS
    ours = check_crl("list", load_crl(der, "root's"), root().certificate, pss, NOW)
    assert ours.passed == ("verify OK" in theirs.stderr) == (issuer == "root")
