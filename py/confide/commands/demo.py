"""`confide demo`: boot the whole service here, ask it one question, show what was verified.

Everything is real but the TPM, which is a program of this host: see docs/threat-model.md.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from confide.commands.system import Build, System
from confide.errors import ConfideError, UnavailableError
from confide.host.runner.qemu import Tools

QUESTION = "Who can read this question?"
BUILD_OUTPUTS = {
    "images": "folder of images",
    "model": "folder of the model disk",
    "manifest": "manifest to set and pin",
}


class Steps:
    """Prints each step with the seconds since the start, and a table of how long each took."""

    def __init__(self, console: Console) -> None:
        self._console, self._start = console, time.monotonic()
        self._rows: list[tuple[str, float]] = []

    def say(self, text: str) -> None:
        """One line, with the seconds since the start."""
        self._console.print(
            f"[dim]{time.monotonic() - self._start:6.1f} s[/dim]  {text}", highlight=False
        )

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time one step."""
        self.say(name)
        start = time.monotonic()
        yield
        self._rows.append((name, time.monotonic() - start))

    def table(self) -> Table:
        """All steps so far, with their seconds."""
        table = Table(title="How long it took", title_justify="left")
        table.add_column("step")
        table.add_column("seconds", justify="right")
        for name, seconds in self._rows:
            table.add_row(name, f"{seconds:.1f}")
        table.add_row("all of it", f"{time.monotonic() - self._start:.1f}", style="bold")
        return table


def ask(proxy_url: str, model: str, console: Console) -> str:
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


def run(build: Build, run_dir: Path, *, listen: str, once: bool, console: Console) -> None:
    """Boot, verify, ask; then wait for Ctrl-C unless `once`."""
    steps = Steps(console)
    with ExitStack() as stack:
        with steps.step("boot three machines and set the manifest"):
            system = stack.enter_context(System(build, run_dir, progress=steps.say))
        with steps.step("start the gateway"):
            gateway = system.start_gateway()
        with steps.step("start the proxy: verify, exchange a key"):
            proxy = system.start_proxy(gateway.url, listen=listen)
        print(proxy.log.read_text().rstrip())
        with steps.step("ask a question through the openai package"):
            answer = ask(proxy.url, build.model_name, console)
        console.print(steps.table())
        if not answer:
            raise UnavailableError("no-answer", "the model said nothing", seen="an empty stream")
        if once:
            return
        body = (
            f'{{"model": "{build.model_name}", "messages": [{{"role": "user", "content": "hi"}}]}}'
        )
        console.print(
            f"The service is up. Point any OpenAI SDK at [bold]{proxy.url}/v1[/bold], say:\n"
            f"  curl {proxy.url}/v1/chat/completions -H 'content-type: application/json' -d "
            f"'{body}'\n"
            f"Consoles and logs are in {run_dir}. Ctrl-C stops everything.",
            highlight=False,
        )
        signal.pause()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; 0 when an answer came, 1 on a named error, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="confide demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="stop after the first answer")
    parser.add_argument("--listen", default="127.0.0.1:8080", help="where the proxy listens")
    parser.add_argument("--run-dir", type=Path, help="folder for consoles and logs (default: new)")
    for name, what in BUILD_OUTPUTS.items():
        default = os.environ.get(f"CONFIDE_{name.upper()}")
        parser.add_argument(f"--{name}", type=Path, default=default, help=what)
    args = parser.parse_args(argv)
    for name in BUILD_OUTPUTS:
        if getattr(args, name) is None:
            parser.error(f"--{name} is needed (`nix run .#demo` sets it)")
    console = Console()
    run_dir = args.run_dir or Path(tempfile.mkdtemp(prefix="confide-demo-"))
    try:
        build = Build(Path(args.images), Path(args.model), Path(args.manifest), Tools.find())
        run(build, run_dir, listen=args.listen, once=args.once, console=console)
    except ConfideError as error:
        console.print(f"[bold red]{error.code}[/bold red]: {error}", highlight=False)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
