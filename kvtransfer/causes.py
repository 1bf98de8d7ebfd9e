"""Why a hand-off fails: the names that logs, refusals and metrics use."""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    """Why a ticket ended without its use, or why a demand was not met."""

    USED = "used"  # it was shown before
    REPEATED = "repeated"  # the very same demand came again
    FOREIGN = "foreign"  # it is another receiver's
    EXPIRED = "expired"  # nothing happened for its lease
    LAYOUT = "layout"  # the KV cannot be converted
    CROWDED = "crowded"  # too many demands wait for their requests
    CHECKSUM = "checksum"  # a segment was damaged on its way
    MALFORMED = "malformed"  # a segment that is no part of what was asked for
    NO_ROUTE = "no_route"  # no link can be made
    LINK_LOST = "link_lost"  # the peer is gone
    PEER_SILENT = "peer_silent"  # the peer answers no more
    CANCELLED = "cancelled"  # the receiver wants it no more
    ABORTED = "aborted"  # the request ended before its prompt was computed
    REVOKED = "revoked"  # the gateway ended it
    BROKEN = "broken"  # the transfer thread has failed
