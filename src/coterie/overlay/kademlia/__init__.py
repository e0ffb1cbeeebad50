"""Kademlia: a structured overlay that finds peers, providers and small items; pure cores."""
