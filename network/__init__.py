"""Authenticated links between the nodes of a consortium, and what travels over them.

Links carry frames of bytes between replicas whose keys the replica set names; relay, body and block fetching
are built on them. What the bytes of consensus say, this room does not know.
"""
