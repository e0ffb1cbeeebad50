"""Disks, drives and images of a computer for others: see README.md."""
