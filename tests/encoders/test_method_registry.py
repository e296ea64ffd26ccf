"""Methods by name, and a job's features in the order that they need each other."""

import itertools
import textwrap

import pytest
from helpers.encoder_checks import MODELS

from mmfeat.extract.base import Captioner, Encoder
from mmfeat.extract.registry import METHODS, class_of, methods, resolve_all
from mmfeat.schemas.catalog import Column
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.spec import FeatureConfig

CLIP = {"encoder": "open_clip", "model": str(MODELS / "tiny-clip")}
COVER = FeatureConfig(source="cover", **CLIP)
TAGS = FeatureConfig(source="cover", captioner="imagenet_tags")
TEXT = {"encoder": "sentence_transformers", "model": "all-MiniLM-L6-v2", "weights": "package"}
CAPTION = {"captioner": "openai", "model": "m"}


def reads(source: str) -> FeatureConfig:
    return FeatureConfig(source=source, **TEXT)


def test_a_feature_comes_after_the_one_it_reads_in_whatever_order_they_are_written():
    configs = {"clip": COVER, "tags": TAGS, "tags_text": reads("tags"), "title_text": reads("title")}
    for names in itertools.permutations(configs):
        specs = resolve_all({name: configs[name] for name in names})
        order = [spec.name for spec in specs]
        assert sorted(order) == sorted(configs)
        assert order.index("tags") < order.index("tags_text")
    in_order = resolve_all({name: configs[name] for name in ("title_text", "clip", "tags", "tags_text")})
    assert [spec.name for spec in in_order] == ["title_text", "clip", "tags", "tags_text"]


def test_a_feature_carries_the_fingerprint_of_the_one_it_reads():
    tags, text = resolve_all({"tags": TAGS, "text": reads("tags")})
    assert text.upstreams == {"tags": tags.fingerprint}
    assert tags.upstreams == {}
    more = FeatureConfig(source="cover", captioner="imagenet_tags", top_k=3)
    _, other = resolve_all({"tags": more, "text": reads("tags")})
    assert other.fingerprint != text.fingerprint


@pytest.fixture
def prompt(tmp_path):
    """Writes a prompt file of a text."""

    def write(text: str, *variables: str) -> str:
        path = tmp_path / "mine.toml"
        path.write_text(f'name = "mine"\nversion = 1\nvariables = {list(variables)}\ntext = "{text}"\n')
        return str(path)

    return write


def test_names_in_a_prompts_braces_become_inputs_by_alphabet_after_what_is_described(prompt):
    path = prompt("{title} {speech} by {brand?}", "title", "speech", "brand")
    columns = {name: Column(name, "text") for name in ("title", "brand", "speech")}
    columns["cover"] = Column("cover", "image")
    config = FeatureConfig(source="cover", **CAPTION, prompt=path)
    (spec,) = resolve_all({"caption": config}, columns)
    assert spec.sources == ("cover", "brand", "speech", "title")
    assert [(one.named, one.optional) for one in spec.inputs] == [
        (False, False), (True, True), (True, False), (True, False)
    ]  # fmt: skip
    assert (spec.source, spec.modalities) == ("cover", ("image",))


def test_a_prompt_may_name_a_feature_that_holds_a_text(prompt):
    described = FeatureConfig(source="cover", **CAPTION, prompt=prompt("Tags: {tags}.", "tags"))
    tags, spec = resolve_all({"caption": described, "tags": TAGS})
    assert (tags.name, spec.upstreams) == ("tags", {"tags": tags.fingerprint})


@pytest.mark.parametrize(
    ("text", "name", "message", "hint"),
    [
        ("{titel}?", "titel", "'caption' reads 'titel', which is neither a column nor a feature", "'title'"),
        ("{video}?", "video", "a prompt names {video}, which is a clip", "Braces can name texts"),
        ("{clip}?", "clip", "a prompt names {clip}, which is a feature of vector", "Braces can name texts"),
    ],
)
def test_a_name_in_braces_that_is_no_text_of_the_item_is_refused(prompt, text, name, message, hint):
    described = FeatureConfig(source="cover", **CAPTION, prompt=prompt(text, name))
    with pytest.raises(ConfigError) as raised:
        resolve_all({"caption": described, "clip": COVER})
    assert message in raised.value.message
    assert hint in raised.value.hint


