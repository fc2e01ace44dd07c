"""Run tests/gpu_image/check_engine.py where a machine would: on the CUDA engine's own layers.

Builds the root of a GPU worker from its layers, without a kernel and without a GPU, asks our own
code in it for the engine's commands and environment, and runs the check with those. Needs to be
root of a user namespace, as runInRoot is. The output is a text file: what was found to hold.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from pathlib import Path

import tree

# In the machine's own Python, as the engines' supervisor runs it.
ASK = """
import json
from pathlib import Path
from confide.guest.worker.engine import gpu
from confide.guest.worker.engine.models_file import ServedModel
from confide.guest.worker.engine.place import place_of
from confide.protocol.engine_options import OPTIONS, EngineOptions

every = EngineOptions(
    max_model_len=4096, max_num_seqs=64, max_num_batched_tokens=8192, tensor_parallel_size=2,
    gpu_memory_percent=45, dtype="bfloat16", kv_cache_dtype="fp8", tool_call_parser="hermes",
    reasoning_parser="qwen3",
)
commands = []
for options, gpus in ((EngineOptions(), [0]), (every, [2, 3])):
    model = ServedModel("m", Path("/run/confide/models/1"), bytes(32), ("chat",), engine=options)
    commands.append(gpu.command(model, socket=place_of(1).socket, gpus=gpus))
parsers = {name: list(OPTIONS[name].known) for name in ("tool_call_parser", "reasoning_parser")}
environment = dict(gpu.environment([0]))
print(json.dumps({"commands": commands, "parsers": parsers, "environment": environment}))
"""
BUSYBOX = f"{os.environ['seed']}/bin/busybox"
CODE_PATH = "/opt/confide:/usr/lib/confide/site-packages"


def run_inside(root: Path, command: list[str], environment: dict[str, str], text: str = "") -> str:
    """Output of a program that has `root` as its root. Raises BuildError if it fails."""
    result = subprocess.run(
        ["/usr/sbin/chroot", root, *command],
        env=environment,
        input=text,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise tree.BuildError(f"{command[0]} ended with status {result.returncode} (see above)")
    return result.stdout


def make_root(root: Path, layers: list[str], code: Path) -> None:
    """Put layers ("PATH=FOLDER", the outputs of build_layer.py) and our code where machines do."""
    for item in layers:
        layer, _, target = item.partition("=")
        command = ["fsck.erofs", f"--extract={root / target}", "--overwrite", "--no-preserve"]
        subprocess.run([*command, f"{layer}/layer.img"], check=True, stdout=subprocess.DEVNULL)
    (root / "opt/confide").mkdir(parents=True, exist_ok=True)
    for package in ("confide", "measure"):
        (root / "opt/confide" / package).symlink_to(code / package)  # in the store, mounted below
    for folder in ("proc", "dev", "tmp", "nix/store"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for folder in ("proc", "dev", "nix/store"):
        subprocess.run([BUSYBOX, "mount", "--rbind", f"/{folder}", root / folder], check=True)


def main() -> None:
    """Read the arguments, check, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layer", nargs="+", required=True, metavar="PATH=FOLDER")
    parser.add_argument("--code", type=Path, required=True)
    parser.add_argument("--check", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    root = Path("root").absolute()
    make_root(root, args.layer, args.code)
    ours = ["/usr/bin/python3.13", "-s", "-S", "-P", "-B", "-c", ASK]
    wanted = json.loads(run_inside(root, ours, {"PYTHONPATH": CODE_PATH}))
    environment = wanted.pop("environment")
    program = wanted["commands"][0][0]
    command = [program, "-s", "-P", "-B", str(args.check)]
    found = run_inside(root, command, environment, json.dumps(wanted))
    args.output.write_text(found)


if __name__ == "__main__":
    try:
        main()
    except tree.BuildError as error:
        tree.fail(error)
