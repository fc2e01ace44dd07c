"""`confide gateway`: one address for a whole service. It is trusted with nothing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from confide.errors import ConfideError
from confide.host.gateway.access import Access
from confide.host.gateway.app import create_app
from confide.host.gateway.routing import Workers
from confide.net.http_client import STREAM_THREADS, Upstream
from confide.net.server import Service, serve

RELAY_SECONDS = 60.0
"""How long attestation may take; on an emulated machine it takes seconds."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: 0 after a stop, 1 on a named error."""
    parser = argparse.ArgumentParser(prog="confide gateway", description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:9000", metavar="HOST:PORT")
    parser.add_argument("--coordinator", required=True, metavar="URL")
    parser.add_argument("--secret-service", required=True, metavar="URL")
    parser.add_argument(
        "--worker", required=True, action="append", metavar="URL", help="may be given repeatedly"
    )
    parser.add_argument(
        "--api-keys",
        type=Path,
        metavar="FILE",
        help='JSON: {"NAME": {"sha256": HEX, "requests_per_minute": N}}; else no key is asked',
    )
    arguments = parser.parse_args(argv)
    try:
        coordinator = Upstream(arguments.coordinator, read_seconds=RELAY_SECONDS)
        secret_service = Upstream(arguments.secret_service, read_seconds=RELAY_SECONDS)
        access = Access.load(arguments.api_keys) if arguments.api_keys else None
        workers = Workers(arguments.worker)
    except ConfideError as error:
        print(f"confide gateway: {error.code}: {error}", file=sys.stderr)
        return 1
    print(f"gateway: http://{arguments.listen}, {len(arguments.worker)} worker(s)", flush=True)

    def factory() -> Service:
        workers.start()
        app = create_app(
            coordinator=coordinator, secret_service=secret_service, workers=workers, access=access
        )
        return Service(app)

    serve(factory, listen=arguments.listen, threads=STREAM_THREADS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
