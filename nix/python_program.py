"""Write $out/bin/$name, which runs a module of a Python environment with fixed variables.

Reads the environment: name, module, python, variables (JSON object), arguments (JSON list), out.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

PROGRAM = """\
#!{python}/bin/python3 -I
import os, runpy, sys

os.environ.update({variables!r})
sys.argv[1:1] = {arguments!r}
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""


def main() -> None:
    """Build $out."""
    environment = os.environ
    program = Path(environment["out"]) / "bin" / environment["name"]
    program.parent.mkdir(parents=True)
    program.write_text(
        PROGRAM.format(
            python=environment["python"],
            variables=json.loads(environment["variables"]),
            arguments=json.loads(environment["arguments"]),
            module=environment["module"],
        )
    )
    program.chmod(0o755)


if __name__ == "__main__":
    main()
