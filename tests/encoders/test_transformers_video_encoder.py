"""Vectors of whole clips: those of transformers' own classes and processors, whatever the batch.

All models are tiny ones with random weights, in folders as the hub has them.
"""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from encoder_checks import MODELS, cosines, encoder, resolve
from safetensors.torch import load_file, save_file

from mmfeat.extract.modalities.decoders.views import render_view
from mmfeat.schemas.errors import ConfigError, MmfeatError
from mmfeat.schemas.media import Frames

SIDE, FRAMES = 32, 4
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SQUARE = {"height": SIDE, "width": SIDE}
CROPPED = {"size": {"shortest_edge": 36}, "crop_size": SQUARE}


def videomae():
    config = transformers.VideoMAEConfig(
        **TINY, image_size=SIDE, patch_size=8, num_frames=FRAMES,
        decoder_hidden_size=16, decoder_num_hidden_layers=1, decoder_num_attention_heads=2,
        decoder_intermediate_size=32, use_mean_pooling=True,
    )  # fmt: skip
    # Read by no video model: pre-training's decoder lies in the files of most.
    return transformers.VideoMAEForPreTraining(config), transformers.VideoMAEVideoProcessor(**CROPPED)


def vjepa2():
    config = transformers.VJEPA2Config(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=2, patch_size=16, crop_size=SIDE,
        frames_per_clip=FRAMES, pred_hidden_size=24, pred_num_hidden_layers=1, pred_num_attention_heads=2,
    )  # fmt: skip
    return transformers.VJEPA2Model(config), transformers.VJEPA2VideoProcessor(crop_size=SIDE)


def timesformer():
    config = transformers.TimesformerConfig(**TINY, image_size=SIDE, patch_size=8, num_frames=FRAMES)
    return transformers.TimesformerModel(config), transformers.TimesformerVideoProcessor(**CROPPED)


def vivit():
    config = transformers.VivitConfig(**TINY, image_size=SIDE, tubelet_size=[2, 16, 16], num_frames=FRAMES)
    return transformers.VivitModel(config), transformers.VivitVideoProcessor(**CROPPED)


def videoprism_config():
    return transformers.VideoPrismVisionConfig(
        hidden_size=32, num_attention_heads=2, intermediate_size=64, image_size=SIDE,
        tubelet_size=[1, 16, 16], num_frames=FRAMES, num_spatial_layers=1, num_temporal_layers=1,
        num_auxiliary_layers=1,
    )  # fmt: skip


def videoprism():
    model = transformers.VideoPrismVisionModel(videoprism_config())
    return model, transformers.LlavaOnevisionVideoProcessor(size=SQUARE)


def videoprism_lvt():
    text = {**TINY, "vocab_size": 64, "max_position_embeddings": 8}
    config = transformers.VideoPrismConfig(text_config=text, vision_config=videoprism_config().to_dict())
    return transformers.VideoPrismClipModel(config), transformers.LlavaOnevisionVideoProcessor(size=SQUARE)


def xclip():
    vision = {
        **TINY, "image_size": SIDE, "patch_size": 16, "num_frames": FRAMES, "mit_hidden_size": 32,
        "mit_intermediate_size": 64, "mit_num_hidden_layers": 1, "mit_num_attention_heads": 2,
    }  # fmt: skip
    text = {**TINY, "vocab_size": 64, "max_position_embeddings": 8}
    config = transformers.XCLIPConfig(
        text_config=text, vision_config=vision, projection_dim=32, prompt_num_attention_heads=2
    )
    return transformers.XCLIPModel(config), transformers.VideoMAEImageProcessor(**CROPPED)


def pe_video():
    core = {
        "architecture": "vit_pe_core_tiny_patch16_384",
        "model_args": {"embed_dim": 32, "depth": 1, "num_heads": 2, "img_size": SIDE},
        "num_classes": 16,
        "do_pooling": True,
    }
    video = {
        **TINY, "head_dim": 16, "vision_config": core, "max_position_embeddings": 64,
    }  # fmt: skip
    text = {**TINY, "model_type": "modernbert", "vocab_size": 64, "pad_token_id": 0}
    config = transformers.PeVideoConfig(text_config=text, video_config=video)
    processor = transformers.PeVideoVideoProcessor(
        size=SQUARE, do_resize=True, do_rescale=True, do_normalize=True, do_sample_frames=False,
        image_mean=[0.5] * 3, image_std=[0.5] * 3,
    )  # fmt: skip
    return transformers.PeVideoModel(config), processor


KINDS = [videomae, vjepa2, timesformer, vivit, videoprism, videoprism_lvt, xclip, pe_video]
TOKENS_MEAN = {"videomae", "vjepa2", "videoprism"}
CLS = {"timesformer", "vivit"}


def random_weights(model):
    """Of every layer, also where a new model has zeros or ones, so that each is seen in the vectors."""
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    return model.eval()


