"""The stages of the search, in order: why each is there, and what it tries.

What is tried is a function of the config so far. It comes in blocks: the first has the
config as it is and always stands, and where the budget is short the last ones go. A
setting is a flat dict of overrides.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from core.types import Config

Settings = list[dict[str, Any]]

PEAK = "optim.schedule.peak"
OCTAVES = (2, 4, 8)  # of the rate, to both sides
AROUND = (1, 1 / 3, 3)  # of the rate, where something else is tried at each
ALTERNATIVES = {  # the numbers of each, so that none is that of another rule
    "adamw": {"b1": 0.9, "b2": 0.95, "eps": 1e-8},
    "muon": {"momentum": 0.95, "aux_b1": 0.9, "aux_b2": 0.95},
    "lion": {"b1": 0.9, "b2": 0.99},
}
ADAMS = ("adam", "adamw", "nadam", "nadamw", "amsgrad", "radam", "adabelief")
# Rates that suit a rule where 1 suits Adam. Lion's is 3 to 10 times less, and its decay
# as much more (Chen et al. 2023, section 5); Muon's is Adam's, for its scale is `rms`.
SCALE = {**dict.fromkeys(ADAMS, 1.0), "muon": 1.0, "lion": 0.2}
USUAL_PEAK = 2e-3  # of Adam, where the rate of a rule says nothing about it
SHAPES = ("cosine", "wsd", "linear")
COOLDOWN_SHARE = 0.2  # of the steps, Hägele et al. 2024
WARMUP_SHARES = (0.02, 0.1)
DROPOUTS, SMOOTHINGS = (0.0, 0.1, 0.2), (0.0, 0.1)


class Stage(NamedTuple):
    """A stage: `share` is of the budget, against those of the others.

    `widened` says whether it goes on beyond a best rate that is the last one tried.
    """

    name: str
    why: str
    blocks: Callable[[Config], list[Settings]]
    share: float
    widened: bool = False


def rates(config: Config) -> list[Settings]:
    """Octaves to both sides of the peak."""
    peak = _peak(config)
    pairs = [_peaks(peak, (1 / times, times)) for times in OCTAVES]
    return [_peaks(peak, (1,)), *pairs]


def beyond(config: Config, up: bool) -> list[Settings]:
    """Octaves to one side of the peak, which was the last that was tried."""
    peak = _peak(config)
    further = [_peaks(peak, (times if up else 1 / times,)) for times in OCTAVES]
    return [_peaks(peak, (1,)), *further]


def optimizers(config: Config) -> list[Settings]:
    """The rule of the config and others, with as many rates each."""
    peak, optim = _peak(config), config["optim"]
    own = optim["rule"]["name"]
    blocks = [_peaks(peak, AROUND)]
    for name, numbers in ALTERNATIVES.items():
        if name == own or (name == "adamw" and own in ADAMS):
            continue
        ratio = SCALE[name] / SCALE[own] if own in SCALE else SCALE[name]
        center = ratio * (peak if own in SCALE else USUAL_PEAK)
        fixed = {"optim.rule.name": name}
        fixed |= {f"optim.rule.{key}": value for key, value in numbers.items()}
        if ratio != 1 and optim["decay"]:
            fixed["optim.decay"] = _round(optim["decay"] / ratio)
        blocks.append([fixed | setting for setting in _peaks(_round(center), AROUND)])
    return blocks


def schedules(config: Config) -> list[Settings]:
    """Other shapes at the same peak and warm-up; then other warm-ups."""
    schedule, steps = config["optim"]["schedule"], config["num_steps"]
    warmup = schedule.get("warmup_steps", round(0.05 * steps))
    shapes = []
    for name in SHAPES:
        if name != schedule["name"]:
            keys = {"name": name, "peak": schedule["peak"], "warmup_steps": warmup}
            if name == "wsd":
                keys["decay_steps"] = round(COOLDOWN_SHARE * steps)
            shapes.append({f"optim.schedule.{k}": value for k, value in keys.items()})
    blocks = [[{}], shapes]
    if "warmup_steps" in schedule:
        lengths = {max(1, round(share * steps)) for share in WARMUP_SHARES} - {warmup}
        key = "optim.schedule.warmup_steps"
        blocks.append([{key: length} for length in sorted(lengths)])
    return blocks


def regularizers(config: Config) -> list[Settings]:
    """Weight decay, dropout and label smoothing, one changed at a time."""
    decay = config["optim"]["decay"]
    decays = (0.0, _round(decay / 3), _round(decay * 3)) if decay else (0.01, 0.1)
    tried = {
        "optim.decay": decays,
        "model.dropout": DROPOUTS,
        "task.smoothing": SMOOTHINGS,
    }
    blocks: list[Settings] = [[{}]]
    for key, values in tried.items():
        room, leaf = key.split(".")
        if leaf in config[room]:
            others = [value for value in values if value != config[room][leaf]]
            blocks.append([{key: value} for value in others])
    return blocks


def batches(config: Config) -> list[Settings]:
    """Half and twice the batch on the same tokens: all steps are as many times more.

    The rate goes with the root of the batch, after Malladi et al. 2022,
    https://arxiv.org/abs/2205.10287, and a step to both sides.
    """
    peak, size, steps = _peak(config), config["batch_size"], config["num_steps"]
    blocks = [_peaks(peak, AROUND)]
    if config["phases"]["until"]:
        return blocks
    for times in (0.5, 2):
        new = size * times
        if new != round(new) or round(new) % config["pieces"]:
            continue
        fixed = {"batch_size": round(new), "num_steps": round(steps / times)}
        fixed |= {
            f"optim.schedule.{key}": round(value / times)
            for key, value in config["optim"]["schedule"].items()
            if key.endswith("_steps")
        }
        peaks = _peaks(_round(peak * math.sqrt(times)), AROUND)
        blocks.append([fixed | setting for setting in peaks])
    return blocks


STAGES = (
    Stage(
        "rate",
        "Of all numbers the learning rate matters most, and no other choice can be "
        "judged at a wrong one.",
        rates,
        share=3,
        widened=True,
    ),
    Stage(
        "optimizer",
        "Another update rule may learn more from the same steps; each has as many "
        "rates, for a rule at a wrong one shows nothing.",
        optimizers,
        share=4,
        widened=True,
    ),
    Stage(
        "schedule",
        "How the rate rises and falls decides where a run ends, at the same peak.",
        schedules,
        share=2,
    ),
    Stage(
        "regularization",
        "Decay, dropout and smoothing help where the data are few for the model, and "
        "cost where they are not.",
        regularizers,
        share=2,
    ),
    Stage(
        "batch",
        "On the same tokens a smaller batch makes more steps and a greater one less "
        "noisy ones; the rate goes with its root.",
        batches,
        share=2,
    ),
)


def _peak(config: Config) -> float:
    return config["optim"]["schedule"]["peak"]


def _peaks(peak: float, factors: Iterable[float]) -> Settings:
    return [{PEAK: peak if x == 1 else _round(peak * x)} for x in factors]


def _round(value: float) -> float:
    """To three digits, which is more than a rate or a decay can be told by.

    >>> _round(0.01 / 3)
    0.00333
    """
    return float(f"{value:.3g}")
