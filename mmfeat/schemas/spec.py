"""What decides a feature's values, and the fingerprint that names it.

A :class:`FeatureConfig` is what a person writes in a job file. A method *resolves* it to a
:class:`FeatureSpec`, in which nothing that changes a value is left implicit: weights by digest or
revision, preparation of every input in full, pooling, prompt text, number types. The fingerprint is the
SHA-256 of the spec's canonical JSON; batch size, device, engine and worker counts are not part of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, StringConstraints, model_serializer, model_validator

from mmfeat.schemas import first_format
from mmfeat.schemas.composed import ComposedText, composed_text
from mmfeat.schemas.frozen import Frozen
from mmfeat.schemas.inputs import Input, PixelPrepare
from mmfeat.schemas.outputs import CodesOut, Output, TextOut, TokenDtype, TokensOut, VectorOut, VectorsOut
from mmfeat.schemas.templates import names_of

FeatureName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
ComputeDtype = Literal["float32", "bfloat16", "float16"]
Pooling = Literal["default", "cls", "mean", "attention"]

#: The key of a feature's table that names its method, by the kind of method.
METHOD_KINDS = ("encoder", "captioner", "transcriber", "ocr", "quantizer", "transform")

#: The method of vectors that were imported.
IMPORTED = "import"

_Settings = TypeVar("_Settings", bound=BaseModel)


class Weights(Frozen):
    """Which weights, and where they come from.

    Attributes:
        origin: ``hub`` (Hugging Face), ``folder`` (local), ``package`` (shipped in a Python
            package), ``server`` (whatever it calls ``ref``), ``random`` (seeded initialisation, for
            measuring speed only), ``fitted`` (to the vectors of the feature that is read) or ``imported``
            (the vectors themselves, which others made).
        ref: hub id, pretrained tag, package name, or ``seed=N`` for random and fitted weights.
        revision: hub commit, if there is one.
        digest: ``sha256:...`` of a package's weight file, of the file of imported vectors, or of all files of
            a folder that loading it may read: a tokenizer decides values too.
        location: local path to load from. Not part of the fingerprint: the digest is.
    """

    origin: Literal["hub", "folder", "package", "server", "random", "fitted", "imported"]
    ref: str
    revision: str | None = None
    digest: str | None = None
    location: str | None = None


class Prompt(Frozen):
    """A named, versioned prompt; its text is part of the spec.

    Attributes:
        text: what is asked; a name in braces stands for what differs from item to item, and with a
            question mark (``{title?}``) for what an item may lack.
        reply_schema: canonical JSON of the JSON Schema that a reply must satisfy; None for free text.
    """

    name: str
    version: int
    text: str
    reply_schema: str | None = None

    @property
    def variables(self) -> dict[str, bool]:
        """The names in braces, and whether each is optional."""
        return names_of(self.text)


class Decoding(Frozen):
    """How a language model picks tokens. ``temperature`` 0 is greedy."""

    max_new_tokens: int = Field(default=128, gt=0)
    temperature: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class Summary(Frozen):
    """How the captions of a clip's scenes become one text: a question without pictures, to the same model."""

    prompt: Prompt
    decoding: Decoding


class Quantization(Frozen):
    """How vectors became codes.

    Attributes:
        levels: codes per item, coarse to fine, without the collision level.
        codebook_size: a code is at least 0 and below this.
        collision_level: whether a last code tells items apart whose other codes are the same.
        collisions: in which order colliding items are numbered: ``popularity`` (interactions, most first),
            or by id where None.
        sinkhorn_epsilon: of LC-Rec's rule, by which the last level tells items apart whose codes are the
            same; None if it does not.
        mode: how several sources become codes: ``concat`` (one vector of theirs, each normalised and times
            its weight) or ``parallel`` (codebooks for each); None if one feature is read.
        weights: of the sources of a concatenation; all 1 if None.
        parts: dims of each source where each has codebooks of its own.
        fit_sample: vectors that the codebooks are fitted to at most, drawn by the seed; all where None.
        data_digest: of codes of the first format, ``sha256:...`` of the ids and vectors that the codebooks
            were fitted to. Others name the codebooks themselves, in the digest of their weights.
    """

    levels: int = Field(gt=0)
    codebook_size: int = Field(gt=0)
    seed: int = Field(ge=0, lt=2**31)
    collision_level: bool
    collisions: Literal["popularity"] | None = None
    sinkhorn_epsilon: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    mode: Literal["concat", "parallel"] | None = None
    weights: tuple[float, ...] | None = None
    parts: tuple[int, ...] | None = None
    fit_sample: int | None = Field(default=None, gt=0)
    data_digest: str | None = None

    @property
    def code_levels(self) -> int:
        """Codes per item without the collision level."""
        return self.levels * len(self.parts or (0,))


