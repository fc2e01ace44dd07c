"""`measure snp-id`: what makes the processor check a launch digest, from keys and signatures.

Private keys stay where they are: this only lays out public keys and signatures.
"""

from __future__ import annotations

import argparse

from measure.commands.common import Commands, read, register, write
from measure.errors import InputError
from measure.output import show
from measure.snp import idblock
from measure.status import ExitStatus

_MAX_INPUT = 4096


def add(commands: Commands) -> None:
    """Registers the command."""
    parser = register(
        commands,
        "snp-id",
        run,
        "write the sev-snp-guest properties that make an SEV-SNP launch check its own digest, and"
        " print the digests of the keys as reports have them",
        "snp-id --id-block block.bin --id-key id.der --id-signature block.sig -o check.txt\n\n"
        "where block.bin is from `measure snp --id-block block.bin`, and\n"
        "  openssl dgst -sha384 -sign id.pem -out block.sig block.bin\n"
        "  openssl pkey -in id.pem -pubout -outform DER -out id.der",
    )
    parser.add_argument("--id-block", required=True, help="the ID block that was signed")
    parser.add_argument("--id-key", required=True, help="the ID key: public, DER")
    parser.add_argument(
        "--id-signature", required=True, help="the ID key's signature over the block: DER"
    )
    parser.add_argument("--author-key", help="the author key: public, DER")
    parser.add_argument(
        "--author-signature", help="the author key's signature over what --author-input writes: DER"
    )
    parser.add_argument(
        "--author-input", metavar="FILE", help="write the ID key as the author key must sign it"
    )
    parser.add_argument("-o", "--output", required=True, help="where the properties go")


def run(options: argparse.Namespace) -> ExitStatus:
    """Runs the command."""
    if bool(options.author_key) != bool(options.author_signature):
        raise InputError("--author-key and --author-signature go together")
    block = read(options.id_block, _MAX_INPUT)
    if len(block) != idblock.BLOCK_SIZE:
        raise InputError(
            "not an ID block",
            file=options.id_block,
            expected=f"{idblock.BLOCK_SIZE} bytes",
            seen=f"{len(block)} bytes",
        )
    signed = _signed(options.id_key, options.id_signature)
    if options.author_input:
        write(options.author_input, signed.key)
    author = None
    if options.author_key:
        author = _signed(options.author_key, options.author_signature)
    properties = idblock.qemu_properties(
        block, idblock.auth_page(signed, author), author=author is not None
    )
    write(options.output, properties.encode("ascii") + b"\n")
    show(f"ID_KEY_DIGEST      {signed.key_digest.hex()}")
    if author:
        show(f"AUTHOR_KEY_DIGEST  {author.key_digest.hex()}")
    return ExitStatus.OK


def _signed(key_path: str, signature_path: str) -> idblock.Signed:
    return idblock.Signed(
        idblock.public_key(read(key_path, _MAX_INPUT), key_path),
        idblock.signature(read(signature_path, _MAX_INPUT), signature_path),
    )
