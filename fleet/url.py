"""URLs of Redis-protocol servers."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from fleet.errors import BadFleetUrl

SCHEMES = ("redis", "rediss", "unix")
TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
TLS_OPTIONS = (*TLS_FILES, "ssl_password", "ssl_cert_reqs", "ssl_check_hostname")


def check_url(url: str) -> str:
    """The URL. Raises BadFleetUrl unless its scheme is one of SCHEMES and its options are ours."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        # What urlsplit says would quote a part of the password.
        raise bad(
            url, "host and port are not readable; in a password, write / # ? @ : as %2F %23 ..."
        ) from error
    if parts.scheme not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise bad(url, f"a URL starts with one of {known}")
    if parts.fragment:
        raise bad(url, "a # has no meaning there; in a password, write it as %23")
    check_options(url, parts.scheme, parts.query)
    return url


def check_options(url: str, scheme: str, query: str) -> None:
    """Raises BadFleetUrl."""
    known = ("db", *TLS_OPTIONS) if scheme == "rediss" else ("db",)
    for name, values in parse_qs(query, keep_blank_values=True).items():
        if name in TLS_OPTIONS and scheme != "rediss":
            raise bad(url, f"{name} needs TLS, which is rediss://")
        if name not in known:
            raise bad(url, f"there is no option {name!r}; known are {', '.join(known)}")
        if name in TLS_FILES and not Path(values[0]).is_file():
            raise bad(url, f"{name}: there is no file {values[0]}")


def bad(url: str, reason: str) -> BadFleetUrl:
    return BadFleetUrl(f"fleet state at {redacted(url)!r}: {reason}")


def redacted(url: str) -> str:
    """The URL without its user, its password and its options.

    A password that should have been escaped may lie anywhere before the last @.
    """
    scheme, separator, rest = url.partition("://")
    if scheme == "unix" and rest.startswith("/"):
        return url.partition("?")[0]
    place = rest.rpartition("@")[2].partition("?")[0]
    return f"{scheme}{separator}{place}" if separator else place
