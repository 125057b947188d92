"""All networks by name: those of the course, and those that you register.

PyTorch is imported only to build or run a network; names and published numbers do not need it.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any, TypeVar

from alexnet_course.errors import CourseError, first_line, nearest
from alexnet_course.files import expanded
from alexnet_course.models.specs import INITIALISATIONS, SPECS, ModelSpec

if TYPE_CHECKING:
    import torch

Measured = TypeVar("Measured")


MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in SPECS}
OF_THE_COURSE = frozenset(MODELS)


def list_models() -> list[str]:
    """The names that ``build_model`` knows.

    >>> from alexnet_course import list_models
    >>> "alexnet-2012" in list_models()
    True
    """
    return list(MODELS)


def build_model(name: str, num_classes: int = 10, **overrides: Any) -> torch.nn.Module:
    """Builds a network by name: N×C×H×W images in, N rows of ``num_classes`` logits out.

    ``overrides``: ``in_channels`` and ``init`` ("default", "paper" or "he") for every network, ``dropout`` (0 up to,
    not including, 1) where there is any, and what the network's class documents for experiments, such as ``hidden``,
    ``width`` (a factor on the channels) and ``batch_norm``. Every network of the course is a ``Network``.
    Raises CourseError for an unknown name or override and for a value out of range.

    >>> import torch
    >>> from alexnet_course import build_model
    >>> model = build_model("cnn4", num_classes=3, activation="tanh")
    >>> model(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 3])
    """
    if name not in MODELS:
        raise CourseError(f"There is no network {name!r}; did you mean {nearest(str(name), MODELS)}, or one of your "
                          "own, which has to be registered first (register_model, --networks FILE)?")  # fmt: skip
    from alexnet_course.models.layers import initialise
    from alexnet_course.models.network import Network

    spec = MODELS[name]
    parameters = inspect.signature(spec.build).parameters
    anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    defaults = {key: parameter.default for key, parameter in parameters.items()}
    allowed = [key for key in defaults if key != "num_classes"] + ["init"]
    for key, value in overrides.items():
        if key not in allowed and not anything:
            raise CourseError(f"{name} has no override {key!r} (= {value!r}); it takes {', '.join(allowed)}.")
    _check_values({"num_classes": num_classes, **overrides}, defaults)
    if name in OF_THE_COURSE:
        _check_widths(overrides)
    init = overrides.pop("init", "default")
    model = spec.build(num_classes=num_classes, **{"in_channels": spec.input_size[0], **overrides})
    if isinstance(model, Network):
        model.name = name
    if init != "default":  # building has drawn the default weights already
        initialise(model, init)
    return model


def _check_values(values: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Raises CourseError for the first value that no network accepts; each network checks its own options."""
    for key, value in values.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if key in ("num_classes", "in_channels") and not (whole and 1 <= value <= 65_536):
            raise CourseError(f"{key} is {value!r}, but must be an integer from 1 to 65536.")
        if isinstance(defaults.get(key), bool) and not isinstance(value, bool):
            raise CourseError(f"{key} is {value!r}, but must be True or False.")
        if key == "init" and value not in INITIALISATIONS:
            raise CourseError(f"init is {value!r}, but must be {' or '.join(INITIALISATIONS)}.")


