"""The graph of captioner ``vllm``: Ray Data's own processor, between our questions and our results.

vLLM needs a GPU, so its stages are replaced here by one that asks the tiny model and is otherwise a
stage as Ray Data's library makes them. What comes before and after it is what runs on a cluster.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path

import chat_server
import numpy as np
import pyarrow as pa
import pytest
import synthetic
import worlds
from asking import items

from mmfeat.extract.base import Placement
from mmfeat.extract.describers.captions.vllm import VllmCaptioner
from mmfeat.extract.registry import resolve_all
from mmfeat.pipelines.execution.ray import vllm
from mmfeat.pipelines.execution.ray.session import ray_session
from mmfeat.pipelines.execution.stages import Decode, Encode
from mmfeat.pipelines.planning.work import PAYLOAD, STAMP, WORK_SCHEMA
from mmfeat.schemas.errors import ConfigError
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
    asked = vllm.with_captions(decoded, built, specs, 1)
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


def test_a_question_has_the_sound():
    heard = Sound(np.zeros(1600, np.float32), 16_000, ((0.0, 0.1, 1600),), 0.0)
    captioner = VllmCaptioner(spec(source="video.sound"), Placement())
    (turn,) = captioner.question((heard,))["messages"]
    assert [part["type"] for part in turn["content"]] == ["input_audio", "text"]


def test_an_answer_as_long_as_it_may_be_is_cut():
    captioner = VllmCaptioner(spec(max_new_tokens=9), Placement())
    assert captioner.caption_of(" a ", 5, 8, 0.5).finish_reason == "stop"
    assert captioner.caption_of(" a ", 5, 9, 0.5).finish_reason == "length"


def test_clips_scene_by_scene_and_settings_that_change_values_are_refused():
    with pytest.raises(ConfigError, match="one question per item"):
        spec(source="video", sampling="scenes")
    with pytest.raises(ConfigError, match="cannot show frames as one video"):
        spec(**{"source": "video", "as": "video"})
    with pytest.raises(ValueError, match="'quantization' is not among"):
        VllmConfig(engine={"quantization": "fp8"})


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
