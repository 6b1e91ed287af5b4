//! The versioned register on a single server: 6.5840 2026, Lab 2, one test per row, with every
//! engine; and locks that are built on it. (The row that measures memory is in tests/memory.rs.)

mod labs;

use std::{cell::Cell, rc::Rc, time::Duration};

use labs::{Edition, Lab};
use quorate_sim::{PutError, Recorded, World, generic::Row};

/// A row with one server.
fn row(name: &'static str, is_unreliable: bool, test: impl AsyncFn(Lab)) {
    let row = Row { name, servers: 1, is_unreliable, ..Row::default() };
    labs::row(row, Edition::Versions, test);
}

/// The stored value and version.
async fn get(client: &Recorded, key: &str) -> Option<(String, u64)> {
    let found = client.get(key).await?;
    Some((String::from_utf8_lossy(&found.value).into_owned(), found.version.0))
}

/// One client and reliable Put.
#[test]
fn test_reliable_put() {
    row("TestReliablePut", false, async |lab| {
        let client = lab.full();
        assert_eq!(client.put_at("k", "6.5840", 0).await, Ok(()));
        assert_eq!(get(&client, "k").await, Some(("6.5840".to_string(), 1)));
        assert_eq!(client.put_at("k", "6.5840", 0).await, Err(PutError::Version));
        assert_eq!(client.put_at("y", "6.5840", 1).await, Err(PutError::NoKey));
        assert_eq!(get(&client, "y").await, None);
    });
}

/// Many clients racing to put values to the same key.
#[test]
fn test_put_concurrent_reliable() {
    row("TestPutConcurrentReliable", false, async |lab| {
        let racer = Row { name: "racers", clerks: 10, ..Row::default() };
        let race = |me, stop: Rc<Cell<bool>>| {
            let client = lab.full();
            async move {
                let (mut version, mut ok) = (0, 0_u64);
                for n in 0.. {
                    if stop.get() {
                        break;
                    }
                    match client.put_at("k", &format!("{me} {n}"), version).await {
                        Ok(()) => ok += 1,
                        Err(error) => assert_eq!(error, PutError::Version),
                    }
                    version = client.get("k").await.map_or(0, |found| found.version.0);
                }
                ok
            }
        };
        let ok: u64 =
            racer.iterate(&lab.world, Duration::from_secs(1), race).await.into_iter().sum();
        let version = get(&lab.full(), "k").await.map_or(0, |(_, version)| version);
        assert_eq!(version, ok, "one version for each Put that succeeded");
    });
}

/// One client, unreliable network: no Put takes effect twice, and no server remembers enough to
/// hide that it was sent twice.
#[test]
fn test_unreliable_net() {
    row("TestUnreliableNet", true, async |lab| {
        let client = lab.full();
        let mut retried = false;
        for version in 0..100 {
            for again in 0.. {
                match client.put_at("k", &again.to_string(), version).await {
                    Err(PutError::Maybe) => retried = true,
                    put => {
                        let expected = if again == 0 { Ok(()) } else { Err(PutError::Version) };
                        assert_eq!(put, expected, "version {version}, after {again} ErrMaybe");
                        break;
                    }
                }
            }
            assert_eq!(get(&client, "k").await, Some(("0".to_string(), version + 1)));
        }
        assert!(retried, "no Put has ever ended as ErrMaybe");
    });
}

/// A lock: a key that names who holds it, or nobody.
struct Lock {
    client: Recorded,
    world: World,
    key: String,
    me: String,
}

impl Lock {
    fn new(world: &World, client: &Recorded, key: &str) -> Self {
        let me = world.below(u64::MAX).to_string();
        Lock { client: client.clone(), world: world.clone(), key: key.into(), me }
    }

    async fn acquire(&self) {
        loop {
            let (holder, version) = get(&self.client, &self.key).await.unwrap_or_default();
            if holder == self.me {
                // A Put that may have succeeded has.
                return;
            }
            if holder.is_empty() && self.client.put_at(&self.key, &self.me, version).await == Ok(())
            {
                return;
            }
            self.world.sleep_ms(5 + self.world.below(10)).await;
        }
    }

    async fn release(&self) {
        loop {
            let (holder, version) = get(&self.client, &self.key).await.unwrap_or_default();
            // Ours no more: a Put that may have succeeded has.
            if holder != self.me || self.client.put_at(&self.key, "", version).await == Ok(()) {
                return;
            }
        }
    }
}

/// What each client does again and again: takes all locks, in the order given, stays for 10 ms
/// alone, and releases them. Gives how often each has had them.
async fn contend(lab: &Lab, clerks: usize, keys: &'static [&'static str]) {
    let row = Row { name: "contenders", clerks, ..Row::default() };
    let inside = Rc::new(Cell::new(0));
    let work = |_, stop: Rc<Cell<bool>>| {
        let (world, client, inside) = (lab.world.clone(), lab.full(), inside.clone());
        let locks: Vec<Lock> = keys.iter().map(|key| Lock::new(&world, &client, key)).collect();
        async move {
            let mut turns = 0;
            while !stop.get() {
                for lock in &locks {
                    lock.acquire().await;
                }
                inside.set(inside.get() + 1);
                assert_eq!(inside.get(), 1, "two hold one lock");
                world.sleep_ms(10).await;
                assert_eq!(inside.get(), 1, "two hold one lock");
                inside.set(inside.get() - 1);
                for lock in locks.iter().rev() {
                    lock.release().await;
                }
                turns += 1;
            }
            turns
        }
    };
    let turns = row.iterate(&lab.world, Duration::from_secs(2), work).await;
    let total: u64 = turns.iter().sum();
    // All of them have stopped, so nobody waits for ever; and what was released was taken again.
    assert!(total >= 2, "{turns:?} turns in two seconds");
}

macro_rules! lock_rows {
    ($($(#[$doc:meta])* $test:ident: $name:literal, $clerks:literal, $unreliable:literal, $keys:expr;)*) => {$(
        $(#[$doc])*
        #[test]
        fn $test() {
            row($name, $unreliable, async |lab| contend(&lab, $clerks, $keys).await);
        }
    )*};
}

lock_rows! {
    /// One client acquires and releases a lock.
    test_one_client_reliable: "TestOneClientReliable", 1, false, &["l"];
    /// Many clients acquire and release a lock.
    test_many_clients_reliable: "TestManyClientsReliable", 10, false, &["l"];
    /// One client, unreliable network.
    test_one_client_unreliable: "TestOneClientUnreliable", 1, true, &["l"];
    /// Many clients, unreliable network.
    test_many_clients_unreliable: "TestManyClientsUnreliable", 10, true, &["l"];
    /// One client, two locks, one inside the other.
    test_one_client_nested_reliable: "TestOneClientNestedReliable", 1, false, &["l1", "l2"];
    /// Many clients, two locks.
    test_many_clients_nested_reliable: "TestManyClientsNestedReliable", 10, false, &["l1", "l2"];
    /// One client, two locks, unreliable network.
    test_one_client_nested_unreliable: "TestOneClientNestedUnreliable", 1, true, &["l1", "l2"];
    /// Many clients, two locks, unreliable network.
    test_many_clients_nested_unreliable: "TestManyClientsNestedUnreliable", 10, true, &["l1", "l2"];
}
