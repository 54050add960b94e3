"""tinynovo: de novo peptide sequencing with a tiny recursive model.

Knows nothing but its version; every room is imported by its own name.
"""

__version__ = "0.1.0"
