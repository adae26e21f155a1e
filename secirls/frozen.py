"""Values that are checked when they are read: what a configuration, a manifest and a site's own files are made of.

Promises: a wrong value ends in one sentence that names its field and what it may be, for whoever makes one in Python as
for the command. Refuses to know: what the fields mean.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from numbers import Real
from typing import Any, NoReturn, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError

from secirls.input_error import InputError

PLAINLY = {
    "missing": "is missing",
    "tuple_type": "input should be a list",
    "dict_type": "input should be a table of names and values",
    "model_type": "input should be a table of names and values",
    "bool_parsing": "input should be true or false",
    "bool_type": "input should be true or false",
    "string_type": "input should be text",
    "float_type": "input should be a number",
    "float_parsing": "input should be a number",
    "int_type": "input should be a whole number",
    "int_parsing": "input should be a whole number",
    "int_from_float": "input should be a whole number",
    "frozen_instance": "can't be changed afterwards: make another",
}
"""What kinds of mistakes are called, where pydantic's own words are for programmers."""


class Frozen(BaseModel):
    """Values that are checked when they are read and don't change afterwards. Raises `InputError`, never another."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            self._complain(type(self).__name__, error)

    # as pydantic marks its own: a model within another is checked as a part of it, and named by the whole way there
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    def __setattr__(self, name: str, value: object) -> None:
        try:
            super().__setattr__(name, value)
        except ValidationError as error:
            self._complain(type(self).__name__, error)

    @field_validator("*", mode="before")
    @classmethod
    def _of_its_kind(cls, value: object, info: ValidationInfo) -> object:
        """Refuse what pydantic would make a number or a truth of: ``true`` is not 1, ``"no"`` not false."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        kinds = {annotation, *get_args(annotation)}
        several = value if isinstance(value, list | tuple) else ()
        for each in several if get_origin(annotation) is tuple else (value,):
            if bool in kinds and type(each) is not bool and isinstance(each, (Real, str, bytes)):
                raise PydanticKnownError("bool_type")
            if kinds & {int, float} and each is not None and (type(each) is bool or not isinstance(each, Real)):
                raise PydanticKnownError("int_type" if int in kinds else "float_type")
        return value

    @classmethod
    def read(cls, where: str | Callable[[str], str], **values: Any) -> Self:
        """Construct, naming ``where`` the values stand at the start of the sentence about a wrong one.

        It may depend on the field, dotted (``fit.alpha``; empty where several don't go together): it names the field.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            cls._complain(where, error)

    @classmethod
    def _complain(cls, where: str | Callable[[str], str], error: ValidationError) -> NoReturn:
        told = error.errors()
        misspelt = (each for each in told if each["type"] == "extra_forbidden")
        first = next(misspelt, told[0]) if told[0]["type"] == "missing" else told[0]
        path = [str(part) for part in first["loc"]]
        name = ".".join(path)
        start = where(name) if callable(where) else ": ".join(part for part in (where, name) if part)
        if first["type"] == "extra_forbidden":
            message = "is no field of it" + cls._nearest(path)
        else:
            message = PLAINLY.get(first["type"]) or str(first["msg"]).removeprefix("Value error, ")
        raise InputError(f"{start}: {message[0].lower()}{message[1:]}") from None

    @classmethod
    def _nearest(cls, path: list[str]) -> str:
        """The field that was meant, if one is called nearly so."""
        fields = cls.model_fields
        for part in path[:-1]:
            annotation = fields[part].annotation
            models = [kind for kind in (annotation, *get_args(annotation)) if hasattr(kind, "model_fields")]
            fields = models[0].model_fields if models else {}
        near = get_close_matches(path[-1], fields, n=1, cutoff=0.7)
        return f"; did you mean {near[0]!r}?" if near else ""
