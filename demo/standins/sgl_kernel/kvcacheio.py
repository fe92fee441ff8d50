"""Part of the lab stand-in for sgl_kernel: see the package."""

from sgl_kernel import __getattr__  # noqa: F401
