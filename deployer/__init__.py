"""The controller of SGLang deployments: plans, runs and reports the collection's playbooks."""

__version__ = "0.1.0"
