"""`graph show`: draws an item and its neighbours."""

from jobs.cli.cli import main


def test_an_item_and_its_neighbours_are_drawn(shop, popular_items, tmp_path, capsys):
    page, gexf = tmp_path / "ego.html", tmp_path / "ego.gexf"
    arguments = ["--workspace", str(shop.workspace), "--output", str(page), "--gexf", str(gexf)]
    assert main(["graph", "show", popular_items[0], *arguments]) == 0
    assert page.read_text().startswith("<!doctype html>")
    assert gexf.exists()
    assert main(["graph", "show", "nobody", *arguments]) == 2
    assert "'nobody'" in capsys.readouterr().err
    assert main(["graph", "show", popular_items[0], *arguments, "--gexf", str(tmp_path)]) == 2
    assert f"--gexf {tmp_path} cannot be used" in capsys.readouterr().err
