from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from deblur_cli.cli import app
from deblur_cli.errors import DatasetError, UsageError
from deblur_cli.evaluation import reference as module
from deblur_cli.evaluation.evaluate import EvaluateJob
from deblur_cli.evaluation.reference import ReferenceKind, evaluate_references
from deblur_cli.evaluation.scores import PhotoScore
from deblur_cli.imaging.photo import Photo
from deblur_cli.measure.blur_extent import BlurExtent
from tests.support.bursts import frame, save
from tests.support.fake_networks import Borrow, Brighten, install_ref, reference_model, single_model

SEEDS = (5, 6)


@pytest.fixture(autouse=True)
def _networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that takes half of whatever reference it is given, right or wrong; alone, photos come back brighter."""
    monkeypatch.setattr(module, "estimate_blur_extent", lambda pixels: BlurExtent(12.0, 1.0))
    install_ref(monkeypatch, reference_model(Borrow(0.5)), single_model(Brighten(0.02)))


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    for seed in SEEDS:
        save(tmp_path / f"set/blur/p{seed}.png", frame(seed, 0, 10.0))
        save(tmp_path / f"set/sharp/p{seed}.png", frame(seed, 0, 0))
        save(tmp_path / f"set/ref/p{seed}.png", frame(seed, 2, 0))
    return tmp_path / "set"


def job(*folders: Path, **more: object) -> EvaluateJob:
    return EvaluateJob(folders, device="cpu", precision="float32", **more)  # type: ignore[arg-type]


def scores(bench: Path, *kinds: ReferenceKind) -> dict[ReferenceKind, list[PhotoScore]]:
    results = evaluate_references(job(bench), kinds)
    return {result.reference: list(result.evaluation.folders[0].photos) for result in results}


def outputs(bench: Path, *kinds: ReferenceKind) -> dict[ReferenceKind, list[float]]:
    return {kind: [photo.psnr_out for photo in photos] for kind, photos in scores(bench, *kinds).items()}


class TestErrors:
    def test_a_photo_without_reference(self, bench: Path) -> None:
        (bench / "ref/p6.png").unlink()
        with pytest.raises(
            DatasetError, match=r"p6\.png has no reference: there is no picture of its name in a folder ref/"
        ):
            evaluate_references(job(bench), [ReferenceKind.SHARP])

    def test_one_scene_has_no_wrong_reference(self, bench: Path) -> None:
        for seed in SEEDS[1:]:
            for folder in ("blur", "sharp", "ref"):
                (bench / f"{folder}/p{seed}.png").unlink()
        with pytest.raises(DatasetError, match="none has a wrong reference"):
            evaluate_references(job(bench), [ReferenceKind.WRONG])

    def test_finished_outputs_have_no_reference(self, bench: Path) -> None:
        with pytest.raises(UsageError, match="--outputs"):
            evaluate_references(job(bench, outputs=bench), [ReferenceKind.SHARP])


def test_each_kind_is_what_it_says(bench: Path) -> None:
    sharp, own, wrong, none = ReferenceKind.SHARP, ReferenceKind.SELF, ReferenceKind.WRONG, ReferenceKind.NONE
    found = scores(bench, sharp, own, wrong, none, ReferenceKind.PIPELINE)
    for index in range(len(SEEDS)):
        at = {kind: photos[index].psnr_out for kind, photos in found.items()}
        assert at[ReferenceKind.SELF] == pytest.approx(found[own][index].psnr_in, abs=0.01)
        assert at[ReferenceKind.SHARP] > at[ReferenceKind.SELF] + 1.5
        assert at[ReferenceKind.PIPELINE] == pytest.approx(at[ReferenceKind.SHARP], abs=1e-6)
        assert at[ReferenceKind.WRONG] < at[ReferenceKind.SELF] - 1
        assert at[ReferenceKind.NONE] < at[ReferenceKind.SELF] - 1


def test_the_pipeline_refuses_what_does_not_fit(bench: Path) -> None:
    for seed, other in zip(SEEDS, (6, 5), strict=True):
        save(bench / f"ref/p{seed}.png", frame(other, 2, 0))
    found = outputs(bench, ReferenceKind.SHARP, ReferenceKind.PIPELINE)
    for taken, refused in zip(found[ReferenceKind.SHARP], found[ReferenceKind.PIPELINE], strict=True):
        assert refused > taken + 1


def test_a_photo_that_is_sharp_already_is_left_alone(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "estimate_blur_extent", lambda pixels: BlurExtent(0.2, 1.0))
    photos = evaluate_references(job(bench), [ReferenceKind.WRONG])[0].evaluation.folders[0].photos
    assert all(score.already_sharp and score.gain_db == 0 for score in photos)


def test_references_of_other_sizes(bench: Path) -> None:
    large = np.repeat(np.repeat(frame(5, 2, 0), 2, axis=0), 2, axis=1)
    save(bench / "ref/p5.png", large)
    (bench / "blur/p6.png").unlink()
    assert outputs(bench, ReferenceKind.SHARP)[ReferenceKind.SHARP][0] > 20


def run(*arguments: str):
    command = ["evaluate", *arguments, "--device", "cpu", "--precision", "float32"]
    return CliRunner().invoke(app, command, prog_name="deblur", catch_exceptions=False)


class TestCommand:
    def test_several_kinds_are_columns(self, bench: Path) -> None:
        result = run(str(bench), "--reference", "none", "--reference", "self")
        assert result.exit_code == 0
        header, row = result.stdout.splitlines()[:2]
        assert header.split() == ["folder", "photos", "input", "none", "self", "worse"]
        assert row.startswith("set ")
        assert row.endswith("2, 0")

    def test_one_kind_is_scored_photo_by_photo(self, bench: Path) -> None:
        result = run(str(bench), "--reference", "self")
        assert "p6.png" in result.stdout
        assert "set: 2 photos, gain +" in result.stdout

    def test_machines_get_all(self, bench: Path) -> None:
        answer = json.loads(run(str(bench), "--reference", "self", "--reference", "none", "--json").stdout)
        assert [each["reference"] for each in answer] == ["self", "none"]
        lines = run(str(bench), "--reference", "self", "--csv").stdout.splitlines()
        assert lines[0].startswith("reference,folder,photo,psnr_in")
        assert len(lines) == 3


@pytest.fixture
def gopro(tmp_path: Path) -> Path:
    """GoPro's layout: two scenes of three frames, blurred much, somewhat and hardly."""
    for name, seed in (("GOPR1", 5), ("GOPR2", 6)):
        for number, blur in enumerate((10.0, 4.0, 1.0)):
            save(tmp_path / f"gopro/test/{name}/blur/{number:06}.png", frame(seed, 0, blur))
            save(tmp_path / f"gopro/test/{name}/sharp/{number:06}.png", frame(seed, 0, 0))
    return tmp_path / "gopro"


