"""The suite's own arithmetic: what its tables say follows from what was measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import flops, ratios, table
from bench.rates import Subject, interleaved


@pytest.mark.parametrize(
    ("shape", "published"),
    [
        # Multiply-adds as timm's results list them, in 10^9: the published models of these shapes.
        (flops.ViT(224, 32, 768, 12), 4.41),
        (flops.ViT(224, 16, 384, 12), 4.61),
        (flops.ViT(224, 16, 768, 12), 17.58),
        (flops.ViT(224, 14, 1024, 24), 81.08),
        (flops.DINOV2_L, 507.15),
    ],
)
def test_a_vision_transformers_arithmetic_is_what_is_published(shape: flops.ViT, published: float) -> None:
    assert shape.macs / 1e9 == pytest.approx(published, rel=0.005)


def test_the_formula_counts_what_torch_counts() -> None:
    import timm
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        model = timm.create_model("vit_base_patch32_224", num_classes=0).eval()
        pixels = torch.empty(1, 3, 224, 224)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(pixels)
    assert flops.ViT(224, 32, 768, 12).flops == pytest.approx(counter.get_total_flops(), rel=0.001)


def _counting(number: int) -> dict:
    return {"one": lambda: 1, "many": lambda: number}


def _missing() -> dict:
    raise ImportError("no such decoder\nand more")


def test_every_step_is_timed_in_every_round_and_what_cannot_be_built_says_why() -> None:
    subjects = [
        Subject("decode", "there", _counting, (7,), processes=2),
        Subject("decode", "not there", _missing, ()),
    ]
    there, many, missing = interleaved(subjects, repeats=3, seconds=0.01)
    assert [there["case"], many["case"], there["setting"]] == ["one", "many", "2 x 1 thread"]
    assert len(there["per_second"]) == len(many["per_second"]) == 3
    assert missing == {
        "part": "decode", "name": "not there", "setting": "1 x 1 thread",
        "left_out": "ImportError: no such decoder",
    }  # fmt: skip


ROUND = {"start_seconds": 4.0, "seconds": 20.0, "total_mb": 900}
ROWS = [
    {
        "part": "decode", "name": "torchvision", "setting": "2 x 1 thread", "case": "",
        "per_second": [90, 100, 120],
    },
    # Faster, but other pixels.
    {"part": "decode", "name": "mmfeat scaled", "setting": "2 x 1 thread", "case": "", "per_second": [900]},
    {"part": "decode", "name": "other", "setting": "2 x 1 thread", "left_out": "ImportError: none"},
    {
        "part": "model", "name": "CLIP ViT-B/32, torch fp32", "setting": "1 x 2 threads", "case": "batch 32",
        "per_second": [20],
    },
    {
        "part": "model", "name": "CLIP ViT-B/32, OpenVINO f32", "setting": "2 x 1 thread", "case": "batch 32",
        "per_second": [25],
    },
    {"part": "covers", "name": "plain PyTorch loop", "rounds": [{**ROUND, "rows_per_second": 8.0}]},
    {
        "part": "covers", "name": "mmfeat fp32, openvino", "of": {"covers": 96},
        "rounds": [{**ROUND, "rows_per_second": rate} for rate in (15.0, 16.0, 40.0)],
        "agreement": {"covers": {"least_cosine": 0.9999998, "least_cosine_centred": 0.999}},
    },
]  # fmt: skip


def test_ceilings_take_the_best_exact_decoder_and_the_best_mode() -> None:
    ceiling = ratios.of_ceiling(ROWS, ROWS[-1])
    assert ceiling is not None
    assert (ceiling.decode, ceiling.model, ceiling.least, ceiling.together) == (100, 25, 25, 20)


def test_the_ceiling_of_a_mixture_adds_the_seconds_of_its_parts() -> None:
    setting = {"setting": "2 x 1 thread"}
    clips = {"h264": [10, 99], "hevc": [5, 98]}
    limits = [
        {"part": "clip decode", "name": name, "case": codec, "per_second": [rates[n]], **setting}
        for n, name in enumerate(("mmfeat", "mmfeat keyframes"))
        for codec, rates in clips.items()
    ]
    limits.append(
        {"part": "titles model", "name": "MiniLM, torch fp32", "case": "", "per_second": [300], **setting}
    )
    mixed = {"part": "all together", "name": "mmfeat fp32", "rounds": []}
    row = {**mixed, "of": {"covers": 100, "h264": 20, "hevc": 5, "titles": 600}}
    ceiling = ratios.of_ceiling(ROWS + limits, row)
    assert ceiling is not None
    # Decoding: 100 covers at 100, 20 clips at 10, 5 at 5. The model: 100 covers and 8 x 25 frames at 25.
    assert ceiling.decode == pytest.approx(725 / (1 + 2 + 1))
    assert ceiling.model == pytest.approx(725 / (4 + 8 + 2))
    assert ratios.of_ceiling(ROWS, row) is None
    titles = ratios.of_ceiling(limits, {"part": "titles", "name": "mmfeat fp32", "of": {"titles": 5}})
    assert titles is not None
    assert titles.least == titles.together == pytest.approx(300)


def test_ratios_compare_medians() -> None:
    assert ratios.lines(ROWS) == [
        "covers: mmfeat fp32, openvino 2.00 x the plain loop, steady; "
        "0.64 of min(decode, model), 0.80 of what both leave each other"
    ]


def test_tables_show_what_was_measured_and_what_was_left_out() -> None:
    size = {"covers": 96}
    results = {
        "form": "quick", "rows": ROWS, "parts": {"covers": {"size": size}},
        "machine": {"cpu": "some CPU", "cores": 2, "python": "3.11", "packages": {"torch": "2.14.1"}},
    }  # fmt: skip
    text = table.tables(results)
    assert "| torchvision | 2 x 1 thread | 100 (90-120) | - |" in text
    assert "| other | 2 x 1 thread | left out: ImportError: none | - |" in text
    line = next(line for line in text.splitlines() if line.startswith("| mmfeat fp32, openvino |"))
    assert [cell.strip() for cell in line.split("|")[2:-1]] == [
        "16 (15-40)", "2.00", "0.64", "0.80", "20 (20-20)", "4 (4-4)", "1.00", "900", "0.999999, 0.999000"
    ]  # fmt: skip


def test_the_summary_shows_a_few_tables_of_the_results() -> None:
    part = {"size": {"covers": 96, "three": 8}}
    rows = [*ROWS, *({**row, "part": "three encoders"} for row in ROWS[-2:])]
    results = {
        "form": "quick", "rows": rows, "parts": {"covers": part, "three encoders": part},
        "machine": {"cpu": "some CPU", "cores": 2, "python": "3.11", "packages": {}},
    }  # fmt: skip
    (covers,) = table.summary(results).split("\n\n")
    assert covers.startswith("| 96 covers, CLIP ViT-B/32 |")
    assert covers in table.tables(results).split("\n\n")


def test_a_page_keeps_what_is_around_its_tables(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{table.BEGIN}\n\nold\n\n{table.END}\n\nafter\n")
    table.fill(page, "new")
    assert page.read_text() == f"before\n\n{table.BEGIN}\n\nnew\n\n{table.END}\n\nafter\n"


def test_every_table_of_the_summary_is_in_the_results() -> None:
    summary, record = (
        page.read_text().partition(table.BEGIN)[2].partition(table.END)[0].strip().split("\n\n")
        for page in (table.SUMMARY, table.RECORD)
    )
    assert len(summary) == 4 and set(summary) <= set(record)


def test_the_formula_of_a_language_model_counts_what_torch_counts() -> None:
    import torch
    import transformers
    from torch.utils.flop_counter import FlopCounterMode

    shape = {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    }
    config = transformers.LlamaConfig(vocab_size=264, num_hidden_layers=2, **shape)
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config).eval()
        tokens = torch.zeros(1, 107, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(tokens, logits_to_keep=1)
    decoder = flops.Decoder(width=576, layers=2, hidden=1536, keys=192, vocabulary=264)
    assert decoder.flops(107, 107) + decoder.head_flops == pytest.approx(counter.get_total_flops(), rel=0.001)


def test_captions_are_compared_with_the_plain_loop_of_their_precision() -> None:
    def side(name: str, precision: str, rate: float, cpu: float) -> dict:
        told = {"start_seconds": 9.0, "seconds": 40.0, "cpu_seconds": cpu, "total_mb": 1500}
        rounds = [{"rows_per_second": rate, **told}]
        return {
            "part": "captions", "name": name, "precision": precision, "rounds": rounds, "same_texts": 1.0
        }  # fmt: skip

    rows = [
        {"part": "captions", "name": "limit bf16", "setting": "1 x 2 threads", "case": "", "per_second": [2]},
        side("plain PyTorch loop", "fp32", 0.5, 64),
        side("plain PyTorch loop, bf16", "bf16", 0.8, 32),
        side("mmfeat bf16", "bf16", 1.2, 24),
    ]
    results = {
        "form": "full", "rows": rows,
        "parts": {"captions": {"size": {"captions": {"number": 16, "new_tokens": 48}}}},
        "machine": {"cpu": "some CPU", "cores": 2, "python": "3.11", "packages": {}},
    }  # fmt: skip
    line = next(line for line in table.tables(results).splitlines() if line.startswith("| mmfeat bf16 |"))
    assert [cell.strip() for cell in line.split("|")[2:-1]] == [
        "1.2", "1.50", "0.60", "57.6", "40", "1.5", "9", "1,500", "100%"
    ]  # fmt: skip
