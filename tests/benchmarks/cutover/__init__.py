"""The outage that a client sees in a cut-over, against what stopping and starting by hand takes."""
