"""The DAG: authorities, their vertices, what makes one valid, and where those wait that can't be accepted yet."""
