"""What holds for every command: --help, exit statuses, errors, and what an import costs."""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import confide
from confide.commands.cli import COMMANDS, command_parser, main
from confide.commands.options import add_json
from confide.commands.status import ExitStatus
from confide.errors import (
    ConfideError,
    ConfigError,
    FormatError,
    PolicyError,
    UnavailableError,
    VerificationError,
)
from tests.support.simulated_machine import current_manifest

PACKAGE = Path(confide.__file__).parent
ROOT = PACKAGE.parents[1]


def leaves(parser: argparse.ArgumentParser, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """This command and all commands below it, as typed."""
    yield words
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, part in action.choices.items():
                yield from leaves(part, (*words, name))


ALL = [words for name in COMMANDS for words in leaves(command_parser(name), (name,))]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return run_python("-m", "confide", *words)


def run_python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'py'}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_numbers_are_promised() -> None:
    assert {status.name: status.value for status in ExitStatus} == {
        "PASSED": 0,
        "FAILED": 1,
        "USAGE": 2,
        "INTERRUPTED": 130,
    }


@pytest.mark.parametrize("words", [(), *ALL], ids=" ".join)
def test_help(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*words, "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: {' '.join(['confide', *words])} ")
    assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize("words", [("collateral",), ("corim",)])
def test_help_has_examples(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    assert "example" in capsys.readouterr().out


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_wrong_usage(words: tuple[str, ...]) -> None:
    for more in ([], ["--no-such-option"]):
        if words in (("demo",), ("trust",)) and not more:
            continue  # what they need may be there already
        with pytest.raises(SystemExit) as stop:
            main([*words, *more])
        assert stop.value.code == ExitStatus.USAGE


@pytest.mark.parametrize("words", [[], ["nonsense"], ["--no-such-option"]])
def test_no_such_command(words: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == ExitStatus.USAGE


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Registers the command `fake`, which raises what a test wants."""

    def register(error: BaseException) -> None:
        def raises(_: argparse.Namespace) -> ExitStatus:
            raise error

        def configure(parser: argparse.ArgumentParser) -> None:
            add_json(parser, "nothing")
            parser.set_defaults(run=raises)

        module = ModuleType("fake")
        module.configure = configure  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "confide.commands.fake", module)
        monkeypatch.setitem(COMMANDS, "fake", "fails")

    return register


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (ConfigError, ExitStatus.USAGE),
        (FormatError, ExitStatus.FAILED),
        (PolicyError, ExitStatus.FAILED),
        (UnavailableError, ExitStatus.FAILED),
        (VerificationError, ExitStatus.FAILED),
    ],
)
def test_errors(
    kind: type[ConfideError],
    status: ExitStatus,
    failing: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    failing(kind("some-code", "it does not work", expected="this", seen="that", next="do so"))
    assert main(["fake"]) == status
    printed = capsys.readouterr()
    line = "confide: some-code: it does not work; expected this; seen that; next: do so.\n"
    assert (printed.out, printed.err) == ("", line)
    assert main(["fake", "--json"]) == status
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert printed.err == ""
    assert answer["passed"] is False
    assert (answer["error"]["code"], answer["error"]["next"]) == ("some-code", "do so")


def test_ctrl_c(
    failing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    failing(KeyboardInterrupt())
    assert main(["fake"]) == ExitStatus.INTERRUPTED
    assert capsys.readouterr().err == "\nconfide: interrupted\n"


NOTHING = "/nothing"
PEER = "http://127.0.0.1:1"
WRONG = {
    "verify": [NOTHING, "--manifest", NOTHING],
    "trust": [NOTHING],
    "set": ["--manifest", NOTHING, "--coordinator", PEER],
    "manifest build": ["--measurements", NOTHING, "-o", "out"],
    "manifest references": ["--measurements", NOTHING, "-o", "out"],
    "receipt verify": [NOTHING, "--manifest", NOTHING],
    "manifest show": [NOTHING],
    "manifest check": [NOTHING],
    "site add": [PEER, "--references", NOTHING, "--policy", NOTHING],
    "collateral fetch": [NOTHING, "--manifest", NOTHING],
    "collateral bundle": [NOTHING, "-o", "out"],
    "collateral show": [NOTHING],
    "collateral push": [NOTHING, "--coordinator", PEER],
    "corim sign": [NOTHING, "--key", NOTHING, "--signer", "x", "-o", "out"],
    "corim verify": [NOTHING, "--key", NOTHING],
    "model pack": [NOTHING, "-o", "out", "--tools", NOTHING],
    "model verify": [NOTHING],
    "proxy": ["--gateway", PEER, "--manifest", NOTHING],
    "gateway": [
        "--coordinator", PEER, "--secret-service", PEER, "--worker", PEER, "--api-keys", NOTHING,
    ],
    "run": [NOTHING, "--inventory", "--tools", NOTHING],
    "demo": ["--images", NOTHING, "--model", NOTHING, "--manifest", NOTHING],
}  # fmt: skip
LEAVES = [
    " ".join(words)
    for words in ALL
    if not any(len(other) > len(words) and other[: len(words)] == words for other in ALL)
]


@pytest.mark.parametrize("command", LEAVES)
def test_wrong_configuration(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every command ends with 2, and one line that says why; as JSON where it has --json."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONFIDE_QEMU", raising=False)
    argv = [*command.split(), *WRONG[command]]
    assert main(argv) == ExitStatus.USAGE
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("confide: ") and printed.err.count("\n") == 1
    if has_json(command):
        assert main([*argv, "--json"]) == ExitStatus.USAGE
        answer = json.loads(capsys.readouterr().out)
        assert answer["passed"] is False and answer["error"]["code"] in printed.err


def has_json(command: str) -> bool:
    name, *below = command.split()
    parser = command_parser(name)
    for word in below:
        (nested,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        parser = nested.choices[word]
    return any("--json" in action.option_strings for action in parser._actions)


def test_as_a_module() -> None:
    assert run("--help").returncode == 0
    assert run("manifest", "show", NOTHING).returncode == ExitStatus.USAGE
    assert run("no-such-command").returncode == ExitStatus.USAGE


def test_help_imports_little() -> None:
    """`confide --help` must not wait for libraries that only some commands need."""
    code = (
        "import sys, confide.commands.cli as cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(*(n for n in ('cryptography', 'cbor2', 'flask', 'requests', 'rich', 'lxml') "
        "if n in sys.modules), file=sys.stderr)"
    )
    assert run_python("-c", code).stderr == "\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_a_module_with_one_entry(name: str) -> None:
    """No command has numbers, a `main` or an error handler of its own."""
    tree = ast.parse((PACKAGE / "commands" / f"{name}.py").read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert "configure" in {node.name for node in functions}
    assert "main" not in {node.name for node in functions}
    for node in functions:
        assert ast.unparse(node.returns or node) != "int"
    assert not any(
        isinstance(node, ast.ExceptHandler) and "ConfideError" in ast.unparse(node.type or node)
        for node in ast.walk(tree)
    )


@pytest.mark.parametrize(
    "command",
    [
        ["verify", PEER, "--manifest", "manifest.json", "--development"],
        ["collateral", "fetch", PEER, "--manifest", "manifest.json"],
        ["proxy", "--gateway", PEER, "--manifest", "manifest.json", "--development"],
    ],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize(
    "content", [b"", b"two words", b"\xff", b"k\x00", b"x" * 5000, b"\n", None]
)
def test_files_without_an_api_key(
    command: list[str],
    content: bytes | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every command that takes one refuses the same files, before it asks anybody."""
    monkeypatch.chdir(tmp_path)
    Path("manifest.json").write_bytes(current_manifest())
    if content is not None:
        Path("key").write_bytes(content)
    assert main([*command, "--api-key-file", "key"]) == ExitStatus.USAGE
    printed = capsys.readouterr().err
    assert "API key file" in printed and printed.count("\n") == 1
