"""Historical bugs: each fits the specification, and the theorems and the reference find it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import refmodel
from checks.cli import main
from checks.gallery import bugs as gallery_bugs
from checks.gallery.bugs import Bug, GalleryError, Patch, bugs, out_of_model, with_bug
from checks.gallery.demonstrate import Shown, demonstrate
from checks.gallery.scenario import observe
from grammar import default_directory

BUGS = bugs()


def test_no_bug_is_both_expressible_and_not() -> None:
    lacking = [one.id for one in out_of_model()]
    assert len(lacking) == len(set(lacking))
    assert not set(lacking) & set(BUGS)
    assert len(BUGS) >= 60


@pytest.mark.parametrize("bug", BUGS.values(), ids=lambda bug: bug.id)
def test_patches_fit_the_specification(bug: Bug) -> None:
    assert bug.goals or bug.guests
    for patch in bug.patches:
        assert (default_directory() / patch.file).read_text(encoding="utf-8").count(patch.old) == 1


def test_without_bugs_guests_write_what_is_right() -> None:
    model = refmodel.load()
    for bug in BUGS.values():
        if bug.guests:
            assert (bug.id, observe(model, bug.guests).written) == (bug.id, bug.right)


def test_a_theorem_and_its_replay_find_a_page_that_is_not_scrubbed() -> None:
    shown = demonstrate(BUGS["XSA-100"], None)
    assert [result.id for result in shown.refuted] == ["isolation.assign.handed_over_zero"]
    assert shown.replayed
    assert "holds before and not after" in shown.replay
    assert shown.observed is not None
    assert shown.observed.written == ("", "s")  # the other guest's byte
    assert shown.is_found


def test_a_lost_exit_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gallery", "CVE-2019-3887", "--json", str(tmp_path / "gallery.json")]) == 0
    said = capsys.readouterr().out
    assert "refutes trap.RDMSR.C" in said
    assert "confirms" in said
    document = json.loads((tmp_path / "gallery.json").read_text())
    assert (document["schema_version"], document["bugs"], document["found"], document["missed"]) == (
        1,
        1,
        1,
        [],
    )
    assert document["results"][0]["refuted"] == ["trap.RDMSR.C"]


def test_in_compatibility_mode_the_instruction_pointer_has_32_bits() -> None:
    shown = demonstrate(BUGS["CVE-2014-3647"], None)
    assert [result.id for result in shown.refuted] == ["emulation.INVD"]
    assert shown.replayed
    assert shown.observed is not None
    assert shown.observed.written == ("",)  # the guest is lost


def test_bugs_that_are_not_found_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    harmless = Bug("X", "", "a bug without harm", "", "", (Patch("main.isa", "include", "include"),))
    monkeypatch.setattr(gallery_bugs, "bugs", lambda: {"X": harmless})
    assert main(["gallery"]) == 1
    captured = capsys.readouterr()
    assert "main.isa has this text" in captured.out
    assert "0 of 1 bugs found" in captured.out
    assert "not found: X" in captured.err


def test_an_interrupt_keeps_what_was_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def exhibit(chosen: list[Bug], *_: object) -> Iterator[Shown]:
        yield Shown(chosen[0])
        raise KeyboardInterrupt

    monkeypatch.setattr("checks.gallery.exhibition.exhibit", exhibit)
    assert main(["gallery", "--json", str(tmp_path / "gallery.json")]) == 130
    assert f"0 of {len(BUGS)} bugs found" in capsys.readouterr().out
    assert json.loads((tmp_path / "gallery.json").read_text())["missed"] == [next(iter(BUGS))]


def test_list_names_what_is_lacking(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gallery", "--list"]) == 0
    said = capsys.readouterr().out
    assert "XSA-100" in said
    assert "nested virtualization" in said


def test_unknown_bugs_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gallery", "XSA-0"]) == 2
    assert "there is no bug 'XSA-0'" in capsys.readouterr().err
    assert main(["gallery", "CVE-2012-2934"]) == 2
    assert "no progress" in capsys.readouterr().err


def test_a_patch_that_does_not_fit_is_told() -> None:
    bug = Bug("X", "", "", "", "", (Patch("main.isa", "no such text", ""),))
    with pytest.raises(GalleryError, match="0 times"):
        with_bug(bug, None)
