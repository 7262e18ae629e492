"""What is measured while training: the config block `measure`, all of it off at first.

Norms and noise scale are part of the step. Sharpness and attention are programs of
their own, run after a step on that step's batch and the parameters it led to: the step
is the same program with them and without.

Source of `sharpness`: Cohen et al. 2021, https://arxiv.org/abs/2103.00065.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, PRNGKeyArray, PyTree

from core.mean import Mean
from core.registry import Entry, Note, Range
from core.task import Batch, Task
from optim.walk import widened
from train import gradients, noise_scale, norms
from train.lanczos import top_eigenvalue
from train.norms import Norms

Scores = dict[str, Mean]


class Measure(NamedTuple):
    """The config block `measure`.

    `norms`: see `train/norms.py`; `noise_scale`: see `train/noise_scale.py`, which
    takes `pieces` above 1; `sharpness_every`: see `sharpness`, whose steps have a line
    in the log; `attention`: see `Task.looks`, over the first `attention_rows` of the
    batch, whenever there is a line.
    """

    norms: Norms = "none"
    noise_scale: bool = False
    noise_steps: int = 100  # that its averages remember
    sharpness_every: int = 0  # steps; 0 is never
    lanczos_steps: int = 16
    attention: bool = False
    attention_rows: int = 8


COUNT = Range("[1, inf)")
MEASURE = Entry(
    Measure,
    "",
    {
        "noise_steps": COUNT,
        "sharpness_every": Range("[0, inf)"),
        "lanczos_steps": COUNT,
        "attention_rows": COUNT,
    },
    words={
        "norms": Note("tests/test_measure.py"),
        "noise_scale": Note(
            "tests/test_measure.py",
            source="McCandlish et al. 2018, https://arxiv.org/abs/1812.06162",
        ),
        "sharpness_every": Note(
            "tests/test_measure.py",
            cost="lanczos_steps Hessian-vector products at such a step",
            source="Ghorbani et al. 2019, https://arxiv.org/abs/1901.10159",
        ),
        "attention": Note(
            "tests/test_measure.py",
            cost="a forward pass of attention_rows rows at such a step",
            source="Zhai et al. 2023, https://arxiv.org/abs/2303.06296",
        ),
    },
)
IN_STEP = ("norms", "noise_scale", "noise_steps")  # what shapes the step's program


def check(measure: Measure, pieces: int) -> None:
    """Raises ValueError where there is nothing to measure the noise by."""
    if measure.noise_scale and pieces < 2:
        raise ValueError(
            f"measure.noise_scale=true compares pieces of a batch, and {pieces=}: set "
            "pieces to 2 or more."
        )


def of_piece(measure: Measure) -> Callable[[PyTree, Array], Any]:
    """What the step keeps of each piece's gradient."""
    return noise_scale.of_piece if measure.noise_scale else gradients.nothing


def first_noise(measure: Measure) -> Any:
    """What the train state holds of the noise before the first step."""
    return noise_scale.init() if measure.noise_scale else ()


def in_step(
    measure: Measure,
    trees: tuple[PyTree, PyTree, PyTree],
    seen: tuple[Any, Any, Array],
    *,
    num_rows: int,
    ok: Bool[Array, ""],
) -> tuple[Any, Scores]:
    """The state of the noise after a step, and what is measured in it.

    `trees` are gradient, updates and parameters. `seen` is the noise before the step,
    the sum of `of_piece` (both are empty where that is off) and the objective's weight.
    """
    grads, updates, params = trees
    noise, found, weight = seen
    scores: Scores = {}
    if measure.norms != "none":
        scores |= norms.scores(grads, updates, params, measure.norms)
    if measure.noise_scale:
        noise, more = noise_scale.measured(
            noise,
            found,
            grads,
            weight,
            num_rows=num_rows,
            ok=ok,
            memory_steps=measure.noise_steps,
        )
        scores |= more
    return noise, scores


def sharpness(
    task: Task,
    params: PyTree,
    batch: Batch,
    key: PRNGKeyArray,
    *,
    pieces: int,
    lanczos_steps: int,
) -> Scores:
    """`sharpness`, the largest eigenvalue of the Hessian, and `sharpness_error`.

    Of the objective on one batch, regularizers of the task too; dropout is as `key`
    has it, cut into the step's `pieces`. Gradient descent of a rate above 2 / sharpness
    is unstable. By Lanczos from a start that is always the same: never above the true
    one, and an eigenvalue is within the error.

    Costs: each of the `lanczos_steps` is a gradient and its derivative, about two steps
    of training; and as many copies of the parameters in float32.
    """
    rows, keys = gradients.split(batch, pieces), jax.random.split(key, pieces)
    wide_P, back = ravel_pytree(widened(params))

    def gradient(params):
        return gradients.gradient(task, params, rows, keys)[0]

    def product(v_P):
        tangent = jax.tree.map(lambda v, w: v.astype(w.dtype), back(v_P), params)
        return ravel_pytree(widened(jax.jvp(gradient, (params,), (tangent,))[1]))[0]

    start_P = jax.random.normal(jax.random.key(0), wide_P.shape, wide_P.dtype)
    top = top_eigenvalue(product, start_P, lanczos_steps)
    return {
        "sharpness": Mean.single(top.value),
        "sharpness_error": Mean.single(top.error),
    }


class Beside(NamedTuple):
    """What is measured after a step, apart from it; as it stands, nothing.

    A step that is `due` has a line in the log; `call` gives what goes into any line.
    """

    due: Callable[[int], bool] = lambda step: False
    call: Callable[[int, Any], Scores] = lambda step, state: {}


NOTHING = Beside()


def beside(
    measure: Measure,
    run: Callable[..., Scores],
    batch_of: Callable[[int], Batch],
    *,
    pieces: int,
) -> Beside:
    """What the block asks for.

    `run(name, function, state, batch)` compiles and calls a function of (task, params,
    batch, key), where the key is that of the step before; `batch_of(step)` is what that
    step was trained on.
    """
    every = measure.sharpness_every

    def due(step: int) -> bool:
        return every > 0 and step % every == 0

    def of_sharpness(task, params, batch, key):
        lanczos_steps = measure.lanczos_steps
        cut = dict(pieces=pieces, lanczos_steps=lanczos_steps)
        return sharpness(task, params, batch, key, **cut)

    def of_attention(task, params, batch, key):
        del key
        first = jax.tree.map(lambda x: x[: measure.attention_rows], batch)
        return task.looks(params, first)

    def call(step: int, state: Any) -> Scores:
        scores: Scores = {}
        if not (due(step) or measure.attention):
            return scores
        batch = batch_of(step)
        if due(step):
            name = f"sharpness {measure.lanczos_steps}"
            scores |= run(name, of_sharpness, state, batch)
        if measure.attention:
            name = f"attention {measure.attention_rows}"
            scores |= run(name, of_attention, state, batch)
        return scores

    return Beside(due, call)
