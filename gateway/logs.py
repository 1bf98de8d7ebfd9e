"""What the gateway writes to its log: lines for people, never what clients sent."""

from __future__ import annotations

import logging
import sys
import traceback

from gateway.exchange import current_exchange

OURS = ("fleet", "gateway")
# vLLM logs these with what the client sent, which is told of them anyway.
CLIENTS_FAULT = ("Error with model", "Chat template rejected the request")


def configure_logs() -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    for name in OURS:
        # Set here as well: a library under vLLM raises the root's level.
        logging.getLogger(name).setLevel(logging.INFO)
    for name in ("asyncio", "uvicorn", "vllm"):
        logging.getLogger(name).setLevel(logging.WARNING)


def name_process(number: int) -> None:
    """Marks the lines of one of several processes."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(
            logging.Formatter(f"%(asctime)s %(levelname)s [process {number}] %(message)s")
        )


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
    if record.name.startswith(OURS):
        return True
    exchange = current_exchange.get()
    if exchange is not None and exchange.error is not None:
        return False
    if str(record.msg).startswith(CLIENTS_FAULT):
        return False
    return not record.exc_info or record.exc_info[0] is None or redact(record, record.exc_info[0])


def redact(record: logging.LogRecord, kind: type[BaseException]) -> bool:
    """Leaves the frames, without the exception's message and the line's own values."""
    if any(base.__name__ == "VLLMClientError" for base in kind.__mro__):
        return False
    trace = record.exc_info[2] if isinstance(record.exc_info, tuple) else None
    frames = "".join(traceback.format_tb(trace))
    record.msg, record.args = "%s: %s\n%s", (record.msg, kind.__name__, frames)
    record.exc_info = record.exc_text = None
    return True
