"""Usage: validate.py OPENAPI < LINES

Each line is a JSON array [SCHEMA, VALUE]. Fails if a value does not match the schema of this name in OPENAPI, or has a field that
the schema does not name.
"""

import json
import sys

import jsonschema_rs
import yaml

CLOSED = "unevaluatedProperties"


def close(schema):
    """Forbids fields without a description, where the schema leaves them open for later versions."""
    if isinstance(schema, list):
        for item in schema:
            close(item)
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema or "oneOf" in schema:
            schema.setdefault(CLOSED, False)
        for item in schema.values():
            close(item)


with open(sys.argv[1]) as file:
    schemas = yaml.safe_load(file)["components"]["schemas"]
close(schemas)
wrong = 0
for line in sys.stdin:
    name, value = json.loads(line)
    root = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
    for error in jsonschema_rs.Draft202012Validator(root).iter_errors(value):
        print(f"{name}: {error}\n  in {json.dumps(value)}")
        wrong += 1
sys.exit(wrong != 0)
