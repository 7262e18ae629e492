"""train/measure.py and what it measures by: norms, noise, sharpness, attention."""

import dataclasses
import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from core.mean import Mean
from core.trees import name_of
from models import packing
from models.attend.mask import Mask, Rule
from models.attention import Attention
from models.decoder import Decoder
from models.encoder_decoder import EncoderDecoder
from models.settings import Settings
from tasks.language import Language
from tasks.translation import Translation
from tests.runs import tiny
from train import measure as measures
from train import mesh as meshes
from train import noise_scale, norms, run
from train.assemble import assemble, inputs_of
from train.lanczos import top_eigenvalue
from train.logs import read_metrics
from train.preemption import Preemption

ON = dict(
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
    checkpoint__every_steps=4,
    optim__schedule__decay_steps=2,
    optim__clip_norm="inf",
)
SIZES = dict(width=8, num_heads=2, mlp_width=12, position="none")


# Lanczos.


def symmetric(values, seed=0):
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values),) * 2))[0]
    return jnp.asarray(turn * values @ turn.T, jnp.float32)


@functools.partial(jax.jit, static_argnums=1)
def top(matrix, num_steps):
    start = jax.random.normal(jax.random.key(0), matrix.shape[:1])
    return top_eigenvalue(lambda v: matrix @ v, start, num_steps)


def test_lanczos_finds_what_eigh_finds():
    matrix = symmetric(np.random.default_rng(1).normal(size=50))
    known = np.linalg.eigvalsh(np.asarray(matrix, np.float64))
    np.testing.assert_allclose(top(matrix, 50).value, known[-1], rtol=1e-5)
    for num_steps in (4, 12):
        found = top(matrix, num_steps)
        assert found.value <= known[-1] * (1 + 1e-6)
        assert np.abs(known - found.value).min() <= found.error * (1 + 1e-5)
    assert top(matrix, 4).value < top(matrix, 12).value


def test_the_error_is_the_residual_in_the_space_of_the_products():
    matrix = symmetric(np.random.default_rng(1).normal(size=50))
    wide = np.asarray(matrix, np.float64)
    powers = [np.asarray(jax.random.normal(jax.random.key(0), (50,)), np.float64)]
    for _ in range(3):
        powers.append(wide @ powers[-1])
    basis = np.linalg.qr(np.stack(powers, axis=1))[0]
    values, vectors = np.linalg.eigh(basis.T @ wide @ basis)
    vector = basis @ vectors[:, -1]
    residual = np.linalg.norm(wide @ vector - values[-1] * vector)
    found = top(matrix, 4)
    np.testing.assert_allclose(found.value, values[-1], rtol=1e-5)
    np.testing.assert_allclose(found.error, residual, rtol=1e-4)


@pytest.mark.parametrize("values", [[-3.0, -2.0, -1.0], [2.0] * 6, [0.0, 0.0, 5.0]])
def test_steps_that_lead_nowhere_new_change_nothing(values):
    found = top(symmetric(np.array(values)), 9)
    np.testing.assert_allclose(found.value, max(values), rtol=1e-5)
    np.testing.assert_allclose(found.error, 0.0, atol=1e-5)


def test_gradient_descent_is_unstable_above_two_over_the_sharpness():
    matrix = symmetric(np.linspace(0.1, 3.0, 20))
    start = jnp.ones(20)

    @jax.jit
    def size_after(rate):
        def step(_, w):
            return w - rate * matrix @ w

        return jnp.linalg.norm(jax.lax.fori_loop(0, 2_000, step, start))

    edge = 2 / top(matrix, 20).value
    assert size_after(0.99 * edge) < 1e-3 * size_after(0.0)
    assert size_after(1.01 * edge) > 1e3 * size_after(0.0)


@dataclasses.dataclass(frozen=True)
class Net:
    """Two layers, and an objective with a key, over rows that do not weigh the same."""

    def score(self, params, batch, key, *, train):
        assert train
        error_B = jnp.tanh(batch["x_BD"] @ params["in"]) @ params["out"] - 1.0
        noise = jax.random.normal(key, error_B.shape)
        return {"objective": Mean.of((1 + noise) * error_B**2, batch["weight_B"])}


