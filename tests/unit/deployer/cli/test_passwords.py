"""A password that is typed: asked for once, and handed over without a file on a disk or a word in the arguments."""

from __future__ import annotations

import sys
from pathlib import Path

import pexpect

PROGRAM = """
import os, stat, subprocess, sys
from deployer.cli.command_line import Options
options = Options(ask_become_pass=True, ask_vault_pass=True)
words = options.arguments
assert words == options.arguments and words == Options(ask_become_pass=True, ask_vault_pass=True).arguments
for option, path in zip(words[::2], words[1::2]):
    mode = stat.S_IMODE(os.stat(path).st_mode)
    read = subprocess.run(["cat", path], capture_output=True, text=True, check=True).stdout
    again = subprocess.run(["cat", path], capture_output=True, text=True, check=True).stdout
    typed = "first" if option == "--become-password-file" else "second"
    print(option, oct(mode), read == again == typed + chr(10))
print("end", path)
"""


def test_a_child_reads_what_was_typed_as_often_as_it_likes(tmp_path: Path) -> None:
    child = pexpect.spawn(sys.executable, ["-c", PROGRAM], cwd=str(tmp_path), encoding="utf-8", timeout=60)
    child.expect("sudo password: ")
    child.sendline("first")
    child.expect("vault password: ")
    child.sendline("second")
    said = child.read()
    child.close()
    assert child.exitstatus == 0, said
    assert "--become-password-file 0o600 True" in said and "--vault-password-file 0o600 True" in said
    assert "first" not in said and "second" not in said
    assert not Path(said.split("end ")[1].strip()).exists()
    assert list(tmp_path.iterdir()) == []


def test_it_is_gone_with_the_terminal(tmp_path: Path) -> None:
    # Whatever the tests themselves were started with.
    own = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)\n" + PROGRAM
    waits = own.replace('print("end", path)', 'print("end", path, flush=True); import time; time.sleep(60)')
    child = pexpect.spawn(sys.executable, ["-c", waits], cwd=str(tmp_path), encoding="utf-8", timeout=60)
    for prompt in ("sudo password: ", "vault password: "):
        child.expect(prompt)
        child.sendline("first" if "sudo" in prompt else "second")
    child.expect(r"end (\S+)")
    path = Path(child.match.group(1))
    assert path.exists()
    child.close(force=False)  # hangs up
    child.wait()
    assert not path.parent.exists()
