"""Tests data/batches.py: batch n depends on (rows, seed, n) and on nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies

from data.batches import Batches, in_order


def some_rows(num_rows, width=8):
    """Rows that can be told apart: the first token is the row's number, from 1."""
    token_BM = np.zeros((num_rows, width), np.uint16)
    token_BM[:, 0] = np.arange(num_rows) + 1
    length = 1 + np.arange(num_rows) % width
    segment_BM = (np.arange(width) < length[:, None]).astype(np.uint16)
    return dict(
        source_BM=token_BM,
        source_segment_BM=segment_BM,
        target_BL=token_BM,
        target_segment_BL=segment_BM,
        tokens_R=2 * length,
    )


def numbers(batch):
    return batch["source_BM"][:, 0].tolist()


@settings(max_examples=60, deadline=None)
@given(
    num_rows=strategies.integers(1, 40),
    batch_size=strategies.integers(1, 50),
    seed=strategies.integers(0, 2**31),
)
def test_every_row_is_seen_once_an_epoch_and_epochs_flow_into_each_other(
    num_rows, batch_size, seed
):
    batches = Batches(some_rows(num_rows), batch_size=batch_size, seed=seed)
    num_epochs = 3
    steps = -(-num_epochs * num_rows // batch_size)
    seen = [row for n in range(steps) for row in numbers(batches.batch(n))]
    for epoch in range(num_epochs):
        part = seen[epoch * num_rows : (epoch + 1) * num_rows]
        assert sorted(part) == list(range(1, num_rows + 1))


@settings(max_examples=40, deadline=None)
@given(num_rows=strategies.integers(1, 40), n=strategies.integers(0, 60))
def test_hosts_share_one_global_batch(num_rows, n):
    rows = some_rows(num_rows)
    whole = Batches(rows, batch_size=8, seed=5).batch(n)
    for num_hosts in (2, 4, 8):
        parts = [
            Batches(rows, batch_size=8, seed=5, host=h, num_hosts=num_hosts).batch(n)
            for h in range(num_hosts)
        ]
        for name in whole:
            joined = np.concatenate([part[name] for part in parts])
            np.testing.assert_array_equal(joined, whole[name])


@settings(max_examples=30, deadline=None)
@given(order=strategies.permutations(range(12)))
def test_a_batch_does_not_depend_on_those_read_before(order):
    rows = some_rows(10)
    fresh = [numbers(Batches(rows, batch_size=4, seed=1).batch(n)) for n in range(12)]
    batches = Batches(rows, batch_size=4, seed=1)
    for n in order:
        assert numbers(batches.batch(n)) == fresh[n]


@settings(max_examples=40, deadline=None)
@given(num_rows=strategies.integers(1, 30), batch_size=strategies.integers(1, 40))
def test_tokens_before_is_the_sum_of_what_was_read(num_rows, batch_size):
    batches = Batches(some_rows(num_rows), batch_size=batch_size, seed=2)
    total = 0
    for n in range(12):
        assert batches.tokens_before(n) == total
        batch = batches.batch(n)
        total += int((batch["source_segment_BM"] > 0).sum())
        total += int((batch["target_segment_BL"] > 0).sum())


def test_counts_are_those_of_the_whole_run_on_every_host():
    rows = some_rows(10)
    one, two = (
        Batches(rows, batch_size=4, seed=0),
        Batches(rows, batch_size=4, seed=0, host=1, num_hosts=2),
    )
    assert one.rows == two.rows == 10
    assert one.steps_of(epochs=1.2) == two.steps_of(epochs=1.2) == 3
    assert one.tokens_per_epoch == two.tokens_per_epoch == rows["tokens_R"].sum()
    assert one.tokens_before(7) == two.tokens_before(7)


def test_seeds_and_epochs_have_orders_of_their_own():
    rows = some_rows(50)
    first = [numbers(Batches(rows, batch_size=50, seed=s).batch(0)) for s in (0, 1)]
    second = numbers(Batches(rows, batch_size=50, seed=0).batch(1))
    assert first[0] != first[1]
    assert first[0] != second
    assert first[0] != sorted(first[0])


def test_an_order_is_that_of_the_generators_raw_bits():
    """numpy promises these bits for good, so a run can be resumed on a newer one."""
    order = numbers(Batches(some_rows(8), batch_size=8, seed=0).batch(0))
    assert order == [4, 3, 2, 7, 1, 8, 5, 6]


def test_batches_are_int32():
    batch = Batches(some_rows(3), batch_size=2, seed=0).batch(0)
    assert set(batch) == set(some_rows(3)) - {"tokens_R"}
    assert {array.dtype for array in batch.values()} == {np.dtype(np.int32)}


@pytest.mark.parametrize("num_hosts", [1, 2, 4])
def test_a_split_is_read_in_order_and_filled_up_with_empty_rows(num_hosts):
    rows = some_rows(10)
    hosts = [
        list(in_order(rows, batch_size=8, host=h, num_hosts=num_hosts))
        for h in range(num_hosts)
    ]
    assert {len(batches) for batches in hosts} == {2}
    seen = [row for n in range(2) for batches in hosts for row in numbers(batches[n])]
    assert seen == [*range(1, 11), *[0] * 6]
    last = np.concatenate([batches[1]["target_segment_BL"] for batches in hosts])
    assert last.shape == (8, 8)
    assert not last[2:].any()
    assert last[:2].any(1).all()


@pytest.mark.parametrize("num_hosts", [3, 16])
def test_a_batch_that_hosts_cannot_share_is_refused(num_hosts):
    match = rf"batch_size=8 must be a positive multiple of the {num_hosts} hosts"
    with pytest.raises(ValueError, match=match):
        Batches(some_rows(4), batch_size=8, seed=0, num_hosts=num_hosts)
    with pytest.raises(ValueError, match=match):
        next(in_order(some_rows(4), batch_size=8, num_hosts=num_hosts))
