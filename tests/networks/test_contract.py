"""What every network of the registry promises, tried on a tiny one of each: a new network is tested by its line here.

The weights come from `tests.golden.make_golden`: drawn from a seed for every name, so that no layer is asleep.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from deblur_cli.networks.contract import Architecture, InputKind
from deblur_cli.networks.papers.deblur_rnn_and_merger import EncoderDecoderConfig
from deblur_cli.networks.papers.deblurnet import DeblurNetConfig
from deblur_cli.networks.papers.deep_ref_net import DeepRefNetConfig
from deblur_cli.networks.papers.mimo_unet import MimoUNetConfig
from deblur_cli.networks.papers.nafnet import NAFNetConfig
from deblur_cli.networks.papers.ref_networks import RefMimoUNetConfig
from deblur_cli.networks.papers.sgenet import SGENetConfig
from deblur_cli.networks.registry import ARCHITECTURES, architecture
from deblur_cli.networks.shapes import shapes_of, skip_init
from tests.golden import make_golden
from tests.golden.make_golden import FOLDER, TINY, answer, golden_file, tiny_network
from tests.support.images import assert_images_close

LINES = pytest.mark.parametrize("line", ARCHITECTURES, ids=lambda line: line.name)
GOLDEN_TOLERANCE = 1e-4
FIXED = {"ref-deblurnet": "guide.match_features.", "ref-mimo-unet": "guide.match_features.",
         "ref-nafnet": "guide.match_features."}  # fmt: skip
"""Weights that no gradient should reach: features that are matched by stay as they came."""
LARGEST_MULTIPLE = 32
VARIANTS = {
    "deblur-merger": (EncoderDecoderConfig((6,)), EncoderDecoderConfig((2, 2, 2))),
    "deblur-rnn": (EncoderDecoderConfig((6,)), EncoderDecoderConfig((2, 2, 2))),
    "deblurnet": (DeblurNetConfig(1),),
    "deeprefnet": (DeepRefNetConfig((6, 5, 4), 0, (2, 3, 4)),),
    "mimo-unet": (MimoUNetConfig(0, 2), MimoUNetConfig(3, 5)),
    "nafnet": (NAFNetConfig(8, (0, 3), 0, (2, 0)), NAFNetConfig(6, (), 2, ()), NAFNetConfig(2, (1,) * 4, 1, (1,) * 4)),
    "sgenet": (SGENetConfig((5, 4, 3), 3),),
}
"""Odd configurations: other depths, none of a kind of block, unlike widths. A new network may add some of its own."""
VGG = {"match_by": "vgg19", "match_channels": 32, "match_blocks": 3}
RECOGNISED = {
    "ref-deblurnet": (dataclasses.replace(TINY["ref-deblurnet"], **VGG),),
    "ref-mimo-unet": (dataclasses.replace(TINY["ref-mimo-unet"], **VGG),
                      RefMimoUNetConfig(20, 4, reference_blocks=0, match_channels=5, match_blocks=0)),
    "ref-nafnet": (dataclasses.replace(TINY["ref-nafnet"], **VGG),),
}  # fmt: skip
"""Configurations too large to compute with here."""
FORGED = ((), (0,), (7,), (5, 1), (0, 3, 3, 3), (2**40,), (2**62, 3, 3, 3))


def pictures(line: Architecture, *size: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Returns as many noise pictures as the network takes, (B, 3, H, W) in [0, 1]; a reference is near its query."""
    stream = torch.Generator().manual_seed(seed)
    first, other = torch.rand(2, *size, generator=stream)
    if line.kind is InputKind.SINGLE:
        return (first,)
    return (first, first + 0.05 * (other - 0.5)) if line.kind is InputKind.REFERENCE else (first, other)


def works(net: nn.Module, given: tuple[Tensor, ...]) -> bool:
    """Returns whether the network gives a picture of its input's size."""
    try:
        with torch.inference_mode():
            return bool(net(*given).shape == given[0].shape)
    except (RuntimeError, ValueError):
        return False


