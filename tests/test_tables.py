"""Every table that a notebook writes is declared with its grain, and a table that breaks its declaration is refused."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest

from bestofl_lib.files import ROOT
from bestofl_lib.runs import Run
from bestofl_lib.study.notebooks import cell_source, read_cells
from bestofl_lib.tables import TABLES, check_table

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NOT_FILES = {"candidates"}  # kept in shards, by a store
BY_HAND = {"labels"}  # the explorer writes it when somebody judges a reading


def written(notebook: Path) -> set[str]:
    """Names of the tables that a notebook writes, directly or by importing a pool."""
    code = "\n".join(cell_source(cell) for cell in read_cells(notebook) if cell["cell_type"] == "code")
    names = set(re.findall(r"""\.write(?:_in_pieces)?\(\s*["'](\w+)["']""", code))
    return names | ({"problems", "given_rewards"} if "store_pool(" in code else set())


def test_each_table_that_a_notebook_writes_is_declared_with_the_notebooks_that_make_it():
    makers: dict[str, list[str]] = {}
    for notebook in NOTEBOOKS:
        for name in written(notebook):
            makers.setdefault(name, []).append(notebook.stem)
    declared = {name: table.made_by for name, table in TABLES.items() if name not in NOT_FILES | BY_HAND}
    assert declared == {name: " or ".join(sorted(names)) for name, names in makers.items()}


@pytest.mark.parametrize("name", TABLES)
def test_each_table_says_its_grain_and_its_key_is_among_its_columns(name):
    table = TABLES[name]
    assert table.grain.startswith("one row per")
    assert table.key and set(table.key) <= set(table.schema)


@pytest.mark.parametrize("name", sorted(set(TABLES) - NOT_FILES))
def test_two_rows_with_one_key_and_unknown_or_missing_columns_are_refused(tmp_path, name):
    empty = TABLES[name].schema.to_frame()
    run = Run("made", tmp_path)
    assert run.write(name, empty).equals(run.read(name))
    twice = pl.concat([empty, *[pl.DataFrame([dict.fromkeys(empty.columns)], schema=empty.schema)] * 2])
    with pytest.raises(ValueError, match="without a value in" if TABLES[name].filled else "more than one row with"):
        check_table(name, twice)
    first = empty.columns[0]
    with pytest.raises(ValueError, match=f"lacks {first} .is it '{first}x'"):
        run.write(name, empty.rename({first: f"{first}x"}))
    with pytest.raises(ValueError, match="odd"):
        run.write(name, empty.with_columns(odd=pl.lit(1)))


@pytest.mark.parametrize("name", TABLES)
def test_a_row_without_a_value_that_every_row_has_is_refused_whether_written_or_read(name):
    schema, key = TABLES[name].schema, TABLES[name].key
    value = {pl.String: "x", pl.Boolean: True, pl.Int32: 1, pl.Int64: 1, pl.Float64: 0.5}
    row = {column: value.get(dtype) for column, dtype in schema.items()}
    check_table(name, pl.DataFrame([row], schema=schema))
    for column in TABLES[name].filled:
        with pytest.raises(ValueError, match=f"1 row without a value in '{column}'; run its notebook again"):
            check_table(name, pl.DataFrame([row | {column: None}], schema=schema))
    assert TABLES[name].filled or not {"is_correct", "reference"} & set(schema), key
