"""What may go: decided from a snapshot, without a host."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.pruning import rules
from ansible_collections.deployer.sglang.plugins.module_utils.pruning.rules import (
    Entry,
    PlacedRelease,
    Rules,
    ServiceState,
    Snapshot,
    decide,
    kept_releases,
    notes,
    release_token,
)

NOW = 1_000_000.0
ROLES = ("current", "previous", "predecessor")


def release(name: str, staged_at: float, text: str = "") -> PlacedRelease:
    return PlacedRelease(name, f"services/s/releases/{name}", staged_at, text)


def entry(token: str, kind: str = rules.ENVIRONMENT, written_at: float = 0, locked: bool = False) -> Entry:
    return Entry(f"artifacts/{token}", kind, token, written_at, locked)


def service(*releases: PlacedRelease, **values: object) -> ServiceState:
    return ServiceState("s", releases, **values)  # type: ignore[arg-type]


def removed(snapshot: Snapshot, **values: object) -> list[str]:
    return [row.path for row in decide(snapshot, Rules(**values)).removed]  # type: ignore[arg-type]


def why(snapshot: Snapshot, path: str) -> str:
    decision = decide(snapshot, Rules())
    return next(row.why for row in (*decision.kept, *decision.removed) if row.path == path)


def test_links_and_the_transaction_keep_their_releases() -> None:
    state = service(
        *(release(str(number), number) for number in range(9)),
        links={"current": "3", "previous": "1", "predecessor": "0"},
        committed_at=100,
        transaction=("3", "2"),
    )
    kept = kept_releases(state, 0, {})
    assert kept == {
        "3": ("current", "named by transaction.json"),
        "1": ("previous",),
        "0": ("predecessor",),
        "2": ("named by transaction.json",),
    }


def test_the_newest_that_was_staged_after_the_commit_is_kept_and_the_newest_others_beside_it() -> None:
    state = service(*(release(str(number), number) for number in range(9)), links={"current": "0"}, committed_at=7)
    kept = kept_releases(state, 2, {})
    assert list(kept) == ["0", "8", "7", "6"]
    assert kept["8"] == ("staged after the current one",)


def test_a_predecessor_that_was_staged_last_does_not_stand_in_for_what_is_staged_for_tonight() -> None:
    state = service(
        release("current", 1),
        release("tonight", 20),
        release("predecessor", 21),
        links={"current": "current", "predecessor": "predecessor"},
        committed_at=10,
    )
    assert kept_releases(state, 0, {})["tonight"] == ("staged after the current one",)


def test_a_host_that_was_only_staged_keeps_what_was_staged() -> None:
    assert list(kept_releases(service(release("a", 1), release("b", 2)), 0, {})) == ["b"]


def test_a_cut_over_that_holds_the_lock_keeps_every_release() -> None:
    state = service(*(release(str(number), number) for number in range(5)), links={"current": "4"}, busy=True)
    assert len(kept_releases(state, 0, {})) == 5


def test_a_release_that_a_process_runs_is_kept() -> None:
    state = service(release("a", 1), release("b", 2), links={"current": "b"}, committed_at=5)
    held = {release_token("a"): ("pid 7 of me: python",)}
    assert kept_releases(state, 0, held)["a"] == ("run by pid 7 of me: python",)


def test_an_option_that_names_another_model_keeps_it() -> None:
    text = '{"argv": ["--speculative-draft-model-path", "/opt/x/artifacts/models/draft-0123456789ab"]}'
    state = service(release("a", 1, text), links={"current": "a"}, committed_at=2)
    snapshot = Snapshot(NOW, (state,), (entry("draft-0123456789ab", rules.MODEL), entry("m-0123456789ab", rules.MODEL)))
    assert removed(snapshot) == ["artifacts/m-0123456789ab"]
    assert why(snapshot, "artifacts/draft-0123456789ab") == "release a of s (current)"


def test_what_only_a_removed_release_used_goes_with_it_and_says_so() -> None:
    state = service(release("a", 1, "x-0123456789ab"), release("b", 2), links={"current": "b"}, committed_at=3)
    snapshot = Snapshot(NOW, (state,), (entry("x-0123456789ab"),))
    assert removed(snapshot, keep=0) == ["services/s/releases/a", "artifacts/x-0123456789ab"]
    assert removed(snapshot, keep=1) == []


def test_what_is_young_locked_or_in_use_is_kept() -> None:
    young = entry("young", written_at=NOW - 86399)
    entries = (young, entry("locked", locked=True), entry("used"), entry("free", written_at=NOW - 86400))
    snapshot = Snapshot(NOW, entries=entries, held={"used": ("pid 7 of me: python",)})
    assert removed(snapshot) == ["artifacts/free"]
    assert why(snapshot, "artifacts/young") == "younger than 1 day"
    assert why(snapshot, "artifacts/locked") == "its lock is held"
    assert why(snapshot, "artifacts/used") == "pid 7 of me: python"


def test_while_a_process_cannot_be_read_nothing_goes_that_it_may_have_loaded() -> None:
    entries = (entry("a"), entry("m", rules.MODEL), entry("cache/c", rules.COMPILE_CACHE), entry("i", rules.INCOMING))
    snapshot = Snapshot(NOW, entries=entries, unread=("pid 7 of anna: python", "pid 8 of anna: python"))
    assert removed(snapshot) == ["artifacts/i"]
    (note,) = notes(snapshot, None)
    assert "pid 7 of anna: python and 1 more" in note
    assert "as root" in note


def test_a_compile_cache_goes_with_its_environment_and_no_earlier() -> None:
    cache = entry("cache/0123456789ab", rules.COMPILE_CACHE)
    kept = Snapshot(NOW, entries=(cache, entry("x-0123456789ab", written_at=NOW)))
    assert removed(kept) == []
    assert why(kept, cache.path) == "environment x-0123456789ab"
    gone = Snapshot(NOW, entries=(cache, entry("x-0123456789ab")))
    assert removed(gone) == ["artifacts/x-0123456789ab", cache.path]
    foreign = Snapshot(NOW, entries=(cache,), left_alone={"/r/artifacts/environments/x-0123456789ab": "a link"})
    assert removed(foreign) == []


def test_what_was_put_aside_to_be_built_again_is_kept_with_its_environment() -> None:
    state = service(release("a", 1, "x-0123456789ab"), links={"current": "a"}, committed_at=2)
    aside = Entry("artifacts/.x-0123456789ab.replaced", rules.BUILD, "x-0123456789ab", 0)
    work = Entry("artifacts/.x-0123456789ab.build", rules.BUILD, ".x-0123456789ab.build", 0)
    assert removed(Snapshot(NOW, (state,), (aside, work))) == [work.path]


def test_a_prefix_of_the_inventory_is_kept() -> None:
    snapshot = Snapshot(NOW, entries=(entry("x-0123456789ab"),))
    assert removed(snapshot, prefixes=("/opt/x/artifacts/environments/x-0123456789ab",)) == []


def test_a_service_that_is_not_described_is_kept_and_how_to_retire_it_is_said() -> None:
    state = service(release("a", 1), links={"current": "a"}, committed_at=2)
    assert notes(Snapshot(NOW, (state,)), ["s"]) == []
    assert notes(Snapshot(NOW, (state,)), None) == []
    (note,) = notes(Snapshot(NOW, (state,)), [])
    assert "service s" in note
    assert "disable --now inference-s" in note


def test_ages_are_read_aloud() -> None:
    seconds = (86400, 172800, 3600, 5400, 60, 1, 0, 0.5)
    assert [rules.duration(value) for value in seconds] == [
        "1 day", "2 days", "1 hour", "90 minutes", "1 minute", "1 second", "0 seconds", "0.5 seconds",
    ]  # fmt: skip


TOKENS = tuple(f"x{number}-0123456789a{number}" for number in range(8))
KINDS = (rules.ENVIRONMENT, rules.MODEL, rules.BUILD, rules.INCOMING)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    moments = st.floats(0, NOW)
    services = []
    for name in draw(st.lists(st.sampled_from("abc"), unique=True)):
        ids = draw(st.lists(st.integers(0, 9).map(str), unique=True, max_size=6))
        releases = tuple(
            PlacedRelease(
                number, f"services/{name}/{number}", draw(moments), " ".join(draw(st.sets(st.sampled_from(TOKENS))))
            )
            for number in ids
        )
        one = st.sampled_from(ids) if ids else st.nothing()
        links = draw(st.dictionaries(st.sampled_from(ROLES), one)) if ids else {}
        transaction = tuple(draw(st.lists(one, max_size=2))) if ids else ()
        committed = draw(moments) if "current" in links else None
        services.append(ServiceState(name, releases, links, committed, transaction, draw(st.booleans())))
    entries = tuple(
        Entry(f"artifacts/{token}", draw(st.sampled_from(KINDS)), token, draw(moments), draw(st.booleans()))
        for token in draw(st.lists(st.sampled_from(TOKENS), unique=True))
    )
    held = draw(st.dictionaries(st.sampled_from(TOKENS), st.just(("pid 1",)), max_size=2))
    return Snapshot(NOW, tuple(services), entries, held=held)


@given(snapshots(), st.integers(0, 3), st.floats(0, NOW))
def test_nothing_goes_that_anything_kept_names_and_everything_is_listed_once(
    snapshot: Snapshot, keep: int, min_age: float
) -> None:
    decision = decide(snapshot, Rules(keep, min_age))
    gone, kept = {row.path for row in decision.removed}, {row.path for row in decision.kept}
    everything = [entry.path for entry in snapshot.entries]
    everything += [release.path for service in snapshot.services for release in service.releases]
    assert sorted([*gone, *kept]) == sorted(everything)
    for state in snapshot.services:
        for placed in state.releases:
            named = placed.id in (*state.links.values(), *state.transaction)
            if named or state.busy:
                assert placed.path in kept
            if placed.path in kept:
                assert not [one for one in snapshot.entries if one.token in placed.text and one.path in gone]
        stay = [placed for placed in state.releases if placed.path in kept]
        assert len(stay) >= min(keep, len(state.releases))
    for one in snapshot.entries:
        if one.locked or one.token in snapshot.held or NOW - one.written_at < min_age:
            assert one.path in kept
