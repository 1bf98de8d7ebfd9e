from __future__ import annotations

from typing import Any

import pytest

from kvtransfer.nixl import NixlAddress, decode_params, prefill_params
from tests.proto.builders import TICKET_ID, make_ticket

ADDRESS = NixlAddress("engine-1", "10.0.0.7", 5600)
TICKET = make_ticket(source_addresses=(ADDRESS.encode(),), num_tokens=300)
SAID: dict[str, Any] = {
    "do_remote_prefill": True,
    "do_remote_decode": False,
    "remote_block_ids": [[1, 2, 3]],
    "remote_engine_id": "engine-1",
    "remote_request_id": "prefill-1-r",
    "remote_host": "10.0.0.7",
    "remote_port": 5600,
    "tp_size": 1,
    "dcp_size": 1,
    "pp_size": 1,
    "remote_num_tokens": 300,
    "remote_blocks_expiry_time": None,
    "transfer_mode": "pull",
}


def test_an_address_comes_back_from_its_bytes() -> None:
    assert NixlAddress.decode(ADDRESS.encode()) == ADDRESS


@pytest.mark.parametrize(
    "encoded",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"ucx address", id="another-transports"),
        pytest.param(b'{"engine_id": "e", "host": "h", "port": 0}', id="port-0"),
        pytest.param(b'{"engine_id": "e", "host": "h", "port": 1, "x": 1}', id="more-than-known"),
    ],
)
def test_what_is_no_address_is_a_value_error(encoded: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        NixlAddress.decode(encoded)


def test_the_prefill_leg_keeps_its_blocks_for_the_ticket() -> None:
    params = prefill_params(TICKET)
    assert (params["do_remote_decode"], params["do_remote_prefill"]) == (True, False)
    assert (params["ticket"], params["lease_seconds"]) == (TICKET_ID, TICKET.lease_seconds)


def test_the_decode_leg_pulls_from_where_the_prefill_leg_said() -> None:
    params = decode_params(TICKET, SAID)
    assert (params["do_remote_decode"], params["do_remote_prefill"]) == (False, True)
    assert params["ticket"] == TICKET_ID
    for name in ("remote_engine_id", "remote_request_id", "remote_host", "remote_port", "tp_size"):
        assert params[name] == SAID[name]
    assert [list(group) for group in params["remote_block_ids"]] == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        pytest.param({"remote_engine_id": "engine-2"}, "another engine", id="other-engine"),
        pytest.param({"remote_host": "10.0.0.8"}, "another engine", id="other-host"),
        pytest.param({"remote_port": 5601}, "another engine", id="other-port"),
        pytest.param({"tp_size": 2}, "another engine", id="other-tp"),
        pytest.param({"remote_num_tokens": 299}, "299 tokens of 300", id="too-few-tokens"),
        pytest.param({"remote_block_ids": [[-1]]}, "cannot be read", id="no-block"),
        pytest.param({"remote_block_ids": "1,2"}, "cannot be read", id="no-blocks"),
        pytest.param({"transfer_mode": "push"}, "cannot be read", id="push"),
        pytest.param({"dcp_size": 2}, "cannot be read", id="tokens-over-ranks"),
    ],
)
def test_what_does_not_fit_the_ticket_is_a_value_error(
    changed: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        decode_params(TICKET, SAID | changed)


def test_without_a_word_of_the_prefill_leg_there_is_nothing_to_pull() -> None:
    with pytest.raises(ValueError, match="has not said"):
        decode_params(TICKET, {})
