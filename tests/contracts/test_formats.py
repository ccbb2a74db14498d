"""Rows are part of the state root: what a fixed history writes is pinned, table by table.

A difference here is a change of format. Old ledgers would no longer find their own state root, so it needs
a new version of the contract, switched on at a height; only then are these digests to be replaced.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from contracts.admissions import compute_request_bytes
from contracts.calls import authorization, changes, evidence, folders, governance, monitoring
from contracts.calls.registry import SuspendMember
from crypto import tags
from crypto.encoding import encode

if TYPE_CHECKING:
    from tests.contracts.conftest import Ledger

PINNED = {
    "authorization/accesses": "f3c68eec739e9eb17016bac93bdb5d910b9fc0188d0bd19cb979bfa8f77f94f5",
    "authorization/grants": "029e5fa1398ec69b20c0ad32db17eb460de202137951a61505fcfc602b4e2b39",
    "authorization/pairs": "c96aba8b1cbf36ad38378f7daeb385ea6ce2bb70fa8c2c792330c1884d593f31",
    "authorization/readers": "a29bcbb137232889040c62a94ecbbfb06679182a1813ef8e89bf7b69746805db",
    "evidence/anchors": "4505a56cf28ce4e68c9594006f2b074619f3aa1e5070bc28a109101a5d9fccfa",
    "evidence/records": "7dc3952bec2ab31f513855dcecc8bfee49ac5a5cdc456ff1c000bdf0d5e99312",
    "evidence/versions": "05b2d552aa8cbaa1430b6c51cd12d7783589b5f4e15d4d57b3ffee6b0154faa2",
    "folders/alias_mandates": "bce80d09d61051e15f17d88d25077e743677fe0c6cd39772ce41a39dbc403df5",
    "folders/aliases": "c8b3a584cdfa821c548ff104fbf968edf86cee47a3147a66944c982f0699eafd",
    "folders/mandates": "9a84b1df260f4946a8bb67f673aede51bf95554b3dc8fab329c8efaf0fc54fdb",
    "governance/founding": "2f7e513fda39ba55a2669dc63b1ec4e0923865fe34de0b70bbc92de6693f6a4a",
    "governance/node_keys": "ccf7b187cb5b88ffc9922fa6bf9335c8e31fd371043f3213a7c8eb957e44022a",
    "governance/nodes": "8f0bbdbdb1d512e98ce8f31195f65cc0edc6910b9309d1be6b28e7aec431f524",
    "governance/numbers": "1491b3e430c7eaa55326328596a3b17d9779491eb528755257018431c103e99c",
    "governance/open_proposals": "adcc653b2b3c9c5f9a2debfac0274f2e52089a332c3e1b1885e8363e1d6d424b",
    "governance/own_nodes": "d5f0d782cb6b81cec04afc44a4598e192eca1dc95cf361d67489a1667a2d7b57",
    "governance/parameters": "4bfb00d53b79bb0d5dd1604a557b280c733f5c2d434b476533c73916c113e1a0",
    "governance/proposals": "8f04559fbabc8948e4f852cdb019f8eee3a1a732a04f1a3fbf0b531d815fb608",
    "governance/replica_set": "6e40820eeb34c733e610a31e6c311538849ace001f252697e6510b562e7af240",
    "governance/reserved_ids": "9ee1dc2351bf1d4362be277da1ae2bf88a3e496fc053c220a91b28d17b328128",
    "governance/reserved_keys": "118248de1859a3a9be43a29203bdc1032bae384ccbf6fb507934b643a9c00232",
    "governance/revisions": "5a95f77c9102ba85905e3b2768da320cdf91dd103d873000ce168b978c4a8f02",
    "governance/scheduled": "84d7a66a9794d669c308f6e13c942b66e9fd1207a12728937df77055dd35583d",
    "governance/versions": "d081f8722c2b0368bac4252d9aa1940fb7fef7cb2c043d8c7bec7e9a0f585d8a",
    "governance/votes": "ab980b774c3be6b643f1c49a0049a8bd44a092d5ecc73f26e8eff3f5e1707370",
    "monitoring/alerts": "72322e361b52b7a2982804c629185cbb902f7c504ee831645c0cdf2a324ecad2",
    "monitoring/awaited_outcomes": "98adf7766ad4d852459b4214b6d3d34eb1993d8421a8842aec97a964d6a8695a",
    "monitoring/daily": "75badf67d4b830a30644ad68007df1cb1ac68d4e565b3e3f702dc9cc668fcb82",
    "monitoring/mismatches": "85ff830846964db734dcea76bb02e8f57c64785247351ffda1c2090f13f89382",
    "monitoring/open_alerts": "79ee67e4d536a50ce2e931d23943b413c5bdabc397a8ebbd6d4cc8a72f21e786",
    "monitoring/outcome_queue": "c047dd5366805d109f12801353111f385bd80900fea07e4cb361a01ef0165187",
    "monitoring/refusals": "fc57380f44885cea8c82d61e2c8412dc0d7b2aaff351bdb46825da81de6ee6bc",
    "monitoring/totals": "8b6598de95e3de7accbba5969cc94f8ad58e0f4b572a31bda731dcc48492fc49",
    "registry/electorate": "b50826439ad9ee166b6c0f1b9907d4481c650e9b89028f39ad76228fcf168420",
    "registry/institutions": "019942dc4671785fd929d18457ebda0f8860d77065410a6a417bf482fc4f728e",
    "registry/keys": "f9f3f2a20be4e424c6e2128fc7fa83ecb71e407d2fa07a41d33709e39a6e3538",
    "registry/members": "da70533217328bde11fdeb0f94b704d90005bd511941bc15337878189c207d9a",
}


def run_history(ledger: Ledger) -> None:
    """One of nearly everything, on the usual folder."""
    alias, record, other = ledger.make_id("alias"), ledger.make_id("record"), ledger.other
    ledger.run(ledger.clinic, ledger.make_mandate())
    ledger.run(ledger.clinic, ledger.make_grant(mandate=ledger.make_id("mandate"), uses_max=2))
    for _ in range(2):
        ledger.run(other, ledger.make_request())
    delivered = authorization.ReportOutcome(alias, ledger.height, ledger.transaction_id, "delivered")
    ledger.run(other, delivered)
    for _ in range(3):
        ledger.run(other, ledger.make_request())
    alone = evidence.Inclusion(0, ())
    leaf, next_leaf = ledger.make_leaf("record"), ledger.make_leaf("record", 2)
    ledger.run(ledger.hospital, evidence.Supersede(alias, record, leaf, alone, next_leaf))
    ledger.run(ledger.hospital, evidence.Withdraw(alias, record, next_leaf, alone, "closed"))
    ledger.run(other, monitoring.ReportMismatch(alias, record, record, "missing"))
    alert = ledger.height.to_bytes(8, "big") + ledger.transaction_id + b"\0"
    ledger.run(ledger.regulator, monitoring.AcknowledgeAlert(alert))
    ledger.run(ledger.hospital, authorization.Revoke(ledger.make_id("grant")))
    ledger.run(ledger.clinic, folders.FreezeAlias(alias, "dispute"))
    ledger.run(other, SuspendMember(ledger.make_id("doctor"), "left"))
    run_membership(ledger)


def make_request(ledger: Ledger, name: str = "newcomer") -> changes.Admission:
    key = ledger.make_key(name)
    request = changes.Admission(
        institution=ledger.make_id(name),
        kind="primary_care",
        name=name,
        public_key=key.public_key,
        gateway_url=f"https://{name}.example",
        possession=bytes(64),
    )
    signature = key.sign(tags.ADMISSION, compute_request_bytes(ledger.chain_id, request))
    return msgspec.structs.replace(request, possession=signature)


def run_membership(ledger: Ledger) -> None:
    """A node is added and gets another key, one institution is admitted, another asks, parameters change."""
    keys = [ledger.make_key(name) for name in ("new node", "its next key")]
    proofs = [
        key.sign(tags.NODE_KEY, encode((ledger.chain_id, ledger.other.institution, key.public_key)))
        for key in keys
    ]
    ledger.run(ledger.other, governance.RegisterNode(keys[0].public_key, "node.example", 7443, proofs[0]))
    addition, rotation = ledger.make_id("addition"), ledger.make_id("rotation")
    ledger.run(
        ledger.other, governance.Propose(addition, changes.ReplicaSetChange(add=(4,)), ledger.height + 4)
    )
    ledger.run(ledger.hospital, governance.Vote(addition, True))
    ledger.run(ledger.clinic, governance.Vote(addition, True))
    change = changes.KeyChange(4, keys[1].public_key, proofs[1])
    ledger.run(ledger.other)
    ledger.run(
        ledger.other,
        governance.Propose(rotation, changes.ReplicaSetChange(rotate=(change,)), ledger.height + 9),
    )
    ledger.run(ledger.hospital, governance.Vote(rotation, True))
    ledger.run(ledger.regulator, governance.Vote(rotation, True))
    admission = ledger.make_id("admission")
    ledger.run(ledger.other, governance.Propose(admission, make_request(ledger), ledger.height + 9))
    ledger.run(ledger.hospital, governance.Vote(admission, True))
    ledger.run(ledger.regulator, governance.Vote(admission, True))
    asking = make_request(ledger, "second-newcomer")
    ledger.run(ledger.other, governance.Propose(ledger.make_id("open"), asking, ledger.height + 9))
    parameters, age = ledger.make_id("parameters"), changes.ParameterValue("ticket_age_ms_max", 60_000)
    values = changes.ParametersChange(values=(age,))
    ledger.run(ledger.other, governance.Propose(parameters, values, ledger.height + 5))
    ledger.run(ledger.hospital, governance.Vote(parameters, True))
    activation = changes.ContractActivation(contract="evidence", version=2)
    ledger.run(ledger.other, governance.Propose(ledger.make_id("activation"), activation, ledger.height + 9))
    ledger.run(ledger.regulator, governance.Vote(parameters, True))


def compute_digests(ledger: Ledger) -> dict[str, str]:
    """SHA-256 over each table's keys and rows, in key order, each with its length before it."""
    digests: dict[str, bytes] = {}
    for key, row in ledger.state.scan(b""):
        contract, table, _ = key.split(b"/", 2)
        name = f"{contract.decode()}/{table.decode()}"
        entry = len(key).to_bytes(4, "big") + key + len(row).to_bytes(4, "big") + row
        digests[name] = digests.get(name, b"") + entry
    return {name: hashlib.sha256(entries).hexdigest() for name, entries in digests.items()}


def test_rows_of_every_table_are_as_they_were(folder: Ledger) -> None:
    run_history(folder)
    assert compute_digests(folder) == PINNED
