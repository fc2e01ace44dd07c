"""`confide corim`: sign reference values (CoRIM), and verify their signature.

`measure corim` makes a CoRIM, and shows one without verifying it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
)

from confide.client import cose
from confide.commands.status import ExitStatus
from confide.encoding.console import show
from confide.encoding.files import read_file, write_file
from confide.errors import ConfigError

MAX_CORIM = 4 << 20
"""Bytes of a CoRIM file."""

MAX_KEY = 16384
"""Bytes of a PEM file with a key."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = "Sign reference values (CoRIM), and verify their signature."
    example = "confide corim sign all.corim --key key.pem --signer 'Example Ltd.' -o signed.corim"
    parser.epilog = f"example:\n  {example}\n\n{parser.epilog}"
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("sign", help="sign a CoRIM that `measure corim write` made")
    command.add_argument("corim", type=Path, metavar="FILE", help="the CoRIM")
    command.add_argument(
        "--key", type=Path, required=True, metavar="PEM", help="a private key, P-256 or P-384"
    )
    command.add_argument("--signer", required=True, metavar="NAME", help="who signs, for readers")
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="where to write it"
    )
    command.set_defaults(run=_sign)
    command = commands.add_parser("verify", help="verify a signed CoRIM, and extract it")
    command.add_argument("corim", type=Path, metavar="FILE", help="the CoRIM")
    command.add_argument("--key", type=Path, required=True, metavar="PEM", help="the public key")
    command.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write the CoRIM without its signature"
    )
    command.set_defaults(run=_verify)


def _sign(options: argparse.Namespace) -> ExitStatus:
    key = _private_key(options.key)
    corim = read_file(options.corim, "CoRIM", MAX_CORIM)
    write_file(options.output, cose.sign(corim, key, options.signer))
    return ExitStatus.PASSED


def _verify(options: argparse.Namespace) -> ExitStatus:
    key = _public_key(options.key)
    corim = cose.verify(read_file(options.corim, "CoRIM", MAX_CORIM), key)
    if options.output:
        write_file(options.output, corim)
    show(f"{options.corim}: signed by the key in {options.key}")
    return ExitStatus.PASSED


def _private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(read_file(path, "key", MAX_KEY), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _bad_key(path, "a private key in PEM, without a password") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _bad_key(path, "an elliptic curve key")
    return key


def _public_key(path: Path) -> ec.EllipticCurvePublicKey:
    try:
        key = load_pem_public_key(read_file(path, "key", MAX_KEY))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _bad_key(path, "a public key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise _bad_key(path, "an elliptic curve key")
    return key


def _bad_key(path: Path, expected: str) -> ConfigError:
    return ConfigError("bad-key", "the key cannot be used", expected=expected, seen=str(path))