def _check_widths(values: dict[str, Any]) -> None:
    """The same for the common options of the course's networks, which may mean something else in yours."""
    for key, value in values.items():
        number = _is_number(value)
        if key == "dropout" and not (number and 0 <= value < 1):
            raise CourseError(f"dropout is {value!r}, but must be a number from 0 up to, but not including, 1.")
        if key in ("hidden", "map_side") and not (number and isinstance(value, int) and 1 <= value <= 65_536):
            raise CourseError(f"{key} is {value!r}, but must be an integer from 1 to 65536.")
        if key == "width" and not (number and 0 < value <= 8):
            raise CourseError(f"width is {value!r}, but must be a number above 0 and at most 8.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def measured(name: str, measure: Callable[[torch.nn.Module], Measured], **options: Any) -> Measured:
    """``measure`` applied to ``build_model(name, **options)``, which has shapes but no values (``without_values``)."""
    return without_values(lambda: measure(build_model(name, **options)))


def without_values(work: Callable[[], Measured]) -> Measured:
    """Call ``work``; the networks that it builds are on PyTorch's device ``meta``, which costs no memory and no time.

    If that fails, they are built as usual. The random state does not change.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        with suppress(Exception), torch.device("meta"):  # whatever someone's own network can run into without values
            return work()
        return work()


# --- Networks of your own --------------------------------------------------------------------------------------------


def register_model(
    name: str,
    build: Callable[..., torch.nn.Module],
    *,
    input_size: tuple[int, int, int] = (3, 32, 32),
    num_classes: int = 10,
    source: str = "",
    note: str = "",
) -> None:
    """Adds a network of your own, so that ``build_model``, recipes and everything else take it by ``name``.

    ``build`` is a class or a function. It takes ``num_classes`` and ``in_channels`` as keywords, and any further
    options that a recipe's ``model_options`` may set, and gives an ``nn.Module``: N×C×H×W floating-point images in,
    N × ``num_classes`` logits out. ``input_size`` (C, H, W) is that of the images that it was made for; ``source``
    and ``note`` are for the list of networks. The network is built and tried once, to count its parameters.

    To register it again, as a notebook cell does that is run twice, is fine: the new builder replaces the old. It is
    recognised by its module and its name, so a lambda is another builder each time. Raises CourseError for a name that
    is taken or not lower-case and hyphenated, and for a network that cannot be built or tried.

    >>> from torch import nn
    >>> from alexnet_course import build_model, register_model
    >>> def one_layer(num_classes=10, in_channels=3):
    ...     return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * 32 * 32, num_classes))
    >>> register_model("one-layer", one_layer)
    >>> build_model("one-layer", num_classes=2)[1]
    Linear(in_features=3072, out_features=2, bias=True)
    """
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise CourseError(f"{name!r} is not a network name; give one in lower case with hyphens, as in my-network.")
    if name in OF_THE_COURSE:
        raise CourseError(f"{name!r} is a network of the course; give yours another name.")
    before = MODELS.get(name)
    if before is not None and _identity(before.build) != _identity(build):
        raise CourseError(f"{name!r} is already registered with another builder; give this one another name.")
    import torch
    from torch import nn

    from alexnet_course.models.network import check_logits, check_weights

    if isinstance(build, nn.Module) or not callable(build):
        raise CourseError(f"build is a {type(build).__name__}; give the class or the function that builds the network.")
    for key in ("num_classes", "in_channels"):
        if not _takes(build, key):
            raise CourseError(f"The builder of {name!r} does not take {key} as a keyword; add it, since the data set "
                              "decides it.")  # fmt: skip
    sizes = (num_classes, *input_size)
    if len(sizes) != 4 or not all(_is_number(size) and isinstance(size, int) and size >= 1 for size in sizes):
        raise CourseError(f"input_size is {input_size!r} and num_classes {num_classes!r}, but must be positive "
                          "integers: (C, H, W), and one.")  # fmt: skip
    channels, height, width = input_size
    if height != width:
        raise CourseError(f"input_size is {input_size!r}, but images must be square; give H equal to W.")

    def try_it(model: nn.Module) -> int:
        if not isinstance(model, nn.Module):
            raise CourseError(f"The builder of {name!r} gives {type(model).__name__}, but must give an nn.Module.")
        weight = next(model.parameters(), None)
        if weight is None:
            raise CourseError(f"{name!r} has no parameters, so there is nothing to train; give it some.")
        check_weights(model, repr(name))
        check_logits(model, torch.zeros((2, *input_size), device=weight.device), num_classes, repr(name))
        return sum(weight.numel() for weight in model.parameters())

    spec = ModelSpec(name, build, (channels, height, width), num_classes, 0, source, note)
    MODELS[name] = spec
    try:
        count = measured(name, try_it, num_classes=num_classes)
    except BaseException as error:
        del MODELS[name]
        if before is not None:
            MODELS[name] = before
        if isinstance(error, CourseError) or not isinstance(error, Exception):
            raise
        reason = first_line(error, "without a word")
        raise CourseError(f"{name!r} cannot be built with num_classes={num_classes} and in_channels={channels} "
                          f"({type(error).__name__}: {reason}); fix its builder.") from error  # fmt: skip
    MODELS[name] = replace(spec, parameters=count)


def load_networks(path: str | Path) -> list[str]:
    """Runs the Python file ``path``, which registers networks, and gives their names.

    The file is run as a module. Running it again replaces the earlier module. Raises CourseError
    where there is no such file, where it stops with an error and where it registers nothing.
    """
    path = expanded(path)
    if not path.is_file():
        raise CourseError(f"There is no file {str(path)!r}; give a Python file that registers networks.")
    before = dict(MODELS)
    try:
        _run_file(os.path.abspath(path))
    except (Exception, SystemExit) as error:
        raise _stopped(path, error) from error
    names = [name for name, spec in MODELS.items() if spec is not before.get(name)]
    if not names:
        raise CourseError(f"{str(path)!r} registers no network; call register_model in it.")
    return names


class _AsItStands(SourceFileLoader):
    """Compiles a file each time. Python's stored bytecode would be out of date for a file that was changed within the
    same second, at the same length."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _run_file(path: str) -> None:
    """Runs the file as a module, which is kept only if it finishes."""
    # A name that no other file's networks have; without dots, which would make it a part of a package for pickle.
    name = f"networks of {os.path.realpath(path)}".replace(".", "_")
    spec = spec_from_file_location(name, path, loader=_AsItStands(name, path))
    assert spec is not None  # with a loader there always is one
    assert spec.loader is not None
    before = sys.modules.get(name)
    sys.modules[name] = module = module_from_spec(spec)  # dataclasses and pickle look there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        if before is not None:
            sys.modules[name] = before
        raise


def _stopped(path: Path, error: BaseException) -> CourseError:
    """The message for a file that stopped with ``error``: where (the last of its own lines) and why."""
    line, trace = error.lineno if isinstance(error, SyntaxError) else None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == os.path.abspath(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, CourseError):
        return CourseError(f"{str(path)!r}, line {line}: {error}")
    where = f" in line {line}" if line else ""
    reason = first_line(error, "without a word")
    return CourseError(f"{str(path)!r} stopped{where} ({type(error).__name__}: {reason}); fix it there.")


def _takes(build: Callable[..., Any], key: str) -> bool:
    """Whether ``build`` takes ``key`` as a keyword."""
    try:
        parameters = inspect.signature(build).parameters
    except (TypeError, ValueError):  # of some things written in C
        return False
    keyword = key in parameters and parameters[key].kind in (
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
    )
    return keyword or any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def _identity(build: Any) -> Any:
    """A key that is equal for two identical builders, even if a rerun cell has defined one again."""
    if isinstance(build, partial):
        return _identity(build.func), build.args, build.keywords
    name = getattr(build, "__qualname__", "<lambda>")
    return build if "<lambda>" in name else (build.__module__, name)
