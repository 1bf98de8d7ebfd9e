"""Plans a request: which way it goes, and who computes its prompt; and who decodes it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gateway.routing.columns import Flags
from gateway.routing.decider import Decider, Verdict
from gateway.routing.filters import has_capacity
from gateway.routing.fleet_table import FleetTable
from gateway.routing.pair_table import PairTable
from gateway.routing.policy import POLICIES, RoutingPolicy
from gateway.routing.profile import Choice, Profile
from gateway.routing.scene import Query, Scene
from gateway.routing.sessions import Residency
from gateway.routing.way import Forecast, Way


@dataclass(frozen=True, slots=True)
class Plan:
    """`row` computes the prompt, which takes `seconds` of its own time for `num_tokens`."""

    row: int
    seconds: float
    num_tokens: int
    verdict: Verdict
    choice: Choice = field(repr=False)


class Router:
    """Pure: nothing here waits. What is planned and what is observed teaches the decider."""

    def __init__(
        self,
        table: FleetTable,
        policy: RoutingPolicy | None = None,
        decider: Decider | None = None,
        residency: Residency | None = None,
    ) -> None:
        policy = policy or POLICIES["default"]
        self.table = table
        self.pairs = PairTable()
        self.decider = decider or Decider()
        self.residency = residency or Residency()
        self._prefill = Profile(policy.prefill)
        self._decode = Profile(policy.decode)
        self._local = Profile(policy.local)

    def plan(self, query: Query, now: float) -> Plan | None:
        """None if nobody can take it, whatever is waited for."""
        scene = self._scene(query, now)
        columns = self.table.columns
        local = self._local.choose(scene, columns.can_decode)
        if local is None:
            return None
        plans = {Way.LOCAL: (local, self._local_forecast(scene, local.row))}
        if query.can_hand_off and (remote := self._remote(scene)):
            plans[Way.REMOTE] = remote
        least = int(min(scene.uncached_tokens[choice.row] for choice, _ in plans.values()))
        verdict = self.decider.decide(least, {way: each for way, (_, each) in plans.items()})
        choice, _ = plans[verdict.way]
        return self._plan_of(scene, choice, verdict)

    def plan_on(self, row: int, query: Query, verdict: Verdict, now: float) -> Plan:
        """The same request, computed by this worker: it was planned for another."""
        scene = self._scene(query, now)
        return self._plan_of(scene, Choice(row, 1, (row,), (0.0,), {}), verdict)

    def decode_for(
        self, query: Query, plan_row: int, seconds: float, now: float, without: str = ""
    ) -> Choice | None:
        """Who takes the KV that `plan_row` computes in so many seconds; None without credit.

        `without`: not this worker.
        """
        may = self._but(self.table.partners(plan_row), without)
        scene = replace(self._scene(query, now), source=plan_row, source_seconds=seconds)
        return self._decode.choose(scene, may)

    def local_for(self, query: Query, now: float, without: str = "") -> Choice | None:
        """Who both computes and decodes; None if nobody can."""
        may = self._but(self.table.columns.can_decode.copy(), without)
        return self._local.choose(self._scene(query, now), may)

    def accepts(self, row: int, query: Query, way: Way, now: float) -> bool:
        """Whether the worker may compute this request's prompt at all, by the policy's filters."""
        profile = self._prefill if way is Way.REMOTE else self._local
        return bool(profile.passes(self._scene(query, now))[row])

    def has_credit(self, row: int, query: Query) -> bool:
        """There is room for it in the worker's cache that is promised to nobody."""
        return bool(self.table.has_credit(query.kv_tokens)[row])

    def _remote(self, scene: Scene) -> tuple[Choice, Forecast] | None:
        may = self.table.columns.can_prefill & self.table.has_partner()
        choice = self._prefill.choose(scene, may)
        if choice is None or not self._partners(scene, choice.row).any():
            return None
        return choice, self._remote_forecast(scene, choice.row)

    def _partners(self, scene: Scene, row: int) -> Flags:
        """Who could decode what this row computes, once there is room."""
        return self.table.partners(row) & has_capacity(scene)

    def _but(self, may: Flags, without: str) -> Flags:
        """All of them but this worker."""
        if (row := self.table.rows.get(without)) is not None:
            may[row] = False
        return may

    def _local_forecast(self, scene: Scene, row: int) -> Forecast:
        columns = self.table.columns
        step = float(scene.step_seconds[row])
        ttft = float(scene.ready_seconds[row])
        num_tokens = float(scene.uncached_tokens[row])
        chunk = min(num_tokens, float(scene.piece_tokens[row]))
        per_token = float(columns.stall_seconds[row])
        running = columns.num_legs[row] - columns.num_starting[row] + columns.num_foreign[row]
        num_streams = max(0.0, float(running))
        lost = num_streams * num_tokens * per_token / self.decider.typical_outputs
        gap = step + (chunk * per_token if num_streams else 0.0)
        return Forecast(ttft, step + lost, gap, float(scene.wait_seconds[row]))

    def _remote_forecast(self, scene: Scene, row: int) -> Forecast:
        seconds = float(scene.compute_seconds[row])
        paired = replace(scene, source=row, source_seconds=seconds)
        targets = self._partners(scene, row)
        late = float(paired.late_seconds[targets].min())
        step = float(scene.step_seconds[targets].min())
        # The last token of the prompt is computed where it is decoded.
        ttft = float(scene.ready_seconds[row]) + late + step
        return Forecast(ttft, step, step, float(scene.wait_seconds[row]))

    def _plan_of(self, scene: Scene, choice: Choice, verdict: Verdict) -> Plan:
        row = choice.row
        num_tokens = int(scene.uncached_tokens[row])
        return Plan(row, float(scene.compute_seconds[row]), num_tokens, verdict, choice)

    def _scene(self, query: Query, now: float) -> Scene:
        rows = self.table.rows
        lora = (rows[key] for key in self.residency.with_lora(query.lora) if key in rows)
        return Scene(query, self.table, self.pairs, now, lora_rows=tuple(lora))
