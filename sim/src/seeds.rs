//! Which seeds a test runs with.

use std::env;

/// The seeds of a test: `QUORATE_SEED=n` gives that one, `QUORATE_SEEDS=k` the first k, otherwise
/// the first `few`.
pub fn seeds(few: u64) -> Vec<u64> {
    let number = |name: &str| {
        let text = env::var(name).ok()?;
        match text.parse::<u64>() {
            Ok(number) => Some(number),
            Err(_) => panic!("{name}={text}: write a whole number"),
        }
    };
    match (number("QUORATE_SEED"), number("QUORATE_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, Some(count)) => (1..=count).collect(),
        (None, None) => (1..=few).collect(),
    }
}

/// Runs a test with each of its seeds, and names the seed of a failure.
///
/// # Panics
/// When the test does, after saying how to replay it.
pub fn for_each_seed(name: &str, few: u64, mut test: impl FnMut(u64)) {
    struct Say<'a>(&'a str, u64);
    impl Drop for Say<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!(
                    "{}: failed with seed {}; replay with QUORATE_SEED={}",
                    self.0, self.1, self.1
                );
            }
        }
    }
    for seed in seeds(few) {
        let _say = Say(name, seed);
        test(seed);
    }
}
