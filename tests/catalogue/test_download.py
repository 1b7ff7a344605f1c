from __future__ import annotations

import errno
import hashlib
import importlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from deblur_cli.catalogue.download import (
    Bundled,
    Copy,
    Hub,
    HubError,
    HubSettings,
    Whereabouts,
    cache_dir,
    locate,
    ping,
    resolve,
)
from deblur_cli.catalogue.entries import Entry
from deblur_cli.catalogue.find import find
from deblur_cli.errors import DamagedWeightsError, MissingWeightsError
from deblur_cli.networks.contract import SingleModel
from deblur_cli.progress import Stage
from tests.support.hub import LoopbackHub, loopback_hub

FILE, CONTENT = "net.pth", bytes(range(256)) * 4096
KEPT = f"second/copy/{FILE}"


@dataclass
class Watcher:
    """Remembers what it was told; interrupts the download after so many bytes, as Ctrl-C does."""

    notes: list[str] = field(default_factory=list)
    done: int = 0
    interrupt_after: int | None = None

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Stage]:
        assert (total, unit) == (len(CONTENT), "bytes")
        yield self

    def advance(self, amount: int = 1) -> None:
        self.done += amount
        if self.interrupt_after is not None and self.done >= self.interrupt_after:
            raise KeyboardInterrupt

    def note(self, message: str) -> None:
        self.notes.append(message)

    def detail(self, message: str) -> None: ...


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 4096)
    monkeypatch.setattr("time.sleep", lambda _: None)  # between the client's own retries
    with loopback_hub() as running:
        running.files[KEPT] = CONTENT
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield running


@pytest.fixture
def entry() -> Entry[SingleModel]:
    return replace(
        find("nafnet-gopro-width32", SingleModel),
        name="net",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        size_bytes=len(CONTENT),
        source=Hub(FILE, (Copy("first/gone"), Copy("second/copy", "main"))),
    )


def left_over(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "hf").rglob("*") if path.is_file() and "blobs" in path.parts]


