"""train/measure.py in steps and in whole runs: what is logged, and that it is so."""

import functools
import math
import re

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import optim
from core.trees import name_of
from tests.measuring import Net, rows
from tests.optimizing import normal
from tests.runs import PLAIN, reading
from train import measure as measures
from train import mesh as meshes
from train import noise_scale, norms, run
from train.assemble import assemble, inputs_of
from train.checkpoints import Checkpoints
from train.guard import Guard
from train.logs import read_metrics
from train.preemption import Preemption
from train.program import program_of
from train.step import make_step, start

ON = PLAIN | dict(
    pieces=2,
    measure__norms="layer",
    measure__noise_scale="true",
    measure__noise_steps=2,
    measure__sharpness_every=3,
    measure__lanczos_steps=3,
    measure__attention="true",
    measure__attention_rows=3,
    num_steps=6,
    log_every=2,
    evaluate__every_steps=4,
    checkpoint__every_steps=3,
    checkpoint__keep=3,
    optim__schedule__decay_steps=2,
    optim__schedule__peak=0.3,
)

pytestmark = pytest.mark.usefixtures("undrawn")


RATE = 0.1


def net(**words):
    """The parts of a step of a small net, and what it measures."""
    block = measures.Measure(**words)
    tx, rate = optim.make(
        rule=dict(name="gradient_descent"),
        schedule=dict(name="constant", peak=RATE, warmup_steps=0),
        clip_norm=0.5,
        num_steps=9,
    )
    options = dict(rate=rate, judge=Guard(), pieces=2, measures=block)
    return functools.partial(start, Net(), tx, measures=block), make_step(
        Net(), tx, **options
    )


@pytest.fixture(scope="module")
def measured():
    """Of three steps: the state before, the pieces' gradients and weights, scores."""
    key = jax.random.key(0)
    init, step = net(norms="group", noise_scale=True, noise_steps=2)
    step, state, found = jax.jit(step), init(key), []

    @jax.jit
    def differentiate(params, batch, number):
        def total(params, piece, own):
            cut = {name: x[piece::2] for name, x in batch.items()}
            mean = Net().score(params, cut, own, train=True)["objective"]
            return mean.total, mean.weight

        keys = jax.random.split(jax.random.fold_in(key, number), 2)
        grad = jax.grad(total, has_aux=True)
        return [grad(params, piece, keys[piece]) for piece in range(2)]

    for number in range(3):
        before, batch = state, rows(number)
        pieces = differentiate(before.params, batch, number)
        grads = [np.float64(ravel_pytree(g)[0]) / float(w) for g, w in pieces]
        state, scores = step(before, batch, key)
        values = {name: float(mean.value) for name, mean in scores.items()}
        found.append((before, grads, [float(w) for _, w in pieces], values))
    return found, state


def test_the_noise_of_a_step_is_what_its_pieces_say(measured):
    means = np.zeros(3)
    for number, (_, grads, weights, values) in enumerate(measured[0]):
        W = sum(weights)
        g = sum(w * g for w, g in zip(weights, grads, strict=True)) / W
        pairs = zip(weights, grads, strict=True)
        trace = sum(w * ((x - g) ** 2).sum() for w, x in pairs)  # over p - 1, 1
        square = (g**2).sum() - trace / W
        np.testing.assert_allclose(values["noise_scale/trace"], trace, rtol=1e-5)
        np.testing.assert_allclose(values["noise_scale/grad_square"], square, rtol=1e-4)
        share = 1.0 if number == 0 else 0.5  # the averages remember two steps
        means += share * (np.array([trace, square, W / 6]) - means)
        np.testing.assert_allclose(
            [values["noise_scale/targets"], values["noise_scale/rows"]],
            [means[0] / means[1], means[0] / means[1] / means[2]],
            rtol=1e-4,
        )


