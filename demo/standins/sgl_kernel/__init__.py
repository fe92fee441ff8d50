"""Lab stand-in for sgl_kernel, which has no CPU wheel: any name can be imported, calling one says that it is missing.

SGLang's dense models on a CPU call none of them.
"""

__version__ = "0.0.0+lab.standin"


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)

    def missing(*args, **kwargs):
        raise NotImplementedError(f"sgl_kernel.{name} was called; this is the lab's import-only stand-in")

    missing.__name__ = name
    return missing
