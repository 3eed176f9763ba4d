"""Provenance around the ledger: drafting a record from files on disk, and walking the graph that records form."""
