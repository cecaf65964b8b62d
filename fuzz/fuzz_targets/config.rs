//! The configuration: any text is settings that can be used, or an error that says what is wrong.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(error) = bowline::fuzzing::configuration(text) {
        assert!(!error.trim().is_empty(), "an error without a word");
    }
});
