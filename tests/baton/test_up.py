"""The whole of `baton up`, with real processes; the workers and the gateway are stand-ins."""

from __future__ import annotations

import os
import signal
import socket
import subprocess

import pytest

from proto.fleet_key import FleetKey
from tests.baton.running import PATIENCE_SECONDS, Running, read_until, wait_until
from tests.fleet.server import RunningValkey
from tests.proto.builders import KEY


def stop(process: subprocess.Popen[str], number: int = signal.SIGINT) -> tuple[int, str]:
    process.send_signal(number)
    output = process.communicate(timeout=PATIENCE_SECONDS)[0]
    return process.returncode, output


def test_it_shows_the_way_in_and_ctrl_c_leaves_nothing(running: Running) -> None:
    process = running.up("--prefill", "2", "--served-model-name", "tiny-1")
    output = "".join(read_until(process, "Ctrl-C stops it"))
    url = running.state.url
    for words in (f"curl {url}/v1", f'base_url="{url}/v1"', '"model": "tiny-1"', "prefill-1"):
        assert words in output
    assert {p.phase for p in running.state.processes} == {"ready"}
    FleetKey.read(running.state_dir / "fleet.key")
    assert stop(process)[0] == 0
    running.assert_nothing_left()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_stop_it_too(running: Running, number: int) -> None:
    process = running.up_ready()
    assert stop(process, number)[0] == 0
    running.assert_nothing_left()


def test_what_a_worker_started_is_ended_with_it_even_if_deaf(running: Running) -> None:
    process = running.up_ready(standin="prefill-0=grandchild")
    assert any("grandchild is deaf" in name for name in running.living().values())
    assert stop(process)[0] == 0
    running.assert_nothing_left()


def test_a_key_of_ones_own_is_used_and_left_alone(running: Running) -> None:
    key_file = running.folder / "mine.key"
    made = running.baton("key")
    key_file.touch(0o600)
    key_file.write_text(made.stdout)
    process = running.up_ready("--fleet-key-file", str(key_file))
    assert not (running.state_dir / "fleet.key").exists()
    assert stop(process)[0] == 0
    assert key_file.read_text() == made.stdout


def test_a_key_that_others_can_read_is_one_line(running: Running) -> None:
    key_file = running.folder / "mine.key"
    key_file.write_text(KEY.to_hex())
    key_file.chmod(0o644)
    exit_code, line = running.failing_up("--fleet-key-file", str(key_file))
    assert exit_code == 2
    assert line == (
        f"error: --fleet-key-file: {key_file}: others can read the fleet key: chmod 600 {key_file}"
    )
    running.assert_nothing_left()


def test_a_second_ctrl_c_kills_what_does_not_end(running: Running) -> None:
    process = running.up_ready(standin="decode-0=deaf")
    process.send_signal(signal.SIGINT)
    read_until(process, "once more kills")
    assert stop(process)[0] == 0
    running.assert_nothing_left()


def test_ctrl_c_while_starting_leaves_nothing(running: Running) -> None:
    process = running.up(standin="prefill-0=never")
    read_until(process, "decode-0    ready")
    assert stop(process)[0] == 130
    running.assert_nothing_left()


def test_nothing_survives_a_killed_supervisor(running: Running) -> None:
    process = running.up_ready(standin="prefill-0=grandchild,segment decode-0=deaf")
    assert running.segment.exists()
    assert stop(process, signal.SIGKILL)[0] == -signal.SIGKILL
    running.assert_nothing_left()
    assert not running.segment.exists()


def test_a_worker_that_dies_is_started_again(running: Running) -> None:
    process = running.up_ready()
    old = running.pid("decode-0")
    os.kill(old, signal.SIGKILL)
    message = read_until(process, "SIGKILL")[-1]
    assert "was ended by SIGKILL; next start in 1 s" in message
    assert str(running.state_dir / "logs" / "decode-0.log") in message
    read_until(process, "decode-0    ready")
    assert running.pid("decode-0") != old
    assert running.process("decode-0").restarts == 1
    assert stop(process)[0] == 0
    running.assert_nothing_left()


def test_shared_memory_of_a_killed_worker_is_removed(running: Running) -> None:
    process = running.up_ready(standin="decode-0=segment")
    os.kill(running.pid("decode-0"), signal.SIGKILL)
    read_until(process, "was ended by SIGKILL")
    assert not running.segment.exists()
    stop(process)


def test_shared_memory_that_was_there_before_stays(running: Running) -> None:
    running.segment.write_bytes(b"another's")
    process = running.up_ready(standin="decode-0=segment")
    stop(process)
    assert running.segment.exists()


