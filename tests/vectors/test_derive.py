"""The derived vectors: what makes each of them, on small inputs and on the published ones."""

from __future__ import annotations

import hashlib
import json
import struct
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.vectors import derive, sources

LISTED = sources.read()
DERIVED = {entry.path: entry for entry in LISTED.derived}


def given(folder: Path, path: str, data: bytes) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(data)


def made(folder: Path, path: str) -> Any:
    return json.loads(derive.make(path, folder))


def test_every_derived_file_is_made() -> None:
    assert derive.MAKERS.keys() == DERIVED.keys()


@pytest.mark.parametrize("path", DERIVED)
def test_as_recorded(vectors: Path, path: str) -> None:
    """The bytes that the list says; also where the folder's copy was made by another program."""
    try:
        data = derive.make(path, vectors)
    except derive.DeriveError as error:
        if "is absent" in str(error) and "/inputs/" in str(error):
            pytest.skip(f"{error}: `make vectors` fetches it")
        raise
    assert DERIVED[path].problem(data) is None


def test_an_absent_and_a_malformed_input(tmp_path: Path) -> None:
    with pytest.raises(derive.DeriveError, match=r"input .*report_milan\.hex is absent"):
        derive.make("virtee-sev/report_milan.bin", tmp_path)
    given(tmp_path, "virtee-sev/report_milan.hex", b"no hex")
    with pytest.raises(derive.DeriveError, match="an input is malformed"):
        derive.make("virtee-sev/report_milan.bin", tmp_path)


LAUNCHES = b"""
class Tests:
    def test_digest(self):
        known = 'aa'
        ld = guest.calc_launch_digest(
            SevMode.SEV_SNP, 2, cpus["EPYC"], "ovmf", None, None, "quiet", 0x21,
            snp_ovmf_hash_str=known)
        self.assertEqual(ld.hex(), 'bb' 'cc')

    def test_error(self):
        with self.assertRaises(RuntimeError) as c:
            guest.calc_launch_digest(SevMode.SEV, 1, None, folder / "ovmf", None, None, None, 0x1)
        self.assertEqual(str(c.exception), "no")

    def test_of_something_else(self):
        self.assertEqual(1, 1)
"""


def test_launches_of_a_test_program(tmp_path: Path) -> None:
    given(tmp_path, "inputs/sev-snp-measure/test_guest.py", LAUNCHES)
    common = {"kernel": None, "initrd": None}
    assert made(tmp_path, "sev-snp-measure/expected.json")["cases"] == [
        {
            "test": "test_digest",
            "asserts": ["bbcc"],
            "mode": "SevMode.SEV_SNP",
            "vcpus": 2,
            "vcpu_sig": "cpus['EPYC']",
            "ovmf": "ovmf",
            **common,
            "append": "quiet",
            "guest_features": 33,
            "snp_ovmf_hash_str": "aa",
            "expect": "digest",
        },
        {
            "test": "test_error",
            "asserts": ["no"],
            "mode": "SevMode.SEV",
            "vcpus": 1,
            "vcpu_sig": None,
            "ovmf": "folder / 'ovmf'",
            **common,
            "append": None,
            "guest_features": 1,
            "expect": "error",
        },
    ]


def guid_entry(name: str, data: bytes) -> bytes:
    return data + struct.pack("<H", len(data) + 18) + uuid.UUID(name).bytes_le


def image(size: int = 2 * derive.PAGE) -> bytes:
    """Firmware with SEV metadata of one section in front of its table of GUIDs."""
    metadata = struct.pack("<4sIII", b"ASEV", 28, 1, 1) + struct.pack("<III", 0x1000, 0x2000, 4)
    entries = guid_entry(derive.RESET_BLOCK, struct.pack("<I", 0x80B004))
    entries += guid_entry(derive.HASH_TABLE, struct.pack("<II", 0x10C00, 0x400))
    after = 32 + 18 + len(entries) + 22 + len(metadata)  # bytes from the metadata to the end
    entries += guid_entry(derive.SEV_METADATA, struct.pack("<I", after))
    footer = struct.pack("<H", len(entries) + 18) + uuid.UUID(derive.TABLE).bytes_le
    end = metadata + entries + footer + bytes(32)
    return bytes(size - len(end)) + end


