"""Error codes of what runs in measured machines."""

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
    "bad-cache-salt": Code(
        "The cache_salt of the request is malformed. Leave it out to share no cache.", FormatError
    ),
    "bad-content-type": Code(
        "The body of a request has a type that its path does not take.", FormatError
    ),
    "bad-mrconfigid": Code(
        "The MRCONFIGID of the TDX machine is no manifest's. Launch it with the printed value.",
        ConfigError,
    ),
    "bad-pace": Code("The worker does not send frames on a clock. Use pace_ms 0.", FormatError),
    "bad-report-data": Code("The data to attest has the wrong size.", FormatError),
    "bad-role": Code(
        "The image does not name its worker role. Build the image again.", ConfigError
    ),
    "bad-verity-status": Code(
        "The device mapper's status is not one of a verity device.", FormatError
    ),
    "binding-register-used": Code(
        "PCR 15 of the TPM holds more than the machine's binding. Give the machine a new TPM.",
        ConfigError,
    ),
    "coordinator-not-verified": Code(
        "A check of the coordinator failed. The machine tries again. Give the coordinator its "
        "collateral with `confide set`, and check the address.",
        VerificationError,
    ),
    "corrupt-model-disk": Code(
        "A model disk does not hold the bytes that the manifest names. Replace the disk.",
        VerificationError,
    ),
    "device-mapper": Code("The device mapper refused a model disk.", ConfigError),
    "engine-lost": Code(
        "The engine ended in the middle of an answer. Send the request again.", UnavailableError
    ),
    "engine-not-ready": Code(
        "The engine of this model is not ready. Try again later.", UnavailableError
    ),
    "gpu-bad-answer": Code(
        "A GPU gave a malformed answer. Reset the GPU from the host.", UnavailableError
    ),
    "gpu-cc-off": Code("The GPUs are not in confidential mode. Set it on the host.", PolicyError),
    "gpu-devtools-on": Code(
        "The GPUs are in developer tools mode. Turn it off on the host.", PolicyError
    ),
    "gpu-driver": Code(
        "The GPU driver is missing or refused a call. Start the machine again.", UnavailableError
    ),
    "gpu-driver-mismatch": Code(
        "The GPU driver's library and kernel module differ in version. Build the image again.",
        UnavailableError,
    ),
    "gpu-firmware-missing": Code(
        "The firmware for the loaded GPU driver is missing. Build the image again.",
        UnavailableError,
    ),
    "gpu-not-held": Code(
        "No process keeps the GPUs open after their attestation. Read the console.",
        UnavailableError,
    ),
    "gpu-not-production": Code(
        "The GPUs are not in the production environment. Set it on the host.", PolicyError
    ),
    "gpu-protected-pcie": Code(
        "The GPUs are in protected PCIe mode, which is not supported. Set another mode.",
        PolicyError,
    ),
    "gpu-ready-state": Code(
        "The driver does not change whether the GPUs take work. Start the machine again.",
        UnavailableError,
    ),
    "gpu-service": Code(
        "The service that attests GPUs is unreachable. Read the console.", UnavailableError
    ),
    "gpu-unsupported": Code("The architecture of a GPU is not supported.", PolicyError),
    "gpus-taken": Code(
        "The models before this one leave no room on the GPUs. Serve fewer models.", ConfigError
    ),
    "key-exists": Code("There is a key with this id. Make a new key.", PolicyError, status=409),
    "mesh-changed": Code(
        "The coordinator has another mesh than this machine. If it stays so, the machine ends.",
        VerificationError,
    ),
    "model-mismatch": Code(
        "The body of the request names another model than its header.", PolicyError
    ),
    "model-not-allowed": Code("The key or the role is not allowed to use this model.", PolicyError),
    "model-not-for-role": Code(
        "The manifest does not let this role serve this model.", PolicyError
    ),
    "model-not-served": Code("This worker does not serve this model.", PolicyError),
    "model-too-large": Code(
        "The model does not fit into the memory. Give it more GPUs or more memory.", ConfigError
    ),
    "no-attester": Code(
        "The attestation service is unreachable. Read the console.", UnavailableError
    ),
    "no-binding": Code(
        "The machine does not know the manifest that it was launched for. Start it anew.",
        ConfigError,
    ),
    "no-certificate": Code("The peer showed no certificate.", VerificationError),
    "no-config": Code("The machine has no config disk. Start it with `confide run`.", ConfigError),
    "no-coordinator": Code(
        "The config disk of a node names no coordinator. Start it with --coordinator.", ConfigError
    ),
    "no-event-log": Code(
        "The firmware's event log cannot be read. Boot with UEFI firmware that measures.",
        UnavailableError,
    ),
    "no-gpu": Code("There is no NVIDIA GPU. Pass one through to the machine.", UnavailableError),
    "no-models": Code("The config disk of a worker names no model.", ConfigError),
    "no-platform": Code(
        "This machine cannot be attested. Start it with `confide run` or give it a vTPM.",
        UnavailableError,
    ),
    "no-tdreport": Code(
        "The TDX module makes no report for the machine. Start the machine again.", UnavailableError
    ),
    "no-tpm": Code("The TPM cannot be opened. Give the machine a TPM.", UnavailableError),
    "no-tsm-report": Code(
        "The kernel gives no attestation report. Check that configfs is mounted.", UnavailableError
    ),
    "none-refused": Code(
        "The coordinator has refused no machine's evidence yet.", UnavailableError, status=404
    ),
    "not-attested": Code(
        "The node is not a member of the mesh now. Wait until it has joined.", UnavailableError
    ),
    "other-manifest": Code(
        "A program of this machine named another manifest than its own. Start it again.",
        VerificationError,
    ),
    "platform-unsupported": Code(
        "The kernel cannot attest this confidential VM. Boot one with configfs-tsm.",
        UnavailableError,
    ),
    "registers-changing": Code(
        "The registers of the TPM changed during each quote. Wait until the boot is complete.",
        UnavailableError,
    ),
    "replay": Code("The request was sent before. Seal it again.", PolicyError),
    "role-not-allowed": Code("A coordinator does not join a mesh.", PolicyError),
    "secret-service-unreachable": Code(
        "The secret service is unreachable. Check that it runs in the same mesh.", UnavailableError
    ),
    "stale-nonce": Code(
        "The evidence does not answer an open challenge. Ask for a new challenge.",
        VerificationError,
    ),
    "stale-report": Code(
        "The hardware's report is not the one that was asked for. Start the machine again.",
        VerificationError,
    ),
    "too-few-gpus": Code("The model needs more GPUs than the machine has.", ConfigError),
    "too-many-attestations": Code(
        "Too many clients wait for the coordinator's evidence. Try again in a moment.",
        UnavailableError,
        status=429,
        retry_after=2,
    ),
    "too-many-keys": Code(
        "The service holds as many keys as it can, or as many of one sender. Try again later.",
        UnavailableError,
        status=429,
        retry_after=60,
    ),
    "too-many-look-ups": Code(
        "The worker looks up as many new keys as it can. Try again in a moment.",
        UnavailableError,
        retry_after=1,
    ),
    "too-many-uploads": Code(
        "Another client is uploading collateral. Try again in a moment.",
        UnavailableError,
        status=429,
        retry_after=2,
    ),
    "tpm-not-provisioned": Code(
        "The TPM lacks its attestation key or certificate. Start the machine with `confide run`.",
        UnavailableError,
    ),
    "tsm-busy": Code(
        "The kernel gave no attestation report in time. Try again later.", UnavailableError
    ),
    "tsm-provider": Code(
        "The kernel's attestation reports are of another kind than before.", UnavailableError
    ),
    "unknown-key": Code(
        "The key does not exist or has expired. Exchange a new key.", PolicyError, status=404
    ),
    "wrong-certificate": Code(
        "The coordinator's certificate is not the requested one.", VerificationError
    ),
    "wrong-model-disk": Code(
        "No disk holds this model. Attach the disk that the manifest names.", VerificationError
    ),
}
