//! Paths as bytes: what the kernel would refuse, and how one divides into a folder and a last
//! name. Opens nothing.

use rustix::io::Errno;

use super::Result;

/// The longest path, as the kernel has it: PATH_MAX without the closing NUL.
const LONGEST: usize = 4095;

/// A path's folder and last name, for the calls that make, move or remove a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split<'a> {
    /// Ends in a slash; `None` for a name alone.
    pub parent: Option<&'a [u8]>,
    /// With its trailing slashes, which the kernel judges: it never follows a last name there,
    /// and it refuses "." and ".." in each of these calls.
    pub name: &'a [u8],
    /// The path is nothing but slashes; `name` is then ".".
    pub is_root: bool,
}

/// Refuses what no path may be: empty (ENOENT), too long (ENAMETOOLONG), with a NUL (EINVAL).
pub fn check(path: &[u8]) -> Result<()> {
    match path {
        [] => Err(Errno::NOENT),
        path if path.len() > LONGEST => Err(Errno::NAMETOOLONG),
        path if path.contains(&0) => Err(Errno::INVAL),
        _ => Ok(()),
    }
}

/// Divides a path that [`check`] allows.
pub fn split(path: &[u8]) -> Result<Split<'_>> {
    check(path)?;
    let Some(last) = path.iter().rposition(|&byte| byte != b'/') else {
        return Ok(Split { parent: Some(b"/"), name: b".", is_root: true });
    };
    let (body, _) = path.split_at(last);
    Ok(match body.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => {
            let (parent, name) = path.split_at(slash + 1);
            Split { parent: Some(parent), name, is_root: false }
        }
        None => Split { parent: None, name: path, is_root: false },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halves(path: &str) -> (Option<&str>, &str) {
        let split = split(path.as_bytes()).unwrap();
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        (split.parent.map(text), text(split.name))
    }

    #[test]
    fn a_path_divides_at_the_slash_before_its_last_name() {
        assert_eq!(halves("a"), (None, "a"));
        assert_eq!(halves("a/"), (None, "a/"));
        assert_eq!(halves("a//"), (None, "a//"));
        assert_eq!(halves("/a"), (Some("/"), "a"));
        assert_eq!(halves("a/b/"), (Some("a/"), "b/"));
        assert_eq!(halves("a//b"), (Some("a//"), "b"));
        assert_eq!(halves("../.."), (Some("../"), ".."));
        assert_eq!(halves("."), (None, "."));
    }

    #[test]
    fn nothing_but_slashes_is_the_root() {
        for path in ["/", "//", "////"] {
            assert!(split(path.as_bytes()).unwrap().is_root);
        }
    }

    #[test]
    fn what_no_path_may_be_is_refused_as_the_kernel_does() {
        assert_eq!(check(b""), Err(Errno::NOENT));
        assert_eq!(check(b"a\0b"), Err(Errno::INVAL));
        assert_eq!(check(&[b'a'; 4096]), Err(Errno::NAMETOOLONG));
        assert_eq!(check(&[b'a'; 4095]), Ok(()));
    }
}
