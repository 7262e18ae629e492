"""Which models, and which rows, a task goes with."""

from typing import NamedTuple

from core.types import Config


class Fit(NamedTuple):
    """Names of `model` and of `packing`."""

    model: tuple[str, ...]
    packing: tuple[str, ...]


FITS = {
    "translation": Fit(model=("encoder_decoder",), packing=("pairs",)),
    "language": Fit(model=("decoder",), packing=("stream", "joined")),
}


def check_fit(config: Config) -> None:
    """Raises ValueError where the task cannot be that of the model or of the rows."""
    task, packing = config["task"]["name"], config["packing"]["name"]
    for block, known in FITS[task]._asdict().items():
        if (name := config[block]["name"]) not in known:
            raise ValueError(
                f"{block}.name={name!r} does not fit task.name={task!r}. "
                f"Known for it: {sorted(known)}."
            )
    if task == "language" and config["model"]["prefix"] != (packing == "joined"):
        prefix = config["model"]["prefix"]
        raise ValueError(
            f"model.prefix={prefix} does not fit packing.name={packing!r}: rows of "
            "'joined' have prompts, which a model with a prefix reads, and no others."
        )
