from __future__ import annotations

import json
import math
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from deblur_cli.catalogue import weight_file
from deblur_cli.catalogue.camera_profile import (
    Camera,
    CameraProfile,
    MadeFor,
    find_made_for,
    is_profile,
    load_profile,
    network_of,
    read_profile,
    write_profile,
)
from deblur_cli.catalogue.find import PROFILE_KEY, find
from deblur_cli.catalogue.weight_file import read_tensors, write_safetensors
from deblur_cli.errors import (
    CannotWriteError,
    DamagedWeightsError,
    OutputExistsError,
    ProfileError,
    TrainingError,
    UnknownModelError,
)
from deblur_cli.networks.contract import SingleModel
from deblur_cli.networks.papers.mimo_unet import MimoUNet
from tests.support.profiles import (
    CAMERA,
    TINY_MIMO,
    deblurring_network,
    drawn_translator,
    finetuned_profile,
    identity_weights,
    translator_profile,
    write_finetuned,
    write_translator,
)
from tests.support.weights import tiny_bank_weights

SOME = MadeFor("net.safetensors", "0" * 64)


def with_facts(path: Path, **changed: Any) -> Path:
    """Writes the profile anew, with some of its facts changed."""
    with safe_open(str(path), framework="pt") as file:
        facts = json.loads(file.metadata()[PROFILE_KEY])
    write_safetensors(path, read_tensors(path), {PROFILE_KEY: json.dumps({**facts, **changed})})
    return path


