# The commands of this project. `cargo install just`, or `pipx install rust-just`; CONTRIBUTING.md says what each is for.

# Lists the recipes.
_list:
    @just --list --unsorted

# Formatting, lints, core's tests, the layers and the documentation: without root, in under a minute once the dependencies are
# built.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo test --package leafboot-core --locked
    cargo test --locked --test layers --test docs --test settings_doc

# What CI runs: everything. Needs Debian 12 and root, and installs the packages that are missing.
test:
    tests/run

# A machine boots on this computer, stage by stage. Needs Debian 12 and root.
demo *args:
    tests/lab/demo {{ args }}

# Measures: `just bench`, `just bench relay`, `just bench ra flood`. Needs Debian 12, root and an idle computer.
bench which="" *parts:
    {{ if which == "" { "tests/bench/sonic && tests/bench/ra && tests/bench/relay" } else { "tests/bench/" + which + " " + parts } }}

# Fuzzes: frame (what comes in on a port) or request (a request's head). Needs a nightly compiler and cargo-fuzz.
fuzz target="frame" *args:
    cargo +nightly fuzz run {{ target }} {{ args }}

# Licences, duplicates and sources of all dependencies. Needs cargo-deny.
deny:
    cargo deny check licenses bans sources
