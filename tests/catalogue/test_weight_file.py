from __future__ import annotations

import json
import os
import pickle
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from deblur_cli.catalogue.download import cache_dir
from deblur_cli.catalogue.find import find, find_any
from deblur_cli.catalogue.load import load
from deblur_cli.catalogue.weight_file import (
    TRAITS_KEY,
    as_safetensors,
    describe,
    read_header,
    read_weights,
    recognise,
    save_model,
    settings_of,
    traits_as_text,
    traits_from,
    write_safetensors,
)
from deblur_cli.errors import CannotWriteError, DamagedWeightsError, UnrecognisedNetworkError
from deblur_cli.networks.contract import LocalPooling, Shapes, SingleModel, Traits
from deblur_cli.networks.filter_bank_unet import ARCHITECTURE as FILTER_BANK
from deblur_cli.networks.papers.deblurnet import DeblurNet, DeblurNetConfig
from deblur_cli.networks.papers.mimo_unet import MimoUNet, MimoUNetConfig
from deblur_cli.networks.papers.nafnet import ARCHITECTURE, NAFNet, NAFNetConfig
from deblur_cli.networks.shapes import shapes_of
from tests.support.weights import TINY_BANK, published_nafnet, tiny_bank_weights


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, ("pwned",))


def test_a_pickle_that_would_run_code_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps({"params": _Evil()}))
    with pytest.raises(DamagedWeightsError, match=r"evil\.pth: .* opened safely"):
        as_safetensors(path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04broken", b"\x80\x02.", b"\x80\x02X\x09"], ids=str)
def test_what_is_no_weight_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.pth"
    path.write_bytes(content)
    with pytest.raises(DamagedWeightsError, match=r"odd\.pth"):
        as_safetensors(path)


def test_a_cut_safetensors_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"w": torch.ones(100)}, {})
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DamagedWeightsError, match=r"a\.safetensors"):
        read_header(path)


def test_a_pickle_without_tensors_is_no_network(tmp_path: Path) -> None:
    path = tmp_path / "log.pth"
    torch.save({"epoch": 3}, path)
    with pytest.raises(UnrecognisedNetworkError, match="no named weights"):
        as_safetensors(path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWriteError, match=r"w\.safetensors: the weights cannot be written"):
        write_safetensors(tmp_path / "file" / "w.safetensors", {"w": torch.ones(1)}, {})


def test_a_published_pickle_is_converted_once_and_keeps_every_value(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    weights = published_nafnet(path)
    converted = as_safetensors(path)
    assert converted.is_relative_to(cache_dir())
    made = converted.stat().st_mtime_ns
    assert as_safetensors(path) == converted
    assert converted.stat().st_mtime_ns == made
    read = read_weights(converted)
    assert read.keys() == weights.keys()
    assert all(torch.equal(read[name], weights[name]) for name in weights)


def test_a_damaged_conversion_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    weights = published_nafnet(path)
    converted = as_safetensors(path)
    whole = converted.read_bytes()
    for damaged in (whole[:-4], whole[:-4] + b"rot!", b""):
        converted.write_bytes(damaged)
        read = read_weights(as_safetensors(path))
        assert all(torch.equal(read[name], weights[name]) for name in weights)
    converted.with_suffix(".sha256").write_bytes(b"\xff\x00 no hash")
    assert read_weights(as_safetensors(path)).keys() == weights.keys()


def test_the_prefix_of_parallel_training_is_taken_off(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save({"model_state_dict": {"module.a": torch.ones(2)}}, path)
    assert read_weights(as_safetensors(path)).keys() == {"a"}


DEFAULT = Traits(16, 64, 40.0, pooling=LocalPooling(256))


def told(**changes: object) -> dict[str, str]:
    return {TRAITS_KEY: json.dumps({**asdict(DEFAULT), **changes})}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({TRAITS_KEY: "{"}, "cannot be used"),
        ({TRAITS_KEY: "[1]"}, "cannot be used"),
        (told(colour="red"), "colour is unknown"),
        (told(overlap_px=-1), "overlap_px is -1"),
        (told(overlap_px=10**9), "overlap_px is 1000000000"),
        (told(overlap_px="64"), "overlap_px is '64'"),
        (told(size_multiple=0), "size_multiple is 0"),
        (told(size_multiple=8), "size_multiple is 8, and the network's 16"),
        (told(reach_px=0), "reach_px is 0"),
        (told(candidates=4), "candidates is 4, and the network's 0"),
        (told(bgr=1), "bgr is 1"),
        (told(pooling={"training_size_px": 0, "factor": 1.5}), "pooling is"),
        (told(pooling={"training_size_px": 256}), "factor"),
    ],
)
def test_what_no_network_can_have_is_refused(metadata: dict[str, str], message: str) -> None:
    with pytest.raises(DamagedWeightsError, match=rf"^net: .*{message}.*newer version"):
        traits_from(metadata, DEFAULT, where="net")


