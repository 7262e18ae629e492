"""The ground of the claims: Shakespeare by the character, trained in seconds."""

from ml_collections import ConfigDict

from experiments import options, shakespeare

INITIAL_LOSS = 4.174  # nats, log 65: what a model knows before it is trained


def config(
    text: str,
    *,
    num_steps: int,
    tiny_steps: int = 20,
    num_layers: int = 4,
    width: int = 48,
) -> ConfigDict:
    """Options: `tiny`. A cosine over `num_steps`; validation is scored at the end.

    Validation is 1.1 % of the text, 256 windows. The only checkpoint is the last.
    """
    option = options.parse(text, tiny=False)
    c = shakespeare.get_config(text)
    c.num_steps = num_steps
    c.data.update(validation_share=0.011, test_share=0.011)
    c.model.update(width=width, num_layers=num_layers, unroll=num_layers)
    c.optim.schedule = dict(name="cosine", peak=1e-2, warmup_steps=20)
    if option["tiny"]:
        c.num_steps = tiny_steps
        c.model.update(width=16, num_layers=1, unroll=1)
        c.optim.schedule.warmup_steps = 2
    c.checkpoint.every_steps = c.num_steps
    c.evaluate.every_steps = 0
    return c
