"""What nvidia-smi and the kernel log say: recordings, doubles of what no recording shows, and damaged documents."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.gpus import GpuFacts, GpuProcess
from ansible_collections.deployer.sglang.plugins.module_utils.nvidia_smi import (
    MIB,
    capability_of,
    normal_pci,
    parse_capabilities,
    parse_query,
    parse_topology,
    parse_xids,
)
from ansible_collections.deployer.sglang.plugins.module_utils.procfs import short_command
from tests.doubles import nvidia_smi
from tests.doubles.nvidia_smi import Process

RECORDINGS = Path(nvidia_smi.RECORDINGS)
BUSY = (RECORDINGS / "h100-driver580-busy.xml").read_text()
XIDS = [
    "NVRM: Xid (PCI:0000:3b:00): 63, pid='<unknown>', name=<unknown>, Row Remapper: New row marked for remapping.",
    "NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, GPU has fallen off the bus.",
]


@pytest.mark.parametrize(
    ("recording", "product", "total", "reserved", "used", "free", "pid"),
    [
        ("h100-driver580-idle", "NVIDIA H100 80GB HBM3", 81559, 480, 0, 81079, None),
        ("h100-driver580-busy", "NVIDIA H100 80GB HBM3", 81559, 480, 2667, 78413, 434),
        ("h200-driver580-idle", "NVIDIA H200", 143771, 616, 0, 143156, None),
        ("h200-driver580-busy", "NVIDIA H200", 143771, 616, 2667, 140490, 431),
    ],
)
def test_reads_a_recording(
    recording: str, product: str, total: int, reserved: int, used: int, free: int, pid: int | None
) -> None:
    facts = parse_query((RECORDINGS / f"{recording}.xml").read_text())
    assert (facts.driver, facts.cuda, facts.problem, len(facts.gpus)) == ("580.159.04", "13.0", "", 1)
    gpu = facts.gpus[0]
    sizes = (gpu.memory_total, gpu.memory_reserved, gpu.memory_used, gpu.memory_free)
    assert sizes == tuple(mib * MIB for mib in (total, reserved, used, free))
    assert (gpu.index, gpu.product, gpu.compute_capability, gpu.pci, gpu.minor) == (
        0,
        product,
        "9.0",
        "0000:00:06.0",
        0,
    )
    assert (gpu.mig, gpu.mig_devices, gpu.trouble) == (False, 0, ())
    assert gpu.processes == ((GpuProcess(pid, "", "python3", 2658 * MIB),) if pid else ())


def test_reads_a_gpu_that_sglang_serves_from_and_the_same_one_afterwards() -> None:
    serving, stopped = (
        parse_query((RECORDINGS / f"h200-driver580-{state}.xml").read_text()).gpus[0] for state in ("sglang", "stopped")
    )
    assert serving.processes == (GpuProcess(6317, "", "sglang::scheduler", 131_246 * MIB),)
    assert (serving.memory_used, serving.memory_free) == (131_256 * MIB, 11_901 * MIB)
    assert (stopped.memory_used, stopped.processes) == (0, ())


HOSTS = [
    ("Tesla V100-SXM2-32GB", 32510, "418.67", "v10", "7.0"),
    ("Tesla T4", 15109, "418.67", "v10", "7.5"),
    ("NVIDIA A100-SXM4-40GB", 40536, "470.57.02", "v11", "8.0"),
    ("NVIDIA A10", 23028, "515.105.01", "v11", "8.6"),
    ("NVIDIA L40S", 46068, "535.54.03", "v12", "8.9"),
    ("NVIDIA H100 80GB HBM3", 81559, "570.124.04", "v12", "9.0"),
    ("NVIDIA B200", 183359, "580.159.04", "v13", "10.0"),
    ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887, "595.58.03", "v13", "12.0"),
]


@pytest.mark.parametrize(("product", "mib", "driver", "generation", "capability"), HOSTS)
def test_reads_every_generation(product: str, mib: int, driver: str, generation: str, capability: str) -> None:
    processes = [Process(3, 50, 1000), Process(3, 51, None), Process(7, 50, 2000, kind="M+C")]
    facts = parse_query(nvidia_smi.host(product, 8, mib, driver, generation, processes=processes))
    assert facts.driver == driver
    assert [gpu.index for gpu in facts.gpus] == [gpu.minor for gpu in facts.gpus] == list(range(8))
    assert {gpu.compute_capability for gpu in facts.gpus} == {capability}
    assert {gpu.memory_total for gpu in facts.gpus} == {mib * MIB}
    assert {gpu.trouble for gpu in facts.gpus} == {()}
    old = int(driver[:3]) < 510
    assert facts.gpus[0].memory_reserved == (0 if old else 480 * MIB)
    # What is reserved counts as used where it is not said.
    assert [gpu.memory_used // MIB - 480 * old for gpu in facts.gpus] == [0, 0, 0, 1000, 0, 0, 0, 2000]
    assert facts.gpus[3].processes == (GpuProcess(50, "", "python3", 1000 * MIB), GpuProcess(51, "", "python3", 0))
    assert GpuFacts.from_dict(json.loads(json.dumps(facts.as_dict()))) == facts


@pytest.mark.parametrize(
    ("kind", "driver", "generation", "line"),
    [
        ("uncorrectable", "418.67", "v10", "uncorrectable ECC errors since the driver was loaded: 2 (DRAM)"),
        ("sram", "535.54.03", "v12", "uncorrectable ECC errors since the driver was loaded: 1 (SRAM)"),
        ("sram", "570.124.04", "v12", "uncorrectable ECC errors since the driver was loaded: 1 (SRAM SECDED)"),
        ("parity", "580.159.04", "v13", "uncorrectable ECC errors since the driver was loaded: 3 (SRAM parity)"),
        ("threshold", "570.124.04", "v12", "uncorrectable SRAM errors exceed the threshold"),
        ("remapping pending", "470.57.02", "v11", "a row remapping is pending: reset the GPU"),
        ("remapping failed", "580.159.04", "v13", "a row remapping has failed"),
        ("retirement pending", "418.67", "v10", "a page retirement is pending: reset the GPU"),
        ("channel repair", "580.159.04", "v13", "a channel repair is pending: reset the GPU"),
        ("tpc repair", "580.159.04", "v13", "a TPC repair is pending: reset the GPU"),
        ("unrepairable", "580.159.04", "v13", "memory is broken beyond repair"),
        ("recovery", "570.124.04", "v12", "the driver asks for: Drain and Reset"),
        ("reset required", "535.54.03", "v12", "a reset is required"),
        ("lost", "580.159.04", "v13", "the driver says: gpu is lost"),
    ],
)
def test_trouble_is_told_of_the_gpu_that_has_it(kind: str, driver: str, generation: str, line: str) -> None:
    xml = nvidia_smi.host(count=3, driver=driver, generation=generation, trouble={1: [kind]})
    assert [gpu.trouble for gpu in parse_query(xml).gpus] == [(), (line,), ()]


def test_old_counters_and_several_troubles() -> None:
    trouble = {0: ["uncorrectable", "retirement pending"]}
    xml = nvidia_smi.host("Tesla V100-SXM2-32GB", 1, 32510, "418.67", "v10", trouble=trouble)
    assert parse_query(xml).gpus[0].trouble == (
        "uncorrectable ECC errors since the driver was loaded: 2 (double bit)",
        "a page retirement is pending: reset the GPU",
    )


def test_an_answer_that_no_driver_gives_yet_is_trouble() -> None:
    xml = BUSY.replace("<unrepairable_memory>No<", "<unrepairable_memory>Maybe<")
    assert parse_query(xml).gpus[0].trouble == ("unrepairable_memory is 'Maybe'",)


def test_mig_mode_and_its_devices() -> None:
    processes = [Process(0, 9, 100), Process(0, 9, 50)]  # one process on two instances
    gpus = parse_query(nvidia_smi.host(count=2, mig={0: 4}, processes=processes)).gpus
    assert [(gpu.mig, gpu.mig_devices) for gpu in gpus] == [(True, 4), (False, 0)]
    assert gpus[0].memory_total == 81559 * MIB, "of the GPU, not of its devices"
    assert gpus[0].processes == (GpuProcess(9, "", "python3", 150 * MIB),)


def test_only_processes_that_compute_are_listed() -> None:
    processes = [
        Process(0, 1, 5, "/usr/lib/xorg/Xorg", "G"),
        Process(0, 2, 5, "/opt/app/browser --type=gpu-process --token=secret", "C+G"),
        Process(0, 3, 5, "[Not Found]", "C"),
    ]
    found = parse_query(nvidia_smi.host(count=1, processes=processes)).gpus[0].processes
    assert [(process.pid, process.command) for process in found] == [(2, "/opt/app/browser"), (3, "")]


@pytest.mark.parametrize("value", ["N/A", "[N/A]", "[Not Supported]", "Insufficient Permissions", "Unknown Error"])
def test_values_that_nvidia_smi_does_not_have(value: str) -> None:
    xml = re.sub(r"(<fb_memory_usage>.*?<used>)[^<]*", rf"\g<1>{value}", BUSY, flags=re.DOTALL)
    xml = xml.replace("<used_memory>2658 MiB<", f"<used_memory>{value}<")
    for tag in ("minor_number", "cuda_version", "remapped_row_pending", "dram_uncorrectable", "gpu_recovery_action"):
        xml = re.sub(f"<{tag}>[^<]*<", f"<{tag}>{value}<", xml)
    facts = parse_query(xml)
    gpu = facts.gpus[0]
    assert (facts.cuda, gpu.memory_used, gpu.processes[0].memory, gpu.minor, gpu.trouble) == ("", 0, 0, None, ())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("<total>81559 MiB", "<total>many MiB", r"GPU 0 at 0000:00:06.0, fb_memory_usage/total is 'many MiB'"),
        ("<total>81559 MiB", "<total>-1 MiB", "fb_memory_usage/total"),
        ("<total>81559 MiB", "<total>81559 furlongs", "fb_memory_usage/total"),
        ("<total>81559 MiB</total>", "", "fb_memory_usage/total is missing"),
        ("<total>81559 MiB", f"<total>{'9' * 5000} MiB", "fb_memory_usage/total"),
        ("<uuid>GPU-", "<uuid>", "uuid is '00000001"),
        ("<pid>434", "<pid>0", "the pid of a process is '0'"),
        ("<type>C<", "<type>?<", "the type of a process"),
        ("<minor_number>0", "<minor_number>zero", "minor_number is 'zero'"),
        ("<current_mig>Disabled", "<current_mig>Half", "current_mig is 'Half'"),
        ("<driver_version>580.159.04", "<driver_version>&lt;b&gt;", "driver_version"),
        ("<attached_gpus>1", "<attached_gpus>one", "attached_gpus is 'one'"),
        ("<dram_uncorrectable>0", "<dram_uncorrectable>few", "dram_uncorrectable is 'few'"),
        ('id="00000000:00:06.0"', 'id="here"', "GPU 0, its PCI address is 'here'"),
        ("nvidia_smi_log>", "other>", "its root is 'other'"),
        ("</gpu>", "", "it is no XML: mismatched tag"),
    ],
)
def test_what_cannot_be_understood_is_named(old: str, new: str, said: str) -> None:
    with pytest.raises(DeployError, match=re.escape(said)) as caught:
        parse_query(BUSY.replace(old, new))
    assert caught.value.problem.startswith("nvidia-smi -q -x: ")
    assert "\n" not in caught.value.problem and len(caught.value.problem) < 300
    assert caught.value.fix


def test_two_gpus_are_two() -> None:
    gpu = BUSY[BUSY.index("<gpu id") : BUSY.index("</gpu>") + len("</gpu>")]
    with pytest.raises(DeployError, match="of two GPUs, uuid is 'GPU-00000001-"):
        parse_query(BUSY.replace(gpu, gpu + gpu))


def test_no_gpu_and_a_missing_gpu_are_a_problem() -> None:
    assert parse_query(nvidia_smi.host(count=0)).problem == "no devices were found"
    seven = nvidia_smi.host(count=7).replace("<attached_gpus>7<", "<attached_gpus>8<")
    assert parse_query(seven).problem == "nvidia-smi describes 7 of 8 attached GPUs"
    explained = nvidia_smi.host(count=0).replace("</attached_gpus>", "</attached_gpus><error_string>Off</error_string>")
    assert parse_query(explained).problem == "Off"


@pytest.mark.parametrize(
    "declaration",
    [
        '<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">',
        '<!ENTITY a SYSTEM "file:///etc/passwd">',
        '<!ENTITY % a SYSTEM "https://example.invalid/a.dtd"> %a;',
    ],
)
def test_entities_are_refused(declaration: str) -> None:
    document = BUSY.replace(
        '<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v13.dtd">', f"<!DOCTYPE nvidia_smi_log [{declaration}]>"
    )
    assert document != BUSY
    with pytest.raises(DeployError, match="entity"):
        parse_query(document)
    with pytest.raises(DeployError, match="entity"):
        parse_query(BUSY.replace("NVIDIA H100", "&elsewhere;"))


def test_a_dtd_within_the_document_is_normal() -> None:
    document = BUSY.replace('SYSTEM "nvsmi_device_v13.dtd"', "[<!ELEMENT uuid (#PCDATA)>]")
    assert parse_query(document) == parse_query(BUSY)


def test_capabilities() -> None:
    csv = "GPU-1, 9.0\nGPU-2, 12.0\nGPU-3, [N/A]\n\n"
    assert parse_capabilities(csv) == {"GPU-1": "9.0", "GPU-2": "12.0"}
    with pytest.raises(DeployError, match="compute_cap"):
        parse_capabilities('Field "compute_cap" is not a valid field to query.\n')


@pytest.mark.parametrize(
    ("architecture", "product", "capability"),
    [
        ("", "Tesla V100-SXM2-32GB", "7.0"),
        ("", "Quadro RTX 6000", "7.5"),
        ("", "A100-PCIE-40GB", "8.0"),
        ("", "A40", "8.6"),
        ("", "RTX A6000", "8.6"),
        ("", "", ""),
        ("", "Graphics Device", ""),
        ("Pascal", "Quadro P2000", ""),
        ("Turing", "Tesla T4", "7.5"),
        ("Ampere", "NVIDIA A30", "8.0"),
        ("Ampere", "NVIDIA A800-SXM4-80GB", "8.0"),
        ("Ampere", "NVIDIA A10G", "8.6"),
        ("Ampere", "NVIDIA RTX A3000 Laptop GPU", "8.6"),
        ("Ada Lovelace", "NVIDIA L4", "8.9"),
        ("Hopper", "NVIDIA GH200 480GB", "9.0"),
        ("Blackwell", "NVIDIA GB200", "10.0"),
        ("Blackwell", "NVIDIA B300 SXM6 AC", "10.3"),
        ("Blackwell", "NVIDIA GB10", "12.1"),
        ("Blackwell", "NVIDIA GeForce RTX 5090", "12.0"),
    ],
)
def test_capability_by_name(architecture: str, product: str, capability: str) -> None:
    assert capability_of(architecture, product) == capability


def test_links() -> None:
    assert parse_topology((RECORDINGS / "h100-driver580-topology.txt").read_text()) == {}
    links = parse_topology(nvidia_smi.topology(8))
    assert (len(links), set(links.values()), links["0-7"]) == (28, {"NV18"}, "NV18")
    assert parse_topology(nvidia_smi.topology(4, {"0-1": "NV4", "2-3": "PIX"})) == {
        "0-1": "NV4",
        "0-2": "SYS",
        "0-3": "SYS",
        "1-2": "SYS",
        "1-3": "SYS",
        "2-3": "PIX",
    }


def test_links_beside_network_cards() -> None:
    text = (
        "\t\x1b[4mGPU0\tGPU1\tNIC0\tCPU Affinity\tNUMA Affinity\x1b[0m\n"
        "GPU0\t X \tPHB\tPIX\t0-31\t0\nGPU1\tPHB\t X \tSYS\t0-31\t0\nNIC0\tPIX\tSYS\t X \t\t\n"
        "\nNIC Legend:\n  NIC0: mlx5_0\n"
    )
    assert parse_topology(text) == {"0-1": "PHB"}


@pytest.mark.parametrize(
    "text",
    ["", "Failed to initialize NVML", "\tGPU0\tGPU1\nGPU0\t X \n", "\tGPU0\tGPU1\nGPU0\t X \t?\nGPU1\t?\t X \n"],
)
def test_a_matrix_that_is_not_whole_is_refused(text: str) -> None:
    with pytest.raises(DeployError, match="topo -m"):
        parse_topology(text)


def test_xids_are_counted_by_gpu_and_code_and_the_newest_is_last() -> None:
    lines = [
        XIDS[1],
        *XIDS,
        "6,339,5140900,-;NVRM: Xid (PCI:0001:3B:00 GPU-I:01 GPU-CI:02): 94, pid=9, name=python3, Contained: SM (0x1)",
        "NVRM: Xid (0000:86:00): 62, 0cb5(2e50) 00000000",
        "NVRM: Xid (PCI:0000:3b:00): 31, pid=7, name=python3, MMU Fault",  # a program's own mistake
        "NVRM: GPU at PCI:0000:3b:00: GPU-00000001-aaaa-bbbb-cccc-000000000001",
        "usb 1-1: new high-speed USB device",
    ]
    assert parse_xids(lines) == {
        "0000:3b:00.0": [
            "Xid 63: Row Remapper: New row marked for remapping",
            "Xid 79 (2 times): GPU has fallen off the bus",
        ],
        "0001:3b:00.0": ["Xid 94: Contained: SM (0x1)"],
        "0000:86:00.0": ["Xid 62: 0cb5(2e50) 00000000"],
    }
    assert parse_xids(lines[5:], ignored=()) == {"0000:3b:00.0": ["Xid 31: MMU Fault"]}


@pytest.mark.parametrize(
    ("address", "normal"),
    [
        ("00000000:3B:00.0", "0000:3b:00.0"),
        ("0000:3b:00", "0000:3b:00.0"),
        ("3b:00.1", "0000:3b:00.1"),
        ("00010000:01:00.0", "10000:01:00.0"),
        ("", ""),
        ("nowhere", ""),
    ],
)
def test_pci_addresses(address: str, normal: str) -> None:
    assert normal_pci(address) == normal


def test_a_command_is_cut_before_its_options() -> None:
    assert (
        short_command(["python3", "-m", "sglang.launch_server", "--api-key", "x"]) == "python3 -m sglang.launch_server"
    )
    assert short_command(["server", "--api-key=x"]) == "server"
    assert short_command([]) == ""
    assert len(short_command(["x" * 9999])) <= 120


@pytest.mark.parametrize(
    "change",
    [{"driver": None}, {"gpus": 1}, {"links": []}, {"links": {"0-1": 5}}, {"gpus": [{"index": 0}]}, {"gpus": [None]}],
)
def test_facts_that_are_none_are_refused(change: dict[str, object]) -> None:
    facts = parse_query(BUSY).as_dict()
    with pytest.raises(DeployError, match="not the GPU facts"):
        GpuFacts.from_dict({**facts, **change})
    for field, value in [("mig", 1), ("index", True), ("minor", "0"), ("trouble", [1]), ("processes", [{}])]:
        with pytest.raises(DeployError, match="not the GPU facts"):
            GpuFacts.from_dict({**facts, "gpus": [{**facts["gpus"][0], field: value}]})


DOCUMENTS = [
    BUSY,
    nvidia_smi.host(count=2, mig={0: 2}, trouble={1: ["uncorrectable"]}, processes=[Process(1, 5, 10)]),
    nvidia_smi.host("Tesla V100-SXM2-32GB", 2, 32510, "418.67", "v10", processes=[Process(1, 5, 10)]),
]
VALUES = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["N/A", "[N/A]", "Enabled", "Yes", "None", "-1", "1e9 MiB", "99999999999999999999", "٣ MiB", "²"]),
    st.integers().map(str),
)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A document with values replaced, and pieces taken out or put in anywhere."""
    text = draw(st.sampled_from(DOCUMENTS))
    for _ in range(draw(st.integers(0, 3))):
        spans = [match.span(1) for match in re.finditer(r">([^<>]*)</", text)]
        if spans:
            start, end = spans[draw(st.integers(0, len(spans) - 1))]
            text = text[:start] + draw(VALUES) + text[end:]
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(text)))
        length = draw(st.sampled_from([0, 1, 5, 50, 5000]))
        text = text[:start] + draw(st.sampled_from(["", "<", "&a;", "\0", "</gpu>", "\ud800"])) + text[start + length :]
    for _ in range(draw(st.integers(0, 3))):
        elements = [match.span() for match in re.finditer(r"<(\w+)>[^<>]*</\1>", text)]
        if elements:
            start, end = elements[draw(st.integers(0, len(elements) - 1))]
            text = text[:start] + text[end:]
    return text


@given(damaged())
def test_a_damaged_document_gives_facts_or_an_error_that_says_so(document: str) -> None:
    try:
        facts = parse_query(document)
    except DeployError as error:
        assert error.problem.startswith("nvidia-smi -q -x: ")
    else:
        assert GpuFacts.from_dict(json.loads(json.dumps(facts.as_dict()))) == facts
        for gpu in facts.gpus:
            assert min(gpu.memory_total, gpu.memory_used, gpu.memory_free, gpu.memory_reserved) >= 0
            assert not any("\n" in line for line in gpu.trouble)


@given(
    st.one_of(
        st.text(), st.lists(st.sampled_from(["GPU0", "GPU1", "X", "NV18", "\t", "\n", " ", "\x1b[4m"])).map("".join)
    )
)
def test_any_text_gives_an_answer_or_an_error(text: str) -> None:
    for parse in (parse_query, parse_capabilities, parse_topology):
        try:
            parse(text)
        except DeployError as error:
            assert "\n" not in error.problem
    parse_xids([text, f"NVRM: Xid (PCI:{text}): 79, {text}", f"NVRM: Xid (PCI:0000:01:00): {text}"])
    normal_pci(text)
