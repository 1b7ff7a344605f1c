from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deblur_cli.adaptation import profile as module
from deblur_cli.adaptation.blur_library import save_library
from deblur_cli.adaptation.frames import Shots
from deblur_cli.adaptation.judge import ProfileVerdict
from deblur_cli.adaptation.profile import Beside, ProfileJob, limits_for, make_profile, settings_of
from deblur_cli.adaptation.run import BLUR, SETTINGS
from deblur_cli.adaptation.settings import LAPTOP, Adapted, AdaptSettings, TranslateSettings
from deblur_cli.adaptation.shots import Limits, Plan, ShotInputs
from deblur_cli.catalogue import weight_file
from deblur_cli.catalogue.camera_profile import load_profile, read_profile
from deblur_cli.engine.device import Device
from deblur_cli.errors import (
    CannotWriteError,
    DatasetError,
    DeblurError,
    OutputCollisionError,
    OutputExistsError,
    UsageError,
)
from deblur_cli.networks.contract import SingleModel
from deblur_cli.networks.registry import architecture
from deblur_cli.training.distributed import World
from deblur_cli.training.loop import StopRequest
from tests.adaptation.bank import line_library
from tests.adaptation.camera_shots import write_camera
from tests.support.profiles import TINY_MIMO, deblurring_network, identity_weights

PLANS: dict[ShotInputs, Plan] = {}
LOADED: dict[int, tuple[Shots, Plan]] = {}
STRIP = torch.zeros(8, 12, 3, dtype=torch.uint8).numpy()


class Standin:
    """Stands for the training: keeps what it was given, and answers with an identity translator."""

    def __init__(self) -> None:
        self.shots: Shots | None = None
        self.settings: AdaptSettings | None = None
        self.model: SingleModel | None = None
        self.interrupted = self.had_state = False
        self.helps = True
        self.weights = identity_weights()

    def __call__(
        self,
        shots: Shots,
        model: SingleModel,
        settings: AdaptSettings,
        *,
        folder: Path,
        wish: StopRequest,
        **rest: object,
    ) -> tuple[Adapted, ProfileVerdict | None]:
        self.shots, self.settings, self.model, self.had_state = shots, settings, model, folder.exists()
        folder.mkdir(exist_ok=True)
        (folder / SETTINGS).write_text("{}")
        save_library(line_library(), folder / BLUR)
        scores = (("PSNR", 30.0, 34.0),)
        stopped = self.interrupted or wish.asked
        adapted = Adapted(
            method=settings.method,
            weights=self.weights,
            architecture="mimo-unet",
            config=TINY_MIMO,
            traits=architecture("mimo-unet").default_traits(TINY_MIMO),
            scores=scores,
            helps=self.helps,
            steps=20,
            seconds=3.0,
            recipe="a stand-in's",
            interrupted=stopped,
        )
        return adapted, None if stopped else ProfileVerdict(scores, 4.0, 0.1, float("nan"), STRIP)


@pytest.fixture
def standin(monkeypatch: pytest.MonkeyPatch) -> Standin:
    standin = Standin()
    monkeypatch.setattr(module, "adapt", standin)
    return standin


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_camera(tmp_path_factory.mktemp("camera"))


@pytest.fixture
def job(camera: Path, tmp_path: Path) -> ProfileJob:
    deblurring_network(tmp_path / "net.safetensors")
    wish = ShotInputs((), (camera / "blurry",), (camera / "sharp",))
    network = str(tmp_path / "net.safetensors")
    return ProfileJob(
        wish, tmp_path / "my.safetensors", "translate", network, steps=20, device="cpu", precision="float32"
    )


