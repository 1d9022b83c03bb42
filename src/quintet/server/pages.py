"""The page that shows what can be asked: made of the schema, without scripts or anything from other hosts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, Template


@cache
def template() -> Template:
    """The page's template; all that is put into it is escaped."""
    loader = PackageLoader("quintet.server", "templates")
    pages = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return pages.get_template("docs.html.j2")


def page(schema: Mapping[str, Any]) -> str:
    """The documentation of an OpenAPI schema."""
    return template().render(info=schema["info"], routes=routes(schema))


def routes(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every route with the fields of its body."""
    found = []
    for path, methods in schema["paths"].items():
        for method, told in methods.items():
            body = told.get("requestBody", {}).get("content", {})
            fields = body.get("application/json", {}).get("schema", {})
            required = fields.get("required", [])
            rows = [(name, kind(field), name in required, field.get("description", ""))
                    for name, field in fields.get("properties", {}).items()]  # fmt: skip
            answers = told.get("responses", {}).get("200", {}).get("content", {})
            found.append({"method": method.upper(), "path": path, "summary": told.get("description", ""),
                          "fields": rows, "bodies": list(body), "answers": list(answers)})  # fmt: skip
    return found


def kind(field: Mapping[str, Any]) -> str:
    """The type of a field in words."""
    several = [one["type"] for one in field.get("anyOf", []) if one.get("type", "null") != "null"]
    return " or ".join(several) or str(field.get("type", "any"))


STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 2.5rem; font-size: 1.1rem } code { font-family: ui-monospace, monospace }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8884 }
"""
