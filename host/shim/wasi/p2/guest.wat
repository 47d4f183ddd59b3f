;; A command with what the tests of p2 need at hand. They put in what its entry does, and a path.
(component
  (import "wasi:cli/exit@0.2.0" (instance $exit
    (export "exit-with-code" (func (param "status-code" u8)))))
  (import "wasi:io/error@0.2.0" (instance $error (export "error" (type (sub resource)))))
  (alias export $error "error" (type $error-type))
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
  (alias export $poll "pollable" (type $pollable-type))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "input-stream" (type $in (sub resource)))
    (alias outer 1 $error-type (type $outer-error))
    (export "error" (type $e (eq $outer-error)))
    (type $stream-error (variant (case "last-operation-failed" (own $e)) (case "closed")))
    (export "stream-error" (type $se (eq $stream-error)))
    (export "[method]input-stream.blocking-read" (func
      (param "self" (borrow $in)) (param "len" u64) (result (result (list u8) (error $se)))))))
  (alias export $streams "input-stream" (type $in-type))
  (import "wasi:cli/stdin@0.2.0" (instance $stdin
    (alias outer 1 $in-type (type $outer-in))
    (export "input-stream" (type $in (eq $outer-in)))
    (export "get-stdin" (func (result (own $in))))))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $pollable-type (type $outer-pollable))
    (export "pollable" (type $p (eq $outer-pollable)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
  (import "wasi:filesystem/types@0.2.0" (instance $files
    (export "descriptor" (type $d (sub resource)))
    (type $codes (enum "access" "would-block" "already" "bad-descriptor" "busy" "deadlock" "quota"
      "exist" "file-too-large" "illegal-byte-sequence" "in-progress" "interrupted" "invalid" "io"
      "is-directory" "loop" "too-many-links" "message-size" "name-too-long" "no-device" "no-entry"
      "no-lock" "insufficient-memory" "insufficient-space" "not-directory" "not-empty"
      "not-recoverable" "unsupported" "no-tty" "no-such-device" "overflow" "not-permitted" "pipe"
      "read-only" "invalid-seek" "text-file-busy" "cross-device"))
    (export "error-code" (type $code (eq $codes)))
    (type $path-flags' (flags "symlink-follow"))
    (export "path-flags" (type $path-flags (eq $path-flags')))
    (type $open-flags' (flags "create" "directory" "exclusive" "truncate"))
    (export "open-flags" (type $open-flags (eq $open-flags')))
    (type $flags' (flags "read" "write" "file-integrity-sync" "data-integrity-sync"
      "requested-write-sync" "mutate-directory"))
    (export "descriptor-flags" (type $flags (eq $flags')))
    (export "[method]descriptor.open-at" (func (param "self" (borrow $d))
      (param "path-flags" $path-flags) (param "path" string) (param "open-flags" $open-flags)
      (param "flags" $flags) (result (result (own $d) (error $code)))))))
  (alias export $files "descriptor" (type $descriptor-type))
  (import "wasi:filesystem/preopens@0.2.0" (instance $preopens
    (alias outer 1 $descriptor-type (type $outer-descriptor))
    (export "descriptor" (type $d (eq $outer-descriptor)))
    (export "get-directories" (func (result (list (tuple (own $d) string)))))))
  (core module $memory-module
    (memory (export "memory") 2)
    (global $next (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (global.set $next (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      global.get $next
      (global.set $next (i32.add (global.get $next) (local.get 3)))))
  (core instance $memory (instantiate $memory-module))
  (core func $exit-core (canon lower (func $exit "exit-with-code")))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  (core func $read (canon lower (func $streams "[method]input-stream.blocking-read")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core func $get-stdin (canon lower (func $stdin "get-stdin")))
  (core func $after (canon lower (func $clock "subscribe-duration")))
  (core func $open (canon lower (func $files "[method]descriptor.open-at")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core func $dirs (canon lower (func $preopens "get-directories")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core module $guest
    (import "host" "memory" (memory 2))
    (import "host" "exit" (func $exit (param i32)))
    (import "host" "block" (func $block (param i32)))
    (import "host" "read" (func $read (param i32 i64 i32)))
    (import "host" "stdin" (func $stdin (result i32)))
    (import "host" "after" (func $after (param i64) (result i32)))
    (import "host" "open" (func $open (param i32 i32 i32 i32 i32 i32 i32)))
    (import "host" "dirs" (func $dirs (param i32)))
    (data (i32.const 64) "PATH")
    ;; Opens the path from the first folder given; 0, or 100 and the error code.
    (func $try (param $open i32) (param $flags i32) (result i32)
      (call $dirs (i32.const 0))
      (call $open (i32.load (i32.load (i32.const 0))) (i32.const 1) (i32.const 64)
        (i32.const LENGTH) (local.get $open) (local.get $flags) (i32.const 16))
      (if (result i32) (i32.load8_u (i32.const 16))
        (then (i32.add (i32.const 100) (i32.load8_u (i32.const 20))))
        (else (i32.const 0))))
    (func (export "run") (result i32)
      BODY))
  (core instance $instance (instantiate $guest (with "host" (instance
    (export "memory" (memory $memory "memory"))
    (export "exit" (func $exit-core)) (export "block" (func $block)) (export "read" (func $read))
    (export "stdin" (func $get-stdin)) (export "after" (func $after))
    (export "open" (func $open)) (export "dirs" (func $dirs))))))
  (func $run (result (result)) (canon lift (core func $instance "run")))
  (instance $entry (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $entry)))
