/// Names the kinds of a message enum: `kinds!(Message { Prepare, Accept })`. The match is complete,
/// so a variant cannot be forgotten.
#[macro_export]
macro_rules! kinds {
    ($message:ty { $($kind:ident),+ $(,)? }) => {
        impl $crate::Message for $message {
            const KINDS: &'static [&'static str] = &[$(stringify!($kind)),+];

            fn kind(&self) -> usize {
                #[derive(Clone, Copy)]
                enum Kind { $($kind),+ }
                let kind = match self { $(Self::$kind { .. } => Kind::$kind),+ };
                kind as usize
            }
        }
    };
}
