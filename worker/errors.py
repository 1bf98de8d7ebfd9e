"""What can go wrong in a worker.

WorkerError
├── StartError          the worker cannot serve: one line for people, exit code 1
│   ├── BadSettings         a flag or variable that makes no sense
│   ├── BadModel            the model's folder is none
│   ├── NotEnoughMemory     weights and KV cache do not fit
│   ├── PortTaken           another program listens there
│   └── EngineNotStarted    vLLM refused the configuration or failed to start
├── EngineLost          the engine has died; fields reason, exit code 1
├── SessionError        one gateway's session cannot go on; fields reason
│   ├── GatewayRefused      it cannot have a session here
│   ├── ProtocolBroken      the gateway sent what makes no sense here
│   ├── GatewayTooSlow      the gateway does not read what it asked for
│   ├── EngineGone          the engine died under it
│   └── SessionOver         either side has hung up: no error, but the end
└── RequestError        one request; fields code, retryable
    ├── BadRequest          the leg cannot be run as it was submitted
    ├── DuplicateRequest    its id is taken in this session
    ├── RoleNotServed       this worker does not take this leg
    ├── Overloaded          more legs are open than this worker takes
    ├── NoCredit            the KV cache has no room that is not promised already
    ├── Stopping            this worker takes no more, or gives up what is open
    ├── OutputTooLarge      its output does not fit into a message
    └── TicketRefused       no KV moves under its ticket; field cause
        ├── MalformedTicket     it is none
        ├── ForgedTicket        it was not signed with the fleet's key
        ├── ExpiredTicket       it comes too late
        ├── UsedTicket          it was taken before
        ├── TicketLedgerFull    no more used tickets can be remembered
        ├── ForeignWorker       its source is not this worker, or none that this one knows
        ├── ForeignModel        it is for KV of another model
        ├── ForeignLayout       it is for KV that lies otherwise
        ├── ForeignTransfer     what the prefill leg said is not of its KV
        └── ForeignPrompt       it covers another prompt

No message holds prompt text.
"""

from __future__ import annotations

from typing import ClassVar


class WorkerError(Exception):
    """Base of every error that a worker raises."""


class StartError(WorkerError):
    """The message is the one line that the user sees."""


class BadSettings(StartError):
    pass


class BadModel(StartError):
    pass


class NotEnoughMemory(StartError):
    pass


class PortTaken(StartError):
    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"cannot listen on {host}:{port}: {reason}")
        self.host = host
        self.port = port


class EngineNotStarted(StartError):
    pass


class EngineLost(WorkerError):
    def __init__(self, reason: str) -> None:
        super().__init__(f"the engine has died: {reason}")
        self.reason = reason


class SessionError(WorkerError):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class GatewayRefused(SessionError):
    pass


class ProtocolBroken(SessionError):
    pass


class GatewayTooSlow(SessionError):
    pass


class EngineGone(SessionError):
    pass


class SessionOver(SessionError):
    pass


class RequestError(WorkerError):
    """`code` is that of proto Failure."""

    code: ClassVar[str]
    retryable: ClassVar[bool] = False


class BadRequest(RequestError):
    code = "bad_request"


class DuplicateRequest(RequestError):
    code = "duplicate_request"

    def __init__(self) -> None:
        super().__init__("a request of this id is open in this session")


class RoleNotServed(RequestError):
    code = "role_not_served"

    def __init__(self, leg: str) -> None:
        super().__init__(f"this worker does not take the {leg} leg")
        self.leg = leg


class Overloaded(RequestError):
    code = "overloaded"
    retryable = True

    def __init__(self, num_open: int) -> None:
        super().__init__(f"{num_open} requests are open on this worker already")
        self.num_open = num_open


class NoCredit(RequestError):
    """The gateway did not know of what others have reserved."""

    code = "no_credit"
    retryable = True

    def __init__(self, num_tokens: int, num_free: int) -> None:
        super().__init__(f"{num_tokens} tokens of KV are asked for, {num_free} are not promised")
        self.num_tokens = num_tokens
        self.num_free = num_free


class Stopping(RequestError):
    code = "stopping"
    retryable = True

    def __init__(self) -> None:
        super().__init__("this worker is stopping")


class OutputTooLarge(RequestError):
    code = "output_too_large"

    def __init__(self, num_bytes: int) -> None:
        super().__init__(f"one step's output takes {num_bytes} bytes, more than a message holds")
        self.num_bytes = num_bytes


class TicketRefused(RequestError):
    """A prefill leg fails by it; a decode leg computes its prompt here."""

    @property
    def cause(self) -> str:
        """That of proto Tickets.refused."""
        return self.code.removeprefix("ticket_")


class MalformedTicket(TicketRefused):
    code = "ticket_malformed"


class ForgedTicket(TicketRefused):
    code = "ticket_forged"

    def __init__(self) -> None:
        super().__init__("the ticket was not signed with this fleet's key")


class ExpiredTicket(TicketRefused):
    code = "ticket_expired"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the ticket expired {seconds:.0f} seconds ago")
        self.seconds = seconds


class UsedTicket(TicketRefused):
    code = "ticket_used"

    def __init__(self) -> None:
        super().__init__("the ticket was used before")


class TicketLedgerFull(TicketRefused):
    code = "ticket_ledger_full"

    def __init__(self, num_used: int) -> None:
        super().__init__(f"{num_used} used tickets are remembered already")
        self.num_used = num_used


class ForeignWorker(TicketRefused):
    code = "ticket_foreign_worker"


class ForeignModel(TicketRefused):
    code = "ticket_foreign_model"

    def __init__(self, theirs: str, ours: str) -> None:
        super().__init__(f"the ticket is for model {theirs:.16}, this worker has {ours:.16}")


class ForeignLayout(TicketRefused):
    code = "ticket_foreign_layout"


class ForeignTransfer(TicketRefused):
    code = "ticket_foreign_transfer"


class ForeignPrompt(TicketRefused):
    code = "ticket_foreign_prompt"

    def __init__(self) -> None:
        super().__init__("the ticket covers another prompt")
