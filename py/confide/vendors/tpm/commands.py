"""The TPM 2.0 commands that attestation needs: request bytes and response parsers.

No I/O here: a `Command` is the bytes to send and a function that reads the answer, and `run` joins
the two over any exchange of bytes (a device, a socket, a recording). Commands that provision a TPM
are in host/runner/tpm_provisioning.py.

Source: TCG TPM 2.0 Library, Part 3 (Commands) and Part 1, 18.4 (sessions), rev. 1.59. Every
authorisation is the empty password: the TPM is not protected from the machine. It does not have to
be, because a verifier decides what a quote is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar

from confide.errors import UnavailableError
from confide.vendors.tpm.structures import (
    MAX_DIGEST,
    Alg,
    TpmReader,
    encode_pcr_selection,
    malformed,
    parse_pcr_selection,
    sized,
    u16,
    u32,
)

T = TypeVar("T")
Exchange = Callable[[bytes], bytes]

MAX_RESPONSE = 4096  # bytes; the buffer size of every PC client TPM
NV_CHUNK = 512  # bytes per NV_Read or NV_Write; TPMs allow at least this much
MAX_NV_SIZE = 4096  # bytes in one index
PCR_READ_MAX = 8  # values in one answer to PCR_Read

ST_NO_SESSIONS = 0x8001
ST_SESSIONS = 0x8002
RH_ENDORSEMENT = 0x4000000B
RS_PW = 0x40000009


class CommandCode(IntEnum):
    """TPM_CC, of the commands that attestation needs."""

    CREATE_PRIMARY = 0x131
    NV_READ = 0x14E
    QUOTE = 0x158
    FLUSH_CONTEXT = 0x165
    NV_READ_PUBLIC = 0x169
    PCR_READ = 0x17E
    PCR_EXTEND = 0x182


class ResponseCode(IntEnum):
    """TPM_RC without the bits that say which parameter, handle or session it is about."""

    SUCCESS = 0x000
    INITIALIZE = 0x100
    FAILURE = 0x101
    NV_RANGE = 0x146
    NV_SIZE = 0x147
    NV_LOCKED = 0x148
    NV_AUTHORIZATION = 0x149
    NV_UNINITIALIZED = 0x14A
    NV_SPACE = 0x14B
    NV_DEFINED = 0x14C
    COMMAND_SIZE = 0x142
    COMMAND_CODE = 0x143
    ATTRIBUTES = 0x082
    HASH = 0x083
    VALUE = 0x084
    HIERARCHY = 0x085
    MODE = 0x089
    TYPE = 0x08A
    HANDLE = 0x08B
    RANGE = 0x08D
    AUTH_FAIL = 0x08E
    SCHEME = 0x092
    SIZE = 0x095
    SYMMETRIC = 0x096
    SELECTOR = 0x098
    INSUFFICIENT = 0x09A
    BAD_AUTH = 0x0A2
    CURVE = 0x0A6
    OBJECT_MEMORY = 0x902
    SESSION_MEMORY = 0x903
    RETRY = 0x922
    LOCKOUT = 0x921


class TpmRefusedError(UnavailableError):
    """The TPM answered a command with an error; `response_code` is the TPM_RC as sent."""

    def __init__(self, command: IntEnum, response_code: int) -> None:
        super().__init__(
            "tpm-refused",
            f"the TPM refused {command.name}",
            expected="TPM_RC SUCCESS",
            seen=response_code_name(response_code),
        )
        self.response_code = response_code

    def is_(self, code: ResponseCode) -> bool:
        """Whether it is this error, whatever part of the command it is about."""
        return _base_code(self.response_code) == code


@dataclass(frozen=True)
class Command(Generic[T]):
    """One command: what to send, and how to read the parameters of the answer."""

    code: IntEnum
    data: bytes
    parse: Callable[[TpmReader], T]
    has_handle: bool = False  # the answer starts with a handle
    has_session: bool = False


def run(exchange: Exchange, command: Command[T]) -> T:
    """Sends `command` and returns what the TPM answered.

    Raises TpmRefusedError with the response code named, FormatError for a malformed answer.
    """
    reader = TpmReader(exchange(command.data), f"TPM answer to {command.code.name}", MAX_RESPONSE)
    tag = reader.number(2, "tag")
    size = reader.number(4, "size")
    code = reader.number(4, "response code")
    body = reader.rest()
    if size != 10 + len(body):
        raise malformed(reader.what, "size", f"{10 + len(body)}", str(size))
    if code:
        raise TpmRefusedError(command.code, code)
    expected_tag = ST_SESSIONS if command.has_session else ST_NO_SESSIONS
    if tag != expected_tag:
        raise malformed(reader.what, "tag", f"{expected_tag:#06x}", f"{tag:#06x}")
    return command.parse(_parameters(command, TpmReader(body, reader.what, MAX_RESPONSE)))


def _parameters(command: Command[T], body: TpmReader) -> TpmReader:
    """The handle and the parameters; with a session, a size stands between and an auth follows."""
    handle = body.take(4, "handle") if command.has_handle else b""
    if not command.has_session:
        parameters = body.rest()
    else:
        parameters = body.take(body.number(4, "parameter size"), "parameters")
        body.rest()  # the answer to a password session says nothing
    return TpmReader(handle + parameters, body.what, MAX_RESPONSE)


def response_code_name(code: int) -> str:
    """`NV_SIZE (0x147)`, `HANDLE for handle 1 (0x18b)`; a number without a name stays a number."""
    base = _base_code(code)
    try:
        name = ResponseCode(base).name
    except ValueError:
        return f"{code:#05x}"
    where = ""
    if code & 0x080:  # format one (Part 2, 6.6.2)
        number = code >> 8 & 0xF
        if code & 0x040:
            where = f" for parameter {number}"
        elif number & 0x8:
            where = f" for session {number & 0x7}"
        elif number:
            where = f" for handle {number}"
    return f"{name}{where} ({code:#05x})"


def _base_code(code: int) -> int:
    return code & 0x0BF if code & 0x080 else code


def create_primary(template: bytes) -> Command[tuple[int, bytes]]:
    """TPM2_CreatePrimary in the endorsement hierarchy -> (handle, TPMT_PUBLIC of the key).

    The same template gives the same key for as long as the TPM's endorsement seed stays.
    """
    parameters = (
        sized(sized(b"") + sized(b""))  # TPM2B_SENSITIVE_CREATE: no password, no data
        + sized(template)
        + sized(b"")  # no outside info
        + u32(0)  # no creation PCRs
    )

    def parse(reader: TpmReader) -> tuple[int, bytes]:
        handle = reader.number(4, "handle")
        public = reader.sized("public area", 1024)
        reader.rest()  # creation data, hash, ticket and name: not used
        return handle, public

    return authorised(
        CommandCode.CREATE_PRIMARY, [RH_ENDORSEMENT], parameters, parse, has_handle=True
    )


def flush_context(handle: int) -> Command[None]:
    """TPM2_FlushContext: the key's slot becomes free."""
    return plain(CommandCode.FLUSH_CONTEXT, u32(handle), TpmReader.end)


