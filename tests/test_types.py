"""What columns are taken for, and that cells come back as they were written: from file to file."""

from __future__ import annotations

import csv
import datetime as dt
import decimal
import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.feather
import pyarrow.parquet
import pytest

import quintet
from quintet.cli.main import main
from quintet.core.errors import ConfigError, DataError, QuintetWarning
from quintet.data.arrow import as_table
from quintet.evaluation.tasks import against
from quintet.modalities.table import streams, written
from quintet.modalities.table.codec import TableCodec
from quintet.modalities.table.columns import describe
from quintet.registry import modality_of
from quintet.runs.task import Task
from quintet.sources.load import load_source

WRITTEN: dict[str, tuple[list[str], str]] = {
    "decimals with their zeros": (["1.50", "2.25", "13.00"], "double"),
    "decimal commas": (["13,2", "5,7", "100,1"], "double"),
    "dollars": (["$1,100.40", "$3.00", "-$20.15"], "double"),
    "euros": (["1.234,56 €", "3,00 €", "-1,50 €"], "double"),
    "a code of a currency": (["EUR 5.00", "EUR 7.10"], "double"),
    "per cent": (["5 %", "12 %", "-3 %"], "int64"),
    "a unit": (["5 kg", "12 kg"], "int64"),
    "thousands": (["1,100", "22", "1,000,000"], "int64"),
    "thousands with dots": (["1.100.000", "22", "1.000"], "int64"),
    "thousands with blanks": (["1 234,5", "7,0"], "double"),
    "whole numbers with zeros behind the point": (["221900.00", "538000.00"], "double"),
    "few digits": (["1.5", "2.25", "3"], "double"),
    "whole numbers among decimals": (["22.0", "0.42", "-13.0", "0.0", "1.5e-07"], "double"),
    "two digits at least": (["22.50 kg", "0.425 kg", "13.00 kg"], "double"),
    "a plus": (["+1.5", "-2.0"], "double"),
    "accounts": (["(1,100.40)", "22.00", "(3.50)"], "double"),
    "accounts in dollars": (["($1,100.40)", "$22.00", "($3.50)"], "double"),
    "accounts behind a currency": (["$(1,100.40)", "$22.00"], "double"),
    "accounts in euros": (["(1.100,40) €", "22,00 €"], "double"),
    "accounts in euros, around": (["(1.100,40 €)", "22,00 €"], "double"),
    "accounts in whole numbers": (["(120)", "45", "7"], "int64"),
    "a minus behind": (["1,100.40-", "22.00"], "double"),
    "a minus behind all": (["22.00 EUR", "1.50 EUR-"], "double"),
    "a minus behind the currency": (["$-5.00", "$7.25"], "double"),
    "a typographer's minus": (["−5.5", "7.2"], "double"),
    "numbered items": (["(1)", "(2)", "(3)"], "string"),
    "marks of a school": (["1-", "2", "3-"], "string"),
    "half a parenthesis": (["(1.5", "2.5"], "string"),
    "a code before a number": (["(030) 123", "(040) 456"], "string"),
    "zip codes": (["02116", "10001"], "string"),
    "telephone numbers": (["+49 30 123 456", "+49 40 123 457"], "string"),
    "addresses": (["192.168.1.1", "10.0.0.1"], "string"),
    "no in two spellings": (["NO", "no"], "string"),
    "truths": (["True", "False"], "bool"),
    "digits of a day": (["20240131", "20240229"], "date32[day]"),
    "days with dots": (["31.01.2024", "01.02.2024"], "date32[day]"),
    "days without zeros": (["1/5/2024", "12/31/2024"], "date32[day]"),
    "months": (["2024-01", "2023-12"], "date32[day]"),
    "months in words alone": (["Jan 2024", "Feb 2023"], "date32[day]"),
    "months in words": (["Jan 5, 2024", "Feb 11, 2024"], "date32[day]"),
    "moments": (["2024-01-31 05:00:00", "2024-02-01 06:30:00"], "timestamp[s]"),
    "moments with T and Z": (["2024-01-31T05:00:00Z", "2024-02-01T06:00:00Z"], "timestamp[s, tz=UTC]"),
    "moments of a zone": (["2024-01-31T05:00:00+01:00", "2024-02-01T06:30:00+01:00"], "timestamp[s, tz=+01:00]"),
    "moments of a zone, with a blank": (
        ["2024-01-31 05:00:00-05:30", "2024-02-01 06:30:00-05:30"],
        "timestamp[s, tz=-05:30]",
    ),
    "thousandths of seconds": (["2024-01-01 05:00:00.123", "2024-01-01 05:00:00.456"], "timestamp[ms]"),
    "hours": (["12:30", "07:55"], "time32[s]"),
    "a day that is none": (["20240131", "20241531"], "int64"),
}


