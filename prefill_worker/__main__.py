from __future__ import annotations

from prefill_worker.leg import PREFILL
from prefill_worker.settings import PrefillSettings
from worker.process import Program, main
from worker.shutdown import end_process

PROGRAM = Program("python -m prefill_worker", PrefillSettings, (PREFILL,))

if __name__ == "__main__":
    end_process(main(PROGRAM))
