"""Lab stand-in for triton, which has nothing to compile for here: any submodule and name resolves, decorators pass
their function through, no kernel can run. SGLang ships the same idea for macOS (sglang/_platform_stubs.py).
"""

import importlib.abc
import importlib.machinery
import sys
import types

__version__ = "3.0.0"


class _Anything:
    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)

    def __init__(self, *args, **kwargs):
        pass


class _Module(types.ModuleType):
    """A module of which every name is another such module, or a class when it is spelled like one."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        value = _class_named(name, self.__name__) if name[:1].isupper() else _module_named(f"{self.__name__}.{name}")
        setattr(self, name, value)
        return value

    def __call__(self, *args, **kwargs):
        if len(args) == 1 and callable(args[0]) and not kwargs:
            return args[0]
        return lambda function: function

    def __getitem__(self, key):
        return self

    def __or__(self, other):
        return self

    __ror__ = __or__


class constexpr:
    def __init__(self, value=None):
        self.value = value


class Config:
    def __init__(self, kwargs=None, num_warps=4, num_stages=2, **others):
        self.kwargs = kwargs or {}
        self.num_warps = num_warps
        self.num_stages = num_stages


def _class_named(name, module):
    base = Exception if name.endswith(("Error", "Resources")) else _Anything
    return type(name, (base,), {"__module__": module})


def _module_named(name):
    if name in sys.modules:
        return sys.modules[name]
    module = _Module(name)
    module.__path__ = []
    module.__spec__ = importlib.machinery.ModuleSpec(name, _Finder, is_package=True)
    sys.modules[name] = module
    if name == "triton.language":
        module.constexpr = constexpr
    parent, _, child = name.rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], child, module)
    return module


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, cls, is_package=True) if name.startswith("triton.") else None

    @staticmethod
    def create_module(spec):
        return _module_named(spec.name)

    @staticmethod
    def exec_module(module):
        pass


sys.meta_path.insert(0, _Finder)


def cdiv(a, b):
    return -(a // -b)


def next_power_of_2(n):
    return 1 << (n - 1).bit_length() if n > 0 else 1


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return _class_named(name, "triton") if name[:1].isupper() else _module_named(f"triton.{name}")
