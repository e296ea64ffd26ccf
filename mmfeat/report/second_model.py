"""A second model that is asked about captions, with what they describe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmfeat.extract.base import Caption, Method
from mmfeat.report.captions import Captions
from mmfeat.schemas.catalog import Column
from mmfeat.schemas.errors import ConfigError, ItemError, NotAsked
from mmfeat.schemas.spec import FeatureConfig


@dataclass(frozen=True)
class SecondModel:
    """The model to ask: a captioner's name and its model (hub id, folder, or a server's name for it)."""

    captioner: str
    model: str


class Asked:
    """The model, loaded, and one prompt for it; ``questions`` counts what it was asked.

    Args:
        prompt: its file.
        named: what the prompt names in braces.

    Raises:
        ConfigError: no such captioner or model, or one that only a job's executor can run.
    """

    def __init__(self, second: SecondModel, captions: Captions, prompt: Path, named: Sequence[str]) -> None:
        from mmfeat.extract.registry import class_of, load_method, resolve_all

        table = {
            "source": captions.source,
            "captioner": second.captioner,
            "model": second.model,
            "prompt": str(prompt),
        }
        seen = Column(captions.source, captions.modality)
        columns = {seen.name: seen, **{name: Column(name, "text") for name in named}}
        spec = resolve_all({"second_model": FeatureConfig.model_validate(table)}, columns)[0]
        if class_of(spec).runs == "engine":
            raise ConfigError(
                f"a second model runs in this process or on a server; {second.captioner!r} needs the engine "
                "of a job",
                hint="Name a captioner that loads its weights, such as transformers, or one that asks a "
                "server, such as openai.",
            )
        self._captions = captions
        self._method: Method = load_method(spec)
        self.model = spec.model
        self.questions = 0

    def ask(self, at: int, texts: Sequence[Mapping[str, str]]) -> list[Caption | ItemError]:
        """The answers about one item, a question per set of texts.

        Args:
            at: the item's position in the captions.
            texts: what each name of the prompt stands for.

        Raises:
            MmfeatError: the server gives no answer to anybody.
        """
        from mmfeat.extract.fence.decode import MediaRequest, Wanted
        from mmfeat.extract.fence.process import decode_fenced

        inputs = self._method.spec.inputs
        request = MediaRequest(self._captions.locations[at] or "", (Wanted.of(inputs[0]),))
        found = decode_fenced(request, self._captions.limits)
        shown = found.values[0] if found.values else found.failure
        if shown is None or isinstance(shown, ItemError):
            return [shown or ItemError("decode", "there is nothing to show") for _ in texts]
        rows: list[tuple[Any, ...]] = [(shown, *(one[name.source] for name in inputs[1:])) for one in texts]
        self.questions += len(rows)
        answers: list[Caption | ItemError] = list(self._method.run(rows))
        for answer in answers:
            if isinstance(answer, NotAsked):
                raise answer.why
        return answers
