"""The shell around the pure rooms: it performs effects in order and holds no rules (docs/protocol, "The node")."""