def test_numbers_of_a_firmware_image(tmp_path: Path) -> None:
    for name in derive.IMAGES:
        given(tmp_path, f"inputs/sev-snp-measure/{name}", image())
    found = made(tmp_path, "sev-snp-measure/launch_metadata.json")["images"]
    assert list(found) == list(derive.IMAGES)
    one = found[derive.IMAGES[0]]
    digest = bytes(48)
    for page in (0, 1):
        content = image()[page * 4096 :][:4096]
        place = 2**32 - 8192 + page * 4096
        fields = bytes.fromhex("7000 01 00 00000000") + place.to_bytes(8, "little")
        digest = hashlib.sha384(digest + hashlib.sha384(content).digest() + fields).digest()
    assert one["ovmf_hash"] == digest.hex()
    assert one["asev_sections"] == [{"gpa": 0x1000, "size": 0x2000, "type": 4}]
    assert one["hash_table_rv"] == {"base": 0x10C00, "size": 0x400}
    assert (one["reset_eip"], one["gpa"]) == (0x80B004, "0xffffe000")


def log_event(register: int, kind: int, digests: dict[int, bytes], data: bytes = b"") -> bytes:
    parts = b"".join(struct.pack("<H", number) + value for number, value in digests.items())
    head = struct.pack("<III", register, kind, len(digests))
    return head + parts + struct.pack("<I", len(data)) + data


def test_a_log_is_replayed_up_to_its_unused_rest() -> None:
    header = struct.pack("<II20sI", 0, derive.NO_ACTION, bytes(20), 16) + b"Spec ID Event03\0"
    first, second = {11: b"\1" * 32, 12: b"\2" * 48}, {11: b"\3" * 32}
    log = header + log_event(4, 1, first, b"data") + log_event(4, 1, second)
    sha256, sha384 = bytes(32), hashlib.sha384(bytes(48) + first[12]).hexdigest()
    for value in (first[11], second[11]):
        sha256 = hashlib.sha256(sha256 + value).digest()
    expected = {"sha256": {"4": sha256.hex()}, "sha384": {"4": sha384}}
    ignored = log_event(4, derive.NO_ACTION, second)
    for events, rest in ((3, b""), (3, bytes(64)), (3, b"\xff" * 64), (4, ignored)):
        assert derive._replay(log + rest) == {"events": events, "replay": expected}


GO = b"""
var Rhel8GCE = eventLog{
	Banks: []register.PCRBank{
		makePCRBank(pb.HashAlgo_SHA1, map[uint32][]byte{
			0:  decodeHex("00aa"),
			14: decodeHex("00bb"),
		}),
	},
	ExpectedEFIAppDigests: map[pb.HashAlgo][]string{
		pb.HashAlgo_SHA256: {
			"00cc",
		},
	},
}

var Another = eventLog{
}
"""


def test_registers_of_a_test_program(tmp_path: Path) -> None:
    given(tmp_path, "inputs/go-eventlog/extract_test.go", GO)
    assert made(tmp_path, "go-eventlog/expected-pcrs.json") == {
        "rhel8-uefi.bin": {
            "pcrs": {"sha1": {"0": "00aa", "14": "00bb"}},
            "efi_app_digests": {"sha256": ["00cc"]},
        }
    }


def test_collateral_keeps_what_was_signed_as_it_was(tmp_path: Path) -> None:
    headers = [f"-----BEGIN%20CERTIFICATE-----%0A{name}%2B" for name in ("crl", "tcb", "qe")]
    source = "\n".join(f'\t"{header}",' for header in headers).encode()
    given(tmp_path, "inputs/go-tdx-guest/test_cases.go", source)
    given(tmp_path, "go-tdx-guest/rootcrl.der", b"\1")
    given(tmp_path, "go-tdx-guest/pckcrl", b"\2")
    tcb, identity = (
        b'{"tcbInfo":{"a":  1},"signature":"0a"}',
        b'{"enclaveIdentity":{},"signature":"0b"}\n',
    )
    given(tmp_path, "go-tdx-guest/sample_tcbInfo_response", tcb)
    given(tmp_path, "go-tdx-guest/sample_qeIdentity_response", identity)
    found = made(tmp_path, "go-tdx-guest/collateral_50806f000000.json")
    assert (found["tcb_info"], found["tcb_info_signature"]) == ('{"a":  1}', "0a")
    assert (found["qe_identity"], found["qe_identity_signature"]) == ("{}", "0b")
    assert (found["root_ca_crl"], found["pck_crl"]) == ("01", "02")
    for field, name in (("pck_crl", "crl"), ("tcb_info", "tcb"), ("qe_identity", "qe")):
        chain = f"-----BEGIN CERTIFICATE-----\n{name}+"
        assert found[f"{field}_issuer_chain"] == chain
        assert derive.make(f"go-tdx-guest/{field}_issuer_chain.pem", tmp_path) == chain.encode()
