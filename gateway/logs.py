"""What the gateway writes to its log: lines for people, never what clients sent."""

from __future__ import annotations

import logging
import sys
import traceback

from gateway.exchange import current_exchange


def configure_logs() -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    for name in ("uvicorn", "uvicorn.error", "asyncio", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)


def guard_vllm_logs() -> None:
    """vLLM logs each failure with its exception, whose message may quote the prompt."""
    for handler in logging.getLogger("vllm").handlers:
        handler.addFilter(keeps_and_redacts)


def keeps_and_redacts(record: logging.LogRecord) -> bool:
    """False for what follows from a failure of the fleet: the gateway has said so itself."""
    exchange = current_exchange.get()
    if exchange is not None and exchange.error is not None:
        return False
    if record.exc_info and record.exc_info[0] is not None:
        kind, _, trace = record.exc_info
        frames = "".join(traceback.format_tb(trace))
        record.msg, record.args = "%s: %s\n%s", (record.msg, kind.__name__, frames)
        record.exc_info = record.exc_text = None
    return True