def table(columns: dict[str, list[str]], delimiter: str = ",") -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return buffer.getvalue()


def load(path: Path, content: str | bytes, **reading: Any) -> Any:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_source(str(path), **{"whole": True, **reading})


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("name", WRITTEN)
def test_cells_are_typed_and_go_back_as_they_were_written(
    name: str, large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File -> typed column -> file, also of tables that are streamed; an empty cell stays empty."""
    cells, kind = WRITTEN[name]
    if large:
        monkeypatch.setattr(streams, "LARGE", 0)
        monkeypatch.setenv("QUINTET_CACHE", str(tmp_path / "cache"))
    rows = [*cells * 8, ""]
    found = load(tmp_path / "x.csv", table({"a b": rows, "c": [str(i) for i in range(len(rows))]}))
    assert str(found.items["a b"].type) == kind
    modality_of(found.items).write(tmp_path / "y.csv", found.items, {})
    with (tmp_path / "y.csv").open(newline="") as file:
        assert sorted(row["a b"] for row in csv.DictReader(file)) == sorted(rows)


@pytest.mark.parametrize("large", [False, True])
def test_marks_of_nothing_among_numbers_and_times_are_missing_cells(
    large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A price of which one cell says "-" is a price; a word that is no such mark leaves a column what it is."""
    if large:
        monkeypatch.setattr(streams, "LARGE", 0)
        monkeypatch.setenv("QUINTET_CACHE", str(tmp_path / "cache"))
    columns = {
        "price": [f"{i}.50" for i in range(30)] + ["-", "?"],
        "day": [f"2024-01-{1 + i:02}" for i in range(30)] + ["n.a.", "n.a."],
        "size": [str(i % 5) for i in range(30)] + ["XL", "XL"],
        "mark": ["-"] * 31 + ["1"],
    }
    found = load(tmp_path / "x.csv", table(columns))
    kinds = {name: str(found.items[name].type) for name in columns}
    assert kinds == {"price": "double", "day": "date32[day]", "size": "string", "mark": "string"}
    assert [found.items[name].null_count for name in columns] == [2, 2, 0, 0]
    assert any("price: 2 cells that say '-' or '?' are read as missing" in note for note in found.notes)
    kept = load(tmp_path / "x.csv", table(columns), types={"price": "category"})
    assert sorted(kept.items["price"].to_pylist()) == sorted(columns["price"])
    said = load(tmp_path / "x.csv", table(columns), types={"price": "decimal"})
    assert said.items["price"].null_count == 2


def test_durations_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spans = [dt.timedelta(seconds=5 * i) for i in range(30)]
    pyarrow.parquet.write_table(pa.table({"span": spans, "x": list(range(30))}), tmp_path / "x.parquet")
    assert main(["data", str(tmp_path / "x.parquet")]) == 0
    assert "0:02:25" in capsys.readouterr().out


def test_decimals_of_a_file_keep_their_digits(tmp_path: Path) -> None:
    cents = [decimal.Decimal(137 * i % 9973 - 5000).scaleb(-2) for i in range(400)]
    pyarrow.parquet.write_table(pa.table({"price": pa.array(cents, pa.decimal128(12, 2))}), tmp_path / "x.parquet")
    found = load_source(str(tmp_path / "x.parquet"), whole=True).items["price"].to_pylist()
    assert sorted(found) == sorted(map(float, cents))
    codec = TableCodec("discrete").fit(pa.table({"price": found}))
    assert all(round(each, 2) == each for each in codec.decode(codec.encode({"price": found}))["price"].to_pylist())


HEADERS: dict[str, tuple[str, list[str]]] = {
    "years": ("country,2019,2020\nA,5.3,6\nB,7.25,8\nC,1,2\n", ["country", "2019", "2020"]),
    "years over whole numbers": ("country,2019,2020\nA,53,60\nB,72,80\nC,10,22\n", ["country", "2019", "2020"]),
    "one year": ("country,2019\nA,53\nB,72\nC,10\n", ["country", "2019"]),
    "places": ("0,1,2\n0.53,0.1,0.7\n0.2,0.25,0.33\n", ["0", "1", "2"]),
    "a name": ("id,7\n1,0.3\n2,0.4\n", ["id", "7"]),
    "words below": ("kind,5\na,1\nb,9\na,3\nb,5\na,6\n", ["kind", "5"]),
    "a comma in a name": ('"height, cm",b\n1,x\n2,y\n', ["height, cm", "b"]),
    "no header": ("5.1,3.5,setosa\n4.9,3.0,setosa\n6.1,2.9,virginica\n", ["x0", "x1", "x2"]),
    "no header, years": ("2019,France\n2020,Spain\n2021,Italy\n2018,Malta\n", ["x0", "x1"]),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_is_found_by_all_rows(name: str, tmp_path: Path) -> None:
    content, names = HEADERS[name]
    found = load(tmp_path / "x.csv", content)
    assert found.items.column_names == names
    assert found.items.num_rows == content.count("\n") - (names[0] != "x0")


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-8-sig"])
def test_encodings(encoding: str, tmp_path: Path) -> None:
    text = "name;price\nJosé;13,2\nGrün;5,75\n" * 1
    content = text.encode(encoding)
    found = load(tmp_path / "x.csv", content)
    assert found.items.to_pylist() == [{"name": "José", "price": 13.2}, {"name": "Grün", "price": 5.75}]
    assert load(tmp_path / "x.csv.gz", gzip.compress(content)).items.equals(found.items)
    if not encoding.startswith("utf-8"):
        assert any("UTF" in note for note in found.notes)


def test_damaged_utf8_is_not_taken_for_another_encoding(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="damaged UTF-8"):
        load(tmp_path / "x.csv", "a,b\né,1\nü,2\nö,3\n".encode().replace("ü".encode(), b"\xc3"))


def test_the_first_sheet_of_a_workbook_is_read_with_the_types_of_its_cells(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    rows = [
        ["day", "time", "price", "zip", "count", None],
        [dt.date(2024, 1, 2), dt.datetime(2024, 1, 2, 13, 30), 1.5, "02116", 3, "x"],
        [None, None, None, None, None, None],
        [dt.datetime(2024, 3, 4), dt.datetime(2024, 3, 4), 2, "00501", "#DIV/0!", None],
        [None, dt.datetime(2024, 3, 5), None, "10001", 5, "y"],
    ]
    for row in rows:
        book.active.append(row)
    book.create_sheet("other").append(["not read"])
    book.save(tmp_path / "x.xlsx")
    found = load_source(str(tmp_path / "x.xlsx"), whole=True)
    assert found.items.to_pydict() == {
        "day": [dt.date(2024, 1, 2), dt.date(2024, 3, 4), None],
        "time": [dt.datetime(2024, 1, 2, 13, 30), dt.datetime(2024, 3, 4), dt.datetime(2024, 3, 5)],
        "price": [1.5, 2.0, None],
        "zip": ["02116", "00501", "10001"],
        "count": [3, None, 5],
        "column_5": ["x", None, "y"],
    }
    assert "the first of 2 sheets is read: Sheet" in found.notes
    given = load_source(str(tmp_path / "x.xlsx"), whole=True, types="zip=integer,count=decimal,day=drop").items
    assert given["zip"].to_pylist() == [2116, 501, 10001]
    assert "day" not in given.column_names


@pytest.mark.parametrize(("content", "message"), [(b"PK and no more", "cannot be read"), (None, "the first sheet is")])
def test_workbooks_without_a_table_are_refused(content: bytes | None, message: str, tmp_path: Path) -> None:
    openpyxl.Workbook().save(tmp_path / "x.xlsx")
    if content:
        (tmp_path / "x.xlsx").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_source(str(tmp_path / "x.xlsx"))


def test_the_user_overrules_by_column(tmp_path: Path) -> None:
    content = table({"price": ["5", "7"], "zip": ["2116", "1001"], "when": ["3/4/2024", "5/6/2024"],
                     "notes": ["a", "b"], "gone": ["1", "2"], "ok": ["yes", "no"], "x,y": ["007", "008"]})  # fmt: skip
    spec = "price=decimal,zip=category,when=datetime:%d/%m/%Y,notes=text,gone=drop,ok=boolean"
    for given in (spec, dict(pair.split("=") for pair in spec.split(","))):
        found = load(tmp_path / "x.csv", content, types=given).items
        assert found.schema.names == ["price", "zip", "when", "notes", "ok", "x,y"]
        assert [str(kind) for kind in found.schema.types] == ["double", "string", "date32[day]", "string", "bool",
                                                               "string"]  # fmt: skip
        assert found["when"][0].as_py() == dt.date(2024, 4, 3)
        assert written.as_written(found)["ok"].to_pylist() == ["yes", "no"]
        assert written.as_written(found)["when"].to_pylist() == ["3/4/2024", "5/6/2024"]
    found = load(tmp_path / "x.csv", content, types={"x,y": "integer"}).items
    assert found["x,y"].to_pylist() == [7, 8]
    with pytest.raises(ConfigError, match="unknown column type 'money'"):
        load(tmp_path / "x.csv", content, types="price=money")
    with pytest.raises(DataError, match="names the column prize"):
        load(tmp_path / "x.csv", content, types="prize=decimal")
    with pytest.raises(DataError, match="cannot be read as the type number"):
        load(tmp_path / "x.csv", content, types="notes=number")


def test_doubts_are_said(tmp_path: Path) -> None:
    days = [f"{1 + i % 12}/{1 + i % 11}/2024" for i in range(30)]
    ids = [str(1000 + 7 * i % 31) for i in range(30)]
    notes = " ".join(load(tmp_path / "x.csv", table({"when": days, "no": ids, "x": ["1"] * 30})).notes)
    assert "column when: dates are read as %m/%d/%Y" in notes
    assert "column no: whole numbers that all differ" in notes


def test_dates_and_amounts_of_json_lines_are_typed_and_quoted_digits_stay(tmp_path: Path) -> None:
    lines = [{"day": f"2024-01-{i:02}", "cost": f"$1,{i:03}.50", "zip": f"{i + 10000}"} for i in range(1, 25)]
    found = load(tmp_path / "x.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    assert [str(kind) for kind in found.items.schema.types] == ["date32[day]", "double", "string"]
    modality_of(found.items).write(tmp_path / "y.jsonl", found.items, {})
    assert [json.loads(line) for line in (tmp_path / "y.jsonl").read_text().splitlines()] == lines


def test_json_lines_of_an_id_and_a_text_are_texts(tmp_path: Path) -> None:
    lines = [{"id": f"doc-{i}", "body": f"It was the {i}th of many long sentences, each of which ends here."}
             for i in range(40)]  # fmt: skip
    path = tmp_path / "x.jsonl"
    found = load(path, "".join(json.dumps(line) + "\n" for line in lines))
    assert found.modality == "text"
    assert found.items == [line["body"] for line in lines]
    assert load_source(str(path), types="body=category").modality == "table"


def test_a_repeated_source_text_is_text_if_the_user_says_so(tmp_path: Path) -> None:
    """Five translations of each of 80 sentences: by itself a column of categories."""
    rows = {"german": [f"Satz Nummer {i // 5}" for i in range(400)], "x": [str(i % 7) for i in range(400)]}
    (tmp_path / "x.csv").write_text(table(rows))
    assert Task.resolve(load_source(str(tmp_path / "x.csv")), "german").codec == "table"
    assert Task.resolve(load_source(str(tmp_path / "x.csv"), types="german=text"), "german").codec == "text"


def invoices(n: int = 120) -> dict[str, list[str]]:
    rng = np.random.default_rng(0)
    return {
        "zip": [f"0{2100 + i % 7}" for i in range(n)],
        "price": [f"{rng.integers(100, 999_999) / 100:,.2f} €".translate(str.maketrans(",.", ".,")) for _ in range(n)],
        "day": [f"2024{1 + i % 12:02}{1 + i % 28:02}" for i in range(n)],
        "rate": [f"{i % 9}.50" for i in range(n)],
    }


def test_samples_and_completions_are_written_as_the_data_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """train -> sample, complete, by the command line: forms of all cells, and the given ones to the letter."""
    monkeypatch.chdir(tmp_path)
    Path("x.csv").write_text(table(invoices()))
    assert main(["train", "vae", "--data", "x.csv", "--steps", "2", "--run", "r"]) == 0
    assert main(["sample", "r", "-n", "20", "-o", "s.csv"]) == 0
    cells = list(csv.DictReader(io.StringIO(Path("s.csv").read_text())))
    assert len(cells) == 20
    for row in cells:
        assert row["zip"].startswith("02")
        assert row["rate"].endswith(".50")
        assert pc.match_substring_regex(pa.scalar(row["price"]), r"^\d{1,3}(\.\d{3})*,\d\d €$").as_py()
        assert dt.datetime.strptime(row["day"], "%Y%m%d").year == 2024
    holes = 'zip,price,day,rate\n02103,,20240131,1.5\n02104,"7,5 €",,2.500\n'
    Path("holes.csv").write_text(holes)
    assert main(["complete", "r", "--data", "holes.csv", "--draws", "3", "-o", "c.csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(Path("c.csv").read_text())))
    assert [(row["row"], row["draw"]) for row in rows] == [(str(r), str(d)) for d in (1, 2, 3) for r in (0, 1)]
    for row in rows:
        known = {"zip": "02103", "day": "20240131", "rate": "1.5"}
        known = known if row["row"] == "0" else {"zip": "02104", "price": "7,5 €", "rate": "2.500"}
        assert {name: row[name] for name in known} == known
        assert row["price"].endswith(" €")
        assert len(row["day"]) == 8
    capsys.readouterr()
    assert main(["data", "x.csv", "--data.types", "zip=integer"]) == 0
    shown = capsys.readouterr().out
    assert "whole number (int64)" in shown
    assert "decimal written as 1.234,50 €" in shown
    assert "datetime written as %Y%m%d" in shown


def test_a_date_is_a_condition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.csv").write_text(table(invoices()))
    quintet.train("vae", data="x.csv", condition="day", steps=2, run="r", runs="runs")
    for value in ("20240315", "2024-03-15"):
        assert main(["sample", "r", "-n", "2", "--condition", value, "-o", "s.csv"]) == 0
    assert main(["sample", "r", "-n", "2", "--condition", "soon", "-o", "s.csv"]) == 3


def test_no_item_is_set_aside_where_the_user_says_so(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    assert len(load(path, table({"x": [f"{i}.5" for i in range(90)]}), whole=False).splits["train"]) < 90
    found = load_source(str(path), split="none")
    assert {name: len(index) for name, index in found.splits.items()} == {"train": 90, "validation": 90, "test": 90}
    assert any("--data.split none" in note for note in found.notes)
    (tmp_path / "x.txt").write_text("One text. " * 100)
    assert len(load_source(str(tmp_path / "x.txt"), split="none").rows("train")[0]) == 1000


def test_codes_that_hardly_repeat_keep_their_zeros_and_are_learnt(tmp_path: Path) -> None:
    """Zip codes of single rows would all be one rare category; as numbers with their zeros, neighbours help."""
    rng = np.random.default_rng(0)
    rows = [(f"{code:05}", "east" if code < 5000 else "west") for code in rng.integers(501, 9999, 400)]
    path = tmp_path / "t.csv"
    path.write_text(table({"zip": [zip for zip, _ in rows], "coast": [coast for _, coast in rows]}))
    words = [
        "train",
        "autoregressive",
        "--data",
        str(path),
        "--steps",
        "60",
        "--preset",
        "tiny",
        "--runs",
        str(tmp_path),
    ]
    assert main([*words, "--run", "zips"]) == 0
    assert main(["sample", str(tmp_path / "zips"), "-n", "200", "-o", str(tmp_path / "s.csv")]) == 0
    drawn = list(csv.DictReader((tmp_path / "s.csv").open()))
    assert all(len(row["zip"]) == 5 and row["zip"].isdigit() for row in drawn)
    assert np.mean([(row["zip"] < "05000") == (row["coast"] == "east") for row in drawn]) > 0.7
    often = load_source(str(path), types={"zip": "category"}).items
    assert pa.types.is_string(often["zip"].type)


def test_types_that_cannot_be_applied_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="built-in"):
        load_source("iris", types="label=drop")
    monkeypatch.setattr(streams, "LARGE", 0)
    monkeypatch.setenv("QUINTET_CACHE", str(tmp_path / "cache"))
    columns = pa.table({"a": list(range(50)), "b": list(range(50))})
    pyarrow.parquet.write_table(columns, tmp_path / "x.parquet")
    pyarrow.feather.write_feather(columns, tmp_path / "x.feather")
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps(row) for row in columns.to_pylist()))
    for name in ("x.parquet", "x.feather", "x.jsonl"):
        with pytest.raises(ConfigError, match="cannot be set for a table of this size"):
            load_source(str(tmp_path / name), types="a=drop")


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8-sig"])
def test_texts_are_read_in_the_encodings_of_csvs(encoding: str, tmp_path: Path) -> None:
    text = "Grüße aus Köln, 5 €\n" * 60
    (tmp_path / "x.txt").write_bytes(text.encode(encoding))
    found = load_source(str(tmp_path / "x.txt"), whole=True, unit="line")
    assert found.items == text.splitlines()
    assert any("UTF" in note for note in found.notes) == (encoding != "utf-8-sig")


def test_frames_are_read_in_the_written_form_of_the_training_file(tmp_path: Path) -> None:
    """Strings, digits and times of a DataFrame mean what the same cells of the training file do."""
    rows = invoices()
    (tmp_path / "x.csv").write_text(table(rows))
    model = quintet.train("autoregressive", data=tmp_path / "x.csv", steps=2, preset="tiny", runs=tmp_path / "runs")
    own = load_source(str(tmp_path / "x.csv"), whole=True).items.slice(0, 30)
    want = model.log_prob(own).values
    strings = pd.DataFrame({name: cells[:30] for name, cells in rows.items()})
    days = pd.to_datetime(strings["day"], format="%Y%m%d")
    for frame in (strings, strings.assign(day=strings["day"].astype(int)), strings.assign(day=days)):
        np.testing.assert_allclose(model.log_prob(frame).values, want, rtol=1e-6)
    holes = strings.assign(price="")
    done = model.complete(holes)
    assert done["price"].str.fullmatch(r"\d{1,3}(\.\d{3})*,\d\d €").all()
    assert done["day"].tolist() == rows["day"][:30]
    given = quintet.train("vae", data=tmp_path / "x.csv", condition="price", steps=2, runs=tmp_path / "runs")
    codec = model.codecs["x"]
    assert isinstance(codec, TableCodec)
    parsed = list(codec.values(codec.rows(own)).values())[1]
    assert len(given.sample(2, condition=rows["price"][:2])) == 2
    assert len(set(parsed)) > 20


def test_numbers_of_a_frame_are_the_codes_that_write_them(tmp_path: Path) -> None:
    """2116 of a DataFrame is the 02116 of the training file, with blanks (as floats) too; two codes of one number
    (7 and 007) are said to be.
    """
    codes = ["02116", "10001", "60601"] * 40
    (tmp_path / "x.csv").write_text(table({"zip": codes, "v": [f"{i % 9}.5" for i in range(120)]}))
    model = quintet.train("autoregressive", data=tmp_path / "x.csv", steps=2, preset="tiny", runs=tmp_path / "runs")
    texts = pd.DataFrame({"zip": codes, "v": [i % 9 + 0.5 for i in range(120)]})
    whole = texts.assign(zip=texts["zip"].astype(int))
    want = model.log_prob(texts[:20]).values
    np.testing.assert_array_equal(model.log_prob(whole[:20]).values, want)
    np.testing.assert_array_equal(model.log_prob(whole[:20].astype(float)).values, want)
    label = quintet.train("autoregressive", data=tmp_path / "x.csv", target="zip", condition="v", steps=2,
                          preset="tiny", runs=tmp_path / "runs")  # fmt: skip
    items = pa.table({"zip": [2116, 10001, None], "v": [0.5, 1.5, 2.5]})
    place = list(label.labels or ()).index
    assert against(label.fitted, label.classify(items.select(["v"])), items.select(["zip"]))[1].tolist() == [
        place("02116"), place("10001"), -1]  # fmt: skip
    column = describe("code", pa.chunked_array([["7", "007", "12"] * 20]), bins=8, own=None)
    with pytest.warns(QuintetWarning, match="the number 7 is written as 007 and as 7 in training"):
        assert column.spelt(pa.chunked_array([[7, 12, 99, None]])).to_pylist() == ["7", "12", "99", None]


def test_strings_of_a_frame_are_typed_as_those_of_a_file(tmp_path: Path) -> None:
    cells = [f"{i}.25".replace(".", ",") for i in range(40)]
    pyarrow.feather.write_feather(
        pa.table({"price": cells, "rate": [f"{i}.50" for i in range(40)]}), tmp_path / "x.arrow"
    )
    found = load_source(str(tmp_path / "x.arrow")).items
    assert [str(kind) for kind in found.schema.types] == ["double", "double"]
    assert sorted(found["price"].to_pylist()) == [i + 0.25 for i in range(40)]
    one = pa.table({"day": ["02/01/2024"]})
    pyarrow.feather.write_feather(one, tmp_path / "y.arrow")
    form = written.Form("time", format="%d/%m/%Y", type="date")
    assert load_source(str(tmp_path / "y.arrow"), forms={"day": form}, whole=True).items["day"].to_pylist() == [
        dt.date(2024, 1, 2)
    ]


def test_data_says_left_out_where_training_leaves_out(tmp_path: Path) -> None:
    """One text that recurs within the file, but not among the training rows."""
    from quintet.modalities.table.codec import TableCodec
    from quintet.modalities.table.facts import column_facts

    texts = pa.table({"note": [f"comment {i % 39}" for i in range(40)], "x": [i % 3 for i in range(40)]})
    train = np.arange(39)
    fate = column_facts(texts, train)[0]["modelled"]
    with pytest.warns(match="note=text keeps it"):
        codec = TableCodec("discrete").fit(texts.take(pa.array(train)))
    assert codec.dropped == ("note",)
    assert fate.startswith("left out")


def test_identifiers_are_made_anew(tmp_path: Path) -> None:
    """--data.types COLUMN=id: samples have identifiers of the same form, each once, and none of training's."""
    rng = np.random.default_rng(0)
    numbers = rng.permutation(np.arange(10_000, 10_200))
    columns = {"number": [str(n) for n in numbers], "code": [f"INV-{n:06}/A" for n in numbers],
               "key": [f"{n:x}z{n % 7}q" for n in numbers], "size": [f"{n % 13}.5" for n in numbers]}  # fmt: skip
    path = tmp_path / "t.csv"
    path.write_text(table(columns))
    words = ["train", "autoregressive", "--data", str(path), "--data.types", "number=id,code=id,key=id", "--steps", "5"]
    assert main([*words, "--preset", "tiny", "--run", "ids", "--runs", str(tmp_path)]) == 0
    run = str(tmp_path / "ids")
    assert main(["sample", run, "-n", "50", "-o", str(tmp_path / "s.csv")]) == 0
    drawn = list(csv.DictReader((tmp_path / "s.csv").open()))
    assert list(drawn[0]) == ["number", "code", "key", "size"]
    for name in ("number", "code", "key"):
        found = [row[name] for row in drawn]
        assert len(set(found)) == 50
        assert not set(found) & set(columns[name])
    assert drawn[0]["number"] == "10200"
    assert drawn[0]["code"] == "INV-010200/A"
    (tmp_path / "holes.csv").write_text("number,code,key,size\n10003,,a1z1q,\n,INV-010005/A,,2.5\n")
    assert main(["complete", run, "--data", str(tmp_path / "holes.csv"), "-o", str(tmp_path / "c.csv")]) == 0
    rows = list(csv.DictReader((tmp_path / "c.csv").open()))
    assert rows[0]["number"] == "10003"
    assert rows[1]["code"] == "INV-010005/A"
    assert rows[1]["number"] not in ("", "10003")
    assert main(["score", run, "--data", str(path), "-o", str(tmp_path / "scores.csv")]) == 0
    assert main(["evaluate", run, "--samples", "30"]) == 0


@pytest.mark.parametrize("items", [{1: [2, 3]}, [{1: 2}, {1: 3}], [{"a": 1}, {None: 2}]])
def test_the_name_of_a_column_is_a_text(items: Any) -> None:
    with pytest.raises(DataError, match=r"expected a text as the name of a column, got (1|None)"):
        as_table(items)