def test_sharpness_is_the_top_eigenvalue_of_the_hessian_of_the_pieces_together():
    keys = jax.random.split(jax.random.key(0), 3)
    x_BD = jax.random.normal(keys[0], (6, 4))
    batch = dict(x_BD=x_BD, weight_B=jnp.array([1.0, 2.0, 0.0, 1.0, 3.0, 1.0]))
    params = {
        "in": jax.random.normal(keys[1], (4, 5)).astype(jnp.bfloat16),
        "out": jax.random.normal(keys[2], (5,)),
    }
    wide = jax.tree.map(lambda w: w.astype(jnp.float32), params)
    flat, back = ravel_pytree(wide)
    key = jax.random.key(9)

    def objective(flat):
        total, weight = 0.0, 0.0
        for piece, own in enumerate(jax.random.split(key, 2)):
            rows = {name: x[piece::2] for name, x in batch.items()}
            mean = Net().score(back(flat), rows, own, train=True)["objective"]
            total, weight = total + mean.total, weight + mean.weight
        return total / weight

    def of(params):
        cut = dict(pieces=2, lanczos_steps=len(flat))
        return measures.sharpness(Net(), params, batch, key, **cut)

    hessian = jax.jit(jax.hessian(objective))(flat)
    known = np.linalg.eigvalsh(np.asarray(hessian, np.float64))[-1]
    found = jax.jit(of)
    np.testing.assert_allclose(found(wide)["sharpness"].value, known, rtol=1e-5)
    assert found(wide)["sharpness_error"].value < 1e-3 * known
    rough = found(params)["sharpness"].value  # some weights are bfloat16
    np.testing.assert_allclose(rough, known, rtol=0.05)


@pytest.mark.slow
def test_sharpness_is_the_top_eigenvalue_of_the_hessian_of_a_model():
    sizes = dict(width=4, num_heads=1, mlp_width=6, position="none")
    task = Language(Decoder(vocab=7, num_layers=1, **sizes), smoothing=0.1)
    params = task.init(jax.random.key(1))
    token_BL = jax.random.randint(jax.random.key(2), (4, 6), 0, 7)
    segment_BL = jnp.ones_like(token_BL).at[0, 2:].set(0)
    batch = dict(input_BL=token_BL, target_BL=token_BL[:, ::-1], segment_BL=segment_BL)
    flat, back = ravel_pytree(params)

    def objective(flat):
        score = task.score(back(flat), batch, jax.random.key(0), train=True)
        return score["objective"].value

    hessian = jax.jit(jax.hessian(objective))(flat)
    known = np.linalg.eigvalsh(np.asarray(hessian, np.float64))

    def of(params):
        cut = dict(pieces=2, lanczos_steps=40)
        key = jax.random.key(0)
        return measures.sharpness(task, params, batch, key, **cut)

    found = jax.jit(of)(params)
    np.testing.assert_allclose(found["sharpness"].value, known[-1], rtol=1e-5)
    assert found["sharpness_error"].value < 1e-3 * known[-1]


# The noise scale.


def draws(weights, number=10_000, size=20):
    """Estimates from gradients of a known mean and a known covariance."""
    mean = np.linspace(-0.5, 0.5, size)
    deviation = np.linspace(0.5, 2.0, size)
    weight = jnp.asarray(weights, jnp.float32)

    def one(key):
        noise = jax.random.normal(key, (len(weights), size)) * deviation
        g = mean + noise / jnp.sqrt(weight)[:, None]
        total = g * weight[:, None]
        spreads = jax.vmap(noise_scale.of_piece)(total, weight)
        spread = jax.tree.map(jnp.sum, spreads)
        whole = total.sum(0) / weight.sum()
        return noise_scale.estimates(spread, whole, weight.sum()), g, whole

    keys = jax.random.split(jax.random.key(0), number)
    found = jax.jit(jax.vmap(one))(keys)
    return found, (deviation**2).sum(), (mean**2).sum()


@pytest.mark.parametrize("weights", [[4.0] * 4, [1.0, 3.0, 8.0, 20.0]])
def test_the_estimates_have_no_bias(weights):
    with jax.numpy_rank_promotion("allow"):
        ((trace, square), *_), known_trace, known_square = draws(weights)
    np.testing.assert_allclose(trace.mean(), known_trace, rtol=0.02)
    np.testing.assert_allclose(square.mean(), known_square, rtol=0.02)


