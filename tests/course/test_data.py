"""The data sets are what their docstrings say."""

import pytest
import torch

from course.data import batches, gaussian_ring, load_digits, moons, spirals


def test_digits():
    digits = load_digits(held_out=297, seed=3)
    assert digits.x_train.shape == (1500, 64)
    assert digits.x_test.shape == (297, 64)
    assert digits.x_train.dtype == torch.float32
    assert float(digits.x_train.min()) == 0
    assert float(digits.x_train.max()) == 1
    assert set(digits.y_test.tolist()) == set(range(10))
    assert load_digits(flat=False).x_train.shape[1:] == (1, 8, 8)
    assert torch.equal(load_digits(held_out=297, seed=3).x_test, digits.x_test)
    whole = torch.cat([digits.x_train, digits.x_test])
    assert whole.sum() == pytest.approx(float(torch.cat(load_digits()[::2]).sum()), rel=1e-5)


@pytest.mark.parametrize("held_out", [0, 1797, -1])
def test_digits_needs_both_parts(held_out):
    with pytest.raises(ValueError, match="held_out must be between 1 and 1796"):
        load_digits(held_out=held_out)


def test_batches_cover_everything_once():
    x, y = torch.arange(10.0)[:, None], torch.arange(10)
    seen = list(batches(x, y, size=4, generator=torch.Generator().manual_seed(1)))
    assert [len(b[0]) for b in seen] == [4, 4, 2]
    assert sorted(torch.cat([b[1] for b in seen]).tolist()) == list(range(10))
    assert all(torch.equal(bx[:, 0].long(), by) for bx, by in seen)
    with pytest.raises(ValueError, match="differ in length"):
        next(batches(x, y[:3], size=2))
    with pytest.raises(ValueError, match="at least 1"):
        next(batches(x, size=0))


def test_points_are_seeded_and_shaped():
    for draw in (moons, spirals):
        points, labels = draw(60, seed=2)
        assert points.shape == (60, 2)
        assert labels.dtype == torch.int64
        assert torch.equal(points, draw(60, seed=2)[0])
    ring = gaussian_ring(4000, modes=8, radius=2.0, generator=torch.Generator().manual_seed(0))
    assert float(ring.norm(dim=1).mean()) == pytest.approx(2.0, abs=0.05)