class TestRefusals:
    def test_what_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ProfileError, match=r"there is no such camera profile\. `deblur train-device` makes one"):
            read_profile(tmp_path / "my.safetensors")

    @pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 a photo", b"[a = 1]\n"])
    def test_what_is_no_weight_file(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "my.safetensors").write_bytes(content)
        with pytest.raises(ProfileError, match=r"my\.safetensors: this is no camera profile"):
            read_profile(tmp_path / "my.safetensors")
        assert not is_profile(tmp_path / "my.safetensors")

    def test_an_ordinary_network_is_called_one(self, tmp_path: Path) -> None:
        deblurring_network(tmp_path / "net.safetensors")
        with pytest.raises(ProfileError, match=r"net\.safetensors: this is a network, filter-bank-unet, no camera"):
            read_profile(tmp_path / "net.safetensors")
        assert not is_profile(tmp_path / "net.safetensors")

    def test_weights_of_something_else(self, tmp_path: Path) -> None:
        write_safetensors(tmp_path / "a.safetensors", {"a": torch.ones(3)}, {})
        with pytest.raises(ProfileError, match="a weight file, no camera profile, and of no network known here"):
            read_profile(tmp_path / "a.safetensors")

    def test_a_profile_is_no_deblurring_network(self, tmp_path: Path) -> None:
        path = write_translator(tmp_path / "my.safetensors", SOME)
        with pytest.raises(ProfileError, match=r"is a camera profile.*deblur blur2blur --camera"):
            find(str(path), SingleModel)

    def test_a_newer_format(self, tmp_path: Path) -> None:
        path = with_facts(write_translator(tmp_path / "my.safetensors", SOME), version=2)
        with pytest.raises(ProfileError, match=r"has the format 2, and this version knows 1\. Install a newer"):
            read_profile(path)

    @pytest.mark.parametrize(
        "changed",
        [
            {"method": "magic"},
            {"made_for": {"name": "net"}},
            {"camera": None},
            {"camera": {"make": 7, "model": None, "lens": None}},
            {"architecture": "nafnet"},
            {"scores": [["sharpness", 1.0]]},
            {"scores": [["sharpness", 1.0, math.nan]]},
            {"steps": "many"},
            {"config": {"blocks": 2, "width": 8}},
            {"traits": {"size_multiple": 10**9}},
            {"recipe": None},
        ],
        ids=lambda changed: json.dumps(changed)[:40],
    )
    def test_facts_that_cannot_be(self, tmp_path: Path, changed: dict[str, Any]) -> None:
        path = with_facts(write_translator(tmp_path / "my.safetensors", SOME), **changed)
        with pytest.raises(DamagedWeightsError, match=r"my\.safetensors: "):
            read_profile(path)

    @pytest.mark.parametrize("text", ["", "[]", "null", '{"version": 1}', "{"])
    def test_facts_that_are_none(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "my.safetensors"
        write_safetensors(path, identity_weights(), {PROFILE_KEY: text})
        with pytest.raises(DamagedWeightsError, match=r"my\.safetensors: this camera profile is damaged"):
            read_profile(path)

    def test_numbers_that_are_none(self, tmp_path: Path) -> None:
        path = tmp_path / "my.safetensors"
        for steps in (math.inf, math.nan, "5"):
            write_profile(path, replace(translator_profile(SOME), steps=steps), identity_weights(), overwrite=True)
            with pytest.raises(DamagedWeightsError, match=r"my\.safetensors: this camera profile is damaged"):
                read_profile(path)

    def test_weights_of_no_network(self, tmp_path: Path) -> None:
        path = tmp_path / "my.safetensors"
        write_profile(path, translator_profile(SOME), {"a": torch.ones(3)}, overwrite=False)
        with pytest.raises(DamagedWeightsError, match="damaged"):
            read_profile(path)

    def test_a_cut_file(self, tmp_path: Path) -> None:
        path = write_translator(tmp_path / "my.safetensors", SOME)
        path.write_bytes(path.read_bytes()[:-10])
        with pytest.raises(DamagedWeightsError, match=r"my\.safetensors: "):
            read_profile(path)

    def test_a_changed_weight(self, tmp_path: Path) -> None:
        path = write_translator(tmp_path / "my.safetensors", SOME, drawn_translator())
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(DamagedWeightsError, match="not those that were written"):
            load_profile(path, read_profile(path))


class TestMadeFor:
    def test_another_network_under_its_name(self, tmp_path: Path) -> None:
        """A bundled network that a newer version has trained anew."""
        profile = translator_profile(MadeFor("deblur-single", "0" * 64))
        with pytest.raises(
            ProfileError, match=r"was made for deblur-single \(SHA-256 0{12}…\), and .* another network"
        ):
            find_made_for(profile, tmp_path / "my.safetensors")

    def test_another_file(self, tmp_path: Path) -> None:
        made_for = deblurring_network(tmp_path / "net.safetensors")
        deblurring_network(tmp_path / "other.safetensors", seed=1)
        with pytest.raises(ProfileError, match=r"and other\.safetensors is another network"):
            find_made_for(translator_profile(made_for), tmp_path / "my", str(tmp_path / "other.safetensors"))

    def test_a_file_that_is_to_be_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ProfileError, match=r"which this installation does not know\. Give its file with --model"):
            find_made_for(translator_profile(SOME), tmp_path / "my.safetensors")
        with pytest.raises(UnknownModelError, match="there is no such weight file"):
            find_made_for(translator_profile(SOME), tmp_path / "my.safetensors", "gone.safetensors")

    def test_the_bundled_network_by_its_name(self) -> None:
        made_for = network_of(find(None, SingleModel))
        assert made_for.name == "deblur-single"
        assert find_made_for(translator_profile(made_for), Path("my.safetensors")).name == "deblur-single"

    def test_a_file_wherever_it_lies_now(self, tmp_path: Path) -> None:
        made_for = deblurring_network(tmp_path / "net.safetensors")
        (tmp_path / "moved").mkdir()
        moved = shutil.move(tmp_path / "net.safetensors", tmp_path / "moved" / "renamed.safetensors")
        assert find_made_for(translator_profile(made_for), Path("my"), str(moved)).name == "renamed.safetensors"


