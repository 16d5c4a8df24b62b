"""A float32 constant in a float64 computation: the formula's points stay, the devices' go."""

import pytest

from autograder.engine.verdict import FAILED

HEAD = "def least_squares_generator_loss(fake_scores):\n    "
ROUNDED = {
    "a constant": "return 3.5 * (torch.tensor(1 / 7) * (fake_scores - 1) ** 2).mean()",
    "a tensor of constants": "w = torch.full_like(fake_scores, 0.1, dtype=torch.float32)\n"
    "    return 5 * (w * (fake_scores - 1) ** 2).mean()",
    "a result that came through float32": "loss = 0.5 * ((fake_scores - 1) ** 2).mean()\n"
    "    return loss.float().to(fake_scores.dtype)",
}
WRONG = {
    "a factor that is only nearly right": "return 0.50001 * ((fake_scores - 1) ** 2).mean()",
    "rounded, and wrong": "return torch.tensor(1 / 7) * ((fake_scores - 1) ** 2).mean()",
    "right in float64 alone": "slip = 1e-3 * (fake_scores.dtype == torch.float32)\n"
    "    return torch.tensor(1 / 7) * 3.5 * ((fake_scores - 1) ** 2).mean() + slip",
}


def judged(fill, grade, body):
    verdict = grade(fill(least_squares_generator_loss=HEAD + body + "\n"))
    return next(e for e in verdict.exercises if e.name == "least_squares_generator_loss")


@pytest.mark.parametrize("how", ROUNDED)
def test_costs_the_points_of_devices_and_no_others(fill, grade, how):
    result = judged(fill, grade, ROUNDED[how])
    assert result.mistake == "float32 on the way"
    lost = [test for test in result.tests if test.outcome == FAILED]
    assert lost
    assert all(test.device != "cpu" for test in lost)
    assert result.score == result.max_score - sum(test.max_points for test in lost) > 0


@pytest.mark.parametrize("how", WRONG)
def test_what_is_wrong_beside_it_costs_all_that_it_did(fill, grade, how):
    result = judged(fill, grade, WRONG[how])
    assert result.mistake != "float32 on the way"
    assert any(test.outcome == FAILED and test.device == "cpu" for test in result.tests)
