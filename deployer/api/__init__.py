"""The Python API: what the command line is written on. docs/api.md tells it by examples."""

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.api.answers import (
    Adopted,
    Adoption,
    EnvironmentFound,
    Environments,
    HistoryEvent,
    HistoryOfHosts,
    HostAdoption,
    HostEnvironments,
    HostHistory,
    HostPruning,
    HostStatus,
    HostVerification,
    Pruning,
    Release,
    ServiceHistory,
    ServiceStatus,
    Status,
    Verification,
    Verified,
)
from deployer.api.base import Answer, HostAnswer
from deployer.api.client import Client, ClientKit, HostKits
from deployer.api.deployer import Deployer
from deployer.api.measured import Measured
from deployer.api.monitoring import Monitoring
from deployer.api.plans import Check, Finding, Gpu, HostPlan, Plan, ServicePlan
from deployer.api.rollouts import HostOutcome, Rollout, ServiceOutcome
from deployer.monitoring.files import WrittenFile
from deployer.monitoring.targets import Target, WithoutMetrics
from deployer.runs.events import Event, Listener

__all__ = [
    "Adopted",
    "Adoption",
    "Answer",
    "Check",
    "Client",
    "ClientKit",
    "DeployError",
    "Deployer",
    "EnvironmentFound",
    "Environments",
    "Event",
    "Finding",
    "Gpu",
    "HistoryEvent",
    "HistoryOfHosts",
    "HostAdoption",
    "HostAnswer",
    "HostEnvironments",
    "HostHistory",
    "HostKits",
    "HostOutcome",
    "HostPlan",
    "HostPruning",
    "HostStatus",
    "HostVerification",
    "Listener",
    "Measured",
    "Monitoring",
    "Plan",
    "Pruning",
    "Release",
    "Rollout",
    "ServiceHistory",
    "ServiceOutcome",
    "ServicePlan",
    "ServiceStatus",
    "Status",
    "Target",
    "Verification",
    "Verified",
    "WithoutMetrics",
    "WrittenFile",
]
