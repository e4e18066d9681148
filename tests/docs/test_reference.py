"""The pages made from the program, the flags page, and the links of all pages."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from simcore import registry
from simcore.cli import COMMANDS, parser_for
from simcore.settings import fields_of

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# train_selfsup.py of the reference.
PUBLISHED = """
    seed print_freq save_freq save_dir tag resume optimizer epochs learning_rate lr_decay_epochs lr_decay_rate
    weight_decay momentum cosine precision warm warm_epochs dataset data_folder batch_size num_workers img_size
    merge_dataset dataset1 data_folder1 dataset2 data_folder2 model method ema_scheduler initial_ema
    temp_warmup_epochs initial_temp weight_decay_end clip_grad prototypes freeze_prototypes freeze_last_layer
    local_crops_number mask_ratio norm_pix_loss no_sampling sampling_method retrieval_ckpt sampling_ratio
    sampling_times cluster_num stop stop_thresh patience from_ssl_official
"""


@pytest.fixture(scope="module")
def hooks():
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def part(page: str, title: str) -> str:
    found = re.search(rf"^{re.escape(title)}$(.*?)(?=^#|\Z)", page, re.M | re.S)
    assert found, f"no part '{title}'"
    return found.group(1)


def test_every_command_and_flag_is_on_its_page(hooks):
    page = hooks.commands_page()
    for command in COMMANDS:
        text = part(page, f"## simcore {command.name}")
        for action in parser_for(command, [])._actions:
            if action.dest != "help":
                assert all(f"`{flag}`" in text for flag in action.option_strings), action.option_strings


def test_every_setting_of_every_strategy_is_on_its_page(hooks):
    page = hooks.strategies_page()
    for package in hooks.PACKAGES:
        title = hooks.PACKAGES[package][0]
        room = page[page.index(f"\n## {title}\n") :]
        for name in registry.names(package):
            text = part(room, f"### {name}")
            for field in fields_of(registry.find(package, name)):
                assert f"| `{field.flag}` | " in text
                assert field.help.split("|")[0].split("<")[0] in text


def table_of(anchor: str) -> list[list[str]]:
    text = (ROOT / "docs" / "flags.md").read_text()
    found = re.search(rf"\{{#{anchor}\}}$(.*?)(?=^## |\Z)", text, re.M | re.S)
    rows = [line.strip("|").split("|") for line in found.group(1).splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row] for row in rows]


def test_all_published_flags_of_pretraining_are_mapped_once():
    named = [flag for row in table_of("selfsup") for flag in re.findall(r"`--(\w+)`", row[0])]
    assert sorted(named) == sorted(PUBLISHED.split())
    assert len(named) == 51


def known_flags() -> set[str]:
    known = set()
    for command in COMMANDS:
        chosen = [name for package in command.strategies for name in registry.names(package)]
        for words in [
            [],
            *([flag, name] for flag in ("--selector", "--method") for name in chosen),
            *([n] for n in chosen),
        ]:
            if words and words[0] in ("--selector", "--method"):
                package = {"--selector": "selection", "--method": "methods"}[words[0]]
                if package not in command.strategies:
                    continue
            elif words and command.strategies[0] in ("selection", "methods"):
                continue
            known |= {flag for action in parser_for(command, words)._actions for flag in action.option_strings}
    return known


def test_what_stands_for_a_published_flag_exists():
    known = known_flags()
    anchors = re.findall(r"\{#(\w+)\}", (ROOT / "docs" / "flags.md").read_text())
    assert len(anchors) == 8
    for anchor in anchors:
        for row in table_of(anchor):
            used = re.findall(r"(?<![\w-])--[a-z][\w-]*", row[1])
            assert set(used) <= known, f"{row[0]}: {set(used) - known}"


def test_flags_in_prose_exist():
    known = known_flags() | {"--version", "--completion"}
    foreign = {
        "--head",
        "--port",
        "--address",
        "--disable-usage-stats",
        "--nproc-per-node",
        "--data",
        "--cases",
        "--steps",
    }
    for page in PAGES:
        if page.name in ("flags.md", "evidence.md"):  # of the published code, and of the benchmarks
            continue
        used = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", page.read_text()))
        lost = used - known - foreign
        assert not lost, f"{page.name}: {lost}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere_in_the_repository_too(page, hooks):
    made = {ROOT / "docs" / place for place in hooks.PAGES}
    for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text()):
        place = (page.parent / target).resolve()
        assert place.exists() or place in made, target


def test_the_handbook_builds_with_every_link_checked(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "num-clusters" in (tmp_path / "site" / "reference" / "strategies" / "index.html").read_text()
