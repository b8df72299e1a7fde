"""Historical bugs: each fits the specification, and the theorems and the reference find it."""

from __future__ import annotations

import pytest

import refmodel
from checks.cli import main
from checks.gallery.bugs import Bug, GalleryError, Patch, bugs, out_of_model, with_bug
from checks.gallery.demonstrate import demonstrate
from checks.gallery.scenario import observe
from grammar import default_directory

BUGS = bugs()


def test_no_bug_is_both_expressible_and_not() -> None:
    lacking = [one.id for one in out_of_model()]
    assert len(lacking) == len(set(lacking))
    assert not set(lacking) & set(BUGS)
    assert len(BUGS) >= 50


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


def test_a_lost_exit_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gallery", "CVE-2019-3887"]) == 0
    said = capsys.readouterr().out
    assert "refutes trap.RDMSR.C" in said
    assert "confirms" in said


def test_list_names_what_is_lacking(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gallery", "--list"]) == 0
    said = capsys.readouterr().out
    assert "XSA-100" in said
    assert "nested virtualization" in said


def test_unknown_bugs_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gallery", "XSA-0"]) == 2
    assert "there is no bug 'XSA-0'" in capsys.readouterr().err
    assert main(["gallery", "XSA-273"]) == 2
    assert "speculation" in capsys.readouterr().err


def test_a_patch_that_does_not_fit_is_told() -> None:
    bug = Bug("X", "", "", "", "", (Patch("main.isa", "no such text", ""),))
    with pytest.raises(GalleryError, match="0 times"):
        with_bug(bug, None)
