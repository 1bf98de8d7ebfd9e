from __future__ import annotations

import pytest

from kvtransfer.ucx_settings import (
    between_hosts,
    from_environment,
    inside_a_host,
    transports_in,
    warning_about,
)

INFO = """
#      resource 0  :  md 0  dev 0  flags -- self/memory
#      resource 1  :  md 1  dev 1  flags -- tcp/eth0
#      resource 2  :  md 1  dev 2  flags -- tcp/lo
#      resource 3  :  md 2  dev 0  flags -- sysv/memory
#      resource 4  :  md 4  dev 0  flags -- cma/memory
"""


@pytest.mark.parametrize(
    ("tls", "near"),
    [
        pytest.param(None, "self,sysv", id="default"),
        pytest.param("all", "self,sysv", id="all"),
        pytest.param("tcp,sysv", "self,sysv", id="no-tcp-inside-a-host"),
        pytest.param("self,posix", "self,posix", id="posix-if-asked-for"),
        pytest.param("shm", "self,sysv", id="alias"),
        pytest.param("^tcp", "self,sysv", id="without-tcp"),
        pytest.param("tcp", None, id="only-tcp"),
        pytest.param("tcp,self", None, id="only-tcp-and-self"),
        pytest.param("^sysv", None, id="without-shared-memory"),
        pytest.param("^shm,tcp", None, id="without-its-alias"),
    ],
)
def test_inside_a_host_there_is_shared_memory_or_nothing(tls: str | None, near: str | None) -> None:
    found = inside_a_host({} if tls is None else {"TLS": tls}, [])
    assert (None if found is None else found["TLS"]) == near


def test_a_gpus_memory_is_reached_inside_a_host() -> None:
    found = inside_a_host({}, ["cuda_copy", "cuda_ipc", "sysv", "tcp"])
    assert found is not None
    assert found["TLS"] == "self,sysv,cuda_copy,cuda_ipc"


def test_settings_of_networks_are_not_for_shared_memory() -> None:
    settings = {"NET_DEVICES": "eth0", "TCP_PORT_RANGE": "7000-7100", "SYSV_FIFO_SIZE": "64"}
    found = inside_a_host(settings, [])
    assert found == {"TLS": "self,sysv", "RNDV_THRESH": "8192", "SYSV_FIFO_SIZE": "64"}
    assert settings.items() <= between_hosts(settings).items()


def test_the_users_own_choice_goes_first() -> None:
    chosen = from_environment({"UCX_TLS": "rc", "UCX_RNDV_THRESH": "64k", "UCX_LOG_LEVEL": "info"})
    assert chosen == {"TLS": "rc", "RNDV_THRESH": "64k"}
    assert between_hosts(chosen)["TLS"] == "rc"
    assert between_hosts(chosen)["RNDV_THRESH"] == "64k"
    assert between_hosts({})["TLS"] == "^cma"


def test_transports_are_read_from_ucxs_description() -> None:
    assert transports_in(INFO) == ["self", "sysv", "tcp"]


def test_only_tcp_is_worth_a_warning() -> None:
    warning = warning_about(["self", "sysv", "tcp"])
    assert warning is not None
    assert "only TCP between hosts" in warning
    assert "--with-verbs" in warning


@pytest.mark.parametrize("transport", ["rc_verbs", "rc_mlx5", "dc_mlx5", "ud_verbs", "srd"])
def test_with_rdma_there_is_no_warning(transport: str) -> None:
    assert warning_about(["self", "sysv", "tcp", transport]) is None
