"""The graph of captioner and encoder ``vllm``: Ray Data's own processor, between questions and results.

vLLM needs a GPU, so its stages are replaced here by one that asks the tiny model, or makes vectors up, and is
otherwise a stage as Ray Data's library makes them. What comes before and after it is what runs on a cluster.
"""

from __future__ import annotations

import asyncio
import base64
import sys
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import chat_server
import numpy as np
import pyarrow as pa
import pytest
from asking import items
from helpers import synthetic, worlds

from mmfeat.extract.base import Placement
from mmfeat.extract.describers.captions.vllm import VllmCaptioner
from mmfeat.extract.encoders.vllm import VllmEncoder
from mmfeat.extract.registry import resolve_all
from mmfeat.pipelines.execution.ray import vllm
from mmfeat.pipelines.execution.ray.session import ray_session
from mmfeat.pipelines.execution.stages import Decode, Encode
from mmfeat.pipelines.planning.work import PAYLOAD, STAMP, WORK_SCHEMA
from mmfeat.schemas.errors import ConfigError, ItemError
from mmfeat.schemas.job import Resources
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.server import VllmConfig
from mmfeat.schemas.sound import Sound
from mmfeat.schemas.spec import FeatureConfig

CAPTION = {**worlds.CAPTION, "captioner": "vllm", "dtype": "float32"}
FEATURES = {"clip": worlds.CLIP, "caption": CAPTION, "caption_clip": worlds.CAPTION_CLIP}
N_ITEMS = 5


def spec(**options: object):
    return resolve_all({"caption": FeatureConfig(**{**CAPTION, **options})})[0]


@pytest.fixture(scope="module")
def ray():
    with ray_session(Resources(cpus=2)):
        import ray

        yield ray


@pytest.fixture
def work(tmp_path) -> pa.Table:
    """Five covers, the fourth of which is no picture, the last wanting the vector alone."""
    worlds.cover_folder(tmp_path, synthetic.held_out(N_ITEMS))
    covers = sorted((tmp_path / "covers").iterdir())
    covers[3].write_bytes(b"no picture")
    same = {"group": "cover", "features": [0, 1, 2]}
    rows = [{"work": n, "item_id": p.stem, **same} for n, p in enumerate(covers)]
    rows[-1]["features"] = [0]
    table = pa.Table.from_pylist(rows, schema=WORK_SCHEMA)
    table = table.append_column(PAYLOAD + "cover", pa.array([str(p) for p in covers]))
    return table.append_column(STAMP + "cover", pa.array([""] * N_ITEMS))


def test_the_processor_is_rays_own_with_nothing_decided_outside_the_spec(ray):
    specs = [spec(prompt="tags")]
    options = VllmConfig(replicas=2, batch_size=7, accelerator="H100", engine={"tensor_parallel_size": 4})
    built = vllm.processor(specs[0], 0, specs, options)
    assert built.list_stage_names() == [
        "PrepareMultimodalStage", "ChatTemplateStage", "TokenizeStage", "vLLMEngineStage", "DetokenizeStage",
    ]  # fmt: skip
    given = built.get_stage_by_name("vLLMEngineStage").fn_constructor_kwargs
    engine = given["engine_kwargs"]
    assert given["model"] == str(worlds.MODELS / "tiny-vlm")
    assert given["batch_size"] == 7
    assert given["should_continue_on_error"]
    assert (engine["tensor_parallel_size"], engine["dtype"]) == (4, "float32")
    assert (engine["generation_config"], engine["trust_remote_code"]) == ("vllm", False)
    compute = built.get_stage_by_name("vLLMEngineStage").map_batches_kwargs["compute"]
    assert compute.max_size == 2


def test_decoded_work_through_the_graph_are_the_captions_of_the_model_itself(ray, work):
    specs = resolve_all({name: FeatureConfig(**config) for name, config in FEATURES.items()})
    built = vllm.processor(specs[1], 1, specs, VllmConfig())
    built.stages = OrderedDict(engine=_engine_stage())
    decoded = ray.data.from_arrow([work]).map_batches(
        Decode(specs, MediaLimits()), batch_size=None, batch_format="pyarrow"
    )
    asked = vllm.with_answers(decoded, built, specs, 1)
    tables = list(asked.iter_batches(batch_size=None, batch_format="pyarrow"))
    results = Encode(specs, [0, 2], last=True)(pa.concat_tables(tables, promote_options="permissive"))
    found = {(r["work"], r["feature"]): r for r in results.to_pylist()}

    assert sorted(found) == sorted([(n, f) for n in range(4) for f in range(3)] + [(4, 0)])
    assert {key for key, row in found.items() if row["status"] != "ok"} == {(3, 0), (3, 1), (3, 2)}
    assert found[3, 1]["stage"] == found[3, 0]["stage"]
    here = chat_server.tiny_model().caption(items(3))
    assert [found[n, 1]["value"].decode() for n in range(3)] == [caption.text for caption in here]
    assert [found[n, 1]["new_tokens"] for n in range(3)] == [caption.new_tokens for caption in here]


