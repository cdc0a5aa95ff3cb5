"""`show leafboot`: leafboot's screens in SONiC's command line.

SONiC loads each file of its package show.plugins and calls register() with the root command (sonic-utilities 691b1bbc,
`utilities_common/util_base.py: UtilHelper.load_and_register_plugins`). The directory on the leaf:

    python3 -c 'import show.plugins; print(show.plugins.__path__[0])'

Must never: change anything, or need more than Python's standard library and click.
"""

import shutil
import subprocess
import sys

import click


def run(arguments):
    """Runs leafboot, wherever it is installed, with the terminal as it is. Ends with its exit code."""
    program = ["leafboot"] if shutil.which("leafboot") else ["docker", "exec", "leafboot", "/leafboot"]
    try:
        sys.exit(subprocess.run(program + arguments, check=False).returncode)
    except OSError as error:
        click.echo(f"leafboot: cannot run {program[0]}: {error.strerror}", err=True)
        sys.exit(1)


@click.group()
def leafboot():
    """Show what leafboot knows of the machines that boot"""


@leafboot.command()
@click.argument("ports", nargs=-1, metavar="[PORT]...")
@click.option("--json", "is_json", is_flag=True, help="Print JSON")
def status(ports, is_json):
    """Show each boot port: its machine, its stage, and what is wrong"""
    run(["status"] + (["--json"] if is_json else []) + ["--"] + list(ports))


@leafboot.command()
@click.argument("port")
@click.option("--json", "is_json", is_flag=True, help="Print JSON")
def timeline(port, is_json):
    """Show the last boot attempts on a port"""
    run(["timeline"] + (["--json"] if is_json else []) + ["--", port])


@leafboot.command()
@click.argument("reason")
def explain(reason):
    """Show what a verdict means, and its cure"""
    run(["explain", "--", reason])


def register(cli):
    """Adds the command to SONiC's root command."""
    if leafboot.name in cli.commands:
        raise Exception(f"{leafboot.name} already exists in CLI")
    cli.add_command(leafboot)
