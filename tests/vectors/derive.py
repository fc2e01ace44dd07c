"""Makes the recorded vectors that we derived from published files: `make vectors` calls this.

Nothing of this project is imported: what a test compares with must not come from the code that it
tests. `MAKERS` names each file. Each function takes the folder of vectors, in which its inputs
lie, and gives the file's bytes; sources.json has their SHA-256.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import struct
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

BANKS = {4: "sha1", 11: "sha256", 12: "sha384", 13: "sha512"}  # TCG algorithm identifiers
NO_ACTION = 3  # an event that extends no register
PAGE = 4096


class DeriveError(Exception):
    """An input does not have the form that its hash promises, or it is absent."""


def make(path: str, folder: Path) -> bytes:
    """The bytes of the derived vector `path`. DeriveError if an input is absent or malformed."""
    if path not in MAKERS:
        raise DeriveError(f"{path}: tests/vectors/derive.py cannot make it; add it to MAKERS")
    try:
        return MAKERS[path](folder)
    except FileNotFoundError as error:
        raise DeriveError(f"{path}: its input {error.filename} is absent") from None
    except (ValueError, KeyError, IndexError, struct.error) as error:
        raise DeriveError(f"{path}: an input is malformed: {error!r}") from error


# --- AMD ---------------------------------------------------------------------------------------


def milan_report(folder: Path) -> bytes:
    """The attestation report that virtee/sev publishes in hex."""
    return bytes.fromhex((folder / "virtee-sev/report_milan.hex").read_text())


def launch_cases(folder: Path) -> bytes:
    """The launches in sev-snp-measure's own tests: arguments, and the digest or error expected."""
    source = (folder / "inputs/sev-snp-measure/test_guest.py").read_text()
    tests = (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef))
    cases = [case for test in tests if (case := _launch_case(test))]
    value = {
        "_source": "virtee/sev-snp-measure tests/test_guest.py @ 8f2b337e (Apache-2.0)",
        "_note": "mechanically extracted; asserts = expected hex strings (launch digest) or the "
        "exception text when expect=error; /dev/null = empty file",
        "cases": cases,
    }
    return json.dumps(value, indent=1).encode()


_ARGUMENTS = ("mode", "vcpus", "vcpu_sig", "ovmf", "kernel", "initrd", "append", "guest_features")


