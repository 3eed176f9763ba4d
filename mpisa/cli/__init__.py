"""What people type: the `mpisa` command.

`main.py` holds the tree of names; each command's module is imported when it runs, so that `mpisa --help` and completion
stay fast. Commands talk to a node through `mpisa.sdk` only; `devnet` and `node` start processes. Data goes to stdout,
progress and hints to stderr, and the exit code says what kind of failure it was.
"""
