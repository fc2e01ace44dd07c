"""`confide demo`: boot the whole service here, ask it one question, show what was verified.

Everything is real but the TPM, which is a program of this host: see docs/threat-model.md.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from confide.client.screen import Screen
from confide.commands.status import ExitStatus
from confide.commands.system import Build, System
from confide.encoding.console import show
from confide.errors import UnavailableError
from confide.host.runner.qemu import Tools

QUESTION = "Who can read this question?"
BUILD_OUTPUTS = {
    "images": "folder of images",
    "model": "folder of the model disk",
    "manifest": "manifest to give to the coordinator and to pin",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = """\
Boots the whole service on this computer, verifies it, and asks it one question. Everything
is real but the TPM, which is a program on this computer."""
    parser.add_argument("--once", action="store_true", help="stop after the first answer")
    parser.add_argument(
        "--verbose", action="store_true", help="show every check, not one line for each party"
    )
    parser.add_argument(
        "--listen",
        default="127.0.0.1:8080",
        metavar="HOST:PORT",
        help="where the proxy listens (default: %(default)s)",
    )
    parser.add_argument(
        "--run-dir", type=Path, metavar="DIR", help="for consoles and logs (default: a new one)"
    )
    for name, what in BUILD_OUTPUTS.items():
        default = os.environ.get(f"CONFIDE_{name.upper()}")
        parser.add_argument(
            f"--{name}",
            type=Path,
            metavar="PATH",
            default=default,
            required=default is None,
            help=f"{what} (`nix run .#demo` sets it)",
        )
    parser.set_defaults(run=_run)


class Steps:
    """Prints each step with the seconds since the start, and how long each took."""

    def __init__(self, console: Screen) -> None:
        self._console, self._start = console, time.monotonic()
        self._took: list[tuple[str, float]] = []

    def say(self, text: str) -> None:
        """Print one line, with the seconds since the start."""
        self._console.print(
            f"[dim]{time.monotonic() - self._start:6.1f} s[/dim]  {text}", highlight=False
        )

    @contextmanager
    def step(self, name: str, text: str) -> Iterator[None]:
        """Announce one step with `text`, and time it under `name`."""
        self.say(text)
        start = time.monotonic()
        yield
        self._took.append((name, time.monotonic() - start))

    def summary(self) -> str:
        """The seconds of each step so far, and of all, in one line."""
        took = [*self._took, ("in all", time.monotonic() - self._start)]
        return "Seconds: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in took)


def ask(proxy_url: str, model: str, console: Screen) -> str:
    """Ask through the unmodified `openai` package and print the answer as it streams."""
    from openai import OpenAI  # only the demo needs it

    client = OpenAI(base_url=f"{proxy_url}/v1", api_key="unused", max_retries=0, timeout=300)
    stream = client.chat.completions.create(
        model=model, stream=True, messages=[{"role": "user", "content": QUESTION}]
    )
    console.print(f"[bold]you[/bold]    {QUESTION}", highlight=False)
    console.print("[bold]model[/bold]  ", end="")
    answer = ""
    for chunk in stream:
        text = (chunk.choices[0].delta.content or "") if chunk.choices else ""
        answer += text
        console.print(text, end="", highlight=False, markup=False)
    console.print()
    return answer


def run(
    build: Build, run_dir: Path, *, listen: str, verbose: bool, once: bool, console: Screen
) -> None:
    """Boot, verify and ask; then wait for Ctrl-C unless `once`."""
    steps = Steps(console)
    with ExitStack() as stack:
        with steps.step("boot", f"booting three machines; consoles and logs are in {run_dir}"):
            system = stack.enter_context(System(build, run_dir, progress=steps.say))
        with steps.step("gateway", "starting the gateway"):
            gateway = system.start_gateway()
        with steps.step("verify", "starting the proxy: it verifies the service"):
            options = ["--verbose"] if verbose else []
            proxy = system.start_proxy(gateway.url, listen=listen, options=options)
        # The first line says that the proxy connects, which is past by now.
        show(*proxy.log.read_text(errors="replace").rstrip().split("\n")[1:])
        with steps.step("answer", "asking a question through the package openai"):
            answer = ask(proxy.url, build.model_name, console)
        console.print(steps.summary(), highlight=False)
        if not answer:
            raise UnavailableError(
                "no-answer",
                "the model gave an empty answer",
                expected="text",
                seen="an empty stream",
            )
        if once:
            return
        body = (
            f'{{"model": "{build.model_name}", "messages": [{{"role": "user", "content": "hi"}}]}}'
        )
        console.print(
            f"Up until Ctrl-C. Any OpenAI SDK can use [bold]{proxy.url}/v1[/bold], for example:\n"
            f"  curl {proxy.url}/v1/chat/completions -H 'content-type: application/json' -d "
            f"'{body}'",
            highlight=False,
            soft_wrap=True,  # a line break would come along when somebody copies the command
        )
        with suppress(KeyboardInterrupt):
            signal.pause()


def _run(options: argparse.Namespace) -> ExitStatus:
    run_dir = options.run_dir or Path(tempfile.mkdtemp(prefix="confide-demo-"))
    build = Build(Path(options.images), Path(options.model), Path(options.manifest), Tools.find())
    run(
        build,
        run_dir,
        listen=options.listen,
        verbose=options.verbose,
        once=options.once,
        console=Screen(),
    )
    return ExitStatus.PASSED
