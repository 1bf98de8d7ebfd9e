"""`python -m gateway`."""

from __future__ import annotations

import os
import sys

# Read when gRPC is imported: its own notes on every lost connection are not for people.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

from gateway.start import main

code = main()
sys.stdout.flush()
sys.stderr.flush()
# Everything is closed. Libraries under vLLM would write to stderr, after our last line.
os._exit(code)
