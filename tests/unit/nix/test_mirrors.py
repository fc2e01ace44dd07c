"""Debian mirrors are found in whatever way this machine's apt is told of them.

Every test makes a folder of apt's configuration and lets apt itself read it. No index of any source
was ever downloaded there.
"""

from __future__ import annotations

import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import download
import pytest

needs_apt = pytest.mark.skipif(
    shutil.which("apt-get") is None, reason="this machine has no apt to read its configuration"
)


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that stands for /etc/apt; its path has a space."""
    folder = tmp_path / "a root" / "etc/apt"
    (folder / "sources.list.d").mkdir(parents=True)
    config = tmp_path / "apt.conf"
    config.write_text(f'Dir "{tmp_path}/a root";\n')
    monkeypatch.setenv("APT_CONFIG", str(config))
    return folder


def one_line(apt: Path, *lines: str) -> None:
    (apt / "sources.list").write_text("".join(f"{line}\n" for line in lines))


def deb822(apt: Path, **fields: str) -> None:
    with (apt / "sources.list.d/debian.sources").open("a") as file:
        file.write("".join(f"{name}: {value}\n" for name, value in fields.items()) + "\n")


@needs_apt
def test_one_line_sources_with_and_without_options(apt: Path) -> None:
    one_line(
        apt,
        "# deb http://comment.test/debian trixie main",
        "deb http://a.test/debian/ trixie main contrib",
        "deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] https://b.test/debian stable main",
        "deb http://a.test/debian-security trixie-security main",
    )
    mirrors = download.find_mirrors()
    assert set(mirrors.main) == {"http://a.test/debian", "https://b.test/debian"}
    assert mirrors.security == ("http://a.test/debian-security",)


@needs_apt
def test_deb822_sources(apt: Path) -> None:
    deb822(
        apt,
        Types="deb deb-src",
        URIs="http://a.test/debian http://b.test/debian",
        Suites="trixie trixie-updates",
        Components="main",
    )
    deb822(
        apt,
        Types="deb",
        Enabled="no",
        URIs="http://off.test/debian",
        Suites="trixie",
        Components="main",
    )
    assert set(download.find_mirrors().main) == {"http://a.test/debian", "http://b.test/debian"}


@needs_apt
def test_a_list_of_mirrors_in_a_file(apt: Path) -> None:
    """As Debian's own cloud images have it."""
    mirrors = apt / "mirrors.list"
    mirrors.write_text(
        "# the nearest\nhttp://a.test/debian\tpriority:1\n\nhttps://b.test/deb%20ian/\n"
    )
    security = apt / "security.list"
    security.write_text("https://a.test/debian-security\n")
    for place, suites in ((mirrors, "trixie trixie-updates"), (security, "trixie-security")):
        uri = "mirror+file://" + str(place).replace(" ", "%20")
        deb822(apt, Types="deb deb-src", URIs=uri, Suites=suites, Components="main")
    assert download.find_mirrors() == download.Mirrors(
        ("http://a.test/debian", "https://b.test/deb%20ian"), ("https://a.test/debian-security",)
    )


class ListServer(http.server.BaseHTTPRequestHandler):
    """Serves one list of mirrors, whatever is asked for."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"http://a.test/debian\n")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def list_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), ListServer) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@needs_apt
@pytest.mark.parametrize("scheme", ["mirror", "mirror+http"])
def test_a_list_of_mirrors_on_a_server(apt: Path, list_server: str, scheme: str) -> None:
    one_line(apt, f"deb {scheme}://{list_server}/mirrors.txt trixie main")
    assert download.find_mirrors().main == ("http://a.test/debian",)


@needs_apt
@pytest.mark.parametrize("style", ["one line", "deb822"])
def test_a_quoted_url_stays_quoted(apt: Path, style: str) -> None:
    """Of a source in one line apt gives the decoded URL, of a deb822 source the quoted one."""
    url = "file:/srv/my%20mirror"
    if style == "one line":
        one_line(apt, f"deb {url} trixie main")
    else:
        deb822(apt, Types="deb", URIs=url, Suites="trixie", Components="main")
    assert download.find_mirrors().main == (url,)


@needs_apt
def test_apt_without_a_security_mirror(apt: Path) -> None:
    """A minimal system's apt knows only the main archive; its mirror has the other beside it."""
    one_line(apt, "deb http://a.test/debian trixie main")
    security = ("http://a.test/debian-security", "http://a.test/debian")
    assert download.find_mirrors().security == security


@needs_apt
def test_a_source_that_cannot_be_used_is_left_out(apt: Path) -> None:
    one_line(
        apt,
        "deb cdrom:[Debian 13]/ trixie main",
        "deb mirror+file:/nowhere/mirrors.list trixie main",
        "deb http://flat.test/repository ./",
        "deb http://other.test/ubuntu noble main",
        "deb http://a.test/debian trixie main",
    )
    assert download.find_mirrors().main == ("http://a.test/debian",)


@needs_apt
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("deb mirror+file:/nowhere/mirrors.list trixie main", "/nowhere/mirrors.list cannot be re"),
        ("deb http://other.test/ubuntu noble main", "other.test/ubuntu has noble, which is no rel"),
        ("deb cdrom:[Debian 13]/ trixie main", "begins with none of http:, https:, file:"),
        ("deb no-such-method://a.test/debian trixie main", "E: The method .*no-such-method"),
        ("deb nothing", r"E: Malformed entry 1 in .*sources.list"),
    ],
    ids=["list not there", "another distribution", "a disc", "unknown method", "malformed"],
)
def test_without_a_mirror_the_error_says_why_and_what_to_do(
    apt: Path, line: str, reason: str
) -> None:
    one_line(apt, line)
    with pytest.raises(download.DownloadError, match=reason) as caught:
        download.find_mirrors()
    assert "--debian-mirror URL" in str(caught.value)


def test_without_apt_the_error_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(download.DownloadError, match=r"no apt.*--debian-mirror URL"):
        download.find_mirrors()


@needs_apt
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", {"http": "http://env:1"}),
        ('Acquire::http::Proxy "http://apt:2";', {"http": "http://apt:2", "https": "http://apt:2"}),
        ('Acquire { http { Proxy "DIRECT"; }; };', {}),
        (
            'Acquire::http::Proxy "http://apt:2"; Acquire::https::Proxy "DIRECT";',
            {"http": "http://apt:2"},
        ),
    ],
    ids=["nothing set", "for http", "none for both", "none for https"],
)
def test_apt_s_proxy_goes_before_the_environment_s(
    apt: Path, monkeypatch: pytest.MonkeyPatch, options: str, expected: dict[str, str]
) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("http_proxy", "http://env:1")
    with (apt.parents[2] / "apt.conf").open("a") as config:
        config.write(options)
    assert download.proxies() == expected
