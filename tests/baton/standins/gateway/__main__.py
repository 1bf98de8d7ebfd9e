from __future__ import annotations

from standin.gateway import main

main()
