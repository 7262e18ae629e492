"""models/decode/, over a toy whose every text can be counted."""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core import registry
from models.decode import DECODERS
from models.decode.beam import Beam
from models.decode.greedy import Greedy
from models.decode.terms import Opening

START, END = 3, 1


class Toy(NamedTuple):
    """A chaotic automaton: the next token depends on all those before it."""

    table_BSV: Any
    state_BL: Any

    def reorder(self, index_BL):
        return self._replace(
            state_BL=jnp.take_along_axis(self.state_BL, index_BL, axis=1)
        )


def move(state, token, num_states):
    return (state * 31 + token * 17 + 5) % num_states


def extend(token_BL, toy):
    state_BL = move(toy.state_BL, token_BL, toy.table_BSV.shape[1])
    row_B1 = jnp.arange(len(state_BL))[:, None]
    return toy.table_BSV[row_B1, state_BL], toy._replace(state_BL=state_BL)


def tables(seed, *, rows, vocab, ending=0.0, states=211):
    rng = np.random.default_rng(seed)
    table_BSV = 1.5 * rng.standard_normal((rows, states, vocab)).astype("f4")
    table_BSV[:, :, END] += ending
    return table_BSV


def opening(table_BSV, beams, state_B=None):
    """All texts begin at START; the toy's states are where a row begins."""
    B = len(table_BSV)
    state_B = jnp.zeros(B, jnp.int32) if state_B is None else state_B
    toy = Toy(jnp.asarray(table_BSV), jnp.tile(state_B[:, None], (1, beams)))
    return Opening(toy, jnp.full(B, START), jnp.zeros((B, 0), jnp.int32))


def search(table_BSV, length_penalty, *, beam, max_length, num_best=None):
    """Tokens and scores; one beam is greedy search."""

    @jax.jit
    def run(opening, length_penalty):
        method = Greedy()
        if beam > 1:
            best = num_best or beam
            method = Beam(beam=beam, num_best=best, length_penalty=length_penalty)
        return method.search(extend, opening, None, room=max_length)[0]

    token_BRT, score_BR = run(opening(table_BSV, beam), jnp.float32(length_penalty))
    return np.asarray(token_BRT), np.asarray(score_BR)


class Reference:
    """Beam search as one would write it in a lecture, never stopping early."""

    def __init__(self, table_SV, length_penalty, max_length):
        top_S1 = table_SV.max(1, keepdims=True)
        exp_SV = np.exp((table_SV - top_S1).astype("f8"))
        self.logp_SV = np.log(exp_SV / exp_SV.sum(1, keepdims=True))
        self.length_penalty, self.max_length = length_penalty, max_length

    def logp(self, text):
        state, total = 0, 0.0
        for before, token in itertools.pairwise((START, *text)):
            state = move(state, before, len(self.logp_SV))
            total += self.logp_SV[state, token]
        return total

    def score(self, text):
        return self.logp(text) / ((5 + len(text)) / 6) ** self.length_penalty

    def search(self, beam):
        live, ended = [()], []
        for _ in range(self.max_length):
            longer = [(*t, v) for t in live for v in range(self.logp_SV.shape[1])]
            longer.sort(key=self.logp, reverse=True)
            ended += [t for t in longer[:beam] if t[-1] == END]
            live = [t for t in longer if t[-1] != END][:beam]
        return (self._sorted(ended) + self._sorted(live))[:beam]

    def all_texts(self):
        """Every text that ends in time, then those that do not."""
        others = [v for v in range(self.logp_SV.shape[1]) if v != END]
        lengths = range(self.max_length)
        ended = [
            (*t, END) for n in lengths for t in itertools.product(others, repeat=n)
        ]
        live = list(itertools.product(others, repeat=self.max_length))
        return self._sorted(ended) + self._sorted(live)

    def _sorted(self, texts):
        return sorted(texts, key=self.score, reverse=True)


def assert_same(token_RT, score_R, reference, texts):
    texts = texts[: len(token_RT)]
    rows = [t + (0,) * (reference.max_length - len(t)) for t in texts]
    np.testing.assert_array_equal(token_RT, rows)
    expected_R = [reference.score(t) for t in texts]
    np.testing.assert_allclose(score_R, expected_R, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0])
def test_an_exhaustive_beam_finds_the_best_of_all_texts(length_penalty):
    table_BSV = tables(0, rows=3, vocab=6)
    token_BRT, score_BR = search(
        table_BSV, length_penalty, beam=150, max_length=3, num_best=40
    )
    assert (token_BRT == END).any()
    for token_RT, score_R, table_SV in zip(token_BRT, score_BR, table_BSV, strict=True):
        reference = Reference(table_SV, length_penalty, 3)
        assert_same(token_RT, score_R, reference, reference.all_texts())


@pytest.mark.parametrize(
    ("beam", "vocab", "length_penalty"),
    [(2, 7, 0.0), (3, 12, 0.6), (4, 9, 1.0), (5, 16, -0.5)],
)
def test_stopping_early_does_not_change_the_result(beam, vocab, length_penalty):
    table_BSV = tables(beam, rows=8, vocab=vocab, ending=1.0)
    token_BRT, score_BR = search(table_BSV, length_penalty, beam=beam, max_length=9)
    for token_RT, score_R, table_SV in zip(token_BRT, score_BR, table_BSV, strict=True):
        reference = Reference(table_SV, length_penalty, 9)
        assert_same(token_RT, score_R, reference, reference.search(beam))


