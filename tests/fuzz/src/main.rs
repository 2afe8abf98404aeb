//! libFuzzer's end: one program for all targets. FLOWSLUICE_FUZZ_TARGET names the target.

#![no_main]

use std::sync::LazyLock;

use flowsluice_fuzz::{Target, make};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FLOWSLUICE_FUZZ_TARGET").unwrap_or_default();
    Target::named(&name).unwrap_or_else(|| {
        let names = Target::ALL.map(Target::name).join(", ");
        panic!("FLOWSLUICE_FUZZ_TARGET is '{name}'; allowed: {names}")
    })
});

fuzz_target!(|input: &[u8]| TARGET.hold(input));

// libFuzzer's own mutations change bytes; ours change what an exporter could get wrong.
fuzz_mutator!(
    |input: &mut [u8], size: usize, max_size: usize, seed: u32| {
        match make::mutate(*TARGET, &input[..size], u64::from(seed)) {
            Some(mutated) => {
                let size = mutated.len().min(max_size).min(input.len());
                input[..size].copy_from_slice(&mutated[..size]);
                size
            }
            None => fuzzer_mutate(input, size, max_size),
        }
    }
);
