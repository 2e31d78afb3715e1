"""`dmtg-lite doctor`: what is in the way here, and how to mend it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from dmtg_lite import doctor
from dmtg_lite.cli import main
from dmtg_lite.data.celeba.prepare import prepare_celeba
from dmtg_lite.data.stand_ins.celeba_files import make_fake_celeba


def find(findings: list[doctor.Finding], what: str) -> doctor.Finding:
    return next(one for one in findings if one.what == what)


def test_an_environment_made_by_make_is_well() -> None:
    """Nothing to mend where these tests run, and every line says what was found."""
    findings = doctor.examine()
    assert not [str(one) for one in findings if one.level == "mend"]
    assert all(one.found for one in findings)
    assert find(findings, "the library").level == "ok"
    assert {"JupyterLab", "device", "memory", "disk", "Python"} <= {one.what for one in findings}


@pytest.mark.parametrize(
    ("versions", "what", "complaint"),
    [
        ({"ipykernel": "7.0.1"}, "extra [notebook]", "ipykernel 7.0.1 does not work"),
        ({"anywidget": None}, "extra [notebook]", "anywidget is missing"),
        ({"jupyterlab": "5.1"}, "extra [notebook]", "jupyterlab 5.1 does not work"),
        ({"torch": "2.0"}, "the library", "torch 2.0 does not work"),
    ],
)
def test_a_package_that_clashes_is_named(versions, what, complaint, monkeypatch) -> None:
    """Missing, too old, or one of those with a known fault; with the command that mends it."""
    real = doctor.version

    def version(name: str) -> str:
        found = versions.get(name, real(name) if name not in versions else None)
        if found is None:
            raise PackageNotFoundError(name)
        return found

    monkeypatch.setattr(doctor, "version", version)
    found = find(doctor.examine(), what)
    assert found.level == "mend"
    assert complaint in found.found
    assert found.mend.startswith("pip install")


def test_sources_that_were_not_installed_are_examined_too(monkeypatch) -> None:
    def requires(name: str) -> list[str]:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "requires", requires)
    found = find(doctor.examine(), "packages")
    assert found.level == "note"
    assert "is not installed" in found.found


def test_lab_without_the_extension_is_told_where_to_install_it(monkeypatch) -> None:
    """The usual fault: Lab runs in another environment than the kernel."""
    monkeypatch.setattr(doctor, "_list_extensions", lambda: dict.fromkeys(doctor.EXTENSIONS, False))
    lines = [str(one) for one in doctor.examine() if one.level == "mend"]
    assert len(lines) == 2
    assert all("where JupyterLab itself is installed" in line for line in lines)


def test_widgets_in_vs_code_have_a_word(monkeypatch) -> None:
    """It loads them from the network, which a class may not have."""
    monkeypatch.setenv("TERM_PROGRAM", "vscode")
    assert find(doctor.examine(), "VS Code").level == "note"


@pytest.mark.parametrize("built", [None, "12.8"])
def test_a_gpu_that_torch_cannot_use_is_told(built, monkeypatch) -> None:
    """The driver is there, and nothing trains on it: a build for the CPU, or too old a driver."""
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("torch.version.cuda", built)
    monkeypatch.setattr("dmtg_lite.core.devices._find", lambda name: None)
    found = find(doctor.examine(), "device")
    assert found.level == "mend"
    assert ("CUDA 12.8" in found.found) == bool(built)
    assert ("driver is too old" in found.mend) == bool(built)


def test_a_full_disk_and_little_memory_are_notes(monkeypatch, tmp_path: Path) -> None:
    """Also for a folder that is not there yet."""
    usage = doctor.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage._replace(free=1 << 30))
    found = doctor.examine(tmp_path / "runs" / "mine")
    assert find(found, "disk").level == "note"
    assert "1.0 GiB" in find(found, "disk").found


def test_a_prepared_folder_is_read_as_a_whole(tmp_path: Path) -> None:
    """One flipped byte in a file is found, and the file named."""
    raw = make_fake_celeba(tmp_path / "raw", n=24)
    out = prepare_celeba(raw, tmp_path / "out", jobs=1, progress=False)
    assert doctor.examine(prepared=out)[-1].level == "ok"
    images = bytearray((out / "images.npy").read_bytes())
    images[-5] ^= 1
    (out / "images.npy").write_bytes(images)
    found = doctor.examine(prepared=out)[-1]
    assert found.level == "mend"
    assert "images.npy" in found.found


def test_the_command_says_it_and_ends_with_2_where_something_is_to_mend(
    capsys, monkeypatch
) -> None:
    """One line a thing; the last one on what to mend."""
    assert main(["doctor"]) == 0
    assert "ok    the library" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "_list_extensions", lambda: dict.fromkeys(doctor.EXTENSIONS, False))
    assert main(["doctor"]) == 2
    said = capsys.readouterr()
    assert "MEND  JupyterLab" in said.out
    assert "to mend: JupyterLab" in said.err
