"""The nested loss compared with the losses of prefixes, and the configuration of prefixes."""

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from model.config import ModelConfig
from model.loss import SoftmaxOptions, sampled_softmax


def test_the_loss_is_the_mean_of_the_losses_of_prefixes_of_unit_length() -> None:
    generator = torch.Generator().manual_seed(0)
    raw = [functional.normalize(torch.randn(n, 8, generator=generator)) for n in (3, 5)]
    rest = (torch.arange(3) + 10, torch.arange(5), torch.rand(5, generator=generator) + 0.1)
    fast, slow = ([part.clone().requires_grad_() for part in raw] for _ in range(2))
    loss = sampled_softmax(*fast, *rest, SoftmaxOptions(0.1, prefixes=(2, 3)))
    loss.backward()  # type: ignore[no-untyped-call]

    losses = [sampled_softmax(*slow, *rest, SoftmaxOptions(0.1))]
    for dim in (2, 3):
        cut = [part[:, :dim] / (part[:, :dim] ** 2).sum(dim=1, keepdim=True).sqrt() for part in slow]
        losses.append(sampled_softmax(*cut, *rest, SoftmaxOptions(0.1)))
    expected = torch.stack(losses).mean()
    expected.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss, expected)
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"matryoshka": [16]}, "needs members = 1"),
        ({"matryoshka": [16, 16], "members": 1}, "must ascend"),
        ({"matryoshka": [16, 192], "members": 1}, "stay below dim = 192"),
        ({"matryoshka": [0], "members": 1}, "must ascend from 1"),
    ],
)
def test_impossible_prefixes_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelConfig.model_validate(settings)
