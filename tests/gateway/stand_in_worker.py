"""A worker that answers with made-up tokens, for the gateway's tests: real gRPC, no engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc.aio
import msgspec

from fleet.block_news import pack
from fleet.member import Member, Role, new_incarnation
from proto import worker_pb2
from proto.ticket import Ticket
from proto.worker_pb2_grpc import WorkerServicer, add_WorkerServicer_to_server
from tests.proto.builders import KEY, LAYOUT

VLLM_VERSION = "0.32.0"
ROLES = {Role.PREFILL: worker_pb2.ROLE_PREFILL, Role.DECODE: worker_pb2.ROLE_DECODE}
FIRST_TOKEN = 40
NUM_TOKENS = 26


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked of a decode leg. Token i of its answer is `token(i)`."""

    prompt: tuple[int, ...]
    max_tokens: int
    num_logprobs: int | None = None

    def token(self, index: int) -> int:
        return FIRST_TOKEN + (sum(self.prompt) + index) % NUM_TOKENS


@dataclass(frozen=True, slots=True)
class Token:
    """One output of one leg. `finish`: as in gateway.codec."""

    leg_id: str
    job: Job
    token: int
    finish: str | None
    says: dict[str, Any] | None = None


class Wire(Protocol):
    """How requests and outputs are encoded."""

    def job(self, frames: Sequence[bytes]) -> Job: ...

    def step(self, tokens: Sequence[Token]) -> list[bytes]: ...


class PlainOutput(msgspec.Struct):
    request_id: str
    new_token_ids: list[int]
    finish_reason: str | None
    kv_transfer_params: dict[str, Any] | None = None


class PlainStep(msgspec.Struct):
    outputs: list[PlainOutput]


class PlainWire:
    """JSON, so that tests of sessions need no vLLM."""

    def job(self, frames: Sequence[bytes]) -> Job:
        return msgspec.json.decode(frames[0], type=Job)

    def request(self, job: Job) -> tuple[bytes, ...]:
        return (msgspec.json.encode(job),)

    def step(self, tokens: Sequence[Token]) -> list[bytes]:
        outputs = [PlainOutput(x.leg_id, [x.token], x.finish, x.says) for x in tokens]
        return [msgspec.json.encode(PlainStep(outputs))]

    def decode(self, frames: Sequence[bytes]) -> Any:
        return msgspec.json.decode(frames[0], type=PlainStep)


class Fabric:
    """Moves KV between stand-ins: it only knows which tickets' KV is there, or will not be."""

    def __init__(self) -> None:
        self._settled: dict[bytes, asyncio.Event] = {}

    def settled(self, ticket_id: bytes) -> asyncio.Event:
        return self._settled.setdefault(ticket_id, asyncio.Event())


@dataclass(slots=True)
class Behaviour:
    """What a test may change while the worker runs."""

    prefill_may_end: asyncio.Event = field(default_factory=asyncio.Event)
    decode_may_go_on: asyncio.Event = field(default_factory=asyncio.Event)
    # Legs that get so many tokens out before they wait for `decode_may_go_on` again.
    free_tokens: int = 0
    refuse_with: str | None = None
    # Of proto Failure.
    refusal_is_retryable: bool = False
    # A code: decode legs go on without their ticket.
    refuse_tickets_with: str | None = None
    finish_with: str | None = None
    # What the connector of a prefill leg has to say to the decode leg's.
    says: dict[str, Any] | None = None
    answers_pings: bool = True
    # Keys of what it says that it holds, when it is asked.
    held_blocks: tuple[int, ...] = ()
    garbles_outputs: bool = False

    def __post_init__(self) -> None:
        self.prefill_may_end.set()
        self.decode_may_go_on.set()


