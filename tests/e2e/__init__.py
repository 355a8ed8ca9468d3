"""Tests of whole scripts."""
