"""Parquet files, read by the batch of rows."""

import importlib.util
from collections.abc import Iterator

from data.files import Files, missing, text_at
from data.source import Record

INSTALL = "data.name='parquet' needs: pip install 'steepest[parquet]'"


class Parquet(Files):
    """A file a split; `a.b` names the field b of a struct column a."""

    def records(self, split: str) -> Iterator[Record]:
        """The records of a split."""
        import pyarrow
        from pyarrow import parquet as reader

        (path,) = self.paths(split)
        try:
            file = reader.ParquetFile(path)
            known = file.schema_arrow.names
            read = {}
            for side, column in self.columns.items():
                read[side] = column if column in known else column.split(".")[0]
                if read[side] not in known:
                    raise ValueError(missing(path, f"data.{side}", column, known))
            number = 0
            for batch in file.iter_batches(columns=sorted(set(read.values()))):
                for row in batch.to_pylist():
                    number += 1
                    yield {
                        side: text_at(
                            row, column, f"{path} row {number}", f"data.{side}"
                        )
                        for side, column in self.columns.items()
                    }
        except (pyarrow.ArrowException, OSError) as error:
            text = str(error).splitlines()[0]
            raise ValueError(f"{path} cannot be read as Parquet: {text}") from error


def parquet(
    *,
    folder: str,
    source: str = "source",
    target: str = "target",
    train: str = "train.parquet",
    validation: str = "validation.parquet",
    test: str = "test.parquet",
) -> Parquet:
    """One Parquet file a split. A split named "" is not there."""
    if importlib.util.find_spec("pyarrow") is None:
        raise ValueError(INSTALL)
    names = {"train": train, "validation": validation, "test": test}
    return Parquet(folder, names, {"source": source, "target": target})
