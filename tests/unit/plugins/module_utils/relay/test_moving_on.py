"""Sources that die, stall or are slow: whoever reads from them pulls on elsewhere, at the same byte."""

from __future__ import annotations

import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.relay import server
from ansible_collections.deployer.sglang.plugins.module_utils.relay.credentials import client_context
from ansible_collections.deployer.sglang.plugins.module_utils.relay.files import GrowingFile
from ansible_collections.deployer.sglang.plugins.module_utils.relay.order import Limits, Peer
from ansible_collections.deployer.sglang.plugins.module_utils.relay.puller import Sources
from ansible_collections.deployer.sglang.plugins.module_utils.relay.upstream import SourceLost, Upstream, least_rate
from tests.doubles.relay_fleet import MB, Fleet, noise, until
from tests.doubles.tcp_proxy import Proxy

FRAMES = MB  # what may be under way when a source is lost, and is sent again


def test_a_source_that_is_killed(fleet: Fleet) -> None:
    model = fleet.model(size=6 * MB)
    seed = fleet.seed(model, limits={"rate": 4 * MB})
    first = fleet.host("h0", [model], [seed])
    second = fleet.host("h1", [model], [first, seed])
    third = fleet.host("h2", [model], [second, first, seed])
    second.until_received(MB)
    first.kill()
    for host in (second, third):
        report = host.until("landed")
        assert host.has(model)
        assert model.size <= report["received"] <= model.size + FRAMES
    assert "h0" in second.report()["lost"]
    assert third.report()["lost"] == {}


def test_a_source_that_is_killed_in_the_middle_of_the_chain(fleet: Fleet) -> None:
    model = fleet.model(files={"a": noise(3 * MB), "b": noise(3 * MB, 2)})
    seed = fleet.seed(model, limits={"rate": 4 * MB})
    hosts = [fleet.host("h0", [model], [seed])]
    hosts.append(fleet.host("h1", [model], [hosts[0], seed]))
    hosts.append(fleet.host("h2", [model], [hosts[1], hosts[0], seed]))
    hosts[2].until_received(MB)
    hosts[1].kill()
    report = hosts[2].until("landed")
    assert hosts[2].has(model)
    assert model.size <= report["received"] <= model.size + FRAMES
    assert set(report["lost"]) == {"h1"}  # the next one up the chain was as good as the seed
    hosts[0].until("landed")
    until(lambda: hosts[0].report()["sent"] >= model.size - FRAMES, "the next one up to serve both")


def test_a_source_that_stalls(fleet: Fleet) -> None:
    model = fleet.model(size=4 * MB)
    seed = fleet.seed(model, limits={"rate": 4 * MB})
    first = fleet.host("h0", [model], [seed])
    second = fleet.host("h1", [model], [first, seed], limits={"stall": 0.5})
    second.until_received(MB)
    first.send(signal.SIGSTOP)
    report = second.until("landed")
    assert second.has(model)
    assert model.size <= report["received"] <= model.size + FRAMES
    assert "did not answer in time" in report["lost"]["h0"]


