"""A software TPM for one machine, provisioned as a cloud provisions its virtual TPMs.

Every start makes a new TPM: new seeds, a new attestation key, a new certificate. The sockets are
inherited pairs, so no other program on this computer can reach the TPM.
"""

from __future__ import annotations

import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from confide.errors import UnavailableError
from confide.host.development_ca import development_ca_certificate, issue_ak_certificate
from confide.host.runner.processes import ProcessGroup
from confide.host.runner.tpm_provisioning import nv_create, pcr_allocate_sha256, shutdown
from confide.vendors.tpm.commands import MAX_RESPONSE, create_primary, flush_context, run
from confide.vendors.tpm.structures import AK_ISSUER_NV, AK_TEMPLATE, ECC_AK, EccPublic

ANSWER_SECONDS = 20.0
EXIT_SECONDS = 10.0


class SwtpmConnection:
    """A software TPM without a machine; `exchange` sends a command to it."""

    def __init__(self, program: Path, state: Path, group: ProcessGroup, log: Path) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(ANSWER_SECONDS)
        with theirs:
            self._process = group.start(
                [
                    *_arguments(program, state),
                    "--fd",
                    str(theirs.fileno()),
                    "--flags",
                    "not-need-init,startup-clear",
                ],
                log=log,
                pass_fds=[theirs.fileno()],
            )
        self._log = log

    def exchange(self, command: bytes) -> bytes:
        """Send a command, and return the answer. Raises UnavailableError if the TPM is gone."""
        try:
            self._socket.sendall(command)
            answer = self._socket.recv(MAX_RESPONSE)
        except OSError as error:
            raise self._gone(str(error)) from error
        if not answer:
            raise self._gone("closed connection")
        return answer

    def close(self) -> None:
        """Shut the TPM down so that it keeps its state, and wait for its end."""
        run(self.exchange, shutdown())
        self._socket.close()
        try:
            self._process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise self._gone(
                "still running", expected=f"its end within {EXIT_SECONDS:.0f} s"
            ) from error

    def _gone(self, seen: str, *, expected: str = "an answer") -> UnavailableError:
        return UnavailableError(
            "swtpm-failed",
            "the software TPM failed",
            expected=expected,
            seen=seen,
            next=f"read {self._log}",
        )


def provision(program: Path, state: Path, group: ProcessGroup, log: Path) -> None:
    """Make a new TPM in the empty folder `state`, with an attestation key and its certificates."""
    tpm = SwtpmConnection(program, state, group, log)
    # The firmware hashes everything once for each bank
    run(tpm.exchange, pcr_allocate_sha256())
    handle, public = run(tpm.exchange, create_primary(AK_TEMPLATE))
    run(tpm.exchange, flush_context(handle))
    certificate = issue_ak_certificate(_ec_key(EccPublic.parse(public)), datetime.now(UTC))
    nv_create(tpm.exchange, ECC_AK.template, AK_TEMPLATE)
    nv_create(tpm.exchange, ECC_AK.certificate, certificate)
    nv_create(tpm.exchange, AK_ISSUER_NV, development_ca_certificate())
    tpm.close()


def serve_machine(program: Path, state: Path, group: ProcessGroup, log: Path) -> socket.socket:
    """Start the TPM of a machine, and return QEMU's end of the control connection.

    The TPM ends with QEMU.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        control = f"type=unixio,clientfd={theirs.fileno()}"
        group.start(
            [*_arguments(program, state), "--ctrl", control],
            log=log,
            pass_fds=[theirs.fileno()],
        )
    return ours


def _arguments(program: Path, state: Path) -> list[str]:
    return [
        str(program),
        "socket",
        "--tpm2",
        "--terminate",
        "--tpmstate",
        f"dir={state},mode=0600",
    ]


def _ec_key(public: EccPublic) -> ec.EllipticCurvePublicKey:
    numbers = ec.EllipticCurvePublicNumbers(
        int.from_bytes(public.x), int.from_bytes(public.y), ec.SECP256R1()
    )
    return numbers.public_key()
