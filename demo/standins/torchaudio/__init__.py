"""Lab stand-in for torchaudio, which LLaMA-Factory imports at top level and uses for audio inputs only."""

__version__ = "2.11.0"


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    raise NotImplementedError(f"torchaudio.{name} was used; this is the lab's import-only stand-in")
