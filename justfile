# Short names for what is done often. Each recipe is one command that also works without just.

# formatting, lints, all tests; `just test FILTER` runs only some
test *FILTER:
    scripts/test {{FILTER}}

# the long campaigns, with their figures
prove *CAMPAIGN:
    scripts/prove {{CAMPAIGN}}

# a month of billing in seconds, against the sandbox gateway
demo *ARGS:
    cargo run --locked --release -- demo {{ARGS}}

# throughput, punctuality, scale
bench *ARGS:
    cargo bench --locked {{ARGS}}

lint:
    cargo clippy --all-targets --locked -- -D warnings
    cargo deny check

fmt:
    cargo fmt