def test_a_data_set_without_references_is_scored_by_the_papers_protocol(
    gopro: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames of the scene are the references, given as they are: drawn, and by their order of sharpness (Table 5)."""
    model = reference_model(Borrow(0.5))
    model = replace(model, traits=replace(model.traits, any_scene=True))
    install_ref(monkeypatch, model, single_model(Brighten(0.02)))
    kinds = (ReferenceKind.NEIGHBOUR, ReferenceKind.SHARPEST, ReferenceKind.BLURRIEST, ReferenceKind.WRONG)
    found = outputs(gopro, *kinds)
    assert {kind: len(photos) for kind, photos in found.items()} == dict.fromkeys(kinds, 6)
    first = {kind: photos[0] for kind, photos in found.items()}  # blurred much; the others somewhat and hardly
    assert first[ReferenceKind.SHARPEST] > first[ReferenceKind.BLURRIEST] + 0.3
    assert first[ReferenceKind.BLURRIEST] > first[ReferenceKind.WRONG]


def test_both_halves_of_realblur_are_each_others_references_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They show the same scenes under the same names: the other half's neighbour may be the very truth."""
    for half in "JR":
        for number, blur in enumerate((4.0, 1.0)):
            save(tmp_path / f"both/RealBlur-{half}/scene1/blur/blur_{number}.png", frame(5, 0, blur, (60, 90)))
            save(tmp_path / f"both/RealBlur-{half}/scene1/gt/gt_{number}.png", frame(5, 0, 0, (60, 90)))
        names = [f"RealBlur-{half}/scene1/gt/gt_{n}.png RealBlur-{half}/scene1/blur/blur_{n}.png" for n in (0, 1)]
        (tmp_path / f"both/RealBlur_{half}_test_list.txt").write_text("\n".join(names))
    given: list[tuple[Path, Path]] = []
    restored = module._restored

    def spy(photo: Photo, kind: ReferenceKind, file: Path, *rest: object) -> object:
        given.append((photo.path, file))
        return restored(photo, ReferenceKind.SELF, None, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_restored", spy)
    evaluate_references(job(tmp_path / "both"), [ReferenceKind.NEIGHBOUR, ReferenceKind.SHARPEST])
    assert len(given) == 8
    assert all(reference.parents[1] == photo.parents[1] for photo, reference in given)


def test_the_plain_request_says_what_such_a_data_set_needs(gopro: Path) -> None:
    with pytest.raises(DatasetError, match="give --reference neighbour"):
        evaluate_references(job(gopro), [ReferenceKind.SHARP])
