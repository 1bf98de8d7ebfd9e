"""Command-line flags made from the fields of a settings class."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Literal, NoReturn, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from baton.errors import BadSettings

METAVARS = {
    "redis": "URL",
    "state_dir": "DIR",
    "dispatch": "WHEN",
    "disaggregation": "WHEN",
    "routing": "NAME",
    "kv_connector": "NAME",
    "kv_staging": "PLACE",
    "kv_wire": "FORM",
}


class Parser(argparse.ArgumentParser):
    """Refuses in one line; keeps the layout of its texts; accepts no abbreviated flag."""

    def __init__(self, **options: Any) -> None:
        options |= {
            "formatter_class": argparse.RawDescriptionHelpFormatter,
            "allow_abbrev": False,
        }
        super().__init__(**options)

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"error: {message} (see {self.prog} --help)\n")
        sys.exit(BadSettings.exit_code)


def add_flags(parser: argparse.ArgumentParser, kind: type[BaseModel]) -> None:
    """One flag per field; a flag that is not given leaves no trace, so that layers can be told."""
    for name, field in kind.model_fields.items():
        flag = f"--{name.replace('_', '-')}"
        if field.annotation is bool:
            parser.add_argument(
                flag,
                action=argparse.BooleanOptionalAction,
                default=argparse.SUPPRESS,
                help=field.description,
            )
        else:
            parser.add_argument(
                flag, default=argparse.SUPPRESS, metavar=metavar(name, field), help=explain(field)
            )


def metavar(name: str, field: FieldInfo) -> str:
    if field.annotation in (int, float) or field.annotation == int | None:
        return "N"
    return METAVARS.get(name, name.rpartition("_")[2].upper())


def explain(field: FieldInfo) -> str:
    """The description, with the values that there are, and the default unless it tells of it."""
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    text = f"{field.description}: {', '.join(map(str, choices))}" if choices else field.description
    if field.default in (None, ""):
        return str(text)
    return f"{text} (default: {field.default})"
