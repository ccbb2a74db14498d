"""An institution of the local network that signs and sends: what commands about the network itself share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct

from cli.output import fail
from cli.session import get_node, load_network, with_client
from client import models
from client.client import Client
from client.signing import TransactionSigner, draw_identifier
from config.local_growth import Operator
from contracts.calls.changes import Change
from contracts.calls.governance import Propose
from crypto import tags
from crypto.encoding import decode, encode
from crypto.key_files import KeyFileError, read_key_file
from crypto.signatures import SigningKey

InBlocksOption = Annotated[
    int, typer.Option(min=1, help="Due so many blocks from now: until then it is voted on.")
]


class ActingInstitution:
    """Signs as an institution, and sends through a node's gateway."""

    def __init__(self, folder: Path, node_name: str, *, key: SigningKey | None = None) -> None:
        """The node's own institution; with a `key`, the one that this key belongs to on the ledger."""
        network = load_network(folder)
        node = get_node(network, node_name)
        self._folder, self._node_name = folder, node_name
        self.chain_id = network.chain_id
        self._key = key or read_key(node.folder.institution_key_file)
        self.institution = node.institution
        if key is not None:
            self.institution = bytes.fromhex(self._find_entry().institution)

    def send(self, call: Struct) -> models.TransactionAnswer:
        """The committed answer; a refusal ends the command with its code."""
        transaction = TransactionSigner(self._key, chain_id=self.chain_id).sign(call)

        async def submit(client: Client) -> models.TransactionAnswer:
            return await client.submit_and_wait(transaction)

        return with_client(self._folder, self._node_name, "", submit)

    def get_governance(self) -> models.GovernanceAnswer:
        return with_client(self._folder, self._node_name, "", lambda client: client.get_governance())

    def propose(self, change: Change, in_blocks: int) -> dict[str, object]:
        """Propose a change that is due so many blocks from now; what became of it, to be shown."""
        height = self.get_governance().height
        call = Propose(draw_identifier(), change, height + 1 + in_blocks)
        answer = self.send(call)
        return {
            "proposal": call.proposal.hex(),
            "due_height": call.due_height,
            "adopted": decode_adopted(answer),
        }

    def describe_operator(self) -> Operator:
        """The institution as it stands on the ledger, to run a node."""
        entry = self._find_entry()
        return Operator(institution=self.institution, title=entry.name, kind=entry.kind, key=self._key)

    def _find_entry(self) -> models.InstitutionAnswer:
        public_key = self._key.public_key.hex()
        found = with_client(self._folder, self._node_name, "", lambda client: client.list_institutions())
        for item in found:
            if item.public_key == public_key and not item.removed_height:
                return item
        return fail(f"key {public_key}: no institution on the ledger has it; have it admitted first")

    def prove(self, node_key: SigningKey, institution: bytes) -> bytes:
        """The possession of a node's key, for `institution`."""
        message = encode((self.chain_id, institution, node_key.public_key))
        return node_key.sign(tags.NODE_KEY, message)


def read_key(path: Path) -> SigningKey:
    """The signing key in a file; a missing or bad one ends the command."""
    try:
        return read_key_file(path)
    except KeyFileError as error:
        return fail(str(error))


def decode_adopted(answer: models.TransactionAnswer) -> bool:
    """Whether a vote, or a proposal, made the proposal adopted."""
    return bool(decode(bytes.fromhex(answer.results[0]), size_max=16))


def read_identifier(text: str, name: str) -> bytes:
    """The 16 bytes of an id that was given as `name`; anything else is wrong usage."""
    try:
        identifier = bytes.fromhex(text)
    except ValueError:
        identifier = b""
    if len(identifier) != 16:
        raise typer.BadParameter("32 hexadecimal digits expected", param_hint=name)
    return identifier
