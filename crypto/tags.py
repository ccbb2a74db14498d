"""Domain tags: every signature and every digest of a structure begins with one of these.

A tag names what is signed, so that bytes signed as one thing can never pass as another
(protocol rule E5). A tag ends with a zero byte and is never the prefix of another tag.
"""

from __future__ import annotations

from typing import Final

TRANSACTION: Final = b"chartchain:transaction:1\x00"
HEADER: Final = b"chartchain:header:1\x00"
RECEIPT: Final = b"chartchain:receipt:1\x00"
HISTORY_LEAF: Final = b"chartchain:history-leaf:1\x00"
STATE_KEY: Final = b"chartchain:state-key:1\x00"
STATE_VALUE: Final = b"chartchain:state-value:1\x00"
STATE_BUCKET: Final = b"chartchain:state-bucket:1\x00"
STATE_NODE: Final = b"chartchain:state-node:1\x00"
REPLICA_SET: Final = b"chartchain:replica-set:1\x00"
GENESIS: Final = b"chartchain:genesis:1\x00"
VOTE: Final = b"chartchain:vote:1\x00"
VIEW_CHANGE: Final = b"chartchain:view-change:1\x00"
NEW_VIEW: Final = b"chartchain:new-view:1\x00"
STATUS: Final = b"chartchain:status:1\x00"
PEER_HELLO: Final = b"chartchain:peer-hello:1\x00"
LOGIN_CHALLENGE: Final = b"chartchain:login-challenge:1\x00"
TICKET_REQUEST: Final = b"chartchain:ticket-request:1\x00"
KEY_ROTATION: Final = b"chartchain:key-rotation:1\x00"
PATIENT_KEY: Final = b"chartchain:patient-key:1\x00"
NODE_KEY: Final = b"chartchain:node-key:1\x00"
ADMISSION: Final = b"chartchain:admission:1\x00"
RECOVERY: Final = b"chartchain:recovery:1\x00"
DELIVERY: Final = b"chartchain:delivery:1\x00"

ALL: Final = tuple(value for name, value in sorted(vars().items()) if name.isupper() and name != "ALL")
