"""Tiny random models of sound in folders as the hub has them, and their vectors upstream."""

import torch
import transformers
from transformers import AutoFeatureExtractor, AutoModel

from helpers.sound_checks import chord
from helpers.sound_models import RAW as CONVS
from helpers.sound_models import saved

RATE = 16_000
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
RAW = TINY | CONVS
# Trained with a mask, and a first layer that normalises each step by itself; or without.
MASKED = (RAW | {"feat_extract_norm": "layer"}, {"return_attention_mask": True})
BARE = (RAW | {"feat_extract_norm": "group"}, {"return_attention_mask": False})
WHISPER = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_source_positions": 100,
    "num_mel_bins": 80,
    "vocab_size": 40,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 3,
}
BERT = {**TINY, "feature_projection_input_dim": 160, "conv_depthwise_kernel_size": 5, "vocab_size": 40}
# Model, its configuration, its extractor, and that one's settings.
FAMILIES = {
    "AST": ("ASTModel", {**TINY, "max_length": 64}, "ASTFeatureExtractor", {"max_length": 64}),
    "Whisper": ("WhisperModel", WHISPER, "WhisperFeatureExtractor", {"chunk_length": 2}),
    "wav2vec2-base": ("Wav2Vec2Model", BARE[0], "Wav2Vec2FeatureExtractor", BARE[1]),
    "wav2vec2-large": ("Wav2Vec2Model", MASKED[0], "Wav2Vec2FeatureExtractor", MASKED[1]),
    "HuBERT": ("HubertModel", BARE[0], "Wav2Vec2FeatureExtractor", BARE[1]),
    "HuBERT-large": ("HubertModel", MASKED[0], "Wav2Vec2FeatureExtractor", MASKED[1]),
    "WavLM": ("WavLMModel", BARE[0], "Wav2Vec2FeatureExtractor", {"return_attention_mask": True}),
    "WavLM-large": ("WavLMModel", MASKED[0], "Wav2Vec2FeatureExtractor", MASKED[1]),
    "UniSpeechSat": ("UniSpeechSatModel", MASKED[0], "Wav2Vec2FeatureExtractor", MASKED[1]),
    "data2vec": ("Data2VecAudioModel", RAW, "Wav2Vec2FeatureExtractor", MASKED[1]),
    "conformer": ("Wav2Vec2ConformerModel", MASKED[0], "Wav2Vec2FeatureExtractor", MASKED[1]),
    "Wav2Vec2-BERT": ("Wav2Vec2BertModel", BERT, "SeamlessM4TFeatureExtractor", {}),
}
LENGTHS = (0.4, 1.3, 0.61, 1.3)
SAMPLES = [chord(seconds, RATE, seed) for seed, seconds in enumerate(LENGTHS)]


def family(name, place):
    """A folder with a random model of a family."""
    model, config, extractor, settings = FAMILIES[name]
    kind = getattr(transformers, model)
    return saved(kind, kind.config_class(**config), getattr(transformers, extractor)(**settings), place)


def theirs(place, layer=None, samples=SAMPLES):
    """Of each sound, the pooled states that plain transformers gives of it alone."""
    extractor, model = AutoFeatureExtractor.from_pretrained(place), AutoModel.from_pretrained(place).eval()
    kind = model.config.model_type
    vectors = []
    for sound in samples:
        inputs = extractor(sound, sampling_rate=RATE, return_tensors="pt")
        with torch.inference_mode():
            hear = model.encoder if kind == "whisper" else model
            out = hear(**inputs, output_hidden_states=True)
        state = out.last_hidden_state if layer is None else out.hidden_states[layer]
        if kind == "audio-spectrogram-transformer":
            vectors.append(out.pooler_output if layer is None else state[:, :2].mean(1))
        elif kind == "whisper":
            # A step is two spectra of 10 ms.
            vectors.append(state[:, : -(-len(sound) // 320)].mean(1))
        else:
            # Of an odd number of spectra, Wav2Vec2-BERT's extractor masks the last pair.
            masked = kind == "wav2vec2-bert"
            steps = int(inputs["attention_mask"].sum()) if masked else state.shape[1]
            vectors.append(state[:, :steps].mean(1))
    return torch.cat(vectors).numpy()
