"""The words of Ansible, ssh and sudo that are known, with what they mean and what to do. First match wins."""

from __future__ import annotations

import re
from dataclasses import dataclass

SSH = r"(?:Failed to connect to the host via ssh|Make sure this host can be reached over ssh): (?s:.*?)"
PYTHON = "install Python 3.9 or newer there and set ansible_python_interpreter to it"
BY_HAND = "see that `ssh {to}` answers"


@dataclass(frozen=True)
class Rule:
    """One thing that can go wrong.

    Args:
        kind: stable, such as `ssh-refused`.
        pattern: its groups fill in `what` and `fix`; a group `where` is the place, which is the host otherwise.
        what: what is wrong.
        fix: what to do about it.
    """

    kind: str
    pattern: re.Pattern[str]
    what: str
    fix: str


def _rule(kind: str, pattern: str, what: str, fix: str) -> Rule:
    return Rule(kind, re.compile(pattern), what, fix)


HOST = (
    _rule(
        "host-key-changed",
        SSH + r"REMOTE HOST IDENTIFICATION HAS CHANGED!(?s:.*?)Offending \S+ key in (?P<file>[^\r\n]+)"
        r"(?s:.*?)(?P<remove>ssh-keygen -f [^\r\n]+)",
        "its SSH host key is not the one that is known, which {file} has: somebody may be in between",
        "only if it was set up anew: {remove}, then log in once and compare the fingerprint",
    ),
    _rule(
        "host-key-unknown",
        SSH + r"No (?P<type>\S+) host key is known for (?P<name>\S+) and you have requested strict checking",
        "its SSH host key is not known yet ({type}, {name})",
        "log in once with ssh and compare the fingerprint, or add it to known_hosts: ssh-keyscan",
    ),
    _rule(
        "host-key",
        SSH + r"Host key verification failed",
        "its SSH host key could not be verified",
        "log in once with ssh and compare the fingerprint",
    ),
    _rule(
        "ssh-key-open",
        SSH + r"Permissions (?P<mode>\d+) for '(?P<file>[^']+)' are too open",
        "ssh does not use the private key {file}, which others can read (mode {mode})",
        "chmod 600 {file}",
    ),
    _rule(
        "ssh-key-missing",
        SSH + r"no such identity: (?P<file>.+?): No such file or directory",
        "there is no private key {file} on the controller",
        "set ansible_ssh_private_key_file to the one that is there",
    ),
    _rule(
        "ssh-denied",
        SSH + r"(?<!\S)(?P<login>[^\s@]+)@\S+: Permission denied \((?P<methods>[^)]+)\)",
        "it does not let {login} log in (it takes {methods})",
        "set ansible_user and ansible_ssh_private_key_file, or put the public key into its authorized_keys; "
        "for a password, -k or --connection-password-file",
    ),
    _rule(
        "ssh-refused",
        SSH + r"connect to host (?P<address>\S+) port (?P<port>\d+): Connection refused",
        "nobody listens at {address} port {port}",
        "see that sshd runs there, and that ansible_host and ansible_port are right",
    ),
    _rule(
        "ssh-timeout",
        SSH + r"connect to host (?P<address>\S+) port (?P<port>\d+): Connection timed out",
        "{address} port {port} does not answer",
        "see that it is up, and that no firewall is in between; ansible_host and ansible_port may be wrong",
    ),
    _rule(
        "ssh-no-route",
        SSH + r"connect to host (?P<address>\S+) port \d+: (?P<why>No route to host|Network is unreachable)",
        "there is no way to {address} ({why})",
        "see to the network or VPN of the controller, and that ansible_host is right",
    ),
    _rule(
        "ssh-unresolved",
        SSH + r"Could not resolve hostname (?P<name>[^\s:]+): (?P<why>[^\r\n]+)",
        "no address is known for {name} ({why})",
        "set ansible_host to its address, or see to the controller's DNS",
    ),
    _rule(
        "ssh-silent",
        SSH + r"Connection timed out during banner exchange",
        "something accepts the connection there and does not speak SSH in time",
        "see that ansible_port is sshd's, and whether the host is overloaded; " + BY_HAND,
    ),
    _rule(
        "ssh-closed",
        SSH + r"(?:kex_exchange_identification: )?(?P<why>Connection (?:closed|reset) by [^\r\n]+)",
        "it hangs up before the login ({why})",
        "see sshd's log there (MaxStartups, a ban, hosts.deny), and that ansible_port is sshd's",
    ),
    _rule(
        "ssh-lost",
        SSH + r"(?P<why>Connection to \S+ closed by remote host)",
        "the connection to it broke off ({why})",
        "see whether it is up and sshd's log there, then run it again: what is done is not done twice",
    ),
    _rule("ssh-failed", SSH.replace("(?s:.*?)", "(?P<why>[^\r\n]+)"), "ssh failed: {why}", BY_HAND),
    _rule(
        "ssh-missing",
        r"Unable to execute ssh command line on a controller: .*No such file or directory: b?'?(?P<file>[^']+)",
        "the controller has no {file}",
        "install the OpenSSH client on the controller",
    ),
    _rule(
        "remote-tmp",
        r"Failed to create temporary directory\.(?s:.*?)mkdir -p \"` echo (?P<folder>\S+) `\"",
        "the user who logs in cannot write to {folder} there",
        "see to that folder and its file system, or set ansible_remote_tmp to another",
    ),
    _rule(
        "become-password-missing",
        r"Missing (?P<method>\S+) password",
        "{method} asks for a password there, and none was given",
        "-K, or --become-password-file FILE; or let that user {method} without a password",
    ),
    _rule(
        "become-password-wrong",
        r"Incorrect (?P<method>\S+) password",
        "{method} does not take the password that was given",
        "give that user's own: -K, or --become-password-file FILE",
    ),
    _rule(
        "become-not-allowed",
        r"(?P<user>\S+) is not in the sudoers file",
        "{user} may not become root there: not in the sudoers file",
        "add {user} to its sudoers, or log in as a user who is: ansible_user",
    ),
    _rule(
        "python-missing",
        r"The module interpreter '(?P<file>[^']+)' was not found",
        "there is no Python at {file} on it",
        PYTHON,
    ),
    _rule(
        "python-old",
        r"requires a minimum of Python version \S+\. Current version: (?P<version>\S+)",
        "its Python {version} is too old",
        PYTHON,
    ),
    _rule(
        "become-missing",
        r"sh: (?:line )?\d+: (?P<file>\S*(?:sudo|su|doas)): (?:(?:command )?not found|No such file or directory)",
        "there is no {file} on it",
        "install sudo there, or set ansible_become_method to what it has",
    ),
    _rule(
        "host-disk-full",
        r"failed to transfer file to (?s:.*)error writing '(?P<file>[^']+)': No space left on device",
        "its disk is full: {file} cannot be written",
        "make room there: df -h; python -m deployer prune removes what nothing uses",
    ),
    _rule(
        "disk-full",
        r"^(?:Task failed: )?\[Errno 28\] No space left on device",
        "the controller's disk is full",
        "make room on the controller: df -h . $HOME ${{TMPDIR:-/tmp}}",
    ),
    _rule(
        "vault",
        r"VaultExceptionMarker",
        "a variable of the inventory is encrypted by another vault password, or none was given",
        "--vault-password-file FILE, or -J to be asked",
    ),
    _rule(
        "template-undefined",
        r"(?P<name>'[^']+') is undefined",
        "the inventory uses the variable {name}, which nobody defines",
        "define it, or mend its name: ansible-inventory --list -i hosts.yml shows what there is",
    ),
    _rule(
        "template-undefined",
        r"\"UndefinedMarker\"",
        "one of inference_root, _user, _supervisor and _findings uses a variable that nobody defines",
        "define it, or mend its name: ansible-inventory --list -i hosts.yml shows what there is",
    ),
    _rule(
        "template",
        r"Syntax error in template: (?P<why>.+)",
        "a template in the inventory cannot be read: {why}",
        "mend it: -v shows where",
    ),
    _rule(
        "template",
        r"\"CapturedExceptionMarker\"",
        "a template in one of inference_root, _user, _supervisor and _findings cannot be read",
        "mend it: -v shows where",
    ),
)

