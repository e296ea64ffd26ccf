"""Amazon's three releases, each with the defects it is known for, read by one adapter."""

import gzip
import json
import tracemalloc
from pathlib import Path

import pytest

from mmfeat.datasets import load
from mmfeat.datasets.amazon_items import Products
from mmfeat.schemas.errors import DatasetError


def rows(dataset, *columns: str) -> list[tuple]:
    return list(zip(*(dataset.items[c].to_pylist() for c in columns), strict=True))


def log(dataset) -> list[tuple]:
    return [tuple(row.values())[:3] for row in dataset.interactions.to_pylist()]


def ratings(dataset) -> list[float | None]:
    return dataset.interactions["rating"].to_pylist()


def codes(dataset) -> dict[str, int]:
    return {note.code: note.count for note in dataset.notes}


def write(path: Path, text: str) -> Path:
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def python_lines(*records: dict) -> str:
    return "".join(f"{record!r}\n" for record in records)


def json_lines(*records: dict) -> str:
    return "".join(f"{json.dumps(record)}\n" for record in records)


NO_IMAGE = "http://g-ecx.images-amazon.com/images/G/01/x-site/icons/no-img-sm._CB192198896_.gif"
PRODUCTS_2014 = [
    {
        "asin": "0000031852",
        "categories": [["Sports & Outdoors", "Dance"]],
        "title": 'Girls\' "Ballet" Tutu &amp; Zebra <b>Hot</b> Pink',
        "price": 3.17,
        "imUrl": "http://ecx.images-amazon.com/images/I/51fAmVkTbyL._SY300_.jpg",
        "related": {"also_bought": ["B00JHONN1S"]},
        "salesRank": {"Toys & Games": 211836},
        "brand": "Coxlures",
        "description": "TUtu",
    },
    {"asin": "0000032069", "categories": [[]], "imUrl": NO_IMAGE, "description": "  "},
    {"asin": "B00002X2G4", "categories": [[]], "title": "Party \ud83d\ude00"},
]


def test_2014_lines_are_python_literals_and_its_ratings_have_no_header_and_count_seconds(tmp_path):
    write(tmp_path / "meta_Sports_and_Outdoors.json.gz", python_lines(*PRODUCTS_2014))
    write(
        tmp_path / "ratings_Sports_and_Outdoors.csv",
        "A3PMSRCL80KSA1,0000031852,4.0,1388275200\nA1SNLWGLFXD70K,0000031852,4.0,1392940800\n"
        "00042,B00002X2G4,1.0,1398556800\n",
    )
    found = load("amazon", tmp_path)
    assert rows(found, "item_id", "title", "description", "cover", "video", "audio") == [
        (
            "0000031852",
            'Girls\' "Ballet" Tutu & Zebra <b>Hot</b> Pink',
            "TUtu",
            "http://ecx.images-amazon.com/images/I/51fAmVkTbyL._SY300_.jpg",
            None,
            None,
        ),
        ("0000032069", None, None, None, None, None),
        ("B00002X2G4", "Party \U0001f600", None, None, None, None),
    ]
    assert log(found) == [
        ("A3PMSRCL80KSA1", "0000031852", 1388275200000),
        ("A1SNLWGLFXD70K", "0000031852", 1392940800000),
        ("00042", "B00002X2G4", 1398556800000),
    ]
    assert codes(found) == {"release": 1, "placeholder_cover": 1}
    assert found.notes[0].message == "read as the 2014 release"


def test_2018_ratings_name_the_item_first_and_scripts_taken_for_titles_are_no_titles(tmp_path):
    meta = json_lines(
        {
            "category": [],
            "description": ["Line one &#39;a&#39;", "", "Line two"],
            "title": "Loud Alarm",
            "asin": "6546546450",
            "imageURL": ["https://images-na.ssl-images-amazon.com/images/I/41a._SX38_.jpg"],
            "imageURLHighRes": [],
        },
        {
            "title": "var aPageStart = (new Date()).getTime();",
            "description": [],
            "asin": "7178680776",
            "imageURL": ["https://images-na.ssl-images-amazon.com/images/I/51b._SS40_.jpg"],
            "imageURLHighRes": ["https://images-na.ssl-images-amazon.com/images/I/51b.jpg"],
        },
    )
    write(tmp_path / "meta_All_Beauty.json.gz", meta)
    write(tmp_path / "All_Beauty.csv", "6546546450,A1V6B6TNIC10QE,1.0,1424304000\n")
    found = load("amazon", tmp_path)
    assert rows(found, "item_id", "title", "description", "cover") == [
        (
            "6546546450",
            "Loud Alarm",
            "Line one 'a'\nLine two",
            "https://images-na.ssl-images-amazon.com/images/I/41a._SX38_.jpg",
        ),
        ("7178680776", None, None, "https://images-na.ssl-images-amazon.com/images/I/51b.jpg"),
    ]
    assert log(found) == [("A1V6B6TNIC10QE", "6546546450", 1424304000000)]
    assert codes(found) == {"release": 1, "script_title": 1}


