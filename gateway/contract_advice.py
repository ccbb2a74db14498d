"""What a contract's code means to who asked the gateway for something, and what to do about it.

The codes of each call stand in docs/contracts.md; here are those that a call of the gateway can end with.
"""

from __future__ import annotations

from typing import Final

_CALL_IS_OURS: Final = "the call is the gateway's own: tell the operator"

ADVICE: Final = {
    "alert_unknown": "no such alert is on the ledger: list the alerts",
    "alias_exists": "this alias is taken: ask again, and another is drawn",
    "alias_frozen": "the folder is frozen: who froze it, or a regulator, may unfreeze it",
    "alias_unknown": "no folder has this alias: check it",
    "already_acknowledged": "somebody has acknowledged this alert: nothing is left to do",
    "already_reported": "this is on the ledger and waits to be acknowledged: nothing is left to do",
    "already_revoked": "the grant was revoked before: nothing is left to do",
    "already_suspended": "the member is suspended: nothing is left to do",
    "already_withdrawn": "the record was withdrawn before: nothing is left to do",
    "anchor_exists": "these records are anchored: look at the folder",
    "anchor_unknown": "the record is not anchored under this alias: look at the folder",
    "bad_arguments": _CALL_IS_OURS,
    "bad_signature": "a vote in the evidence is not signed by who it names: it proves nothing",
    "bad_proof": "the proof of possession was not made with the private key: make it anew",
    "beyond_mandate": "the mandate does not cover all of these classes: ask for fewer, or have it widened",
    "budget_exceeded": "it is more than one transaction may do: ask for less at once",
    "contract_fault": "this is a defect of the contract: report it with the transaction",
    "custodian_suspended": "the custodian named is suspended or gone: name another",
    "grant_exists": "this grant's id is taken: ask again, and another is drawn",
    "grant_unknown": "no such grant is on the ledger: list the folder's grants",
    "grantee_suspended": "the grantee's institution is suspended or gone: a grant to it has no effect",
    "holder_suspended": "the folder's holder is suspended or gone: ask the custodian for the grant",
    "institution_suspended": "this institution is suspended: a regulator may reinstate it",
    "institution_unknown": "no such institution is on the ledger: list the institutions",
    "key_in_use": "this key belongs, or belonged, to somebody on the ledger: make a new one",
    "mandate_ended": "the mandate has ended: attest a new one",
    "mandate_exists": "this mandate's id is taken: ask again, and another is drawn",
    "mandate_inactive": "the mandate does not hold now for this folder: attest a new one",
    "mandate_unknown": "no such mandate is on the ledger: check the id",
    "member_exists": "this handle is taken: ask again, and another is drawn",
    "member_unknown": "no such member is registered with that institution: check the handle",
    "no_contradiction": "the two votes do not contradict each other: they prove nothing",
    "node_unknown": "no such node was ever registered: check the replica's number",
    "not_current": "a later version of the record holds: look at the folder",
    "not_in_anchor": _CALL_IS_OURS,
    "not_permitted": "this institution may not do that for this folder: ask its custodian",
    "other_record": _CALL_IS_OURS,
    "outcome_known": "the outcome of this reading was told before: nothing is left to do",
    "profile_not_for_purpose": "what is to be delivered does not go with the purpose: name another",
    "ticket_refused": "this request was refused: ask anew",
    "ticket_unknown": "no such request is on the ledger: ask anew",
    "too_many_alerts": "acknowledge some alerts of this folder first",
    "too_many_grants": "this grantee has as many grants as a folder may give: revoke some first",
    "unknown_method": "this node's contracts do not know the call: its version is not the others'",
    "unknown_sender": "the institution's key is not the one on the ledger: tell the operator",
    "wrong_version": _CALL_IS_OURS,
}
OTHERWISE: Final = "docs/contracts.md says what the code means"


def get_advice(code: str) -> str:
    """One sentence; for a code that is not listed, where codes are explained."""
    return f"{ADVICE.get(code, OTHERWISE)}; nothing was written"
