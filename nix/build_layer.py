"""Build one layer of an image: packages, wheels, our own files -> erofs with its verity tree.

The output folder gets layer.img (erofs data, then the dm-verity hash tree; no verity superblock,
the parameters are on the measured command line), layer.json (name, root hash, sizes), files.txt
(the path of every file) and packages.txt (the package files that brought some). The bits depend on
the inputs alone: fixed UUID, zero salt (it would only hide that two layers are equal), times from
SOURCE_DATE_EPOCH, sorted file order, owner root.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tree

BLOCK = 4096
# Any constant would do: the root hash identifies a layer, the UUID identifies nothing.
EROFS_UUID = "c0f1de00-0000-4000-8000-000000000001"
ZERO_SALT = "00" * 32


def unpack_wheels(wheels: list[Path], site: Path, leave_out: list[str]) -> list[str]:
    """Unpack wheels less what the globs `leave_out` name; the paths below `site`, sorted.

    Their scripts and headers (the .data folders) are not wanted in an image. Raises BuildError if a
    glob matches nothing, or if two wheels bring different files of one name: which one stays would
    be chance. (Equal ones are usual: each of NVIDIA's wheels has the empty nvidia/__init__.py.)
    """
    owner: dict[str, Path] = {}
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith("/") or name.split("/", 1)[0].endswith(".data"):
                    continue
                other = owner.setdefault(name, wheel)
                if other != wheel and archive.read(name) != read_member(other, name):
                    raise tree.BuildError(f"{wheel.name} and {other.name} both bring {name}")
    wanted = tree.select(owner, ["*", *(f"!{line}" for line in leave_out)]) if owner else []

    def one(wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            for name in (name for name in wanted if owner[name] == wheel):
                path = Path(archive.extract(name, site))
                if archive.getinfo(name).external_attr >> 16 & 0o111:  # zipfile drops the modes
                    path.chmod(0o755)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decompressing leaves Python's lock
        list(pool.map(one, wheels))
    return wanted


def read_member(wheel: Path, name: str) -> bytes:
    """One file out of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(name)


def read_list(file: Path) -> list[str]:
    """The lines of a list, without comments."""
    lines = (line.split("#", 1)[0].strip() for line in file.read_text().splitlines())
    return [line for line in lines if line]


def compile_python(python: str, root: Path) -> None:
    """Compile with the Python that will run the code: .pyc files are of one version."""
    code = "import bytecode, pathlib, sys; bytecode.compile_tree(pathlib.Path(sys.argv[1]))"
    subprocess.run([python, "-B", "-c", code, str(root)], check=True)


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
    command = ["veritysetup", "format", "--no-superblock", f"--salt={ZERO_SALT}", "--hash=sha256"]
    command += [f"--data-blocks={size // BLOCK}", f"--hash-offset={size}"]
    command += [f"--root-hash-file={root_hash}", str(image), str(image)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    text = root_hash.read_text().strip()
    root_hash.unlink()
    return text, size // BLOCK


def place(root: Path, folder: str, target: str) -> None:
    """Move the files below one folder of the tree to another, and drop the folder, if it is there.

    Raises BuildError if a file is there already.
    """
    for path in tree.walk(root / folder):
        new = root / target / path
        if os.path.lexists(new):
            raise tree.BuildError(f"{folder}/{path} cannot be placed: {target}/{path} is there")
        new.parent.mkdir(parents=True, exist_ok=True)
        (root / folder / path).rename(new)
    if (root / folder).is_dir():
        shutil.rmtree(root / folder)


def collect(args: argparse.Namespace, scratch: Path) -> tuple[Path, set[str]]:
    """The layer's tree, uncompiled, and the names of the package files that brought something."""
    unpacked, root = scratch / "unpacked", scratch / "root"
    owner = tree.unpack(args.package, unpacked)
    chosen = tree.select(tree.walk(unpacked), read_list(args.list)) if args.list else []
    leave_out = read_list(args.leave_out) if args.leave_out else []
    wanted = unpack_wheels(args.wheel, unpacked / args.site, leave_out)
    chosen += [f"{args.site}/{path}" for path in wanted]
    links = dict(item.split("=", 1) for item in args.link)
    # The loader looks for libraries in the base layer only, so a layer above it may bring none.
    present = (args.above / "files.txt").read_text().splitlines() if args.above else []
    folders = () if args.above else tree.LIBRARY_FOLDERS
    chosen = tree.with_libraries(unpacked, chosen, folders, [*present, *links, *args.elsewhere])
    brought = {owner[path] for path in chosen if path in owner} | {w.name for w in args.wheel}

    root.mkdir()
    tree.move(unpacked, chosen, root)
    shutil.rmtree(unpacked)
    for item in args.place:
        folder, _, target = item.partition("=")
        place(root, folder, target)
    for item in args.tree:
        folder, _, target = item.partition("=")
        tree.copy(Path(folder), tree.walk(Path(folder)), root / target)
    for folder in args.folder:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for path, target in links.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).symlink_to(target)
    return root, brought


def parse_arguments() -> argparse.Namespace:
    """The command line; a list option may be empty."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--name", required=True)
    add("--package", type=Path, nargs="*", default=[], help="Debian packages")
    add("--list", type=Path, help="what of the packages goes in")
    add("--place", nargs="*", default=[], metavar="FOLDER=TARGET", help="where a folder's files go")
    add("--wheel", type=Path, nargs="*", default=[], help="Python wheels")
    add("--site", default="site-packages", help="folder of the layer that the wheels go into")
    add("--leave-out", type=Path, help="globs of what of the wheels stays out")
    add("--tree", nargs="*", default=[], metavar="FOLDER=TARGET")
    add("--folder", nargs="*", default=[], help="empty folders")
    add("--link", nargs="*", default=[], metavar="PATH=TARGET")
    add("--above", type=Path, help="layer whose libraries this one may use")
    add("--elsewhere", nargs="*", default=[], help="libraries that another layer brings")
    add("--python", default=sys.executable, help="the Python that the layer is for")
    add("--allow-shell", action="store_true", help="for debug images only")
    add("--erofs", default="", help="further options of mkfs.erofs")
    add("--output", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    """Read the arguments and write the layer."""
    args = parse_arguments()
    os.umask(0o022)
    args.output.mkdir(parents=True, exist_ok=True)
    image = args.output / "layer.img"
    with tempfile.TemporaryDirectory() as scratch:
        root, brought = collect(args, Path(scratch))
        if not args.allow_shell:
            tree.refuse_shells(root)
        compile_python(args.python, root)
        make_erofs(root, image, args.erofs.split())
        (args.output / "files.txt").write_text("".join(f"{p}\n" for p in tree.walk(root)))
    (args.output / "packages.txt").write_text("".join(f"{p}\n" for p in sorted(brought)))
    root_hash, blocks = append_verity(image)
    facts = {"name": args.name, "root_hash": root_hash, "data_blocks": blocks}
    text = json.dumps({**facts, "size": image.stat().st_size}, indent=2, sort_keys=True)
    (args.output / "layer.json").write_text(text + "\n")


if __name__ == "__main__":
    try:
        main()
    except tree.BuildError as error:
        tree.fail(error)