def test_ratings_whose_columns_are_the_other_way_round_are_told_by_the_products(tmp_path):
    write(tmp_path / "meta_All_Beauty.json", json_lines({"asin": "6546546450", "title": "x"}))
    write(tmp_path / "All_Beauty.csv", "A1V6B6TNIC10QE,6546546450,1.0,1424304000\n")
    found = load("amazon", tmp_path)
    assert log(found) == [("A1V6B6TNIC10QE", "6546546450", 1424304000000)]
    assert codes(found)["items_first"] == 1


def test_the_fields_of_2014_are_brand_first_way_of_categories_and_price(tmp_path):
    first = PRODUCTS_2014[0] | {"categories": [["Sports &amp; Outdoors", "Dance"], ["Clothing"]]}
    write(tmp_path / "meta_Sports.json", python_lines(first, *PRODUCTS_2014[1:]))
    assert rows(load("amazon", tmp_path), "brand", "categories", "price") == [
        ("Coxlures", ["Sports & Outdoors", "Dance"], 3.17),
        (None, None, None),
        (None, None, None),
    ]


def test_the_fields_of_2018_have_features_and_prices_of_one_number_alone(tmp_path):
    prices = ["$1,299.00", "$5.00 - $9.99", "", ".a-box-inner{background-color:#fff}", "$7"]
    meta = json_lines(
        *({"asin": str(n), "price": price, "category": ["A", "B"]} for n, price in enumerate(prices)),
        {"asin": "x", "brand": " ", "feature": ["Soft", " "], "category": []},
    )
    write(tmp_path / "meta_Toys.json", meta)
    write(tmp_path / "Toys.csv", "only,A1,5.0,1424304000\n")
    found = load("amazon", tmp_path)
    assert [row[0] for row in rows(found, "price")] == [1299, None, None, None, 7, None, None]
    assert rows(found, "brand", "categories", "features")[4:] == [
        (None, ["A", "B"], None),
        (None, None, ["Soft"]),
        (None, None, None),
    ]
    assert codes(found)["odd_price"] == 2


@pytest.mark.parametrize("as_json", [False, True])
def test_the_fields_of_2023_have_the_brand_of_the_details_else_the_store(tmp_path, as_json):
    def product(asin: str, details: dict, **more: object) -> dict:
        return {"parent_asin": asin, "details": json.dumps(details) if as_json else details, **more}

    meta = json_lines(
        product("1", {"Brand": "Acme"}, store="Shop", price=9.5, categories=["A"], features=["F"]),
        product("2", {"Size": "L"}, store="Shop", price="None", author={"name": "Ann", "about": []}),
        product("3", {}, store=None, price="from 9.99", author="Bob"),
    )
    write(tmp_path / "meta_Books.jsonl", meta)
    found = load("amazon", tmp_path)
    assert rows(found, "brand", "price", "categories", "features", "author") == [
        ("Acme", 9.5, ["A"], ["F"], None),
        ("Shop", None, None, None, "Ann"),
        (None, None, None, None, "Bob"),
    ]
    assert codes(found)["odd_price"] == 1


def image(variant: str, **sizes: str | None) -> dict:
    return {"thumb": None, "large": None, "hi_res": None, "variant": variant, **sizes}


