"""Hugging Face `datasets`: a name on the hub, or local files through its readers."""

import functools
import hashlib
import importlib.util
from collections.abc import Iterator

from data.files import missing, text_at
from data.source import Record, digest_of

INSTALL = "data.name='hub' needs: pip install 'steepest[hub]'"


class Hub:
    """Splits of one data set; `a.b` names the field b of column a."""

    def __init__(
        self, path: str, name: str, revision: str, names: dict[str, str], columns
    ):
        self.path, self.name, self.revision = path, name, revision
        self.names = {split: name for split, name in names.items() if name}
        self.columns = columns
        self.splits = tuple(self.names)

    @functools.cache  # noqa: B019 - a run has one source, and it lives as long
    def _load(self, split: str):
        import datasets  # pyright: ignore[reportMissingImports] - an extra

        try:
            return datasets.load_dataset(
                self.path,
                self.name or None,
                split=self.names[split],
                revision=self.revision or None,
            )
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            text = str(error).splitlines()[0]
            raise ValueError(
                f"data.path={self.path!r} split {self.names[split]!r} "
                f"cannot be loaded: {text}"
            ) from error

    def records(self, split: str) -> Iterator[Record]:
        """The records of a split."""
        data = self._load(split)
        for side, column in self.columns.items():
            if column.split(".")[0] not in data.column_names:
                raise ValueError(
                    missing(self.path, f"data.{side}", column, data.column_names)
                )
        for number, row in enumerate(data, 1):
            where = f"{self.path} {self.names[split]} row {number}"
            yield {
                side: text_at(row, column, where, f"data.{side}")
                for side, column in self.columns.items()
            }

    def digest(self) -> str:
        """Of the columns' content, as Arrow writes it."""
        sums = []
        for split in self.splits:
            data, total = self._load(split), hashlib.sha256()
            roots = {column.split(".")[0] for column in self.columns.values()}
            data = data.select_columns(sorted(roots & set(data.column_names)))
            for table in data.with_format("arrow").iter(batch_size=10_000):
                for batch in table.combine_chunks().to_batches():
                    total.update(batch.serialize())
            sums.append((split, total.hexdigest()))
        return digest_of("hub", sorted(self.columns.items()), sums)


def hub(
    *,
    path: str,
    name: str = "",
    revision: str = "",
    source: str = "source",
    target: str = "target",
    train: str = "train",
    validation: str = "validation",
    test: str = "test",
) -> Hub:
    """A data set that `datasets.load_dataset(path, name)` finds.

    The columns of a translation set are `translation.en` and the like. A split named ""
    is not there.
    """
    if importlib.util.find_spec("datasets") is None:
        raise ValueError(INSTALL)
    names = {"train": train, "validation": validation, "test": test}
    return Hub(path, name, revision, names, {"source": source, "target": target})
