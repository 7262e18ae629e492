"""study/compare/scale.py: a law that was planted in run folders is found in them."""

import json
import math

import pytest

from study.compare import compare
from tests.comparing import write_run
from tests.runs import tiny

AMOUNTS = (1e12, 3e12, 1e13, 3e13, 1e14)
LAWS = {"adam": (1.5, 40.0, 0.15), "lion": (1.4, 60.0, 0.15)}


def loss_of(rule, flops):
    limit, level, exponent = LAWS[rule]
    return limit + level * flops**-exponent


def made(folder, amounts=AMOUNTS, rates=(1e-3, 3e-3, 1e-2), seeds=range(5)):
    """Runs of both rules at each amount of compute; 3e-3 is the best rate of all."""
    for rule in LAWS:
        for number, flops in enumerate(amounts):
            for rate in rates:
                keys = dict(optim__rule__name=rule, optim__schedule__peak=rate)
                config = tiny(**keys, packing__max_tokens=100 + number)
                off = 0.1 * (rate != 3e-3)
                for seed in seeds:
                    gone = rate == 1e-2 and seed == 0
                    loss = loss_of(rule, flops) + off + 1e-4 * (seed * 7 % 5 - 2)
                    write_run(
                        folder / f"{rule}-{flops:g}-{rate:g}-{seed}",
                        config,
                        seed=seed,
                        loss=math.nan if gone else loss,
                        diverged="it did" if gone else "",
                        model_flops=flops * (1 + 1e-3 * seed),
                    )


def compared(folder, **options):
    out = folder.parent / "report.html"
    compare([str(folder)], str(out), **options)
    known = json.loads((folder.parent / "comparison.json").read_text())
    return known, out.read_text()


def test_the_law_of_each_arm_is_found_at_its_best_setting(tmp_path):
    made(tmp_path / "runs")
    known, page = compared(tmp_path / "runs", by=["optim.rule.name"])
    found = {one["name"]: one for one in known["scaling"]}
    assert found.keys() == LAWS.keys()
    for name, (limit, _, exponent) in LAWS.items():
        one = found[name]
        assert one["num_amounts"] == 5
        assert len(one["loss"]) == 25
        low, high = one["intervals"]["alpha"]
        assert low - 1e-3 <= exponent <= high + 1e-3
        assert one["coefficients"]["alpha"] == pytest.approx(exponent, abs=0.01)
        assert one["coefficients"]["E"] == pytest.approx(limit, abs=0.05)
        for flops, loss in zip(one["model_flops"], one["loss"], strict=True):
            assert loss == pytest.approx(loss_of(name, flops), abs=2e-3)
    assert "Scaling law" in page
    assert "fitted law and its band, for " in page


def test_sizes_that_are_arms_show_one_law_and_few_show_none(tmp_path):
    made(tmp_path / "a" / "runs", rates=(3e-3,), seeds=range(2))
    known, _ = compared(tmp_path / "a" / "runs", by=["packing.max_tokens"])
    (one,) = known["scaling"]
    assert one["name"] == "all arms"
    assert one["num_amounts"] == 5
    made(tmp_path / "b" / "runs", AMOUNTS[:3], rates=(3e-3,), seeds=range(2))
    known, page = compared(tmp_path / "b" / "runs", by=["optim.rule.name"])
    assert known["scaling"] is None
    assert "It takes runs of 4 amounts of compute" in page