UNRESOLVABLE = {
    "a misspelt source": (
        {"text": reads("tasg"), "tags": TAGS},
        "'text' reads 'tasg', which is neither",
        "'tags'",
    ),
    "vectors": (
        {"text": reads("clip"), "clip": COVER},
        "'text': encoder 'sentence_transformers' cannot read 'clip', which is a feature of vector",
        "It reads: text, image, video, audio.",
    ),
    "itself": ({"text": reads("text")}, "in a circle: 'text' reads 'text'", None),
    "a circle": (
        {"a": reads("b"), "b": reads("c"), "c": reads("a")},
        "in a circle: 'a' reads 'b' reads 'c' reads 'a'",
        None,
    ),
    "a column's name": ({"cover": COVER}, "'cover' has the name of a column", "Rename"),
    "a misspelt encoder": (
        {"a": FeatureConfig(source="cover", encoder="openclip")},
        "'a': there is no encoder 'openclip'",
        "'open_clip'",
    ),
    "a misspelt option": (
        {"a": FeatureConfig(source="cover", **CLIP, normalise=True)},
        "'a': encoder 'open_clip' has no option 'normalise'",
        "Did you mean 'normalize'?",
    ),
    "an option of another method": (
        {"a": FeatureConfig(source="cover", **CLIP, top_k=3)},
        "'a': encoder 'open_clip' has no option 'top_k'",
        "It has: crop, ",
    ),
    "an option of the wrong type": (
        {"a": FeatureConfig(source="video", **CLIP, frames="many")},
        "'a': frames: takes a whole number",
        None,
    ),
    "what its method cannot read": (
        {"tags": FeatureConfig(source="audio", captioner="imagenet_tags")},
        "'tags': captioner 'imagenet_tags' cannot read 'audio', which is sound",
        "It reads: image, video.",
    ),
    "an input that an item may lack, alone": (
        {"a": FeatureConfig(source="cover?", **CLIP)},
        "'a': an item may lack everything that is read: cover",
        "Take the question mark from one of them.",
    ),
    "an input that is named twice": (
        {"a": FeatureConfig(inputs=["title", "title?"], **TEXT)},
        "'a': inputs names 'title' twice",
        None,
    ),
    "several inputs for a method of one": (
        {"a": FeatureConfig(inputs=["title", "cover"], **CLIP)},
        "'a': encoder 'open_clip' reads one input, and inputs names 2",
        "Make a feature of each.",
    ),
}


@pytest.mark.parametrize(("configs", "message", "hint"), UNRESOLVABLE.values(), ids=list(UNRESOLVABLE))
def test_what_cannot_be_resolved_is_named_with_what_there_is(configs, message, hint):
    with pytest.raises(ConfigError, match=message) as raised:
        resolve_all(configs)
    assert (hint or "") in (raised.value.hint or "")


def test_a_column_that_the_dataset_adds_is_read_by_its_modality():
    columns = {"photos": Column("photos", "image", several=True), "brand": Column("brand", "text")}
    photo, brand = resolve_all({"p": FeatureConfig(source="photos", **CLIP), "b": reads("brand")}, columns)
    assert (photo.inputs[0].modality, photo.inputs[0].prepare.kind) == ("image", "image")
    assert (brand.inputs[0].modality, brand.inputs[0].prepare.kind) == ("text", "text")
    with pytest.raises(ConfigError, match="'p' reads 'cover', which is neither"):
        resolve_all({"p": COVER}, columns)


def test_a_number_alone_is_refused_as_what_it_is():
    with pytest.raises(ConfigError, match="cannot read 'price', which is a number") as refused:
        resolve_all({"p": reads("price")}, {"price": Column("price", "number")})
    assert refused.value.hint == "It reads: text, image, video, audio."


def test_an_encoder_and_a_captioner_may_share_a_name():
    assert issubclass(METHODS["encoder"].get("transformers"), Encoder)
    assert issubclass(METHODS["captioner"].get("transformers"), Captioner)
    with pytest.raises(ConfigError, match="there is no encoder 'imagenet_tags'"):
        METHODS["encoder"].get("imagenet_tags")


