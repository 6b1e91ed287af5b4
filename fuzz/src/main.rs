//! libFuzzer against the decoder that this binary is named after, see docs/testing.md.

#![no_main]

#[path = "../../tests/damage/mod.rs"]
mod damage;
#[path = "../../tests/decoders/mod.rs"]
mod decoders;

use std::cell::OnceCell;

use damage::Target;

thread_local! {
    static TARGET: OnceCell<Target> = const { OnceCell::new() };
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    TARGET.with(|target| {
        let name = env!("CARGO_BIN_NAME");
        let target = target.get_or_init(|| decoders::target(name).expect("a binary for each"));
        // The same input draws the same; FNV-1a.
        let mix = |h: u64, b: &u8| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
        let seed = input.iter().fold(0xcbf2_9ce4_8422_2325, mix);
        if let Err(wrong) = target.try_input(input, seed) {
            panic!("{wrong}");
        }
    });
});
