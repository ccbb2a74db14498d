"""An operation: one method on one path, with everything that its description in OpenAPI needs.

Routes and documentation are made from the same values, so neither can lag behind the other.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from client.models import Role
from gateway.errors import Handler


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    method: str
    path: str
    handler: Handler
    summary: str
    roles: tuple[Role, ...] = ()
    """Who may call it; empty for everybody, without a token."""
    request: type[BaseModel] | None = None
    request_types: tuple[str, ...] = ("application/json",)
    answer: type[BaseModel] | None = None
    answer_type: str = "application/json"
    status: int = 200
    query: tuple[tuple[str, str], ...] = ()
    """Query parameters: name and what it means."""
    takes_min_height: bool = False
    """Reads the ledger's head, and waits for a head as high as the query parameter `min_height`."""


STAFF: tuple[Role, ...] = ("clinician", "clerk", "officer", "auditor", "operator")
EVERYBODY: tuple[Role, ...] = (*STAFF, "patient", "representative")
