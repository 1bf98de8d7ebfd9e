"""How an engine's KV cache is shared out over its ranks, and how a block lies in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from math import prod
from types import MappingProxyType

from proto import worker_pb2

ELEMENT_BYTES: Mapping[str, int] = MappingProxyType(
    {
        "float32": 4,
        "float16": 2,
        "bfloat16": 2,
        "fp8_e4m3": 1,
        "fp8_e5m2": 1,
        "uint8": 1,
        "int8": 1,
    }
)


# Far above what there is: layouts come from other processes, and decide how much is allocated.
MAX_SIZE = 1 << 20
MAX_HEAD_ELEMENTS = 1 << 22
MAX_PARTS = 64
MAX_DIGITS = 16


def is_count(value: object) -> bool:
    """Whether it is an int from 0 to MAX_SIZE; a bool is none."""
    return type(value) is int and 0 <= value <= MAX_SIZE


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of memory, as a mixed radix number.

    `digits` are (extent, stride) pairs, the slowest first. The element at the position with
    the digits d is element `start` + sum(d * stride) of the logical order.
    """

    start: int
    digits: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        """Raises ValueError for one that cannot be."""
        numbers = [self.start, *(number for digit in self.digits for number in digit)]
        if len(self.digits) > MAX_DIGITS or not all(abs(n) <= MAX_HEAD_ELEMENTS for n in numbers):
            raise ValueError("a part of a block's interior lies outside of it")
        if any(extent < 1 for extent, _ in self.digits) or self.size > MAX_HEAD_ELEMENTS:
            raise ValueError("a part of a block's interior is larger than a block can be")

    @property
    def size(self) -> int:
        """Elements in this stretch."""
        return prod(extent for extent, _ in self.digits)


