"""The bill of materials."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sbom
import tree

DEB = {
    "name": "libc6",
    "version": "2.41-12~x",
    "path": "pool/libc6_2.41-12~x_amd64.deb",
    "sha256": "aa",
}
STUB = {"name": "systemd-boot-efi", "version": "257", "path": "p/stub_257.deb", "sha256": "bb"}
WHEEL = {"name": "flask", "version": "3", "filename": "flask-3-py3-none-any.whl", "sha256": "cc"}
LAYERS: list[dict[str, object]] = [{"name": "base", "root_hash": "00" * 32}]


@pytest.fixture(autouse=True)
def epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "315532800")


def written(folder: Path, brought: list[str], layers: list[dict[str, object]] = LAYERS) -> bytes:
    folder.mkdir(exist_ok=True)
    (folder / "packages.txt").write_text("".join(f"{name}\n" for name in brought))
    (folder / "lock").write_text(json.dumps([DEB, STUB, WHEEL]))
    sbom.write(folder / "out", "coordinator", layers, [folder], folder / "lock")
    return (folder / "out").read_bytes()


def test_lists_what_brought_a_file_and_the_stub(tmp_path: Path) -> None:
    names = ["hash0-libc6_2.41-12_x_amd64.deb", "hash1-flask-3-py3-none-any.whl"]
    document = json.loads(written(tmp_path, names))
    assert [(p["name"], p["versionInfo"]) for p in document["packages"]][1:] == [
        ("libc6", "2.41-12~x"),
        ("systemd-boot-efi", "257"),
        ("flask", "3"),
    ]
    purls = [p["externalRefs"][0]["referenceLocator"] for p in document["packages"][1:]]
    assert purls[0] == "pkg:deb/debian/libc6@2.41-12~x?arch=amd64"
    assert purls[2] == "pkg:pypi/flask@3"
    assert document["packages"][1]["checksums"][0]["checksumValue"] == "aa"


def test_same_image_same_bytes_other_root_hash_other_name(tmp_path: Path) -> None:
    first = written(tmp_path / "1", ["h-flask-3-py3-none-any.whl"])
    assert first == written(tmp_path / "2", ["h-flask-3-py3-none-any.whl"])
    other = written(tmp_path / "3", [], [{"name": "base", "root_hash": "11" * 32}])
    assert json.loads(first)["documentNamespace"] != json.loads(other)["documentNamespace"]


def test_file_that_the_lock_does_not_name_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(tree.BuildError, match=r"smuggled\.whl is in the image coordinator"):
        written(tmp_path, ["h-smuggled.whl"])