def test_a_question_has_the_picture_the_prompt_and_how_to_decode():
    (item,) = items(1)
    question = VllmCaptioner(spec(max_new_tokens=9), Placement()).question(item)
    (turn,) = question["messages"]
    assert [part["type"] for part in turn["content"]] == ["image_url", "text"]
    assert question["sampling_params"]["max_tokens"] == 9
    assert question["sampling_params"]["temperature"] == 0
    tags = VllmCaptioner(spec(prompt="tags"), Placement()).question(item)
    assert tags["sampling_params"]["structured_outputs"]["json"]["type"] == "object"


def test_an_engine_gets_every_pixel_in_a_file_that_needs_no_unpacking():
    ((frames,),) = items(1)
    (turn,) = VllmCaptioner(spec(), Placement()).question((frames,))["messages"]
    head, _, data = turn["content"][0]["image_url"]["url"].partition(",")
    assert (head, base64.b64decode(data)[:2]) == ("data:image/bmp;base64", b"BM")
    assert np.array_equal(chat_server.turn_of(turn).pictures[0], frames.pixels[0])


def test_a_question_has_the_sound():
    heard = Sound(np.zeros(1600, np.float32), 16_000, ((0.0, 0.1, 1600),), 0.0)
    captioner = VllmCaptioner(spec(source="video.sound"), Placement())
    (turn,) = captioner.question((heard,))["messages"]
    assert [part["type"] for part in turn["content"]] == ["input_audio", "text"]


def test_an_answer_as_long_as_it_may_be_is_cut():
    captioner = VllmCaptioner(spec(max_new_tokens=9), Placement())
    answer = {"generated_text": " a ", "num_input_tokens": 5, "time_taken_llm": 0.5}
    assert captioner.value_of({**answer, "num_generated_tokens": 8}).finish_reason == "stop"
    assert captioner.value_of({**answer, "num_generated_tokens": 9}).finish_reason == "length"


def test_clips_scene_by_scene_and_settings_that_change_values_are_refused():
    with pytest.raises(ConfigError, match="one question per item"):
        spec(source="video", sampling="scenes")
    with pytest.raises(ConfigError, match="cannot show frames as one video"):
        spec(**{"source": "video", "as": "video"})
    with pytest.raises(ValueError, match="'quantization' is not among"):
        VllmConfig(engine={"quantization": "fp8"})


VECTORS = {"source": "cover", "encoder": "vllm", "model": worlds.CAPTION["model"], "dims": 3}


def vectors(**options: object):
    table = {key: value for key, value in {**VECTORS, **options}.items() if value is not None}
    return resolve_all({"vectors": FeatureConfig(**table)})[0]


@pytest.mark.parametrize(
    ("options", "stages"),
    [
        ({}, ["PrepareMultimodalStage", "ChatTemplateStage", "TokenizeStage", "vLLMEngineStage"]),
        ({"source": "title"}, ["TokenizeStage", "vLLMEngineStage"]),
    ],
)
def test_vectors_are_of_the_pooling_task_and_a_text_alone_has_no_chat_template(ray, options, stages):
    specs = [vectors(**options)]
    built = vllm.processor(specs[0], 0, specs, VllmConfig())
    assert built.list_stage_names() == stages
    given = built.get_stage_by_name("vLLMEngineStage").fn_constructor_kwargs
    assert (given["task_type"], given["engine_kwargs"]["dtype"]) == ("embed", "bfloat16")


def test_vectors_of_tokens_are_asked_of_rays_own_stage_by_their_own_task(ray):
    from mmfeat.pipelines.execution.ray.vllm_tokens import TokenVectors, of_tokens

    specs = [vectors(task="token_embed")]
    stage = vllm.processor(specs[0], 0, specs, VllmConfig()).get_stage_by_name("vLLMEngineStage")
    assert (stage.fn, stage.fn_constructor_kwargs["task_type"]) == (TokenVectors, "embed")

    async def prepare(row):
        return SimpleNamespace(params=SimpleNamespace(task="embed"), row=row)

    assert asyncio.run(of_tokens(prepare, {"a": 1})).params.task == "token_embed"


