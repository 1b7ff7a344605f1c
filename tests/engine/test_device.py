import pytest
import torch
from torch import nn

from deblur_cli.engine import device as module
from deblur_cli.engine.device import (
    Device,
    bfloat16_support,
    channels_last,
    choose,
    cpu_flags,
    fit_to_network,
    lowered,
    move_network,
    synchronise,
)
from deblur_cli.errors import DeviceError
from deblur_cli.networks.contract import Traits

CPU = torch.device("cpu")


def traits(**changes):
    return Traits(size_multiple=4, overlap_px=8, reach_px=10, **changes)


@pytest.fixture
def plain_machine(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(module, "cpu_flags", lambda: frozenset({"avx2"}))


@pytest.fixture
def one_card(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number=0: "Card")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda card: (7, 5))


@pytest.mark.parametrize(
    ("requested", "precision", "message"),
    [
        ("cuda", "auto", "CUDA was asked for, .* leave --device out"),
        ("mps", "auto", "MPS was asked for, .*Leave --device out"),
        ("gpu", "auto", "no device 'gpu'.*cuda:N"),
        ("cpu", "int8", "no precision 'int8'"),
        ("cpu", "bf16", "bfloat16 was asked for, but the processor has neither amx_bf16 nor avx512_bf16"),
        ("cpu", "float16", "float16 was asked for, but needs a GPU"),
    ],
)
def test_what_is_not_there_is_refused_with_the_remedy(plain_machine, requested, precision, message):
    with pytest.raises(DeviceError, match=message):
        choose(requested, precision)


def test_cuda_without_a_card_names_the_driver(plain_machine, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(DeviceError, match=r"nvidia-smi .*CUDA 13\.0"):
        choose("cuda")


def test_a_card_that_is_not_there_is_refused(one_card):
    with pytest.raises(DeviceError, match="cuda:3 was asked for, but there are 1"):
        choose("cuda:3")


def test_bfloat16_on_an_old_card_is_refused_and_auto_takes_float32(one_card):
    with pytest.raises(DeviceError, match=r"capability 7\.5 lacks bfloat16"):
        choose("cuda", "bfloat16")
    assert choose("auto").dtype is torch.float32


def test_auto_prefers_cuda_and_names_the_reason(one_card, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda card: (9, 0))
    chosen = choose()
    assert (str(chosen.torch_device), chosen.dtype) == ("cuda:0", torch.bfloat16)
    assert chosen.reason == "Card found; bfloat16, since a card of compute capability 9.0 has bfloat16"


def test_auto_without_a_gpu_takes_the_cpu_in_float32(plain_machine):
    chosen = choose()
    assert (chosen.torch_device, chosen.dtype, chosen.precision_asked) == (CPU, torch.float32, False)


@pytest.mark.parametrize("flag", ["amx_bf16", "avx512_bf16"])
def test_a_processor_with_bfloat16_uses_it(plain_machine, monkeypatch, flag):
    monkeypatch.setattr(module, "cpu_flags", lambda: frozenset({"avx2", flag}))
    assert choose().dtype is torch.bfloat16
    assert choose("cpu", "float32").dtype is torch.float32
    assert flag in choose().reason


def test_plain_avx512_is_not_taken_for_bfloat16(plain_machine, monkeypatch):
    monkeypatch.setattr(module, "cpu_flags", lambda: frozenset({"avx2", "avx512_f", "amx_tile"}))
    assert bfloat16_support(CPU)[0] is False


def test_flags_come_from_the_kernel_where_pytorch_does_not_tell(monkeypatch, tmp_path):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(module.platform, "system", lambda: "Linux")
    (tmp_path / "cpuinfo").write_text("processor : 0\nflags\t\t: fpu AVX2 amx_bf16\n")
    assert {"avx2", "amx_bf16"} <= cpu_flags(tmp_path)


def test_this_machine_reports_something():
    assert choose().torch_device.type in {"cpu", "cuda", "mps"}


def test_a_network_unsafe_in_the_asked_precision_is_refused():
    asked = Device(CPU, torch.bfloat16, "", precision_asked=True)
    with pytest.raises(DeviceError, match=r"toy gives wrong pictures in bfloat16\. Take --precision float32"):
        fit_to_network(asked, "toy", traits(bfloat16=False))


def test_a_network_unsafe_in_the_automatic_precision_runs_in_float32_and_says_so():
    fitted = fit_to_network(Device(CPU, torch.bfloat16, "fast"), "toy", traits(bfloat16=False))
    assert fitted.dtype is torch.float32
    assert "not safe in bfloat16" in fitted.reason


def test_a_safe_precision_stays():
    chosen = Device(CPU, torch.bfloat16, "fast")
    assert fit_to_network(chosen, "toy", traits()) is chosen


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
    network = move_network(Spy().double().train(), device)
    assert not network.training
    assert network.layer.weight.dtype is torch.float32
    with torch.inference_mode(), lowered(device):
        network(*channels_last([torch.rand(1, 3, 8, 10)]))
    assert network.dtype is dtype
    assert network.strides == (240, 1, 30, 3)


def test_weights_of_five_dimensions_keep_their_order():
    network = nn.ParameterList([nn.Parameter(torch.rand(2, 3, 4, 5, 6))])
    assert move_network(network, Device(CPU, torch.float32, ""))[0].is_contiguous()


def test_bfloat16_stays_within_its_rounding():
    torch.manual_seed(0)
    network, picture = Spy(), torch.rand(1, 3, 16, 16)
    answers = []
    for dtype in (torch.float32, torch.bfloat16):
        with torch.inference_mode(), lowered(Device(CPU, dtype, "")):
            answers.append(network(picture).float())
    difference = (answers[0] - answers[1]).abs().max()
    assert 0 < difference < 0.02


def test_waiting_for_the_cpu_is_nothing():
    synchronise(Device(CPU, torch.float32, ""))
