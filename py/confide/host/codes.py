"""Error codes of what runs on hosts."""

from __future__ import annotations

from confide.errors import (
    Code,
    ConfigError,
    FormatError,
    PolicyError,
    UnavailableError,
    VerificationError,
)

CODES = {
    "bad-api-keys": Code("The file of API keys is malformed.", ConfigError),
    "bad-hash-offset": Code(
        "The hash tree cannot be at this offset of the disk.", VerificationError
    ),
    "bad-measurements": Code("The file does not hold the measurements of an image.", ConfigError),
    "bad-model": Code("The file that describes the model is malformed.", ConfigError),
    "bad-model-file": Code(
        "A file of the model cannot be packed. Remove or replace it.", ConfigError
    ),
    "bad-site": Code("The file that lists a site's machines is malformed.", ConfigError),
    "being-packed": Code("Another process is packing this disk.", ConfigError),
    "disk-exists": Code(
        "The disk exists, and is never overwritten. Remove it or choose another name.", ConfigError
    ),
    "disk-in-model": Code(
        "The disk would be in the folder of the model, or one is there already.", ConfigError
    ),
    "double-measurement": Code("A role is measured twice.", ConfigError),
    "duplicate-key": Code("The file of API keys lists one key twice.", FormatError),
    "empty-model": Code("The folder of the model has no data.", ConfigError),
    "entry-exists": Code(
        "The entry of the disk exists, and is never overwritten. Move it away.", ConfigError
    ),
    "file-in-the-way": Code(
        "A file that no interrupted pack left has the name of one that pack needs.", ConfigError
    ),
    "machine-not-ready": Code(
        "The machine did not become ready. Read its console.", UnavailableError
    ),
    "mkfs-failed": Code(
        "mkfs.erofs failed or made another layout. Use the tools that the flake builds.",
        ConfigError,
    ),
    "model-changed": Code(
        "A file changed while it was packed. Pack again when nothing writes to the folder.",
        ConfigError,
    ),
    "model-config": Code(
        "The model has no config.json, or a file that the engine reads is malformed.", ConfigError
    ),
    "model-index": Code(
        "The files of weights and their index do not belong together.", ConfigError
    ),
    "model-lfs-pointer": Code(
        "Files of the model are Git LFS pointers. Run `git lfs pull`.", ConfigError
    ),
    "model-tokenizer": Code("The model has no tokenizer.", ConfigError),
    "model-weights": Code(
        "The model has no safetensors file, or one is damaged or incomplete.", ConfigError
    ),
    "no-disk": Code("A disk of the machine is missing. Build the image.", ConfigError),
    "no-keys": Code("The file of API keys lists no key.", FormatError),
    "no-machine-identity": Code(
        "The evidence names no machine. Show the chip id, or register the platform with Intel.",
        PolicyError,
    ),
    "no-machines": Code(
        "A role of the manifest would accept no machine. List yours in the file of --site.",
        ConfigError,
    ),
    "no-measurements": Code(
        "There are no measurements for the platforms of the policy.", ConfigError
    ),
    "no-model-tools": Code(
        "The tools that pack models are missing. Run `nix build .#model-tools`.", ConfigError
    ),
    "no-qemu": Code("QEMU, swtpm or the firmware is missing. Run `nix build .#qemu`.", ConfigError),
    "no-space": Code(
        "There is no space for the disk. Make room or choose another folder.", ConfigError
    ),
    "not-a-model-disk": Code(
        "The file is not a model disk, or its first block is damaged.", VerificationError
    ),
    "not-inventory": Code(
        "There is no evidence of a machine in inventory. Launch the machine without a manifest.",
        FormatError,
    ),
    "policy-machines": Code(
        "The policy says whose machines. List them in the file of --site instead.", ConfigError
    ),
    "rate-limited": Code(
        "The API key, or without keys the address, has used up what it may do of this kind. Wait.",
        PolicyError,
        status=429,
    ),
    "swtpm-failed": Code("The software TPM failed. Read its log.", UnavailableError),
    "truncated-model-disk": Code("The model disk is truncated. Copy it again.", VerificationError),
    "unauthorized": Code(
        "The gateway does not know this API key. Name it with --api-key-file.",
        PolicyError,
        status=401,
    ),
    "uncited-floor": Code(
        "A floor of the policy has no source, or a source of another value. Cite it or remove it.",
        FormatError,
    ),
    "unreadable-model": Code("The folder of the model cannot be read.", ConfigError),
    "wrong-block": Code(
        "A block of the model disk is damaged. Copy the disk again.", VerificationError
    ),
    "wrong-root-hash": Code("The disk has another root hash than the manifest.", VerificationError),
}
