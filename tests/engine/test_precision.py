import pytest
import torch
from torch import nn

from deblur_cli.engine import precision
from deblur_cli.engine.device import Device

CPU = torch.device("cpu")


class Spy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, picture):
        self.strides = picture.stride()
        answer = self.layer(picture)
        self.dtype = answer.dtype
        return answer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_convolutions_run_in_the_precision_with_weights_in_float32(dtype):
    device = Device(CPU, dtype, "")
    network = precision.move(Spy().double().train(), device)
    assert not network.training
    assert network.layer.weight.dtype is torch.float32
    with torch.inference_mode(), precision.lowered(device):
        network(*precision.channels_last([torch.rand(1, 3, 8, 10)]))
    assert network.dtype is dtype
    assert network.strides == (240, 1, 30, 3)


def test_weights_of_five_dimensions_keep_their_order():
    network = nn.ParameterList([nn.Parameter(torch.rand(2, 3, 4, 5, 6))])
    assert precision.move(network, Device(CPU, torch.float32, ""))[0].is_contiguous()


def test_bfloat16_stays_within_its_rounding():
    torch.manual_seed(0)
    network, picture = Spy(), torch.rand(1, 3, 16, 16)
    answers = []
    for dtype in (torch.float32, torch.bfloat16):
        with torch.inference_mode(), precision.lowered(Device(CPU, dtype, "")):
            answers.append(network(picture).float())
    difference = (answers[0] - answers[1]).abs().max()
    assert 0 < difference < 0.02


def test_waiting_for_the_cpu_is_nothing():
    precision.wait(Device(CPU, torch.float32, ""))
