"""core/refusal: whose mistake an error is."""

import pytest

from core.refusal import Refused, preparing


def test_one_line_of_a_preparation_is_refused_and_more_are_a_bug(tmp_path):
    with pytest.raises(Refused, match="seed is wrong"), preparing():
        raise ValueError("seed is wrong")
    with pytest.raises(Refused, match=r"gone.tsv': No such file"), preparing():
        (tmp_path / "gone.tsv").read_text()
    with pytest.raises(ValueError, match="shapes") as bug, preparing():
        raise ValueError("shapes\ndiffer")
    assert not isinstance(bug.value, Refused)
    with pytest.raises(KeyError), preparing():
        raise KeyError("a bug")


def test_what_fails_after_the_preparation_is_a_bug():
    def step():
        raise ValueError("in the middle")

    with pytest.raises(Refused), preparing(until=[f"{__name__}.other"]):
        step()
    with (
        pytest.raises(ValueError, match="middle") as bug,
        preparing([f"{__name__}.step"]),
    ):
        step()
    assert not isinstance(bug.value, Refused)
