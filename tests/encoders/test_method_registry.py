"""Methods by name, and a job's features in the order that they need each other."""

import itertools
import textwrap

import pytest
from encoder_checks import MODELS

from mmfeat.extract.base import Captioner, Encoder
from mmfeat.extract.registry import methods, model_class, resolve_all
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.spec import FeatureConfig

COVER = FeatureConfig(source="cover", encoder="open_clip", model=str(MODELS / "tiny-clip"))
TAGS = FeatureConfig(source="cover", captioner="imagenet_tags")


def reads(source: str) -> FeatureConfig:
    return FeatureConfig(
        source=source, encoder="sentence_transformers", model="all-MiniLM-L6-v2", weights="package"
    )


def test_a_feature_comes_after_the_one_it_reads_in_whatever_order_they_are_written():
    configs = {"clip": COVER, "tags": TAGS, "tags_text": reads("tags"), "title": None}
    configs["title_text"] = reads("title")
    del configs["title"]
    for names in itertools.permutations(configs):
        specs = resolve_all({name: configs[name] for name in names})
        order = [spec.name for spec in specs]
        assert sorted(order) == sorted(configs)
        assert order.index("tags") < order.index("tags_text")
    in_order = resolve_all({name: configs[name] for name in ("title_text", "clip", "tags", "tags_text")})
    assert [spec.name for spec in in_order] == ["title_text", "clip", "tags", "tags_text"]


def test_a_feature_carries_the_fingerprint_of_the_one_it_reads():
    tags, text = resolve_all({"tags": TAGS, "text": reads("tags")})
    assert text.upstream == tags.fingerprint
    assert tags.upstream is None
    _, other = resolve_all({"tags": TAGS.model_copy(update={"top_k": 3}), "text": reads("tags")})
    assert other.fingerprint != text.fingerprint


UNRESOLVABLE = {
    "a misspelt source": (
        {"text": reads("tasg"), "tags": TAGS},
        "'text' reads 'tasg', which is neither",
        "'tags'",
    ),
    "vectors": (
        {"text": reads("clip"), "clip": COVER},
        "'text' reads 'clip', which is a vector feature",
        "captioner",
    ),
    "itself": ({"text": reads("text")}, "in a circle: 'text' reads 'text'", None),
    "a circle": (
        {"a": reads("b"), "b": reads("c"), "c": reads("a")},
        "in a circle: 'a' reads 'b' reads 'c' reads 'a'",
        None,
    ),
    "a source's name": ({"cover": COVER}, "'cover' has the name of an item's source", "Rename"),
    "a misspelt encoder": (
        {"a": COVER.model_copy(update={"encoder": "openclip"})},
        "'a': there is no encoder 'openclip'",
        "'open_clip'",
    ),
    "what its method cannot read": (
        {"tags": TAGS.model_copy(update={"source": "audio"})},
        "'tags': captioner 'imagenet_tags' cannot read 'audio'",
        "cover",
    ),
}


@pytest.mark.parametrize(("configs", "message", "hint"), UNRESOLVABLE.values(), ids=list(UNRESOLVABLE))
def test_what_cannot_be_resolved_is_named_with_what_there_is(configs, message, hint):
    with pytest.raises(ConfigError, match=message) as raised:
        resolve_all(configs)
    assert (hint or "") in (raised.value.hint or "")


def test_an_encoder_and_a_captioner_may_share_a_name():
    assert issubclass(model_class("transformers"), Encoder)
    assert issubclass(model_class("transformers", "text"), Captioner)
    with pytest.raises(ConfigError, match="there is no encoder 'imagenet_tags'"):
        model_class("imagenet_tags")


def test_every_method_is_listed_with_an_example():
    listed = {(m.kind, m.name): m.example for m in methods()}
    assert set(listed) == {
        ("encoder", "open_clip"),
        ("encoder", "transformers"),
        ("encoder", "timm"),
        ("encoder", "sentence_transformers"),
        ("encoder", "efficientnet_lite"),
        ("captioner", "transformers"),
        ("captioner", "imagenet_tags"),
        ("captioner", "openai"),
        ("captioner", "vllm"),
    }
    for (_, name), card in listed.items():
        assert (card.method, bool(card.licence), bool(card.weights_from)) == (name, True, True)
    assert listed["encoder", "efficientnet_lite"].input_size == (260, 260)
    assert listed["captioner", "imagenet_tags"].dims is None


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Another package that brings an encoder, and one that cannot be imported."""
    (tmp_path / "elsewhere.py").write_text(
        textwrap.dedent("""
            from mmfeat.extract.encoders.efficientnet_lite import EfficientNetLite

            class Mine(EfficientNetLite):
                example = EfficientNetLite.example.model_copy(update={"method": "mine"})
        """)
    )
    info = tmp_path / "elsewhere-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mmfeat.models]\nmine = elsewhere:Mine\nbroken = nowhere:Thing\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_another_packages_encoder_is_found_by_its_entry_point(plugin):
    spec = resolve_all({"a": FeatureConfig(source="cover", encoder="mine")})[0]
    assert (spec.method, model_class("mine").__name__) == ("mine", "Mine")
    with pytest.raises(ConfigError, match=r"'mine' \(elsewhere:Mine\) is not a captioner"):
        model_class("mine", "text")


def test_a_broken_package_is_listed_with_its_problem_and_hides_nothing(plugin):
    listed = {(m.kind, m.name): m for m in methods()}
    assert listed["encoder", "mine"].example.method == "mine"
    assert ("captioner", "mine") not in listed
    broken = listed["encoder", "broken"]
    assert (broken.example, "No module named 'nowhere'" in broken.problem) == (None, True)
    assert ("encoder", "open_clip") in listed
