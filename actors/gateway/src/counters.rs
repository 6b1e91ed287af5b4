//! What has happened at the gateway since its node began.

/// The fields of INFO for the first words of all errors that are answered.
const FIELDS: [&str; 11] = [
    "errorstat_CLUSTERDOWN",
    "errorstat_CROSSSLOT",
    "errorstat_ERR",
    "errorstat_INDETERMINATE",
    "errorstat_LOADING",
    "errorstat_MOVED",
    "errorstat_NOKEY",
    "errorstat_NOPROTO",
    "errorstat_TRYAGAIN",
    "errorstat_VERSION",
    "errorstat_WRONGPASS",
];

/// Where `ERR` stands, the word of all that has no word of its own.
const OTHER: usize = 2;
const MOVED: usize = 5;

/// Errors that were answered, by their first words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errors([u64; FIELDS.len()]);

impl Errors {
    /// Counts one, by its text.
    pub(crate) fn add(&mut self, text: &[u8]) {
        let word = text.split(|byte| *byte == b' ').next().unwrap_or_default();
        let is = |field: &&str| field.as_bytes().strip_prefix(b"errorstat_") == Some(word);
        let place = FIELDS.iter().position(is);
        debug_assert!(place.is_some(), "{}", text.escape_ascii());
        self.0[place.unwrap_or(OTHER)] += 1;
    }

    /// What has been counted since an earlier moment is added to `sum`.
    pub(crate) fn add_since(&self, earlier: &Errors, sum: &mut Errors) {
        for ((sum, now), then) in sum.0.iter_mut().zip(self.0).zip(earlier.0) {
            *sum += now - then;
        }
    }

    /// Each word that was answered, as INFO names it, and how often.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        FIELDS.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }

    /// How many clients were sent elsewhere.
    pub fn moved(&self) -> u64 {
        self.0[MOVED]
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// What has happened at the gateway since the node began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections that are open now.
    pub clients: u64,
    /// Connections that were accepted.
    pub connections: u64,
    /// Connections that were refused.
    pub rejected: u64,
    /// Commands that were answered.
    pub commands: u64,
    /// Errors among the answers.
    pub errors: Errors,
    /// Bytes read.
    pub input_bytes: u64,
    /// Bytes written.
    pub output_bytes: u64,
}