def test_2023_takes_the_largest_size_of_the_main_image_and_only_videos_that_are_files(tmp_path):
    at = "https://m.media-amazon.com/images/I/"
    meta = json_lines(
        {
            "parent_asin": "B01CUPMQZE",
            "title": "Howard LC0008",
            "description": [],
            "images": [
                image("PT01", hi_res=at + "p.jpg"),
                image("MAIN", thumb=at + "t.jpg", large=at + "l.jpg"),
            ],
            "videos": [
                {"title": "How", "url": "https://www.amazon.com/vdp/0c6?ref=dp", "user_id": "/shop/x"}
            ],
        },
        {
            "parent_asin": "B07G9GWFSM",
            "title": "",
            "images": [image("MAIN", large=at + "l2.jpg", hi_res=at + "h2.jpg")],
            "videos": [{"title": "How", "url": "https://m.media-amazon.com/S/v.MP4?x=1"}],
        },
        {"parent_asin": "B0719KWG8H", "title": "Only parts", "images": [image("PT02", thumb=at + "t3.jpg")]},
        # As Hugging Face tables write the same: an object of lists.
        {
            "parent_asin": "B000000001",
            "images": {
                "hi_res": [None, at + "h4.jpg"],
                "large": [at + "l4.jpg"] * 2,
                "variant": ["PT01", "MAIN"],
            },
            "videos": {"title": [], "url": [], "user_id": []},
        },
        {"parent_asin": "B000000002", "images": [image("MAIN", hi_res="//cdn/x.jpg")]},
    )
    write(tmp_path / "meta_All_Beauty.jsonl.gz", meta)
    write(
        tmp_path / "All_Beauty.csv.gz",
        "user_id,parent_asin,rating,timestamp\nAGKH,B01CUPMQZE,5.0,1588687728923\nAGKH,B0NOTHERE1,1.0,1588615855070\n",
    )
    found = load("amazon", tmp_path)
    assert rows(found, "item_id", "title", "cover", "video") == [
        ("B01CUPMQZE", "Howard LC0008", at + "l.jpg", None),
        ("B07G9GWFSM", None, at + "h2.jpg", "https://m.media-amazon.com/S/v.MP4?x=1"),
        ("B0719KWG8H", "Only parts", at + "t3.jpg", None),
        ("B000000001", None, at + "h4.jpg", None),
        ("B000000002", None, None, None),
        ("B0NOTHERE1", None, None, None),
    ]
    assert log(found) == [
        ("AGKH", "B01CUPMQZE", 1588687728923),
        ("AGKH", "B0NOTHERE1", 1588615855070),
    ]
    assert codes(found) == {"release": 1, "video_page": 1, "odd_url": 1, "only_interactions": 1}


def test_reviews_as_json_lines_give_the_same_interactions(tmp_path):
    write(tmp_path / "meta_Baby.json", python_lines({"asin": "0001", "categories": []}))
    review = {
        "reviewerID": "A1",
        "asin": "0001",
        "overall": 5.0,
        "unixReviewTime": 1388275200,
        "reviewText": "x",
    }
    lines = json_lines(review) + "not json\n" + json_lines({**review, "reviewerID": "A2"})
    write(tmp_path / "reviews_Baby_5.json.gz", lines)
    found = load("amazon", tmp_path)
    assert log(found) == [("A1", "0001", 1388275200000), ("A2", "0001", 1388275200000)]
    assert codes(found)["malformed_review"] == 1

    write(tmp_path / "meta_Toys.jsonl", json_lines({"parent_asin": "0001", "title": "x"}))
    review = {"user_id": "A1", "asin": "0009", "parent_asin": "0001", "timestamp": 1588687728923}
    write(tmp_path / "Toys.jsonl", json_lines(review))
    assert log(load("amazon", tmp_path / "meta_Toys.jsonl")) == [("A1", "0001", 1588687728923)]


def test_ratings_are_kept_of_every_release(tmp_path):
    write(tmp_path / "meta_A.json", python_lines({"asin": "0001", "title": "x", "categories": [[]]}))
    write(tmp_path / "ratings_A.csv", "A1,0001,4.0,1388275200\n")
    assert ratings(load("amazon", tmp_path / "meta_A.json")) == [4.0]
    review = {"reviewerID": "A1", "asin": "0001", "unixReviewTime": 1388275200}
    write(tmp_path / "B_5.json", json_lines({**review, "overall": 5}, review))
    assert ratings(load("amazon", tmp_path / "meta_A.json", interactions="B_5.json")) == [5.0, None]
    write(tmp_path / "C.csv", "user_id,parent_asin,rating,timestamp\nA1,0001,2.5,1588687728923\n")
    assert ratings(load("amazon", tmp_path / "meta_A.json", interactions="C.csv")) == [2.5]


