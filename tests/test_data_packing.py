"""Tests data/packing/pairs.py: rows give the pairs back, full and short."""

import gzip
import os
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings, strategies

from core.registry import Block, check
from data.packing import PACKING, Pairs
from data.packing.first_fit import fill_share, place
from data.packing.pairs import pack, row_lengths
from data.ragged import Ragged, encode
from data.tokenizer import train

LENGTHS = strategies.lists(
    strategies.tuples(strategies.integers(1, 24), strategies.integers(1, 40)),
    min_size=1,
    max_size=60,
)


def ragged(lengths, seed=0):
    """Random tokens of these lengths, none of them padding."""
    rng = np.random.default_rng(seed)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return Ragged(rng.integers(1, 99, starts[-1]), starts)


def sequences(side):
    return [tuple(side.tokens[a:b]) for a, b in zip(side.start_P, side.start_P[1:])]  # noqa: B905 - the last start is an end


def unpacked(rows):
    """The pairs of packed rows, by segment."""
    pairs = []
    for token_M, segment_M, token_L, segment_L in zip(
        rows["source_BM"],
        rows["source_segment_BM"],
        rows["target_BL"],
        rows["target_segment_BL"],
        strict=True,
    ):
        assert not token_M[segment_M == 0].any()
        assert not token_L[segment_L == 0].any()
        assert set(segment_M) - {0} == set(segment_L) - {0}
        pairs += [
            (tuple(token_M[segment_M == n]), tuple(token_L[segment_L == n]))
            for n in range(1, segment_M.max() + 1)
        ]
    return pairs


@settings(max_examples=100, deadline=None)
@given(lengths=LENGTHS)
def test_packed_rows_give_back_every_pair_once(lengths):
    source, target = (
        ragged(side, n) for n, side in enumerate(zip(*lengths, strict=True))
    )
    rows = pack(source, target, 24, 40)
    pairs = list(zip(sequences(source), sequences(target), strict=True))
    assert sorted(unpacked(rows)) == sorted(pairs)
    text = (rows["source_segment_BM"] > 0).sum(1) + (rows["target_segment_BL"] > 0).sum(
        1
    )
    np.testing.assert_array_equal(rows["tokens_R"], text)


@settings(max_examples=100, deadline=None)
@given(lengths=LENGTHS)
def test_a_segment_is_one_piece_and_they_follow_each_other(lengths):
    source, target = (ragged(side) for side in zip(*lengths, strict=True))
    rows = pack(source, target, 24, 40)
    for name in ("source_segment_BM", "target_segment_BL"):
        for segment_M in rows[name].astype(int):
            length = (segment_M > 0).sum()
            steps = np.diff(segment_M[:length])
            assert not segment_M[length:].any()
            assert segment_M[0] == 1
            assert set(steps) <= {0, 1}


def first_fit(source, target, M, L):
    """First fit, longest first, one pair after another: the plain algorithm."""
    order = np.lexsort((source, source + target))[::-1]
    room, rows = [], np.zeros(len(source), int)
    for pair in order:
        size = np.array([source[pair], target[pair]])
        fitting = [n for n, left in enumerate(room) if (size <= left).all()]
        if not fitting:
            room.append(np.array([M, L]))
        rows[pair] = fitting[0] if fitting else len(room) - 1
        room[rows[pair]] -= size
    return rows


@settings(max_examples=100, deadline=None)
@given(lengths=LENGTHS)
def test_placing_many_at_once_is_first_fit_one_by_one(lengths):
    source, target = (np.array(side) for side in zip(*lengths, strict=True))
    got, plain = place(source, target, 24, 40), first_fit(source, target, 24, 40)
    np.testing.assert_array_equal(got, plain)


def captions(num_pairs=8_000):
    """Lengths like those of image captions: 14 tokens, some 50, sides alike."""
    rng = np.random.default_rng(1)
    source = np.clip(np.round(rng.lognormal(2.6, 0.32, num_pairs)), 4, 56).astype(int)
    ratio = rng.lognormal(0.05, 0.2, num_pairs)
    return source, np.clip(np.round(source * ratio), 3, 60).astype(int)


def test_rows_are_full_and_no_longer_than_needed():
    source, target = captions()
    M, L = row_lengths(source, target, Pairs())
    assert fill_share(source, target, M, L) >= 0.92
    assert (M % 8, L % 8) == (0, 0)
    assert source.max() <= M <= source.max() + 16
    assert target.max() <= L <= target.max() + 16


def test_a_higher_share_takes_longer_rows():
    source, target = captions()
    short, long = (
        row_lengths(source, target, Pairs(min_fill_share=share))
        for share in (0.5, 0.93)
    )
    assert sum(short) < sum(long)
    assert fill_share(source, target, *long) >= 0.93


def test_uneven_sides_get_uneven_rows():
    source, _ = captions()
    M, L = row_lengths(source, 3 * source, Pairs())
    assert 2.2 <= L / M <= 3.8
    assert fill_share(source, 3 * source, M, L) >= 0.92


def test_windows_do_not_share_rows(monkeypatch):
    monkeypatch.setattr("data.packing.first_fit.WINDOW", 10)
    source, target = captions(35)
    row_P = place(source, target, 64, 64)
    for one in range(0, 35, 10):
        for other in range(one + 10, 35, 10):
            assert row_P[one : one + 10].max() < row_P[other : other + 10].min()
    pairs = sorted(zip(source, target, strict=True))
    rows = pack(ragged(source), ragged(target), 64, 64)
    assert sorted((len(s), len(t)) for s, t in unpacked(rows)) == pairs


def test_big_vocabularies_keep_their_ids():
    big = Ragged(np.array([70_000, 1]), np.array([0, 2]))
    rows = pack(big, big, 8, 8)
    assert rows["source_BM"].tolist() == [[70_000, 1, 0, 0, 0, 0, 0, 0]]
    assert pack(ragged([2]), ragged([2]), 8, 8)["source_BM"].dtype == np.uint16


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (dict(max_tokens=4), r"packing\.max_tokens=4 must lie in \[8"),
        (
            dict(min_fill_share=1.5),
            r"packing\.min_fill_share=1\.5 must lie in \[0, 1\]",
        ),
        (dict(max_token=64), r"packing\.max_token=64 .* Did you mean 'max_tokens'"),
    ],
)
def test_a_config_is_checked(options, match):
    with pytest.raises(ValueError, match=match):
        check(dict(name="pairs") | options, Block(PACKING), "packing")


def test_real_captions_are_packed_to_92_percent():
    folder = pathlib.Path(os.environ.get("STEEPEST_DATA", ".")) / "multi30k"
    if not (folder / "train.en.gz").exists():
        pytest.skip("STEEPEST_DATA names no folder with multi30k in it")
    texts = [
        gzip.decompress((folder / f"train.{side}.gz").read_bytes()).decode().split("\n")
        for side in ("en", "de")
    ]
    records = [
        {"source": en, "target": de} for en, de in zip(*texts, strict=True) if en and de
    ]
    lines = [text for record in records for text in record.values()]
    tokenizer = train(lines, kind="bpe", vocab=8_000)
    source, target = encode(iter(records), tokenizer, ("source", "target"))
    M, L = row_lengths(source.length_P, target.length_P, Pairs())
    assert fill_share(source.length_P, target.length_P, M, L) >= 0.92
    assert max(M, L) <= 64
