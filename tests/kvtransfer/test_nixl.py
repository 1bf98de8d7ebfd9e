from __future__ import annotations

from typing import Any

import pytest

from kvtransfer.nixl import NixlAddress, decode_params, prefill_params, signed_params
from tests.proto.builders import KEY, OTHER_KEY, TICKET_ID, make_ticket

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
    params = decode_params(TICKET, signed_params(TICKET_ID, SAID, KEY), KEY)
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
    ],
)
def test_what_does_not_fit_the_ticket_is_a_value_error(
    changed: dict[str, Any], problem: str
) -> None:
    said = signed_params(TICKET_ID, SAID | changed, KEY)
    with pytest.raises(ValueError, match=problem):
        decode_params(TICKET, said, KEY)


def test_the_kv_of_one_ticket_is_no_others() -> None:
    other = make_ticket(
        id=bytes(16), source_addresses=TICKET.source_addresses, num_tokens=TICKET.num_tokens
    )
    said = signed_params(TICKET_ID, SAID, KEY)
    with pytest.raises(ValueError, match="another ticket's"):
        decode_params(other, said, KEY)
    with pytest.raises(ValueError, match="not signed"):
        decode_params(other, said | {"ticket": other.id}, KEY)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"mac": b""}, id="no-mac"),
        pytest.param({"mac": bytes(32)}, id="another-mac"),
        pytest.param({"remote_engine_id": "engine-2"}, id="engine"),
        pytest.param({"remote_request_id": "prefill-2-r"}, id="request"),
        pytest.param({"remote_host": "10.0.0.8"}, id="host"),
        pytest.param({"remote_port": 5601}, id="port"),
        pytest.param({"remote_block_ids": [[1, 2, 4]]}, id="other-blocks"),
        pytest.param({"remote_block_ids": [[2, 1, 3]]}, id="another-order-of-blocks"),
        pytest.param({"remote_block_ids": [[1, 2], [3]]}, id="other-groups"),
        pytest.param({"remote_block_ids": [[1, 2, 3], []]}, id="more-groups"),
        pytest.param({"remote_num_tokens": 301}, id="tokens"),
        pytest.param({"tp_size": 2}, id="tp"),
        pytest.param({"pp_size": 2}, id="pp"),
    ],
)
def test_nothing_that_is_relied_on_can_be_changed_on_the_way(changed: dict[str, Any]) -> None:
    said = signed_params(TICKET_ID, SAID, KEY)
    with pytest.raises(ValueError, match="not signed"):
        decode_params(TICKET, said | changed, KEY)


def test_another_fleets_word_counts_for_nothing() -> None:
    with pytest.raises(ValueError, match="not signed"):
        decode_params(TICKET, signed_params(TICKET_ID, SAID, OTHER_KEY), KEY)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"remote_block_ids": [[-1]]}, id="no-block"),
        pytest.param({"remote_block_ids": "1,2"}, id="no-blocks"),
        pytest.param({"transfer_mode": "push"}, id="push"),
        pytest.param({"dcp_size": 2}, id="tokens-over-ranks"),
        pytest.param({"ticket": "AAECAwQFBgcICQoLDA0ODw=="}, id="text-for-bytes"),
        pytest.param({"mac": "x"}, id="text-for-a-mac"),
    ],
)
def test_what_cannot_be_read_is_a_value_error(changed: dict[str, Any]) -> None:
    said = signed_params(TICKET_ID, SAID, KEY)
    with pytest.raises(ValueError, match="cannot be read"):
        decode_params(TICKET, said | changed, KEY)


def test_what_was_said_of_no_ticket_is_not_taken() -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        decode_params(TICKET, SAID, KEY)


def test_without_a_word_of_the_prefill_leg_there_is_nothing_to_pull() -> None:
    with pytest.raises(ValueError, match="has not said"):
        decode_params(TICKET, {}, KEY)
