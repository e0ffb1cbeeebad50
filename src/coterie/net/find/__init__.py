"""Where peers are: resolvers, the address book, addresses that others see us at, reaching a peer."""
