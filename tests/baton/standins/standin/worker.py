"""Stands in for a worker: joins the fleet and leaves it, and computes nothing."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from contextlib import suppress

from fleet.member import Member, Role, new_incarnation
from standin.behaviour import behave
from standin.fleet_state import LEASE_SECONDS, FleetState


def main(role: str) -> None:
    parser = argparse.ArgumentParser()
    for flag in (
        "model",
        "worker-id",
        "fleet",
        "host",
        "port",
        "dtype",
        "kv-cache-gib",
        "kv-connector",
        "staging-mib",
        "kv-staging",
        "kv-wire",
        "kv-stall-seconds",
        "kv-max-loads",
        "itl-goal-seconds",
    ):
        parser.add_argument(f"--{flag}", required=True)
    parser.add_argument("--max-model-len")
    parser.add_argument("--engine-args")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    behave(given.worker_id)
    stay(FleetState(os.environ["BATON_REDIS"], given.fleet), make_member(given, Role(role)))


def stay(state: FleetState, member: Member) -> None:
    try:
        while True:
            with suppress(OSError):
                state.join(member)
            time.sleep(LEASE_SECONDS / 4)
    finally:
        state.leave(member)


def make_member(given: argparse.Namespace, role: Role) -> Member:
    return Member(
        worker_id=given.worker_id,
        incarnation=new_incarnation(),
        address="127.0.0.1:9",
        roles=(role,),
        model=given.model,
        vllm_version="0",
        pid=os.getpid(),
        started_at=time.time(),
    )