def test_norms_are_of_the_gradient_as_it_is_the_update_as_done_and_weights_before(
    measured,
):
    found, after = measured
    for (before, grads, weights, values), later in zip(
        found, [*(state for state, *_ in found[1:]), after], strict=True
    ):
        g = sum(w * g for w, g in zip(weights, grads, strict=True)) / sum(weights)
        w, new = (np.float64(ravel_pytree(s.params)[0]) for s in (before, later))
        size, update = np.linalg.norm(g), np.linalg.norm(new - w)
        assert size > 2 * 0.5  # it is clipped
        assert values["grad_norm/mlp"] == pytest.approx(size, rel=1e-5)
        assert values["grad_norm"] == pytest.approx(size, rel=1e-5)
        assert values["update_norm/mlp"] == pytest.approx(update, rel=1e-4)
        share = update / np.linalg.norm(w)
        assert values["update_share/mlp"] == pytest.approx(share, rel=1e-4)


def test_norms_of_a_model_are_numpys():
    parts = assemble(reading(**ON))
    shape = parts.program.shape(parts.values, jax.random.key(0)).params
    shapes = jax.tree.map(lambda leaf: leaf.shape, shape)
    trees = [normal(shapes, seed) for seed in range(3)]
    scores = jax.jit(functools.partial(norms.scores, norms="layer"))(*trees)
    values = {name: float(mean.value) for name, mean in scores.items()}
    group = {"attention": "attention/", "mlp": "/mlp/", "embed": "/embed"}
    group |= {"norm": "/scale|/bias"}

    def norm(tree, word, part):
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        named = {name_of(path): x for path, x in leaves}
        own = [
            np.float64(x)
            for name, x in named.items()
            if re.search(word, name) and name.startswith(part)
            if word == group["norm"] or "norm" not in name
        ]
        return math.sqrt(sum((x**2).sum() for x in own))

    for name, word in group.items():
        for part, place in (("", ""), ("/decoder/layers", "decoder/0/")):
            if part and name == "embed":
                continue
            key = f"{place}{name}"
            grad, update, weight = (norm(tree, word, part) for tree in trees)
            assert values[f"grad_norm/{key}"] == pytest.approx(grad, rel=1e-5)
            assert values[f"update_norm/{key}"] == pytest.approx(update, rel=1e-5)
            share = update / weight
            assert values[f"update_share/{key}"] == pytest.approx(share, rel=1e-5)


def test_a_layer_of_a_stack_has_a_norm_of_its_own():
    w_NDF = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    tree = {"decoder": {"layers": {"mlp": {"in": w_NDF, "in_bias": w_NDF[:, 0]}}}}
    found = jax.jit(functools.partial(norms.norms_of, by_layer=True))(tree)
    assert sorted(found) == [*(f"decoder/{n}/mlp" for n in range(3)), "mlp"]
    for n in range(3):
        both = np.concatenate([w_NDF[n].ravel(), w_NDF[n, 0]])
        norm = np.linalg.norm(both)
        assert found[f"decoder/{n}/mlp"] == pytest.approx(norm, rel=1e-5)
    assert list(norms.norms_of(tree)) == ["mlp"]


def lines_of(folder):
    clock = ("seconds", "tokens_per_second")
    lines = read_metrics(folder)
    return [{k: v for k, v in line.items() if k not in clock} for line in lines]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    run.train(reading(**ON), str(folder))
    return folder


def test_a_run_logs_all_that_is_switched_on(straight):
    lines = {line["step"]: line for line in lines_of(straight)}
    assert list(lines) == [2, 3, 4, 6]  # every second, and those of the sharpness
    for step, line in lines.items():
        groups = ("attention", "embed", "mlp", "norm", "decoder/0/mlp")
        kinds = ("grad_norm", "update_norm", "update_share")
        names = {f"{kind}/{group}" for kind in kinds for group in groups}
        noise = ("trace", "grad_square", "targets", "rows")
        names |= {f"noise_scale/{x}" for x in noise}
        names |= {f"attention_{x}/decoder/0" for x in ("logit", "entropy")}
        assert names <= set(line)
        assert ("sharpness" in line) == ("sharpness_error" in line) == (step % 3 == 0)
        assert all(math.isfinite(value) for value in line.values())
    assert lines[3]["sharpness"] != lines[6]["sharpness"]
    (events,) = straight.glob("events.out.tfevents*")
    assert b"attention_entropy/decoder/0" in events.read_bytes()


