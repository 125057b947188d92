"""Pydantic models that are validated on creation, with an error message of one sentence."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from alexnet_course.errors import CourseError, nearest

Location: TypeAlias = "tuple[int | str, ...]"

# What is expected, by the first word of pydantic's error type.
WANTED = {
    "int": "an integer",
    "float": "a finite number",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "a string in quotes",
    "tuple": "a list",
    "list": "a list",
    "dict": "a table",
    "mapping": "a table",
    "model": "a table",
    "dataclass": "a table",
}
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
LONGEST = 80  # characters of a value that a message quotes


class Part(BaseModel):
    """A part of a checked value: immutable, with finite floats and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    if not TYPE_CHECKING:  # a type checker knows it from the configuration

        def __setattr__(self, key: str, value: object) -> None:
            raise AttributeError(f"{key} cannot be set; copy the {type(self).__name__} with a different {key}.")


class Checked(Part):
    """A value that is validated on creation; raises ``CourseError`` if it is invalid."""

    called: ClassVar[str]
    """What messages call such a value, for example "a recipe"."""

    if not TYPE_CHECKING:  # a type checker knows the keys

        def __init__(self, **values: Any) -> None:
            try:
                super().__init__(**values)
            except ValidationError as error:
                raise CourseError(sentence(error, type(self), self.called)) from None

    def as_dict(self) -> dict[str, Any]:
        """Every value that was given, in types that JSON and TOML support."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    def replace(self, **changes: Any) -> Self:
        """A validated copy with some values changed."""
        return type(self)(**{**self.as_dict(), **changes})

    __replace__ = replace


def wrong(text: str) -> PydanticCustomError:
    """An error for validators to raise; ``text`` follows the key and the value in the message."""
    return PydanticCustomError("wrong", "{text}", {"text": text})


def one_of(names: Collection[str]) -> AfterValidator:
    """A validator that accepts one of ``names``, read at validation time because a registry may have grown."""

    def check(value: str) -> str:
        if value not in names:
            raise wrong(f"is not a choice; nearest: {nearest(value, names)}")
        return value

    return AfterValidator(check)


def follows(rule: Callable[[str], str | None], empty: bool = False) -> AfterValidator:
    """A validator for text: ``rule`` returns None, or the end of an error message. ``empty`` allows empty text."""

    def check(value: str) -> str:
        fault = None if empty and not value else rule(value)
        if fault is not None:
            raise wrong(fault)
        return value

    return AfterValidator(check)


def out_of_range(value: float, bounds: Mapping[str, Any]) -> str:
    """The end of an error message for a value outside ``bounds``, whose keys are those of ``BOUNDS``.

    >>> from alexnet_course.checked import out_of_range
    >>> out_of_range(0, {"ge": 1, "le": 9})
    'is out of range; it must be at least 1 and at most 9; the nearest that works is 1'
    """
    words = " and ".join(f"{word} {bounds[name]}" for name, word in BOUNDS.items() if name in bounds)
    near = max(min(value, bounds.get("le", value)), bounds.get("ge", value))
    hint = f"; the nearest that works is {near}" if near != value else ""
    return f"is out of range; it must be {words}{hint}"


def sentence(
    error: ValidationError, model: type[BaseModel], what: str, name: Callable[[Location], str] | None = None
) -> str:
    """A message for the first error: the key, its value, what is expected and, if known, the nearest valid value.

    ``what`` is what messages call a value of ``model``; ``name`` formats the location of a key, by default ``a/0/b``.
    A field's description says what to do if it is missing or has too few or too many entries.
    """
    name = name or (lambda location: "/".join(map(str, location)))
    found = error.errors(include_url=False)[0]
    kind, location, value, context = found["type"], found["loc"], found["input"], found.get("ctx", {})
    key = name(location)
    text = repr(value) if len(repr(value)) <= LONGEST else f"{repr(value)[:LONGEST]}…"
    field = _fields(_owner(model, location[:-1])).get(str(location[-1])) if location else None
    hint = f"; {field.description}" if field is not None and field.description else ""
    if kind == "missing":
        says = f"{key} is missing{hint}"
    elif kind in ("extra_forbidden", "unexpected_keyword_argument"):
        known = _fields(_owner(model, location[:-1]))
        owner, near = name(location[:-1]) or what, nearest(str(location[-1]), known)
        says = f"{location[-1]!r} is not a key of {owner}; nearest: {near}"
    elif kind == "value_error":  # from a validator that compares several values
        says = f"{key}{': ' if key else ''}{context['error']}"
    elif kind == "wrong":
        says = f"{key} = {text} {found['msg']}"
    elif BOUNDS.keys() & context.keys():
        says = f"{key} = {text} {out_of_range(value, {**context, **_bounds(field)})}"
    elif kind == "string_pattern_mismatch":
        says = f"{key} = {text} does not match {context['pattern']}"
    elif kind == "literal_error":
        says = f"{key} = {text} must be {context['expected']}"
    elif kind == "string_too_short":
        says = f"{key} is empty; write something"
    elif kind == "too_short":
        says = f"{key} has {context['actual_length']} entries, but at least {context['min_length']} are needed{hint}"
    elif kind == "too_long":
        says = f"{key} has {context['actual_length']} entries, but at most {context['max_length']} fit{hint}"
    elif kind.partition("_")[0] in WANTED:
        says = f"{key or what} = {text} has the wrong type; give {WANTED[kind.partition('_')[0]]}"
    else:
        says = f"{key} = {text}: {found['msg']}"
    return f"{says.removesuffix('.')}."


def _fields(model: Any) -> Mapping[str, Any]:
    """The fields of a model or of a pydantic dataclass; empty for any other type."""
    return getattr(model, "model_fields", None) or getattr(model, "__pydantic_fields__", {})


def _owner(model: Any, location: Location) -> Any:
    """The nested model whose keys are at ``location``."""
    for step in location:
        field = _fields(model).get(str(step))
        model = _within(field.annotation) if field else model
    return model


def _within(annotation: Any) -> Any:
    """The model that values of this type contain, or None."""
    if _fields(annotation):
        return annotation
    return next(filter(None, map(_within, get_args(annotation))), None)


def _bounds(field: Any) -> dict[str, Any]:
    """Both ends of a field's range; pydantic's error names only the one that was violated."""
    rules = field.metadata if field else []
    return {name: getattr(rule, name) for rule in rules for name in BOUNDS if hasattr(rule, name)}
