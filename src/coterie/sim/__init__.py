"""Virtual time, simulated networks, fault injection: what tests of cores and of apps run on."""
