"""Services of a computer for those whom its owner names: any TCP service, web pages by name."""
