"""A bare transport in a process of its own: `python -m tests.kvtransfer.ucx_peer HOST`.

It says its address. Each line that it is told is an address, which it connects to and sends a
large message; what comes to it, it takes. It ends when its standard input does.
"""

from __future__ import annotations

import select
import sys

import numpy as np

from kvtransfer.transport import Kind, Operation
from kvtransfer.ucx import UcxTransport

LARGE = 1 << 20
MOMENT_SECONDS = 0.001


def main(host: str) -> None:
    transport = UcxTransport(host=host.encode())
    sys.stdout.write(transport.address.hex() + "\n")
    sys.stdout.flush()
    operations: list[Operation] = []
    while True:
        transport.poll(MOMENT_SECONDS)
        for kind in Kind:
            while arrival := transport.probe(kind):
                operations.append(arrival.receive(np.zeros(arrival.num_bytes, np.uint8)))
        if select.select([sys.stdin], [], [], 0)[0]:
            line = sys.stdin.readline().strip()
            if not line:
                break
            link = transport.connect(bytes.fromhex(line))
            operations.append(link.send(Kind.SEGMENT, np.ones(LARGE, np.uint8)))
        operations = [each for each in operations if not each.is_done]
    transport.close()


if __name__ == "__main__":
    main(sys.argv[1])
