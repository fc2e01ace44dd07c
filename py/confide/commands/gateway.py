"""`confide gateway`: serve one address for a whole service. Nobody trusts it."""

from __future__ import annotations

import argparse
from pathlib import Path

from confide.commands.status import ExitStatus
from confide.encoding.console import show
from confide.host.gateway.access import Access
from confide.host.gateway.app import APART, create_app
from confide.host.gateway.clocks import Clocks
from confide.host.gateway.routing import Workers
from confide.host.gateway.secret_services import SecretServices
from confide.net.http_client import STREAMS, Upstream
from confide.net.server import Capacity, Service, listen_on, serve

RELAY_SECONDS = 60.0
"""How long attestation may take; an emulated machine needs seconds."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = """\
Serves one address for a coordinator, secret services and workers. Nobody has to trust
the gateway: it sees no prompt and no answer."""
    parser.add_argument(
        "--listen",
        default="127.0.0.1:9000",
        metavar="HOST:PORT",
        help="where clients reach it (default: %(default)s)",
    )
    parser.add_argument(
        "--coordinator", required=True, metavar="URL", help="the coordinator's address"
    )
    parser.add_argument(
        "--secret-service",
        required=True,
        action="append",
        metavar="URL",
        help="a secret service's address; repeat it for more, up to 8",
    )
    parser.add_argument(
        "--worker",
        required=True,
        action="append",
        metavar="URL",
        help="a worker's address; repeat it for more",
    )
    parser.add_argument(
        "--api-keys",
        type=Path,
        metavar="FILE",
        help='JSON {"NAME": {"sha256": HEX, "requests_per_minute": N}} (default: admit everybody)',
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> ExitStatus:
    coordinator = Upstream(options.coordinator, read_seconds=RELAY_SECONDS)
    secret_services = SecretServices(options.secret_service)
    access = Access.load(options.api_keys) if options.api_keys else None
    workers = Workers(options.worker)
    clocks = Clocks(
        {"coordinator": options.coordinator}
        | _numbered("secret-service", options.secret_service)
        | _numbered("worker", options.worker)
    )
    listener = listen_on(options.listen)

    def factory() -> Service:
        secret_services.start()
        workers.start()
        clocks.start()
        app = create_app(
            coordinator=coordinator,
            secret_services=secret_services,
            workers=workers,
            access=access,
            clock_skew=clocks.skew,
        )
        show(f"gateway: http://{options.listen}, {len(options.worker)} worker(s)")
        return Service(app)

    serve(factory, listen=listener, capacity=Capacity(STREAMS, APART, measured=True))
    return ExitStatus.PASSED


def _numbered(name: str, urls: list[str]) -> dict[str, str]:
    return {f"{name}-{number}": url for number, url in enumerate(urls, start=1)}
