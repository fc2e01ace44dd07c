"""`confide corim sign|verify`: reference values with a signature that somebody answers for.

What goes into a CoRIM, and reading one without believing it, is `measure corim`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
)

from confide.client import cose
from confide.encoding.files import read_file, write_file
from confide.errors import ConfideError, ConfigError

MAX_CORIM = 4 << 20
MAX_KEY = 16384
PASSED, FAILED, USAGE = 0, 1, 2


def main(argv: Sequence[str]) -> int:
    """Run one command: 0 if all is well, 1 if a signature is not, 2 for usage."""
    options = _parser().parse_args(argv)
    try:
        return int(options.run(options))
    except ConfideError as error:
        print(f"confide corim: {error}", file=sys.stderr)
        return USAGE if isinstance(error, ConfigError) else FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="confide corim",
        description="Sign reference values (CoRIM), or verify who did.",
        epilog="example: confide corim sign coordinator.corim --key key.pem --signer 'Example "
        "Ltd.' -o signed.corim",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("sign", help="sign one that `measure corim write` made")
    command.add_argument("corim", type=Path, metavar="FILE")
    command.add_argument("--key", type=Path, required=True, metavar="PEM", help="P-256 or P-384")
    command.add_argument("--signer", required=True, metavar="NAME", help="for people")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    command.set_defaults(run=_sign)
    command = commands.add_parser("verify", help="verify a signed one, and take the CoRIM out")
    command.add_argument("corim", type=Path, metavar="FILE")
    command.add_argument("--key", type=Path, required=True, metavar="PEM", help="the public key")
    command.add_argument("-o", "--output", type=Path, metavar="FILE", help="the CoRIM inside")
    command.set_defaults(run=_verify)
    return parser


def _sign(options: argparse.Namespace) -> int:
    key = _private_key(options.key)
    corim = read_file(options.corim, "CoRIM", MAX_CORIM)
    write_file(options.output, cose.sign(corim, key, options.signer))
    return PASSED


def _verify(options: argparse.Namespace) -> int:
    key = _public_key(options.key)
    corim = cose.verify(read_file(options.corim, "CoRIM", MAX_CORIM), key)
    if options.output:
        write_file(options.output, corim)
    print(f"{options.corim}: signed by the key in {options.key}")
    return PASSED


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
