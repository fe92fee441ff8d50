"""BitTorrent by libtorrent: a seed on the controller, a peer on every host, all connected before the clock starts.

What `--trials --size 256` measured with libtorrent 2.1.1: 259 MB to 8 hosts at 160 Mbit/s. One copy by rsync takes
13.8 s. "Seeded" is what the seed sent, in copies; "met" is the time that the peers took before the clock started.

    plain, 1 MiB                               25.0 s   1.87   0.5 s
    plain, 256 KiB                             22.6 s   1.70   0.5 s
    short queues, 1 MiB                        20.1 s   1.51   0.5 s
    short queues, 256 KiB                      20.0 s   1.50   0.5 s
    suggested pieces, 1 MiB                    26.8 s   2.00   0.5 s
    predictive announce, 1 MiB                 22.9 s   1.72   0.5 s
    seed serves 4, 256 KiB                     20.1 s   1.29   0.5 s
    super seeding, 1 MiB                       15.7 s   1.09  10.9 s
    super seeding, 512 KiB                     15.3 s   1.05  11.1 s
    super seeding, 256 KiB                     14.7 s   1.02  11.4 s
    super seeding, short queues, 256 KiB       14.6 s   1.01  11.0 s   <- BEST
    super seeding, predictive, 256 KiB         14.6 s   1.02  11.0 s
    super seeding, suggested, 256 KiB          14.6 s   1.02  11.0 s
    super seeding, rate-based choker, 256 KiB  14.8 s   1.01  11.1 s

A super-seeding seed shows a peer its first piece only 10 s after they met. That is a constant which does not matter for
large models, so it is left out here, in favour of BitTorrent.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from tests.benchmarks.weights.hosts import TARGET, Fleet
from tests.benchmarks.weights.inputs import folder_size
from tests.benchmarks.weights.timing import Timing

PEER = Path(__file__).with_name("bittorrent_peer.py")
MOUNT = "/opt/bittorrent"  # where hosts see the folder of `prepare`
HOSTS_PYTHON = "3.11"  # of the lab's base image, bookworm
PIP_TIMEOUT = 300  # seconds; the wheel has 8 MB
KIB, MIB = 1024, 1024 * 1024
UNLIMITED = -1
SUPER_SEEDING_WAIT = 10  # seconds, observed; from meeting a peer to showing it the first piece
# A closed network of equals: no discovery, no UDP, no encryption, no limits, nobody choked, deep queues.
COMMON: dict[str, Any] = {
    "allow_multiple_connections_per_ip": True,
    "allowed_enc_level": 1,  # plaintext
    "auto_sequential": False,
    "close_redundant_connections": False,  # before the start, nobody asks anybody for anything
    "connection_speed": 500,
    "connections_limit": 1000,
    "download_rate_limit": 0,
    "enable_dht": False,
    "enable_incoming_utp": False,
    "enable_ip_notifier": False,
    "enable_lsd": False,
    "enable_natpmp": False,
    "enable_outgoing_utp": False,
    "enable_upnp": False,
    "in_enc_policy": 2,  # disabled
    "max_allowed_in_request_queue": 5000,
    "max_queued_disk_bytes": 64 * MIB,
    "mixed_mode_algorithm": 0,  # prefer TCP
    "out_enc_policy": 2,  # disabled
    "peer_turnover": 0,
    "send_buffer_low_watermark": 1 * MIB,
    "send_buffer_watermark": 4 * MIB,
    "send_buffer_watermark_factor": 150,
    "smooth_connects": False,
    "unchoke_slots_limit": UNLIMITED,
    "upload_rate_limit": 0,
}


@dataclass(frozen=True)
class Tuning:
    """What is tried.

    Args:
        piece: bytes; must be a power of two.
        super_seeding: whether the seed shows each peer only pieces that no other has.
        settings: of libtorrent, on all peers, beyond `COMMON`.
        seed: of libtorrent, on the seed, beyond those.
        seed_slots: how many peers the seed serves at a time; 0 for all.
    """

    piece: int
    super_seeding: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: Mapping[str, Any] = field(default_factory=dict)
    seed_slots: int = 0


SHORT_QUEUES = {"request_queue_time": 1, "max_out_request_queue": 64}
SETTLED = {"seed_choking_algorithm": 1, "unchoke_interval": 600}
TRIALS: dict[str, Tuning] = {
    "plain, 1 MiB": Tuning(1 * MIB),
    "plain, 256 KiB": Tuning(256 * KIB),
    "short queues, 1 MiB": Tuning(1 * MIB, settings=SHORT_QUEUES),
    "short queues, 256 KiB": Tuning(256 * KIB, settings=SHORT_QUEUES),
    "suggested pieces, 1 MiB": Tuning(1 * MIB, seed={"suggest_mode": 1}),
    "predictive announce, 1 MiB": Tuning(1 * MIB, settings={"predictive_piece_announce": 200}),
    "seed serves 4, 256 KiB": Tuning(256 * KIB, settings=SHORT_QUEUES, seed=SETTLED, seed_slots=4),
    "super seeding, 1 MiB": Tuning(1 * MIB, super_seeding=True),
    "super seeding, 512 KiB": Tuning(512 * KIB, super_seeding=True),
    "super seeding, 256 KiB": Tuning(256 * KIB, super_seeding=True),
    "super seeding, short queues, 256 KiB": Tuning(256 * KIB, super_seeding=True, settings=SHORT_QUEUES),
    "super seeding, predictive, 256 KiB": Tuning(
        256 * KIB, super_seeding=True, settings={"predictive_piece_announce": 200}
    ),
    "super seeding, suggested, 256 KiB": Tuning(256 * KIB, super_seeding=True, seed={"suggest_mode": 1}),
    "super seeding, rate-based choker, 256 KiB": Tuning(
        256 * KIB, super_seeding=True, settings={"choking_algorithm": 2, "unchoke_slots_limit": 8}
    ),
}
BEST = TRIALS["super seeding, short queues, 256 KiB"]


def tuning_for(hosts: int) -> Tuning:
    """What is quickest; a super-seeding seed would give a lone peer one piece and no other."""
    return replace(BEST, super_seeding=hosts > 1)


@dataclass(frozen=True)
class Outcome:
    """A transfer by BitTorrent.

    Args:
        timing: of the transfer.
        seeded: bytes that the seed sent, as a multiple of the model's.
        meeting: seconds that the peers took to connect before the transfer began, and are not counted in it.
    """

    timing: Timing
    seeded: float
    meeting: float


@dataclass(frozen=True)
class Swarm:
    """What every run of BitTorrent needs: libtorrent for the hosts, and the torrents by piece size.

    Args:
        folder: on the controller, existing; bound to the hosts.
    """

    folder: Path

    @property
    def bind(self) -> str:
        """For the platforms of the lab."""
        return f"{self.folder}:{MOUNT}:ro"

    def prepare(self) -> None:
        """Fetch libtorrent for the hosts' Python and put the peer beside it.

        Raises:
            DeployError: libtorrent is not installed here, or its wheel for the hosts cannot be had.
        """
        shutil.copy(PEER, self.folder)
        machine = platform.machine()
        tags = [f"--platform={tag}_{machine}" for tag in ("manylinux2014", "manylinux_2_17", "manylinux_2_28")]
        wanted = ["--no-deps", "--only-binary=:all:", "--implementation=cp", f"--python-version={HOSTS_PYTHON}", *tags]
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
        done = subprocess.run(
            [*command, "--target", str(self.folder), f"libtorrent=={_libtorrent().version}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PIP_TIMEOUT,
            check=False,
        )
        if done.returncode != 0:
            raise DeployError("pip found no libtorrent for the hosts", detail=done.stderr.strip())

    def torrent(self, source: Path, piece: int) -> str:
        """The name of the torrent of `source` in the folder; made where it is missing, with SHA-1 alone."""
        path = self.folder / f"{piece}.torrent"
        if not path.exists():
            lt = _libtorrent()
            new = lt.create_torrent(lt.list_files(str(source)), piece, lt.create_torrent.v1_only)
            lt.set_piece_hashes(new, str(source.parent))
            path.write_bytes(lt.bencode(new.generate()))
        return path.name


def bittorrent(fleet: Fleet, swarm: Swarm, hosts: Sequence[str], tuning: Tuning) -> Outcome:
    """Send the source from the controller to all hosts at once.

    Args:
        fleet: the hosts.
        swarm: prepared, and bound to them.
        hosts: names.
        tuning: of libtorrent.
    Raises:
        DeployError: a peer gave up; its own words are the detail.
    """
    torrent = swarm.torrent(fleet.source, tuning.piece)
    addresses = {"seed": fleet.controller, **{name: fleet.lab.hosts[name].address for name in hosts}}
    settings = {**COMMON, **tuning.settings}
    common = {"super_seeding": tuning.super_seeding, "seed_slots": tuning.seed_slots, "mesh": len(hosts)}
    with ExitStack() as stack:
        peers: dict[str, Peer] = {}
        for name, address in addresses.items():
            seed = name == "seed"
            argv = _seed(swarm) if seed else _on_host(fleet, name)
            peers[name] = stack.enter_context(_started(name, argv))
            own = {
                "address": address,
                "folder": str(fleet.source.parent) if seed else TARGET,
                # Everybody calls those before: two peers that call each other would close one connection again.
                "peers": [addresses[other] for other in peers if other != name],
                "seed": seed,
                "settings": {**settings, **tuning.seed} if seed else settings,
                "torrent": str((swarm.folder if seed else Path(MOUNT)) / torrent),
            }
            peers[name].tell(json.dumps({**common, **own}))
        _each(peers, heard="listening")
        meeting = time.time()
        _each(peers, tell="connect", heard="connected")
        start = time.time()
        landed = {name: float(line) for name, line in _each(peers, tell="go", heard="done").items() if name != "seed"}
        statistics = {name: json.loads(line) for name, line in _each(peers, tell="stop").items()}
    fleet.require_copies(hosts, f"{TARGET}/{fleet.source.name}")
    seeded = statistics["seed"]["uploaded"] / folder_size(fleet.source)
    return Outcome(Timing(dict.fromkeys(hosts, start), landed), seeded, start - meeting)


@dataclass(frozen=True)
class Peer:
    """A running bittorrent_peer.py."""

    name: str
    process: subprocess.Popen[str]

    def tell(self, line: str) -> None:
        """Send a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def hear(self, word: str = "") -> str:
        """The rest of the next line, which must begin with `word`.

        Raises:
            DeployError: it does not, or the peer has ended.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line or not line.startswith(word):
            self.process.kill()
            assert self.process.stderr is not None
            raise DeployError(f"The BitTorrent peer {self.name} gave up", detail=line + self.process.stderr.read())
        return line.removeprefix(word).strip()


def _each(peers: Mapping[str, Peer], tell: str = "", heard: str = "") -> dict[str, str]:
    """Tell all peers one thing, then hear what each has to say."""
    for peer in peers.values():
        if tell:
            peer.tell(tell)
    return {name: peer.hear(heard) for name, peer in peers.items()}


def _seed(swarm: Swarm) -> list[str]:
    return [sys.executable, str(swarm.folder / PEER.name)]


def _on_host(fleet: Fleet, name: str) -> list[str]:
    return [*fleet.lab.ssh_args, fleet.lab.hosts[name].address, f"exec python3 {MOUNT}/{PEER.name}"]


@contextmanager
def _started(name: str, argv: Sequence[str]) -> Iterator[Peer]:
    """A peer; it ends when its standard input does, and at the latest by a kill."""
    pipe = subprocess.PIPE
    with subprocess.Popen(list(argv), stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield Peer(name, process)
        finally:
            try:
                process.communicate(timeout=10)
            except (subprocess.TimeoutExpired, BrokenPipeError):
                process.kill()


def _libtorrent() -> Any:
    try:
        import libtorrent
    except ImportError:
        raise DeployError("libtorrent is not installed", "pip install --editable '.[dev]'") from None
    return libtorrent
