"""Tree-structured Parzen estimators: points that are like the good ones so far.

Optuna's, by ask and tell. Nothing is kept between two calls: what is asked follows
from the space, the seed and the records, in whatever order, so that a controller that
is killed asks the same again. Records come from run folders; Optuna's study is an
index that is built from them.

Source: Watanabe 2023, https://arxiv.org/abs/2304.11127; the importance is PED-ANOVA,
Watanabe et al. 2023, https://arxiv.org/abs/2304.10255. Records have no
order, so trials stand in that of their ids, and of more than 25 that are no good those
that weigh less are any, not the oldest.
"""

import hashlib
import itertools
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from study.point import Point
from study.space import Axis, Options, Space, Span

DONE, RUNNING, FAILED = "done", "running", "failed"
ATTEMPTS = 20  # draws before a small space counts as searched


class Record(NamedTuple):
    """What came of a point: `value` is to be low, and NaN where the run diverged.

    A run that `FAILED` says nothing of its point; one that is `RUNNING` is taken to be
    no good yet, so that others keep away from it.
    """

    point: Point
    state: str
    value: float = math.nan


def ask(
    space: Space, records: Iterable[Record], count: int, *, seed: int
) -> list[Point]:
    """Points of `count` new settings, each with all seeds; fewer where none is left.

    The first ten settings are drawn at random.

    Raises:
      ValueError: Optuna is not installed.
    """
    optuna, records, asked = _optuna(), list(records), []
    for _ in range(count):
        known = {record.point.setting for record in records}
        for attempt in range(ATTEMPTS):
            draw = hashlib.sha256(f"{seed} {len(known)} {attempt}".encode()).digest()
            sampler = optuna.samplers.TPESampler(
                seed=int.from_bytes(draw[:4]),
                multivariate=True,
                constant_liar=True,
            )
            trial = study_of(space, records, sampler).ask()
            points = space.seeded(space.follow(lambda axis, t=trial: _ask(axis, t)))
            if points[0].setting not in known:
                break
        else:
            break
        records += [Record(point, RUNNING) for point in points]
        asked += points
    return asked


def study_of(space: Space, records: Iterable[Record], sampler: Any = None) -> Any:
    """The records as an `optuna.Study` in memory: a trial for each setting.

    Its value is the mean over the seeds that are done, infinite where one diverged. It
    runs as long as one of them does. Settings that the space has no longer are left
    out.
    """
    optuna = _optuna()
    study = optuna.create_study(sampler=sampler)
    by_setting = sorted(
        records, key=lambda record: (record.point.setting, record.point.id)
    )
    for _, group in itertools.groupby(by_setting, lambda record: record.point.setting):
        of_seeds = list(group)
        picks = space.retrace(of_seeds[0].point.overrides)
        if picks is None:
            continue
        states = {record.state for record in of_seeds}
        state = RUNNING if RUNNING in states else DONE if DONE in states else FAILED
        values = [record.value for record in of_seeds if record.state == DONE]
        mean = float(np.mean(values)) if state == DONE else None
        places = {axis.place: axis for axis in space.axes}
        study.add_trial(
            optuna.trial.create_trial(
                state=_states(optuna)[state],
                value=math.inf if mean is not None and math.isnan(mean) else mean,
                params=picks,
                distributions={k: _distribution(places[k]) for k in picks},
            )
        )
    return study


def importance(space: Space, records: Iterable[Record]) -> dict[str, float]:
    """How much of the spread among settings each axis explains, in shares of 1.

    Asked is what makes the best tenth of the settings differ from the rest.

    Raises:
      ValueError: Optuna is not installed, or fewer than two settings are done.
    """
    optuna = _optuna()
    study = study_of(space, records)
    done = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    if len(done) < 2:
        raise ValueError(
            f"importance: {len(done)} settings are done; it compares two at least."
        )
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def _ask(axis: Axis, trial: Any) -> Any:
    domain, place = axis.domain, axis.place
    if isinstance(domain, Options):
        return trial.suggest_categorical(place, [*domain.words])
    if not isinstance(domain, Span):
        return trial.suggest_categorical(place, domain.values)
    whole = isinstance(domain.low, int)
    suggest = trial.suggest_int if whole else trial.suggest_float
    return suggest(place, domain.low, domain.high, log=domain.log)


def _distribution(axis: Axis) -> Any:
    distributions, domain = _optuna().distributions, axis.domain
    if isinstance(domain, Options):
        return distributions.CategoricalDistribution([*domain.words])
    if not isinstance(domain, Span):
        return distributions.CategoricalDistribution(domain.values)
    if isinstance(domain.low, int):
        return distributions.IntDistribution(domain.low, domain.high, log=domain.log)
    return distributions.FloatDistribution(domain.low, domain.high, log=domain.log)


def _states(optuna: Any) -> dict[str, Any]:
    state = optuna.trial.TrialState
    return {DONE: state.COMPLETE, RUNNING: state.RUNNING, FAILED: state.FAIL}


def _optuna() -> Any:
    """Optuna, an extra, whose notes on every trial are not for the user."""
    try:
        import optuna
    except ImportError as error:
        raise ValueError(
            "--search=tpe needs Optuna: pip install 'steepest[sweep]'."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
