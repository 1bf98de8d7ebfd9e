from __future__ import annotations

import base64
from typing import Any

import pytest

from kvtransfer.handoff import DecodeHandoff, Handoff, PrefillHandoff, from_params, to_params
from tests.kvtransfer.builders import make_ticket

PREFILL = PrefillHandoff(make_ticket(), 30.0)
DECODE = DecodeHandoff(make_ticket(), 30.0, "p/1", (b"rank-0", b"rank-1"))


@pytest.mark.parametrize("handoff", [PREFILL, DECODE], ids=["prefill", "decode"])
def test_params_come_back_as_the_handoff(handoff: Handoff) -> None:
    params = to_params(handoff)
    assert type(params["ticket"]) is bytes
    assert from_params(params) == handoff


def test_params_are_what_the_contract_says() -> None:
    assert to_params(DECODE) == {
        "leg": "decode",
        "ticket": make_ticket(),
        "lease_seconds": 30.0,
        "source": "p/1",
        "source_addresses": (b"rank-0", b"rank-1"),
    }


@pytest.mark.parametrize(
    "params",
    [
        pytest.param(None, id="none"),
        pytest.param({}, id="empty"),
        pytest.param({"do_remote_prefill": True}, id="another-connector's"),
    ],
)
def test_params_without_a_leg_are_no_handoff(params: dict[str, Any] | None) -> None:
    assert from_params(params) is None


@pytest.mark.parametrize(
    "params",
    [
        pytest.param({"leg": "prefill"}, id="bare"),
        pytest.param({**to_params(PREFILL), "leg": "both"}, id="other-leg"),
        pytest.param({**to_params(PREFILL), "leg": 1}, id="leg-a-number"),
        pytest.param({**to_params(PREFILL), "ticket": b"short"}, id="short-ticket"),
        pytest.param(
            {**to_params(PREFILL), "ticket": base64.b64encode(make_ticket()).decode()},
            id="ticket-as-text",
        ),
        pytest.param({**to_params(PREFILL), "lease_seconds": 0.0}, id="no-lease"),
        pytest.param({**to_params(PREFILL), "lease_seconds": float("nan")}, id="lease-nan"),
        pytest.param({**to_params(PREFILL), "lease_seconds": float("inf")}, id="lease-infinite"),
        pytest.param({**to_params(PREFILL), "lease_seconds": "30"}, id="lease-as-text"),
        pytest.param({**to_params(DECODE), "source_addresses": []}, id="no-addresses"),
        pytest.param({**to_params(DECODE), "source_addresses": b"rank-0"}, id="one-address"),
        pytest.param({**to_params(DECODE), "source_addresses": ["cmFuaw=="]}, id="text-address"),
        pytest.param({**to_params(DECODE), "source": None}, id="no-source"),
        pytest.param(to_params(PREFILL) | {1: 2}, id="key-a-number"),
        pytest.param(["leg"], id="a-list"),
        pytest.param("leg", id="a-text"),
        pytest.param(5, id="a-number"),
    ],
)
def test_a_malformed_handoff_is_a_value_error(params: Any) -> None:
    with pytest.raises(ValueError, match=r"malformed hand-off|are a mapping"):
        from_params(params)
