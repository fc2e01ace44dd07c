"""The proxy as a program: verify the service behind a gateway, then serve on loopback."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from confide.client.collateral.finder import FindCollateral
from confide.client.proxy.app import create_app
from confide.client.proxy.completions import Completions
from confide.client.proxy.gateway import SETUP_SECONDS, Gateway
from confide.client.proxy.handshake import Handshake
from confide.client.proxy.session import Session
from confide.client.receipts import ReceiptFolder, keep_nothing
from confide.client.remarks import remarks
from confide.client.screen import Screen
from confide.client.service_verdict import ServiceVerdict
from confide.client.verdict_table import parties_table, verdict_table
from confide.net.calls import Caller
from confide.net.http_client import STREAMS, Upstream
from confide.net.loops import every, start_loop
from confide.net.server import Capacity, Service, listen_on, serve
from confide.protocol.frames import CLIENT_SILENCE
from confide.protocol.manifest import Manifest

FORGET_SECONDS = 5.0


@dataclass(frozen=True)
class Settings:
    """What the proxy is to do, checked.

    `listen` is what `loopback_address` returns, `opt_outs` are those that the person gave.
    `foreign` is what of the manifest is not of this client's release. Apps have to send
    `local_key`, unless it is "". `min_workers` is the fewest workers that the service has to show.
    """

    gateway: str
    listen: str
    manifest: bytes
    opt_outs: tuple[str, ...]
    foreign: tuple[str, ...]
    local_key: str
    api_key: str
    receipts: Path | None
    verbose: bool
    min_workers: int = 0


def run(settings: Settings, find_collateral: FindCollateral, console: Screen) -> None:
    """Verify, show what was verified, and serve until SIGTERM or SIGINT.

    Raises:
        ConfideError: The service is not verified, or the proxy cannot listen.
    """
    upstream = Upstream(settings.gateway, read_seconds=CLIENT_SILENCE, resends=False)
    manifest = Manifest.parse(settings.manifest)
    gateway = Gateway(
        Caller(settings.gateway), api_key=settings.api_key, manifest_sha256=manifest.sha256
    )
    reserve = ReceiptFolder(settings.receipts).reserve if settings.receipts else keep_nothing
    told: set[str] = set()

    def say(line: str) -> None:
        console.say(line)

    def tell() -> None:
        # At the start, and again each day shortly before the manifest expires.
        for line in remarks(manifest, settings.foreign, now=int(time.time())):
            if line not in told:
                told.add(line)
                say(line)

    handshake = Handshake(
        gateway,
        manifest=settings.manifest,
        find_collateral=find_collateral,
        clock=time.time,
        opt_outs=settings.opt_outs,
        min_workers=settings.min_workers,
    )
    # Before anything is sent: a port that is in use must not cost a handshake.
    listener = listen_on(settings.listen)

    def show(verdict: ServiceVerdict) -> None:
        tell()
        # Once at the start; later only what has failed.
        if not verdict.whole.checks or (verdict.passed and session.seconds_left()):
            return
        title = f"Verification of {upstream.url}"
        if settings.verbose:
            console.print(verdict_table(verdict.whole, title=title))
        else:
            console.print(parties_table(verdict, title=title))

    session = Session(lambda: handshake.run(show), report=say)
    tell()
    say(f"Connecting to {upstream.url}: at most {SETUP_SECONDS:.0f} s.")
    session.establish()

    def factory() -> Service:
        session.keep_fresh()
        completions = Completions(
            session,
            upstream,
            gateway,
            reserve_receipt=reserve,
            min_workers=settings.min_workers,
        )
        # A proxy that nobody uses keeps no key that opens what somebody has recorded.
        start_loop("the forgetting of keys", every(FORGET_SECONDS, completions.forget))
        service = Service(
            create_app(
                completions,
                session,
                manifest,
                is_foreign=bool(settings.foreign),
                local_key=settings.local_key,
            )
        )
        if manifest.mode == "development":
            say("DEVELOPMENT manifest: shows which images run, hides nothing from the host.")
        models = ", ".join(model.name for model in manifest.models)
        say(f"Verified. Models: {models}. OpenAI API: http://{settings.listen}/v1")
        return service

    serve(factory, listen=listener, capacity=Capacity(STREAMS, measured=True))
