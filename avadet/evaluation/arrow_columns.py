"""Reading CSV and Parquet in columns with Arrow, batch by batch.

Every number is stored once: batches are written into arrays that grow in place, so that the peak
memory of a file is little more than its columns. Arrow rounds decimal fractions as Python does.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from avadet.errors import UserError
from avadet.evaluation.growing import Growing
from avadet.evaluation.tables import ALIASES, BoxTable, Codes

COLUMN_NAMES = ("video", "second", "x1", "y1", "x2", "y2", "label", "score")
_NUMBERS = ("x1", "y1", "x2", "y2", "score")
_BLOCK_BYTES = 1 << 20
_BATCH_ROWS = 1 << 18


class _Texts:
    """A column of texts: codes, and the distinct texts in order of appearance."""

    def __init__(self, capacity: int) -> None:
        self._known: dict[str, int] = {}
        self._codes = Growing(np.int32, capacity)

    def append(self, column: Any) -> None:
        import pyarrow as pa

        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        places = [
            self._known.setdefault(_spelled(value), len(self._known))
            for value in column.dictionary.to_pylist()
        ]
        self._codes.append(np.array(places, dtype=np.int32)[column.indices.to_numpy()])

    def finish(self) -> tuple[tuple[str, ...], Codes]:
        return tuple(self._known), self._codes.finish()


def _spelled(value: Any) -> str:
    # A number of a Parquet file has no spelling: 902.0 is the second 902.
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _collect(batches: Iterable[Any], capacity: int, source: str, in_memory: bool) -> BoxTable:
    video, second = _Texts(capacity), _Texts(capacity)
    label: Growing | None = None
    numbers: dict[str, Growing] = {}
    count = 0
    for batch in batches:
        names = batch.schema.names
        if label is None:
            kind = batch.column("label").type.to_pandas_dtype()
            if np.dtype(kind).kind not in "iu":
                raise UserError(f"{source}: column 'label' must hold whole numbers, not {kind}")
            label = Growing(kind, capacity)
            numbers = {n: Growing(np.float64, capacity) for n in _NUMBERS if n in names}
        count += batch.num_rows
        video.append(batch.column("video"))
        second.append(batch.column("second"))
        label.append(batch.column("label").to_numpy(zero_copy_only=False))
        for name, column in numbers.items():
            try:
                column.append(
                    batch.column(name).to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
                )
            except (TypeError, ValueError) as error:
                raise UserError(f"{source}: column {name!r} must hold numbers: {error}") from error
    videos, video_codes = video.finish()
    times, time_codes = second.finish()
    empty = np.zeros(0)
    columns = {n: numbers[n].finish() if n in numbers else empty for n in ("x1", "y1", "x2", "y2")}
    has_score = "score" in numbers
    return BoxTable(
        source,
        videos,
        times,
        video_codes,
        time_codes,
        columns["x1"],
        columns["y1"],
        columns["x2"],
        columns["y2"],
        np.zeros(0, dtype=np.int64) if label is None else label.finish(),
        numbers["score"].finish() if has_score else np.ones(count),
        unscored=None if has_score else np.ones(count, dtype=bool),
        in_memory=in_memory,
    )


def read_csv_columns(path: Path, width: int) -> BoxTable | None:
    """Parses a regular CSV file of 7 or 8 columns; None when it is not one."""
    import pyarrow as pa
    import pyarrow.csv

    text = pa.dictionary(pa.int32(), pa.string())
    kinds = dict.fromkeys(COLUMN_NAMES[:width], pa.float64())
    kinds |= {"video": text, "second": text, "label": pa.int32()}
    # No row is shorter than 7 one-letter columns.
    capacity = path.stat().st_size // 14 if path.suffix != ".gz" else 0
    try:
        reader = pyarrow.csv.open_csv(
            str(path),
            read_options=pyarrow.csv.ReadOptions(
                column_names=list(COLUMN_NAMES[:width]), block_size=_BLOCK_BYTES
            ),
            parse_options=pyarrow.csv.ParseOptions(ignore_empty_lines=False),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=kinds, null_values=[], strings_can_be_null=False
            ),
        )
        with reader:
            return _collect(reader, capacity, str(path), in_memory=False)
    except (pa.ArrowException, OSError):
        return None


def read_parquet_columns(path: Path) -> BoxTable:
    """Reads a Parquet file; its columns are found by name.

    Raises:
        UserError: it is no Parquet file, a column is missing, holds empty cells or no numbers.
    """
    import pyarrow as pa
    import pyarrow.parquet

    try:
        names = pyarrow.parquet.read_schema(path).names
        chosen: dict[str, str] = {}
        for name, aliases in ALIASES.items():
            found = [alias for alias in aliases if alias in names]
            if found:
                chosen[name] = found[0]
            elif name != "score":
                raise UserError(
                    f"{path}: no column {name!r}; it may be called {', '.join(aliases)}; "
                    f"found {', '.join(names)}"
                )
        texts = [chosen["video"], chosen["second"]]
        with pyarrow.parquet.ParquetFile(path, read_dictionary=texts) as file:

            def batches() -> Iterable[Any]:
                for batch in file.iter_batches(_BATCH_ROWS, columns=list(chosen.values())):
                    columns = [batch.column(name) for name in chosen.values()]
                    for name, column in zip(chosen, columns):
                        if column.null_count:
                            raise UserError(
                                f"{path}: column {chosen[name]!r} has empty cells; "
                                "every row needs a value"
                            )
                    yield pa.RecordBatch.from_arrays(columns, names=list(chosen))

            return _collect(batches(), file.metadata.num_rows, str(path), in_memory=True)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot read as Parquet: {error}") from error
