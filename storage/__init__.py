"""Storage: content-addressed bytes that stay, and proof that they do.

Knows blocks, files, directories, CAR streams and pins. Knows no network, no ledger and no event loop: everything here
is synchronous, and thread-safe where it says so.
"""
