"""Medical records as they come from their sources: bundles taken apart, classes, synthetic patients.

It knows bytes and FHIR; it knows neither vault nor ledger, reads no clock and touches no disk.
"""