def test_every_method_is_listed_with_an_example():
    listed = {(m.kind, m.name): m.example for m in methods()}
    assert set(listed) == {
        ("encoder", "open_clip"),
        ("encoder", "mllm"),
        ("encoder", "decoder_states"),
        ("encoder", "transformers"),
        ("encoder", "transformers_video"),
        ("encoder", "timm"),
        ("encoder", "sentence_transformers"),
        ("encoder", "openai"),
        ("encoder", "vllm"),
        ("encoder", "efficientnet_lite"),
        ("encoder", "clap"),
        ("encoder", "transformers_audio"),
        ("encoder", "yamnet"),
        ("encoder", "decoder_states"),
        ("captioner", "transformers"),
        ("captioner", "imagenet_tags"),
        ("captioner", "yamnet_tags"),
        ("captioner", "openai"),
        ("captioner", "vllm"),
        ("transcriber", "openai"),
        ("transcriber", "whisper"),
        ("ocr", "rapidocr"),
        ("quantizer", "balanced_kmeans"),
        ("quantizer", "opq"),
        ("quantizer", "pq"),
        ("quantizer", "residual_kmeans"),
        ("quantizer", "rqvae"),
        ("transform", "fuse"),
        ("transform", "int8"),
        ("transform", "pca"),
        ("transform", "project"),
        ("transform", "truncate"),
        ("transform", "whiten"),
    }
    for (_, name), card in listed.items():
        assert (card.method, bool(card.licence), bool(card.weights_from)) == (name, True, True)
    assert listed["encoder", "efficientnet_lite"].input_size == (260, 260)
    assert listed["captioner", "imagenet_tags"].dims is None


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Another package that brings an encoder, a captioner of the same name, and what cannot be imported."""
    (tmp_path / "elsewhere.py").write_text(
        textwrap.dedent("""
            from mmfeat.extract.base import Encoder
            from mmfeat.extract.describers.imagenet_tags import ImageNetTags
            from mmfeat.extract.encoders.efficientnet_lite import EfficientNetLite

            class Mine(EfficientNetLite):
                example = EfficientNetLite.example.model_copy(update={"method": "mine"})

            class MineToo(ImageNetTags):
                example = ImageNetTags.example.model_copy(update={"method": "mine"})

            class Either(EfficientNetLite):
                example = EfficientNetLite.example.model_copy(update={"method": "either"})

            class Bare(Encoder):
                pass
        """)
    )
    info = tmp_path / "elsewhere-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[mmfeat.encoders]\nmine = elsewhere:Mine\nbare = elsewhere:Bare\n"
        "[mmfeat.captioners]\nmine = elsewhere:MineToo\n"
        "[mmfeat.models]\neither = elsewhere:Either\nbroken = nowhere:Thing\nopen_clip = elsewhere:Mine\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


def test_another_packages_methods_are_found_by_their_entry_points(plugin):
    configs = {
        "a": FeatureConfig(source="cover", encoder="mine"),
        "b": FeatureConfig(source="cover", captioner="mine"),
        "c": FeatureConfig(source="cover", encoder="either"),
    }
    specs = resolve_all(configs)
    assert [spec.method for spec in specs] == ["mine", "mine", "either"]
    assert [class_of(spec).__name__ for spec in specs] == ["Mine", "MineToo", "Either"]
    with pytest.raises(ConfigError, match=r"'either' \(elsewhere:Either\) is no captioner"):
        METHODS["captioner"].get("either")


def test_a_name_of_our_own_is_not_taken_over_by_another_package(plugin):
    assert METHODS["encoder"].get("open_clip").__module__ == "mmfeat.extract.encoders.open_clip"


def test_a_broken_package_is_listed_with_its_problem_and_hides_nothing(plugin):
    listed = {(m.kind, m.name): m for m in methods()}
    assert listed["encoder", "mine"].example.method == "mine"
    assert ("captioner", "either") not in listed
    broken = [m for m in methods() if m.name == "broken"]
    assert [(m.kind, m.example) for m in broken] == [("encoder", None)]
    assert "No module named 'nowhere'" in broken[0].problem
    assert listed["encoder", "bare"].problem == (
        "elsewhere:Bare has no example, the card of a model that it loads"
    )
    assert listed["encoder", "open_clip"].problem is None
