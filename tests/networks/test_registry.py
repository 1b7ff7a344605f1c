from __future__ import annotations

import dataclasses

import pytest

from deblur_cli.networks.contract import Architecture
from deblur_cli.networks.registry import ARCHITECTURES, architecture
from deblur_cli.networks.undrawn import shapes_of

LINES = pytest.mark.parametrize("line", ARCHITECTURES, ids=lambda line: line.name)


def test_an_unknown_name_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        architecture("nafnett")


def test_names_are_unique() -> None:
    names = [line.name for line in ARCHITECTURES]
    assert len(names) == len(set(names))
    assert all(architecture(name).name == name for name in names)


@LINES
def test_the_default_network_is_recognised_by_itself_and_by_no_other(line: Architecture) -> None:
    assert dataclasses.is_dataclass(line.config)
    config = line.config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, dataclasses.fields(config)[0].name, 0)
    shapes = shapes_of(line.build, config)
    for other in ARCHITECTURES:
        assert other.infer(shapes) == (config if other is line else None)


@LINES
def test_the_declared_traits_make_sense(line: Architecture) -> None:
    traits = line.default_traits(line.config())
    assert traits.size_multiple >= 1
    assert traits.overlap_px > 0
    assert traits.reach_px > 0