def word_tokenizer():
    """Words by number, of which the last one ends a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["<pad>", "<unk>", "a", "red", "blue", "ball", "rolls", "left", "right", "<end>"]
    tokens = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    tokens.post_processor = processors.TemplateProcessing("$A <end>", special_tokens=[("<end>", 9)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokens, pad_token="<pad>", unk_token="<unk>", eos_token="<end>"
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Each tiny model's folder; made when it is asked for."""
    place, made = tmp_path_factory.mktemp("videos"), {}

    def folder(kind):
        if kind.__name__ not in made:
            model, processor = kind()
            made[kind.__name__] = place / kind.__name__
            random_weights(model).save_pretrained(place / kind.__name__)
            processor.save_pretrained(place / kind.__name__)
            word_tokenizer().save_pretrained(place / kind.__name__)
        return made[kind.__name__]

    return folder


def clips(number=3, frames=FRAMES):
    """uint8 ``[frames, height, width, 3]`` in several shapes; of blocks, where resizing differs least."""
    found = []
    for i in range(number):
        coarse = np.random.default_rng(i).integers(0, 256, (frames, 6, 5 + i, 3), dtype=np.uint8)
        found.append(coarse.repeat(12, axis=1).repeat(10, axis=2))
    return found


def shown(spec, clip):
    """The frames as the spec's view shows them."""
    pixels = np.stack([render_view(frame, spec.pixels.view) for frame in clip])
    return Frames(pixels, tuple(float(i) for i in range(len(clip))))


def theirs(name, folder, clip):
    """One clip's vector by the classes of transformers, as their documentation uses them."""
    if name == "xclip":
        processor = transformers.AutoImageProcessor.from_pretrained(folder)
        inputs = processor([list(clip)], return_tensors="pt")
    else:
        processor = transformers.AutoVideoProcessor.from_pretrained(folder)
        plain = {"do_normalize": False} if name.startswith("videoprism") else {}
        inputs = processor([clip], return_tensors="pt", do_sample_frames=False, **plain)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        if name in TOKENS_MEAN:
            return model(**inputs).last_hidden_state.mean(1)[0].numpy()
        if name in CLS:
            return model(**inputs).last_hidden_state[0, 0].numpy()
        if name == "pe_video":
            words = torch.tensor([[1, 2, 3]])
            return (
                model(input_ids=words, attention_mask=torch.ones_like(words), **inputs)
                .video_embeds[0]
                .numpy()
            )
        return model.get_video_features(**inputs).pooler_output.flatten().numpy()


def loaded(folder, **options):
    return encoder(source="video", encoder="transformers_video", model=str(folder), **options)


def resolved(folder, **options):
    return resolve(source="video", encoder="transformers_video", model=str(folder), **options)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_vectors_are_those_of_transformers_alone_and_in_mixed_batches(folders, kind):
    folder = folders(kind)
    # As they come out of the model: lengths are compared too.
    model = loaded(folder, frames=FRAMES, normalize=False)
    prepared = [shown(model.spec, clip) for clip in clips()]
    expected = np.stack([theirs(kind.__name__, folder, clip) for clip in clips()])
    together = model.encode_clips(prepared)
    alone = np.concatenate([model.encode_clips([clip]) for clip in prepared])
    backwards = model.encode_clips(prepared[::-1])[::-1]
    for found in (together, alone, backwards):
        assert cosines(found, expected).min() >= 0.9999
    # Vectors of random networks lie close together: what is left of them without their mean agrees as well.
    assert cosines(together - expected.mean(0), expected - expected.mean(0)).min() >= 0.99


@pytest.mark.parametrize("kind", [videomae, vjepa2, vivit], ids=lambda kind: kind.__name__)
def test_a_clip_played_backwards_has_another_vector(folders, kind):
    model = loaded(folders(kind))
    clip = shown(model.spec, clips(1)[0])
    reversed_clip = Frames(clip.pixels[::-1].copy(), clip.times)
    forwards, backwards = model.encode_clips([clip, reversed_clip])
    assert np.abs(forwards - backwards).max() > 1e-3 * np.abs(forwards).max()


def test_the_mean_of_its_frames_is_the_same_for_a_clip_played_backwards():
    model = encoder(source="video", encoder="open_clip", model=str(MODELS / "tiny-clip"), frames=FRAMES)
    clip = shown(model.spec, clips(1)[0])
    reversed_clip = Frames(clip.pixels[::-1].copy(), clip.times)
    forwards, backwards = model.encode_clips([clip, reversed_clip])
    np.testing.assert_allclose(forwards, backwards, atol=1e-6)


def test_a_clip_has_the_models_own_number_of_frames_and_short_ones_repeat_some(folders):
    sampling = resolved(folders(videomae), sampling="middle", stride=4).inputs[0].prepare.sampling
    assert (sampling.mode, sampling.count, sampling.stride, sampling.short) == ("middle", 4, 4, "repeat")
    assert resolved(folders(xclip)).inputs[0].prepare.sampling.count == FRAMES
    assert resolved(folders(vjepa2), frames=6).inputs[0].prepare.sampling.count == 6


