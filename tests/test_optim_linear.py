"""Linear chains on a noisy quadratic: exact curves against papers and many runs.

A walk here is its paper's, in float64, and yields what is evaluated after each step. Of
a linear one the expected loss is that of its responses, one to the start and one to the
noise of each step, whose squares add up.
"""

import functools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optim
from tests.linear import exact_curve, maps, propagated, replicas

T = 100
GROWING = np.where(np.arange(T) < 50, 2.0, 32.0)
BALL = dict(name="sgd", momentum=0.9)
RATES = np.full(T, 0.1)
FALL = 0.2 * (1 + np.cos(np.pi * np.arange(T) / T)) / 2
COSINE = dict(name="cosine", peak=0.2, warmup_steps=0)


def made(peak=0.1, *, num_steps=T, **words):
    schedule = dict(name="constant", peak=peak, warmup_steps=0)
    defaults = dict(rule=dict(name="gradient_descent"), schedule=schedule)
    return optim.make(num_steps=num_steps, **(defaults | words))[0]


def place(**changes) -> dict[str, Any]:
    usual = dict(curvature=0.8, noise=2.0, batch=4.0, start=1.5, num_steps=T)
    return usual | changes


def descent(w, grad, rates=RATES, decays=0 * RATES, l2=0.0, l2_start=0.0):
    start = w
    for t, (rate, decay) in enumerate(zip(rates, decays, strict=True)):
        g = grad(w, t) + l2 * w + l2_start * (w - start)
        w = w - rate * g - decay * w
        yield w


def heavy_ball(w, grad):
    last = w
    for t in range(T):
        w, last = w - 0.1 * grad(w, t) + 0.9 * (w - last), w
        yield w


def nesterov(w, grad):
    v = 0 * w
    for t in range(T):
        v = 0.9 * v - 0.1 * grad(w + 0.9 * v, t)
        w = w + v
        yield w + 0.9 * v


def schedule_free(w, grad):
    x = z = w
    rates = np.minimum(0.1, 0.01 * np.arange(1, T + 1))
    for t, rate in enumerate(rates):
        z = z - rate * grad(0.2 * z + 0.8 * x, t)
        c = rate**2 / np.sum(np.square(rates[: t + 1]))
        x = (1 - c) * x + c * z
        yield x


def lookahead(w, grad):
    slow = w
    for t, w in enumerate(restarting(w, grad, lambda slow, w: (slow + w) / 2)):
        slow = w if t % 5 == 4 else slow
        yield slow


def diloco(w, grad):
    m = 0 * w

    def outer(start, w):
        nonlocal m
        m = 0.6 * m + start - w
        return start - 0.7 * (start - w + 0.6 * m)

    yield from restarting(w, grad, outer)


def restarting(w, grad, outer):
    start = w
    for t in range(T):
        w = w - 0.1 * grad(w, t)
        if t % 5 == 4:
            start = w = outer(start, w)
        yield w


def averaged(name):
    """Of heavy ball, by the weight of the parameters after n steps at a moment t."""

    def walk(w, grad):
        path_TR = np.stack([*heavy_ball(w, grad)])
        for t in range(T):
            weight_T = np.array(
                [WEIGHTS[name](n, t + 1) for n in range(1, T + 1)], float
            )
            known = weight_T.sum() > 0
            yield weight_T @ path_TR / weight_T.sum() if known else path_TR[t]

    return walk


