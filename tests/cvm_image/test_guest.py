from __future__ import annotations

import ast
import os
import shutil
import socket
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from dokimos.cvm_image.model import SMOLLM2
from dokimos.cvm_image.profile import load_profile
from dokimos.cvm_image.service import guest
from dokimos.errors import MalformedEvidence, MaterialUnavailable

OVERLAY = "cvm_image/overlay/cpu"
UNIT = f"{OVERLAY}/etc/systemd/system/dokimos.service"


def test_the_images_configuration_reads_and_names_the_model_of_the_lock(checkout):
    config = guest.parse_config((checkout / OVERLAY / "etc/dokimos/service.toml").read_text())
    volume = load_profile("cpu").volumes[0]
    assert config.model == f"{volume.mount}/{volume.model}.gguf"
    assert (config.alias, config.model_sha256) == (SMOLLM2.alias, SMOLLM2.sha256)
    assert config.limits().chat.max_tokens == config.max_tokens


@pytest.mark.parametrize(
    "change", [("threads", "treads"), ("= 2", '= "2"'), ('alias = "', 'alias = 1 # "'), ("model =", "x=[")]
)
def test_a_configuration_with_a_misspelt_key_or_another_type_is_refused(checkout, change):
    text = (checkout / OVERLAY / "etc/dokimos/service.toml").read_text()
    assert change[0] in text
    with pytest.raises(MalformedEvidence):
        guest.parse_config(text.replace(*change))
    with pytest.raises(MalformedEvidence, match="missing"):
        guest.parse_config("threads = 1\n")


def test_an_image_has_one_digest_on_each_platform():
    line = b"quiet dokimos.volume=root"
    assert guest.image_digest(line + b" initrd=initrd") == guest.image_digest(line) == sha256(line).digest()
    for other in (line + b" initrd=other", b"initrd=initrd " + line, line + b" initrd=initrd initrd=initrd"):
        assert guest.image_digest(other) != guest.image_digest(line)


def test_the_modules_in_the_image_are_enough_for_its_service(checkout, tmp_path):
    """Only what the profile copies is there; third parties' wheels are the image's own."""
    from dokimos.cvm_image.assemble.python import own_nodes  # noqa: PLC0415

    for node in own_nodes(load_profile("cpu").root.modules):
        place = tmp_path / node.path.split("dist-packages/")[1]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(node.content.read())
    code = (
        "import sys; from dokimos.cvm_image.service import guest;"
        "from dokimos.cvm_image.service.engine import llama_cpp;"
        "heavy = {'click', 'rich', 'requests', 'pyasn1', 'sevsnpmeasure', 'urllib3'} & set(sys.modules);"
        "print(guest.__file__, sorted(heavy - {'click'}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path, check=True
    )
    assert ran.stdout.split() == [str(tmp_path / "dokimos/cvm_image/service/guest.py"), "[]"]


def test_without_a_socket_from_its_manager_the_service_ends_with_one_line(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "dokimos.cvm_image.service.guest"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (40, "")
    assert ran.stdout.startswith("dokimos: refused: the service manager handed over no socket")


def test_a_socket_for_another_process_or_several_are_not_taken():
    for environment in (
        {},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"},
    ):
        with pytest.raises(MaterialUnavailable):
            guest.listening_socket(environment)


def test_the_manager_is_told_once_it_wants_to_know(tmp_path):
    guest.tell_manager({}, b"READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        guest.tell_manager({"NOTIFY_SOCKET": str(tmp_path / "n")}, b"READY=1")
        assert manager.recv(100) == b"READY=1"


def test_nothing_unmeasured_decides_how_the_service_behaves(checkout):
    """No argument, no variable of the environment but the two of the service manager's protocol."""
    code = (checkout / "cvm_image/service/guest.py").read_text()
    names = {node.args[0].value for node in ast.walk(ast.parse(code)) if _gets_variable(node)}
    assert names == {"LISTEN_PID", "LISTEN_FDS", "NOTIFY_SOCKET"}
    assert "argv" not in code
    unit = (checkout / UNIT).read_text()
    assert not any(
        word in unit for word in ("EnvironmentFile", "PassEnvironment", "LoadCredential", "ImportCredential")
    )


def _gets_variable(node):
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "environment.get"


def test_each_unit_of_the_image_is_rated_under_one(checkout, loud_skip):
    tool = shutil.which("systemd-analyze")
    if tool is None:
        loud_skip("systemd-analyze is not installed", "units")
    units = sorted((checkout / OVERLAY).rglob("*.service"))
    assert [unit.name for unit in units] == ["dokimos.service"]
    for unit in units:
        command = [tool, "security", "--offline=true", "--threshold=10", str(unit)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout[-300:]


def test_a_unit_that_asks_for_less_is_rated_over_one(checkout, tmp_path, loud_skip):
    tool = shutil.which("systemd-analyze")
    if tool is None:
        loud_skip("systemd-analyze is not installed", "units")
    text = (checkout / UNIT).read_text().replace("PrivateNetwork=yes\n", "").replace("CapabilityBoundingSet=\n", "")
    (tmp_path / "dokimos.service").write_text(text)
    command = [tool, "security", "--offline=true", "--threshold=10", str(tmp_path / "dokimos.service")]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_the_guest_opens_one_port_and_starts_no_connection(checkout):
    rules = (checkout / "cvm_image/overlay/initrd/etc/nftables.conf").read_text()
    assert rules.count("policy drop") == 3
    assert [line.strip() for line in rules.splitlines() if "tcp" in line] == [
        "tcp dport 8443 accept",
        "tcp sport 8443 tcp flags & (syn | ack) != syn accept",
    ]
    assert load_profile("cpu").boot.port == 8443
    assert Path(checkout / OVERLAY / "etc/systemd/system/dokimos.socket").read_text().count("8443") == 1
