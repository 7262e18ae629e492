"""Batch n, a pure function of (rows, seed, n), whatever the number of hosts.

R counts the rows of a split.
"""

import functools
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

# What a batch has, over all rows, and `tokens_R`, those of a row without padding.
Rows = Mapping[str, np.ndarray]


class Phase(NamedTuple):
    """Batches before step `until`: so many rows, each cut into `cuts` shorter ones."""

    until: int
    batch_size: int
    cuts: int = 1


class Batches:
    """An endless, shuffled reading of rows: every row once an epoch.

    Global batches are the rows of the epochs' orders, end to end, `batch_size` a batch;
    those of `phases`, which come before, may be of other sizes and shapes. Host h of H
    reads the h-th contiguous share of each. Epochs flow into each other, so no row is
    left over.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        batch_size: int,
        seed: int,
        phases: Sequence[Phase] = (),
        host: int = 0,
        num_hosts: int = 1,
    ):
        self.phases = (*phases, Phase(sys.maxsize, batch_size))
        for phase in self.phases:
            _check_shares(phase.batch_size, num_hosts)
        self.rows = len(rows["tokens_R"])
        self.tokens_per_epoch = int(rows["tokens_R"].sum())
        self.seed = seed
        self._rows, self._host, self._num_hosts = rows, host, num_hosts
        self._columns = columns_of(rows)
        self._order = functools.lru_cache(2)(self._order_of)

    def batch(self, n: int) -> dict[str, np.ndarray]:
        """This host's share of global batch n, as int32."""
        phase = next(phase for phase in self.phases if n < phase.until)
        share = phase.batch_size // self._num_hosts
        first = self.rows_before(n) + self._host * share
        place = np.arange(first, first + share)
        epoch, within = place // self.rows, place % self.rows
        row = np.empty(share, np.int64)
        for e in np.unique(epoch):
            row[epoch == e] = self._order(int(e))[0][within[epoch == e]]
        return {
            name: self._rows[name][row].astype(np.int32).reshape(share * phase.cuts, -1)
            for name in self._columns
        }

    def spans(self, n: int) -> list[tuple[int, int]]:
        """First batch and end of each phase of the first n batches."""
        ends = [*(phase.until for phase in self.phases if phase.until < n), n]
        return list(zip([0, *ends], ends, strict=False))

    def rows_before(self, n: int) -> int:
        """Rows in all global batches before n."""
        return sum(
            (end - begin) * phase.batch_size
            for phase, (begin, end) in zip(self.phases, self.spans(n), strict=False)
        )

    def tokens_before(self, n: int) -> int:
        """Tokens, without padding, in all global batches before n."""
        epochs, rest = divmod(self.rows_before(n), self.rows)
        return epochs * self.tokens_per_epoch + int(self._order(epochs)[1][rest])

    def steps_of(self, *, epochs: float) -> int:
        """The first batches that have all of so many epochs."""
        rows, begin = epochs * self.rows, 0
        for phase in self.phases:
            steps = math.ceil(rows / phase.batch_size)
            if begin + steps <= phase.until:
                return begin + steps
            rows -= (phase.until - begin) * phase.batch_size
            begin = phase.until
        raise AssertionError("The last phase has no end.")

    def _order_of(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows in an epoch's order, and the tokens before each.

        From raw bits of a bit generator, which numpy keeps from release to release;
        it does not keep `permutation`.
        """
        bits = np.random.PCG64([self.seed, epoch]).random_raw(self.rows)
        order_R = np.argsort(bits, kind="stable")
        before = np.concatenate([[0], np.cumsum(self._rows["tokens_R"][order_R])])
        return order_R, before


def in_order(
    rows: Rows, *, batch_size: int, host: int = 0, num_hosts: int = 1
) -> Iterator[dict[str, np.ndarray]]:
    """A split once, in its order; the last batch is filled up with empty rows."""
    _check_shares(batch_size, num_hosts)
    share = batch_size // num_hosts
    for first in range(0, len(rows["tokens_R"]), batch_size):
        begin = first + host * share
        yield {
            name: _padded(rows[name][begin : begin + share], share)
            for name in columns_of(rows)
        }


def columns_of(rows: Rows) -> list[str]:
    """The arrays that a batch has."""
    return sorted(name for name in rows if name != "tokens_R")


def _padded(part: np.ndarray, num_rows: int) -> np.ndarray:
    """`part` as int32, with rows of padding to the given number."""
    whole = np.zeros((num_rows, part.shape[1]), np.int32)
    whole[: len(part)] = part
    return whole


def _check_shares(batch_size: int, num_hosts: int) -> None:
    if batch_size < 1 or batch_size % num_hosts:
        raise ValueError(
            f"batch_size={batch_size} must be a positive multiple of the "
            f"{num_hosts} hosts."
        )
