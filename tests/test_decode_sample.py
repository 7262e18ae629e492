"""models/decode/sample.py and filters.py: what is drawn, and what may be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from models.decode.filters import kept, penalized
from models.decode.sample import Sample
from models.decode.terms import END, PAD, START, Opening

V = 9
# In the tests of distributions a text is one token long, so its end is no other.
LOGIT_V = np.array([-1.0, 2.2, 2.0, 1.5, 0.0, -2.0, 1.0, 3.0, -0.5])
# No row's choice is near a border of a filter.
FILTERS = [
    dict(),
    dict(temperature=0.5),
    dict(top_k=3),
    dict(top_p=0.7),
    dict(min_p=0.2),
    dict(repetition_penalty=1.8),
    dict(temperature=2.0, top_k=6, top_p=0.8, min_p=0.7, repetition_penalty=1.3),
]


def reference(logit_V, seen=(), **numbers):
    """The shares of the tokens, one rule after the other, in float64."""
    z_V = np.array(logit_V, "f8")
    for token in seen:
        penalty = numbers.get("repetition_penalty", 1.0)
        z_V[token] = z_V[token] / penalty if z_V[token] > 0 else z_V[token] * penalty
    z_V /= numbers.get("temperature", 1.0)

    def shares(z_V):
        return np.exp(z_V - z_V.max()) / np.exp(z_V - z_V.max()).sum()

    order = sorted(range(len(z_V)), key=lambda v: -z_V[v])
    for v in order[numbers.get("top_k", 0) or len(z_V) :]:
        z_V[v] = -np.inf
    total, before = 0.0, shares(z_V)
    for v in order:
        if total >= numbers.get("top_p", 1.0):
            z_V[v] = -np.inf
        total += before[v]
    z_V[shares(z_V) < numbers.get("min_p", 0.0) * shares(z_V).max()] = -np.inf
    return shares(z_V)


def extend(token_BL, table_BSV):
    """Logits that depend on the last token alone: row t of the table for token t."""
    row_B1 = jnp.arange(len(token_BL))[:, None]
    return table_BSV[row_B1, token_BL], table_BSV


def opening(table_BSV, prompt=()):
    B = len(table_BSV)
    prompt_BP = jnp.tile(jnp.array([prompt], jnp.int32), (B, 1))
    first_B = jnp.full(B, START)
    return Opening(jnp.asarray(table_BSV, jnp.float32), first_B, prompt_BP)


def keys(num_rows, seed=0):
    fold = jax.vmap(jax.random.fold_in, (None, 0))
    return fold(jax.random.key(seed), jnp.arange(num_rows))


def draw(method, given, key_B, room=1):
    run = jax.jit(lambda given, key_B: method.search(extend, given, key_B, room=room))
    return run(given, key_B)[0]


@pytest.mark.parametrize("numbers", FILTERS, ids=str)
def test_tokens_are_drawn_as_often_as_the_reference_says(numbers):
    seen = (7, 5)
    method, R = Sample(num_samples=4000, **numbers), 4000
    given = opening(np.tile(LOGIT_V, (1, V, 1)), prompt=(*seen, PAD, START, END))
    token_R = np.asarray(draw(method, given, keys(1)).token_BRT)[0, :, 0]
    count_V = np.bincount(token_R, minlength=V)
    share_V = reference(LOGIT_V, seen, **numbers)
    assert (count_V[share_V == 0] == 0).all()
    on_V = share_V > 0
    gap_V = (count_V - R * share_V)[on_V] ** 2 / (R * share_V[on_V])
    freedom = on_V.sum() - 1
    # Of 10,000 such tests one would be above: chi-square is freedom +- sqrt(2 freedom).
    assert gap_V.sum() < freedom + 4.5 * np.sqrt(2 * freedom) + 4


@pytest.mark.parametrize("numbers", FILTERS[2:5], ids=str)
def test_each_filter_keeps_what_the_reference_keeps(numbers):
    logit_BV = 3 * np.random.default_rng(0).standard_normal((64, 50)).astype("f4")
    off = dict(top_k=0, top_p=1.0, min_p=0.0)
    left_BV = jnp.isfinite(jax.jit(lambda x: kept(x, **off | numbers))(logit_BV))
    share_BV = np.array([reference(logit_V, **numbers) for logit_V in logit_BV])
    np.testing.assert_array_equal(left_BV, share_BV > 0)
    assert len(set(left_BV.sum(1).tolist())) > (0 if "top_k" in numbers else 5)


def test_the_likeliest_token_is_kept_by_every_filter():
    logit_BV = jnp.array([[0.0, 5.0, 1.0]])
    for numbers in (dict(top_p=1e-30), dict(min_p=1.0), dict(top_k=1)):
        left_BV = kept(logit_BV, **dict(top_k=0, top_p=1.0, min_p=0.0) | numbers)
        assert jnp.isfinite(left_BV).tolist() == [[False, True, False]]


def test_more_candidates_than_tokens_are_all_of_them():
    logit_BV = jnp.array([[0.0, 5.0, 1.0]])
    assert (kept(logit_BV, top_k=9, top_p=1.0, min_p=0.0) == logit_BV).all()


def test_a_penalty_lowers_a_negative_logit_too():
    logit_BV, seen_BV = jnp.array([[3.0, -3.0, 3.0]]), jnp.array([[True, True, False]])
    assert penalized(logit_BV, seen_BV, 1.5).tolist() == [[2.0, -4.5, 3.0]]


def chaos(num_rows, ending):
    table_BSV = np.random.default_rng(5).standard_normal((num_rows, V, V))
    table_BSV[:, :, END] += ending
    return table_BSV


def test_what_a_prompt_or_a_text_has_said_is_not_said_again():
    table_BSV = np.full((1, V, V), 50.0)
    table_BSV[:, :, END] = -1e4
    method = Sample(num_samples=100, repetition_penalty=1e6)
    given = opening(table_BSV, prompt=[4, 5])
    token_RT = np.asarray(draw(method, given, keys(1), room=6).token_BRT)[0]
    others = [v for v in range(V) if v not in (4, 5, END)]
    assert (np.sort(token_RT) == others).all()
    assert len({token_T.tobytes() for token_T in token_RT}) > 50


def test_a_text_ends_at_its_end_and_the_loop_with_the_last_text():
    method, steps = Sample(num_samples=3), []
    table_BSV = np.full((2, V, V), -20.0)
    table_BSV[:, START, 4], table_BSV[:, 4, END] = 20.0, 20.0

    def counted(token_BL, cache):
        jax.debug.callback(lambda: steps.append(1))
        return extend(token_BL, cache)

    run = jax.jit(lambda *given: method.search(counted, *given, room=50))
    found, _ = run(opening(table_BSV), keys(2))
    jax.effects_barrier()
    assert len(steps) == 2
    assert found.token_BRT[:, :, :3].tolist() == [[[4, END, PAD]] * 3] * 2


def test_the_score_is_the_log_p_of_the_model_without_filters():
    table_BSV = chaos(4, ending=1.0)
    method = Sample(num_samples=5, temperature=3.0, top_k=7, repetition_penalty=2.0)
    found = draw(method, opening(table_BSV), keys(4), room=12)
    lengths = set()
    for token_RT, score_R, table_SV in zip(*found, table_BSV, strict=True):
        for token_T, score in zip(np.asarray(token_RT), score_R, strict=True):
            text = token_T[: np.append(token_T == END, True).argmax() + 1].tolist()
            logp_SV = np.log([reference(logit_V) for logit_V in table_SV])
            pairs = zip([START, *text], text, strict=False)
            logp = sum(logp_SV[pair] for pair in pairs)
            assert float(score) == pytest.approx(logp, rel=1e-5)
            assert not token_T[len(text) :].any()
            lengths.add(len(text))
    assert len(lengths) > 5


def test_a_row_is_drawn_alike_beside_others_on_devices_and_among_more_samples():
    table_BSV, method = chaos(8, ending=1.0), Sample(num_samples=3, top_p=0.9)
    given, key_B = opening(table_BSV), keys(8)
    token_BRT = np.asarray(draw(method, given, key_B, room=10).token_BRT)
    assert (
        len({token_T.tobytes() for token_RT in token_BRT for token_T in token_RT}) > 9
    )
    some = draw(method, opening(table_BSV[[5, 2]]), key_B[jnp.array([5, 2])], room=10)
    np.testing.assert_array_equal(some.token_BRT, token_BRT[[5, 2]])
    more = draw(Sample(num_samples=5, top_p=0.9), given, key_B, room=10)
    np.testing.assert_array_equal(more.token_BRT[:, :3], token_BRT)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    placed = jax.device_put((given, key_B), NamedSharding(mesh, PartitionSpec("data")))
    np.testing.assert_array_equal(draw(method, *placed, 10).token_BRT, token_BRT)
    other = draw(method, given, keys(8, seed=1), room=10)
    assert (other.token_BRT != token_BRT).any()


def test_numbers_are_inputs_and_what_is_off_leaves_no_trace():
    given, key_B = opening(chaos(2, ending=0.0)), keys(2)
    names = ("temperature", "top_p", "min_p", "repetition_penalty")

    @jax.jit
    def run(numbers, given, key_B):
        return Sample(**numbers).search(extend, given, key_B, room=6)[0]

    for values in ((0.7, 0.9, 0.1, 1.3), (2.0, 0.5, 0.2, 1.1)):
        numbers = dict(zip(names, values, strict=True))
        found = run(jax.tree.map(jnp.float32, numbers), given, key_B)
        static = draw(Sample(**numbers), given, key_B, room=6)
        np.testing.assert_array_equal(found.token_BRT, static.token_BRT)
    assert run._cache_size() == 1

    def text(**numbers):
        method = Sample(**numbers)
        return jax.jit(
            lambda given, key_B: method.search(extend, given, key_B, room=6)
        ).lower(given, key_B)

    assert "top_k" in text(top_p=0.5).as_text()
    assert "scatter" in text(repetition_penalty=1.5).as_text()
    plain = text().as_text()
    assert "top_k" not in plain
    assert "stablehlo.sort" not in plain
    assert "scatter" not in plain
