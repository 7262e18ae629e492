"""The polar factor of a matrix: its singular vectors without its singular values.

Letters: I inputs, O outputs, R rank.
Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; Amsel et al.
2025, https://arxiv.org/abs/2505.16932, algorithm 1, and for matrices far from square
its fast iteration with restarts.
"""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from optim.factorize import one_by_one, svd

Coefficients = Literal["jordan", "polar_express", "exact"]

# Of a x + b x^3 + c x^5, at each step; after the last, the last again.
JORDAN = ((3.4445, -4.7750, 2.0315),)
# Each brings what its predecessors make of [1e-3, 1] nearest to 1, in the largest
# error. No step is fitted below 0.024 of its interval's upper end, and so that products
# of few bits may overshoot that end, each is stretched by 1.01. The last is Newton's.
MARGIN = 1.01
POLAR_EXPRESS = (
    *(
        (a / MARGIN, b / MARGIN**3, c / MARGIN**5)
        for a, b, c in (
            (8.28721201814563, -23.595886519098837, 17.300387312530933),
            (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
            (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
            (3.3184196573706015, -2.488488024314874, 0.51004894012372),
            (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
            (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
            (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
        )
    ),
    (1.875, -1.25, 0.375),
)
STEPS_BY_GRAM = 3


def polar(
    x_IO: Float[Array, "I O"], coefficients: Coefficients, steps: int
) -> Float[Array, "I O"]:
    """U p(S / |S|) V^T of x = U S V^T, |S| the Frobenius norm; with p = 1 the factor.

    x <- x / |x|, then `steps` times  x <- a x + b (x x^T) x + c (x x^T)^2 x

    After five steps p is in [.68, 1.14] from .006 up for `jordan`, which never
    converges (its authors find that it need not), and in [.84, 1.13] from .001 up for
    `polar_express`, which does: six steps leave .006, seven 1e-5. `exact` is an SVD,
    for checks and small models; `steps` is nothing to it.

    A factor of x changes nothing, however small, and zeros stay zeros, as does the null
    space. Sums are of float32; the factors of their products are what
    `jax_default_matmul_precision` makes of float32: bfloat16 on a TPU moves p by .01,
    TF32 on a GPU by less. All in bfloat16, as Muon's authors have it, would by .1.
    """
    num_inputs, num_outputs = x_IO.shape
    if num_inputs > num_outputs:
        return polar(x_IO.T, coefficients, steps).T
    own = x_IO.dtype
    x_IO = normalized(x_IO.astype(jnp.promote_types(own, jnp.float32)))
    if coefficients == "exact":
        return _exact(x_IO).astype(own)
    table = {"jordan": JORDAN, "polar_express": POLAR_EXPRESS}[coefficients]
    taken = [table[min(step, len(table) - 1)] for step in range(steps)]
    return jax.lax.platform_dependent(
        x_IO,
        cpu=one_by_one(functools.partial(_by_gram, taken=taken)),
        default=functools.partial(_plainly, taken=taken),
    ).astype(own)


def check(*, steps: int = 1, **_: Any) -> None:
    """Raises ValueError unless `steps` of an iteration can be taken."""
    if steps < 1:
        raise ValueError(f"steps={steps} must be at least 1.")


def normalized(x: Array) -> Array:
    """x / |x|, and zeros of zeros. No square of an element overflows or vanishes."""
    largest = jnp.max(jnp.abs(x), initial=0.0)
    x = x / jnp.where(largest > 0, largest, 1.0)
    return x / jnp.maximum(jnp.linalg.norm(x), 1.0)


def _plainly(x_IO, taken):
    for a, b, c in taken:
        gram_II = x_IO @ x_IO.T
        gram_II = b * gram_II + c * (gram_II @ gram_II)
        x_IO = a * x_IO + gram_II @ x_IO
    return x_IO


def _by_gram(x_IO, taken):
    """The same, on the short side where that is less: 5 steps of (I, 4 I) by a third.

    A step multiplies x by p = a + b g + c g^2, and g = x x^T twice by p, for all of
    these commute; so x itself has to be seen only now and then. Seldom is too little:
    the rounding of g grows like the square of what x grows by. With float32's products
    and x once in three steps, errors are those of `_plainly`.
    """
    num_inputs, num_outputs = x_IO.shape
    if 2 * num_outputs < 3 * num_inputs:
        return _plainly(x_IO, taken)
    one_II = jnp.eye(num_inputs, dtype=x_IO.dtype)
    for first in range(0, len(taken), STEPS_BY_GRAM):
        gram_II, all_II = x_IO @ x_IO.T, one_II
        steps = taken[first : first + STEPS_BY_GRAM]
        for number, (a, b, c) in enumerate(steps):
            p_II = a * one_II + b * gram_II + c * (gram_II @ gram_II)
            all_II = p_II @ all_II if number else p_II
            if number < len(steps) - 1:
                gram_II = p_II @ (p_II @ gram_II)
        x_IO = all_II @ x_IO
    return x_IO


def _exact(x_IO):
    left_IR, size_R, right_RO = svd(x_IO)
    least = max(x_IO.shape) * jnp.finfo(x_IO.dtype).eps
    kept_R = (size_R > least).astype(x_IO.dtype)
    return jnp.einsum("IR,R,RO->IO", left_IR, kept_R, right_RO)
