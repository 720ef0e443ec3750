"""`lenet info`."""

import click

from lenet.commands.options import debug_option


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
@debug_option
def info(as_json: bool) -> None:
    """Show versions, machine and backends: what a bug report needs."""
    import json

    from lenet.info import collect
    from lenet.terminal import aligned

    found = collect()
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo("\n\n".join(f"{section}\n{aligned(rows)}" for section, rows in found.items()))
