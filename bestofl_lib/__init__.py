"""Cross-lingual best-of-N: sample in many languages, rank across them, see what a budget buys.

Importing the package loads nothing heavy; import the module you need.
"""

__version__ = "0.1.0"
