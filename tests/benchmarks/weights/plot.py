"""The plot for the documentation: seconds against number of hosts."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from tests.benchmarks.weights.report import BITTORRENT, RELAY, RSYNC, Results

STYLES = {RSYNC: ("tab:red", "s"), BITTORRENT: ("tab:blue", "^"), RELAY: ("tab:green", "o")}


def require_matplotlib() -> None:
    """Check before anything is measured that the plot can be drawn in the end.

    Raises:
        DeployError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise DeployError("matplotlib is not installed", "pip install --editable '.[dev]'") from None


def write_plot(path: Path, results: Results, bandwidth: str) -> None:
    """Draw the curves into `path`, and the same as PNG beside it.

    Args:
        path: of the SVG.
        results: with the curves.
        bandwidth: of the links, for the title.
    """
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "bench-weights"  # the same figures give the same file
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for way, curve in results.curves.items():
        colour, marker = STYLES.get(way, ("tab:gray", "."))
        axes.plot(sorted(curve), [curve[count] for count in sorted(curve)], color=colour, marker=marker, label=way)
    if results.one_copy:
        axes.axhline(results.one_copy, color="black", linestyle="--", linewidth=1, label="one copy to one host")
    axes.set_title(f"{results.size / 1e6:.0f} MB over links of {bandwidth}")
    axes.set_xlabel("hosts")
    axes.set_ylabel("seconds until the last host has everything")
    axes.set_xticks(sorted({count for curve in results.curves.values() for count in curve}))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), format="png", dpi=150)
