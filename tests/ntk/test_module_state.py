"""What a pass changes in a module is undone; what it adds stays."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bn_field_plugin import UserError
from bn_field_plugin.nn.norms import BatchNorm
from bn_field_plugin.ntk.module_state import unchanged_state


class Keeps(nn.Module):
    """Two names for one buffer, a tensor, a number, and a norm of this package."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("one", torch.zeros(2))
        self.register_buffer("same", self.one)
        self.plain, self.count, self.norm = torch.zeros(2), 0, BatchNorm(2)

    def forward(self, x: Tensor) -> Tensor:
        self.one += 1
        self.plain += 1
        self.count += 1
        self.more = self.count
        return self.norm(x)


def test_originals_come_back_also_after_an_error() -> None:
    module = Keeps()
    one, plain = module.one, module.plain
    with pytest.raises(UserError, match="one sample"), unchanged_state(module):
        module(torch.randn(1, 2))
    assert module.one is one and module.same is one and module.plain is plain
    assert one.sum() == 0 and plain.sum() == 0 and module.count == 0


def test_what_two_names_share_stays_shared() -> None:
    module = Keeps()
    with unchanged_state(module):
        module(torch.randn(8, 2))
        assert torch.equal(module.same, torch.ones(2))
    assert module.same.sum() == 0


def test_what_a_pass_adds_stays_and_our_norms_record() -> None:
    module = Keeps()
    with unchanged_state(module):
        module(torch.randn(8, 2))
    assert module.more == 1
    assert module.norm.num_batches_tracked == 1


def test_parameters_are_the_module_s_own() -> None:
    module = nn.Linear(2, 1)
    weight = module.weight
    with unchanged_state(module):
        assert module.weight is weight
        module.weight.data += 1
    assert module.weight is weight
