//! `bowline`: the one binary. See `bowline --help`.

fn main() -> std::process::ExitCode {
    bowline::main()
}
