//! Guests of a few lines, one behaviour each.

/// Writes "hello" and a newline to standard output.
pub const HELLO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\08\00\00\00\06\00\00\00hello\n")
  (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))))"#;

/// Writes its arguments, a NUL after each, to standard output.
pub const ARGUMENTS: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (call $sizes (i32.const 8) (i32.const 4)))
    (drop (call $args (i32.const 1024) (i32.const 4096)))
    (i32.store (i32.const 0) (i32.const 4096))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))))"#;

/// Ends with code 3.
pub const EXIT_3: &str = r#"(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (call $exit (i32.const 3))))"#;

/// Runs for ever without a call.
pub const SPIN: &str = r#"(module (memory (export "memory") 1)
  (func (export "_start") (loop $again (br $again))))"#;

/// Waits an hour on the monotonic clock, unless it has an argument besides its name: then it
/// writes "hi" and ends.
pub const WAIT: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 200) "hi\n")
  (func (export "_start")
    (drop (call $sizes (i32.const 8) (i32.const 4)))
    (if (i32.gt_u (i32.load (i32.const 8)) (i32.const 1))
      (then
        (i32.store (i32.const 0) (i32.const 200))
        (i32.store (i32.const 4) (i32.const 3))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
        (return)))
    (i32.store (i32.const 80) (i32.const 1))
    (i64.store (i32.const 88) (i64.const 3600000000000))
    (drop (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 192)))))"#;

pub const TRAP: &str = r#"(module (memory (export "memory") 1)
  (func $inner unreachable) (func (export "_start") (call $inner)))"#;

/// Takes memory until it may not.
pub const HOG: &str = r#"(module (memory (export "memory") 1)
  (func (export "_start")
    (loop $more (drop (memory.grow (i32.const 16))) (br $more))))"#;

pub const MISSING_IMPORT: &str = r#"(module
  (import "env" "nowhere" (func $nowhere)) (memory (export "memory") 1)
  (func (export "_start") (call $nowhere)))"#;
