"""`vlm-ood detectors`: lists the methods, what they need, their parameters and papers."""

from vlm_ood.cli.common import JsonOption, console, print_json


def command(as_json: JsonOption = False) -> None:
    """List the methods, what they need, their parameters and papers."""
    from rich.table import Table

    from vlm_ood.detectors import describe, detector_names

    descriptions = [describe(name) for name in detector_names()]
    if as_json:
        print_json(descriptions)
        return
    table = Table(title="Methods: a higher score is more out of distribution", show_lines=True)
    for column in ("name", "what it measures", "needs (may use)", "parameters", "paper"):
        table.add_column(column, overflow="fold")
    for entry in descriptions:
        properties = entry["parameters"].get("properties", {})
        parameters = "\n".join(f"{name} = {schema.get('default')}" for name, schema in properties.items())
        optional = [f"({part})" for part in entry["uses"]]
        needs = ", ".join(["classes", *entry["needs"], *optional])
        name = f"{entry['name']} (default)" if entry["default"] else entry["name"]
        table.add_row(name, entry["summary"], needs, parameters, entry["paper"])
    console.print(table)
