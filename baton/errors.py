"""What ends a command with one line on stderr.

BatonError
├── BadSettings        a flag, variable or key of the configuration; exit code 2
├── AlreadyRunning     another supervisor owns the state directory
├── BadAddress         the gateway cannot listen there
├── NotEnoughMemory    the weights and KV caches of all workers do not fit
├── ServerUnreachable  the Redis named with --redis does not answer
├── FleetTaken         workers of the same names are in the fleet of that Redis
├── CannotMeasure      a fleet does not answer as one that could be measured
├── NothingRuns        no fleet runs out of the state directory; exit code 3
├── NoAnswer           a gateway does not answer, or not as one that has the page
├── StartFailed        a process ended, or took too long, before it was ready
└── StopFailed         the supervisor is still there after it was told to stop
"""

from __future__ import annotations


class BatonError(Exception):
    """Its text is one line for people; `exit_code` is the command's."""

    exit_code = 1


class BadSettings(BatonError):
    exit_code = 2


class AlreadyRunning(BatonError):
    pass


class BadAddress(BatonError):
    pass


class NotEnoughMemory(BatonError):
    pass


class ServerUnreachable(BatonError):
    pass


class FleetTaken(BatonError):
    pass


class CannotMeasure(BatonError):
    pass


class NothingRuns(BatonError):
    exit_code = 3


class NoAnswer(BatonError):
    pass


class StartFailed(BatonError):
    def __init__(self, process: str, reason: str) -> None:
        super().__init__(reason)
        self.process = process


class StopFailed(BatonError):
    pass
