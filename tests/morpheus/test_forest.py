"""Names, sizes and nodes: what a forest may be called and how many nodes it may have."""

import pytest

from morpheus.errors import InvalidInputError, RefusedError
from morpheus.forest import (
    MAX_NAME,
    Forest,
    Node,
    Ports,
    Size,
    Status,
    check_count,
    check_name,
    size_warning,
    size_word,
)


@pytest.mark.parametrize("name", ["a", "7", "quiet-oak", "a--b", "o" * MAX_NAME, "oak-node-1"])
def test_a_dns_label_can_name_a_forest(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "-oak", "oak-", "Oak", "oak.elm", "oak elm", "eiche_ü", "oak\n", "../oak", "o" * (MAX_NAME + 1)],
)
def test_any_other_name_is_refused_and_the_rule_told(name: str) -> None:
    with pytest.raises(InvalidInputError, match="cannot name a forest: use 1 to 50"):
        check_name(name)


def test_the_name_of_a_node_stays_a_dns_label() -> None:
    longest = Forest("o" * MAX_NAME, used_numbers=tuple(range(1, 1000)))

    assert len(longest.fresh_names(1)[0]) <= 63


@pytest.mark.parametrize(("size", "nodes"), [(Size.SMALL, 1), (Size.MEDIUM, 3), (Size.LARGE, 5)])
def test_each_size_is_a_number_of_nodes_and_back(size: Size, nodes: int) -> None:
    assert size.nodes == nodes
    assert size_word(nodes) == size


@pytest.mark.parametrize("nodes", [4, 7, 100])
def test_every_other_size_is_custom(nodes: int) -> None:
    assert size_word(nodes) == "custom"


@pytest.mark.parametrize("nodes", [1, 3, 4, 5, 100])
def test_a_possible_number_of_nodes_is_accepted(nodes: int) -> None:
    assert check_count(nodes) == nodes


def test_two_nodes_are_refused_with_the_reason() -> None:
    with pytest.raises(InvalidInputError, match="neither may fail"):
        check_count(2)


@pytest.mark.parametrize("nodes", [-3, 0, 101])
def test_an_impossible_number_of_nodes_is_refused(nodes: int) -> None:
    with pytest.raises(InvalidInputError, match=f"not {nodes}"):
        check_count(nodes)


def test_an_even_size_warns_and_an_odd_one_does_not() -> None:
    assert size_warning(4) == "4 nodes survive no more failures than 3: an odd number is the better choice."
    assert size_warning(5) is None


@pytest.mark.parametrize(
    ("name", "number", "label"),
    [
        ("oak-node-12", 12, "node-12"),
        ("a-node-1-node-3", 3, "node-3"),
        ("oak-node-0", 0, "oak-node-0"),
        ("oak-node-01", 0, "oak-node-01"),
        ("seed", 0, "seed"),
    ],
)
def test_a_node_knows_its_number(name: str, number: int, label: str) -> None:
    assert (Node(name).number, Node(name).label) == (number, label)


def test_a_nodes_ports_stand_in_its_metadata_or_are_the_standard_ones() -> None:
    assert Node("oak-node-1").ports == Ports(4222, 6222, 8222)
    assert Node("oak-node-1", metadata={"client_port": "4300"}).ports == Ports(4300, 6222, 8222)


@pytest.mark.parametrize("text", ["", "many", "-1", "4²"])
def test_a_port_that_is_no_number_is_passed_over(text: str) -> None:
    assert Node("oak-node-1", metadata={"cluster_port": text}).ports == Ports()


def test_fresh_names_follow_every_number_ever_given() -> None:
    forest = Forest("oak", nodes=(Node("oak-node-2"), Node("seed")), used_numbers=(1, 7))

    assert forest.fresh_names(2) == ("oak-node-8", "oak-node-9")
    assert Forest("oak").fresh_names(1) == ("oak-node-1",)


def test_a_removed_nodes_number_stays_used() -> None:
    forest = Forest("oak").with_nodes(Node("oak-node-1"), Node("oak-node-2")).without("oak-node-2")

    assert [node.name for node in forest.nodes] == ["oak-node-1"]
    assert forest.fresh_names(1) == ("oak-node-3",)


def test_the_number_of_a_node_that_another_program_recorded_stays_used() -> None:
    forest = Forest("oak", nodes=(Node("oak-node-5"),)).without("oak-node-5")

    assert forest.fresh_names(1) == ("oak-node-6",)


def test_a_changed_node_keeps_its_place() -> None:
    forest = Forest("oak").with_nodes(Node("oak-node-1"), Node("oak-node-2"))

    forest = forest.with_nodes(Node("oak-node-3"), Node("oak-node-1", "::1"))

    assert [(node.name, node.ip) for node in forest.nodes] == [
        ("oak-node-1", "::1"), ("oak-node-2", None), ("oak-node-3", None)
    ]  # fmt: skip


def test_leaving_nodes_do_not_stay() -> None:
    forest = Forest("oak", nodes=(Node("oak-node-1"), Node("oak-node-2", status=Status.DELETING)))

    assert [node.name for node in forest.staying] == ["oak-node-1"]


@pytest.mark.parametrize("text", ["99999", "65536", "0", "-1", "9" * 5000, "²", "٤٢٢٢", "", "4222 "])
def test_what_is_no_port_is_read_as_the_standard_one(text: str) -> None:
    assert Node("oak-node-1", metadata={"client_port": text}).ports == Ports()


def test_a_number_that_is_too_long_for_a_name_is_none() -> None:
    assert Node("oak-node-9999999").number == 9_999_999
    assert Node("oak-node-10000000").number == 0
    assert Node("oak-node-" + "9" * 5000).number == 0


def test_after_the_last_number_no_name_is_fresh() -> None:
    oak = Forest("oak", nodes=(Node("oak-node-9999998"),))

    assert oak.fresh_names(1) == ("oak-node-9999999",)
    with pytest.raises(RefusedError, match="the last number there is"):
        oak.fresh_names(2)
