"""Loads the plugins of show.plugins as SONiC does (sonic-utilities 691b1bbc, `utilities_common/util_base.py:
UtilHelper.load_and_register_plugins`), and runs `show` with the arguments."""

import importlib
import pkgutil
import sys

import click

sys.path.insert(0, sys.argv[1])
plugins = importlib.import_module("show.plugins")


@click.group()
def cli():
    """SONiC's `show`"""


for _, name, _ in pkgutil.iter_modules(plugins.__path__, plugins.__name__ + "."):
    importlib.import_module(name).register(cli)
cli(sys.argv[2:])
