"""optim/depth.py: layer_decay, rates that fall with the depth below the output."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optim
from optim import OPTIM
from optim.depth import depths_of
from tests.optimizing import GOLDEN


def scanned():
    return {
        "embed": jnp.ones((5, 4)),
        "layers": {"mlp": {"in": jnp.full((3, 4, 2), 2.0)}},
        "norm": {"scale": jnp.ones(4)},
    }


def chain(**options):
    rule = dict(name="adam", b1=0.9, b2=0.98, eps=1e-6)
    schedule = dict(name="constant", peak=0.5, warmup_steps=0)
    return optim.make(rule=rule, schedule=schedule, num_steps=60, **options)[0]


def test_depths_go_down_through_the_decoder_and_then_the_encoder():
    def layers(count):
        return {"layers": {"mlp": {"in": np.zeros((count, 4, 8))}}}

    norm, table = {"scale": np.zeros(4)}, np.zeros((5, 4))
    found = depths_of(
        {
            "embedding": {"embed": table, "unembed": table, "readout_bias": table[0]},
            "encoder_entrance": {"place": table, "norm": norm},
            "encoder": layers(2) | {"norm": norm, "distance": table},
            "decoder": layers(3) | {"norm": norm},
            "transform": {"head": table},
        }
    )
    assert found["embedding"] == {"embed": 6, "unembed": 0, "readout_bias": 0}
    assert found["encoder_entrance"] == {"place": 6, "norm": {"scale": 6}}
    np.testing.assert_array_equal(found["encoder"]["layers"]["mlp"]["in"], [5, 4])
    np.testing.assert_array_equal(found["decoder"]["layers"]["mlp"]["in"], [3, 2, 1])
    assert found["encoder"]["norm"] == {"scale": 3}
    assert found["encoder"]["distance"] == 6
    assert found["decoder"]["norm"] == {"scale": 0}
    assert found["transform"] == {"head": 0}


def test_every_parameter_of_a_model_has_its_depth():
    wanted = {"/embedding": 3, "/encoder/layers": [2], "/encoder/norm": 1}
    wanted |= {"/decoder/layers": [1], "/decoder/norm": 0}
    tree, expected = {}, []
    for line in (GOLDEN / "multi30k_tiny_parameters.txt").read_text().splitlines():
        name, shape = line.split()[0], line[line.index("(") + 1 : line.index(")")]
        sizes = [int(size) for size in shape.split(",") if size.strip()]
        part = tree
        *parents, leaf = name.strip("/").split("/")
        for parent in parents:
            part = part.setdefault(parent, {})
        part[leaf] = np.zeros(sizes)
        expected += [value for key, value in wanted.items() if name.startswith(key)]
    found = jax.tree.leaves(depths_of(tree))
    assert len(found) == len(expected) == 31
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("kind", [float, jnp.float32])
def test_each_layer_has_a_rate_of_its_own_and_its_decay_with_it(kind):
    params = scanned()
    grads = jax.tree.map(lambda w: jnp.sin(w) + 0.2 * w, params)

    def first(share):
        tx = chain(decay=0.3, layer_decay=share)
        return tx.update(grads, tx.init(params), params, step=0)[0]

    plain = jax.jit(lambda: first(1.0))()
    found = (
        jax.jit(first)(0.5) if kind is jnp.float32 else jax.jit(lambda: first(0.5))()
    )
    np.testing.assert_allclose(found["embed"], plain["embed"] / 16, rtol=1e-6)
    layers = plain["layers"]["mlp"]["in"] / np.array([8, 4, 2])[:, None, None]
    np.testing.assert_allclose(found["layers"]["mlp"]["in"], layers, rtol=1e-6)
    np.testing.assert_allclose(found["norm"]["scale"], plain["norm"]["scale"])


def test_the_links_say_what_the_docstring_of_the_chain_does():
    tx = chain(decay=0.1, layer_decay=0.9)
    assert list(tx.init(scanned())) == ["rule", "decay", "layer_decay", "rate"]
    assert "layer_decay" in OPTIM.ranges
