"""What the module says of a host on which nothing is known to serve: the commands that bring the service back."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.cutover.outcome import NOT_RESTORED, Outcome
from ansible_collections.deployer.sglang.plugins.modules.cutover import by_hand, message
from tests.doubles.released_host import SERVICE, ReleasedHost


@pytest.mark.parametrize(
    ("supervisor", "start"),
    [
        ("systemd", "systemctl restart inference-code2sql; journalctl -u inference-code2sql (it runs {launch})"),
        ("unit:llm.service", "systemctl restart llm.service; journalctl -u llm.service"),
        ("process", "{launch}"),
    ],
)
def test_what_keeps_the_release_before_is_what_starts_it_by_hand(tmp_path: Path, supervisor: str, start: str) -> None:
    host = ReleasedHost(tmp_path)
    host.stage("0123456789ab", supervisor=supervisor)
    outcome = Outcome(NOT_RESTORED, "0123456789ab", "0123456789ab", "ba9876543210", reason="why")
    launch = f"{host.folder.release('0123456789ab')}/launch.sh"
    expected = f"{start.format(launch=launch)}; once it answers, run the deployment again"
    assert by_hand(host.order("ba9876543210"), outcome) == expected
    assert f"{SERVICE}: release ba9876543210 did not pass its gate (why); NOTHING IS KNOWN TO SERVE" in message(
        host.order("ba9876543210"), outcome
    )


def test_where_nothing_served_before_the_next_deployment_is_the_way(tmp_path: Path) -> None:
    outcome = Outcome(NOT_RESTORED, None, None, "ba9876543210")
    assert by_hand(ReleasedHost(tmp_path).order("ba9876543210"), outcome).endswith("deploy again")