def test_offline_with_a_cold_cache_says_what_to_do(
    hub: LoopbackHub, entry: Entry[SingleModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingWeightsError, match=r"HF_HUB_OFFLINE .* `deblur models pull net` once .* --model"):
        resolve(entry)
    assert hub.gets == []


def test_a_wrong_hash_is_refused_and_the_file_fetched_anew_next_time(
    hub: LoopbackHub, entry: Entry[SingleModel], tmp_path: Path
) -> None:
    hub.files[KEPT] = b"!" * len(CONTENT)
    hub.tag = entry.sha256  # a server that lies, or a disk that rots, on the way
    with pytest.raises(DamagedWeightsError, match=r"second/copy is damaged or not .* its SHA-256 is \w+… instead of"):
        resolve(entry)
    assert left_over(tmp_path) == []
    hub.files[KEPT] = CONTENT
    assert resolve(entry).read_bytes() == CONTENT


def test_another_length_is_refused_before_anything_is_fetched(hub: LoopbackHub, entry: Entry[SingleModel]) -> None:
    hub.files[KEPT] = CONTENT[:-10]
    with pytest.raises(DamagedWeightsError, match=f"{len(CONTENT) - 10} bytes there instead of {len(CONTENT)}"):
        resolve(entry)
    assert hub.gets == []


def test_a_truncated_transfer_is_never_taken_for_the_file(hub: LoopbackHub, entry: Entry[SingleModel]) -> None:
    hub.truncate = 1000
    with pytest.raises(MissingWeightsError, match="goes on where it was cut off"):
        resolve(entry)
    assert locate(entry.source).where is Whereabouts.HUB
    hub.truncate = 0
    assert resolve(entry).read_bytes() == CONTENT


def test_a_tag_that_leads_out_of_the_cache_is_refused(
    hub: LoopbackHub, entry: Entry[SingleModel], tmp_path: Path
) -> None:
    hub.tag = "../../../../elsewhere"
    with pytest.raises(MissingWeightsError, match="does not answer as a Hub does"):
        resolve(entry)
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_is_foreseen(hub: LoopbackHub, entry: Entry[SingleModel]) -> None:
    with pytest.raises(MissingWeightsError, match=r"are free at .* HF_HOME"):
        resolve(replace(entry, size_bytes=10**18))
    assert hub.gets == []


def test_a_disk_that_fills_up_is_told_from_the_network(
    hub: LoopbackHub, entry: Entry[SingleModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(MissingWeightsError, match=r"cannot be kept in .*: No space left on device\. Free some space"):
        resolve(entry)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "nonsense"])
def test_an_unreachable_hub_says_so(
    hub: LoopbackHub, entry: Entry[SingleModel], monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(MissingWeightsError, match="Check the network and run the command again"):
        resolve(entry)


def test_a_damaged_cache_is_found_offline_too_and_fetched_anew(
    hub: LoopbackHub, entry: Entry[SingleModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(entry).resolve().write_bytes(b"rotten" + CONTENT[6:])
    with monkeypatch.context() as offline:
        offline.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(DamagedWeightsError, match="deleted from the cache"):
            resolve(entry)
    assert resolve(entry).read_bytes() == CONTENT


def test_a_damaged_bundled_file_is_kept_and_named(
    entry: Entry[SingleModel], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("deblur_cli.catalogue.download.bundled_folder", lambda: tmp_path)
    (tmp_path / FILE).write_bytes(b"rotten")
    with pytest.raises(DamagedWeightsError, match="Reinstall deblur-cli"):
        resolve(replace(entry, source=Bundled(FILE)))
    assert (tmp_path / FILE).exists()


def test_pull_is_announced_falls_back_to_the_copy_and_later_works_offline(
    hub: LoopbackHub, entry: Entry[SingleModel], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert locate(entry.source).where is Whereabouts.HUB
    watcher = Watcher()
    path = resolve(entry, watcher)
    assert path.read_bytes() == CONTENT
    assert path.is_relative_to(tmp_path / "hf" / "hub")
    assert watcher.notes[0].startswith("Fetching net (1 MB, MIT) from")
    assert watcher.done == len(CONTENT)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    again = Watcher()
    assert resolve(entry, again) == path
    assert locate(entry.source).where is Whereabouts.CACHED
    assert again.notes == []
    assert len(hub.gets) == 1


def test_what_the_hubs_own_client_fetched_is_used(hub: LoopbackHub, entry: Entry[SingleModel], tmp_path: Path) -> None:
    from huggingface_hub import hf_hub_download

    path = hf_hub_download("second/copy", FILE, cache_dir=tmp_path / "hf" / "hub", endpoint=hub.endpoint)
    assert resolve(entry) == Path(path)
    assert len(hub.gets) == 1


def test_a_broken_connection_is_taken_up_again(hub: LoopbackHub, entry: Entry[SingleModel]) -> None:
    hub.cut_after = len(CONTENT) // 2
    assert _until_it_comes(entry).read_bytes() == CONTENT
    assert hub.ranges
    assert "bytes=0-" not in hub.ranges


def _until_it_comes(entry: Entry[SingleModel]) -> Path:
    """Some versions of the client give up at once, others try again by themselves; both must go on."""
    try:
        return resolve(entry)
    except MissingWeightsError:
        return resolve(entry)


@pytest.mark.parametrize("ignores_ranges", [False, True])
def test_an_interrupted_pull_goes_on_in_the_next_run(
    hub: LoopbackHub, entry: Entry[SingleModel], ignores_ranges: bool
) -> None:
    half = len(CONTENT) // 2
    with pytest.raises(KeyboardInterrupt):
        resolve(entry, Watcher(interrupt_after=half))
    assert locate(entry.source).where is Whereabouts.HUB
    hub.ignores_ranges = ignores_ranges
    watcher = Watcher()
    assert resolve(entry, watcher).read_bytes() == CONTENT
    assert hub.ranges == [f"bytes={half}-"]  # asked for once, whatever the server made of it
    assert "1 MB of it are here already" in watcher.notes[0]
    assert ignores_ranges or watcher.done == len(CONTENT)


def test_a_partial_file_of_other_content_does_not_survive(
    hub: LoopbackHub, entry: Entry[SingleModel], tmp_path: Path
) -> None:
    blobs = tmp_path / "hf" / "hub" / "models--second--copy" / "blobs"
    blobs.mkdir(parents=True)
    partial = blobs / f"{entry.sha256}.incomplete"
    partial.write_bytes(b"x" * 100)
    with pytest.raises(DamagedWeightsError, match="Nothing of it was kept"):
        resolve(entry)
    assert resolve(entry).read_bytes() == CONTENT
    partial.write_bytes(b"x" * (len(CONTENT) + 1))
    next(blobs.glob(str(entry.sha256))).unlink()
    assert resolve(entry).read_bytes() == CONTENT


@pytest.mark.parametrize("endpoint", ["http://hub:port", "htp://hub", "no address"])
def test_an_address_that_cannot_be_is_an_error_of_the_hub(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(HubError):
        ping(HubSettings(tmp_path, endpoint, offline=False), 1.0)


def test_a_file_that_another_program_left_is_verified_before_its_first_use(
    hub: LoopbackHub, entry: Entry[SingleModel], tmp_path: Path
) -> None:
    blobs = tmp_path / "hf" / "hub" / "models--second--copy" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / str(entry.sha256)).write_bytes(b"y" * len(CONTENT))
    assert resolve(entry).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"HF_HUB_OFFLINE": "yes", "HF_HUB_CACHE": "/elsewhere/hub"},
        {"HF_HOME": "~/models", "HF_ENDPOINT": "https://hub.example/"},
    ],
)
def test_the_environment_is_read_as_the_hubs_own_client_reads_it(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    from huggingface_hub import constants

    try:
        with monkeypatch.context() as changed:
            for name, value in environment.items():
                changed.setenv(name, value)
            importlib.reload(constants)
            settings = HubSettings.now()
            assert str(settings.cache) == constants.HF_HUB_CACHE
            assert (settings.endpoint, settings.offline) == (constants.ENDPOINT, constants.HF_HUB_OFFLINE)
    finally:
        importlib.reload(constants)


def test_a_user_without_a_home_has_a_cache_among_the_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object, **__: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    monkeypatch.setattr("deblur_cli.catalogue.download.user_cache_path", nobody)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    temporary = Path(tempfile.gettempdir())
    assert HubSettings.now().cache.is_relative_to(temporary)
    assert cache_dir().is_relative_to(temporary)
