"""redis-py's RedisCluster against a cluster: python cluster_client.py always|never PORT...

Prints as JSON how many errors of which kind the nodes have answered meanwhile.
"""

import json
import sys

from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import ClusterCrossSlotError, RedisClusterException

KEYS = [f"py:{number}" for number in range(200)]


def client(ports, **options):
    nodes = [ClusterNode("127.0.0.1", port) for port in ports]
    return RedisCluster(startup_nodes=nodes, **options)


def errors(cluster):
    """Errors answered by all nodes, by their first words."""
    total = {}
    for node in cluster.get_nodes():
        fields = cluster.info("errorstats", target_nodes=node)
        for field, value in fields.items():
            word = field.removeprefix("errorstat_")
            total[word] = total.get(word, 0) + value["count"]
    return total


def several_slots(cluster):
    """What the client divides by slot itself."""
    pairs = {key: f"v{key}" for key in KEYS}
    assert cluster.mset_nonatomic(pairs)
    expected = [value.encode() for value in pairs.values()]
    assert cluster.mget_nonatomic(KEYS) == expected
    assert [cluster.get(key) for key in KEYS] == expected
    assert cluster.exists(*KEYS, "py:absent") == len(KEYS)
    assert cluster.delete(*KEYS[:50], "py:absent") == 50
    assert cluster.mget_nonatomic(KEYS[:51]) == [None] * 50 + [expected[50]]
    assert cluster.mset({"{py}1": "a", "{py}2": "b"}), "one slot: the client sends it whole"
    assert cluster.mget("{py}1", "{py}2", "{py}3") == [b"a", b"b", None]
    try:
        cluster.mget("py:60", "py:61")
        raise AssertionError("the client itself divides no MGET")
    except RedisClusterException as error:
        assert "same key slot" in str(error), error


def pipeline(cluster):
    with cluster.pipeline() as pipe:
        for key in KEYS:
            pipe.set(key, 0)
            pipe.incr(key)
            pipe.get(key)
        answers = pipe.execute()
    assert answers == [True, 1, b"1"] * len(KEYS), answers


def cluster_commands(cluster):
    slot = cluster.keyslot("{py}1")
    assert cluster.cluster_countkeysinslot(slot) == 2
    info = cluster.cluster_info(target_nodes=RedisCluster.RANDOM)
    assert info["cluster_state"] == "ok", info
    assert info["cluster_slots_ok"] == "16384", info
    nodes = cluster.cluster_nodes()
    assert len(nodes) == len(cluster.get_nodes()), nodes


def wrong_node(cluster, redirect):
    """Each key asked of each node: the answer is right, wherever it comes from."""
    for node in cluster.get_nodes():
        for key in KEYS[:20]:
            assert cluster.execute_command("GET", key, target_nodes=node) == b"1", (node, key)
        ask = ("MGET", KEYS[0], KEYS[1])
        if redirect == "never":
            assert cluster.execute_command(*ask, target_nodes=node) == [b"1", b"1"]
        else:
            try:
                cluster.execute_command(*ask, target_nodes=node)
                raise AssertionError("two slots in one command")
            except ClusterCrossSlotError as error:
                assert str(error) == "Keys in request don't hash to the same slot", error


def main(redirect, ports):
    begin = errors(client(ports))
    for protocol in (2, 3):
        cluster = client(ports, protocol=protocol)
        assert len(cluster.get_nodes()) == len(ports)
        several_slots(cluster)
        pipeline(cluster)
        cluster_commands(cluster)
        wrong_node(cluster, redirect)
        cluster.close()
    replicas = client(ports, read_from_replicas=True)
    before = errors(replicas)
    assert [replicas.get(key) for key in KEYS] == [b"1"] * len(KEYS)
    assert errors(replicas) == before, "replicas answer reads after READONLY"
    print(json.dumps({word: n - begin.get(word, 0) for word, n in errors(replicas).items()}))


if __name__ == "__main__":
    main(sys.argv[1], [int(port) for port in sys.argv[2:]])
