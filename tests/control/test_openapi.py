"""The OpenAPI document: every command, every reference resolved, the declarations' own words."""

from collections.abc import Iterator
from typing import Any

import pytest

from coterie.apps.invoke import load_commands
from coterie.control.openapi import describe, path_of
from tests.control.conftest import Served
from tests.fakes.faces import fake_node

fake_node()
COMMANDS = load_commands("node", "coterie.control.commands") + load_commands("fake", "coterie_fake.commands")


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, member in value.items():
            if key == "$ref":
                yield member
            else:
                yield from references(member)
    elif isinstance(value, list):
        for member in value:
            yield from references(member)


def test_it_is_served_and_is_the_document_of_the_commands(served: Served) -> None:
    status, document = served.get("openapi.json")
    assert status == 200
    assert document == describe(COMMANDS)


def test_its_frame_is_openapi_3_1() -> None:
    document = describe(COMMANDS)
    assert document["openapi"] == "3.1.0"
    assert {"title", "version"} <= document["info"].keys()
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert document["security"] == [{"token": []}]


def test_every_reference_leads_somewhere() -> None:
    document = describe(COMMANDS)
    found = {*references(document)}
    assert "#/components/schemas/Error" in found
    for reference in found:
        at: Any = document
        for part in reference.removeprefix("#/").split("/"):
            at = at[part]
        assert isinstance(at, dict)


def test_every_operation_is_whole_and_has_its_own_name() -> None:
    document = describe(COMMANDS)
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len(operations) == len(COMMANDS) + 4
    names = [operation["operationId"] for operation in operations]
    assert len({*names}) == len(names)
    for operation in operations:
        assert operation["summary"]
        for response in operation["responses"].values():
            assert response["description"]
            for media in response.get("content", {}).values():
                assert isinstance(media["schema"], dict)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command.path))
def test_a_command_takes_what_its_schema_says(command: Any) -> None:
    document = describe(COMMANDS)
    operation = document["paths"][path_of(command)]["post"]
    reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    schema = document["components"]["schemas"][reference.rpartition("/")[2]]
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert {*schema["properties"]} == {parameter.name for parameter in command.parameters}
    assert {*schema["required"]} == {parameter.name for parameter in command.parameters if parameter.required}
    for parameter in command.parameters:
        assert schema["properties"][parameter.name].get("description", "") == parameter.help


def test_streams_and_results_are_told_apart() -> None:
    paths = describe(COMMANDS)["paths"]
    assert "application/x-ndjson" in paths["/api/v1/fake/count"]["post"]["responses"]["200"]["content"]
    content = paths["/api/v1/fake/greet"]["post"]["responses"]["200"]["content"]
    assert content == {"application/json": {"schema": {"$ref": "#/components/schemas/Greeting"}}}


def test_types_tell_faces_what_to_offer() -> None:
    commands = [*COMMANDS, *load_commands("files", "coterie.apps.files.commands")]
    commands += load_commands("grants", "coterie.apps.grants.commands")
    schemas = describe(commands)["components"]["schemas"]
    grant = schemas["GrantsGrantParameters"]["properties"]
    assert [grant[name]["format"] for name in ("peer", "verbs", "resource", "lasting")] == [
        "peer", "verbs", "resource", "duration",
    ]  # fmt: skip
    assert grant["peer"]["x-values"] == {"path": "/api/v1/node/ls", "field": "name", "given": []}
    share = schemas["FilesShareParameters"]["properties"]
    assert share["to"]["items"]["format"] == "person"
    assert share["to"]["x-values"]["path"] == "/api/v1/node/people"
    get = schemas["FilesGetParameters"]["properties"]
    assert (get["ticket"]["format"], get["target"]["format"]) == ("ticket", "path")
    assert schemas["FilesTransfersPriorityParameters"]["properties"]["priority"]["enum"] == [
        "high",
        "low",
        "normal",
    ]
    shown = schemas["FilesTransfersShowParameters"]["properties"]["transfer"]
    assert shown["x-values"] == {"path": "/api/v1/files/transfers", "field": "id", "given": []}
    assert schemas["FakeUnlockParameters"]["properties"]["code"]["format"] == "secret"