@pytest.mark.parametrize(
    ("kind", "options", "message", "hint"),
    [
        (videomae, {"frames": 8}, "takes exactly 4 frames, not 8", "Leave frames out."),
        (vjepa2, {"frames": 5}, "takes frames in groups of 2", None),
        (videomae, {"pooling": "cls"}, "has no pooling 'cls'", "It has: mean."),
        (xclip, {"pooling": "mean"}, "has no pooling 'mean'", "It has a head"),
        (videomae, {"sampling": "scenes"}, "another number of frames", "leave sampling out"),
        (videomae, {"sampling": "uniform", "stride": 2}, "stride is given for sampling 'middle'", None),
        (videomae, {"hidden_states": True}, "no option 'hidden_states'", "pooling"),
    ],
)
def test_a_setting_that_cannot_be_carried_out_is_refused(folders, kind, options, message, hint):
    with pytest.raises(ConfigError, match=message) as raised:
        resolved(folders(kind), **options)
    assert hint is None or hint in raised.value.hint


def test_a_model_of_pictures_is_refused_with_the_encoder_that_reads_it():
    with pytest.raises(ConfigError, match="not known to take clips") as raised:
        resolved(MODELS / "tiny-dino")
    assert 'encoder = "transformers"' in raised.value.hint


def test_a_clip_of_another_number_of_frames_is_never_encoded(folders):
    model = loaded(folders(videomae))
    with pytest.raises(MmfeatError, match="wants 4 frames of 32 x 32"):
        model.encode_clips([shown(model.spec, clips(1, frames=3)[0])])


def test_cls_and_mean_are_two_features_of_the_same_tokens(folders):
    folder = folders(timesformer)
    model = loaded(folder, pooling="mean")
    clip = clips(1)[0]
    inputs = transformers.AutoVideoProcessor.from_pretrained(folder)([clip], return_tensors="pt")
    with torch.inference_mode():
        states = transformers.AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state
    found = model.encode_clips([shown(model.spec, clip)])
    assert cosines(found, states.mean(1).numpy()).min() >= 0.9999
    assert resolved(folder).fingerprint != model.spec.fingerprint


def with_weights(folder, place, change):
    """A copy of a folder whose weights have other names."""
    shutil.copytree(folder, place)
    weights = {}
    for name, value in load_file(place / "model.safetensors").items():
        new = change(name)
        if new is not None:
            weights[new] = value
    save_file(weights, place / "model.safetensors", {"format": "pt"})
    return place


# The hub's names of the biases, and those of the layers of transformers 5.
BIASES = {"q_bias": "query.bias", "v_bias": "value.bias"}


def test_videomaes_biases_are_found_by_both_of_their_names(folders, tmp_path):
    folder = folders(videomae)
    hubs = load_file(folder / "model.safetensors")
    assert any(name.endswith("attention.q_bias") and value.abs().max() > 0 for name, value in hubs.items())

    def renamed(name):
        return next((name.replace(was, new) for was, new in BIASES.items() if name.endswith(was)), name)

    model, other = loaded(folder), loaded(with_weights(folder, tmp_path / "renamed", renamed))
    clip = shown(model.spec, clips(1)[0])
    np.testing.assert_array_equal(model.encode_clips([clip]), other.encode_clips([clip]))


def test_videomae_without_its_biases_is_refused_and_not_computed_with_zeros(folders, tmp_path):
    """What transformers 5.0 to 5.23 made of the hub's files: biases of zero, without an error."""

    def lost(name):
        return name.replace("q_bias", "q_lost").replace("v_bias", "v_lost")

    broken = with_weights(folders(videomae), tmp_path / "broken", lost)
    with pytest.raises(ConfigError, match=r"lack .*bias.*would be random or zero"):
        loaded(broken)


def test_the_text_tower_of_x_clip_gives_the_vectors_of_transformers(folders):
    folder = folders(xclip)
    model = loaded(folder)
    texts = ["a red ball rolls left", "a ball"]
    query = model.query("text")
    inputs = word_tokenizer()(texts, padding=True, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.inference_mode():
        own = transformers.AutoModel.from_pretrained(folder).eval().get_text_features(**inputs).pooler_output
    found = query.encode(texts)
    assert cosines(found, own.numpy()).min() >= 0.9999
    assert found.shape[1] == model.spec.dims
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("kind", [videoprism_lvt, pe_video], ids=lambda kind: kind.__name__)
def test_other_towers_of_texts_give_vectors_beside_the_clips(folders, kind):
    model = loaded(folders(kind), frames=FRAMES)
    found = model.query("text").encode(["a red ball", "a blue ball rolls right"])
    assert found.shape == (2, model.spec.dims)
    assert cosines(found[:1], found[1:]).max() < 0.9999


def test_a_model_without_a_text_tower_cannot_be_searched_by_text(folders):
    assert loaded(folders(videomae)).query("text") is None


def test_frames_that_no_view_expresses_go_through_the_models_own_processor(folders, tmp_path):
    folder = tmp_path / "uneven"
    shutil.copytree(folders(videomae), folder)
    file = folder / "video_preprocessor_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, "do_resize": False}))
    model = loaded(folder)
    assert model.spec.pixels.view.mode == "bound"
    expected = np.stack([theirs("videomae", folder, clip) for clip in clips()])
    found = model.encode_clips([shown(model.spec, clip) for clip in clips()])
    assert cosines(found, expected).min() >= 0.9999
