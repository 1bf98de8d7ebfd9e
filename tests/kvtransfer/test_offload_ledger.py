from __future__ import annotations

import random

import pytest

from kvtransfer.offload_ledger import Exchange, FolderLedger


def keys(*names: str) -> list[bytes]:
    return [name.encode() for name in names]


def stored(ledger: FolderLedger, *names: str) -> Exchange:
    exchange = ledger.store(keys(*names))
    ledger.exchanged(exchange, is_written=True)
    ledger.check_integrity()
    return exchange


def test_what_is_written_is_there_only_then() -> None:
    ledger = FolderLedger(2)
    exchange = ledger.store(keys("a"))
    assert b"a" not in ledger
    ledger.exchanged(exchange, is_written=True)
    assert b"a" in ledger


def test_what_could_not_be_written_leaves_its_room() -> None:
    ledger = FolderLedger(1)
    ledger.exchanged(ledger.store(keys("a")), is_written=False)
    assert b"a" not in ledger
    assert stored(ledger, "b").stored == (b"b",)


def test_the_least_recently_used_goes_first() -> None:
    ledger = FolderLedger(3)
    stored(ledger, "a", "b", "c")
    ledger.touch(keys("a"))
    assert stored(ledger, "d", "e").evicted == (b"b", b"c")
    assert b"a" in ledger


def test_what_is_there_is_not_written_again_and_counts_as_used() -> None:
    ledger = FolderLedger(2)
    stored(ledger, "a", "b")
    assert stored(ledger, "a") == Exchange()
    assert stored(ledger, "c").evicted == (b"b",)


def test_what_is_offered_together_does_not_push_itself_out() -> None:
    ledger = FolderLedger(2)
    stored(ledger, "a", "b")
    exchange = stored(ledger, "a", "b", "c")
    assert exchange == Exchange()


def test_of_too_many_the_first_ones_are_kept() -> None:
    assert stored(FolderLedger(2), "a", "b", "c").stored == (b"a", b"b")


def test_a_folder_of_no_size_takes_nothing() -> None:
    assert stored(FolderLedger(0), "a") == Exchange()


def test_what_is_being_read_stays() -> None:
    ledger = FolderLedger(2)
    stored(ledger, "a", "b")
    ledger.read(keys("a"))
    assert stored(ledger, "c", "d") == Exchange((b"c",), (b"b",))
    ledger.was_read(keys("a"))
    assert stored(ledger, "d").evicted == (b"a",)


def test_what_is_being_deleted_is_not_written_at_the_same_time() -> None:
    ledger = FolderLedger(1)
    stored(ledger, "a")
    exchange = ledger.store(keys("b"))
    assert exchange.evicted == (b"a",)
    assert ledger.store(keys("a")) == Exchange()
    ledger.exchanged(exchange, is_written=True)
    assert stored(ledger, "a").stored == (b"a",)


def test_what_is_lost_is_told_once() -> None:
    ledger = FolderLedger(1)
    stored(ledger, "a")
    assert ledger.lose(b"a")
    assert not ledger.lose(b"a")


@pytest.mark.parametrize("seed", range(5))
def test_a_long_random_walk_keeps_to_the_size(seed: int) -> None:
    dice, ledger = random.Random(seed), FolderLedger(8)
    names = keys(*"abcdefghijklmnop")
    exchanges: list[Exchange] = []
    reads: list[list[bytes]] = []
    on_disk: set[bytes] = set()
    for _ in range(2000):
        match dice.randrange(5):
            case 0 | 1:
                exchanges.append(ledger.store(dice.sample(names, dice.randrange(1, 6))))
            case 2 if exchanges:
                exchange = exchanges.pop(dice.randrange(len(exchanges)))
                is_written = dice.random() < 0.8
                on_disk -= set(exchange.evicted)
                on_disk |= set(exchange.stored) if is_written else set()
                ledger.exchanged(exchange, is_written)
            case 3:
                reads.append([name for name in dice.sample(names, 4) if name in ledger])
                ledger.read(reads[-1])
            case 4 if reads:
                ledger.was_read(reads.pop())
        ledger.check_integrity()
        assert len(on_disk) <= 8
        assert all(name in on_disk for name in names if name in ledger)
        assert all(name in ledger for read in reads for name in read)
