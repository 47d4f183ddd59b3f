//! What the shell does, on the build machine.

use super::Shell;
use super::parser::{Fault, Parser};
use crate::stream::Stream;

/// Exit status, standard output, standard error.
fn run(script: &str) -> (u8, String, String) {
    let (out, errors) = (Stream::memory(), Stream::memory());
    let environment = [("HOME".to_owned(), "/home/me".to_owned())];
    let streams = [Stream::Null, out.clone(), errors.clone()];
    let mut shell = Shell::new("sh", streams, "/tmp", &environment);
    shell.arguments = vec!["one".to_owned(), "two words".to_owned()];
    let status = shell.script(script);
    let text = |stream: Stream| String::from_utf8(stream.read_all().unwrap()).unwrap();
    (status, text(out), text(errors))
}

fn says(script: &str, expected: &str) {
    let (status, out, errors) = run(script);
    assert_eq!((out.as_str(), errors.as_str()), (expected, ""), "{script}");
    assert_eq!(status, 0, "{script}");
}

#[test]
fn words_are_expanded_split_and_quoted() {
    says("x='a  b'; printf '<%s>' $x \"$x\" '$x'", "<a><b><a  b><$x>");
    says("printf '<%s>' \"$@\"; printf '[%s]' $*", "<one><two words>[one][two][words]");
    says("set --; printf '<%s>' \"$@\"; echo $#", "<>0\n");
    says("printf '<%s>' a\"$@\"b", "<aone><two wordsb>");
    says("x=; printf '<%s>' $x \"$x\" ''", "<><>");
    says("IFS=:; x=a::b:; printf '<%s>' $x", "<a><><b>");
    says("x=abc; echo ${x#a}${x%c} ${#x} ${y:-d e} ${y-\"d  e\"} ${x:+s}", "bcab 3 d e d  e s\n");
    says("x=a/b/c; echo ${x##*/} ${x#*/} ${x%/*} ${x%%/*}", "c b/c a/b a\n");
    says("x='*'; case \\* in \"$x\") echo quoted;; esac; echo \"${x#\\*}\"", "quoted\n\n");
    says("echo ~ ~/x '~' a~", "/home/me /home/me/x ~ a~\n");
    says("echo $((1 + 2 * 3)) $(( (x = 4) + x )) $x", "7 8 4\n");
    says("echo \"$(echo \"$(echo 'deep')\")\" `echo \\`echo old\\``", "deep old\n");
    says("echo a\\\nb 'c\nd' \"e\\\nf\"", "ab c\nd ef\n");
    says("echo \\$x \"\\$x\" '\\$x' \"\\a\"", "$x $x \\$x \\a\n");
    says("x=1; x=2 true; echo $x; x=3 :; echo $x", "1\n3\n");
    says("a=1 b=$a; echo $b", "1\n");
}

#[test]
fn commands_run_as_posix_says() {
    says("if false; then echo a; elif true; then echo b; else echo c; fi", "b\n");
    says("for x in 1 2 3; do [ $x = 2 ] && continue; echo $x; done", "1\n3\n");
    says("for x; do echo \"$x\"; done", "one\ntwo words\n");
    says("for a in 1 2; do for b in 1 2; do break 2; done; done; echo $a$b", "11\n");
    says("until [ \"$x\" = aaa ]; do x=a$x; done; echo $x", "aaa\n");
    says("case abc in a?c) echo yes;; esac; case b in a|b) echo two; esac", "yes\ntwo\n");
    says("f() { local x=2; echo $1 $x; return 4; }; x=1; f hi || echo $? $x", "hi 2\n4 1\n");
    says("(x=2; exit 3) || echo $? $x", "3\n");
    says("{ echo a; echo b; } | while read x; do echo \"<$x>\"; done", "<a>\n<b>\n");
    says("! false && ! ! true && echo ok", "ok\n");
    says("false || true && echo chain", "chain\n");
    says("cat <<A; cat <<-'B'\n$((1+1)) \\$x\nA\n\t$x\n\tB", "2 $x\n$x\n");
    says("echo hidden >/dev/null; echo err 2>&1 >/dev/null; { echo shown 1>&2; } 2>&1", "shown\n");
    says("exec 3>&1; echo three >&3; exec 3>&-", "three\n");
    says("set -- a b c; shift 2; echo $1 $#; eval 'echo $1'", "c 1\nc\n");
    says("echo 'a b  c' | { read x y; echo \"$y,$x\"; }", "b  c,a\n");
    says("while getopts ab:c o -a -b val -c rest; do echo $o $OPTARG; done", "a\nb val\nc\n");
    says("export X=1; env | grep ^X=; readonly Y=2; echo $Y", "X=1\n2\n");
    says("true; echo $?; f() { :; }; f; command -v f echo", "0\nf\necho\n");
    says("set -o pipefail; false | true || echo failed", "failed\n");
    says("trap 'echo out' EXIT; (trap 'echo in' EXIT); exit 0", "in\nout\n");
    says("command eval 'echo x'; command -v nosuch || echo none", "x\nnone\n");
}

#[test]
fn failures_have_their_statuses_and_words() {
    for (script, status, errors) in [
        ("exit 7", 7, ""),
        ("false", 1, ""),
        ("nosuch", 127, "sh: nosuch: not found\n"),
        ("/tmp", 126, "sh: /tmp: Permission denied\n"),
        ("set -e; false; echo never", 1, ""),
        ("set -e; if false; then :; fi; false || true; ! true; (false); echo never", 1, ""),
        ("set -u; echo $nothing", 2, "sh: nothing: parameter not set\n"),
        ("echo ${x:?is missing}", 2, "sh: x: is missing\n"),
        ("readonly x=1; x=2; echo never", 2, "sh: x: is read only\n"),
        ("if true", 2, "sh: unexpected end of file\n"),
        ("fi", 2, "sh: line 1: syntax error: unexpected \"fi\"\n"),
        ("echo $((1/0))", 2, "sh: arithmetic: division by zero\n"),
        ("cat < /nothing", 1, "sh: can't open /nothing: No such file or directory\n"),
        ("set -x; x=a; echo $x >/dev/null", 0, "+ x=a\n+ echo a\n"),
        ("sleep 1 & true", 0, "sh: &: processes are not allowed here\n"),
        ("sed 's/[/x/' /dev/null", 1, "sed: bad script: unterminated expression\n"),
        ("test 1 -lt x", 2, "test: x: bad number\n"),
    ] {
        let (own, _, told) = run(script);
        assert_eq!((own, told.as_str()), (status, errors), "{script}");
    }
}

#[test]
fn what_could_go_on_is_told_from_what_is_wrong() {
    for text in
        ["if a", "echo 'a", "echo \"a", "cat <<E\na", "a |", "a &&", "f() {", "$(", "${x", "("]
    {
        assert!(matches!(Parser::all(text), Err(Fault::Incomplete(_))), "{text}");
    }
    for text in [")", "a;;", "then", "if a; fi", "for 1 in a; do b; done", "${}", "a | | b", "f(x)"]
    {
        assert!(matches!(Parser::all(text), Err(Fault::Syntax(_))), "{text}");
    }
}
