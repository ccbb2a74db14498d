"""An institution of the local network that signs and sends: what commands about the network itself share."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from cli.output import fail
from cli.session import get_node, load_network, with_client
from client import models
from client.client import Client
from client.signing import TransactionSigner
from crypto import tags
from crypto.encoding import decode, encode
from crypto.key_files import KeyFileError, read_key_file
from crypto.signatures import SigningKey


class ActingInstitution:
    """Signs and sends as a node's institution."""

    def __init__(self, folder: Path, node_name: str) -> None:
        network = load_network(folder)
        node = get_node(network, node_name)
        self._folder, self._node_name = folder, node_name
        self._chain_id = network.chain_id
        self._key = read_key(node.folder.institution_key_file)
        self.institution = node.institution

    def send(self, call: Struct) -> models.TransactionAnswer:
        """The committed answer; a refusal ends the command with its code."""
        transaction = TransactionSigner(self._key, chain_id=self._chain_id).sign(call)

        async def submit(client: Client) -> models.TransactionAnswer:
            return await client.submit_and_wait(transaction)

        return with_client(self._folder, self._node_name, "", submit)

    def get_governance(self) -> models.GovernanceAnswer:
        return with_client(self._folder, self._node_name, "", lambda client: client.get_governance())

    def prove(self, node_key: SigningKey, institution: bytes) -> bytes:
        """The possession of a node's key, for `institution`."""
        message = encode((self._chain_id, institution, node_key.public_key))
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
