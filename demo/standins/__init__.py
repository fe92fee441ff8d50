"""Lab stand-ins: import-only packages that the engines' CPU environments need, each built as a wheel.

Every folder here becomes the wheel `lab-standin-<folder>`. They are never part of what a GPU host gets.
"""
