"""What every party must agree on byte by byte: encodings, digests, CIDs, keys, the state map, the chain's header.

Pure: no I/O, no clock, no randomness. Seeds, salts and nonces are arguments. Import the modules, not this package.
"""
