"""URLs of Redis-protocol servers."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from fleet.errors import BadFleetUrl

SCHEMES = ("redis", "rediss", "unix")


def check_url(url: str) -> str:
    """The URL. Raises BadFleetUrl unless its scheme is one of SCHEMES."""
    if urlsplit(url).scheme not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise BadFleetUrl(f"fleet state at {redacted(url)!r}: a URL starts with one of {known}")
    return url


def redacted(url: str) -> str:
    """The URL without its password."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
