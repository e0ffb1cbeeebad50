"""Services of a computer for those whom its owner names: any TCP or UDP service, web pages by name."""