class StandInWorker(WorkerServicer):
    """Records what it was told. `open_legs` has what a real worker would hold memory for."""

    def __init__(self, worker_id: str, role: Role, wire: Wire, fabric: Fabric) -> None:
        self.member_id, self.role = worker_id, role
        self.incarnation = new_incarnation()
        self.behaviour = Behaviour()
        self.submitted: list[worker_pb2.Submit] = []
        self.aborted: list[str] = []
        self.revoked: list[bytes] = []
        self.peers: list[str] = []
        self.open_legs: dict[str, asyncio.Task[None]] = {}
        self.num_sessions = 0
        self.description = self._describe()
        self._changed = asyncio.Condition()
        self._wire, self._fabric = wire, fabric
        self._server: grpc.aio.Server | None = None
        self.port = 0

    @property
    def key(self) -> str:
        return f"{self.member_id}/{self.incarnation}"

    @property
    def member(self) -> Member:
        address = f"127.0.0.1:{self.port}"
        return Member(
            self.member_id, self.incarnation, address, (self.role,), "m", VLLM_VERSION, 1, 0.0
        )

    async def start(self) -> None:
        if self._server:
            return
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        add_WorkerServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        """As a killed process would: every session breaks."""
        if self._server:
            await self._server.stop(None)
            self._server = None

    async def restart(self) -> None:
        """A process in the place of this one, at the same address."""
        await self.stop()
        self.incarnation = new_incarnation()
        self.description = self._describe()
        await self.start()

    def hold_after(self, num_tokens: int) -> None:
        """Decode legs stop after so many tokens, until `decode_may_go_on`."""
        self.behaviour.free_tokens = num_tokens
        self.behaviour.decode_may_go_on.clear()

    def behave(self) -> None:
        """As at first; forgets what was recorded."""
        old, self.behaviour = self.behaviour, Behaviour()
        old.prefill_may_end.set()
        old.decode_may_go_on.set()
        self.submitted, self.aborted, self.revoked = [], [], []

    async def until(self, condition: Any) -> None:
        """Until something that the worker records makes `condition()` true."""
        async with self._changed, asyncio.timeout(10):
            await self._changed.wait_for(condition)

    async def Describe(self, request: object, context: object) -> worker_pb2.Description:
        return self.description

    async def Session(
        self, request_iterator: Any, context: object
    ) -> AsyncIterator[worker_pb2.FromWorker]:
        outbox: asyncio.Queue[worker_pb2.FromWorker | None] = asyncio.Queue()
        mine: set[str] = set()

        async def read() -> None:
            async for message in request_iterator:
                self._take(message, outbox, mine)
                await self._tell()
            outbox.put_nowait(None)

        reader = asyncio.ensure_future(read())
        self.num_sessions += 1
        self.peers = []
        try:
            while (message := await outbox.get()) is not None:
                yield message
        finally:
            reader.cancel()
            for leg_id in mine:
                self._close(leg_id)
            self.num_sessions -= 1
            await self._tell()

    def _take(
        self,
        message: worker_pb2.ToWorker,
        outbox: asyncio.Queue[worker_pb2.FromWorker | None],
        mine: set[str],
    ) -> None:
        match message.WhichOneof("message"):
            case "hello":
                welcome = worker_pb2.Welcome(incarnation=self.incarnation)
                outbox.put_nowait(worker_pb2.FromWorker(welcome=welcome))
            case "ping" if self.behaviour.answers_pings:
                pong = worker_pb2.Pong(nonce=message.ping.nonce, load=self.report())
                outbox.put_nowait(worker_pb2.FromWorker(pong=pong))
            case "list_blocks":
                keys = pack(self.behaviour.held_blocks)
                held = worker_pb2.HeldBlocks(nonce=message.list_blocks.nonce, keys=keys)
                outbox.put_nowait(worker_pb2.FromWorker(held_blocks=held))
            case "submit":
                self._start(message.submit, outbox, mine)
            case "abort":
                for leg_id in message.abort.request_ids:
                    self.aborted.append(leg_id)
                    self._close(leg_id)
            case "revoke":
                self.revoked.append(message.revoke.ticket_id)
                self._fabric.settled(message.revoke.ticket_id).set()
            case "introduce":
                self.peers.append(f"{message.introduce.worker_id}/{message.introduce.incarnation}")
            case "part":
                self.peers.remove(f"{message.part.worker_id}/{message.part.incarnation}")

    def report(self) -> worker_pb2.LoadReport:
        return worker_pb2.LoadReport(
            num_running=len(self.open_legs),
            num_kv_blocks=100,
            num_kv_blocks_used=len(self.open_legs),
            transfers=worker_pb2.Transfers(
                sent_bytes=1000, loads_completed=3, failures={"send_revoked": 4}
            ),
            tickets=worker_pb2.Tickets(num_open=1, num_bytes=64, refused={"used": 2}),
        )

    def _start(
        self,
        submit: worker_pb2.Submit,
        outbox: asyncio.Queue[worker_pb2.FromWorker | None],
        mine: set[str],
    ) -> None:
        self.submitted.append(submit)
        if self.behaviour.refuse_with:
            failure = worker_pb2.Failure(
                request_id=submit.request_id,
                code="refused",
                message=self.behaviour.refuse_with,
                retryable=self.behaviour.refusal_is_retryable,
            )
            outbox.put_nowait(worker_pb2.FromWorker(failure=failure))
            return
        assert submit.request_id not in self.open_legs
        if submit.HasField("ticket") and submit.leg == worker_pb2.ROLE_DECODE:
            self._take_ticket(submit, outbox)
        run = self._prefill if submit.leg == worker_pb2.ROLE_PREFILL else self._decode
        self.open_legs[submit.request_id] = asyncio.ensure_future(run(submit, outbox))
        mine.add(submit.request_id)

    def _take_ticket(self, submit: worker_pb2.Submit, outbox: Any) -> None:
        """As a real worker does: its source must be known, and it may be refused."""
        ticket = Ticket.from_proto(submit.ticket)
        assert ticket.source in self.peers
        assert ticket.is_signed_by(KEY)
        if code := self.behaviour.refuse_tickets_with:
            refusal = worker_pb2.TicketRefused(
                request_id=submit.request_id, code=code, message="no"
            )
            outbox.put_nowait(worker_pb2.FromWorker(ticket_refused=refusal))
            submit.ClearField("ticket")

    async def _prefill(self, submit: worker_pb2.Submit, outbox: Any) -> None:
        job = self._wire.job(submit.request)
        await self.behaviour.prefill_may_end.wait()
        self._fabric.settled(submit.ticket.id).set()
        finish = self.behaviour.finish_with or "length"
        said = self.behaviour.says
        self._send(outbox, Token(submit.request_id, job, job.token(0), finish, said))
        await self._end(submit.request_id)

    async def _decode(self, submit: worker_pb2.Submit, outbox: Any) -> None:
        job = self._wire.job(submit.request)
        if submit.HasField("ticket"):
            await self._fabric.settled(submit.ticket.id).wait()
        for index in range(job.max_tokens):
            if index >= self.behaviour.free_tokens:
                await self.behaviour.decode_may_go_on.wait()
            is_last = index + 1 == job.max_tokens
            finish = (self.behaviour.finish_with or "length") if is_last else None
            self._send(outbox, Token(submit.request_id, job, job.token(index), finish))
            await asyncio.sleep(0)
        await self._end(submit.request_id)

    def _send(self, outbox: Any, token: Token) -> None:
        frames = [b"\xff\xff"] if self.behaviour.garbles_outputs else self._wire.step([token])
        step = worker_pb2.StepBatch(outputs=frames)
        outbox.put_nowait(worker_pb2.FromWorker(step=step))

    async def _end(self, leg_id: str) -> None:
        self.open_legs.pop(leg_id, None)
        await self._tell()

    def _close(self, leg_id: str) -> None:
        if task := self.open_legs.pop(leg_id, None):
            task.cancel()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _describe(self) -> worker_pb2.Description:
        return worker_pb2.Description(
            worker_id=self.member_id,
            incarnation=self.incarnation,
            roles=[ROLES[self.role]],
            model="m",
            model_fingerprint="fingerprint of the model",
            vllm_version=VLLM_VERSION,
            kv_layout=LAYOUT.to_proto(),
            capacity=worker_pb2.Capacity(max_model_len=512, num_kv_blocks=100),
            transfer_addresses=[b"address of " + self.member_id.encode()],
        )


@asynccontextmanager
async def serving(*workers: StandInWorker) -> AsyncIterator[None]:
    for worker in workers:
        await worker.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.behave()
            await worker.stop()
