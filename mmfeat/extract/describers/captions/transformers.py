"""Captions by any chat model that transformers loads: of pictures, video, sound, or video with its sound."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from mmfeat.extract.base import Ask, Placement, Row
from mmfeat.extract.chat.abilities import USUAL_SOUND, check_hears_videos, check_takes_video, hearing
from mmfeat.extract.chat.loading import end_ids, load_model, load_processor, without_control
from mmfeat.extract.chat.question import Question
from mmfeat.extract.chat.sight import quicken
from mmfeat.extract.describers.captions import reasoning
from mmfeat.extract.describers.captions.asking import ChatOptions, ChatSettings, chat_spec
from mmfeat.extract.describers.captions.chat import ChatCaptioner
from mmfeat.extract.describers.captions.question import Questions, no_place
from mmfeat.extract.describers.captions.states import PromptStates, first_pass
from mmfeat.extract.describers.captions.turns import Conversation, Turn
from mmfeat.extract.options import WeightsOptions, need_model
from mmfeat.extract.runtimes.choice import torch_runtime, use_torch_threads
from mmfeat.extract.served.reply import Reply
from mmfeat.extract.weights import find_weights, loadable_folder, loading
from mmfeat.schemas.errors import ConfigError, ItemError, MmfeatError
from mmfeat.schemas.inputs import AudioPrepare
from mmfeat.schemas.spec import ComputeDtype, Decoding, FeatureSpec, ModelCard

if TYPE_CHECKING:
    import torch


# Questions of one picture that go through a model together on a CPU: a step of decoding reads all weights,
# however many answers it goes on with.
_WRITTEN_TOGETHER = 32
# Numbers that a picture is to such a model: 512 x 512 pixels, and not many tiles of them.
_SMALL_PICTURE = 3 * 512 * 512


class TransformersCaptionerOptions(WeightsOptions, ChatOptions):
    """Which model, the number type it computes in, and whether sound is heard inside the video.

    Attributes:
        dtype: number type of weights and arithmetic; ``float32`` when None.
        resize: ``model``: the decode stage does the resize of the model's own processor. Of Qwen2-VL to
            Qwen3-VL, SmolVLM, Idefics3, Gemma 3 without pan and scan, InternVL of one tile, LLaVA 1.5 and
            others with CLIP's or SigLIP's processor.
        use_audio_in_video: of Qwen2.5-Omni and Qwen3-Omni with ``as = "video"``: sound is heard between the
            frames, else after what is shown.
    """

    dtype: ComputeDtype | None = None
    resize: Literal["model"] | None = None
    use_audio_in_video: bool | None = None


class TransformersSettings(ChatSettings):
    """What decides an answer.

    Attributes:
        use_audio_in_video: sound is heard in between a video's frames, at the time that it has there; None
            if it is heard after what is shown.
    """

    use_audio_in_video: Literal[True] | None = None


class TransformersCaptioner(ChatCaptioner):
    """One answer per item to a prompt about its cover, about frames of its clip in order of time, shown as
    pictures or as one video, about its sound, or about what is seen and heard together.

    A question goes through the model's own chat template: what is shown, what is heard, then the prompt. A
    video comes with its frames' own times, a sound as one audio per window. Decoding is greedy at
    temperature 0. Above it each item is sampled alone, with random numbers seeded from its pixels, sound
    and question, so that its text does not depend on what else is in the batch. Of the model's own
    generation settings only the ids of its special tokens are used: a repetition penalty or a top-p in
    its folder would decide values without being part of the spec.

    Weights are read from safetensors only, and no code from the model's folder is run.
    """

    Options: ClassVar[type[TransformersCaptionerOptions]] = TransformersCaptionerOptions
    batch_size: ClassVar[int] = 8
    example: ClassVar[ModelCard] = ModelCard(
        method="transformers",
        model="HuggingFaceTB/SmolVLM-256M-Instruct",
        reads=("image", "video", "audio"),
        licence="Apache-2.0",
        weights_from="hub: HuggingFaceTB/SmolVLM-256M-Instruct",
        notes="Captions by a multimodal LLM; the model's processor decides the input size.",
    )

    @classmethod
    def resolve(cls, ask: Ask[TransformersCaptionerOptions]) -> FeatureSpec:
        """See :meth:`Method.resolve`. ``model`` is a hub id or a folder."""
        model = need_model(ask, "HuggingFaceTB/SmolVLM-256M-Instruct")
        found = find_weights(ask)
        if ask.options.shown_as == "video":
            check_takes_video(ask, found.folder)
        heard = any(one.modality == "audio" for one in ask.inputs)
        spec = chat_spec(
            ask,
            usual_sound=hearing(ask, found.folder) if heard else USUAL_SOUND,
            processor=found.folder if ask.options.resize else None,
            model=found.called(model),
            weights=found.weights,
            compute_dtype=ask.options.dtype or "float32",
        )
        if not ask.options.use_audio_in_video:
            return spec
        _check_sound_fits_video(ask, spec)
        check_hears_videos(ask, found.folder)
        return spec.with_options(use_audio_in_video=True)

    @classmethod
    def card(cls, spec: FeatureSpec) -> ModelCard:
        """See :meth:`Method.card`."""
        return ModelCard(
            method="transformers",
            model=spec.model,
            reads=spec.modalities,
            licence="see the model's own card",
            weights_from=f"{spec.weights.origin}: {spec.weights.ref}",
            notes="Captions by a multimodal LLM; the model's processor decides the input size.",
        )

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        """Load processor and model.

        Raises:
            ConfigError: weights that differ from the spec's digest, that are not safetensors, or a
                model that is not a decoder-only chat model for what the feature reads.
        """
        use_torch_threads(place.threads)
        folder = loadable_folder(spec)
        self.spec = spec
        self._device = place.device
        self.processor = load_processor(spec, folder)
        self.tokenizer = self.processor.tokenizer
        # Prompts of a batch must end where the answers begin. Many tokenizers pad on the right by
        # default, which makes the model continue after padding and changes its answers.
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        settings = spec.settings(TransformersSettings)
        self.questions = Questions(
            self.processor, settings.chat_template_kwargs or {}, bool(settings.use_audio_in_video)
        )
        self._check_places(settings)
        self.model = load_model(spec, folder).to(place.device).eval()
        self.runtime = torch_runtime()
        if place.device == "cpu":
            sight = quicken(self.model, spec, place)
            self.notes = sight.notes
            if sight.runtime:
                self.runtime = f"{self.runtime}, {sight.runtime}"
            self.together = self._worth_together()
        self._end_ids = end_ids(self.model, self.tokenizer)
        added = self.tokenizer.get_added_vocab()
        self._beside: dict[str, PromptStates] = {}
        self._marks = {number: token for token, number in added.items() if reasoning.is_mark(token)}

    def answer(
        self, conversations: Sequence[Conversation], decoding: Decoding, at_once: int
    ) -> list[Reply | ItemError]:
        """See :meth:`ChatCaptioner.answer`; ``new_tokens`` counts the token that ends the reply.

        A conversation of more tokens than the model's context holds is an ItemError.
        """
        asked = [self.questions.question(turns) for turns in conversations]
        # Sampled one by one: random numbers are drawn for a whole batch.
        size = at_once if decoding.temperature == 0 else 1
        found: dict[int, Reply | ItemError] = {}
        for numbers in self.questions.together(asked, size):
            replies = self._timed([asked[n] for n in numbers], decoding)
            found.update(zip(numbers, replies, strict=True))
        return [found[n] for n in range(len(asked))]

    def _worth_together(self) -> int:
        """See :attr:`Method.together`: no more than usual of a model that cuts a picture into tiles."""
        if "image" not in self.spec.modalities:
            return 0
        blank = np.zeros((1, 512, 512, 3), np.uint8)
        with loading(self.spec):
            shown = self._encode([self.questions.question((Turn("user", "x", blank),))])
        numbers = sum(tensor.numel() for tensor in shown.values() if tensor.is_floating_point())
        return _WRITTEN_TOGETHER if numbers <= _SMALL_PICTURE else 0

    def also_gives(self, fingerprint: str, wanted: PromptStates) -> None:
        """From now on every reply comes with states of its question, as the value of another feature."""
        self._beside[fingerprint] = wanted

    def states(self, rows: Sequence[Row], wanted: PromptStates) -> list[np.ndarray | ItemError]:
        """The states of each row's question, float32 ``[layers, dims]``: one pass, and no answer.

        The pass is that of a reply of one token, so that the same code prepares positions and masks.
        """
        alone = copy(self)
        alone._beside = {"": wanted}
        replies = alone.replies(rows, Decoding(max_new_tokens=1))
        return [reply if isinstance(reply, ItemError) else reply.beside[""] for reply in replies]

    def sanitised(self, text: str) -> str:
        """The text without the model's control tokens."""
        return without_control(text, self.tokenizer)

    def _check_places(self, settings: TransformersSettings) -> None:
        """ConfigError where the chat template would leave out a video or a sound without a word, or where the
        processor puts no sound into a video."""
        if settings.use_audio_in_video and not hasattr(self.processor, "load_audio_from_video"):
            raise ConfigError(
                f"feature {self.spec.name!r}: the installed transformers takes no sound inside a video",
                hint='Update it: pip install "transformers>=5.24". Or leave use_audio_in_video out.',
            )
        kinds = {"video"} if settings.shown_as else set()
        with loading(self.spec):
            lacking = no_place(self.questions, sorted(kinds | ({"audio"} & set(self.spec.modalities))))
        if lacking is not None:
            raise ConfigError(
                f"feature {self.spec.name!r}: the chat template of {self.spec.model!r} has no place "
                f"for {lacking}",
                hint="Take a model that was trained on it"
                + (', or as = "frames".' if lacking == "video" else "."),
            )

    def _timed(self, asked: Sequence[Question], decoding: Decoding) -> list[Reply | ItemError]:
        began = time.perf_counter()
        with self._seeded(asked, decoding):
            replies = self._replies(asked, decoding)
        share = (time.perf_counter() - began) / len(asked)
        return [r if isinstance(r, ItemError) else replace(r, seconds=share) for r in replies]

    @contextlib.contextmanager
    def _seeded(self, asked: Sequence[Question], decoding: Decoding) -> Iterator[None]:
        if decoding.temperature == 0:
            yield
            return
        import torch

        # One by one, see answer().
        (question,) = asked
        devices = [self._device] if self._device.startswith("cuda") else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(int.from_bytes(question.digest[:8], "big") >> 1)
            yield

    def _replies(self, asked: Sequence[Question], decoding: Decoding) -> list[Reply | ItemError]:
        import torch

        from mmfeat.extract.chat.room import with_room

        batch = self._encode(asked)
        lengths = batch["attention_mask"].sum(dim=1).tolist()
        errors = [self._lacks_room(length, decoding) for length in lengths]
        if any(errors):
            fitting = [one for one, error in zip(asked, errors, strict=True) if error is None]
            replies = iter(self._replies(fitting, decoding) if fitting else [])
            return [error or next(replies) for error in errors]
        inside = {"use_audio_in_video": True} if self.questions.hears_inside(asked) else {}
        width = batch["input_ids"].shape[1]
        room = with_room(self.model)
        with torch.inference_mode(), self._states_of(batch["attention_mask"]) as beside:
            ids = self.model.generate(
                **batch, **inside, **room, generation_config=self._generation_config(decoding)
            )
        if not torch.equal(ids[:, :width], batch["input_ids"]):
            raise MmfeatError(f"model {self.spec.model!r} does not return the question before its answer")
        rows = ids[:, width:].tolist()
        answered = enumerate(zip(rows, lengths, asked, strict=True))
        return [
            replace(
                self._reply(row, length, one.text),
                beside={name: states[n] for name, states in beside.items()},
            )
            for n, (row, length, one) in answered
        ]

    @contextlib.contextmanager
    def _states_of(self, mask: torch.Tensor) -> Iterator[dict[str, np.ndarray]]:
        """What of a batch's questions is wanted beside the replies, by fingerprint; there after the first
        pass."""
        found: dict[str, np.ndarray] = {}
        if not self._beside:
            yield found
            return

        def take(states: Sequence[torch.Tensor]) -> None:
            found.update({name: wanted.of(states, mask) for name, wanted in self._beside.items()})

        rows, tokens = mask.shape
        with first_pass(self.model, (rows, tokens), take):
            yield found

    def _encode(self, asked: Sequence[Question]) -> dict[str, torch.Tensor]:
        batch = self.questions.encoded(asked).to(self._device, self.model.dtype)
        if not bool(batch["attention_mask"][:, -1].all()):
            raise MmfeatError(f"the processor of {self.spec.model!r} pads on the right though asked not to")
        return dict(batch)

    def _lacks_room(self, tokens: int, decoding: Decoding) -> ItemError | None:
        room = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if room is None or tokens + decoding.max_new_tokens <= room:
            return None
        return ItemError(
            "caption",
            f"{tokens} tokens of prompt, pictures and sound and {decoding.max_new_tokens} new ones exceed "
            f"the model's {room}; take fewer frames, scenes or windows, or a smaller max_side",
        )

    def _generation_config(self, decoding: Decoding) -> Any:
        from transformers import GenerationConfig

        sampling: dict[str, Any] = {"do_sample": False}
        if decoding.temperature > 0:
            sampling = {
                "do_sample": True,
                "temperature": decoding.temperature,
                "top_k": 0,
                "top_p": 1.0,
            }
        return GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=decoding.max_new_tokens,
            eos_token_id=sorted(self._end_ids),
            pad_token_id=self.tokenizer.pad_token_id,
            bos_token_id=self.tokenizer.bos_token_id,
            **sampling,
        )

    def _reply(self, row: list[int], prompt_tokens: int, question: str) -> Reply:
        """The answer in ``row``: up to its first end token, after which there is only padding.

        Looking for the first end token, not for padding, stays right where a model pads with one.
        """
        end = next((i for i, token in enumerate(row) if token in self._end_ids), None)
        said = row if end is None else row[:end]
        return Reply(
            text=(reasoning.opened_by(question) + self._text(said)).strip(),
            finish_reason="length" if end is None else "stop",
            prompt_tokens=prompt_tokens,
            new_tokens=len(row) if end is None else end + 1,
        )

    def _text(self, said: list[int]) -> str:
        """The text of tokens, without the special ones but for those that mark reasoning."""
        parts = []
        for mark, run in groupby(said, key=self._marks.get):
            ids = list(run)
            text = self.tokenizer.decode(ids, skip_special_tokens=True) if mark is None else mark * len(ids)
            parts.append(str(text))
        return "".join(parts)


def _check_sound_fits_video(ask: Ask[Any], spec: FeatureSpec) -> None:
    """ConfigError unless there is a video, and its sound in one piece from the beginning."""
    if ask.options.shown_as != "video":
        raise ask.error("'use_audio_in_video' goes with as = \"video\"")
    sounds = [one.prepare for one in spec.inputs if isinstance(one.prepare, AudioPrepare)]
    if not sounds:
        raise ask.error(
            "'use_audio_in_video' goes with sound, and none is read",
            'Name the clip and its sound: inputs = ["video", "video.sound?"].',
        )
    if sounds[0].windows != "first":
        raise ask.error(
            "'use_audio_in_video' lets the sound be heard along with the frames, from the start: "
            'it goes with windows = "first"',
        )
