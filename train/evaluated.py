"""What is evaluated of a run: its parameters, or the average that its optimizer keeps.

Validation, `evaluate`, `predict` and runs that start from another all ask here.
"""

import re
from collections.abc import Iterable

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

import optim
from core.overrides import resolve
from optim import walk
from train.assemble import Parts
from train.checkpoints import Checkpoints, load_params
from train.folder import Folder
from train.program import program_of
from train.schema import SCHEMA
from train.step import TrainState, eval_params

AVERAGE = re.compile("average:([1-9][0-9]{0,3})", re.ASCII)


def evaluated(state: TrainState) -> PyTree:
    """What is evaluated of a state, placed as its parameters are."""
    if not optim.averages_in(state.opt_state):
        return state.params
    where = jax.tree.map(lambda leaf: leaf.sharding, state.params)
    return jax.jit(eval_params, out_shardings=where)(state)


def load(folder: Folder, checkpoint: str | int, shape: TrainState, best: str) -> PyTree:
    """What is evaluated of the run in a folder, of which `shape` is the state's.

    `checkpoint` is `latest`, `best`, a step, or `average:K`: the uniform mean over the
    last K checkpoints that are kept. Of a state without an average only the parameters
    are read.

    Raises:
      FileNotFoundError: there is no such checkpoint, or there are not so many.
      ValueError: it holds another tree; names a leaf.
    """
    many = AVERAGE.fullmatch(str(checkpoint))
    if many is not None:
        steps = _last(folder, int(many[1]), best)
        return mean_of(load(folder, step, shape, best) for step in steps)
    if not optim.averages_in(shape.opt_state):
        return load_params(folder.path, checkpoint, shape.params, best)
    with _opened(folder, best) as checkpoints:
        return evaluated(checkpoints.restore(shape, checkpoint)[1])


def params_of(folder: Folder, parts: Parts, ours: PyTree) -> PyTree:
    """What is evaluated of another run at its best, to be the first parameters here.

    Its own config says what its optimizer keeps; its parameters must fit into `ours`.
    """
    config, _ = resolve(folder.read_config(), {}, SCHEMA)
    vocab = parts.prepared.tokenizer.vocab
    program, values = program_of(config, num_steps=1, vocab=vocab, mesh=parts.mesh)
    theirs = program.shape(values, jax.random.key(0)).replace(params=ours)
    return load(folder, "best", theirs, config["checkpoint"]["best"])


def mean_of(trees: Iterable[PyTree]) -> PyTree:
    """The uniform mean of parameters, in their dtypes and places.

    Summed in float32 at least; of lazy `trees` two are in memory at a time.

    >>> mean_of([{"out": jnp.array(1.0)}, {"out": jnp.array(2.0)}])
    {'out': Array(1.5, dtype=float32)}
    """
    total, number, tree = None, 0, None
    for tree in trees:
        wide, number = walk.widened(tree), number + 1
        total = wide if total is None else jax.tree.map(jnp.add, total, wide)
    return jax.tree.map(
        lambda t, w: jax.device_put((t / number).astype(w.dtype), w.sharding),
        total,
        tree,
    )


def _last(folder: Folder, number: int, best: str) -> list[int]:
    """The steps of the last so many checkpoints."""
    with _opened(folder, best) as checkpoints:
        steps = checkpoints.steps
    if len(steps) < number:
        raise FileNotFoundError(
            f"checkpoint=average:{number} needs {number} checkpoints, and "
            f"{folder.checkpoints} has those of {steps}. "
            f"Train with checkpoint.keep={number}."
        )
    return steps[-number:]


def _opened(folder: Folder, best: str) -> Checkpoints:
    return Checkpoints(folder.checkpoints, every_steps=1, best=best, read_only=True)
