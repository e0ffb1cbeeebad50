"""A network laboratory: computers, switches and home routers made of network namespaces, with real processes."""
