"""Slices of TPUs, named by kind and shape: what their clouds call them."""

import math
import re
from typing import NamedTuple, Self

from core.refusal import shown
from core.registry import lookup


class Kind(NamedTuple):
    """A generation of TPUs; `gke`, `gcloud` and `image` are Google's words for it.

    `gcloud` counts in chips, or where `cores` is 2 in cores, of which a chip has two.
    """

    gke: str
    gcloud: str
    image: str
    dimensions: int
    cores: int = 1


# cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus and
# cloud.google.com/tpu/docs/runtimes
KINDS = {
    "v4": Kind("tpu-v4-podslice", "v4", "tpu-ubuntu2204-base", 3, 2),
    "v5e": Kind("tpu-v5-lite-podslice", "v5litepod", "v2-alpha-tpuv5-lite", 2),
    "v5p": Kind("tpu-v5p-slice", "v5p", "v2-alpha-tpuv5", 3, 2),
    "v6e": Kind("tpu-v6e-slice", "v6e", "v2-alpha-tpuv6e", 2),
}
CHIPS = 4  # of a slice that has several


class Topology(NamedTuple):
    """A slice, such as `v5e:4x4`."""

    kind: Kind
    shape: tuple[int, ...]

    @classmethod
    def of(cls, text: str) -> Self:
        """The slice that `text` means.

        Raises:
          ValueError: there is none of that kind or shape.
        """
        name, _, shape = text.partition(":")
        kind = lookup(KINDS, name, "topology")
        if not re.fullmatch(r"[1-9]\d{0,3}(x[1-9]\d{0,3})+", shape):
            raise ValueError(
                f"topology={shown(text)} needs a kind and a shape, such as v5e:4x4."
            )
        sides = tuple(map(int, shape.split("x")))
        if len(sides) != kind.dimensions:
            raise ValueError(
                f"topology={shown(text)} must have {kind.dimensions} dimensions."
            )
        found = cls(kind, sides)
        if found.hosts > 1 and found.chips % CHIPS:
            raise ValueError(
                f"topology={shown(text)} has {found.chips} chips, which is no multiple "
                f"of {CHIPS}, the chips of a host."
            )
        return found

    @property
    def chips(self) -> int:
        """Of all hosts.

        >>> Topology.of("v5p:2x2x4").chips, Topology.of("v5e:2x4").hosts
        (16, 1)
        """
        return math.prod(self.shape)

    @property
    def hosts(self) -> int:
        """A slice of v5e or v6e with up to eight chips has one."""
        single = 8 if self.kind.dimensions == 2 else CHIPS
        return 1 if self.chips <= single else self.chips // CHIPS

    @property
    def gke(self) -> str:
        """Of the node selector `gke-tpu-topology`."""
        return "x".join(map(str, self.shape))

    @property
    def gcloud(self) -> str:
        """The accelerator type.

        >>> Topology.of("v5p:2x2x4").gcloud, Topology.of("v5e:4x4").gcloud
        ('v5p-32', 'v5litepod-16')
        """
        return f"{self.kind.gcloud}-{self.chips * self.kind.cores}"
