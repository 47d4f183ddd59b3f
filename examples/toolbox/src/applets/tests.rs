//! What the tools do, on the build machine, through the shell.

use crate::shell::Shell;
use crate::stream::Stream;

/// Runs each script in a folder of its own and compares what it writes.
fn say(scripts: &[(&str, &str)]) {
    let folder = std::env::temp_dir().join(format!("toolbox-{:x}", crate::sys::random()));
    std::fs::create_dir(&folder).unwrap();
    let cwd = folder.to_str().unwrap();
    for (script, expected) in scripts {
        let (out, errors) = (Stream::memory(), Stream::memory());
        let streams = [Stream::Null, out.clone(), errors.clone()];
        let mut shell = Shell::new("sh", streams, cwd, &[]);
        shell.script(script);
        let text = |stream: Stream| String::from_utf8(stream.read_all().unwrap()).unwrap();
        assert_eq!((text(out).as_str(), text(errors).as_str()), (*expected, ""), "{script}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn files_are_made_listed_copied_and_removed() {
    say(&[
        (
            "mkdir -p a/b && touch a/b/f a/.h && ls a && ls -A a && ls -R a",
            "b\n.h\nb\na:\nb\n\na/b:\nf\n",
        ),
        ("ln -s b a/l; ls -F a; readlink a/l; realpath a/l/f | grep -c 'a/b/f$'", "b/\nl@\nb\n1\n"),
        ("cp -r a c && find c | sort", "c\nc/.h\nc/b\nc/b/f\nc/l\n"),
        (
            "mv c d && rm -r d/b && ls d && rm -rf d nothing; ls d 2>/dev/null || echo gone",
            "l\ngone\n",
        ),
        (
            "echo x > s; stat -c '%n %s %F' s; du -b s; test -s s && echo full",
            "s 2 regular file\n2\ts\nfull\n",
        ),
        (
            "t=$(mktemp -d -p .); rmdir $t && echo ok; rmdir a 2>&1",
            "ok\nrmdir: a: Directory not empty\n",
        ),
        (
            "rm a 2>&1; rm nothing 2>&1; cp a z 2>&1",
            "rm: a: Is a directory\nrm: nothing: No such file or directory\ncp: a: is a folder (use -r)\n",
        ),
        (
            "tar cf t.tar a && tar tf t.tar && mkdir out && tar xf t.tar -C out && ls -A out/a",
            "a/\na/.h\na/b/\na/b/f\na/l\n.h\nb\nl\n",
        ),
        (
            "touch -d @86400 s && date -r s +%F && find . -name s -newer t.tar && find . -type l",
            "1970-01-02\n./a/l\n./out/a/l\n",
        ),
        (
            "find a -name f -exec echo {} \\; -o -name .h -print; find a -maxdepth 1 -type d",
            "a/.h\na/b/f\na\na/b\n",
        ),
        (
            "find a -empty -type f | xargs -n 1 basename | sort; find a -name f -delete; ls a/b",
            ".h\nf\n",
        ),
    ]);
}

#[test]
fn texts_are_cut_sorted_and_changed() {
    say(&[
        (
            "seq 10 > n; head -2 n; tail -2 n; tail -n +9 n; head -n -8 n; head -c 3 n",
            "1\n2\n9\n10\n9\n10\n1\n2\n1\n2",
        ),
        ("wc n; wc -l < n; cat -n n | tail -1", "     10      10      21 n\n10\n    10\t10\n"),
        (
            "printf 'b 2\\na 10\\nb 1\\n' > k; sort k; sort -k2 -n k; sort -u -k1,1 k; sort -rn -k 2 k | head -1",
            "a 10\nb 1\nb 2\nb 1\nb 2\na 10\na 10\nb 2\na 10\n",
        ),
        (
            "printf 'a\\na\\nb\\n' | uniq -c; printf 'a\\na\\nb\\n' | uniq -d",
            "      2 a\n      1 b\na\n",
        ),
        ("echo a:b:c | cut -d: -f1,3; echo abcdef | cut -c2-3,5-", "a:c\nbcef\n"),
        (
            "echo hello | tr a-y b-z; echo aabb | tr -s a; echo a1b2 | tr -d 0-9; echo ab | tr -c 'a\\n' x",
            "ifmmp\nabb\nab\nax\n",
        ),
        (
            "grep -n 1 n; grep -c . n; grep -v '[0-8]' n; grep -E '^(1|2)$' n; grep -w 10 n; grep -o '.0' n",
            "1:1\n10:10\n10\n9\n1\n2\n10\n10\n",
        ),
        (
            "grep -q x n || echo none; grep -F . n || echo plain; echo aXb | grep -io x",
            "none\nplain\nX\n",
        ),
        (
            "echo 'a b c' | sed 's/b/[&]/; s/\\(a\\) .*/\\1!/'; seq 5 | sed -n '2,3p;$p'; seq 3 | sed '2d'",
            "a!\n2\n3\n5\n1\n3\n",
        ),
        (
            "seq 3 | sed -e '1i top' -e '$a end' -e 2c\\\\two; echo a/b | sed 's|/|-|g;y/ab/AB/'",
            "top\n1\ntwo\n3\nend\nA-B\n",
        ),
        (
            "seq 4 | sed 'N;s/\\n/,/'; seq 3 | sed -n 'H;${x;s/\\n/+/g;p}'; echo x | sed -E 's/(x)+/<\\1>/'",
            "1,2\n3,4\n+1+2+3\n<x>\n",
        ),
        (
            "echo b > f; sed -i s/b/c/ f; cat f; printf 'a\\nb\\n' | tee g | tail -1; cat g",
            "c\nb\na\nb\n",
        ),
        ("expr 2 '*' 3; expr abc : 'a\\(.*\\)'; expr length abc; expr 1 '>' 2", "6\nbc\n3\n0\n"),
        (
            "printf '%5.1f|%-4s|%04d|%x|%c|%b\\n' 3.14159 ab 7 255 hello 'a\\tb'; printf '%s ' a b",
            "  3.1|ab  |0007|ff|h|a\tb\na b ",
        ),
        ("seq -s , 1 2 5; seq -w 9 10; seq 3 -1 1", "1,3,5\n09\n10\n3\n2\n1\n"),
        (
            "echo abc | md5sum; echo abc | sha256sum | cut -c1-8; echo abc > h; md5sum h > s; md5sum -c s",
            "0bee89b07a248e27c83fc3d5951213c1  -\nedeaaff3\nh: OK\n",
        ),
        (
            "date -u -d '2024-02-29 12:34:56' '+%a %d %b %Y %H:%M:%S %j %s'",
            "Thu 29 Feb 2024 12:34:56 060 1709210096\n",
        ),
        (
            "[ 1 -lt 2 -a ! -e nothing ] && test a = a -o b = c && [ '(' = '(' ] && [ ! '' ] && echo so",
            "so\n",
        ),
        (
            "dd if=n bs=2 skip=1 count=1 2>/dev/null; echo; dirname /a/b/ x; basename /a/b.c .c",
            "2\n\n/a\nb\n",
        ),
        (
            "echo 'a b' 'c' | xargs -n1; printf 'x\\0y z\\0' | xargs -0 -I% echo '<%>'; env A=1 sh -c 'echo $A'",
            "a\nb\nc\n<x>\n<y z>\n1\n",
        ),
    ]);
}