WEIGHTS = {
    "ema": lambda n, t: 0.8 ** (t - n) * (n <= t),
    "swa": lambda n, t: n in range(44, t + 1, 4),
    "lawa": lambda n, t: n in range(6, t + 1, 6)[-4:],
}
WARM = dict(name="constant", peak=0.1, warmup_steps=10)
FREE = dict(schedule=WARM, outer=dict(name="schedule_free", b=0.8))
DILOCO = dict(name="nesterov", every_steps=5, rate=0.7, momentum=0.6)
EMA = dict(name="ema", decay=0.8)
SWA = dict(name="swa", start_step=40, every_steps=4)
LAWA = dict(name="lawa", every_steps=6, num_snapshots=4)
DECAY = dict(schedule=COSINE, decay=0.3)
INDEPENDENT = dict(schedule=COSINE, decay=0.01, decay_kind="independent")
PENALTIES = dict(l2=0.2, l2_start=0.3)
CASES = {
    "cosine": (dict(schedule=COSINE), partial(descent, rates=FALL)),
    "heavy_ball": (dict(rule=BALL), heavy_ball),
    "nesterov": (dict(rule=BALL | dict(nesterov=True)), nesterov),
    "schedule_free": (FREE, schedule_free),
    "lookahead": (dict(outer=dict(name="lookahead", every_steps=5)), lookahead),
    "diloco": (dict(outer=DILOCO), diloco),
    "ema": (
        dict(rule=BALL, average=EMA),
        averaged("ema"),
    ),
    "swa": (
        dict(rule=BALL, average=SWA),
        averaged("swa"),
    ),
    "lawa": (
        dict(rule=BALL, average=LAWA),
        averaged("lawa"),
    ),
    "decay": (DECAY, partial(descent, rates=FALL, decays=0.3 * FALL)),
    "independent": (INDEPENDENT, partial(descent, rates=FALL, decays=0.05 * FALL)),
    "penalties": (PENALTIES, partial(descent, **PENALTIES)),
    "growing_batch": ({}, descent),
}


def place_of(case):
    return place(batch=GROWING if case == "growing_batch" else 4.0)


@functools.cache
def exact(case):
    return exact_curve(made(**CASES[case][0]), **place_of(case))


def by_responses(case):
    h, batch = 0.8, np.broadcast_to(place_of(case)["batch"], T)
    noise_TR = np.eye(T, T + 1, 1) * np.sqrt(2.0 / batch)[:, None]
    start_R = 1.5 * np.eye(1, T + 1)[0]
    path = CASES[case][1](start_R, lambda w, t: h * w + noise_TR[t])
    return h / 2 * np.array([np.sum(np.square(w)) for w in (start_R, *path)])


@pytest.mark.parametrize("case", CASES)
def test_the_exact_curve_is_that_of_the_papers_walk(case):
    np.testing.assert_allclose(exact(case), by_responses(case), rtol=2e-5)


@pytest.mark.parametrize("case", CASES)
def test_the_exact_curve_is_the_mean_of_many_runs(case):
    means, errors = replicas(made(**CASES[case][0]), **place_of(case))
    off = np.abs(means - exact(case))
    assert (off < 4 * errors + 1e-6 * means).all()
    assert (errors[50:] > 0).all()


