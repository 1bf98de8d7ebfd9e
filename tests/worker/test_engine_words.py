from __future__ import annotations

import pytest

from worker.engine_words import check_words
from worker.errors import BadSettings


def test_vllms_own_flags_pass() -> None:
    check_words(["--block-size", "64", "--max_num_seqs=8", "-tp", "2"])


@pytest.mark.parametrize(
    "word",
    [
        "--model=other",
        "--kv-transfer-config",
        "--kv_transfer_config={}",
        "--kv-transfer-config.kv_role",
        "-dp",
        "--distributed-executor-backend",
    ],
)
def test_batons_own_flags_do_not(word: str) -> None:
    with pytest.raises(BadSettings, match=r"--engine-args: --.* cannot be set here: "):
        check_words(["--block-size", "64", word])
