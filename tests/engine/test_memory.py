import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deblur_cli.engine import memory
from deblur_cli.engine.device import Device
from deblur_cli.engine.memory import MIB, activation_bytes_per_pixel, choose_tile, control_group_room, smallest_tile
from deblur_cli.networks.contract import PairModel, SingleModel, Traits

CPU = Device(torch.device("cpu"), torch.float32, "")
TRAITS = Traits(size_multiple=16, overlap_px=40, reach_px=10)


class Wide(nn.Module):
    """Keeps `channels` float32 planes alive, once by a module and once by a function."""

    def __init__(self, channels):
        super().__init__()
        self.layer = nn.Conv2d(3, channels, 1)

    def forward(self, picture):
        return picture + F.relu(self.layer(picture)).mean(1, keepdim=True)


class Fusing(nn.Module):
    def forward(self, noisy, blurry):
        return (noisy + blurry) / 2


def wide(channels):
    return SingleModel("wide", Wide(channels).eval(), TRAITS)


def group(folder, limit, usage, names=("memory.max", "memory.current", "inactive_file"), given_back=0):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {given_back}\n")


def membership(proc, line):
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text(line)
    return proc


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert control_group_room(tmp_path / "absent", tmp_path) == sys.maxsize


def test_an_unlimited_group_is_no_limit(tmp_path):
    group(tmp_path / "fs" / "mine", "max", 10)
    assert control_group_room(membership(tmp_path / "proc", "0::/mine\n"), tmp_path / "fs") == sys.maxsize


def test_version_1_says_unlimited_by_a_huge_number(tmp_path):
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    group(tmp_path / "fs" / "memory" / "mine", 9223372036854771712, 10, names)
    assert control_group_room(membership(tmp_path / "proc", "4:memory:/mine\n"), tmp_path / "fs") == sys.maxsize


def test_version_2_counts_what_is_used_less_what_files_give_back(tmp_path):
    group(tmp_path / "fs" / "mine", 1000, 700, given_back=200)
    assert control_group_room(membership(tmp_path / "proc", "0::/mine\n"), tmp_path / "fs") == 500


def test_version_1_is_honoured(tmp_path):
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    group(tmp_path / "fs" / "memory" / "mine", 1000, 700, names, given_back=50)
    proc = membership(tmp_path / "proc", "9:cpu:/\n4:memory,hugetlb:/mine\n")
    assert control_group_room(proc, tmp_path / "fs") == 350


def test_the_narrowest_group_above_decides(tmp_path):
    group(tmp_path / "fs" / "outer", 1000, 900)
    group(tmp_path / "fs" / "outer" / "inner", 5000, 100)
    assert control_group_room(membership(tmp_path / "proc", "0::/outer/inner\n"), tmp_path / "fs") == 100


def test_inside_a_container_the_mount_is_the_group(tmp_path):
    group(tmp_path / "fs", 1000, 400)
    assert control_group_room(membership(tmp_path / "proc", "0::/docker/1234\n"), tmp_path / "fs") == 600


def test_more_used_than_allowed_is_no_room(tmp_path):
    group(tmp_path / "fs" / "mine", 1000, 1200)
    assert control_group_room(membership(tmp_path / "proc", "0::/mine\n"), tmp_path / "fs") == 0


def test_this_machine_has_free_memory():
    assert 1 * MIB < memory.free_memory(torch.device("cpu")) < 1 << 50


def test_a_container_with_less_room_than_the_machine_decides(monkeypatch):
    monkeypatch.setattr(memory, "control_group_room", lambda: 5 * MIB)
    assert memory.free_memory(torch.device("cpu")) == 5 * MIB


@pytest.mark.parametrize("channels", [64, 256])
def test_the_probe_sees_functions_and_modules(channels):
    measured = activation_bytes_per_pixel(wide(channels), CPU) / memory.UNSEEN
    two_maps = 2 * channels * 4  # the layer's answer and the function's, at one moment
    assert two_maps <= measured <= two_maps + 100


def test_the_probe_runs_networks_of_two_inputs():
    assert activation_bytes_per_pixel(PairModel("pair", Fusing(), TRAITS), CPU) > 0


def test_the_tile_follows_the_free_memory_and_the_size_rule():
    small = choose_tile(wide(64), CPU, free_bytes=64 * MIB)
    large = choose_tile(wide(64), CPU, free_bytes=512 * MIB)
    assert small.tile_px < large.tile_px <= memory.LONGEST_TILE_PX["cpu"]
    assert small.tile_px % 16 == 0
    assert "64 MiB free" in small.reason


def test_a_hungry_network_gets_smaller_tiles():
    assert choose_tile(wide(512), CPU, free_bytes=1 << 36).tile_px < memory.LONGEST_TILE_PX["cpu"]


def test_no_memory_at_all_gives_the_smallest_tile():
    assert choose_tile(wide(64), CPU, free_bytes=0).tile_px == smallest_tile(wide(64)) == 96


def test_a_tiny_overlap_still_gives_tiles_of_64():
    assert smallest_tile(SingleModel("x", Wide(3), Traits(size_multiple=4, overlap_px=0, reach_px=1))) == 64
