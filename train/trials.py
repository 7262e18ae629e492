"""Many trials in one program: a run's own init, step and score over an axis `trial`.

Trials differ in numbers and seeds; the axis is split over all devices. On a device the
trials are taken in turn on a CPU, each for several steps while it lies in the cache,
and all at once on an accelerator, which they fill together. There may be less trials
than places: those in front count, on each device. Letters: T places, K steps of a call,
S streams of batches, of which each trial reads one, D devices.
"""

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from core.mean import Mean
from core.task import Batch
from train import mesh as meshes
from train.program import Program
from train.provenance import usable_cores
from train.step import TrainState, eval_params

TRIAL = "trial"

Stacked = PyTree  # with an axis of trials in front of every leaf


def trial_mesh() -> Mesh:
    """All devices along `trial`."""
    found = meshes.devices()
    auto = (AxisType.Auto,)
    return jax.make_mesh((len(found),), (TRIAL,), axis_types=auto, devices=found)


def spread_over_cores() -> None:
    """Makes each core a device of its own, where the devices are a CPU's.

    To be called before anything is placed; later it is too late, and changes nothing.
    """
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", usable_cores())


def in_turn() -> bool:
    """Whether a device takes its trials one after the other."""
    return jax.default_backend() == "cpu"


class Trials:
    """The functions of a program, each over the trials in front.

    The program is one over `trial_mesh()`: it knows no other axis. Of every call
    `count_D` says how many of each device's places hold a trial; what comes back for
    the others means nothing.
    """

    def __init__(self, program: Program):
        self.program = program
        self._each = NamedSharding(program.mesh, PartitionSpec(TRIAL))
        self._all = NamedSharding(program.mesh, PartitionSpec())
        # As functions of their own they are traced once, wherever they are called.
        self._step, self._score = jax.jit(program.step_fn), jax.jit(program.score_fn)

    def place(self, trees: Sequence[PyTree]) -> Stacked:
        """Trees of the same shapes, one a place, as one on the devices."""
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
        return jax.device_put(stacked, self._each)

    def share(self, tree: PyTree) -> PyTree:
        """What all trials read, on every device."""
        return jax.device_put(tree, self._all)

    def shape(
        self, size: tuple[int, ...], dtype: Any, common: bool = False
    ) -> jax.ShapeDtypeStruct:
        """Of an array with the axis of trials, or of one that is `common` to all."""
        where = self._all if common else self._each
        return jax.ShapeDtypeStruct(size, dtype, sharding=where)

    def keys(self, seeds: Sequence[int]) -> PRNGKeyArray:
        """The key of each trial's run."""
        keys = jax.vmap(jax.random.key)(np.asarray(seeds, np.uint32))
        return jax.device_put(keys, self._each)

    def init(
        self, count_D: Int[Array, "D"], values_T: Stacked, key_T: PRNGKeyArray
    ) -> TrainState:
        """The states before the first step."""
        return self._mapped("init", self.program.init_fn, (count_D, values_T, key_T))

    def start_at(
        self, count_D: Int[Array, "D"], values_T: Stacked, params: PyTree
    ) -> TrainState:
        """The states before the first step, all from the same parameters."""
        args = (count_D, values_T, params)
        return self._mapped("start", self.program.start_fn, args, common=(1,))

    def steps(self, state_T: Stacked, *args: Any) -> tuple[TrainState, dict[str, Mean]]:
        """The states up to K steps on, and the scores of the last one.

        `args` are `count_D, batch_SK, stream_T, num_steps, key_T, values_T`. `state_T`
        is given away.
        """
        count_D, *rest = args
        return self._steps((count_D, state_T, *rest))(count_D, state_T, *rest)

    def memory_bytes(self, *args: Any) -> int:
        """What `steps` of the arguments (or their shapes) holds at once on a device."""
        count_D, *rest = args[1:]
        sizes = self._steps((count_D, args[0], *rest)).memory_analysis()
        held = sizes.argument_size_in_bytes + sizes.output_size_in_bytes
        return held + sizes.temp_size_in_bytes - sizes.alias_size_in_bytes

    def score(
        self,
        count_D: Int[Array, "D"],
        state_T: Stacked,
        batch_K: Batch,
        num_batches: Int[Array, ""],
        key_T: PRNGKeyArray,
        values_T: Stacked,
    ) -> dict[str, Mean]:
        """The scores over so many batches of what is evaluated of every trial."""

        def score(state, batch_K, num_batches, key, values):
            params = eval_params(state)

            def of_batch(k):
                batch = jax.tree.map(lambda x: x[k], batch_K)
                return self._score(params, batch, key, values)

            return jax.lax.fori_loop(
                0,
                num_batches,
                lambda k, sums: jax.tree.map(jnp.add, sums, of_batch(k)),
                _zeros(jax.eval_shape(of_batch, 0)),
            )

        args = (count_D, state_T, batch_K, num_batches, key_T, values_T)
        return self._mapped("score", score, args, common=(1, 2))

    def measure(
        self,
        name: str,
        function: Callable[..., dict[str, Mean]],
        count_D: Int[Array, "D"],
        state_T: Stacked,
        batch_S: Batch,
        stream_T: Int[Array, "T"],
        key_T: PRNGKeyArray,
        values_T: Stacked,
    ) -> dict[str, Mean]:
        """`function` as of `Program.measure`, of every trial and its batch."""
        of_one = self.program.measure_fn(function)

        def measured(state, batch_S, stream, key, values):
            batch = jax.tree.map(lambda x: x[stream], batch_S)
            return of_one(state.step, state.params, batch, key, values)

        args = (count_D, state_T, batch_S, stream_T, key_T, values_T)
        return self._mapped(name, measured, args, common=(1,))

    def take(self, state_T: Stacked, places: Sequence[int]) -> Stacked:
        """The states at `places`, in that order."""
        chosen = self.share(np.asarray(places, np.int32))

        def take(state_T, place_T):
            return jax.tree.map(lambda x: x[place_T], state_T)

        args = (state_T, chosen)
        return self.program.compiled("take", take, args, self._each)(*args)

    def one(self, state_T: Stacked, place: int) -> TrainState:
        """The state at one place, as a run alone has it, on one device.

        On several it would be saved in pieces, one of each, which takes twice the time.
        """
        chosen = self.share(np.int32(place))

        def one(state_T, place):
            each = len(jax.tree.leaves(state_T)[0])
            own = jax.tree.map(lambda x: x[place % each], state_T)
            all_D = jax.lax.all_gather(own, TRIAL)  # one of each device, and not all T
            return jax.tree.map(lambda x: x[place // each], all_D)

        on_a_shard = jax.shard_map(
            one,
            mesh=self.program.mesh,
            in_specs=(PartitionSpec(TRIAL), PartitionSpec()),
            out_specs=PartitionSpec(),
            check_vma=False,
        )
        args = (state_T, chosen)
        found = self.program.compiled("one", on_a_shard, args, self._all)(*args)
        return jax.tree.map(lambda x: x.addressable_data(0), found)

    def _steps(self, args: tuple) -> Any:
        """The compiled steps for arguments of such shapes."""

        def several(state, batch_SK, stream, num_steps, key, values):
            def step(k, state):
                batch = jax.tree.map(lambda x: x[stream, k], batch_SK)
                return self._step(state, batch, key, values)

            scores = jax.eval_shape(lambda: step(0, state)[1])
            return jax.lax.fori_loop(
                0,
                num_steps,
                lambda k, carry: step(k, carry[0]),
                (state, _zeros(scores)),
            )

        return self._compiled("steps", several, args, common=(1, 3), donate_argnums=1)

    def _mapped(
        self, name: str, function: Callable[..., Any], args: tuple, **options: Any
    ) -> Any:
        """`function` of the arguments of each trial, and of the `common` ones.

        The first of `args` is `count_D`, which `function` is not given.
        """
        return self._compiled(name, function, args, **options)(*args)

    def _compiled(
        self,
        name: str,
        function: Callable[..., Any],
        args: tuple,
        *,
        common: Sequence[int] = (),
        **options: Any,
    ) -> Any:
        specs = tuple(
            PartitionSpec() if place in common else PartitionSpec(TRIAL)
            for place in range(-1, len(args) - 1)
        )
        on_a_shard = jax.shard_map(
            functools.partial(_over_trials, jax.jit(function), frozenset(common)),
            mesh=self.program.mesh,
            in_specs=specs,
            out_specs=PartitionSpec(TRIAL),
            check_vma=False,
        )
        form = f"{name} of trials"
        return self.program.compiled(form, on_a_shard, args, self._each, **options)


def _over_trials(function, common, count_1, *args):
    """Those in front in turn on a CPU, all together elsewhere."""
    axes = [None if place in common else 0 for place in range(len(args))]
    if not in_turn():
        return jax.vmap(function, axes)(*args)

    def one(i):
        own = [
            x if axis is None else jax.tree.map(lambda leaf: leaf[i], x)
            for x, axis in zip(args, axes, strict=True)
        ]
        return function(*own)

    def put(i, found):
        return jax.tree.map(lambda all_T, x: all_T.at[i].set(x), found, one(i))

    num_places = len(jax.tree.leaves(args[axes.index(0)])[0])
    blank = jax.tree.map(
        lambda x: jnp.zeros((num_places, *x.shape), x.dtype), jax.eval_shape(one, 0)
    )
    return jax.lax.fori_loop(0, count_1[0], put, blank)


def _zeros(shapes: PyTree) -> PyTree:
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