@dataclass(frozen=True)
class KvLayout:
    """The KV cache of one engine, all ranks together.

    `content_size` elements of `dtype` are one token in one head of one layer, the first
    `key_size` of them K, the rest V (none for MLA). `stage_layers` are the layers of each
    pipeline stage. `interior` says what lies where in one head's share of a block, whose
    logical order is [token, content]; empty: as in the logical order.
    """

    block_size: int
    num_heads: int
    content_size: int
    key_size: int
    dtype: str
    stage_layers: tuple[int, ...]
    tensor_parallel_size: int = 1
    interior: tuple[Part, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError for a layout that cannot be."""
        sizes = [self.block_size, self.num_heads, self.content_size, self.tensor_parallel_size]
        sizes += self.stage_layers
        if not self.stage_layers or not all(is_count(each) and each for each in sizes):
            raise ValueError(f"every size of a KV layout is positive, and {MAX_SIZE} at most")
        if self.block_size * self.content_size > MAX_HEAD_ELEMENTS:
            raise ValueError(f"a block has up to {MAX_HEAD_ELEMENTS} elements in a head")
        if not is_count(self.key_size) or self.key_size > self.content_size:
            raise ValueError(f"{self.key_size!r} of {self.content_size} elements cannot be K")
        if self.dtype not in ELEMENT_BYTES:
            raise ValueError(f"KV of type {self.dtype!r}; known are {', '.join(ELEMENT_BYTES)}")
        heads, ranks = self.num_heads, self.tensor_parallel_size
        if heads % ranks and ranks % heads:
            raise ValueError(f"{heads} KV heads over {ranks} ranks")
        if len(self.interior) > MAX_PARTS:
            raise ValueError(f"the interior of a block has up to {MAX_PARTS} parts")
        num_elements = self.block_size * self.content_size
        if self.interior and sum(part.size for part in self.interior) != num_elements:
            raise ValueError("the interior of a block does not fill it")

    @property
    def num_layers(self) -> int:
        return sum(self.stage_layers)

    @property
    def pipeline_parallel_size(self) -> int:
        return len(self.stage_layers)

    @property
    def num_ranks(self) -> int:
        return self.tensor_parallel_size * self.pipeline_parallel_size

    @property
    def element_bytes(self) -> int:
        return ELEMENT_BYTES[self.dtype]

    @property
    def head_bytes(self) -> int:
        """One head's share of one block in one layer."""
        return self.block_size * self.content_size * self.element_bytes

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one token in all heads and layers."""
        return self.num_layers * self.num_heads * self.content_size * self.element_bytes

    @cached_property
    def fingerprint(self) -> str:
        """Equal for equal layouts."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def summary(self) -> str:
        """One line for people."""
        return (
            f"{self.num_layers} layers, {self.num_heads} KV heads of {self.content_size} elements, "
            f"{self.dtype}, blocks of {self.block_size} tokens, {self.bytes_per_token} bytes a "
            f"token, TP {self.tensor_parallel_size} PP {self.pipeline_parallel_size}"
        )

    def num_blocks(self, num_tokens: int) -> int:
        """Blocks that `num_tokens` tokens take."""
        return -(-num_tokens // self.block_size)

    def shard(self, rank: int) -> Shard:
        """What rank `rank` holds, in vLLM's order: the ranks of the first stage first."""
        stage, within = divmod(rank, self.tensor_parallel_size)
        num_heads = max(1, self.num_heads // self.tensor_parallel_size)
        num_replicas = max(1, self.tensor_parallel_size // self.num_heads)
        place, replica = divmod(within, num_replicas)
        return Shard(
            first_layer=sum(self.stage_layers[:stage]),
            num_layers=self.stage_layers[stage],
            first_head=place * num_heads,
            num_heads=num_heads,
            replica=replica,
            num_replicas=num_replicas,
        )

    def to_proto(self) -> worker_pb2.KvLayout:
        return worker_pb2.KvLayout(
            fingerprint=self.fingerprint,
            block_size=self.block_size,
            num_layers=self.num_layers,
            dtype=self.dtype,
            bytes_per_token=self.bytes_per_token,
            tensor_parallel_size=self.tensor_parallel_size,
            pipeline_parallel_size=self.pipeline_parallel_size,
            summary=self.summary,
            encoded=self.to_json(),
        )

    @classmethod
    def from_proto(cls, message: worker_pb2.KvLayout) -> KvLayout:
        """Raises ValueError if it is none."""
        return cls.from_json(message.encoded)

    def to_json(self) -> str:
        """What `from_json` reads."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> KvLayout:
        """Raises ValueError if it is none."""
        try:
            fields = json.loads(text)
            parts = fields.pop("interior", ())
            stages = tuple(int(each) for each in fields.pop("stage_layers"))
            interior = tuple(
                Part(int(part["start"]), tuple((int(n), int(s)) for n, s in part["digits"]))
                for part in parts
            )
            return cls(stage_layers=stages, interior=interior, **fields)
        except (AttributeError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise ValueError(f"not a KV layout ({type(error).__name__})") from error


@dataclass(frozen=True, slots=True)
class Shard:
    """The layers and heads that one rank holds, counted through the whole model.

    Where there are more ranks than heads, `num_replicas` ranks hold the same; `replica`
    counts them.
    """

    first_layer: int
    num_layers: int
    first_head: int
    num_heads: int
    replica: int = 0
    num_replicas: int = 1

    @property
    def layers(self) -> range:
        return range(self.first_layer, self.first_layer + self.num_layers)

    @property
    def heads(self) -> range:
        return range(self.first_head, self.first_head + self.num_heads)


def obstacle(source: KvLayout, target: KvLayout) -> str | None:
    """Why KV of `source` cannot be converted for `target`, naming both; None if it can.

    Block sizes, interiors, TP and PP may differ.
    """
    pairs = (
        ("layers", source.num_layers, target.num_layers),
        ("KV heads", source.num_heads, target.num_heads),
        ("elements a head", source.content_size, target.content_size),
        ("elements of K", source.key_size, target.key_size),
        ("type", source.dtype, target.dtype),
    )
    for what, ours, theirs in pairs:
        if ours != theirs:
            return (
                f"KV differs in {what} ({ours}, {theirs}): "
                f"the sender has {source.summary}; the receiver has {target.summary}"
            )
    return None
