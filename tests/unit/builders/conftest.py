"""The scripts in nix/ run from their own folder, so that folder is on the path."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "nix"))