def test_pieces_of_equal_weight_give_the_papers_estimates():
    with jax.numpy_rank_promotion("allow"):
        ((trace, square), g, whole), *_ = draws([4.0] * 4, number=5)
    small = np.mean(np.sum(np.square(g), axis=2), axis=1)
    large = np.sum(np.square(whole), axis=1)
    np.testing.assert_allclose(trace, (small - large) / (1 / 4 - 1 / 16), rtol=1e-4)
    np.testing.assert_allclose(square, (16 * large - 4 * small) / 12, rtol=1e-4)


def test_padding_is_no_piece_and_a_lone_piece_or_a_skipped_step_counts_for_nothing():
    g = jnp.array([[2.0, 0.0], [0.0, 6.0], [0.0, 0.0]])
    weight = jnp.array([1.0, 3.0, 0.0])
    spread = jax.tree.map(jnp.sum, jax.vmap(noise_scale.of_piece)(g, weight))
    assert spread == (4.0 + 12.0, 2.0)
    take = functools.partial(
        noise_scale.measured, grads=g.sum(0) / 4, weight=weight.sum(), num_rows=3
    )
    noise, scores = take(noise_scale.init(), spread, ok=jnp.bool_(True), memory_steps=9)
    assert noise == (1, 6.0, 1.0, 4 / 3)  # 16 - 4 * 2.5, and 2.5 - 6 / 4
    assert scores["noise_scale/targets"].value == 6.0
    assert scores["noise_scale/rows"].value == pytest.approx(4.5)
    lone = spread._replace(pieces=jnp.float32(1))
    for other, ok in ((lone, True), (spread, False)):
        after, _ = take(noise, other, ok=jnp.bool_(ok), memory_steps=9)
        assert after == noise


def steps_of(config, number):
    """The parts, and of each step the state before it, its batch and its scores."""
    parts = assemble(config)
    inputs = inputs_of(parts)
    state = parts.program.init(inputs.values, inputs.key)
    step = parts.program.compile_step(state, *inputs)
    found = []
    for n in range(number):
        batch = parts.batches.batch(n)
        before = jax.device_get(state)
        placed = meshes.place_rows(parts.mesh, batch)
        state, scores = step(state, placed, inputs.key, inputs.values)
        values = {k: float(m.value) for k, m in jax.device_get(scores).items()}
        found.append((before, batch, values))
    return parts, found, jax.device_get(state)


@pytest.fixture(scope="module")
def measured():
    return steps_of(tiny(**ON), 3)


def test_the_noise_of_a_run_is_what_its_pieces_say(measured):
    parts, found, _ = measured
    task = parts.program.task(parts.values)

    def total(params, batch):
        score = task.score(params, batch, jax.random.key(0), train=True)["objective"]
        return score.total, score.weight

    differentiate = jax.jit(jax.grad(total, has_aux=True))
    means = np.zeros(3)
    for number, (before, batch, values) in enumerate(found):
        grads, weights = [], []
        for piece in range(2):
            rows = {k: jnp.asarray(x[piece::2]) for k, x in batch.items()}
            g, weight = differentiate(before.params, rows)
            grads.append(np.asarray(ravel_pytree(g)[0], np.float64) / float(weight))
            weights.append(float(weight))
        W = sum(weights)
        g = sum(w * g for w, g in zip(weights, grads, strict=True)) / W
        pairs = zip(weights, grads, strict=True)
        trace = sum(w * ((x - g) ** 2).sum() for w, x in pairs)  # over p - 1, 1
        square = (g**2).sum() - trace / W
        np.testing.assert_allclose(values["noise_scale/trace"], trace, rtol=1e-3)
        np.testing.assert_allclose(values["noise_scale/grad_square"], square, rtol=1e-3)
        share = 1.0 if number == 0 else 0.5  # the averages remember two steps
        means += share * (np.array([trace, square, W / 8]) - means)
        np.testing.assert_allclose(
            [values["noise_scale/targets"], values["noise_scale/rows"]],
            [means[0] / means[1], means[0] / means[1] / means[2]],
            rtol=2e-3,
        )


