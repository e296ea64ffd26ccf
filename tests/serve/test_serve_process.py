"""``mmfeat serve`` as a process: how it starts, how it ends, what it loads."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

CLI = "from mmfeat.cli import main; main()"


@contextmanager
def serving(store, *options: str, program: str = CLI) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its URL, once it answers."""
    command = [sys.executable, "-c", program, "serve", str(store), "--port", "0", "--json", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield process, json.loads(line)["url"]
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_sigterm_answers_what_is_in_work_and_then_ends_well(served_store):
    with serving(served_store, "--timeout", "300") as (process, url):
        answers: list[httpx.Response] = []

        def ask() -> None:
            # Slow by itself: the process has not loaded its encoder yet, nor torch.
            query = {"feature": "clip", "text": "a red circle"}
            answers.append(httpx.post(f"{url}/v1/search", json=query, timeout=300))

        asking = threading.Thread(target=ask)
        asking.start()
        while "mmfeat_requests_in_progress 2.0" not in httpx.get(f"{url}/metrics").text:
            assert asking.is_alive(), "it was answered before it could be seen"
        process.send_signal(signal.SIGTERM)
        asking.join()
        out, err = process.communicate(timeout=300)

    assert answers[0].status_code == 200 and len(answers[0].json()["hits"]) == 6
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize("loading", ["mmfeat.serve.app", "uvicorn.lifespan.on"])
def test_sigterm_before_it_answers_is_a_clean_end_too(served_store, loading):
    # The signal comes at a chosen moment of the start: when this module is looked for.
    signalled = (
        "import os, signal, sys\n"
        "class Signal:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {loading!r}:\n"
        "            sys.meta_path.remove(self)\n"
        "            os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.meta_path.insert(0, Signal())\n"
    )
    command = [sys.executable, "-c", signalled + CLI, "serve", str(served_store), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_lookups_and_searches_by_vector_load_neither_torch_nor_an_encoder(served_store):
    # Nothing of these may be imported: the service would fail to answer.
    blocked = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'transformers', 'open_clip', 'ray', 'PIL', 'av'):\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
    )
    with serving(served_store, "--ui", program=blocked + CLI) as (_, url):
        assert httpx.post(f"{url}/v1/lookup", json={"ids": ["item-0"]}).is_success
        assert httpx.post(f"{url}/v1/search", json={"feature": "clip", "item": "item-0"}).is_success
        assert httpx.get(f"{url}/items").is_success
        text = httpx.post(f"{url}/v1/search", json={"feature": "clip", "text": "a circle"})
        assert text.status_code == 501 and text.json()["error"] == "MissingExtra"
        assert "mmfeat[extract]" in text.json()["hint"]


def test_an_address_for_everybody_needs_a_key_or_a_word(run, served_store):
    code, _, err = run("serve", served_store, "--host", "0.0.0.0", "--port", 0)
    assert code == 2
    assert "MMFEAT_API_KEYS" in err and "--without-keys" in err


def test_a_taken_port_and_a_folder_without_a_store_are_said(run, served_store, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = run("serve", served_store, "--port", taken.getsockname()[1])
    assert code == 2 and "Cannot listen on 127.0.0.1" in err
    code, out, _ = run("serve", tmp_path, "--port", 0, "--json")
    assert code == 1 and json.loads(out)["error"]["type"] == "StoreError"
