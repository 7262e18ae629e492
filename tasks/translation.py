"""From one text to another: packed pairs in, tokens out."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import PRNGKeyArray, PyTree

from core.mean import Mean
from core.task import Batch
from models import flops
from models.decode.terms import START, Found, Method, Opening
from tasks import generation
from tasks.forward import drawn_loss_of, scores_of
from tasks.looks import looks_of
from tasks.metrics import Scores, Tokenizer, compared
from tasks.penalties import Objective

INPUTS = ("source_BM", "source_segment_BM", "target_BL", "target_segment_BL")


@dataclasses.dataclass(frozen=True)
class Translation(Objective):
    """Predict each token of the target from the source and the tokens before it.

    Batch: the four arrays of INPUTS, int32, packed; segment 0 is padding.
    Scores: `loss`, nats a target token; `objective`, the same with its penalties;
    `accuracy`, the share of target tokens ranked first.
    """

    model: nn.Module
    bleu_tokenizer: Tokenizer = "13a"

    continues: ClassVar[bool] = False

    def init(self, key: PRNGKeyArray) -> PyTree:
        inputs = [jnp.ones((1, 1), jnp.int32)] * len(INPUTS)
        return self.model.init(key, *inputs, train=False)["params"]

    def score(
        self, params: PyTree, batch: Batch, key: PRNGKeyArray, *, train: bool
    ) -> dict[str, Mean]:
        return scores_of(
            self.model,
            params,
            [batch[name] for name in INPUTS],
            batch["target_BL"],
            _weight(batch),
            key,
            train=train,
            penalties=self.penalties,
            chunk=self.chunk,
        )

    def drawn_loss(self, params: PyTree, batch: Batch, key: PRNGKeyArray) -> Mean:
        inputs = [batch[name] for name in INPUTS]
        given = inputs, _weight(batch), key
        return drawn_loss_of(self.model, params, *given, chunk=self.chunk)

    def looks(self, params: PyTree, batch: Batch) -> dict[str, Mean]:
        """See `looks_of`."""
        return looks_of(self.model, params, [batch[name] for name in INPUTS])

    def forward_flops(self, params: PyTree, batch: Batch) -> int:
        """Operations of one forward pass over a batch of such a shape, `params` too."""
        B, M = batch["source_BM"].shape
        L = batch["target_BL"].shape[1]
        return flops.forward(params, self.model.settings, B=B, L=L, M=M)

    def ask(
        self, texts: Sequence[Sequence[int]], *, max_tokens: int
    ) -> tuple[dict[str, np.ndarray], int]:
        """See `tasks/generation.py`."""
        return generation.sources(self.model, texts, max_tokens=max_tokens)

    def prefill(
        self, params: PyTree, batch: Batch, *, beams: int, room: int
    ) -> Opening:
        """The sources read, one a row."""
        source_BM = batch["source_BM"]
        sides = source_BM, batch["source_segment_BM"]
        cache = generation.start(self.model, params, *sides, beams=beams, room=room)
        first_B = jnp.full(len(source_BM), START, jnp.int32)
        return Opening(cache, first_B, source_BM[:, :0])

    def decode(
        self, params: PyTree, opening: Opening, key_B: Any, method: Method, *, room: int
    ) -> tuple[Found, Any]:
        """See `tasks/generation.py`."""
        return generation.search(self.model, params, opening, key_B, method, room=room)

    def evaluate(
        self,
        sources: Sequence[str],
        predictions: Sequence[str],
        references: Sequence[str],
    ) -> Scores:
        """See `compared`."""
        return compared(sources, predictions, references, self.bleu_tokenizer)

    def summary(self, loss: float, stats: Mapping[str, Any]) -> dict[str, float]:
        """Nothing: a target's length in characters is no unit of translation."""
        del loss, stats
        return {}


def _weight(batch):
    """Of each target: 1, or 0 for padding."""
    return (batch["target_segment_BL"] > 0).astype(jnp.float32)
