"""Answers of Intel's service, as recorded by others, make collateral that verifies a real quote.

Data: go-tdx-guest (bodies of 2023, and the issuer chains of their headers, decoded), trustee.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote as url_encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.errors import FormatError
from confide.vendors.intel.collateral import TcbInfo, TdxCollateral
from confide.vendors.intel.pcs import (
    CHAIN_HEADERS,
    Answer,
    Item,
    PckCa,
    Platform,
    collateral,
    urls,
)
from confide.vendors.intel.quote import Quote
from confide.verify.machine import PckChain
from tests.support.intel_certificates import issue
from tests.support.simulated_intel import SimulatedIntel
from tests.support.tdx_vectors import (
    COLLATERAL,
    STATUS,
    at,
    read_collateral,
    read_quote,
    verify_recorded,
)
from tests.support.verdicts import failed

PLATFORM = Platform(bytes.fromhex("50806f000000"), PckCa.PLATFORM)


@pytest.fixture
def answers(vectors: Path) -> dict[Item, Answer]:
    folder = vectors / "go-tdx-guest"

    def chain(name: str) -> str:
        return url_encode((folder / f"{name}_issuer_chain.pem").read_text())

    return {
        Item.TCB_INFO: Answer((folder / "sample_tcbInfo_response").read_bytes(), chain("tcb_info")),
        Item.QE_IDENTITY: Answer(
            (folder / "sample_qeIdentity_response").read_bytes(), chain("qe_identity")
        ),
        Item.PCK_CRL: Answer((folder / "pckcrl").read_bytes()),
        Item.ROOT_CRL: Answer((folder / "rootcrl.der").read_bytes()),
    }


def test_answers_make_the_collateral(vectors: Path, answers: dict[Item, Answer]) -> None:
    assert collateral(answers) == read_collateral(vectors, COLLATERAL[2])


def test_collateral_verifies(vectors: Path, answers: dict[Item, Answer]) -> None:
    """The quote is below every level and has VE, as stated; Intel's signatures hold."""
    quote = read_quote(vectors, "go-tdx-guest/tdx_prod_quote_SPR_E4.dat")
    verdict = verify_recorded(quote, collateral(answers), at(2023, 7, 1))
    assert failed(verdict) == [STATUS, "TD attributes: SEPT_VE_DISABLE"]


def platform_of(quote: Quote) -> Platform:
    chain = PckChain.parse(quote.pck_chain)
    return Platform.of(chain.certificates[0], chain.pck)


def test_what_to_ask_for(vectors: Path) -> None:
    quote = Quote.parse(read_quote(vectors, "go-tdx-guest/tdx_prod_quote_SPR_E4.dat"))
    assert platform_of(quote) == PLATFORM
    assert urls(PLATFORM, "https://cache.example") == {
        Item.TCB_INFO: "https://cache.example/tdx/certification/v4/tcb?fmspc=50806F000000&update=early",
        Item.QE_IDENTITY: "https://cache.example/tdx/certification/v4/qe/identity?update=early",
        Item.PCK_CRL: "https://cache.example/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
        Item.ROOT_CRL: "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der",
    }
    assert all(url.startswith("https://") for url in urls(PLATFORM).values())
    assert CHAIN_HEADERS.keys() == {Item.TCB_INFO, Item.QE_IDENTITY, Item.PCK_CRL}


def test_quote_of_an_unknown_ca() -> None:
    intel = SimulatedIntel()
    assert platform_of(Quote.parse(intel.quote())).ca is PckCa.PLATFORM
    intel.platform_ca = issue("Intel SGX PCK Processor CA", intel.root, ca=True)
    intel.pck = intel.issue_pck()
    assert platform_of(Quote.parse(intel.quote())).ca is PckCa.PROCESSOR
    intel.platform_ca = issue("Intel SGX PCK Other CA", intel.root, ca=True)
    intel.pck = intel.issue_pck()
    with pytest.raises(FormatError, match="a CA that Intel's service does not know"):
        platform_of(Quote.parse(intel.quote()))


def test_newer_answers_are_read(vectors: Path, answers: dict[Item, Answer]) -> None:
    for name in ("go-tdx-guest/sample_tcbinfo_response_v5", "trustee/tcbInfo.json"):
        newer = replace(answers[Item.TCB_INFO], body=(vectors / name).read_bytes())
        assert b"tdxModuleIdentities" in collateral(answers | {Item.TCB_INFO: newer}).tcb_info


@pytest.mark.parametrize("item", Item)
def test_missing_answer(answers: dict[Item, Answer], item: Item) -> None:
    del answers[item]
    with pytest.raises(FormatError, match=f"lacks the {item}"):
        collateral(answers)


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body[:-3],
        lambda body: b"<html>busy</html>",
        lambda body: body.replace(b'"signature":"', b'"signature":"0'),
        lambda body: body.replace(b'{"tcbInfo"', b'{"enclaveIdentity"'),
        lambda body: body.replace(b'{"tcbInfo"', b'{"more":1,"tcbInfo"'),
        lambda body: body.replace(b'"pceId":"0000"', b'"pceId":"00"'),
        lambda body: b"",
    ],
)
def test_answer_of_another_form(
    answers: dict[Item, Answer], change: Callable[[bytes], bytes]
) -> None:
    answer = answers[Item.TCB_INFO]
    answers[Item.TCB_INFO] = replace(answer, body=change(answer.body))
    with pytest.raises(FormatError):
        TcbInfo.parse(collateral(answers).tcb_info)


@pytest.mark.parametrize("chain", ["", "%", "not PEM", "%FF%00"])
def test_header_of_another_form(answers: dict[Item, Answer], chain: str) -> None:
    answers[Item.QE_IDENTITY] = replace(answers[Item.QE_IDENTITY], chain=chain)
    with pytest.raises(FormatError, match="chain of the QE identity"):
        collateral(answers)


def test_fmspc_of_another_size() -> None:
    with pytest.raises(FormatError, match="6 bytes"):
        urls(replace(PLATFORM, fmspc=b"\0" * 5))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.text(max_size=200))
def test_any_answer(body: bytes, chain: str) -> None:
    answer = Answer(b'{"tcbInfo":{' + body + b'},"signature":"' + b"0" * 128 + b'"}', chain)
    try:
        found = collateral(dict.fromkeys(Item, answer))
    except FormatError as error:
        assert str(error)
    else:
        assert isinstance(found, TdxCollateral)
