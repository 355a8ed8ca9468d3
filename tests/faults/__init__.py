"""Tests of what can go wrong."""
