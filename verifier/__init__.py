"""Verifier: authenticity, appraisal policy, appraisal, result."""