def test_a_link_that_is_slower_than_the_floor(fleet: Fleet, link: Callable[..., Proxy]) -> None:
    model = fleet.model(size=4 * MB)
    seed = fleet.seed(model)
    limits = {"streams": 1, "floor": MB}
    first = fleet.host("h0", [model], [seed], limits=limits)
    slow = link(first, rate=MB // 8)
    second = fleet.host("h1", [model], [Peer("h0", "127.0.0.1", slow.port), seed], limits=limits)
    third = fleet.host("h2", [model], [second, first, seed], limits=limits)
    report = second.until("landed")
    assert second.has(model)
    assert "less than the floor" in report["lost"]["h0"]
    assert report["received"] <= model.size + FRAMES
    # Whoever is behind the bottleneck had all there was all the time: it stays where it is.
    assert third.until("landed")["lost"] == {}
    assert third.has(model)


def test_every_source_is_slow(fleet: Fleet, link: Callable[..., Proxy]) -> None:
    model = fleet.model(size=MB)
    seed = fleet.seed(model)
    limits = {"streams": 1, "floor": 64 * MB}
    first = fleet.host("h0", [model], [seed])
    near, far = link(first, rate=MB), link(seed, rate=MB)
    host = fleet.host(
        "h1", [model], [Peer("h0", "127.0.0.1", near.port), Peer("seed", "127.0.0.1", far.port)], limits=limits
    )
    report = host.until("landed")
    assert host.has(model)
    assert set(report["lost"]) == {"h0", "seed"}
    assert report["received"] <= model.size + 2 * FRAMES


def test_who_reads_from_a_host_with_a_slow_seed_waits_and_finishes(fleet: Fleet, link: Callable[..., Proxy]) -> None:
    model = fleet.model(size=MB)
    seed = fleet.seed(model)
    slow = Peer("seed", "127.0.0.1", link(seed, rate=MB).port)
    limits = {"streams": 1, "floor": 64 * MB}
    first = fleet.host("h0", [model], [slow], limits=limits)
    second = fleet.host("h1", [model], [first, slow], limits=limits)
    for host in (first, second):
        host.until("landed")
        assert host.has(model)


def test_a_byte_that_is_flipped_on_the_wire(fleet: Fleet, link: Callable[..., Proxy]) -> None:
    model = fleet.model(size=4 * MB)
    seed = fleet.seed(model)
    bad = link(seed, flip_at=2 * MB)
    host = fleet.host("h0", [model], [Peer("bad", "127.0.0.1", bad.port), seed])
    report = host.until("landed")
    assert bad.flipped
    assert host.has(model)
    assert "TLS" in report["lost"]["bad"]
    assert model.size <= report["received"] <= model.size + FRAMES


def test_the_only_source_breaks_off_and_comes_back(fleet: Fleet, link: Callable[..., Proxy]) -> None:
    model = fleet.model(size=4 * MB)
    seed = fleet.seed(model)
    host = fleet.host("h0", [model], [Peer("seed", "127.0.0.1", link(seed, flip_at=2 * MB).port)])
    report = host.until("landed")
    assert host.has(model)
    assert report["received"] <= model.size + FRAMES


def test_a_host_resumes_at_the_byte_after_it_was_killed(fleet: Fleet) -> None:
    model = fleet.model(files={"a": noise(4 * MB), "b": noise(2 * MB, 2), "config.json": b"{}"})
    seed = fleet.seed(model, limits={"rate": 4 * MB})
    host = fleet.host("h0", [model], [seed])
    host.until_received(2 * MB)
    host.kill()
    there = sum(path.stat().st_size for path in host.arriving(model).rglob("*") if path.is_file())
    assert 2 * MB <= there < model.size
    host = fleet.host("h0", [model], [seed])
    report = host.until("landed")
    assert host.has(model)
    assert report["resumed"] == there
    assert report["received"] == model.size - there


def test_a_source_that_starts_again_is_read_from_again(fleet: Fleet) -> None:
    model = fleet.model(size=3 * MB)
    seed = fleet.seed(model, limits={"rate": 4 * MB})
    first = fleet.host("h0", [model], [seed])
    second = fleet.host("h1", [model], [first], limits={"stall": 1.0})
    second.until_received(MB)
    first.kill()
    shutil.rmtree(first.root)
    first = fleet.host("h0", [model], [seed], address=first.peer.address, port=first.peer.port)
    for host in (first, second):
        host.until("landed")
        assert host.has(model)


def test_a_seed_lives_while_somebody_may_need_it(fleet: Fleet) -> None:
    model = fleet.model(size=4 * MB)
    linger = {"linger": 1.2}
    seed = fleet.seed(model, watch=False, limits=linger)
    first = fleet.host("h0", [model], [seed], limits={"rate": 2 * MB, **linger})
    first.until("landed")
    # For longer than that, nobody reads from the seed.
    second = fleet.host("h1", [model], [first, seed], limits=linger)
    second.until_received(3 * MB)
    first.kill()
    report = second.until("landed")
    assert second.has(model)
    assert set(report["lost"]) == {"h0"}
    until(lambda: not seed.alive, "a seed that nobody needs to end")
    until(lambda: not second.alive, "a host that nobody reads from to end")


def test_sources_are_tried_from_the_nearest_on() -> None:
    near, far, seed = (Peer(name, "127.0.0.1", 1) for name in ("near", "far", "seed"))
    known = Sources(Limits(start=0.0, patience=0.0))
    chain = (near, far, seed)
    assert known.choose(chain) == (near, False)
    known.met(near)
    known.lost(near, "slow", slow=True)
    assert known.choose(chain) == (far, False)
    known.lost(far, "dead", slow=False)
    assert known.choose(chain) == (seed, False)
    known.lost(seed, "slow", slow=True)
    assert known.choose(chain)[0] == near  # lost longest ago
    assert known.choose((near, seed)) == (near, True)
    assert known.reasons(chain).splitlines() == ["near: slow", "far: dead", "seed: slow"]
    assert known.exhausted
    known.got()
    assert not known.exhausted


def test_a_source_that_was_never_met_gets_its_time() -> None:
    near, seed = (Peer(name, "127.0.0.1", 1) for name in ("near", "seed"))
    known = Sources(Limits(start=3600.0))
    known.lost(near, "refused", slow=False)
    assert known.choose((near, seed)) == (near, False)
    assert known.all_reasons() == {}


def test_streams_share_the_floor() -> None:
    assert least_rate(Limits(streams=4, floor=1000)) == 250
    assert least_rate(Limits(streams=4, floor=1000, rate=1000)) == 125


def test_a_connection_that_was_closed_while_idle_says_nothing_of_its_source(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fleet.model(files={"a": noise(MB), "b": noise(MB // 2, 2)})
    monkeypatch.setattr(server, "IDLE", 0.2)
    seed = fleet.seed(model)
    finish = GrowingFile.finish

    def slow_disk(file: GrowingFile) -> None:
        time.sleep(0.6)
        finish(file)

    monkeypatch.setattr(GrowingFile, "finish", slow_disk)
    host = fleet.host("h0", [model], [seed], limits={"streams": 1})
    report = host.until("landed")
    assert report["lost"] == {}
    assert report["received"] == model.size


def test_a_source_that_closes_before_it_says_who_it_is_is_lost(credentials: tuple[str, str]) -> None:
    def hang_up(listener: socket.socket) -> None:
        caller, _ = listener.accept()
        caller.recv(4096)  # closing with bytes unread would reset the connection
        caller.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=hang_up, args=(listener,), daemon=True).start()
        peer = Peer("seed", "127.0.0.1", listener.getsockname()[1])
        with pytest.raises(SourceLost, match="closed in the handshake"):
            Upstream(peer, client_context(*credentials), "token", Limits(), lambda: False)