def test_what_follows_a_step_is_of_its_batch_and_the_parameters_after_it(straight):
    parts = assemble(reading(**ON))
    program, inputs = parts.program, inputs_of(parts)
    shape = program.shape(inputs.values, inputs.key)
    with Checkpoints(straight / "checkpoints", every_steps=1, read_only=True) as kept:
        after = kept.restore(shape, 3)[1]
    batch = parts.batches.batch(2)
    given = (after, meshes.place_rows(parts.mesh, batch), inputs.key, inputs.values)
    (line,) = (line for line in lines_of(straight) if line["step"] == 3)
    again = program.measure("sharpness 3", never, *given)  # compiled by the run
    assert float(again["sharpness"].value) == line["sharpness"]
    first = {name: x[:3] for name, x in batch.items()}
    looks = jax.jit(program.task(parts.values).looks)(after.params, first)
    for name, mean in looks.items():
        np.testing.assert_allclose(line[name], mean.value, rtol=1e-5)


def never(*_, **__):
    raise AssertionError("nothing is to be measured")


@pytest.mark.slow  # the noise is a part of the state, which tests/test_run.py resumes
def test_a_resumed_run_measures_the_same_to_the_bit(straight, tmp_path, monkeypatch):
    monkeypatch.setattr(Preemption, "asked", lambda _, step: step == 3)
    with pytest.raises(Exception, match="Saved step 3"):
        run.train(reading(**ON), str(tmp_path))
    monkeypatch.undo()
    run.train(reading(**ON), str(tmp_path))
    assert lines_of(tmp_path) == lines_of(straight)


def test_what_is_off_is_not_there(monkeypatch):
    key = jax.random.key(0)

    def traced(**words):
        init, step = net(**words)
        state = jax.eval_shape(init, key)
        return str(jax.make_jaxpr(step)(state, rows(), key)), state

    on, more = traced(norms="layer", noise_scale=True)
    for module in (norms, noise_scale):
        for name in ("scores", "measured", "of_piece", "init"):
            monkeypatch.setattr(module, name, never, raising=False)
    off, state = traced()
    assert traced(noise_steps=3)[0] == off
    assert len(off) < len(on)
    assert state.noise == ()
    assert jax.tree.structure(state.opt_state) == jax.tree.structure(more.opt_state)
    assert len(jax.tree.leaves(more)) == len(jax.tree.leaves(state)) + 4


def test_what_is_measured_apart_leaves_the_program_of_the_step_as_it_is():
    def program(**words):
        config = reading(pieces=2, **words)
        mesh = meshes.make_mesh()
        return program_of(config, num_steps=9, vocab=99, mesh=mesh)[0]

    apart = dict(measure__sharpness_every=5, measure__lanczos_steps=3)
    apart |= dict(measure__attention="true", measure__attention_rows=3)
    assert program(**apart) is program()
    assert program(measure__norms="group") is not program()


def test_nothing_runs_beside_a_step_unless_asked():
    block = measures.Measure()
    nothing = measures.beside(block, run=None, batch_of=None, pieces=1)  # pyright: ignore
    assert not any(map(nothing.due, range(9)))
    assert nothing.call(3, None) == {}


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("noise_scale", "true", "compares pieces of a batch, and pieces=1: set pieces"),
        ("norms", "layr", "measure.norms='layr' is not known. Did you mean 'layer'?"),
        ("lanczos_steps", "0", r"measure.lanczos_steps=0 must lie in \[1, inf\)"),
        ("sharpness_every", "-1", r"measure.sharpness_every=-1 must lie in \[0, inf\)"),
        ("atention", "true", "Did you mean 'measure.attention'"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(key, value, line):
    with pytest.raises(ValueError, match=line) as error:
        reading(**{f"measure__{key}": value})
    assert "\n" not in str(error.value)
