"""The proof on real GPUs: SGLang deployed by this package, its figures beside those of the plan (`make gpu-proof`)."""
