from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch

from kvtransfer.connector_layout import layout_of
from kvtransfer.errors import LayoutUnsupported
from proto.layout import KvLayout

NUM_BLOCKS, HEADS, BLOCK, CONTENT = 12, 3, 4, 16
SHAPE = (NUM_BLOCKS, HEADS, BLOCK, CONTENT)


@dataclass(frozen=True)
class Parallel:
    """What is read of vLLM's ParallelConfig."""

    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    decode_context_parallel_size: int = 1
    prefill_context_parallel_size: int = 1
    rank: int = 0


@dataclass(frozen=True)
class Model:
    """What is read of vLLM's ModelConfig."""

    num_heads: int = HEADS
    num_layers: int = 2

    def get_total_num_kv_heads(self) -> int:
        return self.num_heads

    def get_total_num_hidden_layers(self) -> int:
        return self.num_layers


@dataclass(frozen=True)
class Cache:
    cache_dtype: str = "auto"


@dataclass(frozen=True)
class Compilation:
    static_forward_context: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Config:
    """What is read of VllmConfig."""

    parallel_config: Parallel = Parallel()
    model_config: Model = Model()
    cache_config: Cache = Cache()
    compilation_config: Compilation = field(default_factory=Compilation)


@dataclass(frozen=True)
class Spec:
    """What is read of a KV cache's spec; latent KV has no V of its own."""

    head_size: int = CONTENT // 2
    head_size_v: int = CONTENT // 2


@dataclass(frozen=True)
class Group:
    kv_cache_spec: Spec = Spec()


@dataclass(frozen=True)
class KvConfig:
    """What is read of KVCacheConfig."""

    num_blocks: int = NUM_BLOCKS
    kv_cache_groups: tuple[Group, ...] = (Group(),)


def make_caches(
    number: int = 2, shape: tuple[int, ...] = SHAPE, dtype: torch.dtype = torch.bfloat16
) -> dict[str, torch.Tensor]:
    return {f"layer.{layer}": torch.zeros(shape, dtype=dtype) for layer in range(number)}


def read(
    config: Config | None = None,
    kv_config: KvConfig | None = None,
    caches: dict[str, torch.Tensor] | None = None,
) -> KvLayout:
    caches = caches or make_caches()
    found: KvLayout = layout_of(config or Config(), kv_config or KvConfig(), caches)
    return found


def test_the_layout_is_read_from_the_tensors() -> None:
    assert read() == KvLayout(BLOCK, HEADS, CONTENT, CONTENT // 2, "bfloat16", (2,))


def test_heads_are_those_of_the_whole_model() -> None:
    config = Config(Parallel(tensor_parallel_size=2, rank=1), Model(num_heads=6))
    layout = read(config)
    assert (layout.num_heads, layout.tensor_parallel_size) == (6, 2)
    assert list(layout.shard(1).heads) == [3, 4, 5]


def test_ranks_may_hold_the_same_head() -> None:
    config = Config(Parallel(tensor_parallel_size=4, rank=3), Model(num_heads=2))
    layout = read(config, caches=make_caches(shape=(NUM_BLOCKS, 1, BLOCK, CONTENT)))
    assert (layout.num_heads, layout.shard(3).first_head, layout.shard(3).replica) == (2, 1, 1)


def test_latent_kv_is_one_head_on_every_rank() -> None:
    config = Config(Parallel(tensor_parallel_size=4), Model(num_heads=8))
    kv_config = KvConfig(kv_cache_groups=(Group(Spec(CONTENT, 0)),))
    layout = read(config, kv_config, make_caches(shape=(NUM_BLOCKS, 1, BLOCK, CONTENT)))
    assert (layout.num_heads, layout.key_size, layout.content_size) == (1, CONTENT, CONTENT)
    assert layout.shard(2).num_replicas == 4


def test_stages_are_cut_as_vllm_does() -> None:
    """Seven layers over three stages."""
    for rank, number in enumerate((2, 3, 2)):
        config = Config(Parallel(pipeline_parallel_size=3, rank=rank), Model(num_layers=7))
        assert read(config, caches=make_caches(number)).stage_layers == (2, 3, 2)


@pytest.mark.parametrize(
    ("dtype", "cache_dtype", "name"),
    [
        pytest.param(torch.float32, "auto", "float32", id="float32"),
        pytest.param(torch.uint8, "fp8", "fp8_e4m3", id="fp8"),
        pytest.param(torch.uint8, "fp8_e5m2", "fp8_e5m2", id="e5m2"),
        pytest.param(torch.float8_e4m3fn, "auto", "fp8_e4m3", id="e4m3-tensors"),
        pytest.param(torch.float8_e5m2, "auto", "fp8_e5m2", id="e5m2-tensors"),
        pytest.param(torch.float16, "auto", "float16", id="float16"),
    ],
)
def test_the_type_is_that_of_the_numbers(dtype: torch.dtype, cache_dtype: str, name: str) -> None:
    config = Config(cache_config=Cache(cache_dtype))
    assert read(config, caches=make_caches(dtype=dtype)).dtype == name


@pytest.mark.parametrize(
    ("caches", "complaint"),
    [
        pytest.param(
            {**make_caches(1), "b": torch.zeros((12, 3, 4, 8)).bfloat16()},
            "different shape",
            id="shapes",
        ),
        pytest.param({**make_caches(1), "b": torch.zeros(SHAPE)}, "different shape", id="dtypes"),
        pytest.param(make_caches(shape=(2, *SHAPE)), "a layer of shape", id="five-axes"),
        pytest.param(make_caches(shape=(11, 3, 4, 16)), "for 12 blocks", id="other-num-blocks"),
        pytest.param(make_caches(shape=(12, 2, 4, 16)), "2 KV heads on a rank", id="other-heads"),
        pytest.param(make_caches(dtype=torch.float64), "'float64'", id="unknown-type"),
    ],
)
def test_what_is_not_blocks_of_tokens_is_refused(
    caches: dict[str, torch.Tensor], complaint: str
) -> None:
    with pytest.raises(LayoutUnsupported, match=complaint):
        read(caches=caches)


@pytest.mark.parametrize(
    ("config", "kv_config", "complaint"),
    [
        pytest.param(
            Config(Parallel(decode_context_parallel_size=2)), KvConfig(), "spread", id="context"
        ),
        pytest.param(
            Config(Parallel(prefill_context_parallel_size=2)), KvConfig(), "spread", id="prefill"
        ),
        pytest.param(Config(), KvConfig(kv_cache_groups=()), "0 groups", id="no-group"),
        pytest.param(Config(), KvConfig(kv_cache_groups=(Group(),) * 2), "2 groups", id="groups"),
        pytest.param(
            Config(Parallel(pipeline_parallel_size=2), replace(Model(), num_layers=6)),
            KvConfig(),
            "2 layers with KV in a pipeline of 6",
            id="stages-without-kv",
        ),
    ],
)
def test_what_cannot_be_shared_out_is_refused(
    config: Config, kv_config: KvConfig, complaint: str
) -> None:
    with pytest.raises(LayoutUnsupported, match=complaint):
        read(config, kv_config)
