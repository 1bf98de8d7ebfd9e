from __future__ import annotations

import shlex
import sys
from pathlib import Path

from baton.cores import assign
from baton.gpus import assign_gpus
from baton.lineup import (
    GRACE_SECONDS,
    Part,
    ProcessSpec,
    Site,
    line_up,
    num_worker_processes,
    valkey,
)
from baton.settings import UpSettings
from fleet.valkey import ValkeyServer


def make_lineup(
    settings: UpSettings, *, gpus: tuple[str, ...] = (), environment: dict[str, str] | None = None
) -> dict[str, ProcessSpec]:
    num_workers = num_worker_processes(settings)
    site = Site(
        model=Path("/models/tiny"),
        served_model_name="tiny",
        redis="unix:///run/valkey.sock",
        fleet_key_file=Path("/run/fleet.key"),
        port=8000,
        cores=assign(range(4), num_workers),
        gpus=assign_gpus(gpus, num_workers),
        environment=environment or {},
    )
    return {spec.name: spec for spec in line_up(settings, site)}


def test_workers_come_before_the_gateway_and_are_numbered() -> None:
    lineup = make_lineup(UpSettings(prefill=2, decode=1))
    assert list(lineup) == ["prefill-0", "prefill-1", "decode-0", "gateway"]


def test_a_worker_is_told_what_its_command_line_says() -> None:
    spec = make_lineup(UpSettings(max_model_len=4096, kv_cache_gib=2))["prefill-0"]
    assert spec.command[:3] == (sys.executable, "-m", "prefill_worker")
    assert shlex.join(spec.command[3:]) == (
        "--model /models/tiny --fleet baton --dtype auto "
        "--max-model-len 4096 --worker-id prefill-0 --host 127.0.0.1 --port 0 --kv-cache-gib 2 "
        "--itl-goal-seconds 0.2 "
        "--kv-connector baton --staging-mib 16 --kv-staging host --kv-wire raw "
        "--kv-stall-seconds 10 --kv-max-loads 256"
    )
    assert spec.workers == ("prefill-0",)


def test_workers_of_both_kinds_move_kv_alike() -> None:
    settings = UpSettings(
        kv_connector="nixl",
        staging_mib=4,
        kv_staging="device",
        kv_wire="fp8",
        kv_stall_seconds=2.5,
        kv_max_loads=7,
    )
    lineup = make_lineup(settings)
    for name in ("prefill-0", "decode-0"):
        assert (
            "--kv-connector nixl --staging-mib 4 --kv-staging device --kv-wire fp8 "
            "--kv-stall-seconds 2.5 --kv-max-loads 7"
        ) in shlex.join(lineup[name].command)


def test_prefill_workers_alone_keep_cold_kv() -> None:
    settings = UpSettings(
        offload_gib=0.5, offload_folder=Path("/kv"), offload_folder_gib=2, engine_args="--seed 1"
    )
    lineup = make_lineup(settings, environment={"BATON_OFFLOAD_GIB": "9"})
    flags = "--offload-gib 0.5 --offload-folder /kv --offload-folder-gib 2.0"
    assert flags in shlex.join(lineup["prefill-0"].command)
    for name in ("decode-0", "gateway"):
        assert "offload" not in shlex.join(lineup[name].command)
        assert "BATON_OFFLOAD_GIB" not in lineup[name].environment


def test_the_fleets_server_is_told_where_no_other_user_can_read_it() -> None:
    for spec in make_lineup(UpSettings()).values():
        assert spec.environment["BATON_REDIS"] == "unix:///run/valkey.sock"
        assert spec.environment["BATON_FLEET_KEY_FILE"] == "/run/fleet.key"
        assert "unix:" not in shlex.join(spec.command)


def test_the_gateway_is_told_whom_to_expect() -> None:
    spec = make_lineup(UpSettings(prefill=2, decode=1, host="0.0.0.0"))["gateway"]
    words = shlex.join(spec.command)
    assert "--served-model-name tiny --host 0.0.0.0 --port 8000" in words
    assert "--expect-prefill 2 --expect-decode 1 --dispatch together --processes 1" in words
    assert "--routing default --disaggregation auto" in words
    assert spec.workers == ()


def test_engine_arguments_of_a_role_follow_those_of_all() -> None:
    lineup = make_lineup(
        UpSettings(engine_args="--seed 1", prefill_args="--a 'x y'", decode_args="--b")
    )
    assert lineup["prefill-0"].command[-1] == "--engine-args=--seed 1 --a 'x y'"
    assert lineup["decode-0"].command[-1] == "--engine-args=--seed 1 --b"
    assert lineup["gateway"].command[-1] == "--engine-args=--seed 1"


def test_workers_have_their_cores_and_as_many_threads() -> None:
    lineup = make_lineup(UpSettings(prefill=0, decode=1))
    decode = lineup["decode-0"]
    assert decode.cores == (0, 1, 2)
    assert decode.environment["OMP_NUM_THREADS"] == "3"
    assert lineup["gateway"].cores == (3,)


def test_what_must_agree_is_fixed_and_the_rest_is_the_users() -> None:
    theirs = {"PYTHONHASHSEED": "7", "VLLM_CPU_OMP_THREADS_BIND": "0-1", "BATON_PORT": "1"}
    environment = make_lineup(UpSettings(), environment=theirs)["decode-0"].environment
    assert environment["PYTHONHASHSEED"] == "0"
    assert environment["VLLM_CPU_OMP_THREADS_BIND"] == "0-1"
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert "BATON_PORT" not in environment


def test_workers_see_their_own_gpus_only() -> None:
    lineup = make_lineup(UpSettings(), gpus=("0", "1"))
    visible = [spec.environment.get("CUDA_VISIBLE_DEVICES") for spec in lineup.values()]
    assert visible == ["0", "1", None]
    assert "--engine-args" not in shlex.join(lineup["decode-0"].command)


def test_neighbours_on_one_gpu_are_told_to_share_it() -> None:
    lineup = make_lineup(UpSettings(), gpus=("0",))
    assert lineup["decode-0"].command[-1] == "--engine-args=--gpu-memory-utilization 0.45"


def test_valkey_runs_where_the_gateway_runs() -> None:
    spec = valkey(ValkeyServer(Path("/run/v.sock")), (3,), {})
    assert (spec.part, spec.cores) == (Part.VALKEY, (3,))


def test_an_orderly_stop_takes_ten_seconds_at_most() -> None:
    tiers = (Part.GATEWAY, Part.DECODE, Part.VALKEY)
    assert sum(GRACE_SECONDS[part] for part in tiers) < 10


def test_simulated_workers_share_one_process() -> None:
    settings = UpSettings(
        sim=True, prefill=2, decode=1, sim_speed=10, sim_args="--slow decode-0=2 --kv-blocks 99"
    )
    lineup = make_lineup(settings)
    assert list(lineup) == ["sim", "gateway"]
    assert lineup["sim"].workers == ("prefill-0", "prefill-1", "decode-0")
    assert shlex.join(lineup["sim"].command[1:]) == (
        "-m worker.sim --model /models/tiny --fleet baton --host 127.0.0.1 --prefill 2 --decode 1 "
        "--speed 10.0 --kv-max-loads 256 --itl-goal-seconds 0.2 --slow decode-0=2 --kv-blocks 99"
    )
