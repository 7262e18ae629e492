"""From one text to another: packed pairs in, tokens out."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from core.mean import Mean
from core.task import Batch
from core.types import Number
from models import decode, flops
from tasks.loss import cross_entropy
from tasks.metrics import METRICS, Scores, Tokenizer

INPUTS = ("source_BM", "source_segment_BM", "target_BL", "target_segment_BL")


@dataclasses.dataclass(frozen=True)
class Translation:
    """Predict each token of the target from the source and the tokens before it.

    Batch: the four arrays of INPUTS, int32, packed; segment 0 is padding.
    Scores: `loss`, nats a target token; `objective`, the same against smoothed targets;
    `accuracy`, the share of target tokens ranked first.
    """

    model: nn.Module
    smoothing: Number = 0.0
    bleu_tokenizer: Tokenizer = "13a"

    def init(self, key: PRNGKeyArray) -> PyTree:
        inputs = [jnp.ones((1, 1), jnp.int32)] * len(INPUTS)
        return self.model.init(key, *inputs, train=False)["params"]

    def score(
        self, params: PyTree, batch: Batch, key: PRNGKeyArray, *, train: bool
    ) -> dict[str, Mean]:
        inputs = [batch[name] for name in INPUTS]
        output = self.model.apply(
            {"params": params}, *inputs, train=train, rngs={"dropout": key}
        )
        logit_BLV = jnp.asarray(output)
        smoothing = self.smoothing if train else 0.0
        token = cross_entropy(logit_BLV, batch["target_BL"], smoothing)
        weight_BL = (batch["target_segment_BL"] > 0).astype(jnp.float32)
        return {
            "objective": Mean.of(token.smoothed_BL, weight_BL),
            "loss": Mean.of(jax.lax.stop_gradient(token.nats_BL), weight_BL),
            "accuracy": Mean.of(token.hit_BL.astype(jnp.float32), weight_BL),
        }

    def forward_flops(self, params: PyTree, batch: Batch) -> int:
        """Operations of one forward pass over a batch of such a shape, `params` too."""
        B, M = batch["source_BM"].shape
        return flops.encoder_decoder(params, B=B, M=M, L=batch["target_BL"].shape[1])

    def predict(
        self,
        params: PyTree,
        batch: Batch,
        *,
        beam: int,
        length_penalty: Number,
        room: int,
    ) -> tuple[Int[Array, "B R T"], Float[Array, "B R"]]:
        """The best output of each source, of at most `room` tokens, and its score.

        Here a row holds one source. R: results, of which there is one. T: places.
        """
        source_BM, segment_BM = batch["source_BM"], batch["source_segment_BM"]
        cache = self.model.apply(
            {"params": params},
            source_BM,
            segment_BM,
            beams=beam,
            room=room,
            method="start",
        )

        def extend(token_BL, cache):
            return self.model.apply(
                {"params": params}, token_BL, cache, method="extend"
            )

        return decode.generate(
            extend,
            cache,
            beam=beam,
            max_length=room,
            length_penalty=length_penalty,
            batch_size=source_BM.shape[0],
        )

    def evaluate(
        self,
        sources: Sequence[str],
        predictions: Sequence[str],
        references: Sequence[str],
    ) -> Scores:
        """Every metric, and as `copy_...` that of copying the source: the baseline."""
        scores: Scores = {}
        for metric in METRICS.values():
            scores |= metric(predictions, references, self.bleu_tokenizer)
            copied = metric(sources, references, self.bleu_tokenizer)
            scores |= {
                f"copy_{name}": value
                for name, value in copied.items()
                if not name.endswith("_signature")
            }
        return scores
