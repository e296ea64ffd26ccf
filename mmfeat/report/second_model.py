"""A second model that is asked about captions, with what they describe."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmfeat.extract.base import Caption, Method, Placement
from mmfeat.report.captions import Captions
from mmfeat.schemas.catalog import Column
from mmfeat.schemas.errors import ConfigError, ItemError, MmfeatError, NotAsked, SpendingCap
from mmfeat.schemas.server import ANSWERS_FOLDER, Sending, SpendingConfig
from mmfeat.schemas.spec import FeatureConfig


@dataclass(frozen=True)
class SecondModel:
    """The model to ask: a captioner's name and its model (hub id, folder, or a server's name for it)."""

    captioner: str
    model: str


class Answers:
    """How the second models of one report are asked that are on a server: together they spend no more than it
    may, and what they answered is kept in the store until the report is made.

    Args:
        uri: of the store.
    """

    def __init__(self, uri: str, spending: SpendingConfig) -> None:
        self.sending = Sending(
            run_id=uuid.uuid4().hex[:12], spending=spending, journal=f"{uri}/{ANSWERS_FOLDER}"
        )
        self._served: list[str] = []

    def keep(self, fingerprint: str) -> None:
        """A model on a server is asked by this fingerprint."""
        self._served.append(fingerprint)

    def forget(self) -> None:
        """The report is made: another one asks again."""
        from mmfeat.extract.served.journal import Journal

        journal = Journal(str(self.sending.journal))
        for fingerprint in self._served:
            journal.remove(fingerprint)


class Asked:
    """The model, loaded, and one prompt for it; ``questions`` counts what it was asked.

    Args:
        prompt: its file.
        named: what the prompt names in braces.
        answers: how it is asked where it is on a server.

    Raises:
        ConfigError: no such captioner or model, or one that only a job's executor can run.
    """

    def __init__(
        self, second: SecondModel, captions: Captions, prompt: Path, named: Sequence[str], answers: Answers
    ) -> None:
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
        runs = class_of(spec).runs
        if runs == "engine":
            raise ConfigError(
                f"a second model runs in this process or on a server; {second.captioner!r} needs the engine "
                "of a job",
                hint="Name a captioner that loads its weights, such as transformers, or one that asks a "
                "server, such as openai.",
            )
        if runs == "server":
            answers.keep(spec.fingerprint)
        self._captions = captions
        self._method: Method = load_method(spec, Placement(sending=answers.sending))
        self.model = spec.model
        self.questions = 0

    def ask(self, at: int, texts: Sequence[Mapping[str, str]]) -> list[Caption | ItemError]:
        """The answers about one item, a question per set of texts.

        Args:
            at: the item's position in the captions.
            texts: what each name of the prompt stands for.

        Raises:
            SpendingCap: the server may be asked no more.
            MmfeatError: it gives no answer to anybody.
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
                raise _ending(answer.why)
        return answers


def _ending(why: MmfeatError) -> MmfeatError:
    """Why a server is asked no more, with what to do about a cap."""
    if not isinstance(why, SpendingCap):
        return why
    return SpendingCap(
        why.message, hint="What it answered is kept: the same report with a new allowance goes on from there."
    )
