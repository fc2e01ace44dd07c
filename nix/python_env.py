"""Make a virtual environment out of unpacked layers: nothing is copied, a .pth file names them.

Reads the environment: layers, code, python, out.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    """Build $out."""
    out, python = Path(os.environ["out"]), Path(os.environ["python"])
    layers = [Path(layer) for layer in os.environ["layers"].split()]
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = out / "lib" / version / "site-packages"
    site.mkdir(parents=True)
    folders = [*os.environ["code"].split(), *(str(layer / "site-packages") for layer in layers)]
    (site / "layers.pth").write_text("".join(f"{folder}\n" for folder in folders))
    (out / "pyvenv.cfg").write_text(
        f"home = {python}/usr/bin\ninclude-system-site-packages = false\n"
    )
    (out / "bin").mkdir()
    for name in ("python", "python3", version):
        (out / "bin" / name).symlink_to(python / "usr/bin" / version)
    for layer in layers:
        for program in sorted((layer / "bin").glob("*")):
            (out / "bin" / program.name).symlink_to(program)


if __name__ == "__main__":
    main()
