"""The container file installs as README.md says, step by step; the steps are carried out here, without an
engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).parents[2]
VENV = "/opt/p2psync/venv"
ACTIVATE = ". venv/bin/activate"
LIBRARIES = f"export PYTHONPATH={Path(click.__path__[0]).parent}"


def instructions() -> list[tuple[str, str]]:
    """The container file as (word, rest) pairs, comments and line breaks taken out."""
    text = (ROOT / "bootstrap" / "Containerfile").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    made = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [(word, " ".join(rest.split())) for word, rest in made]


def stages() -> list[list[tuple[str, str]]]:
    made: list[list[tuple[str, str]]] = []
    for word, rest in instructions():
        if word == "FROM":
            made.append([])
        made[-1].append((word, rest))
    return made


def steps_of_the_container() -> list[str]:
    """What the first stage runs, as somebody would type it."""
    steps = []
    for word, rest in stages()[0]:
        if word == "RUN":
            steps.append(rest)
        elif word == "ENV" and rest.startswith(f"PATH={VENV}/bin:"):
            steps.append(ACTIVATE)
    return steps


def steps_of_the_readme() -> list[str]:
    """The first block of commands in README.md."""
    found = re.search(
        r"^## Two minutes$.*?\n\n((?:    [^\n]*\n)+)", (ROOT / "README.md").read_text(), re.M | re.S
    )
    assert found is not None
    return [line.split("#")[0].strip() for line in found[1].splitlines()]


def copy(source: Path, target: Path) -> None:
    """As COPY does: a folder's content into a folder, a file into one."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def test_the_steps_are_those_of_the_readme() -> None:
    assert steps_of_the_container() == steps_of_the_readme()
    assert steps_of_the_readme()[0].startswith("python3 -m venv")


def test_the_steps_install_a_program_that_runs(tmp_path: Path) -> None:
    """Each COPY, then each RUN in the directory of WORKDIR, as an engine would, with the activated PATH."""
    work = tmp_path / "work"
    work.mkdir()
    for word, rest in stages()[0]:
        if word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                copy(ROOT / source, work / target)
    # The libraries are those of these tests: that pip finds them was shown when it made their environment.
    steps = [
        f"{step} --no-deps" if step.startswith("pip install") else step for step in steps_of_the_container()
    ]
    assert steps != steps_of_the_container()
    installed = 'python -c "import p2psync; print(p2psync.__path__[0])"'
    script = "\n".join(["set -e", *steps, LIBRARIES, installed, "p2psync --version"])
    # The modules are compiled when they are used; here, few of them are.
    env = os.environ | {"PIP_NO_COMPILE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    env.pop("PYTHONPATH", None)
    done = subprocess.run(
        ["sh", "-c", script], cwd=work, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode and "ensurepip" in done.stdout + done.stderr:
        pytest.fail("this python3 makes no venv with pip: apt-get install python3-venv")
    assert done.returncode == 0, done.stdout + done.stderr
    *_, package, version = done.stdout.splitlines()
    assert Path(package).is_relative_to(work / "venv")
    assert re.fullmatch(r"p2psync \d+\.\d+\.\d+", version)


def test_the_image_runs_what_was_built_where_it_was_built() -> None:
    build, final = stages()
    assert ("WORKDIR", VENV.rpartition("/")[0]) in build
    assert ("COPY", f"--from=build {VENV} {VENV}") in final
    assert build[0][1].split()[0] == final[0][1].split()[0], "a venv belongs to its interpreter"
    # useradd lies in a directory of its own.
    paths = [rest for word, rest in build + final if word == "ENV" and rest.startswith("PATH=")]
    assert paths == [f"PATH={VENV}/bin:$PATH"] * 2
    assert dict(final)["USER"] == "p2psync"
    assert dict(final)["VOLUME"] == dict(e.split("=", 1) for w, e in final if w == "ENV")["STATE_DIRECTORY"]


def test_the_command_is_one_that_the_program_takes() -> None:
    from p2psync.cli.app import program

    final = dict(stages()[1])
    assert json.loads(final["ENTRYPOINT"]) == ["p2psync"]
    name, *words = json.loads(final["CMD"])
    command = program.get_command(None, name)  # type: ignore[arg-type]  # commands are found without a context
    assert command is not None
    context = command.make_context(name, [*words, "--config", "/dev/null"])
    assert context.params["role"] == "bootstrap"
    exposed = final["EXPOSE"].split()
    assert exposed == [f"{context.params['listen'].port}/{kind}" for kind in ("udp", "tcp")]
    host, port = context.params["metrics"]
    assert f"http://{host}:{port}/health" in final["HEALTHCHECK"]


def test_comments_about_arguments_name_options_that_exist() -> None:
    from p2psync.cli.app import program

    text = (ROOT / "bootstrap" / "Containerfile").read_text()
    command = program.get_command(None, "mirror")  # type: ignore[arg-type]  # as above
    assert command is not None
    known = {name for param in command.params for name in param.opts}
    (line,) = re.findall(r"#\s+(mirror p2psync://.*)", text)
    assert set(re.findall(r"--[a-z-]+", line)) <= known
    # The health check of the image asks a mirror too.
    (metrics,) = re.findall(r"--metrics (\S+)", line)
    assert f"http://{metrics}/health" in dict(stages()[1])["HEALTHCHECK"]
