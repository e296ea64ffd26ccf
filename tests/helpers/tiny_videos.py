"""Tiny random models of whole clips in folders as the hub has them, and their vectors upstream."""

import numpy as np
import torch
import transformers

from mmfeat.extract.modalities.decoders.views import render_view
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


def saved(kind, place):
    """A folder with a tiny model of a kind."""
    model, processor = kind()
    random_weights(model).save_pretrained(place)
    processor.save_pretrained(place)
    word_tokenizer().save_pretrained(place)
    return place


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