@pytest.mark.parametrize("task", [None, "token_embed"])
def test_decoded_work_through_the_graph_are_the_vectors_that_the_engine_gave(ray, work, task):
    specs = [vectors(task=task, normalize=True)]
    wanted = pa.array([[0]] * N_ITEMS, WORK_SCHEMA.field("features").type)
    work = work.set_column(work.column_names.index("features"), "features", wanted)
    built = vllm.processor(specs[0], 0, specs, VllmConfig())
    built.stages = OrderedDict(engine=_vector_stage(tokens=task is not None))
    decoded = ray.data.from_arrow([work]).map_batches(
        Decode(specs, MediaLimits()), batch_size=None, batch_format="pyarrow"
    )
    asked = vllm.with_answers(decoded, built, specs, 0)
    tables = list(asked.iter_batches(batch_size=None, batch_format="pyarrow"))
    results = Encode(specs, [], last=True)(pa.concat_tables(tables, promote_options="permissive"))
    found = {r["work"]: r for r in results.to_pylist()}

    assert [found[n]["status"] for n in range(N_ITEMS)] == ["ok", "ok", "failed", "failed", "ok"]
    assert (found[2]["stage"], found[2]["reason"]) == ("encode", "vLLM gave a vector of zeros")
    for number in (0, 1, 4):
        values = np.frombuffer(found[number]["value"], np.float32).reshape(-1, 3)
        assert len(values) == (2 + number if task else 1)
        np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, rtol=1e-6)


def test_a_question_for_a_vector_is_a_message_or_the_text_as_it_is():
    (item,) = items(1)
    asked = VllmEncoder(vectors(prompt="Look."), Placement()).question(item)
    system, user = asked["messages"]
    assert (system["role"], user["content"][0]["type"]) == ("system", "image_url")
    text = {"source": "title", "prompt": "query: "}
    cut = VllmEncoder(vectors(**text, dims=None, dimensions=2), Placement())
    assert cut.question(("a",)) == {"prompt": "query: a", "pooling_params": {"dimensions": 2}}
    (user,) = VllmEncoder(vectors(source="title", messages=True), Placement()).question(("a",))["messages"]
    assert user["content"] == [{"type": "text", "text": "a"}]


def test_a_vector_of_another_length_or_with_nan_is_none():
    encoder = VllmEncoder(vectors(), Placement())
    for given, why in (([1.0, 2.0], "set dims = 2"), ([1.0, np.nan, 0.0], "NaN or infinity")):
        with pytest.raises(ItemError, match=why):
            encoder.value_of({"embeddings": np.array(given)})


def _vector_stage(tokens: bool):
    """One stage in place of vLLM's: vectors that count the requests, and zeros of the third."""
    from ray.llm._internal.batch.stages.base import StatefulStage, StatefulStageUDF

    class NoEngine(StatefulStageUDF):
        async def udf(self, batch):
            for row in batch:
                number = int(row["work"])
                shape = (2 + number, 3) if tokens else (3,)
                yield {
                    self.IDX_IN_BATCH_COLUMN: row[self.IDX_IN_BATCH_COLUMN],
                    "embeddings": np.full(shape, number + 1 if number != 2 else 0, np.float32),
                    "time_taken_llm": 0.25,
                    "__inference_error__": "",
                }

    class NoEngineStage(StatefulStage):
        fn: type = NoEngine

        def get_required_input_keys(self):
            return {"messages": "", "work": ""}

    return NoEngineStage(map_batches_kwargs={"concurrency": 1, "zero_copy_batch": True})


def _engine_stage():
    """One stage in place of vLLM's five: the columns that they read and the ones that they add."""
    from ray.llm._internal.batch.stages.base import StatefulStage, StatefulStageUDF

    class TinyEngine(StatefulStageUDF):
        def __init__(self, data_column: str, expected_input_keys: list[str], paths: list[str]) -> None:
            super().__init__(data_column, expected_input_keys)
            # Ray's workers do not know where tests lie.
            sys.path[:0] = paths
            from chat_server import tiny_model

            self.model = tiny_model()

        async def udf(self, batch):
            from chat_server import turn_of

            from mmfeat.schemas.spec import Decoding

            for row in batch:
                decoding = Decoding(max_new_tokens=int(row["sampling_params"]["max_tokens"]))
                turns = tuple(turn_of(message) for message in row["messages"])
                (reply,) = self.model.answer([turns], decoding, 1)
                yield {
                    self.IDX_IN_BATCH_COLUMN: row[self.IDX_IN_BATCH_COLUMN],
                    "generated_text": reply.text,
                    "num_input_tokens": reply.prompt_tokens,
                    "num_generated_tokens": reply.new_tokens,
                    "time_taken_llm": 0.25,
                    "__inference_error__": "",
                }

    class TinyEngineStage(StatefulStage):
        fn: type = TinyEngine

        def get_required_input_keys(self):
            return {"messages": "", "sampling_params": ""}

    here = Path(__file__).parent
    return TinyEngineStage(
        fn_constructor_kwargs={"paths": [str(here), str(here.parent)]},
        map_batches_kwargs={"concurrency": 1, "zero_copy_batch": True},
    )