def test_fewer_results_are_the_first_of_more():
    table_BSV = tables(1, rows=8, vocab=10, ending=1.0)
    token_BRT, score_BR = search(table_BSV, 0.6, beam=4, max_length=9)
    two_BRT, two_BR = search(table_BSV, 0.6, beam=4, max_length=9, num_best=2)
    np.testing.assert_array_equal(two_BRT, token_BRT[:, :2])
    np.testing.assert_array_equal(two_BR, score_BR[:, :2])


def test_one_beam_without_penalty_is_greedy_search():
    given = opening(tables(2, rows=16, vocab=9, ending=1.0), 1)
    one, other = (
        jax.jit(lambda given, m=method: m.search(extend, given, None, room=12)[0])(
            given
        )
        for method in (Beam(beam=1, length_penalty=0.0), Greedy())
    )
    np.testing.assert_array_equal(one.token_BRT, other.token_BRT)
    np.testing.assert_allclose(one.score_BR, other.score_BR, rtol=1e-5)
    ended_B = (other.token_BRT[:, 0] == END).any(-1)
    assert 3 < ended_B.sum() < 16


def test_greedy_takes_the_likeliest_token_until_the_end():
    table_BSV = tables(3, rows=8, vocab=9, ending=1.0)
    token_BRT, score_BR = search(table_BSV, 0.0, beam=1, max_length=10)
    for token_RT, score_R, table_SV in zip(token_BRT, score_BR, table_BSV, strict=True):
        text, state = (), 0
        while len(text) < 10 and END not in text:
            state = move(state, (START, *text)[-1], len(table_SV))
            text = (*text, int(table_SV[state].argmax()))
        assert_same(token_RT, score_R, Reference(table_SV, 0.0, 10), [text])


@pytest.mark.parametrize("beam", [1, 4])
def test_rows_do_not_know_of_each_other(beam):
    table_BSV = tables(4, rows=6, vocab=9, ending=1.5)
    token_BRT, score_BR = search(table_BSV, 0.6, beam=beam, max_length=12)
    lengths_B = (token_BRT[:, 0] != 0).sum(-1)
    assert lengths_B.min() < lengths_B.max()
    order = [3, 0, 5]
    some_BRT, some_BR = search(table_BSV[order], 0.6, beam=beam, max_length=12)
    np.testing.assert_array_equal(some_BRT, token_BRT[order])
    np.testing.assert_array_equal(some_BR, score_BR[order])


@pytest.mark.parametrize(("beam", "num_best"), [(1, 1), (4, 1), (4, 4)])
def test_it_stops_as_soon_as_nothing_can_change(beam, num_best):
    # Every token leads to a state of which the end is almost sure: exp(-15) is left.
    table_BSV = np.full((2, 211, 9), -15.0, "f4")
    table_BSV[:, :, END] = 0.0
    table_BSV[:, move(0, START, 211)] = [0, -5, 1, 2, 3, 4, 5, 6, 7]
    calls = []

    def counted(token_BL, toy):
        jax.debug.callback(lambda: calls.append(1))
        return extend(token_BL, toy)

    method = Beam(beam=beam, num_best=num_best) if beam > 1 else Greedy()
    found, _ = jax.jit(lambda given: method.search(counted, given, None, room=40))(
        opening(table_BSV, beam)
    )
    jax.effects_barrier()
    assert len(calls) == 2
    for r in range(num_best):
        assert found.token_BRT[:, r, :3].tolist() == [[8 - r, END, 0]] * 2


def test_it_goes_on_while_a_long_text_may_still_beat_a_short_one():
    # After START the end is likelier than 7; then 7 is sure, four times, and the end.
    table_BSV = np.full((1, 211, 9), -15.0, "f4")
    table_BSV[:, :, END] = 0.0
    state, text = move(0, START, 211), (7, 7, 7, 7, 7, END)
    table_BSV[:, state, 7] = -0.3
    for token in text[1:]:
        state = move(state, 7, 211)
        table_BSV[:, state, [7, END]] = -15.0
        table_BSV[:, state, token] = 0.0
    reference = Reference(table_BSV[0], 1.0, 8)
    assert reference.logp((END,)) > reference.logp(text)
    assert reference.score((END,)) < reference.score(text)
    token_BRT, score_BR = search(table_BSV, 1.0, beam=2, max_length=8, num_best=1)
    assert_same(token_BRT[0], score_BR[0], reference, [text])


BLOCK = registry.Block(DECODERS)


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (dict(name="beam", beam=2, num_best=3), "decode.num_best=3 must be at most"),
        (dict(name="beam", beam=0), r"decode.beam=0 must lie in \[1, inf\)"),
        (dict(name="beem"), "decode.name='beem' is not known. Did you mean 'beam'"),
        (dict(name="greedy", beam=4), "decode.beam=4 is not known"),
        (dict(name="sample", temperature=0.0), "decode.name='greedy' takes"),
        (dict(name="sample", top_p=0.0), r"decode.top_p=0.0 must lie in \(0, 1\]"),
        (dict(name="sample", top_k=-1), r"decode.top_k=-1 must lie in \[0, inf\)"),
        (dict(name="sample", max_tokens=0), "decode.max_tokens=0 must lie in"),
    ],
)
def test_a_wrong_config_is_refused_in_one_line(config, line):
    with pytest.raises(ValueError, match=line) as error:
        registry.check(config, BLOCK, "decode")
    assert "\n" not in str(error.value)
