"""Image metrics: values against their definitions, and LPIPS without a network."""

import socket
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import alexnet

from bn_field_plugin.lpips import LPIPS_WEIGHTS, has_lpips
from bn_field_plugin.models.image_metrics import ImageMetrics


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of torch's downloads, and no network to fill it."""

    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tmp_path / "hub" / "checkpoints"


def images(size: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    true = torch.rand(size, size, 3, generator=generator)
    return true, (true + 0.1 * torch.randn(size, size, 3, generator=generator)).clamp(0, 1)


def write_random_weights(hub: Path) -> None:
    """Write AlexNet's file with random filters, which are enough to test that LPIPS is computed."""
    torch.manual_seed(0)
    state = alexnet(weights=None).state_dict()
    for name, value in state.items():
        if name.startswith("classifier"):  # which LPIPS does not use
            state[name] = torch.zeros(1).expand(value.shape)
    hub.mkdir(parents=True)
    torch.save(state, hub / LPIPS_WEIGHTS)


def test_psnr_is_its_definition(hub: Path) -> None:
    true, ours = images()
    expected = -10 * torch.log10((true - ours).square().mean())
    assert ImageMetrics()(true, ours)["psnr"] == pytest.approx(float(expected), abs=1e-4)


def test_what_lies_beyond_the_range_counts_as_its_end(hub: Path) -> None:
    true, ours = images()
    assert ImageMetrics()(true, ours * 3 - 1) == ImageMetrics()(true, (ours * 3 - 1).clamp(0, 1))


def test_equal_images_are_alike(hub: Path) -> None:
    true, ours = images()
    assert ImageMetrics()(true, true)["ssim"] == pytest.approx(1)
    assert ImageMetrics()(true, ours)["ssim"] < 0.99


def test_lpips_is_left_out_where_its_weights_are_absent(hub: Path) -> None:
    assert not has_lpips()
    assert ImageMetrics()(*images()).keys() == {"psnr", "ssim"}
    assert not hub.exists()


def test_lpips_is_reported_where_its_weights_are_at_hand(hub: Path) -> None:
    write_random_weights(hub)
    metrics = ImageMetrics()
    assert has_lpips()
    true, ours = images()
    worse = (true + 0.5 * torch.randn(true.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    values = [metrics(true, image)["lpips"] for image in (true, ours, worse)]
    assert all(isinstance(value, float) for value in values)
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert values[0] < values[1] < values[2]
    assert metrics(true, ours)["lpips"] == pytest.approx(values[1])  # not a mean over calls


def test_nothing_of_lpips_enters_a_checkpoint(hub: Path) -> None:
    write_random_weights(hub)
    module = nn.Module()
    module.image_metrics = ImageMetrics()
    module.image_metrics(*images())
    assert not module.state_dict()
    assert not list(module.parameters())
