"""What an operator may choose about the gateway; every limit has a name and a default here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """Limits of one gateway. Beyond each of them comes a refusal that names it (413, 429 or 503)."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8443
    """Port to listen on; TLS always."""
    public_url: str = ""
    """Where clients reach this gateway; empty for the institution's address on the ledger, which only the
    first of its nodes has."""
    json_bytes_max: int = 1_048_576
    """A JSON body, the base64 form of transactions included."""
    bulk_bytes_max: int = 8_388_608
    """A MessagePack body of signed transactions."""
    bundle_bytes_max: int = 8_388_608
    """A FHIR bundle; `records.bundles` takes no larger ones."""
    bundles_at_once_max: int = 2
    """Bundles being read at the same time; each takes several times its size in memory."""
    bodies_bytes_max: int = 134_217_728
    """Bodies of all requests in progress together; must have room for the largest one."""
    body_timeout_ms: int = 30_000
    """How long a client may take to send one body."""
    sockets_max: int = 1_500
    """Connections at once, idle ones and those in their handshake too; further ones are closed unread."""
    silence_ms_max: int = 10_000
    """How long a new connection may take for its handshake, and again for the headers of a request."""
    connections_max: int = 1_000
    """Requests in progress at once, waits and event streams included."""
    requests_per_second_max: int = 500
    """From one client address, on average; open look-ups of a transaction's end are counted too."""
    requests_burst: int = 2_000
    """From one client address at once, after a pause."""
    logins_per_minute_max: int = 240
    """Challenges and logins from one client address."""
    subject_requests_per_minute_max: int = 600
    """Reads, grants and stored bundles of one account."""
    clients_max: int = 10_000
    """Client addresses and accounts whose rates are remembered; the one longest silent is forgotten."""
    token_seconds: int = 900
    """How long an access token lasts, at most 15 minutes."""
    challenge_seconds: int = 60
    """How long a login challenge may be answered."""
    challenges_used_max: int = 10_000
    """Answered challenges remembered until they are too old to be answered again."""
    sessions_max: int = 10_000
    """Tokens that are valid at once."""
    sessions_per_subject_max: int = 20
    """Tokens of one account; the oldest one ends when another is asked for."""
    wait_ms_max: int = 10_000
    """How long one request may wait for a transaction's end."""
    waits_max: int = 500
    """Clients' requests that wait for transactions at once, and as many again of the gateway's own."""
    commit_timeout_ms: int = 15_000
    """How long the gateway's own transactions may take before the request answers 503."""
    ticket_wait_ms: int = 2_000
    """How long a holder waits for a ticket's block before it answers 503."""
    tickets_at_once_max: int = 16
    """Tickets being served at the same time."""
    delivery_bytes_max: int = 67_108_864
    """All copies of one ticket, sealed."""
    holder_timeout_ms: int = 10_000
    """How long another institution's gateway may take to answer a ticket."""
    holder_attempts_max: int = 3
    """How often a holder that is behind is asked again."""
    event_clients_max: int = 200
    """Event streams at once."""
    event_queue_max: int = 2_000
    """Events that wait for one slow reader before its stream is closed."""
    event_replay_blocks_max: int = 10_000
    """How many blocks back a stream may resume."""
    event_ping_ms: int = 15_000
    """A comment keeps idle streams alive this often."""
    anchoring_retry_ms: int = 1_000
    """How often bundles whose transaction had not ended in time are looked at again."""

    def __post_init__(self) -> None:
        if not 1 <= self.token_seconds <= 900:
            raise ValueError(f"token_seconds: {self.token_seconds} found, 1 to 900 expected")
        largest = max(self.json_bytes_max, self.bulk_bytes_max, self.bundle_bytes_max)
        if self.bodies_bytes_max < largest:
            raise ValueError(f"bodies_bytes_max: {self.bodies_bytes_max}, at least {largest} expected")
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"port: {self.port} found, 0 to 65535 expected")
