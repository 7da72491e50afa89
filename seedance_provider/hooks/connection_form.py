"""The connection form up to Airflow 3.1; later versions read the provider's metadata instead."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from seedance_provider.get_provider_info import CONN_FIELDS


def make_widgets() -> dict[str, Any]:
    """The fields of the extra, by name.

    :return: Fields of wtforms; on Airflow 3.0 and 3.1, which have no wtforms, Airflow's own stand-ins for them.
    """
    # Only the webserver of these versions has them.
    from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
    from wtforms import BooleanField, IntegerField, StringField
    from wtforms.validators import Optional, any_of

    def field_of(definition: Mapping[str, Any]) -> Any:
        schema = definition["schema"]
        details = {"validators": [Optional()], "description": definition["description"]}
        if "enum" in schema:
            details["validators"].append(any_of(schema["enum"]))
            return StringField(definition["label"], widget=Choice(schema["values_display"]), **details)
        if schema["type"][0] == "boolean":
            return BooleanField(definition["label"], **details)
        kind = {"integer": IntegerField, "string": StringField}[schema["type"][0]]
        return kind(definition["label"], widget=BS3TextFieldWidget(), **details)

    return {name: field_of(definition) for name, definition in CONN_FIELDS.items()}


class Choice:
    """Shows a string field as a list to choose from: Airflow admits no field class with choices, but any widget.

    :param choices: What each value means.
    """

    def __init__(self, choices: Mapping[str, str]) -> None:
        self._choices = choices

    def __call__(self, field: Any, **attributes: Any) -> Html:
        """Write the list as HTML.

        :param field: The field; a value that is none of the choices stays as it is until another is chosen.
        :param attributes: What else the form wants of the element; it is styled like the other fields.
        """
        value = str(field.data or "")
        options = {"": "", **self._choices} | ({} if value in self._choices else {value: value})
        items = "".join(
            f'<option value="{escape(each)}"{" selected" if each == value else ""}>{escape(text)}</option>'
            for each, text in options.items()
        )
        return Html(
            f'<select class="form-control" id="{escape(field.id)}" name="{escape(field.name)}">{items}</select>'
        )


class Html(str):
    """HTML that a template takes as it is."""

    def __html__(self) -> str:
        """The text itself."""
        return self
