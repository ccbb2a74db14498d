"""Every collection that lives as long as its owner has a bound with a name; a new one without it fails here.

What peers, clients and records send must never make a node grow. The table says for each collection what
bounds it: a setting, a constant, or why there cannot be many.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
ROOMS: Final = ("consensus", "contracts", "crypto", "gateway", "ledger", "network", "records", "vault")
COLLECTIONS: Final = frozenset(
    {"dict", "list", "set", "deque", "Counter", "OrderedDict", "defaultdict", "bytearray", "Queue"}
    | {"WeakSet", "WeakValueDictionary", "WeakKeyDictionary"}
)

NODES: Final = "nodes with a link: NODES_PER_INSTITUTION_MAX for each institution"
MEMBERS: Final = "replicas of one set: REPLICAS_MAX"
ONE_STEP: Final = "emptied within the step or turn that fills it"
FIXED: Final = "filled once, when it is made"

BOUNDS: Final = {
    "consensus.agreement:Agreement._diverged": "PROPOSALS_MAX",
    "consensus.agreement:Agreement._failed": "PROPOSALS_MAX",
    "consensus.agreement:Agreement._journaled": "one for each proposal in the journal: journal_bytes_max",
    "consensus.agreement:Agreement._proposals": "PROPOSALS_MAX",
    "consensus.agreement:Agreement._refused_ms": "PROPOSALS_MAX",
    "consensus.agreement:Agreement._validated": "one view's, emptied when the next begins, and the prepared",
    "consensus.agreement:Agreement._validating": "executions under way: one for each view in the window",
    "consensus.catch_up:CatchUp._followed_ms": NODES,
    "consensus.driver:Driver._events": ONE_STEP,
    "consensus.driver:Driver._tasks": "one for each build, execution and commit that the replica waits for",
    "consensus.driver:DriverCounters.refusals": NODES,
    "consensus.inbox:Inbox._bytes": NODES,
    "consensus.inbox:Inbox._taken": NODES,
    "consensus.inbox:Inbox._waiting": "peer_messages_max and peer_bytes_max of each node with a link",
    "consensus.journal:Journal._frames": "journal_bytes_max",
    "consensus.outbox:Outbox._apply": ONE_STEP,
    "consensus.outbox:Outbox._persist": ONE_STEP,
    "consensus.outbox:Outbox._send": ONE_STEP,
    "consensus.pace:Pace._taken_ms": NODES,
    "consensus.view_changer:ViewChanger._budgets": MEMBERS,
    "consensus.primary_watch:PrimaryWatch._waits_ms": MEMBERS,
    "consensus.startup:Startup._heard": MEMBERS,
    "consensus.view_changes:ViewChanges._received_ms": MEMBERS,
    "consensus.view_changes:ViewChanges.latest": MEMBERS,
    "consensus.vote_guard:VoteGuard._votes": "my own, of one height and not below the view asked for",
    "consensus.votes:Slot._verified": MEMBERS,
    "consensus.votes:Slot._votes": MEMBERS,
    "consensus.votes:VoteLog._accused": MEMBERS,
    "consensus.votes:VoteLog._slots": "HEIGHTS_AHEAD, VIEWS_BEHIND and VIEWS_AHEAD",
    "consensus.votes:VoteLog.latest": MEMBERS,
    "contracts.context:Context.events": "EVENTS_PER_CALL_MAX",
    "contracts.context:Context.writes": "OPERATIONS_PER_CALL_MAX",
    "contracts.contract:Contract.methods": FIXED,
    "crypto.encoding:_decoders": "types of the program",
    "gateway.anchoring:Anchoring._in_progress": "bundles_at_once_max",
    "gateway.authentication:Authenticator._sessions": "sessions_max",
    "gateway.authentication:Authenticator._used": "challenges_used_max",
    "gateway.events:Events._queues": "event_clients_max, each with event_queue_max events",
    "gateway.folders:Folders._locks": "weak: one for each bundle that is being read, bundles_at_once_max",
    "gateway.metrics:Metrics._gauges": FIXED,
    "gateway.metrics:Metrics._requests": "routes of the program and statuses",
    "gateway.metrics:Metrics._transactions": "two codes",
    "gateway.rates:RateLimit._buckets": "clients_max",
    "gateway.receipts:ReceiptWaiter._height_waiters": "waits_max",
    "gateway.receipts:ReceiptWaiter._waiters": "waits_max",
    "ledger.chain:Chain._speculations": "speculations_max",
    "ledger.chain:Chain._subscribers": "parts of the node",
    "ledger.chunk_file:ChunkFile._places": "parts of one snapshot, whose manifest is bounded",
    "ledger.committed_ids:CommittedIds._current": "FILTER_BYTES",
    "ledger.committed_ids:CommittedIds._previous": "FILTER_BYTES",
    "ledger.contract_set:KnownSenders._answers": "senders_max",
    "ledger.fair_queue:FairQueue._entries": "transactions_max, bytes_max, relayed_factor, and REPLICAS_MAX",
    "ledger.fair_queue:FairQueue._first": NODES,
    "ledger.fair_queue:FairQueue._shares": "institutions with something pending",
    "ledger.fair_queue:Share.waiting": "institution_transactions_max and relayed_factor",
    "ledger.mempool:Mempool._refusals": "refusals_max",
    "ledger.mempool:Mempool._signed_hashes": "transactions_max and relayed_factor",
    "ledger.snapshot_export:_Spills._buffers": "SPILL_BUFFER_BYTES",
    "ledger.snapshot_export:_Spills._files": "_SPILL_FILES_MAX",
    "ledger.snapshot_holds:SnapshotHolds._holds": NODES,
    "ledger.snapshot_shelf:SnapshotShelf._opened": "snapshots that are kept",
    "ledger.state:BlockOverlay.writes": "OPERATIONS_PER_BLOCK_MAX",
    "ledger.state:HeadState._cache": "cached_rows_max",
    "ledger.state_tree:StateTree._levels": "state_buckets_log2",
    "network.block_sync:BlockSync._declined": NODES,
    "network.doors:Door._accepting": FIXED,
    "network.doors:Door._entering": "sockets_max",
    "network.doors:Door._sockets": FIXED,
    "network.doors:Door._unheard": "sockets_max, and as many again within one silence_ms_max",
    "network.equivocation_reports:EquivocationReports._reported": "REMEMBERED_MAX",
    "network.equivocation_reports:EquivocationReports._sending": "SENDING_MAX",
    "network.joining:Joining._begun_from": NODES,
    "network.joining:Joining._set_aside": NODES,
    "network.ledger_application:LedgerApplication._kept": "proposals_kept_max",
    "network.ledger_application:LedgerApplication._recent": "recent_blocks_max",
    "network.link_traffic:LinkTraffic._closing": "links that ended within close_timeout_ms",
    "network.links:Links._addresses": NODES,
    "network.links:Links._dialers": NODES,
    "network.links:Links._keys": NODES,
    "network.links:Links._own_addresses": FIXED,
    "network.links:Links._peers": NODES,
    "network.peer:Asked.requests": "requests_max and requests_bytes_max, of all kinds together",
    "network.peer_queue:PeerQueue._answers": "answers_max",
    "network.peer_queue:PeerQueue._consensus": "consensus_messages_max and consensus_bytes_max",
    "network.peer_queue:PeerQueue._greetings": "GREETINGS_MAX",
    "network.peer_queue:PeerQueue._oldest": "one",
    "network.peer_queue:PeerQueue._relay": "relay_bytes_max",
    "network.peer_queue:PeerQueue._requests": "requests_max",
    "network.relay:TransactionRelay._inboxes": NODES,
    "network.relay_inbox:RelayInbox._waiting": "peer_transactions_max and peer_bytes_max",
    "network.relay_outbox:RelayOutbox._gathered": "batch_transactions_max",
    "network.requests:OpenRequests._waiting": "requests_max",
    "network.serving:Serving._lines": FIXED,
    "network.serving:_Line.waiting": NODES,
    "network.serving:Serving.handlers": FIXED,
    "network.sessions:Sessions._current": NODES,
    "network.sessions:Sessions._former": NODES,
    "network.snapshot_serving:SnapshotServer._paces": NODES,
    "network.snapshot_sync:SnapshotSync._useless": NODES,
    "network.snapshot_sync:_Phase._asked": "parts of one snapshot",
    "network.snapshot_sync:_Phase._left": "parts of one snapshot",
    "network.snapshot_sync:_Phase._waiting": "parts of one snapshot",
    "records.synthetic_person:Chart.resources": "made for tests, not from outside",
}


@cache
def find_collections() -> set[str]:
    """`module:Class.attribute`, or `module:name`, of each collection that is made when its owner is."""
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return {
        f"{'.'.join(path.relative_to(ROOT).with_suffix('').parts)}:{name}"
        for path in paths
        for name in _find_in(ast.parse(path.read_text()))
    }


def _find_in(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from (f"{node.name}.{name}" for name in _find_in_class(node))
        else:
            names = (name for name, value in _read_assignment(node) if _is_collection(value))
            yield from (name for name in names if not name.isupper() and name != "__all__")


def _find_in_class(node: ast.ClassDef) -> Iterator[str]:
    for member in node.body:
        yield from (name for name, value in _read_assignment(member) if _is_collection(value))
        if isinstance(member, ast.FunctionDef) and member.name in ("__init__", "__post_init__"):
            for statement in ast.walk(member):
                for name, value in _read_assignment(statement):
                    if name.startswith("self.") and _is_collection(value):
                        yield name.removeprefix("self.")


def _read_assignment(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Assign):
        yield from ((ast.unparse(target), node.value) for target in node.targets)
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        yield ast.unparse(node.target), node.value


def _is_collection(value: ast.expr) -> bool:
    if isinstance(value, ast.Dict | ast.List | ast.Set | ast.DictComp | ast.ListComp | ast.SetComp):
        return True
    if not isinstance(value, ast.Call):
        return False
    made = [ast.unparse(value.func), *(ast.unparse(keyword.value) for keyword in value.keywords[:1])]
    return any(name.partition("[")[0].rpartition(".")[2] in COLLECTIONS for name in made)


def test_every_collection_has_a_bound_with_a_name() -> None:
    missing = find_collections() - BOUNDS.keys()
    assert not missing, f"say in {Path(__file__).name} what bounds: {', '.join(sorted(missing))}"


def test_the_table_names_nothing_that_is_gone() -> None:
    gone = BOUNDS.keys() - find_collections()
    assert not gone, ", ".join(sorted(gone))


def test_the_names_in_the_table_exist() -> None:
    source = "\n".join(path.read_text() for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    for place, bound in BOUNDS.items():
        for name in bound.replace(",", " ").split():
            if "_" in name or name.isupper():
                assert name in source, f"{place}: {name} is neither a setting nor a constant"
