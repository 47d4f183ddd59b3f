//! Redirections: files, descriptors, here-documents.

use super::syntax::{Redirect, Way};
use super::{Shell, Stop};
use crate::stream::Stream;
use crate::sys::{self, File, Follow, Kind, Mode};

impl Shell {
    /// Changes the descriptors as these say. `Ok(Err)` is a sentence: the command does not run.
    pub fn redirect(&mut self, redirects: &[Redirect]) -> Result<Result<(), String>, Stop> {
        for redirect in redirects {
            let made = match redirect.way {
                Way::Here => Ok(Some(Stream::of_text(&self.document(&redirect.target.0)?))),
                _ => {
                    let target = self.text(&redirect.target.0)?;
                    self.open(redirect.way, &target)
                }
            };
            let usual = match redirect.way {
                Way::Read | Way::Update | Way::DuplicateIn | Way::Here => 0,
                _ => 1,
            };
            let descriptor = redirect.descriptor.unwrap_or(usual);
            match made {
                Ok(Some(stream)) => drop(self.descriptors.insert(descriptor, stream)),
                Ok(None) => drop(self.descriptors.remove(&descriptor)),
                Err(sentence) => return Ok(Err(sentence)),
            }
        }
        Ok(Ok(()))
    }

    /// `None` closes the descriptor.
    fn open(&self, way: Way, target: &str) -> Result<Option<Stream>, String> {
        if matches!(way, Way::DuplicateIn | Way::DuplicateOut) {
            if target == "-" {
                return Ok(None);
            }
            let number = target.parse().ok();
            let found = number.and_then(|number: u32| self.descriptors.get(&number));
            return found
                .cloned()
                .map(Some)
                .ok_or_else(|| format!("{target}: Bad file descriptor"));
        }
        let path = sys::join(&self.cwd, target);
        let own = match path.as_str() {
            "/dev/null" => Some(Stream::Null),
            "/dev/stdin" | "/proc/self/fd/0" => Some(self.stream(0)),
            "/dev/stdout" | "/proc/self/fd/1" => Some(self.stream(1)),
            "/dev/stderr" | "/proc/self/fd/2" => Some(self.stream(2)),
            _ => None,
        };
        if own.is_some() {
            return Ok(own);
        }
        let mode = match way {
            Way::Read => Mode::Read,
            Way::Append => Mode::Append,
            Way::Update => Mode::Update,
            _ => Mode::Write,
        };
        let told = |error: std::io::Error| {
            let doing = if way == Way::Read { "can't open" } else { "can't create" };
            format!("{doing} {target}: {}", sys::text(&error))
        };
        if way == Way::Write && self.options.no_clobber {
            let there = sys::stat(&path, Follow::Yes);
            if there.is_ok_and(|there| there.kind == Kind::File) {
                return Err(format!("can't create {target}: File exists"));
            }
        }
        File::open(&path, mode).map(|file| Some(Stream::file(file))).map_err(told)
    }
}