@pytest.fixture(autouse=True)
def _looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has the same shots: the first look at them serves all."""
    plan_shots, load_shots = module.plan_shots, module.load_shots

    def plan(wish: ShotInputs, *rest: object) -> Plan:
        if wish not in PLANS:
            PLANS[wish] = plan_shots(wish, *rest)  # type: ignore[arg-type]
        return PLANS[wish]

    def loaded(plan: Plan, *rest: object) -> tuple[Shots, Plan]:
        if id(plan) not in LOADED:
            LOADED[id(plan)] = load_shots(plan, *rest)  # type: ignore[arg-type]
        return LOADED[id(plan)]

    monkeypatch.setattr(module, "plan_shots", plan)
    monkeypatch.setattr(module, "load_shots", loaded)


class TestRefusals:
    @pytest.mark.parametrize(
        ("changed", "kind", "message"),
        [
            ({"known_blur": Path("nowhere")}, UsageError, "--known-blur nowhere is no folder"),
            ({"known_blur": Path(__file__).parent}, DatasetError, "holds no"),
            (
                {"model": "a.safetensors", "out": Path("a.safetensors")},
                OutputCollisionError,
                "is the deblurring network",
            ),
            ({"out": Path("/dev/null/my.safetensors")}, CannotWriteError, "cannot be written to /dev/null"),
        ],
    )
    def test_before_anything_is_opened(
        self,
        changed: dict[str, object],
        kind: type[DeblurError],
        message: str,
        job: ProfileJob,
        standin: Standin,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(module, "find", None)
        with pytest.raises(kind, match=message):
            make_profile(replace(job, **changed))  # type: ignore[arg-type]

    def test_a_profile_is_never_replaced_unasked(self, job: ProfileJob, standin: Standin) -> None:
        job.out.write_text("somebody's")
        with pytest.raises(OutputExistsError, match="already exists; use --overwrite"):
            make_profile(job)
        assert job.out.read_text() == "somebody's"
        assert standin.shots is None

    def test_a_training_that_stopped_is_not_thrown_away(self, job: ProfileJob, standin: Standin) -> None:
        Beside.of(job.out).training.mkdir()
        (Beside.of(job.out).training / SETTINGS).write_text("{}")
        with pytest.raises(UsageError, match=r"holds a training already. Add --resume"):
            make_profile(job)

    def test_too_few_shots_are_shown_all_the_same(self, job: ProfileJob, tmp_path: Path, standin: Standin) -> None:
        few = write_camera(tmp_path / "few", blurry=7, sharp=5)
        wish = ShotInputs((), (few / "blurry",), (few / "sharp",))
        with pytest.raises(DatasetError, match="too few shots to learn from: 7 blurry and 5 sharp"):
            make_profile(replace(job, shots=wish, preview=True))
        assert Beside.of(job.out).shots.exists()
        assert standin.shots is None

    def test_a_full_disk_leaves_no_half_profile(
        self, job: ProfileJob, standin: Standin, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = weight_file.save_file

        def full(tensors: dict[str, torch.Tensor], path: str, metadata: dict[str, str]) -> None:
            if Path(path).parent == Beside.of(job.out).training:
                return write(tensors, path, metadata)
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(weight_file, "save_file", full)
        with pytest.raises(CannotWriteError, match=r"No space left.*--resume writes it from my\.training"):
            make_profile(job)
        assert not job.out.exists()
        assert Beside.of(job.out).begun
        assert not list(job.out.parent.glob(".deblur-*"))


def test_a_profile_says_what_it_was_made_of(job: ProfileJob, standin: Standin) -> None:
    result = make_profile(job)
    profile = read_profile(job.out)
    assert result.out == job.out
    assert profile.made_for == result.made_for
    assert profile.made_for.name == "net.safetensors"
    assert (profile.camera.make, profile.camera.model) == (result.camera.make, result.camera.model)
    assert profile.camera.model is not None
    assert (profile.recipe, profile.helps, profile.steps) == ("a stand-in's", True, 20)
    assert profile.scores == (("PSNR", 30.0, 34.0),)
    assert load_profile(job.out, profile).name == "my.safetensors"


def test_the_shots_reach_the_training(job: ProfileJob, standin: Standin) -> None:
    result = make_profile(job)
    assert standin.shots is not None
    counts = result.shots
    learned = (counts.blurry, counts.held_back, counts.sharp, counts.held_sharp)
    given = standin.shots
    assert learned == tuple(map(len, (given.blurry, given.held_back, given.sharp, given.held_sharp)))
    assert min(learned) >= 1
    assert sum(learned) + sum(n for _, n in counts.left_out) == counts.seen == 24
    assert standin.model is not None
    assert standin.model.name == "net.safetensors"


def test_the_same_training_gives_the_same_file(job: ProfileJob, standin: Standin, tmp_path: Path) -> None:
    make_profile(job)
    make_profile(replace(job, out=tmp_path / "again.safetensors"))
    assert (tmp_path / "again.safetensors").read_bytes() == job.out.read_bytes()


def test_what_lies_beside_the_profile(job: ProfileJob, standin: Standin) -> None:
    beside = Beside.of(job.out)
    result = make_profile(replace(job, preview=True))
    assert (result.sheet, result.strip) == (beside.shots, beside.strip)
    assert all(path.exists() for path in (beside.shots, beside.strip, beside.blur))
    assert not beside.training.exists(), "a training that is done needs no folder"
    again = replace(job, preview=True, overwrite=True)
    assert make_profile(again).strip == beside.strip, "pictures of an earlier run are replaced"


def test_a_dry_run_trains_nothing(
    job: ProfileJob, standin: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_library", lambda *_, **__: line_library())
    before = set(tmp_path.iterdir())
    result = make_profile(replace(job, dry_run=True))
    assert standin.shots is None
    assert (result.out, result.helps, result.steps) == (None, None, 0)
    assert set(tmp_path.iterdir()) - before == {Beside.of(job.out).shots, Beside.of(job.out).blur}


def test_an_interrupted_training_writes_no_profile_and_goes_on(job: ProfileJob, standin: Standin) -> None:
    standin.interrupted = True
    result = make_profile(job)
    assert (result.out, result.helps, result.interrupted) == (None, None, True)
    assert not job.out.exists()
    standin.interrupted = False
    assert make_profile(replace(job, resume=True)).out == job.out
    assert standin.had_state


def test_overwriting_begins_anew_and_resuming_does_not(job: ProfileJob, standin: Standin) -> None:
    standin.helps = False
    make_profile(job)
    make_profile(replace(job, overwrite=True))
    assert not standin.had_state
    make_profile(replace(job, overwrite=True, resume=True))
    assert standin.had_state


def test_a_profile_that_does_not_help_is_marked(job: ProfileJob, standin: Standin) -> None:
    standin.helps = False
    assert make_profile(job).helps is False
    assert read_profile(job.out).helps is False


def test_only_the_leading_process_writes(
    job: ProfileJob, standin: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "world_from_environment", lambda: World(1, 2, 1))
    before = set(tmp_path.iterdir())
    result = make_profile(replace(job, preview=True))
    assert (result.leads, result.out) == (False, None)
    assert set(tmp_path.iterdir()) - before == {Beside.of(job.out).training}, "which the stand-in wrote"


def test_a_laptop_trains_a_smaller_translator(job: ProfileJob) -> None:
    on_cpu = settings_of(job, Device(torch.device("cpu"), torch.float32, "tests"))
    on_gpu = settings_of(job, Device(torch.device("cuda", 0), torch.bfloat16, "tests"))
    assert (on_cpu.translate, on_gpu.translate) == (LAPTOP, TranslateSettings())
    assert (on_cpu.steps, on_cpu.minutes, on_cpu.method) == (20, None, "translate")
    assert (limits_for(Device(torch.device("cpu"), torch.float32, "tests")), on_gpu.minutes) == (Limits(), None)


def test_a_gpu_learns_from_all_shots() -> None:
    limits = limits_for(Device(torch.device("cuda", 0), torch.bfloat16, "tests"))
    assert min(limits.blurry, limits.sharp) > 10**5


def test_a_folder_that_no_training_began_is_left_alone(job: ProfileJob, standin: Standin) -> None:
    theirs = Beside.of(job.out).training / "notes.txt"
    theirs.parent.mkdir()
    theirs.write_text("mine")
    with pytest.raises(UsageError, match="no training began it"):
        make_profile(replace(job, overwrite=True))
    assert theirs.read_text() == "mine"
