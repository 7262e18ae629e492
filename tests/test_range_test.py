"""train/range_test.py: on a quadratic, on made-up curves, and as a whole run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optim
from core.exits import NUMERICS, STORAGE, Stop
from tests.runs import PLAIN, reading
from train import run
from train.keeper import Enough
from train.logs import read_json, read_metrics, write_json
from train.range_test import draw, suggest, until_numerics

H = 7.0


def descend(peak, start_share, num_steps):
    """Rates and losses of gradient descent on h w^2 / 2 along a ramp."""
    schedule = dict(name="range_test", peak=peak, start_share=start_share)
    rule = dict(name="gradient_descent")
    tx, rate = optim.make(rule=rule, schedule=schedule, num_steps=num_steps)

    def step(carry, number):
        params, state = carry
        grads = jax.tree.map(lambda w: H * w, params)
        updates, state = tx.update(grads, state, params, step=number)
        after = jax.tree.map(jnp.add, params, updates)
        return (after, state), (rate(number), params["in"])

    start = {"in": jnp.float32(1.0)}
    run = jax.jit(lambda: jax.lax.scan(step, (start, tx.init(start)), steps)[1])
    steps = jnp.arange(num_steps)
    rates, w = (np.asarray(x, np.float64) for x in run())
    return rates, w


def test_on_a_quadratic_the_loss_rises_from_two_over_h_on():
    rates, w = descend(peak=10.0 / H, start_share=1e-3, num_steps=120)
    shrinks = np.abs(w[1:]) < np.abs(w[:-1])
    np.testing.assert_array_equal(shrinks, rates[:-1] < 2 / H)
    lowest = np.argmin(np.abs(w))
    assert rates[lowest - 1] < 2 / H <= rates[lowest]


def test_on_a_quadratic_the_suggestion_is_that_of_the_closed_form():
    """The loss is exp(-2 h rate / k) where a step multiplies the rate by exp(k)."""
    rates, w = descend(peak=10.0 / H, start_share=1e-5, num_steps=800)
    k = np.log(rates[1] / rates[0])
    found = suggest(rates, H * w**2 / 2)
    assert found.suggested_rate == pytest.approx(k / (2 * H), rel=0.15)
    assert found.suggested_rate < 2 / H
    assert found.rates[-1] <= rates[-1]


def curve(num_points=300, noise=0.0):
    rates = np.geomspace(1e-5, 10.0, num_points)
    x = np.log10(rates)
    losses = 4 - 2 / (1 + np.exp(-4 * (x + 2.5))) + np.exp(3 * x)
    return rates, losses + noise * np.random.default_rng(0).normal(size=num_points)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_the_suggestion_is_the_steepest_fall_whatever_the_noise(noise):
    found = suggest(*curve(noise=noise))
    assert abs(np.log10(found.suggested_rate) + 2.5) < 0.25
    rates, losses = curve()
    assert 0.5 < found.lowest_rate / rates[np.argmin(losses)] < 2


@pytest.mark.parametrize("end", [np.nan, np.inf, 1e9])
def test_what_is_after_divergence_is_not_looked_at(end):
    rates, losses = curve()
    before = suggest(rates, losses).suggested_rate
    losses[250:] = end
    losses[260:] = -1e3  # lower than any before
    found = suggest(rates, losses)
    assert found.suggested_rate == pytest.approx(before, rel=0.1)
    assert len(found.rates) == 250


def test_a_fall_after_the_lowest_loss_is_not_looked_at():
    rates, losses = curve()
    before = suggest(rates, losses)
    assert np.argmin(before.smoothed) < 200
    losses[220:] = 6.0
    losses[260:] = 3.0
    assert suggest(rates, losses).suggested_rate == before.suggested_rate


@pytest.mark.parametrize("losses", [[], [1.0], [1.0, 2.0, 3.0], [np.nan, 1.0, 0.5]])
def test_a_loss_that_never_fell_suggests_nothing(losses):
    assert suggest(np.geomspace(1, 2, len(losses)), losses).suggested_rate is None


def test_the_guard_ends_a_test_and_no_other_stop_does():
    def hook(code):
        raise Stop(code, "why")

    with pytest.raises(Enough, match="why"):
        until_numerics(hook)(NUMERICS)
    with pytest.raises(Stop, match="why"):
        until_numerics(hook)(STORAGE)


def test_a_plot_of_nothing_but_infinity_is_a_plot(tmp_path):
    lines = [dict(step=n, rate=10.0**-n, loss=float("inf")) for n in (1, 2)]
    for line in lines:
        write_json(tmp_path / "line.json", line)
    text = "".join(
        f'{{"step": {n}, "rate": {10.0**n}, "loss": "inf"}}\n' for n in (1, 2)
    )
    (tmp_path / "metrics.jsonl").write_text(text)
    assert set(draw(tmp_path).values()) == {None}
    assert (tmp_path / "range_test.png").is_file()


@pytest.mark.usefixtures("undrawn")
def test_a_run_of_it_ends_where_training_does_and_suggests_a_rate(tmp_path):
    typed = PLAIN | dict(checkpoint__every_steps=100)
    typed |= dict(optim__schedule__name="range_test", optim__schedule__peak=1e5)
    typed |= dict(optim__schedule__start_share=1e-9)
    typed |= dict(num_steps=80, guard__max_streak=3, evaluate__every_steps=0)
    config = reading(**typed)
    assert config["log_every"] > 1
    summary = run.train(config, str(tmp_path))
    lines = read_metrics(tmp_path)
    assert summary["steps"] == len(lines) < 80
    assert summary["stopped_early"]
    assert 1e-3 < summary["suggested_rate"] < summary["lowest_rate"] < lines[-1]["rate"]
    assert summary == read_json(tmp_path / "summary.json")
    assert (tmp_path / "range_test.png").stat().st_size > 1e4
