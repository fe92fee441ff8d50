"""What is said beside a step."""

from __future__ import annotations

from deployer.runs.wording import diff_lines, transfer_note


def test_diffs_show_what_would_change() -> None:
    diff = [{"before": "a\nb\n", "after": "a\nc\n", "after_header": "launch.sh"}, {"before": "x", "after": "x"}]
    assert diff_lines(diff) == ["--- launch.sh", "+++ launch.sh", "@@ -2 +2 @@", "-b", "+c"]
    assert diff_lines(None) == []


def test_a_transfer_that_did_not_end_has_no_note() -> None:
    assert transfer_note({"received": 5}) == ""
    result = {"received": 0, "resumed": 1_000_000, "linked": 3, "started": 1.0, "landed": 1.0}
    assert transfer_note(result) == "0 bytes in 0 s, 1.0 MB were there, 3 files linked"
