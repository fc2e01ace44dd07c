"""Commands to a scripted TPM: what is sent, and which answers are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from confide.errors import FormatError
from confide.vendors.tpm import commands
from confide.vendors.tpm.commands import CommandCode, ResponseCode, TpmRefusedError, run
from confide.vendors.tpm.structures import encode_pcr_selection


def answer(parameters: bytes = b"", *, code: int = 0, sessions: bool = False) -> bytes:
    """A well-formed answer."""
    if sessions and not code:
        parameters = len(parameters).to_bytes(4) + parameters + b"\0\0\1\0\0"
    tag = 0x8002 if sessions and not code else 0x8001
    size = 10 + len(parameters)
    return tag.to_bytes(2) + size.to_bytes(4) + code.to_bytes(4) + parameters


def always(data: bytes) -> Callable[[bytes], bytes]:
    return lambda _: data


def test_quote_bytes() -> None:
    data = commands.quote(0x80000000, b"n" * 32, range(16)).data
    assert data == bytes.fromhex(
        "8002 00000049 00000158 80000000"
        "00000009 40000009 0000 00 0000"  # one password session, empty password
        "0020" + "6e" * 32 + "0010 00000001 000b 03 ffff00"
    )
    assert len(data) == int.from_bytes(data[2:6])


def test_pcr_extend_bytes() -> None:
    assert commands.pcr_extend(15, b"d" * 32).data == bytes.fromhex(
        "8002 00000041 00000182 0000000f00000009 40000009 0000 00 000000000001 000b" + "64" * 32
    )
    run(always(answer(sessions=True)), commands.pcr_extend(15, b"d" * 32))


def test_quote_of_too_much_data_is_refused() -> None:
    with pytest.raises(FormatError, match="qualifying data"):
        commands.quote(0x80000000, bytes(65), [0])


def test_refusal_names_command_and_code() -> None:
    expected = r"NV_READ_PUBLIC.*HANDLE for handle 1 \(0x18b\)"
    with pytest.raises(TpmRefusedError, match=expected) as e:
        run(always(answer(code=0x18B)), commands.nv_size(0x01C10000))
    assert e.value.is_(ResponseCode.HANDLE)
    assert not e.value.is_(ResponseCode.VALUE)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (0x100, "INITIALIZE (0x100)"),
        (0x14C, "NV_DEFINED (0x14c)"),
        (0x1C4, "VALUE for parameter 1 (0x1c4)"),
        (0x2D5, "SIZE for parameter 2 (0x2d5)"),
        (0x98E, "AUTH_FAIL for session 1 (0x98e)"),
        (0x922, "RETRY (0x922)"),
        (0x17F, "0x17f"),
    ],
)
def test_response_code_names(code: int, name: str) -> None:
    assert commands.response_code_name(code) == name


@pytest.mark.parametrize(
    "data",
    [
        b"",
        answer()[:9],
        answer() + b"\0",  # more bytes than the size says
        answer(b"\0"),  # parameters where none belong
        b"\x80\x02" + answer()[2:],  # sessions that nobody opened
    ],
)
def test_malformed_answers_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError, match="FLUSH_CONTEXT"):
        run(always(data), commands.flush_context(0x80000000))


def test_answer_without_the_session_that_was_opened_is_refused() -> None:
    with pytest.raises(FormatError, match="tag"):
        run(always(answer(b"\0\4abcd")), commands.nv_read(0x01C10000, 4, 0))


def test_nv_read_takes_no_more_than_asked_for() -> None:
    command = commands.nv_read(0x01C10000, 4, 0)
    assert run(always(answer(b"\0\4abcd", sessions=True)), command) == b"abcd"
    with pytest.raises(FormatError, match="data"):
        run(always(answer(b"\0\5abcde", sessions=True)), command)


def nv_public(index: int, size: int) -> bytes:
    public = index.to_bytes(4) + b"\0\x0b" + bytes(4) + b"\0\0" + size.to_bytes(2)
    return answer(len(public).to_bytes(2) + public + b"\0\0")


def test_nv_public_of_another_index_is_refused() -> None:
    with pytest.raises(FormatError, match="index"):
        run(always(nv_public(0x01C10001, 5)), commands.nv_size(0x01C10000))


@pytest.mark.parametrize("size", [1, 512, 513, 1300])
def test_nv_read_all_joins_the_parts(size: int) -> None:
    content = bytes(n % 251 for n in range(size))

    def exchange(command: bytes) -> bytes:
        if int.from_bytes(command[6:10]) == CommandCode.NV_READ_PUBLIC:
            return nv_public(0x01C10000, size)
        count, offset = int.from_bytes(command[-4:-2]), int.from_bytes(command[-2:])
        part = content[offset : offset + count]
        return answer(len(part).to_bytes(2) + part, sessions=True)

    assert commands.nv_read_all(exchange, 0x01C10000) == content


def test_nv_read_all_ends_with_a_tpm_that_gives_nothing() -> None:
    replies = iter([nv_public(0x01C10000, 600), answer(b"\0\0", sessions=True)])
    with pytest.raises(FormatError, match="600 bytes"):
        commands.nv_read_all(lambda _: next(replies), 0x01C10000)


def test_nv_read_all_refuses_an_index_that_is_too_large() -> None:
    with pytest.raises(FormatError, match="at most 4096"):
        commands.nv_read_all(always(nv_public(0x01C10000, 5000)), 0x01C10000)


def pcr_values(pcrs: list[int]) -> bytes:
    values = b"".join(b"\0\x20" + bytes([n]) * 32 for n in sorted(pcrs))
    return answer(bytes(4) + encode_pcr_selection(pcrs) + len(pcrs).to_bytes(4) + values)


def test_read_pcrs_asks_for_eight_at_a_time() -> None:
    replies = iter([pcr_values(list(range(8))), pcr_values(list(range(8, 16))), pcr_values([23])])
    seen = commands.read_pcrs(lambda _: next(replies), [*range(16), 23])
    assert seen == {n: bytes([n]) * 32 for n in [*range(16), 23]}


def test_read_pcrs_refuses_values_of_other_registers() -> None:
    with pytest.raises(FormatError, match="registers"):
        commands.read_pcrs(always(pcr_values([0, 2])), [0, 1])
