"""Files are whole or not there, and no changed byte of a table is read as if nothing were."""

from __future__ import annotations

import errno
import os
import random

import polars as pl
import pytest

from bestofl_lib import files
from bestofl_lib.files import DamagedTable, read_checked, replace_file, scan_checked, write_checked, write_in_pieces

TABLE = pl.DataFrame({"a": [1, 2, 3], "b": ["x", None, "বাংলা"], "c": [0.5, float("nan"), None]})


def test_a_table_comes_back_and_any_reader_can_read_it(tmp_path):
    path = tmp_path / "t.parquet"
    write_checked(path, TABLE)
    assert read_checked(path).equals(TABLE) and pl.read_parquet(path).equals(TABLE)


def test_the_same_table_has_the_same_bytes(tmp_path):
    write_checked(tmp_path / "a" / "t.parquet", TABLE)
    write_checked(tmp_path / "b" / "t.parquet", TABLE)
    assert (tmp_path / "a" / "t.parquet").read_bytes() == (tmp_path / "b" / "t.parquet").read_bytes()


def test_a_table_under_another_name_is_noticed(tmp_path):
    write_checked(tmp_path / "t.parquet", TABLE)
    (tmp_path / "t.parquet").rename(tmp_path / "u.parquet")
    with pytest.raises(DamagedTable, match="its name"):
        read_checked(tmp_path / "u.parquet")


def test_every_single_bit_that_flips_is_noticed(tmp_path):
    path = tmp_path / "t.parquet"
    write_checked(path, TABLE)
    data = path.read_bytes()
    bits = random.Random(0).sample(range(8 * len(data)), 800)
    for bit in bits:
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(DamagedTable, match=r"t.parquet.*delete it and run its notebook again"):
            read_checked(path)


@pytest.mark.parametrize("length", [0, 1, 100, -1, -40])
def test_a_file_cut_short_is_noticed(tmp_path, length):
    path = tmp_path / "t.parquet"
    write_checked(path, TABLE)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DamagedTable):
        read_checked(path)


def test_a_table_written_in_pieces_is_read_and_scanned_alike(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_PIECE", 100)
    table, path = pl.DataFrame({"a": range(1000), "b": ["x"] * 1000}), tmp_path / "t.parquet"
    write_in_pieces(path, table.lazy())
    assert read_checked(path).equals(table) and scan_checked(path).collect().equals(table)
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]
    write_checked(path, table)
    assert scan_checked(path).collect().equals(table)


def test_a_scanned_table_that_was_changed_cut_or_written_by_something_else_is_refused(tmp_path):
    path, rng = tmp_path / "t.parquet", random.Random(0)
    write_in_pieces(path, pl.DataFrame({"a": range(200)}).lazy())
    good = path.read_bytes()
    changed = [good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in rng.sample(range(len(good)), 200)]
    for data in (*changed, good[:50], good[:-1], b"", b"PAR1", good + b"0"):
        path.write_bytes(data)
        with pytest.raises(DamagedTable):
            scan_checked(path)
    pl.DataFrame({"a": [1]}).write_parquet(path)
    with pytest.raises(DamagedTable, match="no digest"):
        scan_checked(path)


def test_a_table_written_by_something_else_is_refused(tmp_path):
    TABLE.write_parquet(tmp_path / "t.parquet")
    with pytest.raises(DamagedTable, match="no digest"):
        read_checked(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.ENOSPC, "free some space"), (errno.EROFS, "BESTOFL_RUNS"), (errno.EACCES, "BESTOFL_RUNS")],
)
def test_a_file_that_cannot_be_written_is_named_with_the_remedy_and_the_old_one_stays(
    tmp_path, monkeypatch, number, remedy
):
    path = tmp_path / "t"
    replace_file(path, b"old")

    def fail(handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match=f"{path}.*{remedy}") as caught:
        replace_file(path, b"new")
    assert caught.value.errno == number
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["t"]
