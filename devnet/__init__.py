"""Many nodes on one machine: validators as real processes that talk over real sockets.

`cluster` starts and stops them, `genesis` makes their homes, `state` is what stays on disk, `process` tells a process
from another one that got its number, `health` asks a node how it is.
"""
