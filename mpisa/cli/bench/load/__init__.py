"""Load on a devnet: `work` signs what is sent, `client` is one client process, `fleet` adds several up."""
