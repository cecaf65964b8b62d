//! Says which map of the board's memory the linker takes: that of the HAL.

fn main() {
    println!("cargo::rustc-link-arg-bins=-Tlinkall.x");
}
