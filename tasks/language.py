"""Text as such: each token from those before it, or an answer from its prompt."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import PRNGKeyArray, PyTree

from core.mean import Mean
from core.task import Batch
from models import flops
from models.decode.terms import Found, Method, Opening
from tasks import generation
from tasks.forward import drawn_loss_of, scores_of
from tasks.looks import looks_of
from tasks.metrics import Scores, Tokenizer, compared
from tasks.penalties import Objective

INPUTS = ("input_BL", "segment_BL")
HUGE = 700.0  # nats whose exponential is near the end of doubles


@dataclasses.dataclass(frozen=True)
class Language(Objective):
    """Predict each token of a text from those before it.

    Batch: `input_BL`, what is read, `target_BL`, what follows it, and `segment_BL`, all
    int32, packed; segment 0 is padding. Over a model with `prefix` also `prefix_BL`, 1
    in a prompt: it is read both ways, and nothing of it is predicted.
    Scores: `loss`, nats a target token, `objective` and `accuracy` as in translation.
    """

    model: nn.Module
    bleu_tokenizer: Tokenizer = "13a"

    @property
    def continues(self) -> bool:
        """Whether texts go on with those they follow; over a prefix they answer it."""
        return not self.model.prefix

    def init(self, key: PRNGKeyArray) -> PyTree:
        inputs = [jnp.ones((1, 1), jnp.int32)] * len(INPUTS)
        return self.model.init(key, *inputs, train=False)["params"]

    def score(
        self, params: PyTree, batch: Batch, key: PRNGKeyArray, *, train: bool
    ) -> dict[str, Mean]:
        inputs, weight_BL = self._given(batch)
        return scores_of(
            self.model,
            params,
            inputs,
            batch["target_BL"],
            weight_BL,
            key,
            train=train,
            penalties=self.penalties,
            chunk=self.chunk,
        )

    def drawn_loss(self, params: PyTree, batch: Batch, key: PRNGKeyArray) -> Mean:
        given = *self._given(batch), key
        return drawn_loss_of(self.model, params, *given, chunk=self.chunk)

    def _given(self, batch):
        """What is read, and the weight of each target."""
        inputs = [batch[name] for name in INPUTS]
        predicted_BL = batch["segment_BL"] > 0
        if self.model.prefix:
            inputs.append(batch["prefix_BL"])
            predicted_BL &= batch["prefix_BL"] == 0
        return inputs, predicted_BL.astype(jnp.float32)

    def looks(self, params: PyTree, batch: Batch) -> dict[str, Mean]:
        """See `looks_of`."""
        return looks_of(self.model, params, self._given(batch)[0])

    def forward_flops(self, params: PyTree, batch: Batch) -> int:
        """Operations of one forward pass over a batch of such a shape, `params` too."""
        B, L = batch["input_BL"].shape
        return flops.forward(params, self.model.settings, B=B, L=L)

    def ask(
        self, texts: Sequence[Sequence[int]], *, max_tokens: int
    ) -> tuple[dict[str, np.ndarray], int]:
        """See `tasks/generation.py`."""
        return generation.prompts(
            self.model, texts, max_tokens=max_tokens, prefix=self.model.prefix
        )

    def prefill(
        self, params: PyTree, batch: Batch, *, beams: int, room: int
    ) -> Opening:
        """The prompts read, all but the last token of each."""
        token_BP, first_B = batch["prompt_BP"], batch["first_B"]
        given = token_BP, batch["prompt_segment_BP"]
        cache = generation.start(self.model, params, *given, beams=beams, room=room)
        said = jnp.concatenate([token_BP, first_B[:, None]], axis=1)
        return Opening(cache, first_B, said)

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
        """Every metric of answers, and of copying the prompt: the baseline."""
        return compared(sources, predictions, references, self.bleu_tokenizer)

    def summary(self, loss: float, stats: Mapping[str, Any]) -> dict[str, float]:
        """`perplexity` a token; of a text whose `bytes` are counted, `bits_per_byte`.

        bits_per_byte = loss tokens / bytes / ln 2, over a whole split: what the model
        would write the split in, the ends of its documents included, whatever a token
        is. `loss` is the split's, and so are the counts `tokens` and `bytes`.
        """
        scores = {"perplexity": math.exp(loss) if loss < HUGE else math.inf}
        if "bytes" in stats:
            nats = loss * stats["tokens"]
            scores["bits_per_byte"] = nats / stats["bytes"] / math.log(2)
        return scores
