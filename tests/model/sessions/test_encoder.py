"""The session encoder against attention that is written out, its padding, and a rule that it must learn."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from model.config import SessionConfig
from model.embeddings import Embeddings
from model.errors import ModelInputError
from model.sessions.encoder import Layer, SessionEncoder, most_selective_positions
from model.sessions.training import SessionRows, TrainedSessions, encode_prefixes, train_sessions

DIM = 8


def encoder_of(**settings: Any) -> SessionEncoder:
    torch.manual_seed(0)
    return SessionEncoder(DIM, SessionConfig.model_validate({"length": 6, "heads": 2} | settings)).eval()


@pytest.fixture
def sessions() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    present = torch.tensor([[0, 0, 0, 0, 0, 1], [0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]], dtype=torch.bool)
    return functional.normalize(torch.randn(3, 6, DIM), dim=2), present


def plain(layer: Layer, states: Tensor) -> Tensor:
    """Multi-head self-attention of one session (L, D) without padding, by loops over heads and positions."""
    seen = layer.norm_before(states)
    query, (key, value) = layer.query(seen), layer.key_value(seen).chunk(2, dim=1)
    width = DIM // layer.heads
    rows = []
    for i in range(len(states)):
        parts = []
        for head in range(layer.heads):
            dims = slice(head * width, (head + 1) * width)
            weight = torch.stack([query[i, dims] @ key[j, dims] / width**0.5 for j in range(len(states))]).softmax(0)
            parts.append(sum(weight[j] * value[j, dims] for j in range(len(states))))
        rows.append(torch.cat(parts))
    states = states + layer.out(torch.stack(rows))
    return states + layer.narrow(functional.gelu(layer.widen(layer.norm_after(states))))


@pytest.mark.parametrize("positions", [(0,), (6,), (0, 0), (6, 6, 6)])
def test_from_all_positions_it_is_plain_attention(sessions: tuple[Tensor, Tensor], positions: tuple[int, ...]) -> None:
    encoder = encoder_of(positions=positions)
    vectors, present = sessions
    with torch.no_grad():
        output = encoder(vectors, present)
        for row in range(len(vectors)):
            own = vectors[row, present[row]]
            states = own + encoder.position[-len(own) :]
            for layer in encoder.layers:
                states = plain(layer, states)  # type: ignore[arg-type]
            counts = torch.tensor([0.5**ago for ago in reversed(range(len(own)))])
            mean = sum(count * one for count, one in zip(counts, own, strict=True))
            expected = mean / mean.norm() + encoder.norm(states[-1]) * encoder.scale  # type: ignore[attr-defined]
            torch.testing.assert_close(output[row], functional.normalize(expected, dim=0), atol=1e-6, rtol=1e-5)


def test_the_last_position_as_only_query_changes_nothing_at_the_top(sessions: tuple[Tensor, Tensor]) -> None:
    few, every = encoder_of(positions=(0, 1)), encoder_of(positions=(0, 0))
    every.load_state_dict(few.state_dict())
    torch.testing.assert_close(few(*sessions), every(*sessions), atol=1e-6, rtol=1e-5)


def test_the_chosen_positions_are_the_most_selective_and_the_last(sessions: tuple[Tensor, Tensor]) -> None:
    _, present = sessions
    query, key = torch.randn(3, 6, DIM), torch.randn(3, 6, DIM)
    output = most_selective_positions(query, key, present, 3)
    for row in range(3):
        positions = present[row].nonzero().squeeze(1).tolist()
        logits = {i: [float(query[row, i] @ key[row, j]) / DIM**0.5 for j in positions] for i in positions}
        far = {i: max(line) - sum(line) / len(line) for i, line in logits.items()}
        best = sorted(positions[:-1], key=lambda i: -far[i])[:2]
        expected = sorted([*best, positions[-1]])
        assert [i for i in output[row].tolist() if i in positions] == expected
        assert output[row, -1] == 5


@pytest.mark.parametrize(("positions", "lengths"), [((0, 1), {0: 1, 1: 4, 2: 6}), ((3, 2, 1), {1: 4, 2: 6})])
def test_padding_and_the_other_sessions_of_a_batch_change_nothing(
    sessions: tuple[Tensor, Tensor], positions: tuple[int, ...], lengths: dict[int, int]
) -> None:
    """For sessions (row to length) that are at least as long as the number of positions that a layer attends from.

    In a shorter session a layer attends from every position, padding too.
    """
    encoder = encoder_of(positions=positions)
    vectors, present = sessions
    whole = encoder(vectors, present)
    vectors = torch.where(present[:, :, None], vectors, 99.0)
    for row, length in lengths.items():
        alone = encoder(vectors[row : row + 1, -length:], present[row : row + 1, -length:])
        torch.testing.assert_close(alone[0], whole[row], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(alone, encoder(vectors[row : row + 1, -length:], present[row : row + 1, -length:]))


def test_prefixes_of_sessions_by_hand() -> None:
    sessions = SessionRows(np.array([5, 6, 7, 8, 9]), np.array([0, 3, 3, 5]))
    targets = sessions.targets()
    assert targets.tolist() == [1, 2, 4]
    rows, present = sessions.prefixes(targets, 5)
    assert rows.tolist() == [[0, 5], [5, 6], [0, 8]]
    assert present.tolist() == [[False, True], [True, True], [False, True]]
    rows, _ = sessions.prefixes(targets, 1)
    assert rows.tolist() == [[5], [6], [8]]


def random_embeddings(n: int) -> Embeddings:
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((n, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    none = np.zeros((0, 16), np.float32)
    ids = pa.array([f"i{row}" for row in range(n)])
    return Embeddings(ids, vectors, vectors.copy(), np.zeros(0, np.int64), none, np.zeros(n, np.float32))


@pytest.mark.slow
def test_it_learns_what_the_last_item_cannot_know() -> None:
    """After (a, b) comes the item after a, whatever b was."""
    generator, n = np.random.default_rng(1), 24
    first, second = generator.integers(0, n, (2, 1500))
    rows = np.stack([first, second, (first + 1) % n], axis=1)
    sessions = SessionRows(rows.ravel(), np.arange(0, rows.size + 1, 3))
    config = SessionConfig.model_validate(
        {"batch_size": 128, "max_epochs": 30, "random_negatives": 16, "dropout": 0.0, "threads": 1, "input_lr": 0.01}
    )
    embeddings = random_embeddings(n)
    trained = train_sessions(sessions, embeddings, config)
    targets = np.arange(2, rows.size, 3)[:200]
    scores = encode_prefixes(trained, sessions, targets, config.length) @ embeddings.item.T
    assert (scores.argmax(axis=1) == sessions.rows[targets]).mean() > 0.9  # by the last item alone: about 0.1
    again = train_sessions(sessions, embeddings, config)
    assert np.array_equal(again.session_input, trained.session_input)


def test_sessions_of_one_item_each_are_an_error() -> None:
    with pytest.raises(ModelInputError, match="no session has two items"):
        train_sessions(SessionRows(np.arange(3), np.arange(4)), random_embeddings(3), SessionConfig())


def test_the_start_is_the_mean_by_the_given_weight(sessions: tuple[Tensor, Tensor]) -> None:
    vectors, present = sessions
    torch.manual_seed(0)
    encoder = SessionEncoder(DIM, SessionConfig(length=6, heads=2), recency_weight=0.25).eval()
    encoder.share.fill_(0.0)
    counts = 0.25 ** torch.arange(5.0, -1, -1) * present
    mean = functional.normalize((counts[:, :, None] * vectors).sum(dim=1), dim=1)
    torch.testing.assert_close(encoder(vectors, present), mean)


def test_blending_goes_from_the_mean_to_the_encoder(sessions: tuple[Tensor, Tensor]) -> None:
    vectors, present = sessions
    trained = TrainedSessions(encoder_of(), np.zeros((1, DIM), np.float32))
    with torch.no_grad():
        trained.encoder.recency.copy_(torch.arange(6.0))  # as if it had learned something
        torch.testing.assert_close(trained.blend(1.0).encoder(vectors, present), trained.encoder(vectors, present))
        counts = 0.5 ** torch.arange(5.0, -1.0, -1.0) * present
        mean = functional.normalize((counts[:, :, None] * vectors).sum(dim=1), dim=1)
        torch.testing.assert_close(trained.blend(0.0).encoder(vectors, present), mean)
        assert not torch.allclose(trained.blend(0.5).encoder(vectors, present), mean)
