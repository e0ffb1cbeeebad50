"""The swarm's cores: what to ask of whom, and whom to answer."""
