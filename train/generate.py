"""Text from a trained run: answers to sources, or what follows prompts."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from tasks.generation import bucket
from train import mesh as meshes
from train.folder import Folder
from train.trained import Trained


class Answer(NamedTuple):
    """A text, and its score as the method of decoding has it."""

    text: str
    score: float


def generate(
    run: Trained, lines: Sequence[str], *, first: int = 0
) -> Iterator[tuple[int, list[Answer]]]:
    """The answers to every line, with its number, the longest lines first.

    `decode.batch_size` lines of a bucket at once; as many programs as there are
    buckets. An answer depends on its line and, where something is drawn, on the seed
    and the line's number, which is `first` for the first; not on the lines beside it.

    Raises:
      ValueError: a line is longer than the model can hold.
    """
    texts = run.tokenizer.encode_all(lines)
    batch_size = run.config["decode"]["batch_size"]
    num_rows = _rows(len(lines), batch_size, run.mesh.size)
    for numbers in _batches(texts, num_rows):
        # Rows left over are copies of the last: they cost no step of their own.
        rows = numbers + numbers[-1:] * (num_rows - len(numbers))
        found = _found(run, [texts[n] for n in rows], [first + n for n in rows])
        for number, token_RT, score_R in zip(numbers, *found, strict=False):
            said = texts[number] if run.task.continues else []
            yield (
                number,
                [
                    Answer(_text(run, said, token_T), float(score))
                    for token_T, score in zip(token_RT, score_R, strict=True)
                ],
            )


def predict(
    workdir: str, lines: Iterable[str], *, overrides: Mapping[str, str] | None = None
) -> Iterator[list[Answer]]:
    """The answers to each line, in their order, each as soon as it is known.

    Raises:
      FileNotFoundError, ValueError: what the user can mend.
    """
    run = Trained(Folder(workdir), overrides=overrides)
    for number, line in enumerate(lines):
        for _, answers in generate(run, [line], first=number):
            yield answers


def _found(
    run: Trained, texts: list[list[int]], numbers: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and scores of one batch."""
    block, program, decoding = run.config["decode"], run.program, run.decoding
    batch, room = run.task.ask(texts, max_tokens=block["max_tokens"])
    batch |= {"number_B": np.array(numbers, np.int32)}
    placed = meshes.place_rows(run.mesh, batch)
    number_B = placed.pop("number_B")
    opening = program.prefill(
        run.params, placed, run.values, beams=decoding.beams, room=room
    )
    key = jax.random.key(block.get("seed", 0))
    key = jax.device_put(key, meshes.everywhere(run.mesh))
    found = program.decode(
        run.params, opening, key, number_B, run.values, decoding, room=room
    )
    return jax.device_get(tuple(found))


def _batches(texts: Sequence[list[int]], num_rows: int) -> Iterator[list[int]]:
    """The numbers of texts of one bucket, so that each has the room that is its own."""
    order = sorted(range(len(texts)), key=lambda n: -len(texts[n]))
    for _, group in itertools.groupby(order, key=lambda n: bucket(len(texts[n]))):
        numbers = list(group)
        for start in range(0, len(numbers), num_rows):
            yield numbers[start : start + num_rows]


def _rows(num_rows: int, batch_size: int, num_devices: int) -> int:
    """The rows of a batch: the least power of two a device, up to the batch size."""
    size = num_devices
    while size < min(num_rows, batch_size):
        size *= 2
    return min(size, -(-batch_size // num_devices) * num_devices)


def _text(run: Trained, said: list[int], token_T: np.ndarray) -> str:
    """The text of tokens that follow `said`: a space between the two is part of it."""
    before = run.tokenizer.decode(said)
    whole = run.tokenizer.decode([*said, *token_T])
    if said and whole.startswith(before):
        return whole.removeprefix(before)
    return run.tokenizer.decode(token_T)
