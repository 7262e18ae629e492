"""models/attend/choose.py: the table, what it lets through, and what it refuses."""

import functools
import importlib.util
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags

from models.attend import IMPLEMENTATIONS, attend, cudnn, splash, tokamax
from models.attend.bias import alibi
from models.attend.choose import (
    ALL,
    CAPABILITIES,
    Request,
    check,
    choose,
    features_of,
)
from models.attend.mask import Rule
from models.dropout import Drop
from tests.attending import H, arrays, make_mask, pairs, reference

EVERYTHING = Rule()
WIDTH, LENGTH = 64, 128  # what every implementation takes
RULES = {
    "full": (Rule(), False),
    "causal": (Rule(causal=True), False),
    "prefix": (Rule(causal=True), True),
    "window": (Rule(window=20), False),
    "causal window": (Rule(causal=True, window=20), False),
    "block": (Rule(block=24), False),
    "block and global": (Rule(causal=True, block=24, num_global=2), False),
    "window and global": (Rule(causal=True, window=9, num_global=2), False),
}
# The kernels as they run without their devices.
KERNELS = {
    "cudnn": functools.partial(cudnn.attend, implementation="xla"),
    "splash": functools.partial(splash.attend, interpret=True),
    "tokamax": functools.partial(tokamax.attend, implementation="xla"),
}


def installed(name):
    package = CAPABILITIES[name].package
    return not package or importlib.util.find_spec(package) is not None


def request_of(*features, **changes):
    request = Request(frozenset(features), WIDTH, (LENGTH, LENGTH))
    return request._replace(**changes)


def taken(name):
    """The rules that the table lets through."""
    for title, (rule, prefix) in RULES.items():
        if features_of(rule, prefix=prefix, float32=False) <= CAPABILITIES[name].takes:
            yield title


@pytest.mark.parametrize(
    ("name", "title"),
    [(name, title) for name in KERNELS if installed(name) for title in taken(name)],
)
def test_what_the_table_lets_a_kernel_take_it_does_right(name, title):
    flags.FLAGS.mark_as_parsed()  # tokamax reads some
    rule, prefix = RULES[title]
    rng = np.random.default_rng(0)
    mask = make_mask(rng, rule, lengths=(LENGTH, LENGTH), prefix=prefix)
    *given, along = arrays(rng, groups=2, lengths=(LENGTH, LENGTH), width=WIDTH)
    given[0] /= WIDTH**0.5

    @jax.jit
    def run(given):
        def energy(given):
            out = KERNELS[name](*given, mask)
            return (out * along).sum(), out

        return jax.value_and_grad(energy, has_aux=True)(given)

    (_, out), grads = run(tuple(given))
    expected, wanted, _ = reference(*given, along, pairs(mask), None, None, np.ones(1))
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    for grad, want in zip(grads, wanted, strict=True):
        np.testing.assert_allclose(grad, want, rtol=1e-4, atol=1e-4)
    blind_BL = ~pairs(mask).any(2)
    assert blind_BL.any()
    assert not np.asarray(out)[blind_BL].any()


@pytest.mark.parametrize("name", CAPABILITIES)
def test_what_the_table_denies_is_refused_and_the_rest_is_not(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: package)
    able = CAPABILITIES[name]
    for platform in ("cpu", "gpu", "tpu"):
        for feature in sorted(ALL):
            if platform in able.platforms and feature in able.takes:
                assert choose(name, request_of(feature), platform) == name
                continue
            why = f"does not take {feature}"
            if platform not in able.platforms:
                why = f"runs on .*, and the device is '{platform}'"
            with pytest.raises(
                ValueError, match=f"model.implementation='{name}' {why}"
            ):
                choose(name, request_of(feature), platform)


@pytest.mark.parametrize(
    ("name", "platform", "changes", "message"),
    [
        ("cudnn", "gpu", dict(head_width=60), "multiple of 8 up to 128, not 60"),
        ("cudnn", "gpu", dict(head_width=192), "multiple of 8 up to 128, not 192"),
        ("cudnn", "gpu", dict(lengths=(64, 63)), "multiples of 2, not 63"),
        ("splash", "tpu", dict(head_width=32), "multiple of 64, not 32"),
        ("splash", "tpu", dict(lengths=(200, 200)), "multiples of 128, not 200"),
        ("splash", "tpu", dict(unsplit=True), "needs jax.set_mesh"),
    ],
)
def test_sizes_that_a_kernel_does_not_take_are_refused(
    name, platform, changes, message
):
    with pytest.raises(ValueError, match=message) as refused:
        choose(name, request_of(**changes), platform)
    assert str(refused.value).endswith("Here would do: ['blockwise', 'plain'].")
    assert choose("auto", request_of(**changes), platform) == "plain"


