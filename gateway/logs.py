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
    for name in ("asyncio", "uvicorn", "vllm"):
        logging.getLogger(name).setLevel(logging.WARNING)


def guard_vllm_logs() -> None:
    """vLLM logs failures with their exceptions, whose messages may quote the prompt.

    To be called again when vLLM has set its handlers up anew.
    """
    for name in ("", "vllm"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(keeps_and_redacts)


def keeps_and_redacts(record: logging.LogRecord) -> bool:
    """False for what follows from a failure of the fleet, which the gateway has logged
    itself, and for what the client did wrong, which the client is told.
    """
    exchange = current_exchange.get()
    if exchange is not None and exchange.error is not None and record.name.startswith("vllm"):
        return False
    if not record.exc_info or record.exc_info[0] is None:
        return True
    kind, _, trace = record.exc_info
    if any(base.__name__ == "VLLMClientError" for base in kind.__mro__):
        return False
    frames = "".join(traceback.format_tb(trace))
    record.msg, record.args = "%s: %s\n%s", (record.msg, kind.__name__, frames)
    record.exc_info = record.exc_text = None
    return True
