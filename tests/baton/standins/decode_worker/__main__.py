from __future__ import annotations

from standin.worker import main

main("decode")