def _launch_case(test: ast.FunctionDef) -> dict[str, Any]:
    """What one test function asserts of one call of calc_launch_digest; {} if it makes no call."""
    calls = [node for node in ast.walk(test) if isinstance(node, ast.Call)]
    launches = [call for call in calls if ast.unparse(call.func).endswith("calc_launch_digest")]
    if not launches:
        return {}
    texts = {
        node.targets[0].id: node.value.value
        for node in ast.walk(test)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        return texts.get(ast.unparse(node), ast.unparse(node))

    compared = [call.args[1] for call in calls if ast.unparse(call.func) == "self.assertEqual"]
    asserts = [node.value for node in compared if isinstance(node, ast.Constant)]
    (launch,) = launches
    # A launch with an SVSM has further positional arguments, which no test of ours needs.
    arguments = [*zip(_ARGUMENTS, launch.args, strict=False)]
    arguments += [(str(keyword.arg), keyword.value) for keyword in launch.keywords]
    fails = any(ast.unparse(call.func) == "self.assertRaises" for call in calls)
    return {
        "test": test.name,
        **({"asserts": asserts} if asserts else {}),
        **{name: value(node) for name, node in arguments},
        "expect": "error" if fails else "digest",
    }


IMAGES = ("ovmf_AmdSev_suffix.bin", "ovmf_OvmfX64_suffix.bin", "svsm_ovmf.fd")
END = 2**32  # where a firmware image ends in a guest's memory
TABLE = "96b582de-1fb2-45f7-baea-a366c55a082d"  # the footer of edk2's table of GUIDs
SEV_METADATA = "dc886566-984a-4798-a75e-5585a7bf67cc"
HASH_TABLE = "7255371f-3a3b-4b04-927b-1da6efa8d454"
RESET_BLOCK = "00f771de-1a7e-4fcb-890e-68c77e2fb44e"


def launch_metadata(folder: Path) -> bytes:
    """What a launch digest needs of each firmware image of sev-snp-measure's tests, as numbers."""
    value = {
        "_source": "derived from virtee/sev-snp-measure tests/fixtures @ 8f2b337e "
        "(edk2-stable202405 OVMF suffixes, 4 KiB; svsm_ovmf.fd); numbers only, so tests need no "
        "firmware binary",
        "images": {
            name: _image((folder / "inputs/sev-snp-measure" / name).read_bytes()) for name in IMAGES
        },
    }
    return json.dumps(value, indent=1).encode()


def _image(image: bytes) -> dict[str, Any]:
    """Digest of the image's pages, sections of its SEV metadata, and its table of GUIDs."""
    table = _guid_table(image)
    (offset,) = struct.unpack("<I", table[SEV_METADATA])
    start = len(image) - offset
    magic, _, _, count = struct.unpack_from("<4sIII", image, start)
    if magic != b"ASEV":
        raise ValueError("no SEV metadata")
    sections = [struct.unpack_from("<III", image, start + 16 + 12 * n) for n in range(count)]
    base, size = struct.unpack("<II", table[HASH_TABLE]) if HASH_TABLE in table else (0, 0)
    return {
        "size": len(image),
        "sha256": hashlib.sha256(image).hexdigest(),
        "gpa": hex(END - len(image)),
        "ovmf_hash": _pages(image).hex(),
        "asev_sections": [{"gpa": g, "size": s, "type": t} for g, s, t in sections],
        "hash_table_rv": {"base": base, "size": size},
        "reset_eip": int.from_bytes(table[RESET_BLOCK][:4], "little"),
        "table_guids": {name: data.hex() for name, data in sorted(table.items())},
    }


def _guid_table(image: bytes) -> dict[str, bytes]:
    """The entries of the table that ends 32 bytes before the image does: data, u16 size, GUID."""
    end = len(image) - 32
    name, size = _entry(image, end)
    if name != TABLE:
        raise ValueError("no table of GUIDs")
    start, end, found = end - size, end - 18, {}
    while end > start:
        name, size = _entry(image, end)
        found[name] = image[end - size : end - 18]
        end -= size
    return found


def _entry(image: bytes, end: int) -> tuple[str, int]:
    """GUID and size, in bytes, of the entry whose last byte is before `end`."""
    (size,) = struct.unpack_from("<H", image, end - 18)
    return str(uuid.UUID(bytes_le=image[end - 16 : end])), size


def _pages(image: bytes) -> bytes:
    """The launch digest after an image's pages (AMD's SNP firmware ABI, PAGE_INFO, 112 bytes)."""
    digest = bytes(48)
    for offset in range(0, len(image), PAGE):
        content = hashlib.sha384(image[offset : offset + PAGE]).digest()
        place = END - len(image) + offset
        info = digest + content + struct.pack("<HBxIQ", 112, 1, 0, place)
        digest = hashlib.sha384(info).digest()
    return digest


# --- Event logs --------------------------------------------------------------------------------

LOGS = (
    "go-eventlog/CCEL_unpadded.data.bin",
    "go-eventlog/coreos_36_shielded_vm_no_secure_boot_eventlog",
    "go-eventlog/cos-101-amd-sev.bin",
    "go-eventlog/cos-113-intel-tdx.bin",
    "go-eventlog/cos-85-amd-sev.bin",
    "go-eventlog/crypto_agile_eventlog",
    "go-eventlog/debian-10.bin",
    "go-eventlog/ebs_event_missing_eventlog",
    "go-eventlog/event_log.bin",
    "go-eventlog/option_rom_eventlog",
    "go-eventlog/rhel8-uefi.bin",
    "go-eventlog/sb_cert_eventlog",
    "go-eventlog/ubuntu-1804-amd-sev.bin",
    "go-eventlog/ubuntu-2104-no-secure-boot.bin",
    "go-eventlog/ubuntu_2104_shielded_vm_no_secure_boot_eventlog",
    "go-tdx-guest/ccel_data.dat",
    "trustee/CCEL_data",
    "trustee/CCEL_data_ovmf",
    "trustee/eventlog/CCEL_AAEL_alibabacloud",
    "trustee/eventlog/CCEL_data",
    "trustee/eventlog/CCEL_data_gcp",
    "trustee/eventlog/CCEL_data_grub",
    "trustee/eventlog/CCEL_data_ovmf",
)


def replays(folder: Path) -> bytes:
    """The registers that each recorded log leads to, in every bank that it has."""
    value = {name: _replay((folder / name).read_bytes()) for name in LOGS}
    return (json.dumps(value, indent=1) + "\n").encode()


def _replay(log: bytes) -> dict[str, Any]:
    """{"events": their number, "replay": {bank: {register: hex}}}, registers in order."""
    registers: dict[str, dict[int, bytes]] = {}
    count = 0
    for register, kind, digests in _events(log):
        count += 1
        if kind == NO_ACTION:
            continue
        for bank, digest in digests.items():
            values = registers.setdefault(bank, {})
            before = values.get(register, bytes(len(digest)))
            values[register] = hashlib.new(bank, before + digest).digest()
    replay = {
        bank: {str(number): value.hex() for number, value in sorted(values.items())}
        for bank, values in registers.items()
    }
    return {"events": count, "replay": replay}


def _events(log: bytes) -> Iterator[tuple[int, int, dict[str, bytes]]]:
    """Register, type and digests of each event (TCG PC Client Platform Firmware Profile, 10.2)."""
    register, kind, digest, size = struct.unpack_from("<II20sI", log)
    position = 32 + size
    header = log[32:position]
    agile = header.startswith(b"Spec ID Event03\0")
    yield register, kind, {"sha1": digest}
    while position + 8 <= len(log):
        register, kind = struct.unpack_from("<II", log, position)
        if (register, kind) in ((0, 0), (0xFFFFFFFF, 0xFFFFFFFF)):
            return  # the unused rest of the memory that held the log
        position += 8
        digests = {}
        (count,) = struct.unpack_from("<I", log, position) if agile else (1,)
        position += 4 if agile else 0
        for _ in range(count):
            (algorithm,) = struct.unpack_from("<H", log, position) if agile else (4,)
            position += 2 if agile else 0
            bank = BANKS[algorithm]
            length = hashlib.new(bank).digest_size
            digests[bank] = log[position : position + length]
            position += length
        (size,) = struct.unpack_from("<I", log, position)
        position += 4 + size
        yield register, kind, digests


# The log that each variable of go-eventlog's test is about.
GO_LOGS = {
    "Rhel8GCE": "rhel8-uefi.bin",
    "UbuntuAmdSevGCE": "ubuntu-1804-amd-sev.bin",
    "Ubuntu2104NoSecureBootGCE": "ubuntu-2104-no-secure-boot.bin",
    "Debian10GCE": "debian-10.bin",
    "COS85AmdSev": "cos-85-amd-sev.bin",
    "COS101AmdSev": "cos-101-amd-sev.bin",
}


def go_registers(folder: Path) -> bytes:
    """The registers that go-eventlog's own test expects of each log."""
    source = (folder / "inputs/go-eventlog/extract_test.go").read_text()
    value = {}
    for block in re.split(r"^var ", source, flags=re.MULTILINE)[1:]:
        name = block.split(" ", 1)[0]
        if name not in GO_LOGS:
            continue
        body = block.split("\n}\n", 1)[0]
        banks, _, applications = body.partition("ExpectedEFIAppDigests")
        value[GO_LOGS[name]] = {
            "pcrs": {
                bank.lower(): dict(re.findall(r'(\d+): +decodeHex\("([0-9a-f]+)"\)', text))
                for bank, text in re.findall(r"HashAlgo_(\w+), (.*?)\}\)", banks, re.DOTALL)
            },
            "efi_app_digests": {
                bank.lower(): re.findall('"([0-9a-f]+)"', text)
                for bank, text in re.findall(r"HashAlgo_(\w+): \{(.*?)\}", applications, re.DOTALL)
            },
        }
    return (json.dumps(value, indent=1) + "\n").encode()


# --- Intel's collateral ------------------------------------------------------------------------

CHAINS = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")


def issuer_chain(name: str, folder: Path) -> bytes:
    """PEM of the certificates that Intel's service put, URL-encoded, into a header."""
    source = (folder / "inputs/go-tdx-guest/test_cases.go").read_text()
    headers = re.findall('"(-----BEGIN%20CERTIFICATE[^"]+)"', source)
    return urllib.parse.unquote(headers[CHAINS.index(name)]).encode()


def collateral(tcb_info: str, folder: Path) -> bytes:
    """Intel's answers in go-tdx-guest as one JSON object, as dcap-qvl has it."""
    recorded = folder / "go-tdx-guest"
    chains = {name: issuer_chain(name, folder).decode() for name in CHAINS}
    tcb, tcb_signature = _signed((recorded / tcb_info).read_text(), "tcbInfo")
    identity, signature = _signed(
        (recorded / "sample_qeIdentity_response").read_text(), "enclaveIdentity"
    )
    value = {
        "pck_crl_issuer_chain": chains["pck_crl_issuer_chain"],
        "root_ca_crl": (recorded / "rootcrl.der").read_bytes().hex(),
        "pck_crl": (recorded / "pckcrl").read_bytes().hex(),
        "tcb_info_issuer_chain": chains["tcb_info_issuer_chain"],
        "tcb_info": tcb,
        "tcb_info_signature": tcb_signature,
        "qe_identity_issuer_chain": chains["qe_identity_issuer_chain"],
        "qe_identity": identity,
        "qe_identity_signature": signature,
    }
    return json.dumps(value, indent=1).encode()


def _signed(answer: str, name: str) -> tuple[str, str]:
    """The signed text of {NAME: text, "signature": hex}, as it stands there, and the signature."""
    start = len(f'{{"{name}":')
    end = answer.rindex(',"signature":')
    return answer[start:end], json.loads(answer)["signature"]


MAKERS: dict[str, Callable[[Path], bytes]] = {
    "eventlog-replays.json": replays,
    "go-eventlog/expected-pcrs.json": go_registers,
    "go-tdx-guest/collateral_50806f000000.json": partial(collateral, "sample_tcbInfo_response"),
    "go-tdx-guest/collateral_90c06f000000.json": partial(collateral, "sample_tcbinfo_response_v5"),
    **{f"go-tdx-guest/{name}.pem": partial(issuer_chain, name) for name in CHAINS},
    "sev-snp-measure/expected.json": launch_cases,
    "sev-snp-measure/launch_metadata.json": launch_metadata,
    "virtee-sev/report_milan.bin": milan_report,
}
