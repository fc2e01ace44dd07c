"""`confide corim`: sign and verify, and every way in which that must fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from confide.commands.cli import main
from confide.commands.status import ExitStatus

PASSED, FAILED, USAGE, _ = ExitStatus
Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def write_key(folder: Path, key: Key) -> tuple[Path, Path]:
    private, public = folder / "key.pem", folder / "key.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    spki = PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, spki))
    return private, public


@pytest.fixture
def corim(images: Path) -> Path:
    return images / "coordinator" / "measurements.corim"


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()], ids=lambda c: c.name)
def test_signed_and_verified(corim: Path, tmp_path: Path, curve: ec.EllipticCurve) -> None:
    private, public = write_key(tmp_path, ec.generate_private_key(curve))
    signed, inside = tmp_path / "signed", tmp_path / "inside"
    arguments = ["--key", str(private), "--signer", "test", "-o", str(signed)]
    assert main(["corim", "sign", str(corim), *arguments]) == PASSED
    assert main(["corim", "verify", str(signed), "--key", str(public), "-o", str(inside)]) == PASSED
    assert inside.read_bytes() == corim.read_bytes()


def test_another_key_or_a_changed_byte(
    corim: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private, _ = write_key(tmp_path, ec.generate_private_key(ec.SECP256R1()))
    (tmp_path / "other").mkdir()
    _, other = write_key(tmp_path / "other", ec.generate_private_key(ec.SECP256R1()))
    signed = tmp_path / "signed"
    main(["corim", "sign", str(corim), "--key", str(private), "--signer", "x", "-o", str(signed)])
    assert main(["corim", "verify", str(signed), "--key", str(other)]) == FAILED
    assert "signature" in capsys.readouterr().err
    data = signed.read_bytes()
    signed.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert main(["corim", "verify", str(signed), "--key", str(tmp_path / "key.pub")]) == FAILED


def test_an_unsigned_one_is_not_signed(corim: Path, tmp_path: Path) -> None:
    _, public = write_key(tmp_path, ec.generate_private_key(ec.SECP256R1()))
    assert main(["corim", "verify", str(corim), "--key", str(public)]) == FAILED


@pytest.mark.parametrize("key", [ed25519.Ed25519PrivateKey.generate(),
    ec.generate_private_key(ec.SECP521R1()), None])  # fmt: skip
def test_keys_that_cannot_sign(corim: Path, tmp_path: Path, key: Key | None) -> None:
    private = tmp_path / "key.pem"
    if key is None:
        private.write_text("no key")
    else:
        write_key(tmp_path, key)
    signed = tmp_path / "signed"
    arguments = ["--key", str(private), "--signer", "test", "-o", str(signed)]
    assert main(["corim", "sign", str(corim), *arguments]) == USAGE
    assert not signed.exists()
