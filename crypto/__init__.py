"""Hashing, canonical encoding, signatures and key files; sharper tools stand under `crypto.hazmat`.

The ground floor of the house: it imports third-party libraries only, keeps no state and reads no clock.
"""
