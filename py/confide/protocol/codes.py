"""Error codes of Confide's own messages."""

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
    "bad-answer": Code(
        "A peer's or vendor's answer does not hold what was asked for.", FormatError
    ),
    "bad-billing": Code("The payer's signature in a key message is wrong.", VerificationError),
    "bad-config": Code(
        "The machine's configuration is wrong. Correct the options that it was started with.",
        FormatError,
        ConfigError,
    ),
    "bad-frame": Code(
        "A frame of a sealed response is malformed or forged. Send the request again.",
        FormatError,
        VerificationError,
    ),
    "bad-gpu-evidence": Code("The evidence of a GPU is malformed.", FormatError),
    "bad-gpu-policy": Code(
        "The manifest's policy for GPUs is wrong. Set each value or opt out by name.", FormatError
    ),
    "bad-hash": Code("A hash has the wrong size.", FormatError),
    "bad-header": Code("A header of a sealed request is missing or malformed.", FormatError),
    "bad-history": Code(
        "The history of manifests is malformed, or does not lead to this manifest.",
        FormatError,
        VerificationError,
    ),
    "bad-key": Code("A key has the wrong kind, size or encoding.", FormatError, ConfigError),
    "bad-key-seal": Code(
        "A sealed key or share does not open. Fetch the KEM key again.", VerificationError
    ),
    "bad-label": Code("A label of a binding is not ASCII text.", FormatError),
    "bad-nonce": Code("A nonce has the wrong size.", FormatError),
    "bad-nonce-path": Code(
        "The place of a nonce in an attestation is not in a tree of its depth.", FormatError
    ),
    "bad-padding": Code("The padding of a sealed message is wrong.", FormatError),
    "bad-record": Code(
        "A record of a sealed response is malformed or in the wrong place.", FormatError
    ),
    "bad-request-size": Code("A sealed request is too short or too long.", FormatError),
    "bad-seal": Code(
        "A sealed request does not open: it was changed on the way.", VerificationError
    ),
    "bad-snp-policy": Code(
        "The manifest's policy for SEV-SNP is wrong. Set each value or opt out by name.",
        FormatError,
    ),
    "bad-tdx-policy": Code("The manifest's policy for TDX is wrong.", FormatError),
    "bad-usage": Code(
        "The counts of an answer were changed, or are more than the request allows.",
        VerificationError,
    ),
    "clocks-apart": Code(
        "A coordinator's clock and this one are more than 300 s apart. Correct the wrong one: a "
        "machine gets its clock from its host when it starts.",
        VerificationError,
    ),
    "engine-option": Code(
        "An option for the engine is malformed or not allowed.", FormatError, ConfigError
    ),
    "manifest-expired": Code(
        "The manifest has expired. Get the manifest of a newer release, or build a new one.",
        PolicyError,
    ),
    "manifest-gpus": Code("A role of the manifest does not fit its policy for GPUs.", FormatError),
    "manifest-keys": Code(
        "The manifest holds keys that this version does not support.", FormatError
    ),
    "manifest-machines": Code(
        "A role of the manifest has machines that the manifest does not list.", FormatError
    ),
    "manifest-mode": Code(
        "The manifest's mode does not fit its platforms or its development CA.", FormatError
    ),
    "manifest-models": Code("A model of the manifest is wrong.", FormatError),
    "manifest-not-valid-yet": Code(
        "The manifest was released in the future. Check the clock of this computer.", PolicyError
    ),
    "manifest-pcrs": Code(
        "The manifest leaves registers of a vTPM without a reference value, or pins PCR 15.",
        FormatError,
    ),
    "manifest-platform": Code(
        "A role of the manifest accepts a platform for which there is no policy.", FormatError
    ),
    "manifest-role": Code("A role of the manifest is missing or has no measurements.", FormatError),
    "manifest-times": Code(
        "The manifest does not expire within a year of its release.", FormatError
    ),
    "no-manifest": Code(
        "There is no manifest yet. Set one, or name one with an option.",
        UnavailableError,
        ConfigError,
        status=404,
    ),
    "opt-out-not-given": Code(
        "The manifest leaves something unchecked. Give the same words as options, or get another "
        "manifest.",
        PolicyError,
    ),
    "refused-field": Code(
        "The service refuses a field of the request, or a value of it, and says why. Leave it out.",
        FormatError,
    ),
    "stale-key": Code(
        "The sealed key is older than one hour. Check the clock and seal a new key.",
        VerificationError,
    ),
    "trailing-bytes": Code(
        "Bytes follow the end of a sealed response. Do not use the answer.", VerificationError
    ),
    "truncated": Code(
        "The response ended before its final frame. Send the request again.", VerificationError
    ),
    "unknown-model": Code(
        "The manifest has no such model. List the models with GET /v1/models.", PolicyError
    ),
    "unknown-role": Code(
        "The role does not exist, or the manifest does not have it.",
        PolicyError,
        FormatError,
        ConfigError,
    ),
}