# Norms.


def test_norms_are_numpys(measured):
    _, found, after = measured
    before, _, values = found[-1]
    group = {"attention": "attention/", "mlp": "/mlp/", "embed": "/embed"}
    group |= {"norm": "/scale|/bias"}
    update = jax.tree.map(lambda new, old: new - old, after.params, before.params)

    def norm(tree, word, part=""):
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
            size, weight = norm(update, word, part), norm(before.params, word, part)
            assert values[f"update_norm/{key}"] == pytest.approx(size, rel=2e-3)
            of_weights = values[f"update_norm/{key}"] / values[f"update_share/{key}"]
            assert of_weights == pytest.approx(weight, rel=1e-5)
    squares = sum(values[f"grad_norm/{name}"] ** 2 for name in group)
    assert math.sqrt(squares) == pytest.approx(values["grad_norm"], rel=1e-5)


def test_a_layer_of_a_stack_has_a_norm_of_its_own():
    w_NDF = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    tree = {"decoder": {"layers": {"mlp": {"in": w_NDF, "in_bias": w_NDF[:, 0]}}}}
    found = norms.norms_of(tree, by_layer=True)
    assert sorted(found) == [*(f"decoder/{n}/mlp" for n in range(3)), "mlp"]
    for n in range(3):
        both = np.concatenate([w_NDF[n].ravel(), w_NDF[n, 0]])
        norm = np.linalg.norm(both)
        assert found[f"decoder/{n}/mlp"] == pytest.approx(norm, rel=1e-5)
    assert list(norms.norms_of(tree)) == ["mlp"]


# Attention, against a model in numpy.


def normed(x, p):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


