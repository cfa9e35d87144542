"""Describes a restoration as an event of preservation metadata, in XML.

The names are those of the PREMIS Data Dictionary for Preservation Metadata, version 3.0 (Library of
Congress 2015, https://www.loc.gov/standards/premis/v3/), types and roles those of its vocabularies
(https://id.loc.gov/vocabulary/preservation.html). Start reading at `write_event`.
"""

import uuid
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from historical_denoiser.core.command_line import printable
from historical_denoiser.run.report import PACKAGE, now

NAMESPACE, SCHEMAS = "http://www.loc.gov/premis/v3", "http://www.w3.org/2001/XMLSchema-instance"
PROGRAM = "historical-denoiser"


class Object(NamedTuple):
    """A file before or after the restoration: its name, hash, length in bytes and format."""

    name: str
    sha256: str
    size: int
    format_name: str
    format_note: str


def write_event(path: Path, source: Object, outcome: Object, detail: str) -> None:
    """Writes two objects, the event between them, and its agent.

    Args:
        path: The XML file.
        source, outcome: The recording before and after the restoration.
        detail: What was done.
    """
    version, when = import_module(PACKAGE).__version__, now()
    event = "UUID", str(uuid.uuid5(uuid.NAMESPACE_OID, source.sha256 + outcome.sha256 + when))
    agent, before, after = (("local", name) for name in (
        f"{PROGRAM} {version}", source.name, outcome.name))
    for prefix, namespace in (("premis", NAMESPACE), ("xsi", SCHEMAS)):
        ElementTree.register_namespace(prefix, namespace)
    root = ElementTree.Element(f"{{{NAMESPACE}}}premis", {
        "version": "3.0", f"{{{SCHEMAS}}}schemaLocation":
        f"{NAMESPACE} https://www.loc.gov/standards/premis/premis.xsd"})
    derived = [("relationship", [
        ("relationshipType", "derivation"), ("relationshipSubType", "has source"),
        _identifier("relatedObject", before), _identifier("relatedEvent", event)])]
    for each, name, relationships in ((source, before, []), (outcome, after, derived)):
        _add(root, "object", [_identifier("object", name), ("objectCharacteristics", [
            ("fixity", [("messageDigestAlgorithm", "SHA-256"), ("messageDigest", each.sha256)]),
            ("size", str(each.size)),
            ("format", [("formatDesignation", [("formatName", each.format_name)]),
                        ("formatNote", each.format_note)])]), *relationships,
            _identifier("linkingEvent", event)]).set(f"{{{SCHEMAS}}}type", "premis:file")
    _add(root, "event", [
        _identifier("event", event), ("eventType", "modification"), ("eventDateTime", when),
        ("eventDetailInformation", [("eventDetail", detail)]),
        ("eventOutcomeInformation", [("eventOutcome", "success")]),
        _identifier("linkingAgent", agent, ("linkingAgentRole", "executing program")),
        _identifier("linkingObject", before, ("linkingObjectRole", "source")),
        _identifier("linkingObject", after, ("linkingObjectRole", "outcome"))])
    _add(root, "agent", [_identifier("agent", agent), ("agentName", PROGRAM),
                         ("agentType", "software"), ("agentVersion", version)])
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, "utf-8", xml_declaration=True)


def _identifier(what: str, type_and_value: tuple[str, str], *others: tuple[str, str]) -> Any:
    """Returns the name and the content of the identifier of something."""
    name = f"{what}Identifier"
    return name, [(f"{name}Type", type_and_value[0]), (f"{name}Value", type_and_value[1]), *others]


def _add(parent: ElementTree.Element, name: str, content: Any) -> ElementTree.Element:
    """Adds an element with a text, or with pairs of name and content, and returns it."""
    element = ElementTree.SubElement(parent, f"{{{NAMESPACE}}}{name}")
    if isinstance(content, str):
        # Names of files need not be valid UTF-8.
        element.text = printable(content).encode(errors="backslashreplace").decode()
    else:
        for pair in content:
            _add(element, *pair)
    return element
