"""Tables: a row an item or a query."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pytest

from perfit.data import Dataset, HistoryItem, Query, User, read_dataset
from perfit.errors import DataError

TABLE = '''user,split,id,date,text,label,input,gold
a,,,2020-01-02,"first, with
two lines",work,,
b,other,x7,,"say ""hi""",travel,,
a,test,,2020-01-03,second\u2028part,,,
a,,,,,,what now?,work
a,,q9,2020-02-01,,,and now?,
'''

USERS = (
    User(
        "a",
        (
            HistoryItem("0", {"text": "first, with\ntwo lines", "label": "work"}, "2020-01-02"),
            HistoryItem("1", {"text": "second\u2028part"}, "2020-01-03"),
        ),
        (Query("a/q0", "what now?", "work"), Query("q9", "and now?", None, "2020-02-01")),
    ),
)
OTHERS = (User("b", (HistoryItem("x7", {"text": 'say "hi"', "label": "travel"}),)),)


@pytest.mark.parametrize("name", ["u.csv", "U.CSV", "u.csv.gz", "u.tsv"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize(("bom", "end"), [("", "\n"), ("\ufeff", "\r\n")])
def test_a_table(tmp_path: Path, name: str, separator: str, bom: str, end: str) -> None:
    path = tmp_path / name
    with (gzip.open if name.endswith("gz") else open)(path, "wt", encoding="utf-8", newline="") as file:
        file.write(bom)
        csv.writer(file, delimiter=separator, lineterminator=end).writerows(csv.reader(io.StringIO(TABLE, newline="")))
    data = read_dataset(path)
    assert (data.users, data.others) == (USERS, OTHERS)
    assert data.notes == ()


def test_columns_of_row_numbers_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "u.csv"
    path.write_text(",Unnamed: 0,user, text ,\n0,0,a,x,\n1,1,a,y,\n\n , ,,,\n")
    assert [item.fields for item in read_dataset(path).users[0].history] == [{"text": "x"}, {"text": "y"}]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"user,text\n", "there are no users in the file"),
        (b"", "the file is empty"),
        (b"\n\n", "the file is empty"),
        (b"name,text\na,Zanzibar\n", "line 1: no column is named 'user'"),
        (b"user,text,text\na,b,c\n", "line 1: the column 'text' is named twice"),
        (b"user,text\na,Zanzibar,quokka\n", "line 2: the row has 3 cells, the first line names 2"),
        (b"user,text\na,x\nb\n", "line 3: the row has 1 cells"),
        (b'user,text\na,"x\ny"\n,Zanzibar\n', "line 4: the field 'user' is missing"),
        (b"user,text,\na,x,Zanzibar\n", "line 2: cell 3 stands in a column without a name"),
        (b'user,text\na,x\nb,"Zanzibar\n', "line 3 or after: not valid CSV"),
        (b'user,text\na,"Zan"zibar\n', "line 2 or after: not valid CSV"),
        (b"user,text\na,caf\xe9\n", "not UTF-8 at byte 15"),
        ("user,text\na,x\n".encode("utf-16"), "not UTF-8 at byte 0"),
        (b"<html>Zanzibar</html>", "this is a web page"),
        (b"user,text,split\na,x,Zanzibar\n", "line 2: the field 'split' has an unknown value"),
        (b"user,text,split\na,x,test\na,y,\na,z,other\n", "line 4: the field 'split' differs"),
        (b"user,text,input\na,x,Zanzibar\n", "line 2: the row has 'input' or 'gold', and also the field 'text'"),
        (b"user,text,input,gold\na,,,Zanzibar\n", "line 2: the field 'input' is missing"),
        (b"user,id,text\na,1,x\nb,1,x\na,1,y\n", "line 4: the item id was used before, at line 2"),
        (b"user,id,text\na,1,\n", "line 2: the item has no text field"),
    ],
    # A generated id would put the content into the path of the file.
    ids=[str(number) for number in range(20)],
)
def test_faults(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "u.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"u\.csv") as caught:
        read_dataset(path)
    message = str(caught.value)
    assert expected in message
    assert not any(word in message for word in ("Zanzibar", "quokka", "\n"))
    assert caught.value.__cause__ is None


def test_a_long_text_is_a_cell(tmp_path: Path) -> None:
    path = tmp_path / "u.csv"
    path.write_text("user,text\na," + "x" * 200_000 + "\n")
    assert len(read_dataset(path).users[0].history[0].fields["text"]) == 200_000


def test_a_table_of_other_users(tmp_path: Path) -> None:
    (tmp_path / "u.csv").write_text("user,text\na,x\n")
    (tmp_path / "o.csv").write_text("user,text\nb,x\n")
    data: Dataset = read_dataset(tmp_path / "u.csv", others=tmp_path / "o.csv")
    assert [user.id for user in data.others] == ["b"]
