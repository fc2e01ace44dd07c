"""Make a model disk of a Hugging Face model directory, and the model's entry for the manifest.

The output folder gets model.disk (erofs, then the dm-verity hash tree: no verity superblock, salt
of 32 zero bytes; py/confide/worker/verity.py is the reader), model.json, an entry of the manifest's
list of models, and the model's expected.json if it has one. The file system is not compressed:
weights do not compress, and the engine maps them. Needs mkfs.erofs, veritysetup and
SOURCE_DATE_EPOCH; the bits depend on names, modes and contents of the model's files alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import build_layer


def main() -> None:
    """Read the arguments, write model.disk and model.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="the model's name in the API")
    parser.add_argument("--model", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--task", nargs="+", required=True, choices=["chat", "completion"])
    parser.add_argument("--role", nargs="+", required=True, help="roles that may serve it")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    args.output.mkdir(parents=True, exist_ok=True)
    disk = args.output / "model.disk"
    build_layer.make_erofs(args.model, disk, [])
    root_hash, blocks = build_layer.append_verity(disk)
    entry = {
        "name": args.name,
        "root_hash": root_hash,
        "hash_offset": blocks * build_layer.BLOCK,
        "tasks": args.task,
        "roles": args.role,
    }
    if (args.model / "expected.json").exists():
        shutil.copyfile(args.model / "expected.json", args.output / "expected.json")
    (args.output / "model.json").write_text(json.dumps(entry, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