class TestWriting:
    def test_a_file_is_replaced_only_when_asked(self, tmp_path: Path) -> None:
        path = tmp_path / "my.safetensors"
        path.write_text("a year's work")
        with pytest.raises(OutputExistsError, match=r"my\.safetensors: already exists"):
            write_profile(path, translator_profile(SOME), identity_weights(), overwrite=False)
        assert path.read_text() == "a year's work"
        write_profile(path, translator_profile(SOME), identity_weights(), overwrite=True)
        assert is_profile(path)

    def test_a_full_disk_leaves_what_was_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "my.safetensors"
        path.write_text("before")

        def fill(tensors: object, name: str, metadata: object) -> None:
            Path(name).write_bytes(b"half of it")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(weight_file, "save_file", fill)
        with pytest.raises(CannotWriteError, match=r"my\.safetensors: .*No space left.*Free some space"):
            write_profile(path, translator_profile(SOME), identity_weights(), overwrite=True)
        assert [each.name for each in tmp_path.iterdir()] == ["my.safetensors"]
        assert path.read_text() == "before"

    @pytest.mark.parametrize("value", [math.nan, math.inf, 1e6])
    def test_weights_that_half_precision_cannot_hold(self, tmp_path: Path, value: float) -> None:
        weights = identity_weights()
        weights["Convs.0.main.0.bias"] = torch.full_like(weights["Convs.0.main.0.bias"], value)
        with pytest.raises(TrainingError, match=r"Convs\.0\.main\.0\.bias has values that half precision cannot hold"):
            write_profile(tmp_path / "my.safetensors", translator_profile(SOME), weights, overwrite=False)
        assert list(tmp_path.iterdir()) == []

    def test_the_same_training_gives_the_same_bytes(self, tmp_path: Path) -> None:
        first = write_translator(tmp_path / "a.safetensors", SOME, drawn_translator())
        for number in range(3):
            again = write_translator(tmp_path / f"b{number}.safetensors", SOME, dict(drawn_translator()))
            assert again.read_bytes() == first.read_bytes()

    @pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
    def test_it_may_be_read_by_whoever_may_read_new_files(self, tmp_path: Path) -> None:
        (tmp_path / "new").write_text("")
        path = write_translator(tmp_path / "my.safetensors", SOME)
        assert path.stat().st_mode == (tmp_path / "new").stat().st_mode

    def test_any_other_training_gives_others(self, tmp_path: Path) -> None:
        first = write_translator(tmp_path / "a.safetensors", SOME, drawn_translator())
        assert (
            write_translator(tmp_path / "b.safetensors", SOME, drawn_translator(1)).read_bytes() != first.read_bytes()
        )
        other = write_translator(tmp_path / "c.safetensors", SOME, drawn_translator(), helps=False)
        assert other.read_bytes() != first.read_bytes()


class TestReading:
    @pytest.mark.parametrize(
        "profile",
        [
            translator_profile(SOME),
            translator_profile(SOME, camera=Camera(None, "ß „quoted“\n", None), scores=(), helps=False, recipe="é"),
        ],
    )
    def test_a_translator_comes_back_as_it_was(self, tmp_path: Path, profile: CameraProfile) -> None:
        path = tmp_path / "my.safetensors"
        write_profile(path, profile, identity_weights(), overwrite=False)
        found = read_profile(path)
        assert replace(found, weights_sha256="") == profile
        assert is_profile(path)

    def test_an_adapted_network_comes_back_as_it_was(self, tmp_path: Path) -> None:
        made_for = deblurring_network(tmp_path / "net.safetensors")
        path = write_finetuned(tmp_path / "my.safetensors", made_for)
        profile = read_profile(path)
        assert replace(profile, weights_sha256="") == finetuned_profile(made_for)
        loaded = load_profile(path, profile).network.state_dict()
        expected = tiny_bank_weights(7)
        assert loaded.keys() == expected.keys()
        assert all(torch.equal(loaded[name], expected[name].half().float()) for name in expected)

    def test_no_facts_but_these_are_kept(self, tmp_path: Path) -> None:
        """Neither dates nor places nor the shots' names: what is in a profile is seen here."""
        path = write_translator(tmp_path / "my.safetensors", SOME)
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata()
        assert list(metadata) == [PROFILE_KEY]
        facts = json.loads(metadata[PROFILE_KEY])
        assert sorted(facts) == sorted(["version", *asdict(translator_profile(SOME))])

    def test_the_network_is_ready_for_use(self, tmp_path: Path) -> None:
        path = write_translator(tmp_path / "my.safetensors", SOME)
        model = load_profile(path, read_profile(path))
        assert not model.network.training
        assert not any(parameter.requires_grad for parameter in model.network.parameters())
        assert {value.dtype for value in model.network.state_dict().values()} == {torch.float32}

    def test_half_precision_is_not_seen_in_the_result(self, tmp_path: Path) -> None:
        """Weights are rounded to 11 bits: what that does to a translation is far below what 8 bits can show."""
        torch.manual_seed(3)
        network = MimoUNet(TINY_MIMO).eval()
        path = write_translator(tmp_path / "my.safetensors", SOME, dict(network.state_dict()))
        model = load_profile(path, read_profile(path))
        picture = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            whole, halved = network(picture), model.network(picture)
        assert float((whole - picture).abs().mean()) > 0
        difference = float((whole - halved).square().mean())
        assert -10 * math.log10(difference) > 60


def test_a_camera_in_words() -> None:
    assert str(CAMERA) == "Lumière No. 3, f/6 rapid"
    assert str(Camera(None, "Phone")) == "Phone"
    assert str(Camera()) == "unknown"