def test_workers_are_members_again_after_valkey_died(running: Running) -> None:
    process = running.up_ready()
    os.kill(running.pid("valkey"), signal.SIGKILL)
    read_until(process, "valkey      ready")

    def loads() -> str:
        return running.baton("status").stdout

    wait_until(lambda: loads().count("12/400") == 2, loads)
    assert running.process("decode-0").restarts == 0
    stop(process)


@pytest.mark.parametrize("name", ["prefill-0", "decode-0", "gateway"])
def test_a_process_that_cannot_start_ends_it_with_its_own_line(running: Running, name: str) -> None:
    exit_code, last_line = running.failing_up(standin=f"{name}=fail")
    assert (exit_code, last_line) == (1, f"error: {name} wants another KV layout")
    running.assert_nothing_left()


def test_a_process_that_crashes_while_starting_is_told_from_its_traceback(running: Running) -> None:
    exit_code, last_line = running.failing_up(standin="decode-0=crash")
    assert exit_code == 1
    assert last_line == (
        "error: decode-0 ended with exit code 1 before all were ready: "
        "RuntimeError: engine is broken"
    )
    running.assert_nothing_left()


def test_a_process_that_is_never_ready_ends_it(running: Running) -> None:
    exit_code, last_line = running.failing_up(
        "--start-timeout-seconds", "2", standin="prefill-0=never"
    )
    assert exit_code == 1
    assert "prefill-0 was not ready after 2 s" in last_line
    running.assert_nothing_left()


def test_a_taken_port_is_refused_before_anything_starts(running: Running) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        exit_code, last_line = running.failing_up("--port", str(port))
    expected = f"error: port {port} on 127.0.0.1 is taken: choose another with --port"
    assert (exit_code, last_line) == (1, expected)
    assert not (running.state_dir / "logs" / "valkey.log").exists()
    running.assert_nothing_left()


def test_a_missing_model_is_refused_before_anything_starts(running: Running) -> None:
    exit_code, last_line = running.failing_up("--model", "./absent")
    assert exit_code == 1
    assert last_line.startswith("error: ./absent: there is no such folder")
    running.assert_nothing_left()


def test_a_model_that_does_not_fit_is_refused_before_anything_starts(running: Running) -> None:
    os.truncate(running.model / "model.safetensors", 2**40)
    exit_code, last_line = running.failing_up()
    assert exit_code == 1
    assert last_line.startswith("error: not enough memory: 2 workers with 1024.0 GiB of weights")
    running.assert_nothing_left()


def test_a_redis_that_does_not_answer_is_refused_before_anything_starts(running: Running) -> None:
    exit_code, last_line = running.failing_up("--redis", "redis://127.0.0.1:1")
    assert exit_code == 1
    assert "fleet state at redis://127.0.0.1:1 is unreachable" in last_line
    running.assert_nothing_left()


def test_with_a_redis_no_valkey_is_started(running: Running) -> None:
    with RunningValkey(running.folder) as server:
        process = running.up_ready("--redis", server.url)
        names = {state.name for state in running.state.processes}
        assert names == {"prefill-0", "decode-0", "gateway"}
        assert stop(process)[0] == 0
    running.assert_nothing_left()


def test_a_second_one_in_the_same_folder_is_refused(running: Running) -> None:
    process = running.up_ready()
    exit_code, last_line = running.failing_up()
    assert exit_code == 1
    assert last_line.startswith(f"error: a fleet is already running at {running.state.url}")
    assert stop(process)[0] == 0


def test_detached_it_returns_when_ready_and_down_stops_it(running: Running) -> None:
    started = running.baton("up", "--model", str(running.model), "--port", "0", "--detach")
    assert started.returncode == 0, started.stderr
    assert f"Serving tiny at {running.state.url}/v1" in started.stdout
    status = running.baton("status")
    assert status.returncode == 0
    assert status.stdout.count("ready") == 4
    assert status.stdout.count("45.2 MB") == 2
    assert running.baton("down").returncode == 0
    running.assert_nothing_left()
    assert running.baton("status").returncode == 3


def test_detached_a_bad_start_is_told_in_the_foreground(running: Running) -> None:
    started = running.baton(
        "up", "--model", str(running.model), "--port", "0", "--detach", standin="decode-0=fail"
    )
    assert started.returncode == 1
    assert started.stderr == "error: decode-0 wants another KV layout\n"
    running.assert_nothing_left()


def test_down_without_a_fleet_is_no_error(running: Running) -> None:
    stopped = running.baton("down")
    assert (stopped.returncode, stopped.stdout) == (0, "Nothing is running\n")


def test_logs_show_what_the_processes_wrote(running: Running) -> None:
    running.failing_up(standin="gateway=fail")
    shown = running.baton("logs", "gateway", "-n", "1")
    assert shown.stdout == "gateway | error: gateway wants another KV layout\n"
    assert "there is no log of nobody" in running.baton("logs", "nobody").stderr
