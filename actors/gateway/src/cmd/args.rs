//! Arguments of a request, checked as they are taken.

use bytes::Bytes;
use quorate_kvserver::{KEY_BYTES_MAX, Key, VALUE_BYTES_MAX, canonical_i64};

use super::{Call, error};
use crate::resp::Value;

/// Most bytes that the keys and values of one operation may have together. It is one command in the
/// log, however many keys it has.
pub(crate) const OP_BYTES_MAX: usize = KEY_BYTES_MAX + VALUE_BYTES_MAX;

impl Call<'_> {
    /// How many arguments there are, the command's name among them.
    pub(super) fn len(&self) -> usize {
        self.args.len()
    }

    /// Looks at an argument that the arity promises.
    pub(super) fn arg(&self, at: usize) -> &[u8] {
        self.args.get(at).map_or(&[], |arg| arg)
    }

    /// Whether an argument is this word, in letters of any case.
    pub(super) fn is(&self, at: usize, word: &str) -> bool {
        self.arg(at).eq_ignore_ascii_case(word.as_bytes())
    }

    /// Takes any argument.
    pub(super) fn take(&mut self, at: usize) -> Bytes {
        self.args.get_mut(at).map(std::mem::take).unwrap_or_default()
    }

    /// Takes a key.
    pub(super) fn key(&mut self, at: usize) -> Result<Key, Value> {
        let key = self.take(at);
        if key.len() > KEY_BYTES_MAX {
            return Err(Value::error(format!("ERR key exceeds {KEY_BYTES_MAX} bytes")));
        }
        Ok(key)
    }

    /// Takes a value.
    pub(super) fn value(&mut self, at: usize) -> Result<Bytes, Value> {
        let value = self.take(at);
        if value.len() > VALUE_BYTES_MAX {
            return Err(error::fixed(error::STRING_TOO_LONG));
        }
        Ok(value)
    }

    /// Takes all arguments from a place on as keys.
    pub(super) fn keys_from(&mut self, first: usize) -> Result<Vec<Key>, Value> {
        self.check_total(first)?;
        (first..self.len()).map(|at| self.key(at)).collect()
    }

    /// Refuses an operation whose keys and values are too long together.
    pub(super) fn check_total(&self, first: usize) -> Result<(), Value> {
        let total: usize = self.args.iter().skip(first).map(Bytes::len).sum();
        if total > OP_BYTES_MAX {
            return Err(Value::error(format!(
                "ERR the keys and values of one command exceed {OP_BYTES_MAX} bytes together"
            )));
        }
        Ok(())
    }

    /// Reads an integer, in the one form that Redis accepts.
    pub(super) fn integer(&self, at: usize) -> Result<i64, Value> {
        canonical_i64(self.arg(at)).ok_or(error::fixed(error::NOT_AN_INTEGER))
    }
}
