"""What must not drift within a run: train/fingerprint.py."""

import json

import jax
import pytest

from train import fingerprint
from train.fingerprint import compare, take

CONFIG = dict(
    seed=0,
    num_steps=100,
    num_tokens=0,
    num_epochs=0.0,
    batch_size=8,
    pieces=1,
    log_every=10,
    init_from="",
    data=dict(name="parallel", folder="/data", languages=("en", "de")),
    model=dict(width=32),
    optim=dict(clip_norm=1.0, schedule=dict(name="wsd", peak=1e-3, warmup_steps=5)),
    guard=dict(spike=10.0, max_streak=5, max_share=0.5),
    checkpoint=dict(every_steps=10, keep=2, best="val_loss"),
    evaluate=dict(every_steps=10),
    decode=dict(beam=4),
    measure=dict(sharpness_every=0),
)
FACTS = take(CONFIG, data_digest="abc")


def changed(key, value):
    """CONFIG with one key of it changed."""
    config = json.loads(json.dumps(CONFIG))
    *blocks, last = key.split(".")
    place = config
    for block in blocks:
        place = place[block]
    assert last in place
    place[last] = value
    return take(config, data_digest="abc")


def test_a_config_that_was_read_back_from_json_is_the_same_run():
    assert compare(json.loads(json.dumps(FACTS)), changed("seed", 0)) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 1),
        ("batch_size", 4),
        ("pieces", 2),
        ("model.width", 64),
        ("optim.clip_norm", 2.0),
        ("optim.schedule.peak", 2e-3),
        ("guard.spike", 5.0),
        ("data.languages", ["de", "en"]),
    ],
)
def test_a_drift_is_refused_in_a_line_and_passes_where_allowed(key, value):
    new = changed(key, value)
    with pytest.raises(
        ValueError, match=f"^{key}=.* differs from the run's {key}="
    ) as e:
        compare(FACTS, new)
    assert f"--allow-drift={key}," in str(e.value)
    assert len(str(e.value)) <= 200
    (line,) = compare(FACTS, new, allowed=[key])
    assert line.startswith(f"{key}=")


def test_the_refusal_of_another_seed_reads_as_promised():
    with pytest.raises(ValueError, match="seed") as e:
        compare(FACTS, changed("seed", 1))
    assert str(e.value) == (
        "seed=1 differs from the run's seed=0. Go on with --allow-drift=seed, "
        "or use another --workdir."
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_steps", 200),
        ("num_tokens", 7),
        ("num_epochs", 2.0),
        ("log_every", 5),
        ("init_from", "/run"),
        ("data.folder", "/elsewhere"),
        ("guard.max_streak", 9),
        ("checkpoint.keep", 3),
        ("evaluate.every_steps", 5),
        ("decode.beam", 1),
        ("measure.sharpness_every", 50),
    ],
)
def test_what_does_not_move_a_weight_may_change(key, value):
    assert compare(FACTS, changed(key, value)) == []


@pytest.mark.parametrize(
    "key",
    [
        "data_digest",
        "code",
        "jax",
        "optax",
        "devices",
        "platform",
        "cores",
        "XLA_FLAGS",
    ],
)
def test_every_fact_outside_the_config_is_held_to(key):
    with pytest.raises(ValueError, match=f"^{key}=.*allow-drift={key}"):
        compare(FACTS | {key: "other"}, FACTS)


def test_facts_that_come_or_go_are_drifts():
    less = {k: v for k, v in FACTS.items() if k != "model.width"}
    for old, new in ((less, FACTS), (FACTS, less)):
        with pytest.raises(ValueError, match=r"model\.width=.*nothing"):
            compare(old, new)
        assert len(compare(old, new, ["model.width"])) == 1


def test_of_several_drifts_one_is_named_and_all_must_be_allowed():
    new = FACTS | {"seed": 1, "batch_size": 4, "code": "x" * 500}
    with pytest.raises(ValueError, match=r"seed=1 .*, and 2 more do\.") as e:
        compare(FACTS, new)
    assert len(str(e.value)) <= 200
    with pytest.raises(ValueError, match=r"^code=.* and 1 more do|^batch_size"):
        compare(FACTS, new, ["seed"])
    assert len(compare(FACTS, new, ["seed", "batch_size", "code"])) == 3


def test_an_allowed_key_that_is_none_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"allow-drift=sed .*Did you mean 'seed'"):
        compare(FACTS, FACTS, ["sed"])


def test_of_long_values_the_part_that_differs_is_shown():
    old, new = "--xla_a=true " * 20, "--xla_a=true " * 19 + "--xla_b=false"
    with pytest.raises(ValueError, match="xla_b=false") as e:
        compare(FACTS | {"XLA_FLAGS": old}, FACTS | {"XLA_FLAGS": new})
    assert len(str(e.value)) <= 200


def test_a_changed_source_file_is_another_code(tmp_path):
    digest = fingerprint._code_digest.__wrapped__
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "rule.py").write_text("b1 = 0.9\n")
    before = digest(tmp_path)
    (tmp_path / "optim" / "rule.txt").write_text("notes")
    assert digest(tmp_path) == before
    (tmp_path / "optim" / "rule.py").write_text("b1 = 0.8\n")
    assert digest(tmp_path) != before


def test_flags_that_only_write_files_are_no_facts(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/x --xla_cpu_enable_fast_math=true")
    facts = take(CONFIG, data_digest="abc")
    assert facts["XLA_FLAGS"] == "--xla_cpu_enable_fast_math=true"
    assert facts["devices"] == jax.device_count()
