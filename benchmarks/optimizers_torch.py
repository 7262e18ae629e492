"""Optimizers of pytorch-optimizer as contestants, on the same tensors and gradients.

Runs under any Python that has torch, transformers (for `marian.py`, which knows torch's
threads) and pytorch-optimizer; Steepest itself is not needed.

All are eager, in float32, without decay, with the numbers of `optimizers_problem`; the
parameters are one tensor a layer, as torch has them, and the gradients lie there
already. How equal the work is:

SOAP    Equal: L, R and the moments each step, QR of both sides every ten. Ours keeps
        the momentum in the basis and turns it at a renewal, where theirs turns it at
        each step, a product of each side more; and of L and R it has the lower halves.
Shampoo ScalableShampoo, for `Shampoo` has no blocks, no averages and no grafting.
        Equal: blocks of 640, averages of both sides each step, inverse fourth roots
        every ten, one product of each side, an update as long as that of a diagonal
        rule (RMSProp; ours Adam). Momentum: theirs after preconditioning and of the
        diagonal rule too, ours before. Roots: ours by eigenvalues; theirs by
        Schur-Newton to a tolerance of 1e-3, its default, or by SVD, which is as exact
        as ours: both race.
MARS    Equal, with `optimize_1d`, so that vectors are taken as ours takes them.
Muon    Equal in float32: five steps of Newton-Schulz with Jordan's coefficients on
        hidden matrices, AdamW on the rest, to the same matrix. Theirs takes all of one
        shape in a batch; ours multiplies those of (320, 1280) on their short side where
        it can, to a third less. The library has bfloat16 without a choice,
        so its function is bound to float32 here; as it is races too, in products of
        8 bits where ours have 24.
"""

import functools
import importlib.metadata
from typing import Any

import optimizers_problem as problem
import torch
import turns
from marian import unlock, usable_cores, vendor_check_passes
from pytorch_optimizer import MARS, SOAP, Muon, ScalableShampoo
from pytorch_optimizer.optimizer.muon import base
from pytorch_optimizer.optimizer.utils.graft import LayerWiseGrafting

LIBRARIES = ("torch", "pytorch-optimizer")


class Optimizer:
    """From zeros; `tensors` are of each leaf the shape of a layer, and if it is hidden.

    The gradients are not renewed: Muon writes into them, as into any that the next
    backward pass will replace.
    """

    def __init__(
        self, *, folder: str, tensors: list[tuple[list[int], bool]], name: str
    ):
        if not vendor_check_passes():
            unlock()
        torch.set_num_threads(usable_cores())
        shapes = [shape for shape, _ in tensors]
        self._grads = [_unstacked(x, shapes) for x in problem.load(folder)]
        self._params = [
            torch.nn.Parameter(torch.zeros_like(grad)) for grad in self._grads[0]
        ]
        leaves = zip(problem.load(folder)[0], tensors, strict=True)
        hidden = [of for x, (shape, of) in leaves for _ in x.reshape(-1, *shape)]
        self._watched = hidden.index(True)
        self._optimizer = MAKERS[name](self._params, hidden)
        self._num_steps = 0
        for _ in range(problem.FIRST_STEPS - 1):
            self.step()

    def step(self) -> None:
        grads = self._grads[self._num_steps % problem.NUM_BATCHES]
        self._num_steps += 1
        for param, grad in zip(self._params, grads, strict=True):
            param.grad = grad
        self._optimizer.step()

    def wait(self, loss: None) -> float:
        """How far the first layer's first hidden matrix has moved."""
        del loss
        return float(self._params[self._watched].norm())

    def multiply(self) -> None:
        """Nothing is compared with the peak."""

    def facts(self) -> dict[str, Any]:
        return {
            "versions": {name: importlib.metadata.version(name) for name in LIBRARIES}
        }


def _unstacked(leaves: list[Any], shapes: list[list[int]]) -> list[torch.Tensor]:
    """One tensor a layer, each with memory of its own."""
    pairs = zip(leaves, shapes, strict=True)
    return [x.clone() for a, s in pairs for x in torch.from_numpy(a).reshape(-1, *s)]


def soap(params: list[Any], hidden: list[bool]) -> torch.optim.Optimizer:
    """All matrices have both bases, vectors none."""
    del hidden
    words = problem.RIVALS["soap"]
    return SOAP(
        params,
        lr=problem.RATE,
        betas=(words["b1"], words["b2"]),
        shampoo_beta=words["b3"],
        eps=words["eps"],
        weight_decay=0.0,
        precondition_frequency=words["every_steps"],
    )


def shampoo(
    params: list[Any], hidden: list[bool], *, svd: bool
) -> torch.optim.Optimizer:
    """Roots by SVD, or by Schur-Newton."""
    del hidden
    words = problem.RIVALS["shampoo"]
    return ScalableShampoo(
        params,
        lr=problem.RATE,
        betas=(words["b1"], words["b2"]),
        moving_average_for_momentum=True,
        nesterov=False,
        start_preconditioning_step=1,
        preconditioning_compute_steps=words["every_steps"],
        block_size=words["block"],
        shape_interpretation=False,
        graft_type=LayerWiseGrafting.RMSPROP,
        use_svd=svd,
    )


def mars(params: list[Any], hidden: list[bool]) -> torch.optim.Optimizer:
    """Vectors too."""
    del hidden
    words = problem.RIVALS["mars"]
    return MARS(
        params,
        lr=problem.RATE,
        betas=(words["b1"], words["b2"]),
        gamma=words["gamma"],
        eps=words["eps"],
        optimize_1d=True,
    )


def muon(
    params: list[Any], hidden: list[bool], *, dtype: torch.dtype
) -> torch.optim.Optimizer:
    """Hidden matrices, and AdamW for the rest."""
    whole = base.zero_power_via_newton_schulz_5
    base.zero_power_via_newton_schulz_5 = functools.partial(whole, dtype=dtype)
    words = problem.RIVALS["muon"]
    groups = [
        {"params": [p for p, of in zip(params, hidden, strict=True) if of == is_hidden]}
        | {"use_muon": is_hidden}
        for is_hidden in (True, False)
    ]
    return Muon(
        groups,
        lr=problem.RATE,
        momentum=words["momentum"],
        ns_steps=words["steps"],
        use_adjusted_lr=True,
        adamw_lr=problem.RATE,
        adamw_betas=(words["aux_b1"], words["aux_b2"]),
    )


MAKERS = {
    "SOAP": soap,
    "Shampoo, Schur-Newton": functools.partial(shampoo, svd=False),
    "Shampoo, SVD": functools.partial(shampoo, svd=True),
    "MARS": mars,
    "Muon, float32": functools.partial(muon, dtype=torch.float32),
    "Muon, bfloat16": functools.partial(muon, dtype=torch.bfloat16),
}


if __name__ == "__main__":
    turns.serve(Optimizer)
