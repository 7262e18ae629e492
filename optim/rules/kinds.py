"""What each parameter is to rules for matrices, and a rule for each."""

import jax
import optax
from jaxtyping import PyTree

from core.trees import assign
from optim.layers import per_layer

# A hidden matrix maps features to features. A table has a row for each token, type or
# place; few of them get a gradient, and a tied output is one. A readout too has a row
# for each token, and a router a column for each expert: what they map to is no feature.
# A vector is added or multiplied unit by unit, and so are the biases of distances.
KINDS = assign(
    {
        r"/(query|key|value|out|in|gate|head)$": "hidden",
        r"[/_](embed|place)$": "table",
        r"/unembed$": "readout",
        r"/router$": "router",
        r"[/_](scale|bias|distance)$": "vector",
    }
)


def hidden_and_rest(
    matrices: optax.GradientTransformation, rest: optax.GradientTransformation
) -> optax.GradientTransformationExtraArgs:
    """`matrices` on each hidden matrix of each layer and expert, `rest` on the others.

    `matrices` sees one matrix at a time, (in, out), as under `per_layer`; `rest` sees
    the tree of the other leaves, as they are stored. Neither keeps a state for what it
    does not see.
    """

    def parts(params: PyTree) -> PyTree:
        return jax.tree.map(
            lambda kind: "hidden" if kind == "hidden" else "rest", KINDS(params)
        )

    return optax.partition({"hidden": per_layer(matrices), "rest": rest}, parts)