def attended(x, memory, p, see, looks):
    """The branch's output; its largest score and mean entropy go to `looks`."""
    q, k, v = (
        np.einsum("bld,dhk->bhlk", y, p[name])
        for y, name in ((x, "query"), (memory, "key"), (memory, "value"))
    )
    k, v = (np.repeat(y, q.shape[1] // y.shape[1], axis=1) for y in (k, v))
    score = np.einsum("bhlk,bhmk->bhlm", q, k) / np.sqrt(q.shape[-1])
    see = np.broadcast_to(see[:, None], score.shape)
    weight = np.where(see, np.exp(score), 0.0)
    weight /= np.maximum(weight.sum(-1, keepdims=True), 1e-30)
    entropy = -(weight * np.log(np.where(weight > 0, weight, 1.0))).sum(-1)
    looks.append((score[see].max(), entropy[see.any(-1)].mean()))
    return np.einsum("bhlm,bhmk,hkd->bld", weight, v, p["out"])


def stacked(x, params, see, memory=None, see_memory=None):
    """A stack of layers: what comes out, and the looks of each kind of attention."""
    own, cross = [], []
    for n in range(params["layers"]["mlp"]["in"].shape[0]):
        p = jax.tree.map(lambda leaf, n=n: np.float64(leaf[n]), params["layers"])
        y = normed(x, p["norm_attention"])
        x = x + attended(y, y, p["attention"], see, own)
        if memory is not None:
            y = normed(x, p["norm_cross"])
            x = x + attended(y, memory, p["cross_attention"], see_memory, cross)
        y = normed(x, p["norm_mlp"])
        x = x + np.maximum(y @ p["mlp"]["in"], 0) @ p["mlp"]["out"]
    return normed(x, params["norm"]), own, cross


def assert_looks(found, name, stack, looks):
    for n, (top, entropy) in enumerate(looks):
        values = (found[f"{name}_{x}/{stack}/{n}"].value for x in ("logit", "entropy"))
        np.testing.assert_allclose(list(values), [top, entropy], rtol=2e-5)


def segments():
    """Two texts in a row, padding, and a row that is full."""
    return jnp.array([[1, 1, 2, 2, 2, 0], [1, 1, 1, 1, 1, 1]])


def tokens(seed):
    return jax.random.randint(jax.random.key(seed), (2, 6), 4, 11)


def large(task):
    """Parameters that make attention uneven."""
    params = jax.device_get(jax.jit(task.init)(jax.random.key(3)))
    return jax.tree.map(lambda w: np.float32(2.0) * w, params)


def seen(one, other):
    one, other = np.asarray(one), np.asarray(other)
    return (one[:, :, None] == other[:, None]) & (one[:, :, None] > 0)


def test_looks_of_a_decoder_are_numpys_whatever_computes_its_attention():
    def task(**words):
        sizes = SIZES | dict(num_heads=4, num_groups=2, vocab=11, num_layers=2)
        return Language(Decoder(**sizes, **words))

    params, segment = large(task()), segments()
    batch = dict(input_BL=tokens(0), target_BL=tokens(1), segment_BL=segment)
    found = jax.jit(task().looks)(params, batch)
    see = seen(segment, segment) & np.tril(np.ones((6, 6), bool))[None]
    x = np.float64(params["embedding"]["embed"])[batch["input_BL"]] * np.sqrt(8)
    _, own, _ = stacked(x, params["decoder"], see)
    assert len(found) == 4
    assert_looks(found, "attention", "decoder", own)
    other = jax.jit(task(implementation="blockwise", remat="full", unroll=2).looks)
    for name, mean in other(params, batch).items():
        np.testing.assert_allclose(mean.value, found[name].value, rtol=2e-5)


def test_looks_of_an_encoder_decoder_are_numpys():
    sizes = dict(num_encoder_layers=1, num_decoder_layers=2, vocab=11)
    task = Translation(EncoderDecoder(**SIZES, **sizes))
    params, segment = large(task), segments()
    source_segment = segment[:, ::-1].at[0].set(jnp.array([1, 2, 2, 0, 0, 0]))
    batch = dict(
        source_BM=tokens(0),
        source_segment_BM=source_segment,
        target_BL=tokens(1),
        target_segment_BL=segment,
    )
    found = jax.jit(task.looks)(params, batch)
    embed = np.float64(params["embedding"]["embed"]) * np.sqrt(8)
    x = embed[batch["source_BM"]]
    see = seen(source_segment, source_segment)
    memory, own, _ = stacked(x, params["encoder"], see)
    assert_looks(found, "attention", "encoder", own)
    before = np.asarray(batch["target_BL"])[:, :-1]
    first = np.asarray(segment)[:, 1:] != np.asarray(segment)[:, :-1]
    read = np.pad(np.where(first, 3, before), ((0, 0), (1, 0)), constant_values=3)
    see = seen(segment, segment) & np.tril(np.ones((6, 6), bool))[None]
    memories = memory, seen(segment, source_segment)
    _, own, cross = stacked(embed[read], params["decoder"], see, *memories)
    assert_looks(found, "attention", "decoder", own)
    assert_looks(found, "cross_attention", "decoder", cross)
    assert len(found) == 2 * (1 + 2 + 2)


def test_looks_of_linear_attention_are_those_of_its_weights():
    settings = Settings(width=8, num_heads=2, mlp_width=1, attention="linear")
    model, segment = Attention(settings), segments()
    place = packing.places(segment)
    mask = Mask(segment, place, segment, place, rule=Rule(causal=True))
    x = jax.random.normal(jax.random.key(0), (2, 6, 8))

    @jax.jit
    def sown():
        params = model.init(jax.random.key(1), x, x, mask, train=False)
        assert set(params) == {"params"}  # nothing is sown into what is initialised
        kept = model.apply(params, x, x, mask, train=False, mutable=["looks"])
        return params["params"], kept[1]["looks"]["look"][0]

    params, found = jax.device_get(sown())
    q, k = (np.einsum("bld,dhk->bhlk", x, params[name]) for name in ("query", "key"))
    q, k = (np.where(y > 0, y + 1, np.exp(y)) for y in (q, k))
    weight = np.einsum("bhlk,bhmk->bhlm", q, k)
    see = seen(segment, segment) & np.tril(np.ones((6, 6), bool))[None]
    see = np.broadcast_to(see[:, None], weight.shape)
    np.testing.assert_allclose(found.top, np.log(weight[see].max()), rtol=1e-5)
    share = np.where(see, weight, 0)
    share /= np.maximum(share.sum(-1, keepdims=True), 1e-30)
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum()
    np.testing.assert_allclose(found.entropy, entropy, rtol=1e-5)
    assert found.number == see.any(-1).sum() == 2 * 11


# Runs.


def lines_of(folder):
    clock = ("seconds", "tokens_per_second")
    lines = read_metrics(folder)
    return [{k: v for k, v in line.items() if k not in clock} for line in lines]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    run.train(tiny(**ON), str(folder))
    return folder


def test_a_run_logs_all_that_is_switched_on(straight):
    lines = {line["step"]: line for line in lines_of(straight)}
    assert list(lines) == [2, 3, 4, 6]  # every second, and those of the sharpness
    for step, line in lines.items():
        groups = ("attention", "embed", "mlp", "norm", "encoder/0/mlp")
        kinds = ("grad_norm", "update_norm", "update_share")
        names = {f"{kind}/{group}" for kind in kinds for group in groups}
        noise = ("trace", "grad_square", "targets", "rows")
        names |= {f"noise_scale/{x}" for x in noise}
        for stack in ("attention", "cross_attention"):
            names |= {f"{stack}_{x}/decoder/0" for x in ("logit", "entropy")}
        assert names <= set(line)
        assert ("sharpness" in line) == ("sharpness_error" in line) == (step % 3 == 0)
        assert all(math.isfinite(value) for value in line.values())
    assert lines[3]["sharpness"] != lines[6]["sharpness"]
    (events,) = straight.glob("events.out.tfevents*")
    assert b"attention_entropy/decoder/0" in events.read_bytes()


def test_what_follows_a_step_is_of_its_batch_and_the_parameters_after_it(
    straight, measured
):
    parts, found, after = measured
    (line,) = (line for line in lines_of(straight) if line["step"] == 3)
    assert line["noise_scale/rows"] == found[-1][2]["noise_scale/rows"]
    inputs, batch = inputs_of(parts), found[-1][1]
    fixed = meshes.everywhere(parts.mesh)
    given = (jax.device_put(after, fixed), meshes.place_rows(parts.mesh, batch))
    given = (*given, inputs.key, inputs.values)
    again = parts.program.measure("sharpness 3", never, *given)  # compiled by the run
    assert float(again["sharpness"].value) == line["sharpness"]
    rows = {name: x[:3] for name, x in batch.items()}
    looks = jax.jit(parts.program.task(parts.values).looks)(after.params, rows)
    for name, mean in looks.items():
        np.testing.assert_allclose(line[name], mean.value, rtol=1e-5)


def never(*_, **__):
    raise AssertionError("nothing is to be measured")


def test_a_resumed_run_measures_the_same_to_the_bit(straight, tmp_path, monkeypatch):
    monkeypatch.setattr(Preemption, "asked", lambda _, step: step == 3)
    with pytest.raises(Exception, match="Saved step 3"):
        run.train(tiny(**ON), str(tmp_path))
    monkeypatch.undo()
    run.train(tiny(**ON), str(tmp_path))
    assert lines_of(tmp_path) == lines_of(straight)


def test_what_is_off_is_not_there(monkeypatch):
    def traced(**overrides):
        parts = assemble(tiny(**overrides))
        state = parts.program.shape(parts.values, jax.random.key(0))
        args = (state, parts.batches.batch(0), jax.random.key(0), parts.values)
        return str(jax.make_jaxpr(parts.program._step)(*args)), state

    apart = dict(measure__sharpness_every=5, measure__attention="true")
    apart |= dict(measure__noise_steps=3)
    on, more = traced(pieces=2, measure__norms="layer", measure__noise_scale="true")

    for module in (norms, noise_scale):
        for name in ("scores", "measured", "of_piece", "init"):
            monkeypatch.setattr(module, name, never, raising=False)
    off, state = traced(pieces=2)
    assert traced(pieces=2, **apart)[0] == off
    assert len(off) < len(on)
    assert state.noise == ()
    assert jax.tree.structure(state.opt_state) == jax.tree.structure(more.opt_state)
    assert len(jax.tree.leaves(more)) == len(jax.tree.leaves(state)) + 4


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
        tiny(**{f"measure__{key}": value})
    assert "\n" not in str(error.value)
