"""Commands that provision a TPM: the bytes that are sent."""

from __future__ import annotations

from confide.host.runner import tpm_provisioning as commands


def test_shutdown_bytes() -> None:
    # TPM 2.0 Library, Part 3, 9.4: TPM_ST_NO_SESSIONS, size 12, TPM_CC_Shutdown, TPM_SU_CLEAR
    assert commands.shutdown().data == bytes.fromhex("8001 0000000c 00000145 0000")


def test_an_index_is_written_in_parts() -> None:
    sent: list[bytes] = []

    def exchange(command: bytes) -> bytes:
        sent.append(command)
        return bytes.fromhex("8002 00000013 00000000 00000000 0000010000")

    content = bytes(n % 251 for n in range(1300))
    commands.nv_create(exchange, 0x01C10000, content)
    define, *writes = sent
    assert define[6:10] == bytes.fromhex("0000012a")
    assert define[-2:] == (1300).to_bytes(2)
    assert [int.from_bytes(write[-2:]) for write in writes] == [0, 512, 1024]
    assert b"".join(write[33:-2] for write in writes) == content
