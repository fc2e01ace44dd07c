"""Break a native service step by step: `make test-faults SEED=N`, or `python -m tests.faults`.

The run has a namespace of its own (apart.py), so it needs root. It prints the seed and each step.
Started again with that seed it makes the same steps.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.apart import start_apart, why_not


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--nft", type=Path, required=True)
    parser.add_argument("--faketime", type=Path, required=True, help="libfaketimeMT.so.1")
    arguments = parser.parse_args()
    if reason := why_not():
        print(reason, file=sys.stderr)
        return 2
    folder = tempfile.mkdtemp(prefix="confide-faults-")
    options = [f"--{name}={value}" for name, value in vars(arguments).items()]
    with start_apart("tests.faults.run", [*options, "--folder", folder]) as running:
        assert running.stdout is not None
        try:
            for line in running.stdout:
                print(line, end="", flush=True)
            running.wait()
        finally:
            running.kill()
    print(f"logs and requests: {folder}")
    return running.returncode


if __name__ == "__main__":
    sys.exit(main())
