//! The program. Everything it does is in the library; see `cli`.

fn main() -> std::process::ExitCode {
    trullo::cli::run(std::env::args_os())
}