def quote(key: int, qualifying: bytes, pcrs: Iterable[int]) -> Command[tuple[bytes, bytes]]:
    """TPM2_Quote over SHA-256 registers -> (TPMS_ATTEST, TPMT_SIGNATURE), as signed."""
    if len(qualifying) > MAX_DIGEST:
        raise malformed("quote", "qualifying data", "at most 64 bytes", f"{len(qualifying)} bytes")
    parameters = sized(qualifying) + u16(Alg.NULL) + encode_pcr_selection(pcrs)

    def parse(reader: TpmReader) -> tuple[bytes, bytes]:
        return reader.sized("quoted", 1024), reader.rest()

    return authorised(CommandCode.QUOTE, [key], parameters, parse)


def pcr_read(pcrs: Iterable[int]) -> Command[dict[int, bytes]]:
    """TPM2_PCR_Read of the SHA-256 bank: the first eight (at most) of these registers."""

    def parse(reader: TpmReader) -> dict[int, bytes]:
        reader.number(4, "update counter")
        selected = sorted(parse_pcr_selection(reader))
        reader.exact(len(selected), 4, "number of values")
        values = {n: reader.sized(f"PCR {n}", 32) for n in selected}
        reader.end()
        return values

    return plain(CommandCode.PCR_READ, encode_pcr_selection(pcrs), parse)