def test_names_are_unique_and_an_unknown_one_is_a_key_error() -> None:
    names = [line.name for line in ARCHITECTURES]
    assert len(names) == len(set(names))
    assert all(architecture(name).name == name for name in names)
    with pytest.raises(KeyError):
        architecture("nafnett")


def test_every_network_has_its_golden_file_and_no_file_is_left_over() -> None:
    files = sorted(FOLDER.glob("*.safetensors"))
    assert [file.stem for file in files] == sorted(line.name for line in ARCHITECTURES)
    assert all(file.stat().st_size < 100_000 for file in files)


@LINES
def test_it_computes_what_it_computed_and_a_perturbed_output_is_refused(line: Architecture) -> None:
    golden = load_file(golden_file(line.name))
    found = answer(line.name, golden)
    assert_images_close(found, golden["output"], tolerance=GOLDEN_TOLERANCE)
    assert 0.01 < (golden["output"] - golden["input"]).abs().mean() < 10
    found[0, 1, 5, 7] += 3 * GOLDEN_TOLERANCE
    with pytest.raises(AssertionError, match=r"1 of 4608 values differ"):
        assert_images_close(found, golden["output"], tolerance=GOLDEN_TOLERANCE)


def test_a_network_without_a_tiny_configuration_is_told_where_to_add_one() -> None:
    with pytest.raises(SystemExit, match="nafnett has no tiny configuration here"):
        make_golden.main(["nafnett"])


def test_making_a_golden_file_again_gives_the_same_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_golden, "FOLDER", tmp_path)
    torch.manual_seed(123)
    make_golden.main(["nafnet"])
    again, stored = load_file(tmp_path / "nafnet.safetensors"), load_file(FOLDER / "nafnet.safetensors")
    assert again.keys() == stored.keys()
    for key in stored:
        assert_images_close(again[key], stored[key], tolerance=1e-6 if key.startswith("input") else GOLDEN_TOLERANCE)


@LINES
def test_the_declared_traits_make_sense(line: Architecture) -> None:
    traits = line.default_traits(line.config())
    assert traits.size_multiple >= 1
    assert traits.overlap_px > 0
    assert traits.reach_px > 0
    assert line.outputs[-1] == 1.0


@LINES
def test_a_configuration_is_frozen_and_recognised_by_its_own_network_alone(line: Architecture) -> None:
    assert dataclasses.is_dataclass(line.config)
    config = line.config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, dataclasses.fields(config)[0].name, 0)
    variants = (TINY[line.name], *VARIANTS.get(line.name, ()), *RECOGNISED.get(line.name, ()))
    for config in (line.config(), *variants, *(item.config for item in line.published)):
        shapes = shapes_of(line.build, config)
        for other in ARCHITECTURES:
            assert other.infer(shapes) == (config if other is line else None)


