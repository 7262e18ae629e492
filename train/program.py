"""From a config to compiled programs; numbers of the config are their inputs.

Two configs that differ in numbers only share one `Program`, and what it has compiled.
"""

import functools
import json
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray, PyTree

from core import numbers
from core.mean import Mean
from core.registry import build
from core.task import Batch, Task
from core.types import Config
from models import MODELS, parametrization
from models.decode import DECODERS
from optim import OPTIM
from tasks import TASKS
from train import mesh as meshes
from train import step as steps
from train.decoding import Decoding
from train.guard import GUARD
from train.measure import IN_STEP, Measure
from train.schema import OF_STEP, PROGRAM, SCHEMA
from train.step import TrainState

Values = Mapping[str, Array | np.ndarray]


def values_of(config: Config, on: Collection[str] = ()) -> dict[str, np.ndarray]:
    """The inputs that a resolved config gives its program, and those named in `on`."""
    blocks = {where: SCHEMA[where] for where in PROGRAM}
    return numbers.split(config, blocks, whole=OF_STEP, on=on)


def program_of(
    config: Config,
    *,
    num_steps: int,
    vocab: int,
    mesh: Mesh,
    on: Collection[str] = (),
) -> tuple["Program", dict[str, np.ndarray]]:
    """The program of a resolved config, and this config's inputs to it.

    Those of the floats that are named in `on` are inputs at a neutral value, too.
    """
    values = values_of(config, on)
    tops = {where.partition(".")[0] for where in PROGRAM}
    static = {top: config[top] for top in sorted(tops)}
    static = numbers.join(static, dict.fromkeys(values, "an input"))
    static["pieces"] = config["pieces"]
    static["measure"] = {name: config["measure"][name] for name in IN_STEP}
    values["num_steps"] = np.asarray(num_steps, np.int32)
    return _program(json.dumps(static), tuple(values), vocab, mesh), values


@functools.lru_cache(maxsize=16)
def _program(static: str, names: tuple[str, ...], vocab: int, mesh: Mesh) -> "Program":
    del names  # they follow from `static`
    return Program(json.loads(static), vocab, mesh)


