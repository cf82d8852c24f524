"""Two runs of site at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import local_cloud


@pytest.mark.long
def test_two_first_runs_at_the_same_time_end_with_one_deployment():
    with local_cloud() as cloud, ThreadPoolExecutor(2) as pool:
        plays = list(pool.map(lambda _run: cloud.playbook("site.yml"), range(2)))
        assert [play.status for play in plays] == [0, 0], "\n".join(play.output for play in plays if play.status)
        after = cloud.playbook("site.yml")
        assert (after.status, after.recap("changed")) == (0, 0), after.output
        assert cloud.playbook("verify.yml").status == 0