def test_an_extra_that_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(ValueError, match=r"pip install 'steepest\[tokamax\]'"):
        choose("tokamax", request_of(), "gpu")


@pytest.mark.parametrize(
    ("platform", "request_", "expected"),
    [
        ("cpu", request_of(), "plain"),
        ("cpu", request_of(lengths=(256, 256)), "blockwise"),
        ("gpu", request_of("causal"), "cudnn"),
        ("gpu", request_of("causal", "float32"), "plain"),
        ("gpu", request_of("bias", lengths=(4096, 4096)), "blockwise"),
        ("tpu", request_of("causal", "window", "float32"), "splash"),
        ("tpu", request_of("prefix", lengths=(2048, 2048)), "blockwise"),
        ("tpu", request_of(lengths=(2048, 100)), "plain"),
        ("other", request_of(), "plain"),
    ],
)
def test_auto_is_the_best_that_takes_the_request(platform, request_, expected):
    assert choose("auto", request_, platform) == expected


def test_a_config_is_checked_before_the_lengths_are_known():
    assert check("blockwise", ALL, WIDTH) == "blockwise"
    with pytest.raises(ValueError, match="'splash' runs on tpu, and the device is"):
        check("splash", features_of(Rule(causal=True)), WIDTH)


def call(length=6, rule=EVERYTHING, lengths=None, **options):
    rng = np.random.default_rng(0)
    lengths = lengths or (length, length)
    mask = make_mask(rng, Rule(), lengths=lengths)._replace(rule=rule)
    *given, _ = arrays(rng, lengths=lengths)
    return attend(*map(jnp.asarray, given), mask, **options)


def test_each_implementation_has_a_line_in_the_table():
    assert list(IMPLEMENTATIONS) == list(CAPABILITIES)


def test_a_call_is_refused_by_what_it_asks_for():
    drop = Drop(jnp.zeros(2, jnp.uint32), jnp.float32(0.5))
    for options, feature in (
        (dict(bias=alibi(H)), "bias"),
        (dict(softcap=2.0), "softcap"),
        (dict(softcap=jnp.float32(2.0)), "softcap"),
        (dict(drop=drop), "dropout"),
        (dict(rule=Rule(block=2)), "block"),
    ):
        with pytest.raises(ValueError, match=f"does not take .*{feature}"):
            call(**options, implementation="splash", platform="tpu")
    with pytest.raises(ValueError, match="does not take float32"):
        call(implementation="cudnn", platform="gpu")
    with pytest.raises(ValueError, match="multiple of 64, not 8"):
        call(implementation="splash", platform="tpu")


def test_order_and_windows_over_two_texts_are_refused():
    with pytest.raises(
        ValueError, match=r"no order, window or blocks.*6 queries and 4"
    ):
        call(lengths=(6, 4), rule=Rule(window=2))
    assert call(lengths=(6, 4)).shape == (2, 6, H, 8)


def test_a_choice_is_logged_once(caplog):
    caplog.set_level(logging.INFO, logger="absl")
    for _ in range(2):
        call(length=7, rule=Rule(causal=True))
        call(length=300, rule=Rule(causal=True))
    said = [r.getMessage() for r in caplog.records if "Attention" in r.getMessage()]
    assert said == [
        "Attention: plain for 7 x 7 places on cpu, with causal, float32.",
        "Attention: blockwise for 300 x 300 places on cpu, with causal, float32.",
    ]


def test_under_a_mesh_each_device_runs_the_kernel_on_its_rows():
    rng = np.random.default_rng(0)
    mask = make_mask(rng, Rule(causal=True), lengths=(LENGTH, LENGTH))
    *given, _ = arrays(rng, lengths=(LENGTH, LENGTH), width=WIDTH)
    run = jax.jit(lambda *x: KERNELS["splash"](*x))
    expected = run(*given, mask)
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((2,), ("data",), axis_types=auto)
    rows = jax.NamedSharding(mesh, jax.P("data"))
    with jax.set_mesh(mesh):
        placed = jax.device_put((*given, mask), rows)
        compiled = run.lower(*placed).compile()
    assert "all-gather" not in compiled.as_text()
    found = compiled(*placed)
    assert found.sharding.is_equivalent_to(rows, 4)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
