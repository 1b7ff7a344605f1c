"""Each case runs in a process of its own: the Hub's client reads its environment as it is imported."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.hub import LoopbackHub, loopback_hub

FILE, CONTENT = "net.pth", bytes(range(256)) * 8192
SCRIPT = """
import json, sys
from dataclasses import replace
from deblur_cli.catalogue.download import resolve
from deblur_cli.catalogue.entry import Hub
from deblur_cli.catalogue.find import find
from deblur_cli.errors import DeblurError
from deblur_cli.networks.contract import SingleModel

class Notes:
    def note(self, message): print("note:", message, file=sys.stderr)
    def detail(self, message): pass

sha256, size = sys.argv[1:]
entry = replace(
    find("nafnet-gopro-width32", SingleModel), name="net", sha256=sha256, size_bytes=int(size),
    source=Hub(("first/gone", "second/copy"), "main", "net.pth"),
)
try:
    print(json.dumps({"path": str(resolve(entry, Notes()))}))
except DeblurError as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}))
"""


@dataclass
class Client:
    hub: LoopbackHub
    home: Path

    def resolve(self, *, sha256: str | None = None, size: int = len(CONTENT), **environment: str) -> dict[str, str]:
        variables = {
            **os.environ,
            "HF_ENDPOINT": self.hub.endpoint,
            "HF_HOME": str(self.home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            **environment,
        }
        digest = sha256 or hashlib.sha256(CONTENT).hexdigest()
        command = [sys.executable, "-c", SCRIPT, digest, str(size)]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        answer: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
        return {**answer, "stderr": done.stderr}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with loopback_hub() as hub:
        hub.files[f"second/copy/{FILE}"] = CONTENT
        yield Client(hub, tmp_path / "hf")


def test_offline_with_a_cold_cache_says_what_to_do(client: Client) -> None:
    answer = client.resolve(HF_HUB_OFFLINE="1")
    assert answer["error"] == "MissingWeightsError"
    assert "HF_HUB_OFFLINE" in answer["message"]
    assert "deblur models pull net" in answer["message"]
    assert client.hub.gets == []


def test_a_wrong_hash_is_refused_and_the_file_fetched_anew_next_time(client: Client) -> None:
    client.hub.files[f"second/copy/{FILE}"] = b"something else" * 1000
    answer = client.resolve()
    assert answer["error"] == "DamagedWeightsError"
    assert "deleted from the cache" in answer["message"]
    client.hub.files[f"second/copy/{FILE}"] = CONTENT
    assert Path(client.resolve()["path"]).read_bytes() == CONTENT


def test_a_truncated_transfer_is_never_taken_for_the_file(client: Client) -> None:
    client.hub.truncate = 1000
    answer = client.resolve()
    assert answer["error"] in {"MissingWeightsError", "DamagedWeightsError"}
    client.hub.truncate = 0
    assert Path(client.resolve()["path"]).read_bytes() == CONTENT


def test_a_full_disk_is_foreseen(client: Client) -> None:
    answer = client.resolve(size=10**18)
    assert answer["error"] == "MissingWeightsError"
    assert "are free at" in answer["message"]
    assert client.hub.gets == []


def test_an_unreachable_hub_says_so(client: Client) -> None:
    answer = client.resolve(HF_ENDPOINT="http://127.0.0.1:9")
    assert answer["error"] == "MissingWeightsError"
    assert "Check the network and run the command again" in answer["message"]


def test_pull_is_announced_falls_back_to_the_copy_and_later_works_offline(client: Client) -> None:
    first = client.resolve()
    assert Path(first["path"]).read_bytes() == CONTENT
    assert "note: Fetching net (2 MB, MIT)" in first["stderr"]
    fetched = len(client.hub.gets)
    again = client.resolve(HF_HUB_OFFLINE="1")
    assert again["path"] == first["path"]
    assert "Fetching" not in again["stderr"]
    assert len(client.hub.gets) == fetched == 1


def test_an_interrupted_pull_goes_on_where_it_was_cut(client: Client) -> None:
    client.hub.cut_after = len(CONTENT) // 2
    answer = client.resolve()
    if "path" not in answer:  # the client gave up: the next run goes on
        answer = client.resolve()
    assert Path(answer["path"]).read_bytes() == CONTENT
    assert client.hub.ranges
    assert client.hub.ranges[-1].startswith("bytes=")
    assert client.hub.ranges[-1] != "bytes=0-"


def test_a_damaged_cache_is_found_offline_too(client: Client) -> None:
    path = Path(client.resolve()["path"])
    path.resolve().write_bytes(b"rotten" + CONTENT[6:])
    assert client.resolve(HF_HUB_OFFLINE="1")["error"] == "DamagedWeightsError"
