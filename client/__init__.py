"""The Python SDK: sign, submit, follow, read and check; owner of the gateway's HTTP models."""

from client.client import Client
from client.errors import AnswerRejected, ClientError, NotCommitted, Refused, Unreachable
from client.signing import TransactionSigner, build_call, draw_identifier, sign_patient_key

__all__ = [
    "AnswerRejected",
    "Client",
    "ClientError",
    "NotCommitted",
    "Refused",
    "TransactionSigner",
    "Unreachable",
    "build_call",
    "draw_identifier",
    "sign_patient_key",
]
