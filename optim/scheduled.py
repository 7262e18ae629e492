"""Numbers other than the rate that change with the step: decay and the betas.

`optim.b1_schedule` and its like are blocks over the shapes of the schedules; each
gives the share of its number that a step uses. The chain is then built anew in every
update, of that step's numbers: builders take tracers, and their state does not depend
on them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array

from core.numbers import off
from core.refusal import listed
from core.registry import Block, build
from core.types import Config, Number
from optim.rules import RULES
from optim.schedules import SHARES

Shares = Mapping[str, Array]  # of the numbers that have a schedule, at a step
Chain = Callable[[Shares], optax.GradientTransformationExtraArgs]


def shares_of(
    blocks: Mapping[str, Config], num_steps: int | Array
) -> dict[str, optax.Schedule]:
    """The share of each number by step; those that stay as they are are left out."""
    return {
        key: build(
            SHARES, block, f"optim.{key}_schedule", peak=1.0, num_steps=num_steps
        )
        for key, block in blocks.items()
        if block["name"] != "none"
    }


def by_step(
    chain: Chain, shares: Mapping[str, optax.Schedule]
) -> optax.GradientTransformationExtraArgs:
    """The chain of each step's numbers; the plain one where none has a schedule."""
    if not shares:
        return chain({})

    def update(updates, state, params=None, **extra):
        step = extra["step"]
        now = {key: jnp.asarray(share(step)) for key, share in shares.items()}
        return chain(now).update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(chain({}).init, update)


def scaled(number: Number, key: str, shares: Shares, neutral: float | None) -> Number:
    """The number at a step; one that is off stays so."""
    if key not in shares or (neutral is not None and off(number, neutral)):
        return number
    return number * shares[key]


def rule_at(rule: Config, shares: Shares) -> Config:
    """The block of a rule with its numbers at a step."""
    now: dict[str, Any] = dict(rule)
    for key in numbers_in(rule) & shares.keys():
        number = rule[key] if key in rule else _takes(rule)[key].default
        neutral = RULES[rule["name"]].ranges[key].neutral
        now[key] = scaled(number, key, shares, neutral)
    return now


def numbers_in(rule: Config) -> set[str]:
    """The numbers that a rule takes."""
    return _takes(rule).keys() & RULES[rule["name"]].ranges.keys()


def check_number(key: str, block: Config, rule: Config) -> None:
    """Refuses a schedule of a number that the rule does not have.

    Raises:
      ValueError: there is none.
    """
    if block["name"] != "none" and key not in numbers_in(rule):
        raise ValueError(
            f"optim.{key}_schedule: optim.rule.name={rule['name']!r} has no {key}. "
            f"It has {listed(numbers_in(rule))}."
        )


def _takes(rule: Config) -> Mapping[str, Any]:
    return Block(RULES).options(rule, "optim.rule")
