"""A trained run, opened to be used: its parameters, its programs, its data."""

from collections.abc import Mapping

import jax
from jaxtyping import PyTree

from core.overrides import resolve
from core.refusal import listed, nearest, shown
from data.batches import in_order
from data.prepare import Prepared, prepare
from data.tokenizer import Tokenizer
from train import mesh as meshes
from train.decoding import decoding_of
from train.evaluated import load
from train.folder import Folder
from train.loop import total
from train.program import program_of
from train.schema import SCHEMA
from train.xla_cache import use_compilation_cache


class Trained:
    """The run in a folder, under texts typed over keys of its block `decode`.

    `params` are those that are evaluated: where its optimizer keeps an average, that.

    Raises:
      FileNotFoundError, ValueError: the folder holds no such run or checkpoint, or a
        key cannot be that.
    """

    def __init__(
        self,
        folder: Folder,
        checkpoint: str | int = "best",
        overrides: Mapping[str, str] | None = None,
    ):
        use_compilation_cache()
        self.folder = folder
        self.config = resolve(folder.read_config(), overrides or {}, SCHEMA)[0]
        model = folder.read_tokenizer()
        if model is None:
            raise FileNotFoundError(f"{folder.path} holds no {folder.tokenizer.name}.")
        self.tokenizer = Tokenizer(model)
        self.mesh = meshes.make_mesh()
        vocab = self.tokenizer.vocab
        self.program, values = program_of(
            self.config, num_steps=1, vocab=vocab, mesh=self.mesh
        )
        self.values = jax.device_put(values, meshes.everywhere(self.mesh))
        decoding = decoding_of(self.config)
        inputs = jax.device_put(decoding.values, meshes.everywhere(self.mesh))
        self.decoding = decoding._replace(values=inputs)
        self.task = self.program.task(values)
        shape = self.program.shape(self.values, jax.random.key(0))
        best = self.config["checkpoint"]["best"]
        self.params = load(folder, checkpoint, shape, best)

    def prepared(self, split: str) -> Prepared:
        """The run's data, which have this split.

        Raises:
          ValueError: they have not, or cannot be read.
        """
        prepared = prepare(self.config, tokenizer_model=self.tokenizer.model)
        known = prepared.source.splits
        if split not in known:
            raise ValueError(
                f"split={shown(split)} is not known.{nearest(split, known)} "
                f"Known: {listed(known)}."
            )
        return prepared

    def scores(self, prepared: Prepared, split: str) -> dict[str, float]:
        """The task's scores over a whole split, and what follows from its loss."""
        return self.scores_of(self.params, prepared, split)

    def scores_of(
        self, params: PyTree, prepared: Prepared, split: str
    ) -> dict[str, float]:
        """As `scores`, of other parameters than the run's."""
        num_devices = self.mesh.size
        num_rows = -(-self.config["batch_size"] // num_devices) * num_devices
        key = jax.device_put(jax.random.key(0), meshes.everywhere(self.mesh))
        sums = total(
            self.program.score(
                params, meshes.place_rows(self.mesh, batch), key, self.values
            )
            for batch in in_order(prepared.rows[split], batch_size=num_rows)
        )
        sums.pop("objective")  # of training; without its regularizers it is the loss
        scores = {name: float(mean.value) for name, mean in sums.items()}
        return scores | self.task.summary(scores["loss"], prepared.stats[split])
