"""The fleet as columns: a row for each worker, so that a decision over a thousand takes no loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gateway.compatibility import kv_obstacle
from gateway.routing.booked import NOTHING, Booked
from gateway.routing.columns import Columns, Flags, Floats
from gateway.routing.facts import WorkerFacts
from gateway.routing.rates import Rates, StepCosts
from proto import worker_pb2
from proto.layout import KvLayout

# Until a worker has told: of a fleet nobody of which has, any number does.
GUESSED_PREFILL_SECONDS = 0.0005
GUESSED_STEP_SECONDS = 0.01
GUESSED_SEQUENCE_SECONDS = 0.0002
# What another gateway's request is taken to weigh: its prompt is not known here.
FOREIGN_TOKENS = 512
# Of a step's tokens, what one long prompt takes (worker/engine_plan.py).
LONG_PROMPT_SHARE = 0.8
# Of prompts, in a step beside running answers (worker/pieces.py).
LEAST_PIECE_TOKENS = 16.0
FIRST_ROWS = 8


@dataclass(slots=True)
class _Row:
    facts: WorkerFacts
    rates: Rates
    report: worker_pb2.LoadReport | None = None
    booked: Booked = NOTHING


class FleetTable:
    """Who is usable, and how loaded. `keys` names the rows; an empty one is nobody's. It is another
    object once a row gets another worker. `generation` grows when others are usable than before.
    """

    def __init__(self) -> None:
        self.columns = Columns.of_size(FIRST_ROWS)
        self.keys: tuple[str, ...] = ("",) * FIRST_ROWS
        self._rows: list[_Row | None] = [None] * FIRST_ROWS
        self._by_key: dict[str, int] = {}
        self._kinds: dict[tuple[str, str], int] = {}
        self._layouts: list[tuple[str, KvLayout]] = []
        self._fits = np.zeros((0, 0), bool)
        self._block_sizes: Sequence[int] = ()
        self.generation = 0

    @property
    def rows(self) -> Mapping[str, int]:
        return self._by_key

    def facts(self, row: int) -> WorkerFacts:
        return self._row(row).facts

    def rates(self, row: int) -> Rates:
        return self._row(row).rates

    def report_of(self, row: int) -> worker_pb2.LoadReport | None:
        return self._row(row).report

    def block_sizes(self) -> Sequence[int]:
        """Of all workers, each once. Every request asks: it is looked at when workers change."""
        return self._block_sizes

    @property
    def block_tokens(self) -> int:
        """By which room in caches is counted: the largest block."""
        return max(self._block_sizes, default=1)

    def fits(self, source: int) -> Flags:
        """The workers whose caches can take KV of that row's."""
        fits: Flags = self._fits[self.columns.kind[source], self.columns.kind]
        return fits

    def partners(self, source: int) -> Flags:
        """Who else can decode from KV of that row's now."""
        partners = self.columns.can_decode & self.fits(source)
        partners[source] = False
        return partners

    def most_partner_tokens(self, source: int) -> float:
        """What the largest of its partners' caches holds; -1 if it has no partner."""
        return float(self.columns.kv_tokens[self.partners(source)].max(initial=-1))

    def has_partner(self) -> Flags:
        """The workers whose KV somebody else that is usable can decode from."""
        columns = self.columns
        decoding = np.bincount(columns.kind[columns.can_decode], minlength=len(self._layouts))
        by_kind = self._fits @ decoding if len(self._layouts) else np.zeros(1, int)
        # A worker is no partner of its own.
        own = columns.can_decode & self._fits_itself()[columns.kind]
        partners: Flags = by_kind[columns.kind] - own > 0
        return partners

    def _fits_itself(self) -> Flags:
        return self._fits.diagonal() if len(self._layouts) else np.zeros(1, bool)

    def put(self, facts: WorkerFacts, *, is_usable: bool) -> None:
        """It is there; unless it is usable, it gets nothing new."""
        row = self._by_key.get(facts.key)
        if row is None:
            row = self._take_row(facts)
        columns = self.columns
        before = columns.can_prefill[row], columns.can_decode[row]
        after = is_usable and facts.can_prefill, is_usable and facts.can_decode
        if before != after:
            columns.can_prefill[row], columns.can_decode[row] = after
            self.generation += 1

    def remove(self, key: str) -> None:
        row = self._by_key.pop(key, None)
        if row is not None:
            self._rows[row] = None
            self.columns.clear(row)
            self._name_row(row, "")
            self.generation += 1

    def report(self, key: str, report: worker_pb2.LoadReport, now: float) -> None:
        """It says how loaded it is. Unknown ones are passed over."""
        if (number := self._by_key.get(key)) is None:
            return
        row = self._row(number)
        row.report = report
        if report.HasField("work"):
            row.rates.learn(report.work, now)
            self._note_rates(number, row.rates)
        self._note_foreign(number, report)

    def note_full(self, key: str) -> None:
        """It has promised all its room, by others; until it says otherwise."""
        if (number := self._by_key.get(key)) is not None:
            self.columns.kv_foreign[number] = self.columns.kv_tokens[number]
            self.columns.num_foreign[number] = max(1, self.columns.num_foreign[number])

    def book(self, key: str, booked: Booked, now: float) -> None:
        """What is open there now. Unknown ones are passed over."""
        if (number := self._by_key.get(key)) is None:
            return
        row, columns = self._row(number), self.columns
        columns.busy_until[number] = self._busy_until(number, booked, now)
        row.booked = booked
        columns.num_legs[number] = booked.num_legs
        columns.num_prefills[number] = booked.num_prefills
        columns.num_long[number] = booked.num_long
        columns.short_tokens[number] = booked.short_tokens
        columns.prefill_tokens[number] = booked.prefill_tokens
        columns.prefill_seconds[number] = booked.prefill_seconds
        columns.num_starting[number] = booked.num_starting
        columns.kv_booked[number] = booked.kv_tokens

    def queue(self, row: int, num_requests: int, seconds: float) -> None:
        """So much waits in this gateway for this worker to prefill."""
        self.columns.num_queued[row] = num_requests
        self.columns.queued_seconds[row] = seconds

    def wait_seconds(self, now: float) -> Floats:
        """Until each has computed what it was handed: at least a tenth of what was predicted."""
        columns = self.columns
        left = columns.busy_until - now
        foreign = columns.num_foreign * FOREIGN_TOKENS * columns.prefill_token
        waits = np.maximum(left, 0.1 * columns.prefill_seconds)
        total: Floats = waits + np.where(columns.can_decode, 0.0, foreign)
        return total

    def kv_free_tokens(self) -> Floats:
        """Room in each cache that is promised to nobody."""
        columns = self.columns
        free: Floats = columns.kv_tokens - columns.kv_booked - columns.kv_foreign
        return free

    def has_credit(self, kv_tokens: int) -> Flags:
        """Who has room for so many tokens that is promised to nobody, or nothing else to do."""
        columns = self.columns
        need = np.minimum(kv_tokens, columns.kv_tokens)
        is_idle = (columns.num_legs == 0) & (columns.num_foreign == 0)
        fits: Flags = (self.kv_free_tokens() >= need) | is_idle
        return fits

    def _busy_until(self, number: int, booked: Booked, now: float) -> float:
        """Each prompt takes its time; what is over has made progress for those after it."""
        before = self._row(number).booked
        until = max(now, float(self.columns.busy_until[number]))
        if booked.prefill_seconds > before.prefill_seconds:
            return until + booked.prefill_seconds - before.prefill_seconds
        return min(until, now + booked.prefill_seconds)

    def _note_foreign(self, number: int, report: worker_pb2.LoadReport) -> None:
        """What is reported beyond what is ours; until the next report, whatever becomes of ours."""
        booked, columns = self._row(number).booked, self.columns
        reported = report.num_running + report.num_waiting
        columns.num_foreign[number] = max(0, reported - booked.num_legs)
        columns.kv_foreign[number] = max(0, report.num_reserved_tokens - booked.kv_tokens)

    def prefill_seconds(self, num_tokens: Floats) -> Floats:
        """Of computing a prompt of which so much is not cached, on each worker by itself."""
        columns = self.columns
        chunk = np.maximum(LONG_PROMPT_SHARE * columns.step_tokens, 1.0)
        seconds: Floats = (
            np.ceil(num_tokens / chunk) * columns.prefill_step + num_tokens * columns.prefill_token
        )
        return seconds

    def step_seconds(self, num_sequences: Floats) -> Floats:
        """Of a step that generates, with so many sequences on each worker."""
        columns = self.columns
        seconds: Floats = columns.decode_step + num_sequences * columns.decode_sequence
        return seconds

    def piece_tokens(self, step_seconds: Floats) -> Floats:
        """What each computes of prompts in a step beside its running answers, whose step without
        prompts takes so long (worker/pieces.py).
        """
        columns = self.columns
        whole = np.where(columns.step_tokens > 0, columns.step_tokens, np.inf)
        with np.errstate(divide="ignore", invalid="ignore"):
            left = (columns.itl_goal - step_seconds) / columns.stall_seconds
        has_pieces = (columns.itl_goal > 0) & (columns.stall_seconds > 0)
        piece: Floats = np.where(has_pieces, np.clip(left, LEAST_PIECE_TOKENS, whole), whole)
        return piece

    def _note_rates(self, number: int, rates: Rates) -> None:
        """Its own figures as far as they are founded, and for the rest those of its like."""
        columns, prefill, decode = self.columns, rates.prefill, rates.decode
        for name, own, trust in (
            ("prefill_step", prefill.per_step, prefill.trust),
            ("prefill_token", prefill.per_token, prefill.trust),
            ("decode_step", decode.per_step, decode.trust),
            ("decode_sequence", decode.per_token, decode.trust),
        ):
            column = getattr(columns, name)
            column[number] = trust * own + (1 - trust) * self._typical(name, own)
        stall = rates.stall_seconds
        columns.stall_seconds[number] = columns.prefill_token[number] if stall is None else stall

    def _typical(self, name: str, otherwise: float) -> float:
        """The median of the workers that are there."""
        values: Floats = getattr(self.columns, name)
        # A row that is nobody's is zero.
        known = np.sort(values[values > 0])
        size = len(known)
        # np.median takes many times as long, and every report asks.
        return float(known[(size - 1) // 2] + known[size // 2]) / 2 if size else otherwise

    def _take_row(self, facts: WorkerFacts) -> int:
        if "" not in self.keys:
            size = 2 * len(self.keys)
            self.columns = self.columns.longer(size)
            self._rows += [None] * (size - len(self._rows))
            self.keys += ("",) * (size - len(self.keys))
        row = self.keys.index("")
        rates = Rates(
            StepCosts(
                self._typical("prefill_step", GUESSED_STEP_SECONDS),
                self._typical("prefill_token", GUESSED_PREFILL_SECONDS),
            ),
            StepCosts(
                self._typical("decode_step", GUESSED_STEP_SECONDS),
                self._typical("decode_sequence", GUESSED_SEQUENCE_SECONDS),
            ),
        )
        self._by_key[facts.key] = row
        self._rows[row] = _Row(facts, rates)
        columns = self.columns
        columns.kind[row] = self._kind_of(facts)
        columns.block_size[row] = facts.layout.block_size
        columns.kv_tokens[row] = facts.kv_tokens
        columns.step_tokens[row] = facts.step_tokens
        columns.itl_goal[row] = facts.itl_goal_seconds
        self._note_rates(row, rates)
        self._name_row(row, facts.key)
        return row

    def _name_row(self, row: int, key: str) -> None:
        """It is somebody else's, or nobody's."""
        self.keys = (*self.keys[:row], key, *self.keys[row + 1 :])
        sizes = {each.facts.layout.block_size for each in self._rows if each is not None}
        self._block_sizes = sorted(sizes)

    def _kind_of(self, facts: WorkerFacts) -> int:
        """Workers of a kind can exchange KV with the same others."""
        name = (facts.kv_connector, facts.layout.fingerprint)
        if name not in self._kinds:
            self._kinds[name] = len(self._layouts)
            self._layouts.append((facts.kv_connector, facts.layout))
            self._fits = np.array(
                [[kv_obstacle(a, b) is None for b in self._layouts] for a in self._layouts]
            )
        return self._kinds[name]

    def _row(self, row: int) -> _Row:
        found = self._rows[row]
        assert found is not None, row
        return found

    def check_integrity(self) -> None:
        """Raises AssertionError if the parts contradict each other."""
        for key, row in self._by_key.items():
            assert self.keys[row] == key and self._row(row).facts.key == key, key
        assert sum(map(bool, self.keys)) == len(self._by_key), self
        free = [row for row, key in enumerate(self.keys) if not key]
        assert not any(self.columns.can_decode[free]) and not any(self.columns.can_prefill[free])

    def __repr__(self) -> str:
        columns = self.columns
        return (
            f"<FleetTable {columns.can_prefill.sum()} prefill, {columns.can_decode.sum()} decode>"
        )
