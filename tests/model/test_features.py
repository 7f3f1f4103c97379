"""How the items table becomes features: levels, values, buckets, titles and embeddings, and what is refused."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from model.artefact import load_model, save_model
from model.config import FeatureConfig, ModelConfig
from model.errors import ModelInputError
from model.features import FeatureMatrix, FittedFeatures, fit_features
from model.titles import title_grams
from model.trained import Trained


def items_table(n: int, **columns: Any) -> pa.Table:
    return pa.table({"item_id": [f"i{i}" for i in range(n)], **columns})


def transform(features: FittedFeatures, items: pa.Table, ids: list[str] | None = None) -> FeatureMatrix:
    """Transform without any id column, so that the sparse block contains the features only."""
    order = pa.array(ids or items["item_id"].to_pylist())
    return features.transform(items, order, np.zeros(len(order), np.bool_))


def fit(items: pa.Table, **config: Any) -> tuple[FittedFeatures, NDArray[np.float32]]:
    features = fit_features(items, FeatureConfig(**config))
    return features, transform(features, items).sparse.toarray()


def cosines(block: NDArray[Any]) -> NDArray[Any]:
    unit = block / np.linalg.norm(block, axis=1, keepdims=True)
    return np.asarray(unit @ unit.T)


def test_a_category_path_counts_as_each_of_its_prefixes() -> None:
    items = items_table(4, category=["home > lamps > desk", "home > lamps", "home", None])
    features, matrix = fit(items, min_level_count=1)
    assert features.vocabularies[0].values == ("home", "home > lamps", "home > lamps > desk")
    assert matrix.tolist() == [[1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0]]


def test_equal_level_names_under_different_parents_stay_apart() -> None:
    features, matrix = fit(items_table(2, category=["men > shoes", "women > shoes"]), min_level_count=1)
    assert features.vocabularies[0].values == ("men", "men > shoes", "women", "women > shoes")
    assert (matrix @ matrix.T).tolist() == [[2, 0], [0, 2]]


def test_levels_rarer_than_configured_are_left_out() -> None:
    _, matrix = fit(items_table(3, category=["a > x", "a > y", "a > y"]), min_level_count=2)
    assert matrix.tolist() == [[1, 0], [1, 1], [1, 1]]


def test_a_brand_is_one_column_and_is_not_split() -> None:
    features, matrix = fit(items_table(4, brand=["A > B", "C", "A > B", None]), min_level_count=1)
    assert features.vocabularies[0].values == ("A > B", "C")
    assert matrix.tolist() == [[1, 0], [0, 1], [1, 0], [0, 0]]


def test_prices_fall_into_quantile_buckets_of_equal_size() -> None:
    prices = [float(p) for p in range(8)]
    _, matrix = fit(items_table(8, price=prices), price_buckets=4)
    assert matrix.sum(axis=0).tolist() == [2, 2, 2, 2]
    assert matrix.argmax(axis=1).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_price_that_is_null_or_not_finite_has_no_bucket_and_moves_no_bound() -> None:
    clean = fit_features(items_table(3, price=[-1.0, 2.0, 5.0]), FeatureConfig(price_buckets=2))
    items = items_table(6, price=[-1.0, None, 2.0, math.nan, 5.0, math.inf])
    features, matrix = fit(items, price_buckets=2)
    assert features.vocabularies == clean.vocabularies
    assert matrix.sum(axis=1).tolist() == [1, 0, 1, 0, 1, 0]


def test_a_price_on_a_bound_belongs_to_the_bucket_above() -> None:
    features, matrix = fit(items_table(5, price=[0, 1, 2, 3, 4]), price_buckets=2)
    assert features.vocabularies[0].bounds == (2.0,)
    assert matrix.argmax(axis=1).tolist() == [0, 0, 1, 1, 1]


def test_repeated_prices_make_fewer_buckets() -> None:
    features, matrix = fit(items_table(10, price=[3.0] * 9 + [7.0]), price_buckets=4)
    assert features.vocabularies[0].bounds == (3.0,)
    assert matrix.shape == (10, 2)


def test_levels_values_and_prices_unseen_in_fitting_are_nothing_or_the_outermost_bucket() -> None:
    features, _ = fit(
        items_table(2, category=["a > b", "a > c"], brand=["x", "y"], price=[1.0, 2.0]),
        min_level_count=1,
        price_buckets=2,
    )
    new = items_table(2, category=["a > new", "z"], brand=["z", None], price=[-100.0, 100.0])
    # columns: a, a > b, a > c | x, y | low, high
    assert transform(features, new).sparse.toarray().tolist() == [[1, 0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0, 1]]


def test_ids_come_first_and_only_for_items_that_have_one() -> None:
    items = items_table(3, brand=["x", "x", "y"])
    features = fit_features(items, FeatureConfig(min_level_count=1))
    matrix = features.transform(items, items["item_id"].combine_chunks(), np.array([True, False, True]))
    assert matrix.num_ids == 2
    assert matrix.sparse.toarray().tolist() == [[1, 0, 1, 0], [0, 0, 1, 0], [0, 1, 0, 1]]


def test_rows_follow_the_ids_not_the_table_and_an_item_absent_from_the_catalogue_has_no_features() -> None:
    items = items_table(
        3,
        category=["a", "b", "b"],
        price=[1.0, 2.0, 3.0],
        title=["red shoe", "blue hat", "green hat"],
        embedding=pa.array([[3.0, 4.0], [1.0, 0.0], None], pa.list_(pa.float32())),
    )
    features = fit_features(items, FeatureConfig(min_level_count=1))
    straight = transform(features, items)
    matrix = transform(features, items, ["i2", "stranger", "i0"])
    expected, actual = (np.hstack([f.sparse.toarray(), f.dense]) for f in (straight, matrix))
    np.testing.assert_allclose(actual[[0, 2]], expected[[2, 0]], rtol=1e-5, atol=1e-6)
    assert not actual[1].any()


def test_title_grams_are_hashed_by_crc32_the_same_everywhere() -> None:
    grams = title_grams(pa.chunked_array([["Red  SHOE red", None, ""]]), bits=20).toarray()
    golden = {"red": 0xFA615F8F, "shoe": 0xC1B7A849, "red shoe": 0xE08E3FDB, "shoe red": 0xF2C62789}
    expected = {value & 0xFFFFF for value in golden.values()}
    assert set(grams[0].nonzero()[0].tolist()) == expected
    assert grams[0].max() == 1, "a repeated word counts once"
    assert not grams[1:].any()


def test_title_vectors_keep_the_inner_products_of_tf_idf_when_the_rank_allows() -> None:
    """The matrix of twelve titles has at most rank 12: a basis of 12 loses nothing, and one of 2 loses something."""
    rng = np.random.default_rng(0)
    words = ["lamp", "chair", "oak", "steel", "small"]
    titles = [" ".join(rng.permutation(words)[: rng.integers(1, 4)]) for _ in range(12)]
    items = items_table(12, title=titles)
    counts = [set(t.split()) | {f"{a} {b}" for a, b in zip(t.split(), t.split()[1:], strict=False)} for t in titles]
    vocabulary = sorted(set().union(*counts))
    frequency = {g: sum(g in c for c in counts) for g in vocabulary}
    tfidf = np.array([[(g in c) * (math.log(13 / (1 + frequency[g])) + 1) for g in vocabulary] for c in counts])
    full = transform(fit_features(items, FeatureConfig(title_dim=12)), items).dense
    small = transform(fit_features(items, FeatureConfig(title_dim=2)), items).dense
    np.testing.assert_allclose(cosines(full), cosines(tfidf), atol=1e-4)
    assert small.shape == (12, 2)
    assert np.abs(cosines(small) - cosines(tfidf)).max() > 0.05


def test_a_title_of_unknown_words_alone_is_no_direction() -> None:
    features = fit_features(items_table(3, title=["a b", "b c", "c d"]), FeatureConfig())
    assert not transform(features, items_table(1, title=["zebra quagga"])).dense.any()


def test_given_embeddings_are_normalised_and_a_missing_one_is_zero() -> None:
    items = items_table(3, embedding=pa.array([None, [3.0, 4.0], [0.0, 0.0]], pa.list_(pa.float64())))
    dense = transform(fit_features(items, FeatureConfig()), items).dense
    assert dense.ravel().tolist() == pytest.approx([0, 0, 0.6, 0.8, 0, 0])
    assert dense.dtype == np.float32


@pytest.mark.parametrize(
    ("embedding", "message"),
    [([[1.0, 2.0], [1.0]], "'i1' has 1;"), ([[1.0, 2.0], [1.0, math.nan]], "'i1' holds a number that is not finite")],
)
def test_a_broken_embedding_is_an_error_that_names_its_item(embedding: list[list[float]], message: str) -> None:
    items = items_table(2, embedding=pa.array(embedding, pa.list_(pa.float32())))
    with pytest.raises(ModelInputError, match=message):
        transform(fit_features(items, FeatureConfig()), items)


def test_configured_columns_are_features_of_their_type() -> None:
    items = items_table(4, colour=["red", "red", None, "blue"], stars=[1, 2, 3, 4], fresh=[True, False, True, None])
    features, matrix = fit(items, columns=("colour", "stars", "fresh"), min_level_count=1, price_buckets=2)
    assert [(v.name, v.kind, v.size) for v in features.vocabularies] == [
        *[("colour", "value", 2), ("stars", "buckets", 2), ("fresh", "value", 2)]
    ]
    assert matrix.tolist() == [[0, 1, 1, 0, 0, 1], [0, 1, 1, 0, 1, 0], [0, 0, 0, 1, 0, 1], [1, 0, 0, 1, 0, 0]]


def test_naming_a_standard_column_again_does_not_count_it_twice() -> None:
    _, matrix = fit(items_table(2, brand=["x", "x"]), columns=("brand",))
    assert matrix.tolist() == [[1], [1]]


def test_a_configured_column_that_is_missing_is_an_error_that_names_it_and_what_is_there() -> None:
    with pytest.raises(ModelInputError, match=r"'colour'.*item_id, brand"):
        fit_features(items_table(1, brand=["x"]), FeatureConfig(columns=("colour",)))


def test_columns_of_nulls_alone_are_no_features() -> None:
    nulls = {
        "category": pa.nulls(2, pa.string()),
        "price": pa.nulls(2, pa.float64()),
        "title": pa.nulls(2, pa.string()),
    }
    items = items_table(2, **nulls, brand=pa.nulls(2), embedding=pa.nulls(2, pa.list_(pa.float32())))
    features = fit_features(items, FeatureConfig())
    matrix = transform(features, items)
    assert matrix.sparse.shape == (2, 0)
    assert matrix.dense.shape == (2, 0)


def test_fitting_reads_no_order() -> None:
    """The same catalogue in another row order and in several chunks gives the same vocabularies."""
    items = items_table(6, category=list("aabbcc"), brand=list("xyxyxy"), price=[5.0, 4.0, 3.0, 2.0, 1.0, 0.0])
    turned = pa.concat_tables([items.slice(3), items.slice(0, 3)])
    config = FeatureConfig(price_buckets=3)
    assert fit_features(items, config).vocabularies == fit_features(turned, config).vocabularies


def test_transform_after_save_and_load_is_the_same(tmp_path: Path, known_model: tuple[Trained, ModelConfig]) -> None:
    items = items_table(
        5,
        category=["a > b", "a > b", "a > c", None, "d"],
        brand=["é", "é", "y", "y", None],
        price=[0.1, 0.2, 0.3, 1e9, None],
        title=["red shoe", "blue shoe", "red hat", None, "grüner hut"],
        embedding=pa.array([[1.0, 2.0], None, [0.1, 0.3], [5.0, 5.0], None], pa.list_(pa.float32())),
    )
    trained, config = known_model
    features = fit_features(items, FeatureConfig(min_level_count=1, price_buckets=3, title_dim=3))
    save_model(tmp_path, dataclasses.replace(trained, features=features), config)
    again = load_model(tmp_path).features
    before, after = transform(features, items), transform(again, items)
    np.testing.assert_array_equal(before.sparse.toarray(), after.sparse.toarray())
    np.testing.assert_array_equal(before.dense, after.dense)
