from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest

from proto.fleet_key import BadFleetKey, FleetKey
from tests.proto.builders import KEY, OTHER_KEY


def write(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "key"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_key_is_read_as_it_was_written(tmp_path: Path) -> None:
    key = FleetKey.new()
    read = FleetKey.read(write(tmp_path, f"{key.to_hex()}\n"))
    assert read.sign("p", b"data") == key.sign("p", b"data")
    assert FleetKey.new().to_hex() != key.to_hex()
    assert len(bytes.fromhex(key.to_hex())) == 32


def test_a_signature_is_hmac_sha256_under_the_purposes_subkey() -> None:
    subkey = hmac.new(bytes(range(32)), b"p", hashlib.sha256).digest()
    assert KEY.derive("p") == subkey
    assert KEY.sign("p", b"data") == hmac.new(subkey, b"data", hashlib.sha256).digest()


def test_only_the_same_key_purpose_and_data_are_valid() -> None:
    mac = KEY.sign("p", b"data")
    assert KEY.is_valid("p", b"data", mac)
    assert not KEY.is_valid("q", b"data", mac)
    assert not KEY.is_valid("p", b"Data", mac)
    assert not KEY.is_valid("p", b"data", mac[:-1])
    assert not KEY.is_valid("p", b"data", b"")
    assert not OTHER_KEY.is_valid("p", b"data", mac)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_key_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path, KEY.to_hex(), mode)
    with pytest.raises(BadFleetKey, match=f"chmod 600 {path}"):
        FleetKey.read(path)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("ab" * 31, id="short"),
        pytest.param("ab" * 32 + "a", id="half a byte"),
        pytest.param("zz" * 32, id="no digits"),
        pytest.param("ab" * 16 + "\n" + "ab" * 16, id="two lines"),
        pytest.param("ab" * 600, id="long"),
    ],
)
def test_what_is_no_key_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadFleetKey, match="64 or more hexadecimal digits") as refused:
        FleetKey.read(write(tmp_path, text))
    assert "abab" not in str(refused.value)
    assert "zz" not in str(refused.value)


def test_a_missing_key_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadFleetKey, match="no fleet key there: No such file") as refused:
        FleetKey.read(tmp_path / "none")
    assert "\n" not in str(refused.value)


def test_too_few_bytes_are_no_key() -> None:
    with pytest.raises(BadFleetKey, match="at least 32 bytes, not 31"):
        FleetKey(bytes(31))


def test_a_key_is_not_shown() -> None:
    assert repr(KEY) == "<FleetKey>"
    assert not hasattr(KEY, "__dict__")
