"""Many trials in one program: a run's own init, step and score over an axis `trial`.

Trials differ in numbers and seeds; the axis is split over all devices. On a device the
trials are taken in turn on a CPU, each for several steps while it lies in the cache,
and all at once on an accelerator, which they fill together. Letters: T trials, K steps.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PRNGKeyArray, PyTree

from core.mean import Mean
from core.task import Batch
from train import mesh as meshes
from train.program import Program
from train.step import TrainState

TRIAL = "trial"

Stacked = PyTree  # with an axis of trials in front of every leaf


def trial_mesh() -> Mesh:
    """All devices along `trial`."""
    found = meshes.devices()
    auto = (AxisType.Auto,)
    return jax.make_mesh((len(found),), (TRIAL,), axis_types=auto, devices=found)


class Trials:
    """The functions of a program, each over as many trials as its mesh splits.

    The program is one over `trial_mesh()`: it knows no other axis.
    """

    def __init__(self, program: Program):
        self.program = program
        self._each = NamedSharding(program.mesh, PartitionSpec(TRIAL))

    def place(self, trees: Sequence[PyTree]) -> Stacked:
        """Trees of the same shapes, one a trial, as one on the devices."""
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
        return jax.device_put(stacked, self._each)

    def keys(self, seeds: Sequence[int]) -> PRNGKeyArray:
        """The key of each trial's run."""
        keys = jax.vmap(jax.random.key)(np.asarray(seeds, np.uint32))
        return jax.device_put(keys, self._each)

    def init(self, values_T: Stacked, key_T: PRNGKeyArray) -> TrainState:
        """The states before the first step."""
        return self._mapped("init", self.program.init_fn, (values_T, key_T))

    def steps(
        self,
        state_T: Stacked,
        batch_K: Batch,
        key_T: PRNGKeyArray,
        values_T: Stacked,
        *,
        shared: bool,
    ) -> tuple[TrainState, dict[str, Mean]]:
        """The states K steps on, and the scores of the last; `state_T` is given away.

        `batch_K` are K batches, or of each trial K where they are not `shared`.
        """

        def several(state, batch_K, key, values):
            def one(state, batch):
                return self.program.step_fn(state, batch, key, values)

            state, scores_K = jax.lax.scan(one, state, batch_K)
            return state, jax.tree.map(lambda score_K: score_K[-1], scores_K)

        args = (state_T, batch_K, key_T, values_T)
        return self._mapped(
            "steps", several, args, common=(1,) if shared else (), donate_argnums=0
        )

    def score(
        self, params_T: Stacked, batch: Batch, key_T: PRNGKeyArray, values_T: Stacked
    ) -> dict[str, Mean]:
        """The scores of every trial on one batch, without dropout and its like."""
        args = (params_T, batch, key_T, values_T)
        return self._mapped("score", self.program.score_fn, args, common=(1,))

    def _mapped(
        self,
        name: str,
        function: Callable[..., Any],
        args: tuple,
        *,
        common: Sequence[int] = (),
        **options: Any,
    ) -> Any:
        """`function` of the arguments of each trial, and of the `common` ones."""
        specs = tuple(
            PartitionSpec() if place in common else PartitionSpec(TRIAL)
            for place in range(len(args))
        )
        on_a_shard = jax.shard_map(
            functools.partial(_over_trials, function, frozenset(common)),
            mesh=self.program.mesh,
            in_specs=specs,
            out_specs=PartitionSpec(TRIAL),
            check_vma=False,
        )
        form = f"{name} of trials, {list(common)} common"
        return self.program.compiled(form, on_a_shard, args, self._each, **options)(
            *args
        )


def _over_trials(function, common, *args):
    """In turn on a CPU, together elsewhere."""
    places = [place for place in range(len(args)) if place not in common]

    def one(*own):
        merged = dict(enumerate(args)) | dict(zip(places, own, strict=True))
        return function(*(merged[place] for place in range(len(args))))

    own = tuple(args[place] for place in places)
    if jax.default_backend() == "cpu":
        return jax.lax.map(lambda own: one(*own), own)
    return jax.vmap(one)(*own)


def padded(items: Sequence[Any], num_devices: int) -> list[Any]:
    """`items`, the last one repeated until the devices have equally many.

    >>> padded("abc", 2), padded("ab", 2)
    (['a', 'b', 'c', 'c'], ['a', 'b'])
    """
    return [*items, *[items[-1]] * (-len(items) % num_devices)]
