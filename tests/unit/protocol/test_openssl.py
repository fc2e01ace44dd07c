"""OpenSSL's command reads and verifies the vectors' certificates with its ordinary options."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.foreign import CERTIFICATES, CHAINS, write_vectors

NOW = str(CERTIFICATES["valid_at"])
EARLIER = str(CERTIFICATES["valid_at"] - 86400)


def openssl(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The certificates of the vectors as DER, and as PEM with the ending .pem."""
    found = write_vectors(tmp_path_factory.mktemp("vectors"))
    for path in found.values():
        made = openssl("x509", "-inform", "DER", "-in", path, "-out", path.with_suffix(".pem"))
        assert made.returncode == 0, made.stderr
    return {name: path.with_suffix(".pem") for name, path in found.items()}


def verify(files: dict[str, Path], leaf: str, *options: str) -> subprocess.CompletedProcess[str]:
    chain = ["-CAfile", str(files["root_ca"]), "-untrusted", str(files["mesh_ca"])]
    return openssl("verify", "-x509_strict", *chain, *options, files[leaf])


@pytest.mark.parametrize("name", [name for name in CERTIFICATES["names"] if name != "root_ca"])
def test_every_name_is_printed(name: str, files: dict[str, Path]) -> None:
    shown = openssl("x509", "-in", files[name], "-noout", "-ext", "subjectAltName").stdout
    names = CERTIFICATES["names"][name]
    listed = [text if text.startswith("DNS:") else f"URI:{text}" for text in names]
    assert shown.splitlines()[1].strip() == ", ".join(listed)


@pytest.mark.parametrize("leaf", CHAINS)
@pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
def test_a_leaf_is_verified_for_its_host_name(
    leaf: str, purpose: str, files: dict[str, Path]
) -> None:
    options = ("-purpose", purpose, "-attime", NOW, "-verify_hostname")
    assert verify(files, leaf, *options, CHAINS[leaf]).stdout.endswith(": OK\n")
    for other in {*CHAINS.values(), "confide.internal", "a.worker-cpu.confide.internal"}:
        if other != CHAINS[leaf]:
            refused = verify(files, leaf, *options, other)
            assert (refused.returncode, "hostname mismatch" in refused.stderr.lower()) == (2, True)


@pytest.mark.parametrize("leaf", CHAINS)
def test_not_at_another_time_and_not_without_the_mesh_ca(leaf: str, files: dict[str, Path]) -> None:
    assert "not yet valid" in verify(files, leaf, "-attime", EARLIER).stderr
    alone = openssl("verify", "-CAfile", files["root_ca"], "-attime", NOW, files[leaf])
    assert "unable to get local issuer certificate" in alone.stderr
