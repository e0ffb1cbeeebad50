"""Tests of `disks`."""