def read_pcrs(exchange: Exchange, pcrs: Iterable[int]) -> dict[int, bytes]:
    """All of these registers, 32 bytes each, in as many commands as it takes."""
    wanted = sorted(set(pcrs))
    values: dict[int, bytes] = {}
    for start in range(0, len(wanted), PCR_READ_MAX):
        part = wanted[start : start + PCR_READ_MAX]
        seen = run(exchange, pcr_read(part))
        if sorted(seen) != part:
            raise malformed("TPM answer to PCR_READ", "registers", str(part), str(sorted(seen)))
        values |= seen
    return values


def pcr_extend(pcr: int, digest: bytes) -> Command[None]:
    """TPM2_PCR_Extend of the SHA-256 bank by a digest of 32 bytes."""
    digests = u32(1) + u16(Alg.SHA256) + digest
    return authorised(CommandCode.PCR_EXTEND, [pcr], digests, TpmReader.end)


def nv_size(index: int) -> Command[int]:
    """TPM2_NV_ReadPublic -> the index's size in bytes."""

    def parse(reader: TpmReader) -> int:
        public = TpmReader(reader.sized("public area", 256), reader.what)
        reader.sized("name", 2 + MAX_DIGEST)
        reader.end()
        public.exact(index, 4, "index")
        public.number(2, "name algorithm")
        public.number(4, "attributes")
        public.sized("policy", MAX_DIGEST)
        size = public.number(2, "data size")
        public.end()
        return size

    return plain(CommandCode.NV_READ_PUBLIC, u32(index), parse)


def nv_read(index: int, size: int, offset: int) -> Command[bytes]:
    """TPM2_NV_Read of at most NV_CHUNK bytes."""

    def parse(reader: TpmReader) -> bytes:
        data = reader.sized("data", size)
        reader.end()
        return data

    return authorised(CommandCode.NV_READ, [index, index], u16(size) + u16(offset), parse)


def nv_read_all(exchange: Exchange, index: int) -> bytes:
    """The whole content of an index. TpmRefusedError (HANDLE) if it is not defined."""
    size = run(exchange, nv_size(index))
    if size > MAX_NV_SIZE:
        raise malformed(f"NV index {index:#010x}", "size", f"at most {MAX_NV_SIZE}", str(size))
    data = b""
    while len(data) < size:
        part = run(exchange, nv_read(index, min(NV_CHUNK, size - len(data)), len(data)))
        if not part:
            raise malformed(f"NV index {index:#010x}", "data", f"{size} bytes", f"{len(data)}")
        data += part
    return data


def plain(code: IntEnum, body: bytes, parse: Callable[[TpmReader], T]) -> Command[T]:
    """A command without authorisation; `body` is handles and parameters."""
    return Command(code, u16(ST_NO_SESSIONS) + u32(10 + len(body)) + u32(code) + body, parse)


def authorised(
    code: IntEnum,
    handles: Sequence[int],
    parameters: bytes,
    parse: Callable[[TpmReader], T],
    *,
    has_handle: bool = False,
) -> Command[T]:
    """A command whose first handle is authorised by the empty password."""
    session = u32(RS_PW) + sized(b"") + b"\x00" + sized(b"")
    body = b"".join(map(u32, handles)) + u32(len(session)) + session + parameters
    data = u16(ST_SESSIONS) + u32(10 + len(body)) + u32(code) + body
    return Command(code, data, parse, has_handle=has_handle, has_session=True)
