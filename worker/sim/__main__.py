from __future__ import annotations

from worker.shutdown import end_process
from worker.sim.process import main

if __name__ == "__main__":
    end_process(main())
