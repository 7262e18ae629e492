"""What training needs to know of a task: nothing of models, data or optimizers."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from jaxtyping import PRNGKeyArray, PyTree

from core.mean import Mean

Batch = Mapping[str, Any]  # of arrays, on the host or on devices


@runtime_checkable
class Task(Protocol):
    """An objective over a model.

    Training differentiates `objective`; `loss` is always plain cross-entropy in nats a
    target token, so that no regularizer changes what is compared.
    """

    def init(self, key: PRNGKeyArray) -> PyTree:
        """Fresh parameters."""
        ...

    def score(
        self, params: PyTree, batch: Batch, key: PRNGKeyArray, *, train: bool
    ) -> dict[str, Mean]:
        """At least `objective` and `loss`. Pure, and jitted by the caller."""
        ...

    def drawn_loss(self, params: PyTree, batch: Batch, key: PRNGKeyArray) -> Mean:
        """What `loss` would be in training had the model drawn the targets itself.

        It has a gradient. What the model reads is the batch's, earlier targets too.
        """
        ...

    def looks(self, params: PyTree, batch: Batch) -> dict[str, Mean]:
        """Of each layer's attention the largest score and the mean entropy."""
        ...

    def forward_flops(self, params: PyTree, batch: Batch) -> int:
        """Operations of one forward pass over a batch of such a shape."""
        ...

    def ask(
        self, texts: Sequence[Sequence[int]], *, max_tokens: int
    ) -> tuple[dict[str, Any], int]:
        """A batch on the host that asks for what follows texts, one a row.

        Texts are the ids of tokens. The second is the room of an answer: `max_tokens`
        at most.

        Raises:
          ValueError: the model cannot hold so much.
        """
        ...

    def prefill(self, params: PyTree, batch: Batch, *, beams: int, room: int) -> Any:
        """The texts of `ask` read, all but their last token. Pure, too."""
        ...

    def decode(
        self, params: PyTree, opening: Any, key_B: Any, method: Any, *, room: int
    ) -> tuple[Any, Any]:
        """What the method finds to follow, and the cache of the opening after it."""
        ...

    @property
    def continues(self) -> bool:
        """Whether texts go on with those they follow; else they answer them."""
        ...

    def evaluate(
        self,
        sources: Sequence[str],
        predictions: Sequence[str],
        references: Sequence[str],
    ) -> dict[str, float | str]:
        """Metrics on answers."""
        ...

    def summary(self, loss: float, stats: Mapping[str, Any]) -> dict[str, float]:
        """What follows from the loss of a whole split and the split's counts."""
        ...