class FeatureSpec(Frozen):
    """Everything that decides a feature's values. See the module docstring.

    Specs of the first format, which had one source and flat fields, are read and keep their fingerprints
    (:mod:`mmfeat.schemas.first_format`).

    Attributes:
        name: what the feature is called in this store; not part of the fingerprint.
        inputs: what is read, in the order that the content hash has.
        output: what an item gets.
        method: registry name of the encoder, captioner, quantizer or transform; ``import`` of imported ones.
        method_version: raised whenever our code would give other values for the same settings.
        options: the method's resolved settings, plain JSON types; those that are not set are left out.
        composed: how all the inputs become the one text that the method reads; None if it reads them.
        ablates: fingerprint of the feature of which this one reads the inputs of one modality alone; not part
            of the fingerprint.
    """

    name: FeatureName
    inputs: tuple[Input, ...] = Field(min_length=1)
    output: Output
    method: str
    method_version: int = 1
    model: str
    weights: Weights
    options: dict[str, Any] = Field(default_factory=dict)
    composed: ComposedText | None = None
    # Left out where it is not set: versions before this key read such specs too.
    ablates: str | None = Field(default=None, exclude_if=lambda fingerprint: fingerprint is None)

    @model_validator(mode="before")
    @classmethod
    def _read_first_format(cls, data: Any) -> Any:
        return first_format.read(data) if first_format.is_one(data) else data

    @model_validator(mode="after")
    def _options_are_canonical(self) -> FeatureSpec:
        # Unset options are left out, so that one added later does not rename old versions.
        object.__setattr__(self, "options", _without_none(self.options))
        return self

    def __hash__(self) -> int:
        return hash((self.name, self.fingerprint))

    def identity(self) -> dict[str, Any]:
        """The part of the spec that decides values, as plain JSON types.

        A spec that the first format could express has the identity that it had there.
        """
        body: dict[str, Any] = _without_none(
            {
                "inputs": [one.identity() for one in self.inputs],
                "output": self.output.model_dump(mode="json"),
                **self.model_dump(
                    mode="json",
                    include={"method", "method_version", "model", "weights", "options", "composed"},
                ),
            }
        )
        body["weights"].pop("location", None)
        return first_format.identity(body) or body

    @property
    def fingerprint(self) -> str:
        """SHA-256 hex digest (64 characters) of the canonical JSON of :meth:`identity`."""
        return hashlib.sha256(canonical_json(self.identity()).encode()).hexdigest()

    def settings(self, model: type[_Settings]) -> _Settings:
        """The options as the method's own model of them; what that does not know is left out."""
        return model.model_validate({k: v for k, v in self.options.items() if k in model.model_fields})

    @property
    def sources(self) -> tuple[str, ...]:
        """What is read, in order: columns, their tracks and features."""
        return tuple(one.source for one in self.inputs)

    @property
    def source(self) -> str:
        """For people: what is read, but for what a prompt merely names."""
        return " + ".join(one.source for one in self.inputs if self.composed or not one.named)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities of what is read, but for what a prompt merely names; each once, in order."""
        return tuple(dict.fromkeys(one.modality for one in self.given if not one.named))

    @property
    def given(self) -> tuple[Input, ...]:
        """What the method is given of an item: the inputs, or the one text that they become."""
        if self.composed is None:
            return self.inputs
        return (Input(source=self.source, modality="text", prepare=self.composed.prepare),)

    @property
    def needs_any(self) -> bool:
        """Whether an item may lack each of the inputs, and not all of them."""
        return all(one.optional for one in self.inputs)

    @property
    def upstreams(self) -> dict[str, str]:
        """The features that are read: name to fingerprint."""
        return {one.source: one.upstream for one in self.inputs if one.upstream is not None}

    @property
    def pixels(self) -> PixelPrepare | None:
        """How the first picture or clip that is read is prepared; None if none is."""
        found = (one.prepare for one in self.inputs)
        return next((prepare for prepare in found if isinstance(prepare, PixelPrepare)), None)

    @property
    def prompt(self) -> Prompt | None:
        """What a language model is asked; None if none is."""
        found = self.options.get("prompt")
        return None if found is None else Prompt.model_validate(found)

    @property
    def decoding(self) -> Decoding | None:
        """How a language model picks tokens; None of what no language model writes."""
        found = self.options.get("decoding")
        return None if found is None else Decoding.model_validate(found)

    @property
    def is_fitted(self) -> bool:
        """Whether it is fitted to the values that a store holds of another feature."""
        return self.weights.origin == "fitted"

    @property
    def is_imported(self) -> bool:
        """Whether others made its values, which were taken from a file."""
        return self.weights.origin == "imported"

    @property
    def quantization(self) -> Quantization | None:
        """How vectors became codes; None of anything but codes."""
        found = self.options.get("quantization")
        return None if found is None else Quantization.model_validate(found)

    @property
    def compute_dtype(self) -> ComputeDtype:
        """Number type that the model computes in."""
        dtype: ComputeDtype = self.options.get("compute_dtype", "float32")
        return dtype

    def shares_model(self, other: FeatureSpec) -> bool:
        """Whether both are of one ablation: the features of the same inputs, together and by modality, which
        one loaded model computes."""
        return (self.ablates or self.fingerprint) == (other.ablates or other.fingerprint)

    def with_options(self, **changes: Any) -> FeatureSpec:
        """The same feature with some options changed."""
        return self.model_copy(update={"options": {**self.options, **changes}})

    @property
    def form(self) -> Literal["vector", "tokens", "text", "codes"]:
        """How a value is stored: ``vector`` (``[dims]``, or ``[vectors, dims]``), ``tokens`` (``[n, dims]``,
        ``n`` differs from item to item), ``text``, or ``codes`` (``[levels]`` integers)."""
        return "vector" if isinstance(self.output, VectorsOut) else self.output.kind

    @property
    def kind(self) -> str:
        """What a person calls it: ``vector``, ``vectors`` (several per item), ``tokens``, ``codes``, or the
        text's role: ``caption``, ``tags``, ``json``, ``transcript``, ..."""
        return self.output.role if isinstance(self.output, TextOut) else self.output.kind

    @property
    def role(self) -> str | None:
        """What a text is; None of anything but a text."""
        return self.output.role if isinstance(self.output, TextOut) else None

    @property
    def dims(self) -> int | None:
        """Length of a vector, or codes per item; None of a text."""
        if isinstance(self.output, CodesOut):
            return self.output.levels
        return None if isinstance(self.output, TextOut) else self.output.dims

    @property
    def vectors(self) -> int | None:
        """How many vectors an item has, where it has a fixed number of several."""
        return self.output.count if isinstance(self.output, VectorsOut) else None

    @property
    def store_dtype(self) -> TokenDtype | None:
        """Number type of stored vectors; None of texts and codes."""
        return self.output.dtype if isinstance(self.output, VectorOut | VectorsOut | TokensOut) else None

    @property
    def value_dtype(self) -> Literal["float32", "float16"] | None:
        """Number type of vectors that are looked up; None of texts and codes."""
        return "float32" if self.store_dtype == "int8" else self.store_dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one item's value: ``(dims,)``, ``(vectors, dims)`` or ``()`` of a text; of ``tokens`` the
        shape of one vector."""
        return tuple(n for n in (self.vectors, self.dims) if n is not None)

    @property
    def version(self) -> str:
        """Short name of this version: ``name@`` and the first 8 characters of the fingerprint."""
        return f"{self.name}@{self.fingerprint[:8]}"


class ModelCard(Frozen):
    """What a person should know of a model before using its features.

    Attributes:
        reads: modalities.
    """

    method: str
    model: str
    reads: tuple[str, ...]
    dims: int | None = None
    input_size: tuple[int, int] | None = None
    licence: str
    weights_from: str
    notes: str = ""


class FeatureConfig(Frozen):
    """One ``[features.NAME]`` table of a job file, as a person writes it.

    A table has ``source = "x"``, ``inputs = ["x", "y?"]`` or ``text = "{x}, {y?}"``, a key that names the
    method (``encoder``, ``captioner``, ``transcriber``, ``ocr``, ``quantizer`` or ``transform``), and
    options. Options left out take the method's own default; one that the method does not have is an error,
    never ignored.

    Attributes:
        inputs: what is read; a question mark at the end marks what an item may lack.
        kind: the key that names the method.
        method: its registry name.
        options: the table's other keys, checked when the feature is resolved.
        text: the recipe or template that makes one text of the inputs; None if they are read as they are.
        ablate: whether there is a feature of the inputs of each modality alone beside it.
        base: the folder that relative paths of the options start from; None for the working directory.
    """

    inputs: tuple[str, ...] = Field(min_length=1)
    kind: str
    method: str
    options: dict[str, Any] = Field(default_factory=dict)
    text: str | None = None
    ablate: bool = False
    base: Path | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_table(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or {"kind", "method", "options"} <= set(data):
            return data
        table = {key: value for key, value in data.items() if value is not None}
        kinds = [kind for kind in METHOD_KINDS if kind in table]
        if len(kinds) != 1:
            known = ", ".join(METHOD_KINDS[:-1])
            guess = "" if kinds else _misspelt(table, METHOD_KINDS)
            raise ValueError(f"give exactly one of {known} and {METHOD_KINDS[-1]}{guess}")
        inputs, text = _read_inputs(table)
        method, base = table.pop(kinds[0]), table.pop("base", None)
        ablate = table.pop("ablate", False)
        own = {"method": method, "options": table, "ablate": ablate, "base": base}
        return {"inputs": inputs, "text": text, "kind": kinds[0], **own}

    @property
    def sources(self) -> dict[str, bool]:
        """What is read, and whether each may be lacking."""
        return {name.removesuffix("?"): name.endswith("?") for name in self.inputs}

    @model_serializer
    def table(self) -> dict[str, Any]:
        """The table as it is written in a job file."""
        read: dict[str, Any] = {"inputs": list(self.inputs)}
        if self.text is not None:
            read = {"text": self.text}
        elif len(self.inputs) == 1:
            read = {"source": self.inputs[0]}
        if self.ablate:
            read["ablate"] = True
        return {**read, self.kind: self.method, **self.options}


_READ_BY = ("source", "inputs", "text")


def _read_inputs(table: dict[str, Any]) -> tuple[Any, str | None]:
    """What a table says to read, and the text that this becomes; takes both out of it."""
    given = [key for key in _READ_BY if key in table]
    if len(given) != 1:
        guess = "" if given else _misspelt(table, _READ_BY)
        raise ValueError(f'give one of source = "x", inputs = ["x", "y"] and text = "{{x}}, {{y?}}"{guess}')
    said = table.pop(given[0])
    if given == ["inputs"]:
        return said, None
    if given == ["source"]:
        return [said], None
    if not isinstance(said, str):
        raise ValueError('text is a text, such as "{title}, {brand?}"')
    names = composed_text(said).names
    return [name + "?" * optional for name, optional in names.items()], said


def _misspelt(table: Mapping[str, Any], wanted: Sequence[str]) -> str:
    """Which key of a table was probably meant to be one that is wanted."""
    from mmfeat.schemas.validation import near

    guesses = "".join(near(key, wanted) for key in table)
    return f". {guesses}".rstrip(". ") if guesses else ""


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and UTF-8 text: equal values give equal strings."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def text_hash(text: str) -> str:
    """Content hash of a text: SHA-256 hex of its UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_without_none(v) for v in value]
    return value