def test_a_policy_for_a_network_that_pools_nowhere_is_refused() -> None:
    with pytest.raises(DamagedWeightsError, match="pooling is"):
        traits_from(told(), replace(DEFAULT, pooling=None), where="net")


@pytest.mark.parametrize(
    "traits",
    [
        DEFAULT,
        Traits(32, 48, 12.5, bgr=True, bfloat16=False, float16=True),
        replace(DEFAULT, pooling=LocalPooling(192, 2.0)),
    ],
)
def test_traits_come_back_as_they_were(traits: Traits) -> None:
    assert traits_from({TRAITS_KEY: traits_as_text(traits)}, DEFAULT, where="net") == traits


def test_without_any_the_networks_own_count() -> None:
    assert traits_from({}, DEFAULT, where="net") == DEFAULT


def test_an_exported_file_keeps_its_traits(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    traits = replace(FILTER_BANK.default_traits(TINY_BANK), overlap_px=24, reach_px=7.5)
    save_model(path, "filter-bank-unet", TINY_BANK, tiny_bank_weights(), traits=traits)
    entry = find(str(path), SingleModel)
    assert entry.traits == traits
    assert load(entry).traits == traits


def test_an_exported_file_tells_the_networks_own_where_none_are_given(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_model(path, "filter-bank-unet", TINY_BANK, tiny_bank_weights())
    assert json.loads(read_header(path).metadata[TRAITS_KEY])["reach_px"] > 0
    assert find(str(path), SingleModel).traits == FILTER_BANK.default_traits(TINY_BANK)


def test_a_file_with_damaged_traits_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    write_safetensors(path, tiny_bank_weights(), {TRAITS_KEY: "nonsense"})
    with pytest.raises(DamagedWeightsError, match=r"mine\.safetensors: what the file tells"):
        find(str(path), SingleModel)


GOPRO_64 = "nafnet: width 64, encoder_blocks 1-1-1-28, middle_blocks 1, decoder_blocks 1-1-1-1"
PUBLISHED = {
    "MIMO-UNet": "mimo-unet: blocks 8, width 32",
    "MIMO-UNetPlus": "mimo-unet: blocks 20, width 32",
    "NAFNet-GoPro-width32": GOPRO_64.replace("64", "32"),
    "NAFNet-GoPro-width64": GOPRO_64,
    "NAFNet-REDS-width64": GOPRO_64,
    "NAFNet-SIDD-width32": "nafnet: width 32, encoder_blocks 2-2-4-8, middle_blocks 12, decoder_blocks 2-2-2-2",
    "NAFNet-SIDD-width64": "nafnet: width 64, encoder_blocks 2-2-4-8, middle_blocks 12, decoder_blocks 2-2-2-2",
}

TOLD_AS = {
    "MIMO-UNet": "MIMO-UNet",
    "MIMO-UNetPlus": "MIMO-UNet+",
    "NAFNet-GoPro-width32": "nafnet-gopro-width32",
    "NAFNet-SIDD-width64": "nafnet-sidd-width64",
}


def published(shared: Path, name: str) -> dict[str, tuple[int, ...]]:
    lines = (shared / "checkpoint-keys" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("\t") for line in lines)
    return {key: tuple(int(n) for n in re.findall(r"\d+", shape)) for key, shape in pairs}


def refusal(shapes: Shapes) -> str:
    with pytest.raises(UnrecognisedNetworkError) as caught:
        recognise(shapes, where="net.pth")
    return str(caught.value)


@pytest.mark.shared
def test_a_missing_weight_is_named_with_the_network_it_is_missing_from(shared: Path) -> None:
    shapes = published(shared, "NAFNet-SIDD-width64")
    del shapes["middle_blks.7.conv2.bias"]
    assert refusal(shapes).startswith(
        "net.pth: the weights are nearly those of nafnet-sidd-width64, but middle_blks.7.conv2.bias is missing."
    )


@pytest.mark.shared
def test_a_weight_of_another_shape_is_named(shared: Path) -> None:
    shapes = published(shared, "NAFNet-GoPro-width32")
    shapes["intro.weight"] = (32, 4, 3, 3)
    assert "nafnet-gopro-width32, but intro.weight has the shape (32, 4, 3, 3) instead of (32, 3, 3, 3)" in refusal(
        shapes
    )


@pytest.mark.shared
@pytest.mark.parametrize(("name", "told"), TOLD_AS.items())
def test_one_weight_missing_of_any_published_network_is_told_with_its_name(shared: Path, name: str, told: str) -> None:
    shapes = published(shared, name)
    for key in (next(iter(shapes)), list(shapes)[len(shapes) // 2], list(shapes)[-1]):
        without = {other: shape for other, shape in shapes.items() if other != key}
        assert f"the weights are nearly those of {told}, but {key} is missing. Names and shapes must" in refusal(
            without
        )


@pytest.mark.shared
@pytest.mark.parametrize(("name", "told"), TOLD_AS.items())
def test_one_weight_of_another_shape_in_any_published_network_is_told_with_both_shapes(
    shared: Path, name: str, told: str
) -> None:
    shapes = published(shared, name)
    for key in (next(iter(shapes)), list(shapes)[len(shapes) // 2], list(shapes)[-1]):
        other = (*shapes[key][:-1], shapes[key][-1] + 1)
        assert f"nearly those of {told}, but {key} has the shape {other} instead of {shapes[key]}. Names" in refusal(
            {**shapes, key: other}
        )


def test_one_weight_of_a_deblurnet_missing_or_of_another_shape_is_told() -> None:
    shapes = dict(shapes_of(DeblurNet, DeblurNetConfig()))
    assert "DeblurNet, but img_prd.0.bias has the shape (1,) instead of (3,)." in refusal(
        {**shapes, "img_prd.0.bias": (1,)}
    )
    del shapes["convd_3.convi.weight"]
    assert "nearly those of DeblurNet, but convd_3.convi.weight is missing." in refusal(shapes)


@pytest.mark.parametrize(
    ("build", "config", "key", "told"),
    [
        (NAFNet, NAFNetConfig(16), "ending.bias", "nafnet-gopro-width"),
        (MimoUNet, MimoUNetConfig(8, 16), "ConvsOut.0.main.0.bias", "MIMO-UNet"),
        (DeblurNet, DeblurNetConfig(16), "img_prd.0.bias", "DeblurNet"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_network_in_a_size_of_its_own_with_a_weight_missing_is_still_called_by_name(
    build: type[nn.Module], config: object, key: str, told: str
) -> None:
    shapes = dict(shapes_of(build, config))
    del shapes[key]
    message = refusal(shapes)
    assert f"the weights are nearly those of {told}" in message
    assert f", but {key} is missing; " in message


def stereo(prefix: str = "") -> dict[str, tuple[int, ...]]:
    """Returns names and shapes under `deblurnet_state_dict` in the one file that DeblurNet's authors published."""
    shapes = dict(shapes_of(DeblurNet, DeblurNetConfig()))
    shapes["upconv3_i.0.weight"] = (128, 288, 3, 3)
    for view in ("l", "r"):
        shapes |= conv(f"depth_sense_{view}.0", 33, 32, 3)
        shapes |= conv(f"depth_sense_{view}.2.stem.0", 32, 32, 3) | conv(f"depth_sense_{view}.2.stem.2", 32, 32, 3)
    shapes |= conv("gatenet.0", 1, 16, 3) | conv("gatenet.2.stem.0", 16, 16, 1) | conv("gatenet.2.stem.2", 16, 16, 1)
    shapes |= conv("gatenet.3", 16, 1, 1)
    return {prefix + key: shape for key, shape in shapes.items()}


def conv(name: str, before: int, after: int, side: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (after, before, side, side), f"{name}.bias": (after,)}


def test_the_stereo_network_is_called_what_it_is_and_refused_with_a_way_out() -> None:
    disparity = conv("dispnet.dispd", 128, 2, 3) | conv("dispnet.upconvd_i.0", 128, 128, 3)
    for shapes in (stereo(), stereo("module."), {**shapes_of(DeblurNet, DeblurNetConfig()), **disparity}):
        message = refusal(shapes)
        assert message.startswith("net.pth: this is DAVANet, the stereo network around DeblurNet. It needs both views")
        assert message.endswith("or another network: `deblur models list` shows all.")


def test_the_stereo_file_as_it_is_published_is_refused_where_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "best-ckpt.pth.tar"
    weights = {name: torch.zeros(shape) for name, shape in stereo("module.").items()}
    disparity = {"module.dispd.weight": torch.zeros(2, 128, 3, 3)}
    content = {"epoch_idx": 400, "Disp_EPE": 0.4, "dispnet_state_dict": disparity, "deblurnet_state_dict": weights}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    with pytest.raises(UnrecognisedNetworkError, match=r"best-ckpt\.pth\.tar: this is DAVANet, the stereo network"):
        find_any(str(path))


@pytest.mark.shared
def test_of_many_differences_three_are_told(shared: Path) -> None:
    shapes = published(shared, "NAFNet-GoPro-width32")
    shapes |= {f"extra.{i}": (1,) for i in range(5)}
    assert "extra.2 does not belong there, and 2 more differ." in refusal(shapes)


def test_another_network_is_refused_with_what_it_holds() -> None:
    assert "1 weights named like conv.weight fit no network known here (" in refusal({"conv.weight": (1,)})
    assert "0 weights" in refusal({})


def test_a_file_that_claims_to_be_what_it_is_not_is_refused() -> None:
    metadata = describe(ARCHITECTURE, NAFNetConfig())
    with pytest.raises(UnrecognisedNetworkError, match="it says it is a nafnet, but its weights do not fit one"):
        recognise({"conv.weight": (1,)}, metadata)


@pytest.mark.shared
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_network_is_recognised_by_names_and_shapes(shared: Path, name: str) -> None:
    found = recognise(published(shared, name))
    assert f"{found.architecture.name}: {settings_of(found.config)}" == PUBLISHED[name]


@pytest.mark.shared
def test_every_list_of_published_keys_is_among_them(shared: Path) -> None:
    lists = {path.stem for path in (shared / "checkpoint-keys").glob("*.txt")}
    assert lists == set(PUBLISHED)


def test_a_deblurnet_is_recognised_by_names_and_shapes() -> None:
    found = recognise(shapes_of(DeblurNet, DeblurNetConfig()))
    assert (found.architecture.name, found.config) == ("deblurnet", DeblurNetConfig(32))
