"""Where the programs under test lie."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Starts a program on given cores that dies with the one that started it.
LAUNCH = ROOT / "baton" / "launch.py"
