"""Runs families of theorems: selection, worker processes, reports."""