def test_a_batch_in_pieces_is_one_of_their_size():
    steps = optax.MultiSteps(made(), every_k_schedule=4)
    tx = optax.GradientTransformationExtraArgs(
        steps.init, lambda *now, **extra: steps.update(*now, **extra)
    )
    pieces = exact_curve(tx, **place())
    whole = exact_curve(made(), **place(batch=16.0, num_steps=T // 4))
    np.testing.assert_allclose(pieces[::4], whole, rtol=1e-5)
    np.testing.assert_array_equal(pieces[1:4], pieces[:3])


def test_directions_add_up():
    far = dict(curvature=0.3, noise=0.5, start=-2.0)
    both = {key: np.array([x, place()[key]]) for key, x in far.items()}
    found = exact_curve(made(), **place(batch=GROWING, **both))
    apart = exact("growing_batch") + exact_curve(made(), **place(batch=GROWING, **far))
    np.testing.assert_allclose(found, apart, rtol=1e-6)


def test_without_noise_gradient_descent_shrinks_by_one_factor_a_step():
    found = exact_curve(made(), **place(batch=np.inf))
    w = 1.5 * (1 - 0.1 * 0.8) ** np.arange(T + 1)
    np.testing.assert_allclose(found, 0.8 * w**2 / 2, rtol=1e-4)


def test_the_step_is_against_the_gradient_by_the_rate():
    J_NM, _ = maps(made(), 0.8, num_steps=1)
    np.testing.assert_allclose(J_NM[0], [[1 - 0.1 * 0.8, -0.1]] * 2, rtol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_at_rest_the_loss_is_that_of_the_noise(momentum):
    rule = dict(name="sgd", momentum=momentum)
    found = exact_curve(made(rule=rule), **place(num_steps=300))[-1]
    top, h = 2 * (1 + momentum), 0.8
    variance = 0.1 * 2.0 / (4.0 * h) * (1 + momentum) / (1 - momentum) / (top - 0.1 * h)
    np.testing.assert_allclose(found, h * variance / 2, rtol=1e-5)


def test_at_rest_a_moving_average_has_the_variance_of_its_weights():
    average = dict(name="ema", decay=0.9)
    found = exact_curve(made(average=average), **place(num_steps=300))[-1]
    a, d, variance = 1 - 0.1 * 0.8, 0.9, 0.1 * 2.0 / (4.0 * 0.8 * (2 - 0.1 * 0.8))
    share = (1 - d) * (1 + a * d) / ((1 + d) * (1 - a * d))
    np.testing.assert_allclose(found, 0.8 * share * variance / 2, rtol=1e-5)


@jax.jit
@partial(jnp.vectorize, signature="(),(),()->(n,n)")
def moves(rate, momentum, curvature):
    rule = dict(name="sgd", momentum=momentum)
    return maps(made(rate, rule=rule, num_steps=1), curvature, num_steps=1)[0][0]


def radius(rate, momentum, curvature):
    """By how much a step shrinks in the long run: the largest eigenvalue's size."""
    J = np.asarray(moves(*np.broadcast_arrays(rate, momentum, curvature)), float)
    return np.abs(np.linalg.eigvals(J[..., :-1, :-1])).max(-1)


def test_heavy_ball_is_as_fast_as_its_theorem_and_no_other_numbers_are_faster():
    k, ends = 25.0, np.array([1.0, 5.0, 25.0])
    best = (np.sqrt(k) - 1) / (np.sqrt(k) + 1)
    rate, momentum = (2 / (np.sqrt(k) + 1)) ** 2, best**2
    # Two eigenvalues meet at the ends, where rounding counts by its root.
    np.testing.assert_allclose(radius(rate, momentum, ends), best, atol=2e-3)
    rates = rate * np.array([0.5, 0.8, 1.0, 1.1, 1.3])[:, None, None]
    momenta = momentum * np.array([0.2, 0.8, 1.0, 1.2, 1.8])[:, None]
    others = np.delete(radius(rates, momenta, ends).max(-1), 12)
    assert others.min() > best + 0.03


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_it_diverges_beyond_a_rate_of_two_over_the_curvature(momentum):
    edge = 2 * (1 + momentum) / 0.8
    assert radius(0.999 * edge, momentum, 0.8) < 1 < radius(1.001 * edge, momentum, 0.8)
    for share, holds in ((0.98, np.less), (1.02, np.greater)):
        tx = made(share * edge, rule=dict(name="sgd", momentum=momentum))
        assert holds(exact_curve(tx, **place(batch=np.inf, num_steps=400))[-1], 0.9)


def test_more_examples_a_step_save_steps_up_to_the_critical_batch_size():
    h_D, batches = 1 / np.arange(1.0, 17), 4.0 ** np.arange(1, 8)
    rates, num_steps = np.geomspace(0.01, 1.6, 24).astype(np.float32), 600

    @partial(jax.vmap, out_axes=1)
    def of_rate(rate):
        run = partial(maps, made(rate), num_steps=num_steps)
        return jax.vmap(run, out_axes=1)(h_D.astype(np.float32))[0]

    J = np.asarray(jax.jit(of_rate)(rates))
    J = np.broadcast_to(J[:, None], (num_steps, 8, *J.shape[1:]))
    noise = h_D / np.append(batches, np.inf)[:, None, None]
    losses = propagated(J, np.ones((16, 2)), curvature=h_D, noise=noise, batch=1.0)
    reached = losses <= 0.01 * losses[0]
    steps = np.where(reached.any(0), reached.argmax(0), np.inf).min(-1)
    assert np.isfinite(steps).all()
    assert (np.diff(steps) <= 0).all()
    assert (np.diff(steps[:-1] * batches) > 0).all()
    assert steps[0] > 3 * steps[1]
    assert steps[-2] < 1.05 * steps[-1]


@pytest.mark.parametrize(
    "words",
    [
        *(dict(rule=dict(name=name)) for name in ("adam", "signum", "dog")),
        dict(clip_norm=1.0),
        dict(plateau=dict(factor=0.5, every_steps=1)),  # linear within a step
    ],
    ids=str,
)
def test_what_is_not_linear_is_refused(words):
    with pytest.raises(ValueError, match=r"^The chain is not linear: step 0 is off"):
        exact_curve(made(**words), **place(num_steps=2))
