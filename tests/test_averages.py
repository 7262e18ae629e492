"""optim/average against torch's swa_utils and NumPy; and soups of parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optim
from optim import AVERAGES
from tests.optimizing import NUM_STEPS, assert_path, case_of
from tests.runs import reading
from tests.walking import follow
from train import soup
from train.assemble import check
from train.evaluated import mean_of

ADAM = dict(name="adam")
SWA = dict(name="swa", start_step=16, every_steps=4)
LAWA = dict(name="lawa", every_steps=4, num_snapshots=3)


def test_a_mean_of_swa_is_that_of_pytorch():
    params, found = follow(rule=ADAM, average=SWA)
    assert_path(params, case_of("optim_around", "adam"))
    assert_path(found, case_of("optim_around", "swa"))


def test_a_moving_average_is_that_of_pytorch_but_for_the_weight_of_its_first_point():
    params, found = follow(rule=ADAM, average=dict(name="ema", decay=0.9))
    left = 0.9 ** np.arange(4, NUM_STEPS + 1, 4)
    for name, path in case_of("optim_around", "ema").items():
        share = left.reshape(-1, *[1] * (path.ndim - 1))
        ours = (1 - share) * found[name][4::4] + share * params[name][1]
        np.testing.assert_allclose(ours, path[1:], rtol=0, atol=5e-6)


def test_a_moving_average_begins_at_its_step_and_forgets_all_before():
    params, found = follow(rule=ADAM, average=dict(name="ema", decay=0.8, start_step=9))
    for name, path in params.items():
        np.testing.assert_array_equal(found[name][:11], path[:11])
        for end in (11, 30, NUM_STEPS):
            weights = 0.8 ** np.arange(end - 10, -1, -1)
            mean = np.tensordot(weights / weights.sum(), path[10 : end + 1], axes=1)
            np.testing.assert_allclose(found[name][end], mean, rtol=0, atol=2e-6)


def test_the_latest_average_is_that_of_the_last_few_snapshots():
    params, found = follow(rule=ADAM, average=LAWA)
    for name, path in params.items():
        np.testing.assert_array_equal(found[name][:4], path[:4])
        for end in range(4, NUM_STEPS + 1):
            taken = [path[n] for n in range(4, end + 1, 4)][-3:]
            mean = np.mean(taken, axis=0, dtype=np.float64)
            np.testing.assert_allclose(found[name][end], mean, rtol=0, atol=1e-6)


@pytest.mark.parametrize("average", [SWA, LAWA])
def test_a_snapshot_that_a_guard_skips_is_taken_at_the_next_step(average):
    params, found = follow(rule=ADAM, average=average, skipped=(23, 24))
    first = average.get("start_step", 0)
    at = [26 if n == 24 else n for n in range(first + 4, NUM_STEPS + 1, 4)]
    for name, path in params.items():
        for end in (25, 26, 30, NUM_STEPS):
            taken = [path[n] for n in at if n <= end]
            taken = taken[-3:] if average is LAWA else taken
            mean = np.mean(taken, axis=0, dtype=np.float64)
            np.testing.assert_allclose(found[name][end], mean, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", sorted(AVERAGES))
def test_an_average_leaves_the_walk_as_it_is_to_the_bit(name):
    options = {"ema": {}, "none": {}, "swa": SWA, "lawa": LAWA}[name]
    plain, _ = follow(rule=ADAM)
    params, _ = follow(rule=ADAM, average=options | {"name": name})
    jax.tree.map(np.testing.assert_array_equal, params, plain)


def test_the_average_around_an_outer_step_is_what_is_evaluated():
    outer = dict(name="lookahead", every_steps=4)
    params, found = follow(rule=ADAM, outer=outer, average=LAWA)
    for name, path in params.items():
        mean = np.mean([path[n] for n in (56, 60, 64)], axis=0, dtype=np.float64)
        np.testing.assert_allclose(found[name][64], mean, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (dict(name="ema", start_step=20), "start_step=20 and every_steps=1"),
        (dict(name="swa", start_step=16, every_steps=5), "every_steps=5"),
        (dict(name="lawa", every_steps=21), "start_step=0 and every_steps=21"),
    ],
)
def test_an_average_of_nothing_is_refused(words, line):
    config = reading(num_steps=20)
    config["optim"]["average"] = words
    with pytest.raises(ValueError, match=rf"^optim.average: .*{line} leave nothing"):
        check(config)
    check(config | {"num_steps": 21})


def test_an_average_of_bfloat16_parameters_moves_in_float32():
    params = {"in": jnp.full(3, 1.0, jnp.bfloat16)}
    tx, _ = optim.make(
        rule=dict(name="gradient_descent"),
        schedule=dict(name="constant", peak=0.0625, warmup_steps=0),
        num_steps=50,
        average=dict(name="ema", decay=0.99),
    )
    state, path, update = tx.init(params), [], jax.jit(tx.update)
    for number in range(50):
        up = {"in": jnp.full(3, -1.0, jnp.bfloat16)}
        updates, state = update(up, state, params, step=number)
        params = optax.apply_updates(params, updates)
        path.append(float(params["in"][0]))
    weights = 0.99 ** np.arange(49, -1, -1)
    mean = np.dot(weights, path) / weights.sum()
    np.testing.assert_allclose(state.mean["in"], mean, rtol=1e-5)
    assert optim.eval_params(state, params)["in"].dtype == jnp.bfloat16


def bowls(*points):
    return [{"out": jnp.array(point)} for point in points]


def test_the_mean_of_several_is_summed_in_float32_and_keeps_their_dtype():
    trees = [{"out": jnp.full(2, n, jnp.bfloat16)} for n in (256.0, 1.0, 1.0, 1.0)]
    found = mean_of(iter(trees))
    assert found["out"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(found["out"], jnp.bfloat16(259 / 4))
    np.testing.assert_array_equal(soup.uniform(bowls(1.0, 2.0, 6.0))["out"], 3.0)


def test_a_greedy_soup_takes_from_the_best_down_who_does_not_make_it_worse():
    def score(params):
        return -abs(float(params["out"]) - 1.0)

    # Both of 1.5 are as good as one; with 0 their mean is 1; with -2 it would be worse.
    found, chosen = soup.greedy(bowls(-2.0, 1.5, 0.0, 1.5), score)
    assert chosen == [1, 3, 2]
    assert float(found["out"]) == 1.0
    alone, chosen = soup.greedy(bowls(5.0, 1.0), score)
    assert (chosen, float(alone["out"])) == ([1], 1.0)
