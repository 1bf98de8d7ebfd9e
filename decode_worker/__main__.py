from __future__ import annotations

from decode_worker.leg import DECODE
from decode_worker.settings import DecodeSettings
from worker.process import Program, main
from worker.shutdown import end_process

PROGRAM = Program("python -m decode_worker", DecodeSettings, (DECODE,))

if __name__ == "__main__":
    end_process(main(PROGRAM))
