"""A node's links, as its settings and its keys say; all that it has of the network while it joins."""

from __future__ import annotations

from config.node_identity import NodeIdentity
from config.settings import NodeSettings
from consensus.replica_set import ReplicaId, ReplicaSet
from network.link_ports import PeerAddress
from network.links import Links
from network.tls import LinkTls


def build_links(
    settings: NodeSettings, identity: NodeIdentity, replica_set: ReplicaSet, chain_id: bytes
) -> Links:
    """The node's links to the members of a replica set. Raises TlsSetupFailed."""
    return Links(
        replica=ReplicaId(settings.node.replica),
        replica_set=replica_set,
        chain_id=chain_id,
        tls=LinkTls.load(
            ca_file=settings.folder.ca_file,
            certificate_file=identity.certificate_file,
            key_file=identity.key_file,
        ),
        signing_key=identity.key,
        listen_host=settings.node.link_host,
        listen_port=settings.node.link_port,
        addresses=tuple(
            PeerAddress(replica=ReplicaId(peer.replica), host=peer.host, port=peer.port)
            for peer in settings.peers
        ),
        settings=settings.network.links,
    )
