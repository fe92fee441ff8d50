"""One BitTorrent peer; the benchmark starts one on every host, and the seed on the controller.

It does what it is told on standard input, a line each, and answers on standard output. When standard input ends, the
peer does, too.

    {"torrent": …}  ->  listening        the order (JSON): it has the torrent, and asks nobody for anything yet
    connect         ->  connected        all know each other, and what the seed shows to begin with
    go              ->  done UNIXTIME    all pieces are there and their hashes are right
    stop            ->  {"uploaded": …}  statistics (JSON)

So the clock starts when every peer is up, and not before a super-seeding seed, which shows a peer its first piece only
10 s after they met, has done so.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from typing import Any

import libtorrent as lt

LIFETIME = 1200  # seconds, after which the kernel ends it
CONNECTED_WITHIN = 40.0  # seconds
PORT = 6881


def read_lines() -> queue.Queue[str]:
    """Lines of standard input as they come; at its end this process ends."""
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line.strip())
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return lines


def say(text: str) -> None:
    """Answer."""
    print(text, flush=True)


def expect(lines: queue.Queue[str], word: str) -> None:
    """Wait for a word of the controller."""
    if (line := lines.get()) != word:
        raise SystemExit(f"expected {word!r}, got {line!r}")


def choose_peers(session: lt.session, slots: int) -> None:
    """Serve `slots` peers at a time; by default libtorrent serves all whose addresses are private."""
    local = lt.session.local_peer_class_id
    session.set_peer_class(local, {**session.get_peer_class(local), "ignore_unchoke_slots": False})
    session.apply_settings({"unchoke_slots_limit": slots})


def add(session: lt.session, order: dict[str, Any]) -> lt.torrent_handle:
    """Add the torrent, unmanaged; a downloader asks for nothing before its flag `upload_mode` goes."""
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(order["torrent"])
    params.save_path = order["folder"]
    params.flags = lt.torrent_flags.seed_mode if order["seed"] else lt.torrent_flags.upload_mode
    if order["super_seeding"] and order["seed"]:
        params.flags |= lt.torrent_flags.super_seeding
    params.max_connections = params.max_uploads = -1
    return session.add_torrent(params)


def connect(handle: lt.torrent_handle, addresses: list[str], mesh: int) -> None:
    """Call some peers, the seed first, and wait until all are connected and the seed has shown a piece.

    Args:
        handle: the torrent.
        addresses: whom to call; the others call this peer. Empty for the seed.
        mesh: how many others there are.
    """
    for address in addresses:
        handle.connect_peer((address, PORT))
    deadline = time.monotonic() + CONNECTED_WITHIN
    while not met(handle.get_peer_info(), addresses[:1], mesh):
        if time.monotonic() > deadline:
            raise SystemExit(
                f"only {len(handle.get_peer_info())} of {mesh} peers are connected, or the seed shows nothing"
            )
        time.sleep(0.02)


def met(peers: list[lt.peer_info], seed: list[str], mesh: int) -> bool:
    """Whether all are connected and the seed has shown a piece."""
    up = [peer for peer in peers if not peer.flags & (lt.peer_info.handshake | lt.peer_info.connecting)]
    return len(up) == mesh and (not seed or any(peer.ip[0] in seed and any(peer.pieces) for peer in up))


def finish(session: lt.session, handle: lt.torrent_handle) -> float:
    """Download everything; the unix time at which all pieces had been checked."""
    handle.unset_flags(lt.torrent_flags.upload_mode)
    while True:
        session.wait_for_alert(1000)
        now = time.time()
        for alert in session.pop_alerts():
            if isinstance(alert, lt.torrent_finished_alert):
                return now
            if isinstance(alert, (lt.torrent_error_alert, lt.file_error_alert, lt.hash_failed_alert)):
                print(alert.message(), file=sys.stderr)


def main() -> None:
    signal.alarm(LIFETIME)
    lines = read_lines()
    order = json.loads(lines.get())
    category = lt.alert.category_t
    session = lt.session(
        {
            **order["settings"],
            "listen_interfaces": f"{order['address']}:{PORT}",
            "outgoing_interfaces": order["address"],
            "alert_mask": category.status_notification | category.error_notification,
        }
    )
    if order["seed"] and order["seed_slots"]:
        choose_peers(session, order["seed_slots"])
    handle = add(session, order)
    say("listening")
    expect(lines, "connect")
    connect(handle, order["peers"], order["mesh"])
    say("connected")
    expect(lines, "go")
    say(f"done {time.time() if order['seed'] else finish(session, handle)}")
    expect(lines, "stop")
    status = handle.status()
    say(
        json.dumps(
            {
                "uploaded": status.total_payload_upload,
                "downloaded": status.total_payload_download,
                "redundant": status.total_redundant_bytes,
                "failed": status.total_failed_bytes,
            }
        )
    )
    os._exit(0)  # libtorrent would say goodbye to trackers that there are none of


if __name__ == "__main__":
    main()