class Program:
    """The pure functions of a run, jitted over a mesh, each compiled once per shape.

    Everything is put together inside the traced function, from the config with tracers
    in place of its numbers.
    """

    def __init__(self, static: Config, vocab: int, mesh: Mesh):
        self._static, self._vocab, self.mesh = static, vocab, mesh
        self._measures = Measure(**static["measure"])
        self.compile_seconds = 0.0
        self._compiled: dict[Any, Any] = {}
        self._shape: TrainState | None = None  # traced once, whatever the numbers are
        self._score_names: list[str] = []

    def init(self, values: Values, key: PRNGKeyArray) -> TrainState:
        """The state before the first step."""
        out = meshes.shardings(self.mesh, self.shape(values, key))
        args = (values, key)
        return self.compiled("init", self.init_fn, args, out)(*args)

    def start_at(self, values: Values, params: PyTree) -> TrainState:
        """The state before the first step from `params`, which are given for good."""
        out = meshes.shardings(self.mesh, self.shape(values, jax.random.key(0)))
        args = (values, params)
        start = self.compiled("start", self.start_fn, args, out, donate_argnums=1)
        return start(*args)

    def shape(self, values: Values, key: PRNGKeyArray) -> TrainState:
        """The state's shapes and shardings, without computing it."""
        if self._shape is not None:
            return self._shape
        shape = jax.eval_shape(self.init_fn, values, key)
        self._shape = shape = jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=sharding
            ),
            shape,
            meshes.shardings(self.mesh, shape),
        )
        return shape

    def compile_step(
        self, state: TrainState, batch: Batch, key: PRNGKeyArray, values: Values
    ) -> Callable[..., tuple[TrainState, dict[str, Mean]]]:
        """The step, a function of the same arguments; it is given `state` for good."""
        args = (state, batch, key, values)
        out = (meshes.shardings(self.mesh, state), meshes.everywhere(self.mesh))
        return self.compiled("step", self.step_fn, args, out, donate_argnums=0)

    def score(
        self, params: PyTree, batch: Batch, key: PRNGKeyArray, values: Values
    ) -> dict[str, Mean]:
        """The task's scores without dropout and its like."""
        args, out = (params, batch, key, values), meshes.everywhere(self.mesh)
        return self.compiled("score", self.score_fn, args, out)(*args)

    def measure(
        self, name: str, function: Callable, state: TrainState, *inputs: Any
    ) -> dict[str, Mean]:
        """`function` of task, parameters, batch and the key of the step before.

        `inputs` are batch, key and values, as of the step. Compiled once for its name,
        over plain attention, which has derivatives of any order.
        """

        args, out = (state.step, state.params, *inputs), meshes.everywhere(self.mesh)
        return self.compiled(name, self.measure_fn(function), args, out)(*args)

    def measure_fn(self, function: Callable) -> Callable[..., dict[str, Mean]]:
        """What `measure` traces: of step, parameters, batch, key and values."""

        def of_task(step, params, batch, key, values):
            task = self.task(values, implementation="plain")
            return function(task, params, batch, jax.random.fold_in(key, step - 1))

        return of_task

    def score_names(self, values: Values, batch: Batch) -> list[str]:
        """Of the task's scores, without computing them."""
        if not self._score_names:
            key = jax.random.key(0)
            params = self.shape(values, key).params
            scores = jax.eval_shape(self.score_fn, params, batch, key, values)
            self._score_names = sorted(scores)
        return self._score_names

    def prefill(
        self, params: PyTree, batch: Batch, values: Values, *, beams: int, room: int
    ) -> Any:
        """The texts of a batch read, with room for so many tokens of each beam."""
        function = functools.partial(self._prefill, beams=beams, room=room)
        args = (params, batch, values)
        B = len(jax.tree.leaves(batch)[0])
        rows, fixed = meshes.rows(self.mesh), meshes.everywhere(self.mesh)

        def out():
            shape = jax.eval_shape(function, *args)
            return jax.tree.map(
                lambda leaf: rows if leaf.shape[:1] == (B,) else fixed, shape
            )

        return self.compiled(f"prefill {beams} {room}", function, args, out)(*args)

    def decode(
        self,
        params: PyTree,
        opening: Any,
        key: PRNGKeyArray,
        number_B: Array,
        values: Values,
        decoding: Decoding,
        *,
        room: int,
    ) -> Any:
        """Texts of at most `room` tokens, and their scores.

        What is drawn for a row depends on the key and the row's number. The opening's
        cache is given for good: the search writes where it lies.
        """
        function = functools.partial(
            self._decode, static=decoding.static, room=room, form=type(opening)
        )
        cache, *rest = opening
        inputs = {**values, **decoding.values}
        args = (cache, tuple(rest), params, key, number_B, inputs)
        where = jax.tree.map(lambda leaf: leaf.sharding, cache)
        return self.compiled(
            f"decode {room} {decoding.static}",
            function,
            args,
            (meshes.everywhere(self.mesh), where),
            donate_argnums=0,
        )(*args)[0]

    def memory_bytes(self) -> int:
        """What the largest step holds at once on one device."""
        compiled = [x for form, x in self._compiled.items() if form[0] == "step"]
        if not compiled:
            raise RuntimeError("The step has not been compiled yet.")
        sizes = [x.memory_analysis() for x in compiled]
        return max(x.argument_size_in_bytes + x.temp_size_in_bytes for x in sizes)

    def num_parameters(self, values: Values) -> int:
        """How many the model has."""
        params = self.shape(values, jax.random.key(0)).params
        return sum(leaf.size for leaf in jax.tree.leaves(params))

    def task(self, values: Values, **words: Any) -> Task:
        """The task of this config; traced where the values are.

        `words` replace those of the model.
        """
        config = numbers.join(self._static, jax.tree.map(jnp.asarray, values))
        model = self._model(values, **words)
        return build(TASKS, config["task"], "task", model=model)

    def _model(self, values: Values, **words: Any):
        config = numbers.join(self._static, jax.tree.map(jnp.asarray, values))
        return build(MODELS, config["model"] | words, "model", vocab=self._vocab)

    def _tx(self, values: Values):
        config = numbers.join(self._static, values)
        return build(
            OPTIM,
            config["optim"],
            "optim",
            num_steps=values["num_steps"],
            factors=parametrization.rates(self._model(values)),
        ).make()

    def init_fn(self, values: Values, key: PRNGKeyArray) -> TrainState:
        """The state before the first step, to be traced."""
        return steps.start(self.task(values), self._tx(values)[0], key, self._measures)

    def start_fn(self, values: Values, params: PyTree) -> TrainState:
        """The state before the first step from `params`, to be traced."""
        return steps.start_at(params, self._tx(values)[0], self._measures)

    def step_fn(
        self, state: TrainState, batch: Batch, key: PRNGKeyArray, values: Values
    ) -> tuple[TrainState, dict[str, Mean]]:
        """One step, to be traced."""
        tx, rate = self._tx(values)
        judge = build(GUARD, numbers.join(self._static, values)["guard"])
        pieces = self._static["pieces"]
        options = dict(judge=judge, pieces=pieces, measures=self._measures)
        step = steps.make_step(self.task(values), tx, rate=rate, **options)
        return step(state, batch, key)

    def score_fn(
        self, params: PyTree, batch: Batch, key: PRNGKeyArray, values: Values
    ) -> dict[str, Mean]:
        """The task's scores without dropout and its like, to be traced."""
        return self.task(values).score(params, batch, key, train=False)

    def _prefill(self, params, batch, values, *, beams, room):
        return self.task(values).prefill(params, batch, beams=beams, room=room)

    def _decode(
        self, cache, rest, params, key, number_B, values, *, static, room, form
    ):
        config = numbers.join(json.loads(static), values)
        method = build(DECODERS, config["decode"], "decode")
        opening = form(cache, *rest)
        key_B = jax.vmap(jax.random.fold_in, (None, 0))(key, number_B)
        return self.task(values).decode(params, opening, key_B, method, room=room)

    def compiled(self, name: str, function: Callable, args: tuple, out, **options):
        """`function`, compiled once for arguments of such shapes.

        `out` are the shardings of what it returns, or a function that gives them.
        """
        leaves, structure = jax.tree.flatten(args)
        form = (name, structure, *((leaf.shape, leaf.dtype) for leaf in leaves))
        if form not in self._compiled:
            began = time.perf_counter()
            where = out() if callable(out) else out
            jitted = jax.jit(function, out_shardings=where, **options)
            with jax.set_mesh(self.mesh):  # kernels split their own work by it
                self._compiled[form] = jitted.lower(*args).compile()
            self.compile_seconds += time.perf_counter() - began
        return self._compiled[form]
