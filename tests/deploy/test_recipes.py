"""The recipes in deploy/ hold together: each is read by its own format's rules as far as these run here."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml

from mmfeat.cli import app
from mmfeat.schemas.job import JobConfig, load_job, parse_job

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CRONJOB, RAYJOB = (DEPLOY / "kubernetes" / name for name in ("cronjob.yaml", "rayjob.yaml"))
DOCKER_INSTRUCTIONS = {
    "FROM", "RUN", "CMD", "LABEL", "EXPOSE", "ENV", "ADD", "COPY", "ENTRYPOINT", "VOLUME", "USER", "WORKDIR",
    "ARG", "ONBUILD", "STOPSIGNAL", "HEALTHCHECK", "SHELL",
}  # fmt: skip


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def accepted(command: str) -> str:
    """The job that an ``mmfeat run`` names; the command line must take every word of it."""
    program, name, *words = shlex.split(command)
    assert (Path(program).name, name) == ("mmfeat", "run")
    context = typer.main.get_command(app).commands["run"].make_context("run", words)
    assert context.params["json"] is True
    return str(context.params["job"])


def keeps_to(job: JobConfig) -> None:
    """The promises that the recipes' texts make."""
    assert job.run.wait_seconds > 0
    assert job.steps["gates"].min_coverage is not None
    assert job.steps["notify"].webhook_env == "MMFEAT_WEBHOOK"
    assert "keep" in job.steps


def test_the_job_of_the_recipes_is_one_that_mmfeat_reads():
    keeps_to(load_job(DEPLOY / "job.toml"))


def test_the_crontab_has_lines_as_cron_takes_them():
    fields = r"(?:[\d*/,-]+\s+){5}"
    lines = [line for line in (DEPLOY / "crontab").read_text().splitlines() if line and line[0] != "#"]
    settings = [line for line in lines if re.fullmatch(r"[A-Z_]+=\S*", line)]
    (job,) = [line for line in lines if line not in settings]
    assert re.match(fields, job)
    command = re.sub(fields, "", job, count=1)
    assert "%" not in command  # which cron takes for the end of the line
    assert accepted(command.partition(">>")[0]) == "/etc/mmfeat/job.toml"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_service_and_the_timer(tmp_path):
    service = (DEPLOY / "systemd" / "mmfeat.service").read_text()
    # It looks for the program and the user, which are not on this machine.
    (tmp_path / "mmfeat.service").write_text(
        service.replace("/opt/mmfeat/bin/mmfeat", "/bin/true").replace("User=mmfeat", "User=root")
    )
    shutil.copy(DEPLOY / "systemd" / "mmfeat.timer", tmp_path)
    units = [str(tmp_path / name) for name in ("mmfeat.service", "mmfeat.timer")]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if "mmfeat" in line]
    assert (done.returncode, ours) == (0, [])


def test_the_service_starts_what_mmfeat_takes_and_is_not_tried_again_after_2_and_3():
    lines = (DEPLOY / "systemd" / "mmfeat.service").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")
    assert accepted(settings["ExecStart"]) == "/etc/mmfeat/job.toml"
    assert settings["RestartPreventExitStatus"].split() == ["2", "3"]


def test_the_airflow_dag_is_python_and_starts_what_mmfeat_takes():
    tree = ast.parse((DEPLOY / "airflow_dag.py").read_text())
    given = {
        node.func.id: {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert accepted(given["BashOperator"]["bash_command"]) == "/etc/mmfeat/job.toml"
    dag = given["DAG"]
    assert (dag["catchup"], dag["max_active_runs"]) == (False, 1)


def test_kubernetes_schemas_take_the_cron_job_and_its_job():
    config, cron = documents(CRONJOB)
    for document in (config, cron):
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    keeps_to(parse_job(tomllib.loads(config["data"]["job.toml"]), "cronjob.yaml"))
    job = cron["spec"]["jobTemplate"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    assert accepted(shlex.join(["mmfeat", *container["args"]])) == "/etc/mmfeat/job.toml"
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["values"] == [2, 3]
    # Kubernetes takes such a policy with this alone.
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    mounts_exist(job["template"]["spec"])


def test_the_check_of_manifests_can_fail():
    _, cron = documents(CRONJOB)
    cron["spec"]["jobTemplate"]["spec"]["backofLimit"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(cron, kubernetes_validate.latest_version(), strict=True)


def test_the_ray_job_has_what_kuberay_asks_for():
    """The operator's own schema comes in no package: its required fields and names are written out here."""
    (job,) = documents(RAYJOB)
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    assert set(spec) <= {
        "entrypoint", "submissionMode", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished",
        "activeDeadlineSeconds", "backoffLimit", "rayClusterSpec", "runtimeEnvYAML", "metadata",
        "clusterSelector", "submitterPodTemplate", "suspend", "jobId", "entrypointNumCpus",
    }  # fmt: skip
    assert spec["submissionMode"] in ("K8sJobMode", "HTTPMode", "InteractiveMode")
    assert spec["ttlSecondsAfterFinished"] > 0 and spec["shutdownAfterJobFinishes"] is True
    assert accepted(spec["entrypoint"]) == "/etc/mmfeat/job.toml"
    cluster = spec["rayClusterSpec"]
    assert set(cluster) <= {"rayVersion", "headGroupSpec", "workerGroupSpecs", "enableInTreeAutoscaling"}
    assert f"\nray=={cluster['rayVersion']}\n" in (ROOT / "constraints.txt").read_text()
    assert set(cluster["headGroupSpec"]) <= {"rayStartParams", "template", "serviceType"}
    for group in cluster["workerGroupSpecs"]:
        assert set(group) == {
            "groupName",
            "replicas",
            "minReplicas",
            "maxReplicas",
            "rayStartParams",
            "template",
        }
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray"}, **group["template"]}
        kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
        mounts_exist(group["template"]["spec"])


def test_the_dockerfile_is_one_and_copies_what_is_there():
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    steps = [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and line[0] != "#"]
    assert {instruction for instruction, _ in steps} <= DOCKER_INSTRUCTIONS
    assert steps[0][0] == "FROM"
    for instruction, words in steps:
        if instruction == "COPY":
            *sources, _target = words.split()
            assert [s for s in sources if not (ROOT / s).exists()] == []
    # The last user is not root, and a stop reaches mmfeat itself and not a shell.
    assert [words for instruction, words in steps if instruction == "USER"] == ["mmfeat"]
    assert ["ENTRYPOINT", '["mmfeat"]'] in steps
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (wanted,) = re.findall(r"\.\[([\w,]+)\]", text)
    assert set(wanted.split(",")) <= set(extras)


def mounts_exist(pod: dict[str, Any]) -> None:
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in pod["containers"]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
