from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from deblur_cli.diagnosis.check import State
from deblur_cli.diagnosis.weights import check_caches, check_hub, check_weights
from deblur_cli.errors import DamagedWeightsError


@pytest.mark.weights
def test_bundled_networks_are_whole() -> None:
    found = {check.name: check for check in check_weights()}
    assert found["deblur-single"].state is State.OK
    assert found["other networks"].found.startswith("none of ")
    assert "deblur models pull" in found["other networks"].remedy


def test_a_damaged_network_is_a_problem_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(entry: object) -> Path:
        raise DamagedWeightsError("deblur-single.safetensors: is damaged. Reinstall deblur-cli.")

    monkeypatch.setattr("deblur_cli.diagnosis.weights.resolve", resolve)
    first = next(check_weights())
    assert first.state is State.PROBLEM
    assert "Reinstall" in first.remedy


def test_caches_say_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBLUR_CACHE", str(tmp_path / "not yet there"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    own, hub = check_caches()
    assert str(tmp_path / "not yet there") in own.found
    assert str(tmp_path / "hf" / "hub") in hub.found


def test_a_cache_that_is_a_file_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("DEBLUR_CACHE", str(tmp_path / "cache"))
    own = next(check_caches())
    assert own.state is State.NOTE
    assert "DEBLUR_CACHE" in own.remedy


def test_a_hub_switched_off_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    [hub] = check_hub()
    assert (hub.state, "HF_HUB_OFFLINE" in hub.found) == (State.NOTE, True)


def test_a_hub_out_of_reach_is_noted_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    [hub] = check_hub()
    assert hub.state is State.NOTE
    assert "cannot be reached" in hub.found
    assert "HF_ENDPOINT" in hub.remedy


def test_a_hub_that_answers_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering() as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        [hub] = check_hub()
    assert (hub.state, hub.found) == (State.OK, f"{address} answers")


@contextmanager
def answering() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