CONTROLLER = (
    _rule(
        "vault-password-missing",
        r"Attempting to decrypt but no vault secrets found",
        "the inventory has encrypted files, and no vault password was given",
        "--vault-password-file FILE, or -J to be asked",
    ),
    _rule(
        "vault-password-wrong",
        r"Decryption failed \(no vault secrets were found that could decrypt\)",
        "the vault password that was given does not open the inventory's encrypted files",
        "give the one that they were encrypted with; several by --vault-id LABEL@FILE each",
    ),
    _rule(
        "vault-file-missing",
        r"The vault password file (?P<where>.+?) was not found",
        "there is no such file with a vault password",
        "mend the path",
    ),
    _rule(
        "vault-file-empty",
        r"Invalid vault password was provided from file \((?P<where>.+?)\)",
        "the file has no vault password in it",
        "write the password into its first line",
    ),
    _rule(
        "vault-file-unreadable",
        r"Could not read vault password file '(?P<where>[^']+)': \[Errno \d+\] (?P<why>[^:]+)",
        "the vault password file cannot be read: {why}",
        "let your user read it",
    ),
    _rule(
        "password-file-missing",
        r"The password file (?P<where>.+?) was not found",
        "there is no such file with a password",
        "mend the path",
    ),
    _rule(
        "unreadable",
        r"An error occurred while trying to read the file '(?P<where>[^']+)': \[Errno \d+\] (?P<why>[^:]+)",
        "cannot be read: {why}",
        "let your user read it",
    ),
    _rule(
        "file-missing",
        r"Could not find or access '(?P<where>[^']+)'",
        "there is no such file on the controller",
        "mend the path that was given with -e @FILE",
    ),
    _rule(
        "extra-vars",
        r"YAML parsing failed: (?P<why>.+)\n(?s:.*)Origin: <CLI option '(?P<where>[^']+)'>",
        "is neither key=value nor YAML: {why}",
        'write -e key=value, -e \'{{"key": "value"}}\' or -e @FILE',
    ),
    _rule(
        "yaml",
        r"YAML parsing failed: (?P<why>[^\n]+)\nOrigin: (?P<where>[^<\n][^\n]*)",
        "is no YAML: {why}",
        "mend that line",
    ),
    _rule(
        "yaml",
        r"YAML parsing failed: (?P<why>.+)",
        "a file of group_vars or host_vars is no YAML: {why}",
        "look for it with: yamllint group_vars host_vars",
    ),
    _rule(
        "limit-file",
        r"Unable to find limit file b?'?(?P<where>[^'\n]+)",
        "there is no such file of hosts",
        "mend what was given as -l @FILE",
    ),
    _rule(
        "arguments",
        r"unrecognized arguments: (?P<where>.+)",
        "ansible-playbook does not know it",
        "mend what comes after --: ansible-playbook --help lists what it takes",
    ),
    _rule(
        "home",
        r"Unable to create local directories '(?P<where>[^']+)'.*?: \[Errno \d+\] (?P<why>[^:\n]+)",
        "Ansible's own folder cannot be made: {why}",
        "set HOME, or ANSIBLE_HOME, to a folder that your user can write to",
    ),
    _rule(
        "collection",
        r"the playbook: (?P<where>\S+) could not be found",
        "is not where ansible-playbook looks for collections",
        "install this package again beside ansible-core: pip install --force-reinstall --no-deps sglang-deployer",
    ),
    _rule(
        "disk-full",
        r"No space left on device",
        "the controller's disk is full",
        "make room: df -h . $HOME ${{TMPDIR:-/tmp}}",
    ),
)
