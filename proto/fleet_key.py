"""The fleet's shared secret, by which its processes know each other's messages."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from pathlib import Path

KEY_BYTES = 32
MAX_HEX_DIGITS = 1024
OTHERS = stat.S_IRWXG | stat.S_IRWXO
HEX_TEXT = re.compile(rf"[0-9a-f]{{{2 * KEY_BYTES},{MAX_HEX_DIGITS}}}", re.IGNORECASE)


class BadFleetKey(ValueError):
    """A file or bytes that are no fleet key. The message is one line and shows none of it."""


class FleetKey:
    """At least 32 random bytes; its repr shows none of them.

    Each purpose has a subkey, so that no message of one counts as another's.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        """Raises BadFleetKey if there are fewer than 32 bytes."""
        if len(secret) < KEY_BYTES:
            raise BadFleetKey(f"a fleet key has at least {KEY_BYTES} bytes, not {len(secret)}")
        self._secret = secret

    @classmethod
    def new(cls) -> FleetKey:
        return cls(secrets.token_bytes(KEY_BYTES))

    @classmethod
    def read(cls, path: str | Path) -> FleetKey:
        """From a file of hexadecimal digits that its owner alone can read. Raises BadFleetKey."""
        return cls(bytes.fromhex(read_hex(Path(path))))

    def derive(self, purpose: str) -> bytes:
        """The subkey of a purpose: 32 bytes."""
        return hmac.digest(self._secret, purpose.encode(), hashlib.sha256)

    def sign(self, purpose: str, data: bytes) -> bytes:
        """HMAC-SHA256, 32 bytes."""
        return hmac.digest(self.derive(purpose), data, hashlib.sha256)

    def is_valid(self, purpose: str, data: bytes, mac: bytes) -> bool:
        """Takes the same time whichever bytes of `mac` differ."""
        return hmac.compare_digest(self.sign(purpose, data), mac)

    def to_hex(self) -> str:
        """What `read` takes, less the line's end."""
        return self._secret.hex()

    def __repr__(self) -> str:
        return "<FleetKey>"


def read_hex(path: Path) -> str:
    """Raises BadFleetKey."""
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & OTHERS:
                raise BadFleetKey(f"{path}: others can read the fleet key: chmod 600 {path}")
            text = file.read(2 * MAX_HEX_DIGITS).decode("ascii", errors="replace").strip()
    except OSError as error:
        raise BadFleetKey(f"{path}: no fleet key there: {error.strerror}") from error
    if not HEX_TEXT.fullmatch(text) or len(text) % 2:
        raise BadFleetKey(f"{path}: a fleet key is {2 * KEY_BYTES} or more hexadecimal digits")
    return text
