"""Which implementation takes what, where it runs, and which is the best that does."""

import functools
import importlib.util
import types
import typing
from collections.abc import Mapping
from typing import Literal, NamedTuple

import jax
from absl import logging

from core.refusal import listed
from models.attend.mask import Rule

Implementation = Literal["auto", "plain", "blockwise", "cudnn", "splash", "tokamax"]
Feature = Literal[
    "causal", "prefix", "window", "block", "bias", "softcap", "dropout", "float32"
]

LANES = 128  # of a TPU's vectors


class Capability(NamedTuple):
    """What an implementation takes. All take segments, groups of heads and bfloat16.

    The width of a head and both lengths must be multiples of `widths` and `lengths`;
    `memory` grows so with the length n. `package` is that of an extra; `split` says
    that the compiler splits it over devices by itself.
    """

    platforms: tuple[str, ...]
    takes: frozenset[Feature]
    memory: str
    widths: int = 1
    widest: int = 2**30
    lengths: int = 1
    package: str = ""
    split: bool = True


class Request(NamedTuple):
    """What a call has that not every implementation takes.

    `lengths`, of queries and keys, are empty as long as they are not known. `unsplit`
    is true where rows lie on several devices and no mesh is set to say how.
    """

    features: frozenset[Feature]
    head_width: int
    lengths: tuple[int, ...] = ()
    unsplit: bool = False


EVERYWHERE = ("cpu", "gpu", "tpu")
ALL: frozenset[Feature] = frozenset(typing.get_args(Feature))
MASKS: frozenset[Feature] = ALL - {"bias", "softcap", "dropout", "float32"}
# A cap is an input of the program: kernels in which it is a constant do not take it.
CAPABILITIES: Mapping[str, Capability] = types.MappingProxyType(
    {
        "plain": Capability(EVERYWHERE, ALL, "n^2 for each head"),
        "blockwise": Capability(EVERYWHERE, ALL, "n"),
        "cudnn": Capability(
            *(("gpu",), MASKS, "n^2 for each row: a mask"),
            widths=8,
            widest=128,
            lengths=2,
        ),
        "splash": Capability(
            *(("tpu",), frozenset(("causal", "window", "float32")), "n"),
            widths=64,
            lengths=LANES,
            split=False,
        ),
        "tokamax": Capability(
            *(
                ("gpu", "tpu"),
                ALL - {"bias", "softcap", "dropout"},
                "n^2 for each row: a mask",
            ),
            package="tokamax",
        ),
    }
)
# Of those that are not for every device; an extra is for whoever asks for it by name.
BEST: Mapping[str, Implementation] = types.MappingProxyType(
    {"gpu": "cudnn", "tpu": "splash"}
)
# From where on blocks are faster than all scores at once; elsewhere, need less memory.
LONG: Mapping[str, int] = types.MappingProxyType({"cpu": 256})
LONG_ELSEWHERE = 1024


def features_of(
    rule: Rule,
    *,
    prefix: bool = False,
    bias: bool = False,
    softcap: bool = False,
    dropout: bool = False,
    float32: bool = True,
) -> frozenset[Feature]:
    """Of a call, or of a config."""
    found: dict[Feature, bool] = {
        "causal": rule.causal,
        "prefix": prefix,
        "window": rule.window > 0,
        "block": rule.block > 0 or rule.num_global > 0,
        "bias": bias,
        "softcap": softcap,
        "dropout": dropout,
        "float32": float32,
    }
    return frozenset(feature for feature, there in found.items() if there)


def choose(asked: Implementation, request: Request, platform: str) -> Implementation:
    """The implementation asked for, or for `auto` the best that takes the request.

    >>> request = Request(frozenset(["causal"]), head_width=64, lengths=(512, 512))
    >>> [choose("auto", request, platform) for platform in ("cpu", "gpu", "tpu")]
    ['blockwise', 'cudnn', 'splash']

    Raises:
      ValueError: the device lacks the one asked for, or it does not take the request.
    """
    if asked != "auto":
        reason = refusal(asked, request, platform)
        if reason:
            able = [n for n in CAPABILITIES if not refusal(n, request, platform)]
            raise ValueError(
                f"model.implementation={asked!r} {reason}. Here would do: "
                f"{listed(able)}."
            )
        return asked
    best = BEST.get(platform, "plain")
    if best != "plain" and not refusal(best, request, platform):
        return best
    long = LONG.get(platform, LONG_ELSEWHERE)
    return "blockwise" if min(request.lengths, default=0) >= long else "plain"


def refusal(name: str, request: Request, platform: str) -> str:
    """Why an implementation does not take a request; empty if it does."""
    able = CAPABILITIES[name]
    if platform not in able.platforms:
        return f"runs on {' or '.join(able.platforms)}, and the device is {platform!r}"
    if able.package and importlib.util.find_spec(able.package) is None:
        return f"is not installed: pip install 'steepest[{able.package}]'"
    if missing := sorted(request.features - able.takes):
        return f"does not take {', '.join(missing)}"
    if request.head_width % able.widths or request.head_width > able.widest:
        at_most = f" up to {able.widest}" if able.widest < 2**30 else ""
        return (
            f"needs heads whose width is a multiple of {able.widths}{at_most}, not "
            f"{request.head_width}"
        )
    for length in request.lengths:
        if length % able.lengths:
            return f"needs lengths that are multiples of {able.lengths}, not {length}"
    if request.unsplit and not able.split:
        return "needs jax.set_mesh where there are several devices"
    return ""


def check(
    asked: Implementation, features: frozenset[Feature], head_width: int
) -> Implementation:
    """`choose` for a config, on this machine; the lengths are not known yet.

    Raises:
      ValueError: as `choose`.
    """
    return choose(asked, Request(features, head_width), jax.default_backend())


def tell(name: str, request: Request, platform: str) -> None:
    """Logs a choice, once."""
    features = ", ".join(sorted(request.features)) or "nothing special"
    lengths = " x ".join(map(str, request.lengths))
    _log(f"Attention: {name} for {lengths} places on {platform}, with {features}.")


@functools.cache
def _log(text: str) -> None:
    logging.info(text)
