"""`confide proxy`: verify the service behind a gateway, then serve the OpenAI API on loopback."""

from __future__ import annotations

import argparse
import ipaddress
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from confide.client.collateral.finder import add_collateral_options, make_finder
from confide.client.proxy.app import create_app
from confide.client.proxy.completions import Completions
from confide.client.proxy.handshake import Handshake
from confide.client.proxy.session import Session
from confide.client.verdict_table import verdict_table
from confide.errors import ConfideError, ConfigError
from confide.net.http_client import STREAM_THREADS, Upstream
from confide.net.server import Service, serve
from confide.protocol.manifest import MAX_MANIFEST
from confide.verify.verdict import Verdict


@dataclass(frozen=True)
class Settings:
    """What the command line says, checked."""

    gateway: str
    listen: str
    manifest: bytes
    api_key: str
    receipts: Path | None
    collateral: Path | None
    online: bool


def parse_arguments(argv: Sequence[str] | None) -> Settings:
    """Read the command line. Raises ConfigError; argparse itself exits, for --help say."""
    parser = argparse.ArgumentParser(prog="confide proxy", description=__doc__)
    parser.add_argument("--gateway", required=True, metavar="URL", help="where the service is")
    parser.add_argument(
        "--listen", default="127.0.0.1:8080", metavar="HOST:PORT", help="a loopback address"
    )
    parser.add_argument(
        "--manifest",
        default=os.environ.get("CONFIDE_MANIFEST"),
        metavar="FILE",
        help="the manifest to insist on (default: the one this proxy was built with)",
    )
    parser.add_argument("--api-key-file", type=Path, metavar="FILE", help="key for the gateway")
    parser.add_argument("--receipts", type=Path, metavar="DIR", help="keep every receipt here")
    add_collateral_options(parser)
    arguments = parser.parse_args(argv)
    if not arguments.manifest:
        raise ConfigError(
            "no-manifest",
            "there is no manifest to compare the service with",
            next="give --manifest FILE, or use the proxy that the flake builds",
        )
    return Settings(
        gateway=arguments.gateway,
        listen=loopback(arguments.listen),
        manifest=_read(Path(arguments.manifest), "manifest", MAX_MANIFEST),
        api_key=_api_key(arguments.api_key_file),
        receipts=arguments.receipts,
        collateral=arguments.collateral,
        online=not arguments.offline,
    )


def loopback(listen: str) -> str:
    """`listen` with its host as a number. Raises ConfigError unless it is a loopback address."""
    host, _, port = listen.rpartition(":")
    number = "127.0.0.1" if host == "localhost" else host.strip("[]")
    try:
        fits = ipaddress.ip_address(number).is_loopback and 0 < int(port) < 65536
    except ValueError:
        fits = False
    if not fits:
        raise ConfigError(
            "not-loopback",
            "the proxy listens on loopback only: whoever reaches it can use it",
            expected="127.0.0.1:PORT, localhost:PORT or [::1]:PORT",
            seen=listen,
        )
    return f"[{number}]:{port}" if ":" in number else f"{number}:{port}"


def _read(path: Path, what: str, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ConfigError(
            "unreadable-file", f"the {what} cannot be read", seen=f"{path}: {error.strerror}"
        ) from error
    if not data or len(data) > limit:
        raise ConfigError(
            "bad-file", f"the {what} has an impossible size", expected=f"1 to {limit} bytes"
        )
    return data


def _api_key(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        key = _read(path, "API key", 4096).decode("ascii").strip()
    except UnicodeDecodeError:
        key = ""
    if not key or not key.isprintable() or " " in key:
        raise ConfigError("bad-file", "the API key file holds no key", expected="one line, ASCII")
    return key


def receipt_keeper(folder: Path | None) -> Callable[[bytes, bytes], None]:
    """What keeps a verified receipt: a file TIME-REQUESTHASH.cbor in `folder`, or nothing."""
    if folder is None:
        return lambda _request_sha256, _receipt: None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            "bad-receipts", "the folder for receipts cannot be made", seen=str(error)
        ) from error

    def keep(request_sha256: bytes, receipt: bytes) -> None:
        name = f"{int(time.time())}-{request_sha256.hex()}.cbor"
        (folder / name).write_bytes(receipt)

    return keep


def run(settings: Settings, console: Console) -> None:
    """Verify, show what was verified, serve. Raises ConfideError if the service is not verified."""
    gateway = Upstream(settings.gateway)
    keep_receipt = receipt_keeper(settings.receipts)

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False)

    handshake = Handshake(
        gateway,
        manifest=settings.manifest,
        api_key=settings.api_key,
        find_collateral=make_finder(settings.collateral, online=settings.online, report=say),
        clock=time.time,
    )

    def show(verdict: Verdict) -> None:
        # Once at the start; later only what has failed.
        if verdict.checks and not (verdict.passed and session.seconds_left()):
            console.print(verdict_table(verdict, title=f"Verification of {gateway.url}"))

    session = Session(lambda: handshake.run(show), report=say)
    established = session.establish()
    manifest = established.manifest
    if manifest.mode == "development":
        say("DEVELOPMENT manifest: it shows which images run, and hides nothing from their host.")
    models = ", ".join(model.name for model in manifest.models)
    say(f"Verified. Models: {models}. OpenAI API: http://{settings.listen}/v1")

    def factory() -> Service:
        session.keep_fresh()
        completions = Completions(
            session, gateway, api_key=settings.api_key, keep_receipt=keep_receipt
        )
        return Service(create_app(completions, session))

    serve(factory, listen=settings.listen, threads=STREAM_THREADS)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: 0 after a stop, 1 on a named error."""
    # A wide table in a file or a pipe stays readable; a terminal has its own width.
    console = Console(width=None if sys.stdout.isatty() else 160)
    try:
        run(parse_arguments(argv), console)
    except ConfideError as error:
        console.print(f"confide proxy: {error.code}: {error}", markup=False, highlight=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