def test_products_that_come_again_are_taken_once_and_broken_lines_are_counted(tmp_path):
    first = {"asin": "1", "title": "a", "category": []}
    lines = [json.dumps(first), json.dumps(first), json.dumps({**first, "title": "b"})]
    lines += ["", '{"asin": "2"', json.dumps({"title": "no id"}), "__import__('os').getcwd()"]
    write(tmp_path / "meta_X.json", "\n".join(lines))
    found = load("amazon", tmp_path)
    assert rows(found, "item_id", "title") == [("1", "a")]
    assert codes(found) == {"release": 1, "repeated_item": 1, "item_clash": 1, "malformed_line": 3}
    malformed = next(note for note in found.notes if note.code == "malformed_line")
    assert malformed.examples == ("line 5", "line 6", "line 7")
    assert found.interactions is None


def test_the_year_can_be_given_where_the_first_product_does_not_tell(tmp_path):
    meta = write(tmp_path / "meta_X.json", json_lines({"asin": "1", "imUrl": "http://a.com/1.jpg"}))
    assert rows(load("amazon", meta, year=2014), "cover") == [("http://a.com/1.jpg",)]
    assert rows(load("amazon", meta, year="2018"), "cover") == [(None,)]
    with pytest.raises(DatasetError, match="no product of the 2023 release") as error:
        load("amazon", meta, year=2023)
    assert error.value.hint
    with pytest.raises(DatasetError, match="no release of the year 2020") as error:
        load("amazon", meta, year=2020)
    assert error.value.hint == "Give 2014, 2018 or 2023."


def test_a_folder_of_several_categories_or_several_logs_is_refused_with_what_to_name(tmp_path):
    line = json_lines({"asin": "1", "title": "x"})
    write(tmp_path / "meta_A.json", line)
    write(tmp_path / "meta_A.json.gz", line)
    for name in ("A.csv", "A_5.json.gz"):
        write(tmp_path / name, "")
    with pytest.raises(DatasetError, match=r"several files of interactions: A\.csv, A_5\.json\.gz") as error:
        load("amazon", tmp_path)
    assert error.value.hint and "--option interactions=A.csv" in error.value.hint
    write(tmp_path / "meta_B.json", line)
    with pytest.raises(DatasetError, match=r"several categories: meta_A\.json, meta_B\.json") as error:
        load("amazon", tmp_path)
    assert error.value.hint == f"Name one: --root {tmp_path / 'meta_A.json'}."
    other = tmp_path / "reviews"
    other.mkdir()
    write(other / "A.csv", "1,U,5.0,1424304000\n")
    assert log(load("amazon", tmp_path / "meta_A.json", interactions="reviews/A.csv")) == [
        ("U", "1", 1424304000000)
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.txt", b"x", "There are no products"),
        ("meta_X.json", b"reviewerID,asin\n", "does not begin with a product"),
        ("meta_X.json", b'{"reviewerID": "A"}\n', "does not begin with a product"),
        ("meta_X.json.gz", b"not gzip", "Cannot read"),
    ],
)
def test_what_is_no_amazon_release_is_refused_with_a_hint(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=message) as error:
        load("amazon", tmp_path)
    assert error.value.hint


def test_files_cut_short_are_refused_not_read_in_part(tmp_path):
    lines = json_lines(*({"asin": str(n), "title": "x" * n} for n in range(500)))
    whole = gzip.compress(lines.encode())
    (tmp_path / "meta_X.json.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match="Cannot read") as error:
        load("amazon", tmp_path)
    assert error.value.hint and "downloaded again" in error.value.hint

    write(tmp_path / "meta_X.json", lines)
    ratings = gzip.compress("".join(f"{n},U,5.0,1424304000\n" for n in range(500)).encode())
    (tmp_path / "X.csv.gz").write_bytes(ratings[: len(ratings) // 2])
    with pytest.raises(DatasetError, match="Cannot read") as error:
        load("amazon", tmp_path)
    assert error.value.hint


def test_reading_products_holds_their_texts_once(tmp_path, monkeypatch):
    monkeypatch.setattr("mmfeat.datasets.amazon_items._BATCH", 100)
    text = "x" * 10_000
    records = (
        {"asin": str(n), "title": "t", "description": [text + str(n)], "related": [text]} for n in range(2000)
    )
    path = write(tmp_path / "meta_X.json.gz", json_lines(*records))
    tracemalloc.start()
    products = Products(2018)
    products.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # 20 MB of descriptions go to Arrow in batches of 1 MB; Python never holds more than a few.
    assert len(products.ids) == 2000
    assert peak < 6e6
    assert products.table()["description"][1999].as_py() == text + "1999"