@LINES
def test_one_name_missing_added_or_of_another_shape_is_not_recognised(line: Architecture) -> None:
    shapes = shapes_of(line.build, TINY[line.name])
    assert line.infer({**shapes, "extra": (1,)}) is None
    assert line.infer({}) is None
    for index, name in enumerate(list(shapes)[:: max(1, len(shapes) // 8)]):
        shape = shapes[name]
        assert line.infer({key: value for key, value in shapes.items() if key != name}) is None, name
        assert line.infer({**shapes, name: (*shape[:-1], shape[-1] + 1) if shape else (1,)}) is None, name
        for forged in FORGED if index == 0 else (FORGED[index % len(FORGED)],):
            assert forged == shape or line.infer({**shapes, name: forged}) is None, (name, forged)


@LINES
def test_weights_put_in_make_the_same_network_as_one_built_in_earnest(line: Architecture) -> None:
    net, config = tiny_network(line.name), TINY[line.name]
    with skip_init():
        again = line.build(config).eval()
    again.load_state_dict(net.state_dict(), strict=True, assign=True)
    for (name, one), (_, same) in zip(net.named_buffers(), again.named_buffers(), strict=True):
        assert torch.equal(one, same), name
    assert shapes_of(line.build, config) == {key: tuple(value.shape) for key, value in net.state_dict().items()}
    side = 4 * line.default_traits(config).size_multiple
    given = pictures(line, 1, 3, min(side, 64), min(side, 64))
    with torch.inference_mode():
        assert torch.equal(net(*given), again(*given))


@LINES
def test_size_rule_is_the_true_one(line: Architecture) -> None:
    for config in (TINY[line.name], *VARIANTS.get(line.name, ())):
        net, multiple = line.build(config).eval(), line.default_traits(config).size_multiple
        if multiple > LARGEST_MULTIPLE:  # of windows' grids, which tiles must keep to and the network itself need not
            assert works(net, pictures(line, 1, 3, multiple, multiple))
            continue
        found = [side for side in range(1, 2 * multiple + 1) if works(net, pictures(line, 1, 3, side, multiple))]
        assert found == [multiple, 2 * multiple], config


@LINES
def test_no_state_between_calls_and_no_mixing_within_a_batch(line: Architecture) -> None:
    net = tiny_network(line.name)
    given, others = pictures(line, 2, 3, 32, 32), pictures(line, 2, 3, 32, 32, seed=1)
    with torch.inference_mode():
        first = net(*given)
        net(*pictures(line, 1, 3, 64, 48))
        assert torch.equal(net(*given), first)
        # In batches equally large: others round otherwise, and where two matches are alike the other one is taken.
        mixed = [torch.cat((one[:1], other[1:])) for one, other in zip(given, others, strict=True)]
        assert torch.equal(net(*mixed)[0], first[0])


@LINES
def test_every_output_is_at_its_scale_and_the_last_is_the_result(line: Architecture) -> None:
    if len(line.outputs) == 1:
        return
    net, given = tiny_network(line.name), pictures(line, 2, 3, 32, 48)
    with torch.inference_mode():
        outputs = net(*given, every_output=True)
        assert torch.equal(outputs[-1], net(*given))
    assert [tuple(one.shape) for one in outputs] == [(2, 3, round(32 * s), round(48 * s)) for s in line.outputs]


@LINES
def test_gradient_reaches_every_parameter(line: Architecture) -> None:
    net = tiny_network(line.name).train()
    for name, parameter in net.named_parameters():
        if name == "guide.floors":  # confidence that falls short of them is none
            nn.init.constant_(parameter, 0.1)
    keywords = {"every_output": True} if len(line.outputs) > 1 else {}
    outputs = net(*pictures(line, 2, 3, 32, 32), **keywords)
    sum(one.square().mean() for one in (outputs if keywords else (outputs,))).backward()
    silent = {name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum()}
    assert silent == {name for name, p in net.named_parameters() if not p.requires_grad}
    assert silent == {n for n, _ in net.named_parameters() if n.startswith(FIXED.get(line.name, "none are"))}


@LINES
def test_bfloat16_stays_within_the_measured_bound(line: Architecture) -> None:
    if not line.default_traits(TINY[line.name]).bfloat16:
        pytest.skip(f"{line.name} does not claim to be safe in bfloat16")
    net, given = tiny_network(line.name), pictures(line, 1, 3, 64, 64)
    with torch.inference_mode():
        exact = net(*given)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = net(*given).float()
    change, contrast = (rounded - exact).abs(), exact.std()
    if line.kind is InputKind.REFERENCE:  # other matches may win by rounding, so single pixels differ more
        assert 0 < change.mean() < 0.05 * contrast
    else:
        assert 0 < change.mean() < 0.012 * contrast
        assert change.max() < 0.1 * contrast


@LINES
def test_channels_last_gives_the_same_picture(line: Architecture) -> None:
    net, given = tiny_network(line.name), pictures(line, 1, 3, 32, 32)
    with torch.inference_mode():
        plain = net(*given)
        net.to(memory_format=torch.channels_last)
        after = net(*(one.contiguous(memory_format=torch.channels_last) for one in given))
    assert torch.allclose(after, plain, atol=1e-5 * max(1.0, float(plain.std())))
