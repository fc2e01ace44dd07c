"""Build one layer of an image: packages + wheels + our own files -> erofs with its verity tree.

The output folder gets layer.img (erofs data, then the dm-verity hash tree; no verity superblock, the
parameters are on the measured command line), layer.json (name, root hash, sizes), files.txt (the path
of every file) and packages.txt (the package files that brought some). The bits depend on the inputs alone: fixed UUID, zero salt (it would only hide
that two layers are equal), times from SOURCE_DATE_EPOCH, sorted file order, owner root.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import zipfile
from pathlib import Path

import bytecode
import tree

BLOCK = 4096
# Any constant would do: the root hash identifies a layer, the UUID identifies nothing.
EROFS_UUID = "c0f1de00-0000-4000-8000-000000000001"
ZERO_SALT = "00" * 32


def unpack_wheel(wheel: Path, site: Path) -> None:
    """Unpack a wheel; its scripts and headers (the .data folder) are not wanted in an image."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if not name.split("/", 1)[0].endswith(".data"):
                archive.extract(name, site)


def make_erofs(root: Path, image: Path, options: list[str]) -> None:
    """Make a file system whose bits depend on names, modes and contents only."""
    epoch = os.environ["SOURCE_DATE_EPOCH"]
    command = ["mkfs.erofs", "--quiet", "-T", epoch, "--all-root", "-U", EROFS_UUID, *options]
    subprocess.run([*command, str(image), str(root)], check=True, stdout=subprocess.DEVNULL)


def append_verity(image: Path) -> tuple[str, int]:
    """Append the hash tree to the image; root hash (hex) and number of data blocks."""
    size = -(-image.stat().st_size // BLOCK) * BLOCK
    os.truncate(image, size)
    root_hash = image.with_suffix(".roothash")
    subprocess.run(
        ["veritysetup", "format", "--no-superblock", f"--salt={ZERO_SALT}", "--hash=sha256"]
        + [f"--data-blocks={size // BLOCK}", f"--hash-offset={size}"]
        + [f"--root-hash-file={root_hash}", str(image), str(image)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    text = root_hash.read_text().strip()
    root_hash.unlink()
    return text, size // BLOCK


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--package", type=Path, nargs="*", default=[], help="Debian packages")
    parser.add_argument("--list", type=Path, help="what of the packages goes in")
    parser.add_argument("--wheel", type=Path, nargs="*", default=[], help="Python wheels")
    parser.add_argument("--site", help="folder of the image that the wheels go into")
    parser.add_argument("--tree", nargs="*", default=[], metavar="FOLDER=TARGET")
    parser.add_argument("--folder", nargs="*", default=[], help="empty folders")
    parser.add_argument("--link", nargs="*", default=[], metavar="PATH=TARGET")
    parser.add_argument("--allow-shell", action="store_true", help="for debug images only")
    parser.add_argument("--erofs", default="", help="further options of mkfs.erofs")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    args.output.mkdir(parents=True, exist_ok=True)
    image = args.output / "layer.img"
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch, "root")
        root.mkdir()
        unpacked = Path(scratch, "unpacked")
        owner = tree.unpack(args.package, unpacked)
        chosen = []
        if args.list:
            chosen = tree.select(tree.walk(unpacked), args.list.read_text().splitlines())
        for wheel in args.wheel:
            unpack_wheel(wheel, unpacked / args.site)
        if args.site:
            chosen += [f"{args.site}/{path}" for path in tree.walk(unpacked / args.site)]
        chosen = tree.with_libraries(unpacked, chosen, tree.LIBRARY_FOLDERS)
        tree.copy(unpacked, chosen, root)
        brought = {owner[path] for path in chosen if path in owner} | {w.name for w in args.wheel}
        for item in args.tree:
            folder, _, target = item.partition("=")
            tree.copy(Path(folder), tree.walk(Path(folder)), root / target)
        for folder in args.folder:
            (root / folder).mkdir(parents=True, exist_ok=True)
        for item in args.link:
            path, _, target = item.partition("=")
            (root / path).symlink_to(target)
        bytecode.compile_tree(root)
        if not args.allow_shell:
            tree.refuse_shells(root)
        make_erofs(root, image, args.erofs.split())
        (args.output / "files.txt").write_text("".join(f"{p}\n" for p in tree.walk(root)))
    (args.output / "packages.txt").write_text("".join(f"{p}\n" for p in sorted(brought)))
    root_hash, blocks = append_verity(image)
    facts = {"name": args.name, "root_hash": root_hash, "data_blocks": blocks}
    facts["size"] = image.stat().st_size
    (args.output / "layer.json").write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    try:
        main()
    except tree.BuildError as error:
        tree.fail(error)
