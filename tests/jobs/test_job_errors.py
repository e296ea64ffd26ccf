"""A job file that is wrong: one line that names the place, the name that was meant, and no work done."""

from __future__ import annotations

import pytest

STORE = '[store]\nuri = "store"\n'
DATASET = '[dataset]\nname = "table"\nroot = "items.csv"\n'
FEATURE = '[features.t]\nsource = "title"\nencoder = "sentence_transformers"\nmodel = "m"\n'
JOB = STORE + DATASET + FEATURE

WRONG = {
    "feature's table": (
        STORE + DATASET + FEATURE.replace("features.t", "feature.t"),
        "job.toml: there is no table [feature]. Did you mean 'features'?",
    ),
    "step's table": (
        JOB + "[gate]\nmin_coverage = 0.9\n",
        "job.toml: there is no table [gate]. Did you mean 'gates'?",
    ),
    "job's table": (
        JOB + "[resource]\ncpus = 1\n",
        "job.toml: there is no table [resource]. Did you mean 'resources'?",
    ),
    "no table at all": (
        JOB + "[nightly]\nat = 3\n",
        "job.toml: there is no table [nightly]. There are: store, dataset, features, resources, limits, run, "
        "server, spending, vllm, extract, evaluate, gates, promote, keep, notify.",
    ),
    "steps in a table": (
        JOB + "[steps.gates]\nmin_coverage = 0.9\n",
        "job.toml: there is no table [steps]. Did you mean ",
    ),
    "method's option": (
        JOB.replace("model =", "modle ="),
        "feature 't': encoder 'sentence_transformers' has no option 'modle'",
        "Did you mean 'model'? It has: cut, dtype, ",
    ),
    "option of another method": (
        JOB + "recipe = 'gme'\n",
        "feature 't': encoder 'sentence_transformers' has no option 'recipe'",
        "has it.",
    ),
    "method's kind": (
        JOB.replace("encoder =", "encodre ="),
        "job.toml: features.t: give exactly one of encoder, captioner, transcriber, ocr, quantizer and "
        "transform. Did you mean 'encoder'?",
    ),
    "two methods": (
        JOB + 'captioner = "transformers"\n',
        "job.toml: features.t: give exactly one of encoder, captioner, transcriber, ocr, quantizer and "
        "transform",
    ),
    "method": (
        JOB.replace("sentence_transformers", "sentence_transformer"),
        "feature 't': there is no encoder 'sentence_transformer'",
        "Did you mean 'sentence_transformers'",
    ),
    "key of what is read": (
        JOB.replace("source =", "sorce ="),
        'job.toml: features.t: give one of source = "x", inputs = ["x", "y"] and text = "{x}, {y?}". '
        "Did you mean 'source'?",
    ),
    "column": (
        JOB.replace('"title"', '"titel"'),
        "feature 't' reads 'titel', which is neither a column nor a feature",
        "Did you mean 'title'?",
    ),
    "step's key": (
        JOB + "[gates]\nmin_coverge = 0.9\n",
        "job.toml: [gates]: min_coverge: there is no such key. Did you mean 'min_coverage'?",
    ),
    "job's key": (
        JOB + "[run]\nmax_faild = 0.1\n",
        "job.toml: run.max_faild: there is no such key. Did you mean 'max_failed'?",
    ),
    "feature to fit anew": (
        JOB.replace('model = "m"', 'model = "all-MiniLM-L6-v2"\nweights = "package"')
        + '[run]\nrefit = ["u"]\n',
        "'u' cannot be fitted anew: this job has no such feature.",
        "Fitted ones are: none.",
    ),
}


@pytest.mark.parametrize(("job", "said", "hint"), [(*w, "")[:3] for w in WRONG.values()], ids=list(WRONG))
def test_a_wrong_name_in_a_job_file_is_said_in_one_line_with_what_was_meant(run, tmp_path, job, said, hint):
    (tmp_path / "items.csv").write_text("item_id,title\na,a red cup\n")
    (tmp_path / "job.toml").write_text(job)
    code, _, err = run("run", "job.toml")
    line, *more = err.splitlines()
    assert (code, line.startswith(f"Error: {said}"), hint in "\n".join(more)) == (2, True, True), err
    assert len(more) == bool(hint), err
    assert not (tmp_path / "store").exists()
