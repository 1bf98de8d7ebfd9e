"""Why a server that answers does not serve us, and what to do about it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from redis.exceptions import (
    AuthenticationError,
    ClusterCrossSlotError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)

OLDEST = (6, 2)
PAGE = "docs/fleet-state.md"
CLIENTS = "?ssl_certfile=FILE&ssl_keyfile=FILE"


OTHERS: dict[type[RedisError], str] = {
    OutOfMemoryError: "its memory is full: raise its maxmemory",
    ReadOnlyError: "it is a replica, to which nobody writes: name its primary",
    MovedError: "it is a cluster: fleet state lies on a single server",
    ClusterCrossSlotError: "it is a cluster: fleet state lies on a single server",
}


def refusal(error: BaseException) -> str | None:
    """None if it is an outage, not a refusal. Nothing of the URL is in it."""
    for each in chain(error):
        if isinstance(each, AuthenticationError):
            return of_login(str(each))
        if isinstance(each, NoPermissionError):
            return f"{str(each).rstrip('. ')}: {PAGE} has the ACL SETUSER line for its user"
        if isinstance(each, ssl.SSLError):
            return of_tls(each)
        for kind, reason in OTHERS.items():
            if isinstance(each, kind):
                return reason
        if "unknown command" in str(each) and "HELLO" in str(each).upper():
            return of_age("older than 6")
    return None


def chain(error: BaseException) -> Iterator[BaseException]:
    """It, and what it came from."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def of_login(said: str) -> str:
    if "required" in said or "already authenticated" in said:
        return "it wants a password: write it in the URL, redis://user:password@host"
    return "user or password are wrong: they stand in the URL, redis://user:password@host"


def of_tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        if "ostname" in error.verify_message or "IP address" in error.verify_message:
            return f"its certificate is another host's: {error.verify_message.rstrip('. ')}"
        return (
            f"its certificate is not trusted ({error.verify_message}): "
            "name its authority's file with ?ssl_ca_certs=FILE"
        )
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "certificate required" in reason:
        return f"it wants a client's certificate: {CLIENTS}"
    if "wrong version number" in reason or "record layer failure" in reason:
        return "there is no TLS on that port: without TLS it is redis://"
    return f"TLS fails: {reason}"


def hint(server: str, reason: str) -> str:
    """What else an outage may mean when nothing has worked so far; "" if nothing."""
    scheme = server.partition("://")[0]
    is_cut_off = "closed" in reason or "reset" in reason
    if scheme == "rediss" and "in time" in reason:
        return " (if there is no TLS on that port, it is redis://)"
    if scheme == "rediss" and is_cut_off:
        return f" (if it wants a client's certificate: {CLIENTS})"
    if scheme == "redis" and is_cut_off:
        return " (if there is TLS on that port, it is rediss://)"
    return ""


def of_age(version: str) -> str:
    oldest = ".".join(map(str, OLDEST))
    return f"it is {version}, and fleet state needs Redis {oldest} or newer, or any Valkey"
