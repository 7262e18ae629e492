"""What training needs to know of a task: nothing of models, data or optimizers."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, PRNGKeyArray, PyTree

from core.mean import Mean
from core.types import Number

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

    def forward_flops(self, params: PyTree, batch: Batch) -> int:
        """Operations of one forward pass over a batch of such a shape."""
        ...

    def predict(
        self,
        params: PyTree,
        batch: Batch,
        *,
        beam: int,
        length_penalty: Number,
        room: int,
    ) -> tuple[Array, Array]:
        """The best outputs, of at most `room` tokens, and their scores. Pure, too."""
        ...

    def evaluate(
        self,
        sources: Sequence[str],
        predictions: Sequence[str],
        references: Sequence[str],
    ) -> dict[str, float | str]:
        """Metrics on text."""
        ...
