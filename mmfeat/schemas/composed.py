"""Texts composed of several that an item has: by a template of one's own, or by a recipe with a name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmfeat.schemas.frozen import Frozen
from mmfeat.schemas.inputs import TextPrepare
from mmfeat.schemas.templates import fill, names_of


class ComposedText(Frozen):
    """How one text is made of several, in the notation of :mod:`mmfeat.schemas.templates`.

    Attributes:
        one_line: whether each line break becomes a space at last.
        prepare: how the whole is made ready for the method.
    """

    template: str
    one_line: bool = False
    prepare: TextPrepare | None = None

    @property
    def names(self) -> dict[str, bool]:
        """What it is made of, in order, and whether an item may lack it."""
        return names_of(self.template)

    def filled(self, texts: Sequence[str | None]) -> str:
        """The text of one item, given what it has of each of ``names``."""
        text = fill(self.template, dict(zip(self.names, texts, strict=True)))
        return text.replace("\n", " ") if self.one_line else text


@dataclass(frozen=True)
class Recipe:
    """A composed text that a recommender's own code makes.

    Attributes:
        source: the project, its file and the lines that say it.
        differs: what is not the same, for whom it matters.
    """

    template: str
    source: str
    one_line: bool = False
    differs: str = ""


#: By the name that a job gives as ``text``.
RECIPES = {
    "mmrec-text": Recipe(
        "{title? } {brand? } {categories?:{ } }{description? }",
        "MMRec, preprocessing/3feat-encoder.ipynb: title, brand, the first path of categories, description",
        one_line=True,
    ),
    "mmm4rec-text": Recipe(
        "{title?:Title: {} ; }{brand?:Brand: {} ; }{description?:Description: {} ; }",
        "MMM4Rec, dataset/amazon-2018/preprocess/utils.py, _parse_text",
        differs="A description of several paragraphs is a Python list there, with brackets and quotes; an "
        "item without all three is described by its ASIN.",
    ),
    "fmrlrec-text": Recipe(
        "{title?:Title: {}\n}{price?!r:Price: {}\n}{brand?:Brand: {}\n}{categories?:Categories: {}}",
        "fMRLRec, datasets/amazon.py, generate_embeddings",
        differs="An item without all four is 'Untitled Item' there.",
    ),
    "rqvae-recommender-text": Recipe(
        "Title: {title?nan}; Brand: {brand?Unknown}; Categories: {categories!r}; Price: {price?nan!r}; ",
        "RQ-VAE-Recommender, data/amazon.py, lines 120 to 148",
    ),
    "hllm-text": Recipe(
        "Compress the following sentence into embedding: "
        "{title?:title: {}}{tag?:tag: {}}{description?:description: {}}",
        "HLLM, code/REC/data/dataset/batchset.py, process_item, with code/overall/LLM_deepspeed.yaml",
    ),
    "molar-text": Recipe(
        "Compress the following sentence and picture into embedding: "
        "{title?:\ntitle: {}}{tag?:\ntag: {}}{description?:\ndescription: {}}",
        "Molar, code/REC/data/dataset/batchset_v.py, process_item, with code/overall/LLM_deepspeed.yaml",
        differs="Its model sees the item's picture before the text.",
    ),
}


def composed_text(said: str) -> ComposedText:
    """What ``text = "..."`` of a feature says: a recipe by name, or a template with names in braces.

    Raises:
        ValueError: neither, or a template that cannot be read.
    """
    if recipe := RECIPES.get(said):
        return ComposedText(template=recipe.template, one_line=recipe.one_line)
    if not names_of(said):
        raise ValueError(
            f"text names nothing in braces, such as {{title}}, and {said!r} is no recipe; "
            f"there are: {', '.join(RECIPES)}"
        )
    return ComposedText(template=said)
