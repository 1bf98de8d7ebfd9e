"""What can go wrong in the gateway.

GatewayError
├── StartError          the gateway cannot serve: one line for people, exit code 1
├── WorkerError         about one worker; fields worker, reason
│   ├── WorkerUnreachable    no connection, or it does not describe itself in time
│   ├── WorkerIncompatible   it runs another model, vLLM version or KV layout
│   └── SessionLost          the stream to it ended, or it no longer answers
└── RequestError        about one request; fields code, status, retry_after_seconds
    ├── NoDecodeWorker       nobody can take it now
    ├── TooManyRequests      the gateway has as many open as it takes
    ├── WorkerLost           the worker that answered it is gone
    ├── WorkerFailed         the worker gave it up; fields worker, reason, is_retryable
    │   └── WorkerFull           its KV cache has no room that is not promised already
    ├── WorkerRefused        the worker says that it makes no sense; field reason
    ├── TimedOut             a stage took too long; field stage
    └── ShuttingDown         the gateway stops

No message holds prompt text.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import ClassVar


class GatewayError(Exception):
    """Base of every error that the gateway raises."""


class StartError(GatewayError):
    """The message is the one line that the user sees."""


class WorkerError(GatewayError):
    def __init__(self, worker: str, reason: str) -> None:
        super().__init__(f"worker {worker}: {reason}")
        self.worker = worker
        self.reason = reason


class WorkerUnreachable(WorkerError):
    pass


class WorkerIncompatible(WorkerError):
    pass


class SessionLost(WorkerError):
    pass


class RequestError(GatewayError):
    """`code` and `kind` are the error object's code and type, `status` the HTTP status.

    `is_retryable`: another worker may well do it.
    """

    code: ClassVar[str] = "internal_error"
    kind: ClassVar[str] = "server_error"
    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    retry_after_seconds: ClassVar[int | None] = None
    is_retryable: bool = False


class Unavailable(RequestError):
    """Base of those that may well succeed when tried again."""

    kind = "service_unavailable"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    retry_after_seconds = 1


class NoDecodeWorker(Unavailable):
    code = "no_decode_worker"
    retry_after_seconds = 5

    def __init__(self) -> None:
        super().__init__("No decode worker is available now; please try again shortly.")


class TooManyRequests(RequestError):
    code = "too_many_requests"
    kind = "rate_limit_error"
    status = HTTPStatus.TOO_MANY_REQUESTS
    retry_after_seconds = 1

    def __init__(self, most: int) -> None:
        super().__init__(f"The gateway takes {most} requests at once, n of each counted.")


class WorkerLost(Unavailable):
    code = "worker_lost"

    def __init__(self, worker: str) -> None:
        super().__init__(f"The decode worker {worker} was lost; please try again.")
        self.worker = worker


class WorkerFailed(Unavailable):
    code = "worker_failed"

    def __init__(self, worker: str, reason: str, is_retryable: bool = False) -> None:
        super().__init__(f"The decode worker {worker} gave the request up: {reason}")
        self.worker = worker
        self.reason = reason
        self.is_retryable = is_retryable


class WorkerFull(WorkerFailed):
    """The request waits again."""


class WorkerRefused(RequestError):
    code = "bad_request"
    kind = "invalid_request_error"
    status = HTTPStatus.BAD_REQUEST

    def __init__(self, reason: str) -> None:
        super().__init__(f"The request cannot be run: {reason}")
        self.reason = reason


class TimedOut(RequestError):
    code = "timed_out"
    kind = "timeout"
    status = HTTPStatus.GATEWAY_TIMEOUT

    def __init__(self, stage: str, seconds: float) -> None:
        super().__init__(f"No {stage} within {seconds:g} seconds.")
        self.stage = stage
        self.seconds = seconds


class ShuttingDown(Unavailable):
    code = "shutting_down"

    def __init__(self) -> None:
        super().__init__("The gateway is shutting down; please try again.")
