"""What pages show of items follows the modality of a column, whatever it is called."""

from mmfeat.datasets.base import build_items
from mmfeat.schemas.catalog import Column
from mmfeat.serve.ui import catalog
from mmfeat.serve.ui.catalog import Media

FURTHER = [
    Column("clip", "video"),
    Column("photos", "image", several=True),
    Column("brand", "text"),
    Column("tags", "text", several=True),
    Column("sound", "audio"),
    Column("price", "number"),
]


def test_the_first_picture_stands_for_an_item_else_its_clip_and_sounds_are_not_drawn():
    photos = {"a": [f"/{n}.jpg" for n in range(9)], "b": None}
    clips = {"a": "/a.mp4", "b": "/b.mp4"}
    sounds = {"c": "/c.wav"}
    items = build_items("abc", {"photos": photos, "clip": clips, "sound": sounds}, FURTHER)
    a, b, c = catalog.some(items, ["a", "b", "c"])
    assert a.picture == Media("photos", "image", ("/0.jpg", "/1.jpg", "/2.jpg", "/3.jpg"))
    assert [media.column for media in a.media] == ["photos", "clip"]
    assert (b.picture, c.picture) == (Media("clip", "video", ("/b.mp4",)), None)
    assert a.location("photos", 1) == ("image", "/1.jpg")
    assert [a.location("photos", 4), a.location("brand", 0), c.location("sound", 0)] == [None, None, None]


def test_the_first_text_is_the_title_and_all_others_are_shown():
    values = {"brand": {"a": "Acme", "b": "Ajax"}, "tags": {"a": ["x", "y"]}}
    items = build_items("ab", values, FURTHER)
    a, b = catalog.some(items, ["a", "b"])
    assert (a.title, a.texts) == ("Acme", (("tags", "x\ny"),))
    assert (b.title, b.texts) == ("Ajax", ())
    assert [i.item_id for i in catalog.page(items, "jax", 0, 10)[0]] == ["b"]
    titled = build_items("a", {**values, "title": {"a": "A"}, "description": {"a": "D"}}, FURTHER)
    (a,) = catalog.some(titled, ["a"])
    assert (a.title, a.texts) == ("A", (("description", "D"), ("brand", "Acme"), ("tags", "x\ny")))


def test_a_number_is_shown_as_a_text_and_is_never_the_title():
    items = build_items("ab", {"price": {"a": 12, "b": 9.5}, "brand": {"b": "Acme"}}, FURTHER)
    a, b = catalog.some(items, ["a", "b"])
    assert (a.title, a.texts) == (None, (("price", "12"),))
    assert (b.title, b.texts) == ("Acme", (("price", "9.5"),))
