"""Files of another storage are read by the same rules as local ones."""

from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from graph_build.config import GraphConfig
from tests.graph_build.conftest import check_table, input_error, parquet

URI = "viewfs://lightsage"


@pytest.fixture
def storage(spark: Any, tmp_path: Path) -> Path:
    """Return a folder that Spark and fsspec find under `URI`, like a bucket."""

    class Mounted(LocalFileSystem):
        protocol = "viewfs"

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return str(super()._strip_protocol(path.replace(URI, str(tmp_path))))

    fsspec.register_implementation("viewfs", Mounted, clobber=True)
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()
    hadoop.set("fs.viewfs.mounttable.lightsage.link./ads", (tmp_path / "ads").as_uri())
    return tmp_path


def test_ads_of_another_storage_are_read_with_the_columns_of_their_folders(spark: Any, storage: Path) -> None:
    def ad(ad_id: str) -> dict[str, Any]:
        return {"ad_id": ad_id, "item_id": "i", "campaign_id": "c"}

    for folder in ("status=active", "status=paused/countries=de%3Bfr", "status=on%20hold"):
        (storage / "ads" / folder).mkdir(parents=True)
    parquet(storage / "ads/status=active/a [1].parquet", [ad("1")])
    parquet(storage / "ads/status=paused/countries=de%3Bfr/b.parquet", [ad("2")])
    (storage / "ads/status=on%20hold/c.csv").write_text(",campaign_id,ad_id,item_id\n0,c,3,i\n")
    (storage / "ads/_SUCCESS").touch()
    checked = check_table(spark, "ads", f"{URI}/ads", GraphConfig())
    ads = {row["ad_id"]: (row["status"], row["countries"]) for row in checked.table.collect()}
    assert ads == {"1": ("active", None), "2": ("paused", ["DE", "FR"]), "3": ("on hold", None)}


def test_a_file_of_another_storage_that_cannot_be_read_is_named(storage: Path) -> None:
    (storage / "ads").mkdir()
    (storage / "ads" / "a.csv").write_bytes("ad_id,item_id,campaign_id\nä,i,c\n".encode("latin-1"))
    assert f"{URI}/ads/a.csv: line 2 of ads is not valid UTF-8" in input_error("ads", f"{URI}/ads")
    assert f"{URI}/none: the ads file or folder does not exist" in input_error("ads", f"{URI}/none")
