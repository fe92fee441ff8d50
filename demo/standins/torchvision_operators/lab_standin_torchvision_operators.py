"""Lab stand-in that lets the real torchvision be imported beside a CPU build of torch.

torchvision's Python code registers kernels for operators that its CUDA build would define. They are declared here, just
before torchvision is imported and never otherwise: a Python that does not import torchvision does not import torch.
"""

import sys

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


class DeclareOperators:
    """A finder that finds nothing: it takes the first import of torchvision as its cue, then removes itself."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(cls)
            import torch

            for operator in ("nms", "qnms"):
                if not hasattr(torch.ops.torchvision, operator):
                    torch.library.define(f"torchvision::{operator}", SCHEMA)


sys.meta_path.insert(0, DeclareOperators)
